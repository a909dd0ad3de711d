"""Which of several supports of the same size is best: by rows that fits have not seen.

By the objective on all rows, at 0.003, a category of eight levels that does nothing was among three
groups in 6 of 12 samples (three of 13 groups matter, half noise, 300 and 500 rows), and the three
true ones were found in one; by other rows always. Of six true inputs of 33, half noise, 3.8 were
found, and 5.9 now. What lost: the objective at 0.1, as good there, but it misses 0.75 of the three
inputs of ``3 u1 + 0.3 u2 u3``; and fits to the parts begun at those to all rows, which hardly
forget the others: thirty columns of noise passed for R2 of 0.5.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import inputs_of
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.forward import sample_losses
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._votes import Fold
from bcd_implicit.validation_rows import validation_weights

__all__ = ["JudgedSupport", "SupportJudge"]

Array = NDArray[np.float64]

_STRENGTH = 0.003  # of the fits that are looked at for what they leave unexplained
_HONEST_STRENGTH = 0.03  # of the fits to parts of the rows
_STEPS = 30


@dataclass(frozen=True)
class JudgedSupport:
    """Groups of inputs that an elimination has left, and a fit with these alone.

    Attributes
    ----------
    strength : float
        Of the dense fit that it started from.
    parameters : Parameters
    objective : float
        Of that fit.
    groups : frozenset of int
    order : ndarray of int
        All groups from the most to the least important: the selected ones by size, the others from
        the last that was dropped to the first.
    """

    strength: float
    parameters: Parameters
    objective: float
    groups: frozenset[int]
    order: IntArray

    @property
    def chosen(self) -> IntArray:
        return self.order[: len(self.groups)]


class SupportJudge:
    """Judges supports by the loss of rows that fits with their inputs alone have not seen.

    Parameters
    ----------
    fitter : WarmFitter
    folds : list of (RowBlocks, RowBlocks)
        Training and validation parts of the rows. If there are none, supports are compared by the
        objective on all rows.
    """

    def __init__(self, fitter: WarmFitter, folds: list[Fold]) -> None:
        self._fitter, self._folds = fitter, folds
        self.problem = replace(fitter.problem, alpha=_STRENGTH, l2=_STRENGTH)
        self._known: dict[frozenset[int], float] = {}

    def judged(self, k: int, strength: float, start: Parameters, order: IntArray) -> JudgedSupport:
        """Fit the first k groups alone."""
        inside = inputs_of(self.problem, order[:k])
        point = self._fitter.keep(self.problem, start, inside, _STEPS).point
        groups = frozenset(order[:k].tolist())
        return JudgedSupport(strength, point.parameters, point.objective, groups, order)

    def best(self, found: list[JudgedSupport]) -> JudgedSupport:
        """Return the support with the least loss, and the fit to it with the least objective."""
        if len({one.groups for one in found}) == 1:
            return min(found, key=lambda one: one.objective)
        return min(found, key=lambda one: (self.loss(one), one.objective))

    def loss(self, support: JudgedSupport) -> float:
        """Return the mean loss of the validation rows, that of the first fit to a support."""
        if not self._folds:
            return support.objective
        if support.groups not in self._known:
            self._known[support.groups] = self._held_out_loss(support)
        return self._known[support.groups]

    def _held_out_loss(self, support: JudgedSupport) -> float:
        inside = inputs_of(self.problem, support.chosen)
        problem = replace(self.problem, alpha=_HONEST_STRENGTH, l2=_HONEST_STRENGTH)
        losses = [self._loss(problem, fold, inside) for fold in self._folds]
        return float(np.mean(losses))

    def _loss(self, problem: TrainingProblem, fold: Fold, inside: BoolArray) -> float:
        """Fit from random starts: others know the validation rows, and hardly forget them."""
        training, validation = fold
        parameters = self._fitter.on(training).dense(problem, inside).point.parameters
        losses = sample_losses(validation, problem, parameters)
        return float(validation_weights([validation]) @ losses)
