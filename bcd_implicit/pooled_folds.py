"""Candidates of one fold, judged by the validation rows of several."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.candidates import PathPoint, is_refined

__all__ = ["PooledFolds"]

Array = NDArray[np.float64]


class Fold(Protocol):
    """What is asked of each fold: the weights of its validation rows, and their losses."""

    weights: Array

    def losses_of(self, point: PathPoint) -> Array: ...


class PooledFolds:
    """The validation rows of several folds; those of each have the same weight.

    Parameters
    ----------
    folds : sequence of StateSearch

    Attributes
    ----------
    weights : ndarray
        Weights of all validation rows.
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        self._folds = folds
        self.weights = np.concatenate([fold.weights for fold in folds]) / len(folds)

    def judged(self, point: PathPoint) -> PathPoint:
        """Return a candidate with the losses that it has on all folds, trained on in each."""
        losses = np.concatenate([fold.losses_of(point) for fold in self._folds])
        return replace(point, losses=losses, loss=float(self.weights @ losses))

    def is_refined(self, point: PathPoint, other: PathPoint, empty: float) -> bool:
        """Whether the other candidate is better on all folds, see `bcd_implicit.candidates`."""
        return is_refined(self.judged(point), self.judged(other), self.weights, empty)
