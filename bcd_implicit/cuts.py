"""Where rows are cut: into blocks that stay in the cache, and into parts that are whole blocks.

Of many rows, which are taken as they come, a block is a range of the numbers of the rows that is a
multiple of a power of two. Parts that begin at such multiples are cut as the whole is: sums over
blocks are then the same, to the bit, for any parts.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from bcd_implicit._typing import IntArray

__all__ = [
    "Cut",
    "aligned_rows",
    "block_rows",
    "block_slices",
    "chunk_runs",
    "part_cuts",
    "shared_rows",
]

_BLOCK_ENTRIES = 2**18  # of the inputs of a block, 2 MB: stays in the cache, fills a BLAS call
_BLOCK_ROWS = (256, 8192)
# Fewer rows cost more to hand to a thread than to work on, in a pass that reads states alone: with
# 784 inputs it takes 1.1 ms instead of 3.0, and a step five sixths of the time.
_USUAL_ROWS = 1024
_MOST_ENTRIES = 2**20  # 8 MB
# Of the inputs of rows that are worth two blocks, for two threads to share: 1,250 rows of 784
# inputs, on which images are begun, then take three quarters of the time.
_SHARED_ENTRIES = 2**19
_ALIGNED_ENTRIES = 2**21  # of the inputs of the rows of which parts are multiples, 16 MB
_LONG = 4  # times these rows has a run of chunks: what runs share is then a small part of all


def block_rows(n_inputs: int) -> int:
    """Return how many rows a block has.

    Examples
    --------
    >>> block_rows(1), block_rows(50), block_rows(784), block_rows(5000)
    (8192, 4096, 1024, 256)
    """
    usual = min(_power_of_two(_MOST_ENTRIES, n_inputs), _USUAL_ROWS)
    return max(_power_of_two(_BLOCK_ENTRIES, n_inputs), usual)


def shared_rows(n_rows: int, n_inputs: int) -> int:
    """Return how many rows a block has among so many: there are two blocks if these are large.

    Examples
    --------
    >>> shared_rows(1000, 100), shared_rows(1250, 784), shared_rows(10000, 784)
    (2048, 625, 1024)
    """
    size = block_rows(n_inputs)
    return min(size, -(-n_rows // 2)) if n_rows * n_inputs >= _SHARED_ENTRIES else size


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
    """A part: rows from ``start`` to ``stop`` of all, of which the first is in ``run``."""

    run: int
    start: int
    stop: int


def chunk_runs(chunks: tuple[int, ...], size: int) -> list[slice]:
    """Join neighbouring chunks into runs, so that each but the last has many times ``size`` rows.

    Examples
    --------
    >>> chunk_runs((18, 18, 1), 4)
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    >>> chunk_runs((10, 10, 3), 4)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    bounds, rows = [0], 0
    for i, length in enumerate(chunks):
        rows += length
        if rows >= _LONG * size or i == len(chunks) - 1:
            bounds.append(i + 1)
            rows = 0
    return [slice(*ends) for ends in pairwise(bounds)]


def part_cuts(runs: list[int], size: int) -> list[Cut]:
    """Cut rows that lie in runs of chunks into parts, at multiples of ``size``.

    The rows of a multiple in which a run ends are a part of their own.

    Examples
    --------
    >>> [tuple(cut) for cut in part_cuts([18, 18, 1], 4)]
    [(0, 0, 16), (0, 16, 20), (1, 20, 36), (2, 36, 37)]
    """
    ends = [int(end) for end in np.cumsum(runs)]
    bounds = {0, ends[-1]}
    for end in ends[:-1]:
        bounds |= {end - end % size, min(end + -end % size, ends[-1])}
    inside = sorted(bounds)
    owners = np.searchsorted(ends, inside[:-1], side="right")
    return [Cut(int(run), *rows) for run, rows in zip(owners, pairwise(inside), strict=True)]


def _power_of_two(entries: int, n_inputs: int) -> int:
    low, high = _BLOCK_ROWS
    rows = min(max(entries // max(n_inputs, 1), low), high)
    return 1 << (rows.bit_length() - 1)
