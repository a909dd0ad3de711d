"""Inputs and strengths of models with states: dense fits, elimination and refinement on one split.

These are steps 1, 2 and 4 of `bcd_implicit.strength`, which gives the reasons.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.candidates import PathPoint, honest_losses, is_refined, smallest_good
from bcd_implicit.monitor import Monitor
from bcd_implicit.pooled_folds import PooledFolds
from bcd_implicit.problem import Parameters, TrainingProblem, largest_groups
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import on_allowed_inputs, train
from bcd_implicit.unseen_inputs import unseen_inputs
from bcd_implicit.validation_rows import validation_losses, validation_weights

__all__ = ["StateSearch"]

Array = NDArray[np.float64]

_DENSE_STRENGTHS = (0.1, 0.03, 0.01, 0.003)
_STARTS = 3  # of the dense fits: phase one is the same at all their strengths
_OTHER_STARTS = 6 * (0.1, 0.03)  # strengths of dense fits where others find next to nothing:
_LITTLE = 0.7  # of the loss of the empty model, or more, is left
_MANY_INPUTS = 100  # above, half of the inputs are dropped at a time instead of a quarter
_ROUNDS = 3  # of elimination, when a better minimum turns up
_UNSETTLED = 0.3  # of the loss, by which the fits of an elimination may be worse than settled ones
_GAP = 5.0  # between the norms of groups: what is below is hardly used
_PATIENCE = 1  # refinements without improvement before giving up
_MOST_POINTS = 100


class _Budget(NamedTuple):
    """Most steps of a fit, and when it ends before: see `bcd_implicit.training.train`."""

    max_iter: int
    tol: float
    window: int


_DENSE = _Budget(30, 1e-3, 10)
# Two steps that gain so little are the end: of eight steps each, noisy rows spare a third, and the
# same inputs were found in 28 of 28 samples.
_REFIT = _Budget(8, 1e-4, 2)
_SETTLE = _Budget(60, 1e-3, 10)


class StateSearch:
    """Candidates with states, fitted on a training part and scored on a validation part.

    Parameters
    ----------
    train_data, validation_data : RowBlocks
        In the same units; the weights of each sum to one.
    problem : TrainingProblem
    rng : numpy.random.Generator
        For the random starts of the dense fits.
    monitor : Monitor
    fixed_l2 : bool
        Whether ``l2`` stays where it is.

    Attributes
    ----------
    path : list of PathPoint
        The candidates in the order of their fits.
    best : PathPoint or None
        The best so far.
    chosen_weights : ndarray of shape (p,)
        Weights of the groups, infinite for inputs that were not chosen.
    """

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
        self.weights = validation_weights([validation_data])
        self.group_weights = self.chosen_weights = problem.group_weights
        self.path: list[PathPoint] = []
        self.best: PathPoint | None = None
        self._least: PathPoint | None = None  # of all fits, candidates or not
        self._began: Parameters | None = None  # of the last fit

    def fit(self, alpha: float, l2: float, start: Parameters | None, budget: _Budget) -> PathPoint:
        """Fit and score one candidate; raises KeyboardInterrupt after keeping what there is."""
        problem = replace(self.problem, alpha=alpha, l2=l2, group_weights=self.group_weights)
        found = on_allowed_inputs(
            self.train_data,
            problem,
            start,
            lambda data, allowed, begun: train(
                data,
                allowed,
                start=begun,
                rng=self.rng,
                monitor=self.monitor,
                **budget._asdict(),
            ),
        )
        self._began, parameters = found.began, found.point.parameters
        losses = validation_losses(self.validation_data, problem, parameters)
        loss = float(self.weights @ losses)
        point = PathPoint.of(alpha, l2, parameters, losses, loss, problem.groups)
        if self._least is None or loss < self._least.loss:
            self._least = point
        if found.interrupted:
            raise KeyboardInterrupt
        return point

    def eliminate(self, *, insist: bool = False) -> Array:
        """Make steps 1 and 2 as far as the empty model; return `honest_losses`.

        With ``insist``, other random starts are tried where next to nothing is found.
        """
        try:
            self._eliminate(insist=insist)
        except KeyboardInterrupt:
            self.best = self._least
            raise
        self.best = min(self.path, key=lambda point: point.loss)
        return honest_losses(np.stack([point.losses for point in self.path]), self.weights)

    def _eliminate(self, *, insist: bool) -> None:
        self._go_on_from(self._dense())
        if insist:
            self._start_again()
        for _ in range(_ROUNDS):
            chosen = self.smallest_support()
            missing = unseen_inputs(
                self.train_data, self.problem, chosen.parameters, chosen.support
            )
            if not missing.any():
                break
            inside = largest_groups(self.problem, chosen.parameters, chosen.n_groups) | missing
            self._exclude(~inside)
            self._go_on_from(self._dense())  # what was chosen may be the strength that suits noise

    @property
    def empty_loss(self) -> float:
        """Loss of the empty model, in which eliminations end, or of a worse one."""
        return max(point.loss for point in self.path)

    def smallest_support(self) -> PathPoint:
        """Return the candidate with the fewest inputs that is good enough."""
        return smallest_good(self.path, self.weights, self.empty_loss)

    def losses_of(self, point: PathPoint) -> Array:
        """Return validation losses of a candidate of this fold or, trained on here, of another."""
        if any(point is one for one in self.path):
            return point.losses
        self._exclude(~point.support)
        return self.fit(point.alpha, point.l2, point.parameters, _SETTLE).losses

    def refine(self, pool: PooledFolds | None = None) -> None:
        """Settle on the inputs, then on the strengths, which a pool of folds has to confirm."""
        for _ in range(_ROUNDS):
            before = min(point.loss for point in self.path)
            self._fill_in(self.smallest_support())
            best = min(self.path, key=lambda point: point.loss)
            if best.loss > 0.8 * before:
                break
            self._eliminate_from(best)  # a better minimum was found on the way: start from there
        self._settle()
        l2_too = 0.0 if self.fixed_l2 else 1.0
        for alpha_power, l2_power in ((1.0, l2_too), (-1.0, -l2_too), (0.0, l2_too)):
            if alpha_power or l2_power:
                self._refine(4.0**alpha_power, 4.0**l2_power, pool)

    def _settle(self) -> None:
        """Let the best supports settle, and choose the smallest that is good enough.

        A few steps leave the losses of supports apart by more than their worth: the smallest that
        might be meant gets its chance too, and so does what a settled fit uses clearly more than
        the rest.
        """
        empty = self.empty_loss
        least = min(point.loss for point in self.path)
        most = least + _UNSETTLED * min(least, empty - least)
        self.best = chosen = self.smallest_support()
        self._exclude(~chosen.support)
        self.chosen_weights = self.group_weights
        smallest = min(
            (point for point in self.path if point.loss <= most),
            key=lambda point: (point.n_groups, point.loss),
        )
        settled: list[tuple[PathPoint, Array]] = []
        waiting = [(chosen, chosen.support)]
        if smallest.n_groups < chosen.n_groups:
            waiting.append((smallest, smallest.support))
        while waiting:
            point, inside = waiting.pop(0)
            self._exclude(~inside)
            start = point.parameters.restricted(inside)
            again = self.fit(point.alpha, point.l2, start, _SETTLE)
            settled.append((again, self.group_weights))
            if point is chosen:
                clear = again.clearly_used(_GAP)
                if clear < again.n_groups:
                    inside = largest_groups(self.problem, again.parameters, clear)
                    waiting.append((again, inside))
        self.best = best = smallest_good([point for point, _ in settled], self.weights, empty)
        self.group_weights = next(weights for point, weights in settled if point is best)
        self.chosen_weights = self.group_weights
        self.path.append(best)

    def _go_on_from(self, dense: PathPoint) -> None:
        """Make a dense fit a candidate, and eliminate."""
        self.path.append(dense)
        self._eliminate_from(dense)

    def _eliminate_from(self, dense: PathPoint) -> None:
        """Drop a good part of the inputs at a time until none is left."""
        current = dense
        while current.n_groups:
            kept = current.n_groups
            current = self._drop(current, kept // 2 if kept > _MANY_INPUTS else (3 * kept) // 4)

    def _start_again(self) -> None:
        """Try other random starts as long as hardly anything better than the empty model is found.

        On 180 rows one start in 24 finds a wave in one of five inputs at 0.1, one in two at 0.03.
        """
        enough = _LITTLE * self.path[-1].loss  # of the empty model
        others: list[PathPoint] = []
        for strength in _OTHER_STARTS:
            if min(point.loss for point in self.path) <= enough:
                return
            self.group_weights = self.problem.group_weights
            others.append(self._dense_fit(strength, None))
            if others[-1].loss <= enough:
                self._go_on_from(others[-1])
        # without inputs of noise a weak one may be better; strong ones are too poor to eliminate
        weakest = [point for point in others if point.alpha == min(_OTHER_STARTS)]
        self._go_on_from(min(weakest, key=lambda point: point.loss))

    def _fill_in(self, chosen: PathPoint) -> None:
        """Drop inputs one by one between the neighbours of the chosen size on its path."""
        family = [point for point in self.path if point.family == chosen.family]
        larger = [point for point in family if point.n_groups > chosen.n_groups]
        smaller = [point.n_groups for point in family if point.n_groups < chosen.n_groups]
        current = min(larger, key=lambda point: point.n_groups, default=chosen)
        for kept in range(current.n_groups - 1, max(smaller, default=0), -1):
            if kept == chosen.n_groups:
                current = chosen
            elif kept < current.n_groups:
                current = self._drop(current, kept)

    def _exclude(self, outside: BoolArray) -> None:
        """Give infinite weights to these inputs, and to no others."""
        self.group_weights = np.where(outside, np.inf, self.problem.group_weights)

    def _drop(self, point: PathPoint, kept: int) -> PathPoint:
        """Refit with the inputs of the ``kept`` largest groups only."""
        inside = largest_groups(self.problem, point.parameters, kept)
        self._exclude(~inside)
        refitted = self.fit(point.alpha, point.l2, point.parameters.restricted(inside), _REFIT)
        self.path.append(refitted)
        return refitted

    def _dense(self) -> PathPoint:
        """Fit from scratch at a few strengths; return the best."""
        fits: list[PathPoint] = []
        starts: list[Parameters | None] = []
        for index, strength in enumerate(_DENSE_STRENGTHS):
            start = starts[index % _STARTS] if index >= _STARTS else None
            fits.append(self._dense_fit(strength, start))
            starts.append(self._began)
        return min(fits, key=lambda point: point.loss)

    def _dense_fit(self, strength: float, start: Parameters | None) -> PathPoint:
        """Fit at one strength of all penalties, but for an l2 that stays where it is."""
        l2 = self.problem.l2 if self.fixed_l2 else strength
        return self.fit(strength, l2, start, _DENSE)

    def _refine(self, alpha_factor: float, l2_factor: float, pool: PooledFolds | None) -> None:
        """Change the strengths of the best by factors, as long as the validation loss falls."""
        current, misses = self.best, 0
        while current and self.best and misses < _PATIENCE and len(self.path) < _MOST_POINTS:
            alpha, l2 = current.alpha * alpha_factor, current.l2 * l2_factor
            current = self.fit(alpha, l2, current.parameters, _SETTLE)
            self.path.append(current)
            if is_refined(self.best, current, self.weights, self.empty_loss) and (
                pool is None or pool.is_refined(self.best, current, self.empty_loss)
            ):
                self.best, misses = current, 0
            else:
                misses += 1
