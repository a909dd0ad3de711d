"""Eliminations on parts of the rows, judged by the loss of the others."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import inputs_of
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.forward import sample_losses
from bcd_implicit.problem import Parameters
from bcd_implicit.selection._shrinking import Refitter, shrinking
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.validation_rows import validation_weights

__all__ = ["Fold", "HeldOutElimination", "Vote", "vote_of"]

Array = NDArray[np.float64]
Fold: TypeAlias = tuple[RowBlocks, RowBlocks]
"""The training and the validation part of the rows."""

_STRONGER = (0.03, 0.1)  # of refits with k groups, for the comparison with fewer


@dataclass(frozen=True)
class Vote:
    """The order of the groups on a part of the rows, and the losses of others.

    Attributes
    ----------
    order : ndarray of int
    at_k, fewer : ndarray of shape (models, rows)
        Losses of models with k groups, the first of which is that of the elimination, and of models
        with fewer.
    sizes : list of int
        k, and how many groups the latter have.
    weights : ndarray of shape (rows,)
        They sum to one.
    """

    order: IntArray
    at_k: Array
    fewer: Array
    sizes: list[int]
    weights: Array

    @property
    def losses(self) -> Array:
        """Return those of the models of the elimination, one for each of the sizes."""
        return np.vstack([self.at_k[:1], self.fewer])

    @property
    def best(self) -> IntArray:
        """Return the groups with which these rows have the least loss."""
        return self.order[: self.sizes[int((self.losses @ self.weights).argmin())]]


def vote_of(fitter: Refitter, fold: Fold, k: int, strength: float, candidates: BoolArray) -> Vote:
    """Eliminate on the training part of a fold."""
    training, validation = fold
    return HeldOutElimination(fitter.on(training), validation, k, strength, candidates).vote()


class HeldOutElimination:
    """An elimination down to k groups on a part of the rows, which may go on and vote.

    Attributes
    ----------
    strength : float
    loss : float
        Of the other rows, with k groups.
    """

    def __init__(
        self, voter: Refitter, validation: RowBlocks, k: int, strength: float, candidates: BoolArray
    ) -> None:
        self._voter, self._validation, self.strength = voter, validation, strength
        self._weights = validation_weights([validation])
        self._steps = shrinking(voter, 1, strength, candidates, k)
        self._at_k = next(step for step in self._steps if step[-1] == k)
        self._losses_at_k = self._losses(self._at_k[0])
        self.loss = float(self._weights @ self._losses_at_k)

    def vote(self) -> Vote:
        """Go on to one group."""
        parameters, order, k = self._at_k
        inside = inputs_of(self._voter.problem, order[:k])
        at_k = [self._losses_at_k]
        for stronger in _STRONGER:
            problem = replace(self._voter.problem, alpha=stronger, l2=stronger)
            parameters = self._voter.refit(problem, parameters, inside)
            at_k.append(self._losses(parameters))
        rest = list(self._steps)
        _, order, _ = rest[-1] if rest else self._at_k
        fewer = np.reshape([self._losses(one) for one, _, _ in rest], (-1, len(self._weights)))
        sizes = [k, *(size for _, _, size in rest)]
        return Vote(order, np.stack(at_k), fewer, sizes, self._weights)

    def _losses(self, parameters: Parameters) -> Array:
        return sample_losses(self._validation, self._voter.problem, parameters)
