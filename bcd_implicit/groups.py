"""Groups of inputs: from labels, or from the transformer that made the columns."""

import copy
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OneToOneFeatureMixin
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils.validation import check_is_fitted

from bcd_implicit._typing import IntArray

__all__ = ["group_codes", "input_groups"]


def input_groups(transformer: Any) -> NDArray[np.object_]:
    """Return one label for each output column of a fitted transformer, equal within a variable.

    The columns that a `OneHotEncoder` makes of one variable share a label, also inside a
    `ColumnTransformer` or as the last step of a `Pipeline`. Every other column has its own.

    Parameters
    ----------
    transformer : OneHotEncoder, ColumnTransformer, Pipeline or any other transformer, fitted

    Returns
    -------
    ndarray of str, shape (p,)

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the transformer has not been fitted.

    Examples
    --------
    >>> encoder = OneHotEncoder().fit([["red", "S"], ["green", "L"], ["blue", "L"]])
    >>> input_groups(encoder).tolist()
    ['x0', 'x0', 'x0', 'x1', 'x1']
    """
    check_is_fitted(transformer)
    return np.array(_labels(transformer, None), dtype=object)


def _labels(transformer: Any, names: Sequence[str] | None) -> list[str]:
    """Return a label for every column; ``names`` are the inputs, if they are known."""
    if isinstance(transformer, OneHotEncoder):
        # named after its variable alone, a column's name is its group, whatever was dropped or
        # pooled; the transformer itself stays as it is
        named = copy.copy(transformer).set_params(feature_name_combiner=_variable)
        return [str(name) for name in named.get_feature_names_out(names)]
    if isinstance(transformer, FrozenEstimator):
        return _labels(transformer.estimator, names)
    if isinstance(transformer, Pipeline):
        if len(transformer) == 1:
            return _labels(transformer[0], names)
        if isinstance(transformer[-1], OneToOneFeatureMixin):
            return _labels(transformer[:-1], names)
        return _labels(transformer[-1], list(transformer[:-1].get_feature_names_out(names)))
    if isinstance(transformer, ColumnTransformer):
        return _of_columns(transformer)
    outputs = transformer.get_feature_names_out(None if names is None else list(names))
    return [str(name) for name in outputs]


def _variable(variable: str, category: object) -> str:
    return variable


def _of_columns(transformer: ColumnTransformer) -> list[str]:
    """Return the labels of a ColumnTransformer, block by block of its output."""
    labels = [str(name) for name in transformer.get_feature_names_out()]
    for name, part, _ in transformer.transformers_:
        where = transformer.output_indices_[name]
        if where.stop > where.start:
            labels[where] = [f"{name}__{label}" for label in _labels(part, None)]
    return labels


def group_codes(groups: Any, p: int) -> IntArray | None:
    """Return numbers of groups, in the order in which they first occur; None without groups.

    Parameters
    ----------
    groups : array-like of p labels, fitted transformer or None
    p : int
        Number of inputs.

    Raises
    ------
    ValueError
        If there is not one label for each input.

    Examples
    --------
    >>> group_codes(["b", "a", "b"], 3)
    array([0, 1, 0])
    """
    if groups is None:
        return None
    is_transformer = hasattr(groups, "fit") and hasattr(groups, "transform")
    try:
        labels: ArrayLike = input_groups(groups) if is_transformer else groups
    except NotFittedError as error:
        error.add_note(
            "groups must be fitted, and selectors and cross-validation clone it, which unfits it: "
            "give input_groups(encoder) or FrozenEstimator(encoder) of the fitted one"
        )
        raise
    column = np.asarray(labels, dtype=object)
    try:
        if column.ndim != 1:  # of a dict its keys would be taken for labels, all of them different
            raise TypeError
        given: list[Hashable] = column.tolist()
        numbers = {label: code for code, label in enumerate(dict.fromkeys(given))}
    except TypeError as error:
        raise ValueError(f"groups must hold one label for each input; got {groups!r}") from error
    # NaN are one label of a list, and several of an array
    if any(label is None or is_scalar_nan(label) or is_pandas_na(label) for label in given):
        raise ValueError(f"groups must hold one label for each input, none missing; got {groups!r}")
    if len(given) != p:
        raise ValueError(f"groups must hold one label for each of the {p} inputs; got {len(given)}")
    return np.array([numbers[label] for label in given], dtype=np.intp)
