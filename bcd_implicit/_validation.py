"""What enters and leaves an estimator: data that are checked, and predictions."""

import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    _check_feature_names,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from bcd_implicit._matrices import check_dense, is_sparse
from bcd_implicit.encoded import in_parts, is_table, table_of
from bcd_implicit.model import ImplicitModel
from bcd_implicit.tables import Table

__all__ = ["ValidatingEstimator"]

Array = NDArray[np.float64]


class ValidatingEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Checks of data in memory and in tables, and the outputs of the model for them."""

    model_: ImplicitModel

    def _validated(self, X: Any, y: Any, **y_options: Any) -> tuple[Any, Any]:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], **y_options
        )
        check_dense("y", y)  # scikit-learn lets it through where there may be several outputs
        if is_sparse(X) and not X.has_canonical_format:
            X = X.copy()  # the caller's
            X.sum_duplicates()  # equal rows are known by their entries
        return X, y

    def _weights(self, X: Any, sample_weight: Any) -> Array:
        """Return weights that may be written to."""
        weights: Array = _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True, copy=True
        )
        if not np.isfinite(weights).all():  # scikit-learn does not look at a single number
            raise ValueError("sample_weight must be finite; got NaN or infinity")
        if not weights.any():
            raise ValueError("sample_weight must not be zero everywhere; got only zeros")
        return weights

    def _weights_of_rows(self, X: Any, sample_weight: Any) -> Any:
        """Return weights that can be indexed by rows, and scores take: those of a table, or None.

        A single number becomes an array.
        """
        if sample_weight is None or is_table(X):
            return sample_weight
        return self._weights(X, sample_weight)

    def _table(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Table]:
        """Return inputs that are read part by part, and the table of them and the rest."""
        array, table = table_of(X, y, sample_weight)
        # of a Dask data frame an empty one has the names
        _check_feature_names(self, getattr(X, "_meta", np.empty((0, array.shape[1]))), reset=True)
        self.n_features_in_ = array.shape[1]
        return array, table

    def _in_parts(self, method: str, X: Any) -> Any:
        """Apply a method that predicts to inputs that are read part by part."""
        check_is_fitted(self)
        _check_feature_names(self, getattr(X, "_meta", None), reset=False)
        plain = copy.copy(self)  # without what predictions do not need
        plain.history_, plain.path_, plain.callback = [], [], None
        if hasattr(plain, "feature_names_in_"):
            del plain.feature_names_in_
        return in_parts(getattr(plain, method), X, self.n_features_in_)

    def _decision(self, X: Any) -> Array:
        check_is_fitted(self)
        ready = self._ready(X)
        if not ready:
            X = self._checked(X)
        try:
            return np.asarray(self.model_.predict(X), dtype=np.float64)
        except ValueError:
            if ready:
                self._checked(X)  # says what is wrong with X as scikit-learn does
            raise

    def _checked(self, X: Any) -> Any:
        dtypes = [np.float64, np.float32]
        return validate_data(self, X, accept_sparse="csr", dtype=dtypes, reset=False)

    def _ready(self, X: Any) -> bool:
        """Whether the model can take X as it is: validation costs twice the prediction of a row.

        The model itself refuses NaN and infinity.
        """
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and len(X) > 0
            and X.shape[1] == self.n_features_in_
            and X.dtype in (np.float64, np.float32)
            and not hasattr(self, "feature_names_in_")
        )
