"""Mean and deviation of columns, part by part, in one pass.

Sums are kept in twice the precision, so that means and deviations have the same bits however rows
are shared out to parts: a fit would amplify what they differ by.
"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.solvers._kernels import add_moments, add_twofold

__all__ = ["Moments"]

Array = NDArray[np.float64]

_SPLIT = 2.0**27 + 1.0  # halves the digits of a double


@dataclass(frozen=True)
class Moments:
    """Weighted moments of columns, each in a unit of its own: nothing overflows.

    Attributes
    ----------
    weights : ndarray of shape (2,)
        Sum of the weights; like all sums, two numbers that add up to it.
    top : ndarray of shape (p,)
        Largest absolute entries among the rows of positive weight.
    sums : ndarray of shape (4, p)
        Weighted sums of the entries and of their squares, in `unit` and its square.

    Notes
    -----
    Source: T. Dekker, "A floating-point technique for extending the available precision", Numer.
    Math. 18 (1971).
    """

    weights: Array
    top: Array
    sums: Array

    @classmethod
    def of(cls, rows: Array, weights: Array) -> "Moments":
        """Return the moments of some rows.

        Examples
        --------
        >>> found = Moments.of(np.array([[2.0], [-4.0], [9.0]]), np.array([0.5, 0.5, 0.0]))
        >>> found.top, found.unit, *found.mean_and_square()
        (array([4.]), array([4.]), array([-0.25]), array([0.5625]))
        """
        used = weights > 0.0
        if not used.all():
            rows, weights = rows[used], weights[used]
        top = np.abs(rows).max(axis=0, initial=0.0)
        found = cls(np.zeros(2), top, np.zeros((4, len(top))))
        scaled = np.ldexp(rows, -_exponent(top))
        add_moments(scaled, np.array(weights, np.float64), found.weights, found.sums)
        return found

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    @property
    def unit(self) -> Array:
        """The power of two that is not above ``top``, or one."""
        return np.ldexp(1.0, _exponent(self.top))

    def mean_and_square(self) -> tuple[Array, Array]:
        """Return the means and the mean square deviations from them, in `unit` and its square."""
        mean, little = _over(*self.sums[:2], *self.weights)
        square, rest = _over(*self.sums[2:], *self.weights)
        of_mean, error = _product(mean, mean)
        square = np.maximum((square - of_mean) + (rest - error - 2.0 * mean * little), 0.0)
        return mean + little, square

    def merged(self, other: "Moments") -> "Moments":
        """Return the moments of both."""
        top = np.maximum(self.top, other.top)
        weights, sums = np.zeros((2, 1)), np.zeros((4, len(top)))
        for one in (self, other):
            down = _exponent(one.top) - _exponent(top)
            for total, term in (
                (weights, one.weights[:, None]),
                (sums[:2], np.ldexp(one.sums[:2], down)),
                (sums[2:], np.ldexp(one.sums[2:], 2 * down)),
            ):
                add_twofold(total[0], total[1], term[0])
                total[1] += term[1]
        return Moments(weights[:, 0], top, sums)

    @staticmethod
    def total(parts: "list[Moments]") -> "Moments":
        """Return the moments of all parts, merged in their order."""
        return reduce(Moments.merged, parts)


def _exponent(top: Array) -> NDArray[np.int32]:
    return np.where(top > 0.0, np.frexp(top)[1] - 1, 0).astype(np.int32)


def _product(x: Array, y: Array) -> tuple[Array, Array]:
    """Return ``x y`` and its rounding error, for numbers of moderate size."""
    big = _SPLIT * x
    x1 = big - (big - x)
    big = _SPLIT * y
    y1 = big - (big - y)
    x2, y2 = x - x1, y - y1
    product = x * y
    return product, ((x1 * y1 - product) + x1 * y2 + x2 * y1) + x2 * y2


def _over(high: Array, low: Array, weight: float, little: float) -> tuple[Array, Array]:
    """Return a sum over the weight, in two parts each; zero over no weight."""
    if weight == 0.0:
        return np.zeros_like(high), np.zeros_like(high)
    quotient: Array = (high + low) / (weight + little)
    product, error = _product(quotient, np.full_like(quotient, weight))
    rest = (high - product) - error + low - quotient * little
    return quotient, rest / weight
