"""Where rows are cut: into blocks that stay in the cache, and into parts that are whole blocks.

Of many rows, which are taken as they come, a block is a range of the numbers of the rows that is a
multiple of a power of two. Parts that begin at such multiples are cut as the whole is: sums over
blocks are then the same, to the bit, for any parts.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bcd_implicit._typing import IntArray

__all__ = ["Cut", "aligned_rows", "block_rows", "block_slices", "part_cuts"]

_BLOCK_ENTRIES = 2**18  # of the inputs of a block, 2 MB: stays in the cache, fills a BLAS call
_BLOCK_ROWS = (256, 8192)
_ALIGNED_ENTRIES = 2**21  # of the inputs of the rows of which parts are multiples, 16 MB
_LONG = 4  # times these rows: shorter chunks are parts as they are


def block_rows(n_inputs: int) -> int:
    """Return how many rows a block has.

    Examples
    --------
    >>> block_rows(1), block_rows(50), block_rows(5000)
    (8192, 4096, 256)
    """
    return _power_of_two(_BLOCK_ENTRIES, n_inputs)


def aligned_rows(n_inputs: int) -> int:
    """Return of how many rows the parts of a table of so many inputs should be multiples.

    Examples
    --------
    >>> aligned_rows(50), aligned_rows(1000)
    (8192, 2048)
    """
    return _power_of_two(_ALIGNED_ENTRIES, n_inputs)


def block_slices(n_rows: int, size: int, order: IntArray | None) -> list[slice]:
    """Cut rows into blocks.

    Parameters
    ----------
    n_rows : int
    size : int
        Of a block.
    order : ndarray of int, optional
        The numbers of the rows in use, rising: a block holds those between two multiples of
        ``size``. Without it, all rows are in use.

    Examples
    --------
    >>> block_slices(5, 2, None)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    >>> block_slices(3, 4, np.array([3, 4, 9]))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    bounds = np.append(np.arange(0, n_rows, size), n_rows)
    if order is not None and n_rows:
        multiples = np.arange(0, int(order[-1]) + size + 1, size)
        bounds = np.unique(np.searchsorted(order, multiples))
    return [slice(*map(int, ends)) for ends in pairwise(bounds)]


class Cut(NamedTuple):
    """A part: rows from ``start`` to ``stop`` of all, of which the first is in ``chunk``."""

    chunk: int
    start: int
    stop: int


def part_cuts(chunks: tuple[int, ...], size: int) -> list[Cut]:
    """Cut rows that lie in chunks into parts, at multiples of ``size``.

    The rows of a multiple in which a chunk ends are a part of their own. Where chunks are short
    these would be a large share of all: parts are then the chunks.

    Examples
    --------
    >>> [tuple(cut) for cut in part_cuts((18, 18, 1), 4)]
    [(0, 0, 16), (0, 16, 20), (1, 20, 36), (2, 36, 37)]
    >>> [tuple(cut) for cut in part_cuts((10, 10), 4)]
    [(0, 0, 10), (1, 10, 20)]
    """
    ends = [int(end) for end in np.cumsum(chunks)]
    bounds = {0, *ends}
    if min(chunks[:-1], default=_LONG * size) >= _LONG * size:
        bounds = {0, ends[-1]}
        for end in ends[:-1]:
            bounds |= {end - end % size, min(end + -end % size, ends[-1])}
    inside = sorted(bounds)
    owners = np.searchsorted(ends, inside[:-1], side="right")
    return [Cut(int(chunk), *rows) for chunk, rows in zip(owners, pairwise(inside), strict=True)]


def _power_of_two(entries: int, n_inputs: int) -> int:
    low, high = _BLOCK_ROWS
    rows = min(max(entries // max(n_inputs, 1), low), high)
    return 1 << (rows.bit_length() - 1)
