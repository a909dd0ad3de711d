"""The shape of matrices that tiles are multiplied by, four rows and columns at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["whole_blocks"]


def whole_blocks(A: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of a square matrix with zeros up to a multiple of four rows and columns.

    Parameters
    ----------
    A : ndarray of shape (n, n)

    Returns
    -------
    ndarray
        Of the same dtype, in C order.

    Examples
    --------
    >>> from bcd_implicit.solvers.tiles import whole_blocks
    >>> whole_blocks(np.ones((5, 5))).shape
    (8, 8)
    """
    size = -(-len(A) // 4) * 4
    wide = np.zeros((size, size), A.dtype)
    wide[: len(A), : len(A)] = A
    return wide
