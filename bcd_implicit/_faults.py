"""Notes that say which columns or targets are at fault when scikit-learn refuses data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._missing import is_pandas_na

from bcd_implicit._matrices import is_sparse

__all__ = ["naming_faults"]

_NAMED = 5  # columns at fault


@contextmanager
def naming_faults(X: Any, y: Any, *, numeric_targets: bool) -> Iterator[None]:
    """Add notes to an error about data: which columns hold no numbers, or not everywhere.

    Parameters
    ----------
    X : array-like or data frame of shape (m, p)
    y : array-like
    numeric_targets : bool
        Whether targets have to be numbers.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if numeric_targets and _holds_text(y):
            error.add_note(
                "y holds text or objects: ImplicitRegressor fits numbers, ImplicitClassifier labels"
            )
        for fault, columns in _faults(X).items():
            more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
            error.add_note(f"columns of X with {fault}: {columns[:_NAMED]}{more}")
        raise


def _faults(X: Any) -> dict[str, list[Any]]:
    """Return the columns with each kind of fault; those of a data frame by their names."""
    if is_sparse(X):
        return {}
    names = list(getattr(X, "columns", ()))
    in_place = hasattr(X, "iloc")  # pandas
    if not in_place and not isinstance(X, np.ndarray):
        try:
            X = np.asarray(X, dtype=object)
        except ValueError:  # rows of several lengths
            return {}
    if X.ndim != 2:
        return {}
    text, missing = [], []
    columns = X.iloc if in_place else X
    for j, name in enumerate(names or range(X.shape[1])):
        values = np.asarray(columns[:, j])
        if _holds_text(values):
            text.append(name)
        elif values.dtype.kind in "fO" and not np.isfinite(_numbers(values)).all():
            missing.append(name)
    faults = {
        "text, dates or objects, which must be encoded (pandas.get_dummies, OneHotEncoder)": text,
        "NaN or infinity": missing,
    }
    return {fault: names for fault, names in faults.items() if names}


def _holds_text(values: Any) -> bool:
    """Whether some of the values are neither numbers nor can be read as such."""
    array = np.asarray(values)
    if array.dtype.kind not in "OSU":
        return array.dtype.kind in "mM"
    try:
        _numbers(array)
    except (TypeError, ValueError):
        return True
    return False


def _numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values as floating-point numbers; NA of pandas is none."""
    if values.dtype.kind == "O":
        values = np.where([is_pandas_na(value) for value in values.flat], np.nan, values.ravel())
    return values.astype(np.float64)
