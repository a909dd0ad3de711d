"""Inputs that act only together, two or three at a time, on what a model has left unexplained."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bcd_implicit._group_numbers import group_numbers, strongest_of_groups
from bcd_implicit._typing import IntArray
from bcd_implicit.even_effects import clear_level, unexplained
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData

__all__ = ["interactions"]

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]

_ROWS = 4096  # or up to twice as many, as they are spread evenly
_FEWEST_ROWS = 200  # where more would cost too much
_MOST_WORK = 2**33  # terms to add up: about a second, with ranks of pairs up to three
_AT_A_TIME = 64  # inputs that are multiplied with all


def interactions(data: TrainingData, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return for each input how strongly it pulls at the outputs in its best pair or triple.

    The gradient of the loss in a zero column of B does not see the inputs of ``u1 u2``, and dense
    fits do not find those of ``sign(u1 u2 u3)``. This looks at all products of two and of three
    signs of inputs about their medians, each less its mean: at the norm over the outputs of
    ``sum_i w_i g_i s_ij s_ik s_il``, ``g_i`` being the gradient of the loss of row i, in units of
    the norm of ``w_i g_i`` over all rows. That is at most about one for a product without an
    effect. It is divided by ``2 + sqrt(2 log N)`` for N of them, so that an input with more than
    one clearly matters. Of ``u1 u2`` signs see less than two thirds: products of two are also taken
    of ranks, in units of the norm of ``w_i g_i s_ij s_ik`` if that is larger, as it is where the
    noise grows with an input.

    Inputs of a group are not multiplied with each other, and all have what the strongest of them
    has. One pass over some thousand rows; fewer among many inputs, and with one output no triples
    of more than 630 inputs and no pairs of more than 9,200, which would take long.
    """
    p, q = data.n_inputs, data.n_outputs
    pull = np.zeros(p)
    pairs = q * math.comb(p, 2)
    triples = q * math.comb(p, 3)
    deep = triples * _FEWEST_ROWS <= _MOST_WORK
    rows = min(_ROWS, _MOST_WORK // max(triples if deep else pairs, 1))
    if p < 2 or rows < _FEWEST_ROWS:
        return pull
    G, S, R = _sample(data.sampled_rows(rows).in_memory(), problem, parameters)
    G /= np.linalg.norm(G) or np.float32(1.0)
    number = group_numbers(problem)
    with data.threads():
        pull = np.maximum(_pairs(G, S, number), _pairs(G, R, number, (G * G).sum(axis=1)))
        pull /= clear_level(2 * math.comb(p, 2))
        for i in range(p - 2 if deep else 0):
            rest = i + 1 + np.flatnonzero(number[i + 1 :] != number[i])
            found = _pairs(G * S[:, i : i + 1], S[:, rest], number[rest])
            found /= clear_level(math.comb(p, 3))
            pull[i] = max(pull[i], found.max(initial=0.0))
            pull[rest] = np.maximum(pull[rest], found)
    return strongest_of_groups(problem, pull)


def _sample(
    data: RowBlocks, problem: TrainingProblem, parameters: Parameters
) -> tuple[Array32, Array32, Array32]:
    """Return gradients of the loss, and signs and ranks of the inputs less their means.

    About medians: about means nearly all signs of skewed or heavy-tailed inputs would be equal.
    Ranks are in units of their deviation without ties: with these, as rare values have, they count
    less.
    """
    G, U, _ = unexplained(data, problem, parameters)
    S = _halves(U)
    S -= S.mean(axis=0)
    R = math.sqrt(12.0) * ((rankdata(U, axis=0) - 0.5) / len(U) - 0.5)
    return G.astype(np.float32), S, R.astype(np.float32)


def _halves(inputs: Array) -> Array32:
    """Return signs about the median of every input, whose ties are on the side that needs them."""
    median = np.median(inputs, axis=0)
    above, least = inputs > median, inputs >= median
    nearer = np.abs(above.mean(axis=0) - 0.5) <= np.abs(least.mean(axis=0) - 0.5)
    signs: Array32 = np.where(np.where(nearer, above, least), np.float32(1.0), np.float32(-1.0))
    return signs


def _pairs(G: Array32, S: Array32, number: IntArray, squares: Array32 | None = None) -> Array:
    """Return what each column of S has in its best pair with one of another group.

    With ``squares``, of the rows of G, entries whose sizes differ count in units of their own.
    """
    p = S.shape[1]
    best = np.zeros(p)
    for start in range(0, p - 1, _AT_A_TIME):
        some, later = slice(start, start + _AT_A_TIME), slice(start + 1, p)
        found = sum(((S[:, some] * g[:, None]).T @ S[:, later]) ** 2 for g in G.T)
        if squares is not None:
            found /= np.maximum((squares[:, None] * S[:, some] ** 2).T @ S[:, later] ** 2, 1.0)
        found[number[some][:, None] == number[later]] = 0.0
        best[some] = np.maximum(best[some], found.max(axis=1))
        best[later] = np.maximum(best[later], found.max(axis=0))
    return np.sqrt(best)
