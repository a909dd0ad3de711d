"""The six blocks of a model: checked, in one precision, read-only; dense or sparse as given."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from bcd_implicit._activation import Array
from bcd_implicit._typing import BoolArray, Matrix
from bcd_implicit.exceptions import EquilibriumError

__all__ = [
    "BLOCKS",
    "as_matrices",
    "check_dense",
    "check_finite",
    "check_overflow",
    "check_shape",
    "csr",
    "dense",
    "first_not_finite",
    "is_sparse",
    "used_columns",
    "values",
]

BLOCKS = ("A", "B", "C", "D", "b", "d")


def is_sparse(matrix: Any) -> bool:
    """Return whether it is a matrix of scipy.sparse."""
    return bool(issparse(matrix))


def csr(*given: Any, **options: Any) -> Matrix:
    """Return ``scipy.sparse.csr_array(...)``; its dozens of overloads reject what it accepts."""
    return csr_array(*given, **options)


def dense(matrix: Matrix) -> Array:
    """Return a matrix with its zeros written out."""
    return matrix.toarray() if is_sparse(matrix) else matrix


def values(matrix: Matrix) -> Array:
    """Return the entries of a dense array, or the stored entries of a sparse one."""
    return matrix.data if is_sparse(matrix) else matrix


def first_not_finite(matrix: Matrix) -> int | None:
    """Return the first row that holds NaN or infinity, or None."""
    finite = np.isfinite(values(matrix))
    if finite.all():
        return None
    if is_sparse(matrix):
        return int(np.searchsorted(matrix.indptr, finite.argmin(), side="right")) - 1
    return int(finite.all(axis=1).argmin())


def used_columns(matrix: Matrix) -> BoolArray:
    """Return which columns are not zero."""
    if is_sparse(matrix):
        used: BoolArray = np.bincount(matrix.indices, minlength=matrix.shape[1]) > 0
        return used
    nonzero: BoolArray = np.any(matrix != 0, axis=0)
    return nonzero


def as_matrices(given: dict[str, Any]) -> dict[str, Any]:
    """Return copies of the given blocks; b and d are zero by default.

    Raises
    ------
    ValueError
        If a shape does not fit or an entry is not a finite real number.
    """
    arrays = {
        name: block if is_sparse(block) else np.asarray(block)
        for name, block in given.items()
        if block is not None
    }
    for name, array in arrays.items():
        ndim = 2 if name.isupper() else 1
        if array.ndim != ndim or array.dtype.kind not in "fiu":
            raise ValueError(
                f"{name} must be a {ndim}-dimensional array of real numbers; got shape "
                f"{array.shape} and dtype {array.dtype}"
            )
    single = all(array.dtype == np.float32 for array in arrays.values())
    dtype = np.float32 if single else np.float64
    n, p, q = arrays["A"].shape[0], arrays["B"].shape[1], arrays["C"].shape[0]
    shapes = {"A": (n, n), "B": (n, p), "C": (q, n), "D": (q, p), "b": (n,), "d": (q,)}
    if min(n, p, q) < 1:
        raise ValueError(f"a model needs a state, an input and an output; got {n}, {p}, {q}")
    arrays = {"b": np.zeros(n), "d": np.zeros(q)} | arrays
    return {
        name: _checked(name, arrays[name], shape, dtype, (n, p, q))
        for name, shape in shapes.items()
    }


def check_dense(name: str, values: Any) -> None:
    """Raise ValueError if it is a sparse matrix, which to NumPy is an object without rows."""
    if is_sparse(values):
        raise ValueError(f"{name} must be a dense array; got a sparse one of shape {values.shape}")


def check_finite(name: str, entries: Array) -> None:
    """Raise ValueError unless all entries are finite."""
    if not np.isfinite(entries).all():
        raise ValueError(f"{name} must have finite entries; got NaN or infinity")


def check_overflow(results: Array) -> None:
    """Raise EquilibriumError if a number has overflowed."""
    if not np.isfinite(results).all():
        raise EquilibriumError(
            f"a state or prediction overflows: the inputs are too large for {results.dtype}"
        )


def check_shape(name: str, shape: tuple[int, ...], *wanted: int | None) -> None:
    """Raise ValueError unless it is the wanted one, of any length along an axis where that is None.

    Examples
    --------
    >>> check_shape("K", (2, 3), None, 3)
    >>> check_shape("K", (2, 3), None, 4)
    Traceback (most recent call last):
    ValueError: K must have shape ('any', 4); got (2, 3)
    """
    fits = len(shape) == len(wanted) and all(
        size in (None, own) for size, own in zip(wanted, shape, strict=True)
    )
    if not fits:
        named = tuple("any" if size is None else size for size in wanted)
        raise ValueError(f"{name} must have shape {named}; got {shape}")


def _checked(
    name: str, given: Any, shape: tuple[int, ...], dtype: type, sizes: tuple[int, int, int]
) -> Any:
    """Return a read-only copy of one block."""
    if given.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape} for {sizes[0]} states, {sizes[1]} inputs and "
            f"{sizes[2]} outputs; got {given.shape}"
        )
    if is_sparse(given):
        block = csr(given, dtype=dtype, copy=True)
        block.sum_duplicates()
        block.eliminate_zeros()
        parts = [block.data, block.indices, block.indptr]
    else:
        block = np.array(given, dtype=dtype, order="C")
        parts = [block]
    check_finite(name, values(block))
    for part in parts:
        part.setflags(write=False)
    return block
