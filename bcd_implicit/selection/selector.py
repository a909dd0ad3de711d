"""Selection of a given number of inputs, or of as many as it takes."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._typing import IntArray
from bcd_implicit.encoded import some_columns
from bcd_implicit.fitting import SEARCH_ROWS
from bcd_implicit.prepared import Prepared
from bcd_implicit.selection._meta import GroupSelector, Sample, check_count
from bcd_implicit.selection._template import search_fitter
from bcd_implicit.selection.elimination import best_groups

__all__ = ["ImplicitFeatureSelector"]

_DEALS = 2  # of the rows into folds, where eliminations do not agree


class ImplicitFeatureSelector(GroupSelector):
    """Select inputs by nonlinear backward elimination, or automatically.

    Parameters
    ----------
    estimator : ImplicitRegressor or ImplicitClassifier
        Its parameters are those of all fits, except for ``alpha`` and ``l2``; ``max_iter`` and
        ``tol`` are those of ``estimator_`` alone, and so is ``l2`` if that chooses its ``alpha``.
    n_features_to_select : int or "auto", default="auto"
        Exactly so many inputs are selected, whatever the data: when fewer are of any use, those
        that repeat them tend to come next, then those with the largest gradients, then the first.
        With groups of inputs it is the number of groups. "auto" selects as ``alpha="auto"`` of the
        estimator does.
    refit_alpha : float or "auto", default="auto"
        Strength of both penalties of ``estimator_`` after a given number was selected. "auto"
        chooses as ``alpha="auto"`` of the estimator does, among the selected inputs: the model may
        be linear, or leave some of them unused. With few rows a weak strength is far worse: log
        losses of 1.7 to 2.5 instead of 0.5 (200 rows, five inputs). A number saves the time of the
        choice where only the inputs are wanted. Of inputs that are not standardised it is measured
        in a unit of about their median deviation.

    Attributes
    ----------
    support_ : ndarray of bool, shape (p,)
    ranking_ : ndarray of int, shape (p,)
        1 for the selected inputs. After a given number the others count on from 2, those that
        would come next first; after "auto" all of them are 2.
    estimator_ : ImplicitRegressor or ImplicitClassifier
        Fitted to the selected inputs alone; None if there are none.
    groups_ : ndarray of int, shape (p,)
        Number of the group of every input.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    How the inputs are ranked, and what lost: `bcd_implicit.selection.elimination`.

    Examples
    --------
    >>> from bcd_implicit import ImplicitRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((400, 10))
    >>> y = X[:, 2] * X[:, 7]
    >>> model = ImplicitRegressor(8, random_state=0)
    >>> selector = ImplicitFeatureSelector(model, n_features_to_select=2)
    >>> selector.fit(X, y).get_support(indices=True)
    array([2, 7])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GroupSelector._parameter_constraints,
        "n_features_to_select": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "refit_alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: ImplicitEstimator,
        *,
        n_features_to_select: int | str = "auto",
        refit_alpha: float | str = "auto",
    ) -> None:
        self.estimator = estimator
        self.n_features_to_select = n_features_to_select
        self.refit_alpha = refit_alpha

    def fit(
        self, X: Any, y: Any, sample_weight: ArrayLike | None = None
    ) -> "ImplicitFeatureSelector":
        """Select inputs.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like
            Targets as the estimator takes them.
        sample_weight : array-like of shape (m,), optional
            Nonnegative; a weight of k counts like k equal rows.

        Returns
        -------
        ImplicitFeatureSelector

        Raises
        ------
        ValueError
            If a parameter or the data are out of range; the selector stays as it was.
        """
        self._fit(X, y, sample_weight)
        return self

    def _select(self, sample: Sample) -> dict[str, Any]:
        template, labels = sample.template, sample.labels
        alpha: float | str
        l2: float | str
        if self.n_features_to_select == "auto":
            automatic = clone(template).set_params(alpha="auto", warm_start=False)
            automatic.fit(sample.data.X, sample.y, sample.sample_weight)
            template.set_params(checkpoint=None, resume=False)  # the file is of that fit
            support, ranking = automatic.support_, np.where(automatic.support_, 1, 2)
            alpha, l2 = automatic.alpha_, automatic.l2_
        else:
            k = int(self.n_features_to_select)
            check_count("n_features_to_select", k, sample.n_groups)
            prepared = template._prepared(sample.data)
            alpha, l2 = self.refit_alpha, template.l2
            if not isinstance(alpha, str):
                alpha, l2 = float(alpha) * prepared.scaling.unit, float(alpha)
            place = np.empty(sample.n_groups, dtype=np.intp)
            place[_ranked_groups(template, prepared, k)] = np.arange(sample.n_groups)
            ranking = np.maximum(place - k + 2, 1)[labels]
            support = ranking == 1
        refitted = None
        if support.any():
            groups = None if template.groups is None else labels[support]
            refitted = clone(template).set_params(alpha=alpha, l2=l2, groups=groups)
            X = some_columns(sample.data.X, np.flatnonzero(support))
            refitted.fit(X, sample.y, sample.sample_weight)
        return {"support_": support, "ranking_": ranking, "estimator_": refitted}


def _ranked_groups(template: ImplicitEstimator, prepared: Prepared, k: int) -> IntArray:
    """Return all groups, the best k first."""
    fitter = search_fitter(template, prepared)
    deals = (prepared.search_parts(fitter.rng, SEARCH_ROWS).folds for _ in range(_DEALS))
    return best_groups(fitter, k, deals)
