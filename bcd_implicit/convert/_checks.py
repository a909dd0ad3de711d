"""Checks of what is converted: arrays of the right shape, and numbers of layers."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bcd_implicit._matrices import check_shape

__all__ = ["array_of", "check_least"]


def array_of(name: str, given: ArrayLike, *shape: int | None) -> NDArray[np.float64]:
    """Return an array of float64, of any length along an axis where ``shape`` is None.

    Raises
    ------
    ValueError
        If it has another shape.
    """
    array = np.asarray(given, dtype=np.float64)
    check_shape(name, array.shape, *shape)
    return array


def check_least(name: str, given: Any, least: int) -> None:
    """Raise ValueError unless it is a whole number, ``least`` or more."""
    if not isinstance(given, Integral) or given < least:
        raise ValueError(f"{name} must be at least {least}, and whole; got {given!r}")
