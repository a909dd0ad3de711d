"""Predictions of given parameters on row blocks, one pass, nothing kept."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.equilibrium import FixedPoint, solve_equilibrium
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import Block, RowBlocks

__all__ = ["input_products", "predict_block", "sample_losses", "solve_block", "true_objective"]

Array = NDArray[np.float64]

STATE_TOLERANCE = 1e-10


def input_products(
    data: RowBlocks, parameters: Parameters, block: Block
) -> tuple[Array, Array | float]:
    """Return ``B u + b`` and ``D u`` (0 when D is zero) for the rows of a block, read once."""
    n, with_feedthrough = len(parameters.B), parameters.D.any()
    matrix = parameters.groups if with_feedthrough else parameters.B
    used = np.flatnonzero(matrix.any(axis=0))
    every = len(used) == data.n_inputs  # a slice: the inputs are not gathered first
    product = data.inputs(block, slice(None) if every else used) @ matrix[:, used].T
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


def predict_block(
    data: RowBlocks,
    problem: TrainingProblem,
    parameters: Parameters,
    block: Block,
    X0: Array | None = None,
) -> tuple[Array, FixedPoint]:
    """Return the predictions of a block and the equilibrium that they stand on."""
    Zin, offset = input_products(data, parameters, block)
    states = solve_block(problem, parameters, Zin, X0)
    F = states.x @ parameters.C.T + parameters.d
    F += offset
    return F, states


def true_objective(
    data: RowBlocks, problem: TrainingProblem, parameters: Parameters
) -> tuple[float, float]:
    """Return the objective of given parameters and the error bound of the states."""

    def loss(block: Block) -> tuple[float, list[float]]:
        Y, w = data.targets(block)
        F, states = predict_block(data, problem, parameters, block, block.X)
        return problem.loss.value(Y, F, w), [states.error]

    value, errors = data.sum(loss)
    return value + problem.penalty(parameters), max(errors)


def sample_losses(data: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return the unpenalised loss of every sample, in the order of ``data``."""

    def losses(block: Block) -> tuple[Array]:
        F, _ = predict_block(data, problem, parameters, block)
        return (np.asarray(problem.loss.per_sample(data.targets(block)[0], F)),)

    with data.threads():
        return np.concatenate([part for (part,) in data.map(losses)])
