"""``alpha="auto"``: choose the inputs and the strength of the penalties from the data.

The strength that predicts best keeps most of the false inputs, as with the lasso: what removes them
also shrinks the true ones. Selection and prediction are therefore separated, on one split of the
rows into a training and a validation part:

1. Dense fits at a few strengths, with states and without; the best on the validation part goes on.
   It starts dense because inputs that act only together are lost by a sparse start.
2. Backward elimination: the inputs with the smallest groups are dropped, a quarter at a time, and
   what is left is refitted, warm. Around the size chosen, inputs are dropped one by one. Chosen is
   the smallest support whose loss is not above the best by more than 2 %, the scatter between local
   minima, or half a standard error of the paired difference, but never by more than 5 %. The
   percentages are of the best loss or, if that is smaller, of what it gains on the empty model; a
   thousandth of the loss of the empty model is never worth an input.
3. With these inputs alone, and fits that are left to settle as the final one will be, the strength
   of all penalties rises or falls, then that of C rises, as long as the validation loss falls.

Every candidate is a refit at a uniform strength. What lost: an adaptive penalty, ``omega_j = (mean
norm / norm_j)^2``, scored along its own path. It found the article's inputs as well, but shrank
weak true inputs so much that Friedman's fifth was dropped, at three times the loss.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.candidates import PathPoint, Strength
from bcd_implicit.forward import sample_losses
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import train

__all__ = ["DENSE_STRENGTH", "NO_STATES", "choose_strength"]

Array = NDArray[np.float64]

DENSE_STRENGTH = 0.03
_DENSE_STRENGTHS = (0.1, 0.03, 0.01, 0.003)
NO_STATES = 1e6  # a penalty of C that leaves only the linear part
_DENSE_STEPS = 30
_REFIT_STEPS = 8
_REFIT_TOLERANCE = 1e-3
_MANY_INPUTS = 100  # above, half of the inputs are dropped at a time instead of a quarter
_REPEATABILITY = 0.02  # relative difference of the loss that local minima alone can make
_WORTHWHILE = 0.05  # relative loss that is too high a price for a smaller support
_ROUNDS = 3  # of elimination, when a better minimum turns up
_UNWORTHY = 1e-3  # of the loss of the empty model: what no input is kept for
_NEGLIGIBLE = 1e-4  # of the same: what no refinement is made for
_SETTLE_STEPS = 60
_PATIENCE = 1  # refinements without improvement before giving up
_MOST_POINTS = 100


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
            tol=_REFIT_TOLERANCE,
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
        for dense in self._dense():
            self.path.append(dense)
            self._eliminate_from(dense)
        for _ in range(_ROUNDS):
            before = min(point.loss for point in self.path)
            self._fill_in(self._smallest_support())
            best = min(self.path, key=lambda point: point.loss)
            if best.loss > 0.8 * before:
                break
            self._eliminate_from(best)  # a better minimum was found on the way: start from there
        self.best = chosen = self._smallest_support()
        self._exclude(~chosen.support)
        self.chosen_weights = self.group_weights
        settled = self.fit(chosen.alpha, chosen.l2, chosen.parameters, _SETTLE_STEPS)
        self.path.append(settled)
        self.best = settled
        l2_too = 0.0 if self.fixed_l2 else 1.0
        for alpha_power, l2_power in ((1.0, l2_too), (-1.0, -l2_too), (0.0, l2_too)):
            if alpha_power or l2_power:
                self._refine(4.0**alpha_power, 4.0**l2_power)

    def _eliminate_from(self, dense: PathPoint) -> None:
        """Drop a good part of the inputs at a time until none is left."""
        current = dense
        while current.n_inputs:
            kept = current.n_inputs
            current = self._drop(current, kept // 2 if kept > _MANY_INPUTS else (3 * kept) // 4)

    def _fill_in(self, chosen: PathPoint) -> None:
        """Drop inputs one by one between the neighbours of the chosen size on its path."""
        family = [point for point in self.path if point.family == chosen.family]
        larger = [point for point in family if point.n_inputs > chosen.n_inputs]
        smaller = [point.n_inputs for point in family if point.n_inputs < chosen.n_inputs]
        current = min(larger, key=lambda point: point.n_inputs, default=chosen)
        for kept in range(current.n_inputs - 1, max(smaller, default=0), -1):
            if kept == chosen.n_inputs:
                current = chosen
            elif kept < current.n_inputs:
                current = self._drop(current, kept)

    def _exclude(self, outside: BoolArray) -> None:
        """Give infinite weights to these inputs, and to no others."""
        self.group_weights = np.where(outside, np.inf, self.problem.group_weights)

    def _drop(self, point: PathPoint, kept: int) -> PathPoint:
        """Refit with the inputs of the ``kept`` largest groups only."""
        norms = group_norms(point.parameters.B, point.parameters.D)
        order = np.argsort(-norms, kind="stable")
        outside = np.ones(len(norms), dtype=np.bool_)
        outside[order[:kept]] = False
        self._exclude(outside)
        start = replace(
            point.parameters,
            B=np.where(outside, 0.0, point.parameters.B),
            D=np.where(outside, 0.0, point.parameters.D),
        )
        refitted = self.fit(point.alpha, point.l2, start, _REFIT_STEPS)
        self.path.append(refitted)
        return refitted

    def _dense(self) -> list[PathPoint]:
        """Fit from scratch at a few strengths; return the best with states and the best without.

        With many false inputs a dense nonlinear fit may predict worse than a linear one, and be far
        better once they are gone: both are worth following.
        """
        penalties = {s: self.problem.l2 if self.fixed_l2 else s for s in _DENSE_STRENGTHS}
        fits = [self.fit(s, l2, None, _DENSE_STEPS) for s, l2 in penalties.items()]
        best = [min(fits, key=lambda point: point.loss)]
        if self.problem.feedthrough and not self.fixed_l2:
            linear = [self.fit(s, NO_STATES, None, _DENSE_STEPS) for s in _DENSE_STRENGTHS]
            best.append(min(linear, key=lambda point: point.loss))
        return best

    def _smallest_support(self) -> PathPoint:
        """Return the candidate with the fewest inputs that is good enough.

        Candidates without states are preferred when those with states are not better by one
        standard error.
        """
        path = self.path
        best = min(path, key=lambda point: point.loss)
        empty = max(point.loss for point in path)
        linear = [point for point in path if point.l2 >= NO_STATES]
        if linear and not self.fixed_l2:
            rival = min(linear, key=lambda point: point.loss)
            if rival.loss - best.loss <= self._error(rival, best):
                path, best = linear, rival
        unit = min(best.loss, empty - best.loss)

        def good_enough(point: PathPoint) -> bool:
            allowed = max(0.5 * self._error(point, best), _REPEATABILITY * unit)
            allowed = max(min(allowed, _WORTHWHILE * unit), _UNWORTHY * empty)
            return point.loss - best.loss <= allowed

        return min(filter(good_enough, path), key=lambda point: (point.n_inputs, point.loss))

    def _error(self, point: PathPoint, other: PathPoint) -> float:
        """Return the standard error of the difference of two validation losses."""
        deviation = point.losses - other.losses - (point.loss - other.loss)
        return float(np.sqrt(np.sum((self.weights * deviation) ** 2)))

    def _refine(self, alpha_factor: float, l2_factor: float) -> None:
        """Change the strengths of the best by factors, as long as the validation loss falls."""
        current, misses = self.best, 0
        while current is not None and misses < _PATIENCE and len(self.path) < _MOST_POINTS:
            current = self.fit(
                current.alpha * alpha_factor,
                current.l2 * l2_factor,
                current.parameters,
                _SETTLE_STEPS,
            )
            self.path.append(current)
            empty = max(point.loss for point in self.path)
            if self.best is None or current.loss < self.best.loss - _NEGLIGIBLE * empty:
                self.best, misses = current, 0
            else:
                misses += 1


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
