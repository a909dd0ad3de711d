"""Predictions of given parameters on row blocks, one pass, nothing kept."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.blocks import Block, Solve, Solved
from bcd_implicit.equilibrium import FixedPoint, solve_equilibrium
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks

__all__ = [
    "followed_objective",
    "input_products",
    "predict_block",
    "predictions",
    "sample_losses",
    "solve_block",
    "state_solver",
    "true_objective",
]

Array = NDArray[np.float64]

STATE_TOLERANCE = 1e-10


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


def state_solver(problem: TrainingProblem, parameters: Parameters, block: Block) -> Solve:
    """Return what finds the equilibrium of a block, from a start and into an array if given."""

    def solve(X0: Array | None, out: Array | None) -> Solved:
        Zin, offset = input_products(parameters, block)
        found = solve_block(problem, parameters, Zin, X0, out)
        X: Array = np.asarray(found.x, dtype=np.float64)
        return Solved(X, Zin, offset, found.error)

    return solve


def predict_block(
    problem: TrainingProblem, parameters: Parameters, block: Block, X0: Array | None = None
) -> tuple[Array, float]:
    """Return the predictions of a block and the error of the states that they stand on."""
    solved = state_solver(problem, parameters, block)(X0, None)
    return predictions(parameters, solved), solved.error


def predictions(parameters: Parameters, solved: Solved) -> Array:
    """Return the predictions at given states."""
    F = solved.X @ parameters.C.T + parameters.d
    F += solved.offset
    return F


def true_objective(
    data: RowBlocks, problem: TrainingProblem, parameters: Parameters
) -> tuple[float, float]:
    """Return the objective of given parameters and the error bound of the states."""

    def loss(block: Block) -> tuple[float, list[float]]:
        Y, w = block.targets()
        F, error = predict_block(problem, parameters, block, block.X)
        return problem.loss.value(Y, F, w), [error]

    value, errors = data.sum(loss)
    return value + problem.penalty(parameters), max(errors)


def followed_objective(data: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> float:
    """Return the objective of given parameters; the states of the data become their equilibrium."""

    def loss(block: Block) -> tuple[float]:
        Y, w = block.targets()
        solved = block.solve_trial(state_solver(problem, parameters, block))
        return (problem.loss.value(Y, predictions(parameters, solved), w),)

    (value,) = data.sum(loss)
    data.accept_trial()
    return value + problem.penalty(parameters)


def sample_losses(data: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return the unpenalised loss of every sample, in the order of ``data``."""

    def losses(block: Block) -> tuple[Array]:
        F, _ = predict_block(problem, parameters, block)
        return (np.asarray(problem.loss.per_sample(block.targets()[0], F)),)

    with data.threads():
        return np.concatenate([part for (part,) in data.map(losses)])
