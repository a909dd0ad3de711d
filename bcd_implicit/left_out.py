"""Inputs that clearly matter to what a model leaves unexplained, beside those that it uses."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import group_numbers
from bcd_implicit._typing import BoolArray
from bcd_implicit.blocks import Block
from bcd_implicit.even_effects import clear_level
from bcd_implicit.forward import predict_block
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.training_data import TrainingData

__all__ = ["left_out", "linear_effects"]

Array = NDArray[np.float64]

_COPY = 1e-8  # of its variance, or less: what an input has beside those that are used


def left_out(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters, used: BoolArray
) -> BoolArray:
    """Return which allowed inputs clearly act linearly, but are not used."""
    effects = linear_effects(data, problem, parameters, used)
    level = clear_level(max(len(np.unique(group_numbers(problem))), 2))
    missing: BoolArray = ~used & np.isfinite(problem.group_weights) & (effects > level)
    return missing


def linear_effects(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters, used: BoolArray
) -> Array:
    """Return for each input how clearly its group acts linearly on what a model leaves unexplained.

    That is the score statistic of D, less what a linear function of the used inputs explains of the
    others: with ``v_j`` for what it leaves of input j, ``g_i`` for the gradient of the loss of row
    i and k for the inputs of the group that are no copies of used ones, times outputs,
    ``chi^2 = sum_j q |sum_i w_i g_i v_ij|^2 / (sum_i |w_i g_i|^2 sum_i w_i v_ij^2)`` over the group
    for q outputs, and the value ``sqrt(2 chi^2) - sqrt(2 q k - 1)``, about standard normal without
    an effect where neither outputs nor the inputs of a group are correlated (R. A. Fisher). One
    pass.
    """
    columns = np.flatnonzero(used)

    def sums(block: Block) -> tuple[Array, Array, Array, Array, float]:
        Y, w = block.targets()
        U = block.inputs()
        F, _ = predict_block(problem, parameters, block)
        gradient = problem.loss.gradient(Y, F) * w[:, None]
        known = np.column_stack([np.ones(len(U)), U[:, columns]])
        weighted = known * w[:, None]
        return (
            np.column_stack([gradient, weighted]).T @ U,
            weighted.T @ known,
            gradient.T @ known,
            w @ U**2,
            float((gradient**2).sum()),
        )

    with data.threads():
        products, gram, pulls, squares, scatter = data.sum(sums)
    q = pulls.shape[0]
    cross = products[q:]
    share = np.linalg.lstsq(gram, cross, rcond=None)[0]
    variance = squares - (cross * share).sum(axis=0)
    own = variance > _COPY * squares
    pull = products[:q] - pulls @ share
    chi2 = np.zeros_like(variance)
    unit = variance * scatter
    np.divide(q * (pull**2).sum(axis=0), unit, out=chi2, where=own & (unit > 0.0))
    number = group_numbers(problem)
    freedom = q * np.bincount(number, own)
    value = np.sqrt(2.0 * np.bincount(number, chi2)) - np.sqrt(np.maximum(2.0 * freedom - 1.0, 0.0))
    return np.where(freedom > 0.0, value, 0.0)[number]
