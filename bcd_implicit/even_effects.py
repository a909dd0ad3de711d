"""Effects that a gradient does not see: those of ``|u|`` on what a model has left unexplained."""

import math

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.blocks import Block
from bcd_implicit.forward import predict_block
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData

__all__ = ["clear_level", "even_effects", "unexplained"]

Array = NDArray[np.float64]

_CLEAR = 2.0  # standard errors
_ROUNDING = 1e-12  # of a variance that is the difference of two sums


def clear_level(count: int) -> float:
    """Return which pull is clear: above the largest of so many without an effect."""
    return _CLEAR + math.sqrt(2.0 * math.log(count))


def unexplained(
    data: RowBlocks, problem: TrainingProblem, parameters: Parameters
) -> tuple[Array, Array, Array]:
    """Return the weighted gradients of the loss of all rows, (m, q), their inputs and weights."""

    def rows(block: Block) -> tuple[Array, Array, Array]:
        Y, w = block.targets()
        F, _ = predict_block(problem, parameters, block)
        return problem.loss.gradient(Y, F) * w[:, None], block.inputs(), w

    with data.threads():
        gradients, inputs, weights = zip(*data.map(rows), strict=True)
    return np.concatenate(gradients), np.concatenate(inputs), np.concatenate(weights)


def even_effects(data: TrainingData, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return for each input how strongly its absolute value pulls at the outputs.

    The gradient of the loss in a zero column of B is linear in the input, and vanishes in the mean
    for an input whose effect is even. This is the norm over the outputs of
    ``sum_i w_i g_i (|u_ij| - mean |u_j|)``, ``g_i`` being the gradient of the loss of row i, in
    units of the deviation of ``|u_j|`` and of the norm of ``w_i g_i`` over all rows: about one for
    an input without an effect. Of a group of inputs it is the root of the mean square. One pass.
    """

    def sums(block: Block) -> tuple[Array, Array, Array, float]:
        Y, w = block.targets()
        F, _ = predict_block(problem, parameters, block)
        size = np.abs(block.inputs())
        gradient = problem.loss.gradient(Y, F) * w[:, None]
        products = np.column_stack([gradient, w]).T @ size
        size *= size
        return products, w @ size, gradient.sum(axis=0), float((gradient**2).sum())

    with data.threads():
        products, squares, whole, scatter = data.sum(sums)
    mean = products[-1]
    variance = squares - mean**2
    variance[variance <= _ROUNDING * squares] = 0.0  # of balanced inputs with two values
    deviation = np.sqrt(variance * scatter)
    pull = products[:-1] - np.outer(whole, mean)
    pull /= np.where(deviation > 0.0, deviation, np.inf)
    nothing = np.zeros((0, data.n_inputs))
    sizes = group_norms(np.ones((1, data.n_inputs)), nothing, problem.groups)
    return group_norms(pull, nothing, problem.groups) / sizes
