"""What the selectors share: an implicit estimator inside, and scikit-learn's selector outside."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.encoded import Encoded, is_table
from bcd_implicit.groups import group_codes
from bcd_implicit.selection._progress import Reporting, reporting
from bcd_implicit.selection._template import template_of

__all__ = ["GroupSelector", "RepeatedSelector", "Sample", "check_count"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """An estimator that has coded the data, the data, and the groups of the inputs from 0."""

    template: ImplicitEstimator
    data: Encoded
    y: Any
    sample_weight: Any
    labels: IntArray

    @property
    def n_groups(self) -> int:
        """Number of groups of inputs."""
        return int(self.labels.max()) + 1


class GroupSelector(SelectorMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A selector of groups of inputs by means of an implicit estimator."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"estimator": [HasMethods(["fit"])]}

    estimator: Any
    support_: BoolArray

    def _fit(self, X: Any, y: Any, sample_weight: Any = None) -> None:
        """Check everything, select, and set the attributes, all of them or none."""
        self._validate_params()
        template = template_of(self.estimator)
        data = template._encode(X, y, sample_weight)
        codes = group_codes(template.groups, data.n_inputs)
        labels = np.arange(data.n_inputs) if codes is None else codes
        if not is_table(X):
            y = np.asarray(y)
        found = self._select(Sample(template, data, y, sample_weight, labels))
        found |= {"n_features_in_": template.n_features_in_, "groups_": labels}
        if hasattr(template, "feature_names_in_"):
            found["feature_names_in_"] = template.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        for name, value in found.items():
            setattr(self, name, value)

    def _select(self, sample: Sample) -> dict[str, Any]:
        """Return the attributes that the fit sets."""
        raise NotImplementedError

    def _get_support_mask(self) -> BoolArray:
        check_is_fitted(self, "support_")
        return self.support_

    def transform(self, X: Any) -> Any:
        """Return the selected inputs; of Dask collections lazily.

        Parameters
        ----------
        X : array-like, data frame, CSR matrix or Dask collection of shape (m, p)
        """
        if not is_table(X):
            return super().transform(X)
        places = np.flatnonzero(self._get_support_mask())
        _check_feature_names(self, getattr(X, "_meta", None), reset=False)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(f"X must have {self.n_features_in_} features; got {X.shape[1]}")
        if hasattr(X, "columns"):
            return X[[X.columns[place] for place in places]]
        return X[:, places]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if isinstance(self.estimator, BaseEstimator):
            inner = get_tags(self.estimator)
            tags.input_tags.sparse = inner.input_tags.sparse
            tags.target_tags.multi_output = inner.target_tags.multi_output
        return tags


class RepeatedSelector(Reporting, GroupSelector):
    """A selector by many fits, which come from one seed and report their progress."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GroupSelector._parameter_constraints,
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    @reporting
    def fit(self, X: Any, y: Any) -> Self:
        """Select inputs.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like
            Targets as the estimator takes them.

        Returns
        -------
        RepeatedSelector

        Raises
        ------
        ValueError
            If a parameter or the data are out of range; the selector stays as it was.
        """
        self._fit(X, y)
        return self


def check_count(name: str, k: int, n_groups: int) -> None:
    """Raise ValueError unless there are at least ``k`` groups of inputs."""
    if k > n_groups:
        raise ValueError(
            f"{name} must be at most the number of inputs, or groups of inputs, {n_groups}; got {k}"
        )
