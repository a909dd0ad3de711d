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

__all__ = ["MERGED_ROWS", "canonical_rows", "split_rows"]

Array = NDArray[np.float64]

MERGED_ROWS = 50_000
_VALIDATION = 0.25


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


def split_rows(
    rows: IntArray, labels: IntArray | None, rng: np.random.Generator, most: int
) -> tuple[IntArray, IntArray]:
    """Return a training and a validation part of at most ``most`` rows together.

    With labels, every class is split in the same proportion; a class with one row goes to the
    training part.
    """
    classes = np.zeros(len(rows), dtype=np.intp) if labels is None else labels[rows]
    shuffled = rng.permutation(len(rows))[:most]
    train: list[IntArray] = []
    validation: list[IntArray] = []
    for label in np.unique(classes[shuffled]):
        members = shuffled[classes[shuffled] == label]
        cut = int(_VALIDATION * len(members))
        validation.append(members[:cut])
        train.append(members[cut:])
    return rows[np.sort(np.concatenate(train))], rows[np.sort(np.concatenate(validation))]


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
