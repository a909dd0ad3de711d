"""Which rows are used, and in which order: equal data must give equal fits.

Rows without weight are dropped. Equal rows with equal targets are merged and their weights added,
and the rows are put in the order of a digest of their inputs, rows of equal inputs in that of their
targets; thereby a weight of k is exactly k copies of the row, and neither the order of the rows nor
the unit of the targets decides which rows are kept back. Beyond `MERGED_ROWS` rows this would cost
more than it is worth and the rows are taken as they come.
"""

import struct
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray

__all__ = [
    "FOLDS",
    "MERGED_ROWS",
    "are_few",
    "canonical_rows",
    "deal",
    "draw",
    "fold_rows",
    "merged_rows",
    "row_keys",
]

Array = NDArray[np.float64]

MERGED_ROWS = 50_000
_GATHERED_ROWS, _GATHERED_ENTRIES = MERGED_ROWS, 2**24  # 128 MB
FOLDS = 4
_MOST_REPEATED = 0.25  # of a validation part: rows of equal inputs that stay together
_FEWEST_INPUTS = 40  # distinct ones: of few categories, a fold would hold some that no other has
_SHUFFLED = 10**6  # more rows are drawn from without a permutation of all


def are_few(rows: int, inputs: int) -> bool:
    """Whether so many rows of a table are read once and kept in memory."""
    return rows <= _GATHERED_ROWS and rows * inputs <= _GATHERED_ENTRIES


def canonical_rows(U: Any, Y: Array, weights: Array) -> tuple[IntArray, Array]:
    """Return the rows to use, in a canonical order, and the weights of all rows after merging.

    Examples
    --------
    >>> U, Y = np.array([[2.0], [1.0], [2.0], [3.0]]), np.zeros((4, 1))
    >>> rows, merged = canonical_rows(U, Y, np.array([1.0, 1.0, 2.0, 0.0]))
    >>> np.sort(rows), merged
    (array([0, 1]), array([3., 1., 0., 0.]))
    """
    used = np.flatnonzero(weights > 0.0)
    if len(used) > MERGED_ROWS:
        return used, weights
    return merged_rows(row_keys(U, Y, used), used, weights)


def row_keys(U: Any, Y: Array, rows: IntArray) -> list[bytes]:
    """Return 40 bytes for each of the rows, equal for equal ones, by which they are sorted.

    They are a digest of the inputs, the first target, in its order, and a digest of all targets.
    """
    keys = []
    for row in rows:
        y = Y[row] + 0.0
        keys.append(_digest(_bytes(U, int(row))) + _ordered(y[0]) + _digest(y.tobytes()))
    return keys


def merged_rows(keys: list[bytes], used: IntArray, weights: Array) -> tuple[IntArray, Array]:
    """Return distinct rows among the used ones in the order of their keys, and all weights."""
    order = sorted(range(len(used)), key=keys.__getitem__)
    rows: list[int] = []
    merged = np.zeros_like(weights)
    last = None
    for index in order:
        if keys[index] != last:
            rows.append(int(used[index]))
            last = keys[index]
        merged[rows[-1]] += weights[used[index]]
    return np.array(rows, dtype=np.intp), merged


def fold_rows(
    U: Any, rows: IntArray, labels: IntArray | None, rng: np.random.Generator, most: int
) -> list[tuple[IntArray, IntArray]]:
    """Return pairs of a training and a validation part, of at most ``most`` rows together.

    There are `FOLDS` pairs; the validation parts are disjoint and hold every row once. With
    labels, every class is split in the same proportion; the row of a class that has only one is
    in all training parts. Without, rows of equal inputs stay together, where rows are merged and
    there are enough distinct ones: of repeated measurements, each would tell about the others.
    Inputs of more than a quarter of a part, such as zeros in all columns, are no repeated
    measurement. A pair whose validation part would be empty is left out.
    """
    shuffled = draw(len(rows), rng, most)
    used = np.sort(shuffled)
    places = np.searchsorted(used, shuffled)
    numbers = None
    if labels is None and len(rows) <= MERGED_ROWS:
        numbers = _equal_inputs(U, rows[used])
    if numbers is not None and len(np.unique(numbers)) >= _FEWEST_INPUTS:
        parts = _deal_together(places, numbers)
    else:
        classes = np.zeros(len(rows), dtype=np.intp) if labels is None else labels[rows]
        parts = deal(places, classes[used])
    return [(rows[used[training]], rows[used[validation]]) for training, validation in parts]


def draw(n: int, rng: np.random.Generator, most: int) -> IntArray:
    """Return at most ``most`` of ``n`` places, shuffled."""
    if n <= _SHUFFLED:
        return rng.permutation(n)[:most]
    return rng.choice(n, most, replace=False)


def deal(shuffled: IntArray, classes: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Deal out all places of ``classes``, in this order; return those of each fold, sorted."""
    fold = np.full(len(classes), FOLDS)
    dealt = 0
    for label in np.unique(classes):
        members = shuffled[classes[shuffled] == label]
        if len(members) > 1:
            fold[members] = (dealt + np.arange(len(members))) % FOLDS
            dealt += len(members)
    return _parts(fold)


def _deal_together(shuffled: IntArray, numbers: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Deal out places in this order, those of equal numbers to the part that has the fewest.

    The numbers of most places come first. Where a number has too many, its places are dealt apart.
    """
    numbers, m = numbers[shuffled], len(shuffled)
    _, number, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    apart = sizes[number] * FOLDS > _MOST_REPEATED * m
    _, first, number, sizes = np.unique(
        np.where(apart, m + np.arange(m), numbers),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    fold_of = np.empty(len(sizes), dtype=np.intp)
    filled = [0] * FOLDS
    for group in np.lexsort((first, -sizes)):
        fewest = filled.index(min(filled))
        fold_of[group] = fewest
        filled[fewest] += int(sizes[group])
    fold = np.empty(m, dtype=np.intp)
    fold[shuffled] = fold_of[number]
    return _parts(fold)


def _parts(fold: IntArray) -> list[tuple[IntArray, IntArray]]:
    """Return the rows outside and inside each fold that has any."""
    chosen = [fold == f for f in range(FOLDS)]
    return [(np.flatnonzero(~inside), np.flatnonzero(inside)) for inside in chosen if inside.any()]


def _equal_inputs(U: Any, rows: IntArray) -> IntArray:
    """Return numbers of the inputs of some rows, the same for equal ones."""
    seen: dict[bytes, int] = {}
    digests = (_digest(_bytes(U, int(row))) for row in rows)
    return np.array([seen.setdefault(digest, len(seen)) for digest in digests], dtype=np.intp)


def _ordered(number: float) -> bytes:
    """Return eight bytes that compare as numbers do."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    bits ^= 2**64 - 1 if bits >> 63 else 2**63
    return bytes(bits.to_bytes(8, "big"))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _bytes(U: Any, row: int) -> bytes:
    """Return the bytes of the inputs of a row, in double precision, without negative zeros."""
    if isinstance(U, np.ndarray):
        return bytes((U[row].astype(np.float64) + 0.0).tobytes())
    inside = slice(U.indptr[row], U.indptr[row + 1])
    indices, values = U.indices[inside], U.data[inside]
    kept = np.flatnonzero(values)
    kept = kept[np.argsort(indices[kept], kind="stable")]
    return bytes(
        indices[kept].astype(np.int64).tobytes() + values[kept].astype(np.float64).tobytes()
    )
