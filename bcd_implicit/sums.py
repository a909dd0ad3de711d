"""Sums over blocks of rows in twice the precision: they do not depend on the order of the blocks.

Rounded to one double, two orders give the same but for one sum in 2^50 or so. Means, products and
losses thereby have the same bits however the rows are shared out, and so have fits, which would
amplify what they differ by.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bcd_implicit.solvers._kernels import add_twofold, sum_twofold

__all__ = ["Largest", "Sums", "Twofold", "added", "made", "twofold", "values"]

Array = NDArray[np.float64]
Sums = TypeVar("Sums", bound=tuple[Any, ...])


class Largest(float):
    """A number of which a sum keeps the largest: a list would grow with the rows.

    Examples
    --------
    >>> float(Largest(2.0) + Largest(3.0))
    3.0
    """

    def __add__(self, other: float, /) -> "Largest":
        """Return the larger one."""
        return Largest(max(self, other))


class Twofold:
    """A sum of arrays of one shape, or of numbers, as two of them that add up to it.

    Parameters
    ----------
    high, low : ndarray of float64
        In C order.

    Notes
    -----
    Source: D. Knuth, "The Art of Computer Programming" 2, 4.2.2, Theorem B.

    Examples
    --------
    >>> total = Twofold.of(1.0)
    >>> total += 1e-20
    >>> total += -1.0
    >>> total.value()
    1e-20
    """

    __slots__ = ("high", "low")

    def __init__(self, high: Array, low: Array) -> None:
        self.high, self.low = high, low

    @classmethod
    def of(cls, term: ArrayLike) -> "Twofold":
        """Return one term, which is copied."""
        high = np.array(term, dtype=np.float64, order="C")
        return cls(high, np.zeros_like(high))

    @classmethod
    def total(cls, terms: Array) -> "Twofold":
        """Return the sum of the entries of a vector."""
        high, low = sum_twofold(_writable(terms))
        return cls(np.array(high), np.array(low))

    def __iadd__(self, other: "Twofold | ArrayLike") -> "Twofold":
        """Add a term or another sum in place."""
        term = _writable(other.high if isinstance(other, Twofold) else other)
        add_twofold(self.high.reshape(-1), self.low.reshape(-1), term)
        if isinstance(other, Twofold):
            self.low += other.low
        return self

    def __add__(self, other: "Twofold") -> "Twofold":
        """Return the sum of both."""
        total = Twofold(self.high.copy(), self.low.copy())
        total += other
        return total

    def __sizeof__(self) -> int:
        """Return the bytes, arrays included: Dask places tasks by them."""
        return object.__sizeof__(self) + self.high.nbytes + self.low.nbytes

    def value(self) -> Any:
        """Return the sum, rounded once."""
        # what rounding took from infinity is not a number
        total = self.high + np.where(np.isfinite(self.high), self.low, 0.0)
        return total if self.high.ndim else float(total)


def twofold(sums: Sums) -> Sums:
    """Return a tuple of sums whose numbers and arrays are kept in twice the precision."""
    return made(sums, [Twofold.of(entry) if _real(entry) else entry for entry in sums])


def added(first: Any, second: Any) -> Any:
    """Add two tuples of sums, entry by entry; None is nothing."""
    if first is None or second is None:
        return second if first is None else first
    return made(first, [one + other for one, other in zip(first, second, strict=True)])


def values(sums: Sums) -> Sums:
    """Undo `twofold`, rounding."""
    return made(sums, [e.value() if isinstance(e, Twofold) else e for e in sums])


def _writable(terms: ArrayLike) -> Array:
    """Return a flat array; read-only ones, as a network gives, would be compiled for once more."""
    return np.require(terms, np.float64, "W").ravel()


def _real(entry: Any) -> bool:
    if isinstance(entry, np.ndarray):
        return bool(entry.dtype == np.float64)
    return isinstance(entry, float) and not isinstance(entry, Largest)


def made(like: Sums, entries: list[Any]) -> Sums:
    """Return a tuple of the type of another one."""
    make: Any = getattr(like, "_make", tuple)
    result: Sums = make(entries)
    return result
