"""Predictions of given parameters on row blocks, one pass, nothing kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.blocks import Block
from bcd_implicit.equilibrium import FixedPoint, solve_equilibrium
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import Largest, TrainingData

__all__ = [
    "StateSolver",
    "followed_objective",
    "predict_block",
    "predictions",
    "sample_losses",
    "solve_block",
    "true_objective",
]

Array = NDArray[np.float64]

STATE_TOLERANCE = 1e-13


def input_products(parameters: Parameters, block: Block) -> tuple[Array, Array | float]:
    """Return ``B u + b`` and ``D u`` (0 when D is zero) for the rows of a block, read once."""
    n, with_feedthrough = len(parameters.B), parameters.D.any()
    matrix = parameters.groups if with_feedthrough else parameters.B
    used = np.flatnonzero(matrix.any(axis=0))
    every = len(used) == matrix.shape[1]  # a slice: the inputs are not gathered first
    product = block.inputs(slice(None) if every else used) @ matrix[:, used].T
    if not with_feedthrough:
        product += parameters.b
        return product, 0.0
    return product[:, :n] + parameters.b, product[:, n:]


def solve_block(
    problem: TrainingProblem,
    parameters: Parameters,
    Zin: Array,
    X0: Array | None = None,
    out: Array | None = None,
) -> FixedPoint:
    """Return the equilibrium of a block for given ``Zin = B u + b``."""
    return solve_equilibrium(
        problem.activation,
        parameters.A,
        Zin,
        problem.contraction,
        STATE_TOLERANCE,
        X0=X0,
        out=out,
    )


@dataclass(frozen=True)
class StateSolver:
    """Finds the states of a block for given parameters."""

    problem: TrainingProblem
    parameters: Parameters
    block: Block

    def products(self) -> tuple[Array, Array | float]:
        """Return ``B u + b`` and ``D u``."""
        return input_products(self.parameters, self.block)

    def states(self, Z: Array, start: Array | None, out: Array | None) -> tuple[Array, float]:
        """Return the equilibrium, in ``out`` if that is given, and the bound of its error."""
        found = solve_block(self.problem, self.parameters, Z, start, out)
        return np.asarray(found.x, dtype=np.float64), found.error


def predict_block(
    problem: TrainingProblem, parameters: Parameters, block: Block, X0: Array | None = None
) -> tuple[Array, float]:
    """Return the predictions of a block and the error of the states that they stand on."""
    solver = StateSolver(problem, parameters, block)
    Z, offset = solver.products()
    X, error = solver.states(Z, X0, None)
    return predictions(parameters, X, offset), error


def predictions(parameters: Parameters, X: Array, offset: Array | float) -> Array:
    """Return ``C x + D u + d`` for given states and ``D u``."""
    F = X @ parameters.C.T + parameters.d
    F += offset
    return F


def true_objective(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters
) -> tuple[float, float]:
    """Return the objective of given parameters and the error bound of the states."""

    def objective(block: Block) -> tuple[float, Largest]:
        Y, w = block.targets()
        F, error = predict_block(problem, parameters, block, block.start())
        return problem.loss.value(Y, F, w), Largest(error)

    value, error = data.sum(objective)
    return value + problem.penalty(parameters), float(error)


def followed_objective(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters
) -> float:
    """Return the objective of given parameters; the states of the data become their equilibrium."""

    def objective(block: Block) -> tuple[float]:
        Y, w = block.targets()
        solved = block.solve_trial(StateSolver(problem, parameters, block))
        F = predictions(parameters, solved.X, solved.offset)
        return (problem.loss.value(Y, F, w),)

    (value,) = data.sum(objective, solves=True)
    data.accept_trial()
    return value + problem.penalty(parameters)


def sample_losses(data: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return the unpenalised loss of every sample, in the order of ``data``."""

    def losses(block: Block) -> tuple[Array]:
        F, _ = predict_block(problem, parameters, block)
        return (np.asarray(problem.loss.per_sample(block.targets()[0], F)),)

    with data.threads():
        return np.concatenate([part for (part,) in data.map(losses)])
