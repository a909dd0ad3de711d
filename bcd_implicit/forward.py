"""Predictions of given parameters on row blocks, one pass, nothing kept."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.equilibrium import FixedPoint, solve_equilibrium
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.readout import feedthrough
from bcd_implicit.statistics import Block, RowBlocks

__all__ = ["predict_block", "sample_losses", "solve_block", "true_objective"]

Array = NDArray[np.float64]

STATE_TOLERANCE = 1e-10


def solve_block(
    data: RowBlocks,
    problem: TrainingProblem,
    parameters: Parameters,
    block: Block,
    X0: Array | None = None,
    out: Array | None = None,
) -> FixedPoint:
    """Return the equilibrium of a block."""
    used = np.flatnonzero((parameters.B != 0.0).any(axis=0))
    Zin = data.inputs(block, used) @ parameters.B[:, used].T + parameters.b
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
    states = solve_block(data, problem, parameters, block, X0)
    F = states.x @ parameters.C.T + parameters.d
    F += feedthrough(data, block, parameters)
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
