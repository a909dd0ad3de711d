"""Which inputs an update of (A, B) works on, so that no matrix of inputs x inputs is formed."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.problem import TrainingProblem

__all__ = ["most_sweeps", "working_set"]

Array = NDArray[np.float64]

_MOST_COLUMNS = 1024  # their Gram matrix, 8 MB, is the largest that is formed
# With few rows half as many are as good and take half of the time: 5 instead of 7 of 39 automatic
# fits to 100 to 200 rows of 2,000 inputs and more miss an input. A quarter is hardly faster, and
# 600 inputs take longer by halves.
_FEW_ROWS = 512

_MANY_COLUMNS = 256  # whose sweeps cost more than the passes over a few thousand rows


def most_sweeps(columns: IntArray, most: int) -> int:
    """Return how many sweeps over these inputs a step may take: a quarter if they are many.

    With 784 inputs a step gets as far with 5 sweeps as with 20. With 10 inputs the exact support
    was found in 10 of 12 samples with 20 sweeps, and in 8 with 5.
    """
    return most if len(columns) <= _MANY_COLUMNS else most // 4


def working_set(
    problem: TrainingProblem, columns: Array, gradient: Array, n_samples: int
) -> IntArray:
    """Return the inputs that a step works on: all, or those that violate optimality the most.

    Parameters
    ----------
    problem : TrainingProblem
        Its thresholds are infinite for an excluded input, whose column is zero.
    columns : ndarray of shape (r, p)
        The columns that belong to the inputs.
    gradient : ndarray of shape (r, p)
        Of the loss in them.
    n_samples : int
        Rows of the data.

    Returns
    -------
    ndarray of int
        Sorted, whole groups; never an excluded input.
    """
    thresholds, sizes = problem.group_levels()
    eligible = np.isfinite(thresholds)
    whole = most = _MOST_COLUMNS
    if n_samples <= _FEW_ROWS:
        whole, most = 3 * _MOST_COLUMNS // 4, _MOST_COLUMNS // 2
    if sizes[eligible].sum() > whole:
        eligible = _worst(thresholds, sizes, columns, gradient, most)
    return np.flatnonzero(np.repeat(eligible, sizes))


def _worst(
    thresholds: Array, sizes: IntArray, columns: Array, gradient: Array, most: int
) -> BoolArray:
    """Return which groups violate optimality the most, up to ``most`` inputs but at least one."""
    first = np.cumsum(sizes) - sizes

    def norms(matrix: Array) -> Array:
        squares: Array = np.add.reduceat(np.einsum("ij,ij->j", matrix, matrix), first)
        return np.sqrt(squares)

    size = norms(columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = np.where(size > 0.0, thresholds / size, 0.0)
    violation = norms(gradient + np.repeat(pull, sizes) * columns)
    violation -= np.where(size > 0.0, 0.0, thresholds)
    order = np.argsort(-violation, kind="stable")
    fits = np.cumsum(sizes[order]) <= most
    fits[0] = True
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    chosen[order[fits]] = True
    return chosen
