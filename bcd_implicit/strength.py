"""``alpha="auto"``: choose the inputs and the strength of the penalties from the data.

The strength that predicts best keeps most of the false inputs, as with the lasso: what removes them
also shrinks the true ones. Selection and prediction are therefore separated, on one split of the
rows into a training and a validation part:

1. A dense fit at a modest strength. The norms of its groups rank the inputs, and
   ``omega_j = (mean norm / norm_j)^2`` makes the group penalty adaptive: inputs that the dense fit
   could do without now cost more by orders of magnitude.
2. A warm-started path from weak to strong, so that inputs that act only together are not lost.
   Every support that occurs is scored by its best validation loss; chosen is the smallest one that
   is not worse than the best by more than one standard error of the paired difference, or by 2 %,
   the scatter between local minima.
3. With these inputs alone, the strength of all penalties falls, then that of C rises, as long as
   the validation loss follows.

Measured on the article's experiment (10 states, 50 inputs, 10 of them true): the exact support
stands on a stretch of the path of one to two decades at 0, 10, 50 and 100 % noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import train

__all__ = ["DENSE_STRENGTH", "PathPoint", "Strength", "choose_strength"]

Array = NDArray[np.float64]
Score = Callable[[Parameters], Array]

DENSE_STRENGTH = 5e-3
_DENSE_STEPS = 30
_PATH_STEPS = 8
_PATH_TOLERANCE = 1e-3
_FACTOR = 2.0  # between the strengths of the path
_BELOW = 6  # powers of the factor by which the path starts below the dense strength
_MOST_POINTS = 40
_REPEATABILITY = 0.02  # relative difference of the loss that local minima alone can make
_REFINEMENTS = 8
_PATIENCE = 2  # refinements without improvement before giving up


@dataclass(frozen=True)
class PathPoint:
    """A strength on the path, the inputs it keeps, and its mean validation loss."""

    alpha: float
    l2: float
    support: BoolArray
    loss: float


@dataclass(frozen=True)
class Strength:
    """What `choose_strength` chose.

    Attributes
    ----------
    alpha, l2 : float
        Strengths of the group penalty and of the penalty of C.
    group_weights : ndarray of shape (p,)
        ``omega``: adaptive on the chosen inputs, infinite on the others.
    start : Parameters
        The model of the training part at these strengths, a warm start.
    path : list of PathPoint
        The candidates of steps 2 and 3, in the order of their fits.
    """

    alpha: float
    l2: float
    group_weights: Array
    start: Parameters
    path: list[PathPoint]


@dataclass
class _Candidate:
    alpha: float
    l2: float
    parameters: Parameters
    losses: Array

    def point(self, weights: Array) -> PathPoint:
        loss = float(weights @ self.losses)
        return PathPoint(self.alpha, self.l2, self.parameters.active, loss)


def choose_strength(
    data: RowBlocks,
    problem: TrainingProblem,
    score: Score,
    weights: Array,
    rng: np.random.Generator,
    monitor: Monitor,
) -> Strength:
    """Choose inputs and strengths; see the module for the method and its reasons.

    Parameters
    ----------
    data : RowBlocks
        The training part.
    problem : TrainingProblem
        Its strengths are ignored and replaced.
    score : callable
        Returns the loss of given parameters on each validation row.
    weights : ndarray
        Weights of the validation rows; they sum to one.
    rng : numpy.random.Generator
        For the random start of the dense fit.
    monitor : Monitor
        Receives the history of all fits.
    """
    dense_problem = replace(problem, alpha=DENSE_STRENGTH, l2=DENSE_STRENGTH)
    dense = train(data, dense_problem, max_iter=_DENSE_STEPS, rng=rng, monitor=monitor)
    if dense.interrupted:
        raise KeyboardInterrupt
    parameters = dense.point.parameters
    norms = group_norms(parameters.B, parameters.D)
    if not norms.any():  # nothing to be learned, such as from constant targets
        losses = score(parameters)
        only = _Candidate(DENSE_STRENGTH, DENSE_STRENGTH, parameters, losses)
        return _result(only, problem.group_weights, [only.point(weights)])
    with np.errstate(divide="ignore"):
        omega = problem.group_weights * (norms[norms > 0.0].mean() / norms) ** 2
    adaptive = replace(dense_problem, group_weights=omega)

    def fit(alpha: float, l2: float, start: Parameters, of: TrainingProblem) -> _Candidate:
        trial = replace(of, alpha=alpha, l2=l2)
        found = train(
            data,
            trial,
            start=start,
            max_iter=_PATH_STEPS,
            tol=_PATH_TOLERANCE,
            rng=rng,
            monitor=monitor,
        )
        if found.interrupted:
            raise KeyboardInterrupt
        return _Candidate(alpha, l2, found.point.parameters, score(found.point.parameters))

    path: list[_Candidate] = []
    alpha = DENSE_STRENGTH / _FACTOR**_BELOW
    while len(path) < _MOST_POINTS:
        path.append(fit(alpha, DENSE_STRENGTH, parameters, adaptive))
        parameters = path[-1].parameters
        if not parameters.active.any():
            break
        alpha *= _FACTOR
    chosen = _smallest_support(path, weights)
    outside = ~chosen.parameters.active
    relaxed = replace(adaptive, group_weights=np.where(outside, np.inf, omega))
    points = [candidate.point(weights) for candidate in path]
    best = chosen
    for alpha_factor, l2_factor in ((0.25, 0.25), (1.0, 4.0)):
        current, misses = best, 0
        for _ in range(_REFINEMENTS):
            current = fit(
                current.alpha * alpha_factor, current.l2 * l2_factor, current.parameters, relaxed
            )
            points.append(current.point(weights))
            if weights @ current.losses < weights @ best.losses:
                best, misses = current, 0
            else:
                misses += 1
                if misses == _PATIENCE:
                    break
    return _result(best, relaxed.group_weights, points)


def _smallest_support(path: list[_Candidate], weights: Array) -> _Candidate:
    """Return the best candidate among those with the smallest support that is good enough."""
    by_support: dict[bytes, _Candidate] = {}
    for candidate in path:
        key = candidate.parameters.active.tobytes()
        rival = by_support.get(key)
        if rival is None or weights @ candidate.losses < weights @ rival.losses:
            by_support[key] = candidate
    best = min(by_support.values(), key=lambda c: float(weights @ c.losses))
    level = float(weights @ best.losses)

    def good_enough(candidate: _Candidate) -> bool:
        difference = candidate.losses - best.losses
        mean = float(weights @ difference)
        error = float(np.sqrt(np.sum((weights * (difference - mean)) ** 2)))
        return mean <= max(error, _REPEATABILITY * level)

    return min(
        filter(good_enough, by_support.values()),
        key=lambda c: (int(c.parameters.active.sum()), float(weights @ c.losses)),
    )


def _result(best: _Candidate, group_weights: Array, points: list[PathPoint]) -> Strength:
    return Strength(best.alpha, best.l2, group_weights, best.parameters, points)
