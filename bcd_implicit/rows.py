"""Which rows are used, and in which order: equal data must give equal fits.

Rows without weight are dropped. Equal rows with equal targets are merged and their weights added,
and the rows are put in the order of their bytes; thereby a weight of k is exactly k copies of the
row, and the order of the rows does not matter. Beyond `MERGED_ROWS` rows this would cost more than
it is worth and the rows are taken as they come.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray

__all__ = ["FOLDS", "MERGED_ROWS", "canonical_rows", "fold_rows"]

Array = NDArray[np.float64]

MERGED_ROWS = 50_000
FOLDS = 4


def canonical_rows(U: Any, Y: Array, weights: Array) -> tuple[IntArray, Array]:
    """Return the rows to use, in a canonical order, and the weights of all rows after merging.

    Examples
    --------
    >>> U, Y = np.array([[2.0], [1.0], [2.0], [3.0]]), np.zeros((4, 1))
    >>> canonical_rows(U, Y, np.array([1.0, 1.0, 2.0, 0.0]))
    (array([0, 1]), array([3., 1., 0., 0.]))
    """
    used = np.flatnonzero(weights > 0.0)
    if len(used) > MERGED_ROWS:
        return used, weights
    keys = [_bytes(U, Y, int(row)) for row in used]
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
    rows: IntArray, labels: IntArray | None, rng: np.random.Generator, most: int
) -> list[tuple[IntArray, IntArray]]:
    """Return pairs of a training and a validation part, of at most ``most`` rows together.

    There are `FOLDS` pairs; the validation parts are disjoint and hold every row once. With
    labels, every class is split in the same proportion; the row of a class that has only one is
    in all training parts. A pair whose validation part would be empty is left out.
    """
    classes = np.zeros(len(rows), dtype=np.intp) if labels is None else labels[rows]
    shuffled = rng.permutation(len(rows))[:most]
    fold = np.full(len(rows), FOLDS)
    dealt = 0
    for label in np.unique(classes[shuffled]):
        members = shuffled[classes[shuffled] == label]
        if len(members) > 1:
            fold[members] = (dealt + np.arange(len(members))) % FOLDS
            dealt += len(members)
    used = np.sort(shuffled)
    chosen = [fold[used] == f for f in range(FOLDS)]
    return [(rows[used[~inside]], rows[used[inside]]) for inside in chosen if inside.any()]


def _bytes(U: Any, Y: Array, row: int) -> bytes:
    """Bytes of a row and its target, most significant first; sorting by them means nothing."""
    if isinstance(U, np.ndarray):
        inputs = U[row] + 0.0  # no negative zeros
        return bytes(Y[row].tobytes() + inputs.tobytes())
    inside = slice(U.indptr[row], U.indptr[row + 1])
    indices, values = U.indices[inside], U.data[inside]
    kept = np.flatnonzero(values)
    kept = kept[np.argsort(indices[kept], kind="stable")]
    return bytes(
        Y[row].tobytes() + indices[kept].astype(np.int64).tobytes() + values[kept].tobytes()
    )
