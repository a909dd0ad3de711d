"""Checked data with coded targets, in memory or in a table."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._matrices import check_dense
from bcd_implicit._typing import IntArray
from bcd_implicit.coding import Coding
from bcd_implicit.losses import Loss
from bcd_implicit.prepared import Prepared, PreparedData
from bcd_implicit.problem import TrainingProblem
from bcd_implicit.streamed import StreamedData
from bcd_implicit.tables import StoredTable, Table, View, is_stored

__all__ = [
    "Encoded",
    "EncodedData",
    "EncodedTable",
    "in_memory",
    "in_parts",
    "is_table",
    "some_columns",
    "some_rows",
    "table_of",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Encoded(ABC):
    """Data that have been checked, and whose targets are as the loss wants them.

    Attributes
    ----------
    X : array-like of shape (m, p)
        The inputs as they were given.
    loss : Loss
    """

    X: Any
    loss: Loss

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return int(self.X.shape[1])

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Number of outputs."""

    @property
    @abstractmethod
    def weight(self) -> float:
        """Sum of the weights: the number of rows without any."""

    @abstractmethod
    def classes(self, y: Any) -> IntArray | None:
        """Return the codes of the classes of all rows, of which ``y`` are the labels."""

    @abstractmethod
    def prepared(self, problem: TrainingProblem, **options: Any) -> Prepared:
        """Make the data ready for training; options as of `PreparedData.of`."""


@dataclass(frozen=True)
class EncodedData(Encoded):
    """Inputs (m, p), targets (m, q) and weights (m,) in memory.

    ``labels`` are the codes of classes, by which the rows are stratified.
    """

    Y: Array
    weights: Array
    labels: IntArray | None = None

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        q: int = self.Y.shape[1]
        return q

    @property
    def weight(self) -> float:
        """Sum of the weights: the number of rows without any."""
        return float(self.weights.sum())

    def classes(self, y: Any) -> IntArray | None:
        """Return the codes of the classes of all rows."""
        del y  # known from the start
        return self.labels

    def prepared(self, problem: TrainingProblem, **options: Any) -> Prepared:
        """Make the data ready for training; options as of `PreparedData.of`."""
        return PreparedData.of(self.X, self.Y, self.weights, problem, labels=self.labels, **options)


@dataclass(frozen=True)
class EncodedTable(Encoded):
    """A table, how its targets are coded, and the sum of its weights."""

    table: Table
    coding: Coding
    total: float

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self.coding.n_outputs

    @property
    def weight(self) -> float:
        """Sum of the weights: the number of rows without any."""
        return self.total

    def classes(self, y: Any) -> IntArray | None:
        """Return the codes of the classes of all rows, of which ``y`` are the labels."""
        return None if self.coding.classes is None else self.coding.codes(y)

    def prepared(self, problem: TrainingProblem, **options: Any) -> Prepared:
        """Make the data ready for training; options as of `PreparedData.of`."""
        return StreamedData.of(self.table, self.coding, problem, **options)


def is_table(X: Any) -> bool:
    """Whether inputs are read part by part: in files, or Dask collections."""
    return is_stored(X) or hasattr(X, "__dask_graph__")


def table_of(X: Any, y: Any, sample_weight: Any) -> tuple[Any, Table]:
    """Return the inputs as an array of whole rows, and the table of all three.

    Raises
    ------
    ValueError
        If a shape or a dtype does not fit.
    """
    if y is None:
        raise ValueError("y must hold a target for each row of X; got None")
    check_dense("y", y)
    y, sample_weight = _plain_numbers(y), _plain_numbers(sample_weight)
    for name, values, most in (("y", y, 2), ("sample_weight", sample_weight, 1)):
        if np.ndim(values) > most:
            raise ValueError(f"{name} must have at most {most} dimensions; got {np.ndim(values)}")
    if hasattr(X, "__dask_graph__"):
        # an extra: only those who have such data need it
        from bcd_implicit.dask_tables import DaskTable, chunks_by_rows

        X = chunks_by_rows(X)
        _refuse_other_chunks(X)
        return X, DaskTable(X, y, sample_weight)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(
            f"X must be two-dimensional and hold real numbers; got {X.shape} and {X.dtype}"
        )
    # before their shapes are asked for, which those of Dask collections may not tell
    y, sample_weight = (
        values if values is None or is_stored(values) else np.asarray(values)
        for values in (y, sample_weight)
    )
    for name, values in (("y", y), ("sample_weight", sample_weight)):
        if values is not None and values.shape[:1] != X.shape[:1]:
            raise ValueError(f"{name} must have {X.shape[0]} rows, as X has; got {values.shape}")
    return X, StoredTable(X, y, sample_weight)


def _plain_numbers(values: Any) -> Any:
    """Return a column of nullable numbers as floats, as scikit-learn has those in memory.

    To NumPy they are objects, which are no labels.
    """
    dtype = getattr(values, "dtype", None)
    nullable = not isinstance(dtype, np.dtype) and getattr(dtype, "kind", "O") in "fiub"
    return values.astype(np.float64) if nullable else values


def in_memory(*values: Any) -> list[NDArray[Any] | None]:
    """Return arrays, also of what is stored or lazy; None stays None."""
    return [None if some is None else np.asarray(some) for some in values]


def some_rows(X: Any, rows: IntArray) -> Any:
    """Return some rows of inputs, copied only if they are in memory."""
    return View(X, rows, None) if is_stored(X) else X[rows]


def some_columns(X: Any, columns: IntArray) -> Any:
    """Return some columns of inputs, copied only if they are in memory."""
    return View(X, None, columns) if is_stored(X) else X[:, columns]


def in_parts(predict: Any, X: Any, p: int) -> Any:
    """Apply a prediction to inputs that are read part by part; of Dask collections lazily."""
    array = X.to_dask_array() if hasattr(X, "to_dask_array") else X
    if array.ndim != 2 or array.shape[1] != p:
        raise ValueError(f"X must have {p} features; got shape {array.shape}")
    if not hasattr(X, "__dask_graph__"):
        parts = StoredTable(X, np.empty(0)).inputs()
        return np.concatenate([predict(part) for part in parts] or [predict(X[:0])])
    _refuse_other_chunks(array)
    if array.numblocks[1] > 1:
        array = array.rechunk({1: -1})
    like = predict(np.zeros((1, p)))
    some = partial(_of_rows, predict, like)
    if like.ndim == 1:
        return array.map_blocks(some, drop_axis=1, dtype=like.dtype)
    chunks = (array.chunks[0], (like.shape[1],))
    return array.map_blocks(some, chunks=chunks, dtype=like.dtype)


def _refuse_other_chunks(array: Any) -> None:
    """Raise ValueError if chunks are known not to be plain arrays: NumPy drops masks at will."""
    chunk = array._meta
    if not isinstance(chunk, np.ndarray) or isinstance(chunk, np.ma.MaskedArray):
        raise ValueError(
            "X must have chunks that are plain NumPy arrays, neither sparse nor masked; got "
            f"{type(chunk).__name__}"
        )


def _of_rows(predict: Any, like: NDArray[Any], rows: Any) -> Any:
    """Apply a prediction to a chunk, of which a filter may have left no rows."""
    return predict(rows) if len(rows) else like[:0]
