"""The form in which kernels on tiles take a piecewise linear activation."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

__all__ = ["Pieces"]


class Pieces(NamedTuple):
    """A piecewise linear activation, of which a compiled loop skips what it has not.

    Attributes
    ----------
    bend, single : tuple, or None
        Threshold and negative slope in double and in single precision; None if the activation only
        cuts off what lies outside of its range, as a relu does: two operations instead of eight.
    domain : tuple of float
        Its range.

    Examples
    --------
    >>> from bcd_implicit.solvers.pieces import Pieces
    >>> Pieces.of((0.0, 0.0, float("-inf"), float("inf")))
    Pieces(bend=None, single=None, domain=(0.0, inf))
    """

    bend: tuple[float, float] | None
    single: tuple[np.float32, np.float32] | None
    domain: tuple[float, float]

    @classmethod
    def of(cls, par: Iterable[float]) -> "Pieces":
        """Take it from the four parameters of the kernels."""
        threshold, slope, low, high = map(float, par)
        domain = max(low, 0.0) if slope == 0.0 else low, high
        if threshold == 0.0 and slope in (0.0, 1.0):
            return cls(None, None, domain)
        return cls((threshold, slope), (np.float32(threshold), np.float32(slope)), domain)
