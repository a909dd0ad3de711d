"""Inputs and strengths of models with states: dense fits, elimination and refinement on one split.

These are steps 1, 2 and 4 of `bcd_implicit.strength`, which gives the reasons.
"""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.candidate_fits import DENSE, REFIT, SETTLE, CandidateFits
from bcd_implicit.candidates import (
    PathPoint,
    gain_in_errors,
    honest_losses,
    is_refined,
    smallest_good,
)
from bcd_implicit.group_sizes import largest_groups, noise_of_column, norms_and_columns
from bcd_implicit.left_out import left_out
from bcd_implicit.pooled_folds import PooledFolds
from bcd_implicit.problem import Parameters
from bcd_implicit.unseen_inputs import unseen_inputs

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
_MISFIT = 0.3  # of the loss of the empty model, or less, is left
_WORSE = 1.0  # standard errors by which all that matters may be worse on the validation rows
_PATIENCE = 1  # refinements without improvement before giving up
_MOST_POINTS = 100


class StateSearch(CandidateFits):
    """Elimination and refinement of candidates; see `CandidateFits` for parameters."""

    _noise = 0.0  # squared norm of a column of noise in the last dense fit

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
            self.exclude(~inside)
            self._go_on_from(self._dense())  # what was chosen may be the strength that suits noise

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
        self._take_back()

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
        self.exclude(~chosen.support)
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
            self.exclude(~inside)
            start = point.parameters.restricted(inside)
            again = self.fit(point.alpha, point.l2, start, SETTLE)
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

    def _take_back(self) -> None:
        """Use what was left out but clearly matters to all rows, unless that fares worse.

        A quarter of the rows says little of a weak effect; all of them may be certain of it. Where
        little is left, much of it is what states do not fit rather than noise, and seems to tell
        of inputs that do not matter: of the article's ten inputs, without noise, an eleventh.
        """
        best = self.best
        if best is None or best.loss < _MISFIT * self.empty_loss:
            return
        missing = left_out(self.data, self.problem, best.parameters, best.support)
        if not missing.any():
            return
        self.exclude(~(best.support | missing))
        again = self.fit(best.alpha, best.l2, best.parameters, SETTLE)
        self.path.append(again)
        if gain_in_errors(again.losses, best.losses, self.weights) <= _WORSE:
            self.best, self.chosen_weights = again, self.group_weights

    def _go_on_from(self, dense: PathPoint) -> None:
        """Make a dense fit a candidate, and eliminate."""
        self.path.append(dense)
        self._eliminate_from(dense)

    def _eliminate_from(self, dense: PathPoint) -> None:
        """Drop a good part of the inputs at a time until none is left."""
        norms, columns = norms_and_columns(self.problem, dense.parameters)
        used = norms > 0.0
        if used.any():
            self._noise = noise_of_column(norms[used], columns[used])
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

    def _drop(self, point: PathPoint, kept: int) -> PathPoint:
        """Refit with the inputs of the ``kept`` largest groups only."""
        inside = largest_groups(self.problem, point.parameters, kept, self._noise)
        self.exclude(~inside)
        refitted = self.fit(point.alpha, point.l2, point.parameters.restricted(inside), REFIT)
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
        return self.fit(strength, l2, start, DENSE)

    def _refine(self, alpha_factor: float, l2_factor: float, pool: PooledFolds | None) -> None:
        """Change the strengths of the best by factors, as long as the validation loss falls."""
        current, misses = self.best, 0
        while current and self.best and misses < _PATIENCE and len(self.path) < _MOST_POINTS:
            alpha, l2 = current.alpha * alpha_factor, current.l2 * l2_factor
            current = self.fit(alpha, l2, current.parameters, SETTLE)
            self.path.append(current)
            if is_refined(self.best, current, self.weights, self.empty_loss) and (
                pool is None or pool.is_refined(self.best, current, self.empty_loss)
            ):
                self.best, misses = current, 0
            else:
                misses += 1
