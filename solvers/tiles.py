"""The form of matrices that tiles are multiplied by, four rows and columns at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_blocks"]


def in_blocks(A: NDArray[Any]) -> NDArray[Any]:
    """Return the blocks of four rows and columns of a square matrix, one after the other.

    Blocks of the same rows follow each other, each of them row by row. Zeros fill up the last ones.

    Parameters
    ----------
    A : ndarray of shape (n, n)

    Returns
    -------
    ndarray of shape (w * w,)
        Of the same dtype, ``w`` being ``n`` up to a multiple of four.

    Examples
    --------
    >>> from bcd_implicit.solvers.tiles import in_blocks
    >>> in_blocks(np.arange(25.0).reshape(5, 5))[:20]
    array([ 0.,  1.,  2.,  3.,  5.,  6.,  7.,  8., 10., 11., 12., 13., 15.,
           16., 17., 18.,  4.,  0.,  0.,  0.])
    """
    blocks = -(-len(A) // 4)
    whole = np.zeros((4 * blocks, 4 * blocks), A.dtype)
    whole[: len(A), : len(A)] = A
    return whole.reshape(blocks, 4, blocks, 4).swapaxes(1, 2).ravel()
