"""Mean and deviation of columns, part by part, in one pass."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Weighted moments of columns, each in units of its own largest entry: nothing overflows.

    Attributes
    ----------
    weight : float
        Sum of the weights.
    top : ndarray of shape (p,)
        Largest absolute entries among the rows of positive weight.
    mean, squares : ndarray of shape (p,)
        Mean and mean square deviation from it, in units of ``top`` (1 where that is zero) and its
        square.
    """

    weight: float
    top: Array
    mean: Array
    squares: Array

    @classmethod
    def of(cls, rows: Array, weights: Array) -> "Moments":
        """Return the moments of some rows.

        Examples
        --------
        >>> found = Moments.of(np.array([[2.0], [-4.0], [9.0]]), np.array([0.5, 0.5, 0.0]))
        >>> found.top, found.mean, found.squares
        (array([4.]), array([-0.25]), array([0.5625]))
        """
        used = weights > 0.0
        if not used.all():
            rows, weights = rows[used], weights[used]
        top = np.abs(rows).max(axis=0, initial=0.0)
        total = float(weights.sum())
        if total == 0.0:
            return cls(0.0, top, np.zeros(rows.shape[1]), np.zeros(rows.shape[1]))
        shares = weights / total
        scaled = rows / np.where(top > 0.0, top, 1.0)
        mean = shares @ scaled
        scaled -= mean
        scaled *= scaled
        return cls(total, top, mean, shares @ scaled)

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both."""
        if self.weight == 0.0 or other.weight == 0.0:
            return self if other.weight == 0.0 else other
        top = np.maximum(self.top, other.top)
        unit = np.where(top > 0.0, top, 1.0)
        weight = self.weight + other.weight
        mean, squares = np.zeros((2, len(top)))
        for one in (self, other):
            mean += one.weight / weight * one.mean * one._in(unit)
        for one in (self, other):
            ratio = one._in(unit)
            away = one.mean * ratio - mean
            squares += one.weight / weight * (one.squares * ratio**2 + away**2)
        return Moments(weight, top, mean, squares)

    @staticmethod
    def total(parts: "list[Moments]") -> "Moments":
        """Return the moments of all parts, merged in their order."""
        return reduce(Moments.merged, parts)

    def _in(self, unit: Array) -> Array:
        return np.where(self.top > 0.0, self.top, 1.0) / unit
