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

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.forward import sample_losses
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import train

__all__ = ["DENSE_STRENGTH", "PathPoint", "Strength", "choose_strength"]

Array = NDArray[np.float64]

DENSE_STRENGTH = 0.03
_DENSE_STRENGTHS = (0.1, 0.03, 0.01, 0.003)
_NO_STATES = 1e6  # a penalty of C that leaves only the linear part
_DENSE_STEPS = 30
_PATH_STEPS = 8
_PATH_TOLERANCE = 1e-3
_FACTOR = 2.0  # between the strengths of the path
_BELOW = 6  # powers of the factor by which the path starts below the dense strength
_MOST_POINTS = 40
_REPEATABILITY = 0.02  # relative difference of the loss that local minima alone can make
_WORTHWHILE = 0.05  # relative loss that is too high a price for a smaller support
_REFINEMENTS = 8
_PATIENCE = 2  # refinements without improvement before giving up


@dataclass(frozen=True)
class PathPoint:
    """Strengths, the model that they gave on the training part, and how it did.

    Attributes
    ----------
    alpha, l2 : float
        Strengths of the group penalty and of the penalty of C.
    parameters : Parameters
        The model, in standardised units.
    losses : ndarray
        Losses of the validation rows.
    loss : float
        Their weighted mean.
    """

    alpha: float
    l2: float
    parameters: Parameters
    losses: Array
    loss: float

    @property
    def support(self) -> BoolArray:
        """Inputs that the model uses."""
        return self.parameters.active


@dataclass(frozen=True)
class Strength:
    """What `choose_strength` chose.

    Attributes
    ----------
    best : PathPoint
        Strengths, and a warm start.
    group_weights : ndarray of shape (p,)
        ``omega``: adaptive on the chosen inputs, infinite on the others.
    path : list of PathPoint
        The candidates of steps 2 and 3, in the order of their fits.
    interrupted : bool
        Whether the user stopped the search; ``best`` is then the best so far.
    """

    best: PathPoint
    group_weights: Array
    path: list[PathPoint]
    interrupted: bool = False


class _Search:
    def __init__(
        self,
        train_data: RowBlocks,
        validation_data: RowBlocks,
        problem: TrainingProblem,
        rng: np.random.Generator,
        monitor: Monitor,
        fixed_l2: bool,
    ) -> None:
        self.train_data, self.validation_data = train_data, validation_data
        self.problem, self.rng, self.monitor = problem, rng, monitor
        self.fixed_l2 = fixed_l2
        self.weights = np.concatenate(
            [validation_data.targets(block)[1] for block in validation_data.blocks]
        )
        self.group_weights = self.chosen_weights = problem.group_weights
        self.path: list[PathPoint] = []
        self.best: PathPoint | None = None

    def fit(self, alpha: float, l2: float, start: Parameters | None, steps: int) -> PathPoint:
        """Fit and score one candidate; raises KeyboardInterrupt after keeping what there is."""
        problem = replace(self.problem, alpha=alpha, l2=l2, group_weights=self.group_weights)
        found = train(
            self.train_data,
            problem,
            start=start,
            max_iter=steps,
            tol=_PATH_TOLERANCE,
            rng=self.rng,
            monitor=self.monitor,
        )
        parameters = found.point.parameters
        losses = sample_losses(self.validation_data, problem, parameters)
        point = PathPoint(alpha, l2, parameters, losses, float(self.weights @ losses))
        if self.best is None:
            self.best = point
        if found.interrupted:
            raise KeyboardInterrupt
        return point

    def run(self) -> None:
        """Make the three steps."""
        dense = self._dense()
        norms = group_norms(dense.parameters.B, dense.parameters.D)
        if not norms.any():  # nothing to be learned, such as from constant targets
            return
        with np.errstate(divide="ignore"):
            adaptive = (norms[norms > 0.0].mean() / norms) ** 2
        self.group_weights = self.problem.group_weights * adaptive
        alpha, start = dense.alpha / _FACTOR**_BELOW, dense.parameters
        while len(self.path) < _MOST_POINTS and start.active.any():
            self.path.append(self.fit(alpha, dense.l2, start, _PATH_STEPS))
            start = self.path[-1].parameters
            alpha *= _FACTOR
        self.best = chosen = _smallest_support(self.path, self.weights)
        self.group_weights = np.where(chosen.support, self.group_weights, np.inf)
        self.chosen_weights = self.group_weights
        if self.fixed_l2:
            self._refine(chosen, 0.25, 1.0)
        else:
            self._refine(self._refine(chosen, 0.25, 0.25), 1.0, 4.0)

    def _dense(self) -> PathPoint:
        """Fit from scratch at a few strengths, and without states; return the best."""
        fits = []
        for strength in _DENSE_STRENGTHS:
            l2 = self.problem.l2 if self.fixed_l2 else strength
            fits.append(self.fit(strength, l2, None, _DENSE_STEPS))
        if self.problem.feedthrough and not self.fixed_l2:
            linear = [self.fit(s, _NO_STATES, None, _DENSE_STEPS) for s in _DENSE_STRENGTHS]
            fits.extend(linear)
        return min(fits, key=lambda point: point.loss)

    def _refine(self, start: PathPoint, alpha_factor: float, l2_factor: float) -> PathPoint:
        """Change the strengths by factors, as long as the validation loss falls."""
        best = current = start
        misses = 0
        for _ in range(_REFINEMENTS):
            current = self.fit(
                current.alpha * alpha_factor,
                current.l2 * l2_factor,
                current.parameters,
                _PATH_STEPS,
            )
            self.path.append(current)
            if current.loss < best.loss:
                best = self.best = current
                misses = 0
            else:
                misses += 1
            if misses == _PATIENCE:
                break
        return best


def choose_strength(
    train_data: RowBlocks,
    validation_data: RowBlocks,
    problem: TrainingProblem,
    rng: np.random.Generator,
    monitor: Monitor,
    *,
    fixed_l2: bool = False,
) -> Strength:
    """Choose inputs and strengths; see the module for the method and its reasons.

    Parameters
    ----------
    train_data, validation_data : RowBlocks
        Two parts of the data in the same units; the weights of each sum to one.
    problem : TrainingProblem
        Its ``l2`` is where the search starts; its ``alpha`` is ignored.
    rng : numpy.random.Generator
        For the random start of the dense fit.
    monitor : Monitor
        Receives the history of all fits.
    fixed_l2 : bool
        Whether ``l2`` stays where it is.

    Returns
    -------
    Strength

    Raises
    ------
    KeyboardInterrupt
        If the user stops before there is any model.
    """
    search = _Search(train_data, validation_data, problem, rng, monitor, fixed_l2)
    interrupted = False
    try:
        search.run()
    except KeyboardInterrupt:
        if search.best is None:
            raise
        interrupted = True
    if search.best is None:
        raise RuntimeError("the search ended without a candidate")
    return Strength(search.best, search.chosen_weights, search.path, interrupted)


def _smallest_support(path: list[PathPoint], weights: Array) -> PathPoint:
    """Return the best candidate among those with the smallest support that is good enough."""
    by_support: dict[bytes, PathPoint] = {}
    for candidate in path:
        rival = by_support.setdefault(candidate.support.tobytes(), candidate)
        if candidate.loss < rival.loss:
            by_support[candidate.support.tobytes()] = candidate
    best = min(by_support.values(), key=lambda c: c.loss)

    def good_enough(candidate: PathPoint) -> bool:
        difference = candidate.losses - best.losses
        mean = candidate.loss - best.loss
        error = float(np.sqrt(np.sum((weights * (difference - mean)) ** 2)))
        allowed = max(0.5 * error, _REPEATABILITY * best.loss)
        return mean <= min(allowed, _WORTHWHILE * best.loss)

    return min(
        filter(good_enough, by_support.values()),
        key=lambda c: (int(c.support.sum()), c.loss),
    )
