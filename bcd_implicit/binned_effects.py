"""Effects of single inputs, of whatever shape, on what a model has left unexplained."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import strongest_of_groups
from bcd_implicit.even_effects import unexplained
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.training_data import TrainingData

__all__ = ["binned_effects"]

Array = NDArray[np.float64]

# Five periods of a wave average out over eighths, and the effect of a fifteenth of the rows may.
_BINS, _FEWEST_IN_BIN = (8, 16, 32), 10
_MOST_ROWS, _MOST_NUMBERS = 4096, 2**20  # or up to twice as many


def binned_effects(data: TrainingData, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return for each input how clearly the gradients of the outputs differ between its bins.

    A wave pulls at the outputs neither by the input nor by its absolute value. The rows are put in
    8, 16 and 32 bins by the quantiles of an input, as long as there are ten in each; the statistic
    is ``chi^2``, the sum over the bins of the squared norms of ``sum_i w_i g_i``, each in units of
    what it has without an effect. Returned is the largest ``sqrt(2 chi^2) - sqrt(2 k - 1)`` for
    k + 1 bins, each about standard normal without an effect (R. A. Fisher), or zero where these are
    negative or the rows are too few. Inputs of a group have what the strongest of them has. One
    pass over some thousand rows, fewer of many inputs.
    """
    rows = min(_MOST_ROWS, _MOST_NUMBERS // data.n_inputs)
    if min(rows, data.n_samples) < _BINS[0] * _FEWEST_IN_BIN:
        return np.zeros(data.n_inputs)
    G, U, w = unexplained(data.sampled_rows(rows).in_memory(), problem, parameters)
    G -= np.outer(w / w.sum(), G.sum(axis=0))
    share = w**2 / (w**2).sum()
    best = np.zeros(data.n_inputs)
    with data.threads():
        for count in _BINS:
            if len(U) >= count * _FEWEST_IN_BIN:
                np.maximum(best, _in_bins(G, U, share, count), out=best)
    return strongest_of_groups(problem, best)


def _in_bins(G: Array, U: Array, share: Array, count: int) -> Array:
    """Return the statistic of so many bins; ``share`` is that of each row of the scatter."""
    scatter = float((G**2).sum())
    edges = np.quantile(U, np.arange(1, count) / count, axis=0)
    bins = sum((edge < U).astype(np.int8) for edge in edges)
    chi2, used = np.zeros(U.shape[1]), np.zeros(U.shape[1])
    for place in range(count):
        inside = (bins == place).astype(np.float64)
        expected = scatter * (share @ inside)
        squares = ((G.T @ inside) ** 2).sum(axis=0)
        chi2 += np.divide(squares, expected, out=np.zeros_like(chi2), where=expected > 0.0)
        used += expected > 0.0
    normal = np.sqrt(2.0 * chi2) - np.sqrt(np.maximum(2.0 * used - 3.0, 0.0))
    return np.where(used > 1.0, normal, 0.0)
