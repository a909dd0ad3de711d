"""The passes that come before training: over targets and weights, and over the inputs.

Every entry is checked, and rows that are not as they must be are named.
"""

from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._missing import is_pandas_na
from sklearn.utils.multiclass import check_classification_targets

from bcd_implicit._typing import IntArray
from bcd_implicit.coding import Coding, class_sums
from bcd_implicit.moments import Moments
from bcd_implicit.rows import row_keys
from bcd_implicit.sums import Twofold
from bcd_implicit.tables import Table

__all__ = ["PartRows", "Targets", "look_at_rows", "refuse_missing_labels", "survey_targets"]

Array = NDArray[np.float64]

_NAMED_ROWS = 5  # of those that are at fault


class Targets(NamedTuple):
    """What one pass over targets and weights tells, of one part or of all."""

    labels: NDArray[Any]
    """Distinct targets of the rows in use, if they are labels; sorted."""
    label_weights: list[Twofold]
    """Sum of the weights of the rows that have each of them."""
    unit: float
    """The power of two that is not above the largest weight."""
    weight: float
    """Sum of the weights."""
    n_outputs: int


class PartRows(NamedTuple):
    """What the pass over the inputs tells of the rows of one part."""

    largest: float
    """Of the weights."""
    inputs: Moments
    targets: Moments
    n_used: int
    keys: list[bytes]
    used: IntArray
    weights: Array


def survey_targets(table: Table, *, labels: bool) -> Targets:
    """Check targets and weights, and return what the coding of the targets needs.

    Raises
    ------
    ValueError
        If one of them is not finite or a weight is negative, with the rows; or if targets are not
        labels where they must be.
    """
    parts: list[Targets] = table.map(
        _look_at_targets, [(start, labels) for start in table.starts], inputs=False
    )
    if not parts:
        raise ValueError("X must have at least one row; got none")
    kinds = {part.n_outputs for part in parts}
    if len(kinds) != 1 or kinds == {0}:
        raise ValueError(f"y must have the same number of columns everywhere; got {sorted(kinds)}")
    unit = max(part.unit for part in parts)
    if not unit > 0.0:
        raise ValueError("sample_weight must not be zero everywhere; got only zeros")
    every = np.concatenate([part.labels for part in parts])
    distinct, place = np.unique(every, return_inverse=True)
    sums = [Twofold.of(0.0) for _ in distinct]
    for index, some in zip(place, chain(*(part.label_weights for part in parts)), strict=True):
        sums[index] += some
    if labels:
        check_classification_targets(distinct)
    weight = sum(part.weight for part in parts)
    return Targets(distinct, sums, unit, weight, kinds.pop())


def _look_at_targets(
    _: None, y: NDArray[Any], w: NDArray[Any] | None, start: int, labels: bool
) -> Targets:
    rows = np.arange(start, start + len(y))
    if w is not None:
        if w.dtype.kind == "c":  # NumPy would drop the imaginary part
            raise ValueError(f"sample_weight must hold real numbers; got dtype {w.dtype}")
        weights = np.asarray(w, dtype=np.float64)
        _refuse(~(np.isfinite(weights) & (weights >= 0.0)), rows, "sample_weight", "nonnegative")
        used = weights > 0.0
        y, weights, rows = y[used], weights[used], rows[used]
    else:
        weights = np.ones(len(y))
    top = float(weights.max(initial=0.0))
    size = float(np.ldexp(1.0, np.frexp(top)[1] - 1)) if top else 0.0, float(weights.sum())
    if labels:
        if y.ndim > 1 and y.shape[1] != 1:
            raise ValueError(f"y must hold one label for each row; got {y.shape[1]} columns")
        if y.dtype.kind == "f":
            _refuse(~np.isfinite(np.ravel(y)), rows, "y", "finite")
        refuse_missing_labels(np.ravel(y), rows)
        distinct, place = np.unique(y, return_inverse=True)
        return Targets(distinct, class_sums(place.ravel(), weights, len(distinct)), *size, 1)
    if y.dtype.kind == "c":
        raise ValueError(f"y must hold real numbers; got dtype {y.dtype}")
    values = np.asarray(y, dtype=np.float64)
    if values.ndim == 1:
        values = values[:, None]
    _refuse(~np.isfinite(values).all(axis=1), rows, "y", "finite")
    return Targets(np.empty(0), [], *size, values.shape[1])


def refuse_missing_labels(labels: NDArray[Any], rows: IntArray | None = None) -> None:
    """Raise ValueError with the first of the rows that have no label; they count from zero."""
    if labels.dtype.kind == "O":
        rows = np.arange(len(labels)) if rows is None else rows
        missing = [label is None or is_pandas_na(label) or label != label for label in labels]
        _refuse(np.array(missing, dtype=bool), rows, "y", "given")


def _refuse(wrong: Any, rows: IntArray, name: str, expected: str) -> None:
    """Raise ValueError with the first of the rows that are wrong."""
    faults = rows[wrong]
    if faults.size:
        first = ", ".join(map(str, faults[:_NAMED_ROWS]))
        more = f" and {faults.size - _NAMED_ROWS} more nearby" if faults.size > _NAMED_ROWS else ""
        raise ValueError(f"{name} must be {expected}; it is not in rows {first}{more}")


def look_at_rows(
    U: NDArray[Any],
    y: NDArray[Any],
    w: NDArray[Any] | None,
    start: int,
    coding: Coding,
    merge: bool,
) -> PartRows:
    """Check the inputs of a part; return their moments, and with ``merge`` keys of the rows."""
    weights = coding.weights(y, w)
    used = np.flatnonzero(weights > 0.0)
    finite = np.isfinite(U).all(axis=1)
    _refuse(~finite, np.arange(start, start + len(U)), "X", "finite, without NaN and infinity")
    Y = coding.targets(y)
    inputs = Moments.total(
        [
            Moments.of(np.asarray(U[i : i + 4096], dtype=np.float64), weights[i : i + 4096])
            for i in range(0, max(len(U), 1), 4096)
        ]
    )
    return PartRows(
        float(weights.max(initial=0.0)),
        inputs,
        Moments.of(Y, weights),
        len(used),
        row_keys(U, Y, used) if merge else [],
        used + start if merge else used[:0],
        weights[used] if merge else weights[:0],
    )
