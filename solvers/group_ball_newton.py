"""Newton's method on the groups in use of a group-ball problem without states."""

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from .group_ball_problem import GroupBallProblem

__all__ = ["beyond", "few_in_use"]

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

_MOST_UNKNOWNS = 300
_ROUNDING = 1e-13  # of the trace of their matrix


def few_in_use(problem: GroupBallProblem, Theta: Array) -> bool:
    """Whether so few entries are not zero that a step costs no more than some sweeps."""
    columns = np.count_nonzero((Theta != 0.0).any(axis=0))
    return bool(columns * np.count_nonzero(problem.entry) <= _MOST_UNKNOWNS)


def beyond(problem: GroupBallProblem, Theta: Array, G: Array) -> tuple[Array, Array]:
    """Return where Newton's method leads from ``Theta``, and the gradient there, if it is better.

    Groups that are zero stay so. A number that is a group by itself, with one row, has a kink at
    zero: where it would change its sign the walk stops, and goes on without it. With one row this
    ends in the minimiser on what is left; otherwise it is a single step.
    """
    if not few_in_use(problem, Theta):
        return Theta, G
    rows = np.flatnonzero(problem.entry)
    columns = np.flatnonzero((Theta != 0.0).any(axis=0))
    group = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    kinked = (problem.sizes[group] == 1) & (len(rows) == 1)
    new, slope = Theta.copy(), G
    while len(columns):
        places = np.ix_(rows, columns)
        step = _step(problem, new, slope, rows, columns, group[columns])
        if step is None:
            break
        x = new[places]
        crosses = kinked[columns] & (x * step < 0.0)
        ahead = np.divide(-x, step, out=np.full(x.shape, np.inf), where=crosses).min(axis=0)
        share = min(float(ahead.min()), 1.0)
        new[places] += share * step
        if share < 1.0:
            new[:, columns[ahead <= share]] = 0.0
        slope = problem.gradient(new)
        if share == 1.0:
            break
        columns = columns[ahead > share]
    better = problem.value(new, slope) < problem.value(Theta, G)
    return (new, slope) if better else (Theta, G)


def _step(
    problem: GroupBallProblem,
    Theta: Array,
    G: Array,
    rows: IntArray,
    columns: IntArray,
    group: IntArray,
) -> Array | None:
    """Return Newton's step on entries of groups that are not zero, None if there is none."""
    places = np.ix_(rows, columns)
    x = Theta[places]
    squares = np.bincount(group, (x**2).sum(axis=0))[group]
    level = problem.threshold[group] / np.sqrt(squares)
    hessian = np.kron(problem.H[np.ix_(rows, rows)], problem.W[np.ix_(columns, columns)])
    same = np.where(group[:, np.newaxis] == group, level / squares, 0.0)
    hessian -= np.tile(same, (len(rows), len(rows))) * np.outer(x, x)
    diagonal = hessian.diagonal() + np.tile(level, len(rows))
    np.fill_diagonal(hessian, diagonal + _ROUNDING * diagonal.sum())
    try:
        factor = cho_factor(hessian)
    except LinAlgError:  # singular but for rounding
        return None
    step: Array = -cho_solve(factor, (G[places] + level * x).ravel()).reshape(x.shape)
    return step
