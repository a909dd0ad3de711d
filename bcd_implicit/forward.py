"""Predictions of given parameters on row blocks, one pass, nothing kept."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block, worth_taking
from bcd_implicit.equilibrium import FixedPoint, solve_equilibrium
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.sums import Largest
from bcd_implicit.training_data import TrainingData

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


def solve_block(
    problem: TrainingProblem,
    parameters: Parameters,
    Zin: Array,
    X0: Array | None = None,
    out: Array | None = None,
) -> FixedPoint:
    """Return the equilibrium of a block for given ``Zin = B u + b``.

    Without a start it is zero, as for a block that remembers everything: the bits are the same.
    """
    return solve_equilibrium(
        problem.activation,
        parameters.A,
        Zin,
        problem.contraction,
        STATE_TOLERANCE,
        X0=np.zeros_like(Zin) if X0 is None else X0,
        out=out,
    )


@dataclass(frozen=True)
class StateSolver:
    """Finds the states of a block for given parameters."""

    problem: TrainingProblem
    parameters: Parameters
    block: Block

    @cached_property
    def _used(self) -> IntArray | slice:
        return worth_taking(self.parameters.active)

    @cached_property
    def _inputs(self) -> Array:
        return self.block.inputs(self._used)

    def entering(self) -> Array:
        """Return ``B u + b``."""
        product: Array = self._inputs @ self.parameters.B[:, self._used].T
        product += self.parameters.b
        return product

    def offset(self) -> Array | float:
        """Return ``D u``, or zero."""
        D = self.parameters.D
        return self._inputs @ D[:, self._used].T if D.any() else 0.0

    def states(self, start: Array | None, out: Array | None) -> tuple[Array, float]:
        """Return the equilibrium, in ``out`` if that is given, and the bound of its error."""
        found = solve_block(self.problem, self.parameters, self.entering(), start, out)
        return np.asarray(found.x, dtype=np.float64), found.error

    def derivatives(self, X: Array) -> Array:
        """Return the derivatives of the activation at the equilibrium X."""
        phi = self.problem.activation
        M = phi.derivative_at_value(X)
        if M is None:
            M = phi.derivative(X @ self.parameters.A.T + self.entering())
        return np.asarray(M, dtype=np.float64)


def predict_block(
    problem: TrainingProblem, parameters: Parameters, block: Block, X0: Array | None = None
) -> tuple[Array, float]:
    """Return the predictions of a block and the error of the states that they stand on."""
    solver = StateSolver(problem, parameters, block)
    X, error = solver.states(X0, None)
    return predictions(parameters, X, solver.offset()), error


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


def sample_losses(
    data: RowBlocks, problem: TrainingProblem, parameters: Parameters, wrong: float = 0.0
) -> Array:
    """Return the unpenalised loss of every sample, in the order of ``data``.

    Of classes it is the expected one where a share ``wrong`` of the labels is wrong.
    """

    def losses(block: Block) -> tuple[Array]:
        F, _ = predict_block(problem, parameters, block)
        Y = problem.loss.doubted(block.targets()[0], wrong)
        return (np.asarray(problem.loss.per_sample(Y, F)),)

    with data.threads():
        return np.concatenate([part for (part,) in data.map(losses)])
