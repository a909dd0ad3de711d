"""Which inputs an update of (A, B) works on, so that no matrix of inputs x inputs is formed."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms

__all__ = ["working_set"]

Array = NDArray[np.float64]

_MOST_COLUMNS = 512  # their Gram matrix, 2 MB, is the largest that is formed


def working_set(problem: TrainingProblem, parameters: Parameters, gradient: Array) -> IntArray:
    """Return the inputs that a step works on: all, or those that violate optimality the most.

    Parameters
    ----------
    problem : TrainingProblem
    parameters : Parameters
        Feasible: an excluded input, whose threshold is infinite, is zero.
    gradient : ndarray of shape (n + q, n + p + 1)
        Of the loss in the stacked unknown.

    Returns
    -------
    ndarray of int
        Sorted; never an excluded input.
    """
    n, p = parameters.B.shape
    eligible = np.isfinite(problem.thresholds)
    if np.count_nonzero(eligible) <= _MOST_COLUMNS:
        return np.flatnonzero(eligible)
    G = gradient[:, n : n + p]
    norms = group_norms(parameters.B, parameters.D)
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = np.where(norms > 0.0, problem.thresholds / norms, 0.0)
    violation = group_norms(G[:n] + pull * parameters.B, G[n:] + pull * parameters.D) - np.where(
        norms > 0.0, 0.0, problem.thresholds
    )
    worst = np.argpartition(-violation, _MOST_COLUMNS)[:_MOST_COLUMNS]
    return np.sort(worst)
