"""Stability selection: what is selected again and again on halves of the rows."""

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.parallel import delayed

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._random import drawn_seeds, generator_of
from bcd_implicit._typing import IntArray
from bcd_implicit.encoded import some_rows
from bcd_implicit.fitting import SEARCH_ROWS
from bcd_implicit.selection._meta import RepeatedSelector, Sample, check_count
from bcd_implicit.selection._progress import collect
from bcd_implicit.selection._template import search_fitter
from bcd_implicit.selection.elimination import quick_groups
from bcd_implicit.selection.error_bounds import error_bounds

__all__ = ["StabilitySelection"]

Array = NDArray[np.float64]


class StabilitySelection(RepeatedSelector):
    """Select the inputs that backward elimination keeps on most halves of the rows.

    It is nonlinear, but where the model without states explains a half as well.

    The rows are split in two halves again and again; on each half the same number of inputs is
    selected. The share of the halves that select an input is its selection probability.

    Parameters
    ----------
    estimator : ImplicitRegressor or ImplicitClassifier
        Its parameters are those of all fits, except for ``alpha``, ``l2``, ``max_iter`` and
        ``tol``.
    threshold : float, default=0.75
        Selection probability, above 0.5, from which on an input is selected.
    n_pairs : int, default=25
        Number of splits; there are twice as many fits.
    n_features_per_half : int or "auto", default="auto"
        Inputs, or groups of inputs, that are selected on each half. "auto" is the largest number
        for which the r-concave bound is at most ``false_selections``, and at least one. A half
        whose targets are all the same selects none, and none selects a constant.
    false_selections : float, default=1.0
        See ``n_features_per_half``.
    random_state : int, RandomState or None, default=None
        Seed of the splits and of the fits.
    n_jobs : int or None, default=None
        Fits at a time. The result does not depend on it.
    verbose : int, default=0
        If positive, lines of progress are written, unless scikit-learn's callbacks were set, as in
        ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    selection_probabilities_ : ndarray of shape (p,)
    support_ : ndarray of bool, shape (p,)
    threshold_ : float
        The selection probability by which they were selected.
    n_features_per_half_ : int
    error_bounds_ : dict of float
        Bounds of the expected number of false selections, in groups of inputs; see
        `bcd_implicit.selection.error_bounds`.
    groups_ : ndarray of int, shape (p,)
        Number of the group of every input.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    N. Meinshausen, P. Buehlmann, "Stability selection", J. R. Stat. Soc. B 72 (2010); R. Shah,
    R. Samworth, "Variable selection with error control", J. R. Stat. Soc. B 75 (2013).

    Examples
    --------
    >>> from bcd_implicit import ImplicitRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 12))
    >>> y = np.abs(X[:, 2]) + X[:, 5] + 0.1 * rng.standard_normal(300)
    >>> selector = StabilitySelection(ImplicitRegressor(5), n_pairs=4, random_state=0)
    >>> selector.fit(X, y).get_support(indices=True)
    array([2, 5])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RepeatedSelector._parameter_constraints,
        "threshold": [Interval(Real, 0.5, 1.0, closed="right")],
        "n_pairs": [Interval(Integral, 1, None, closed="left")],
        "n_features_per_half": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "false_selections": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator: ImplicitEstimator,
        *,
        threshold: float = 0.75,
        n_pairs: int = 25,
        n_features_per_half: int | str = "auto",
        false_selections: float = 1.0,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.threshold = threshold
        self.n_pairs = n_pairs
        self.n_features_per_half = n_features_per_half
        self.false_selections = false_selections
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _select(self, sample: Sample) -> dict[str, Any]:
        sample = replace(sample, y=np.asarray(sample.y))  # also of a table: rows go by their places
        n_groups, threshold, pairs = sample.n_groups, float(self.threshold), int(self.n_pairs)
        count = self._count(n_groups)
        rng = generator_of(self.random_state)
        halves = [half for _ in range(pairs) for half in _halves(sample, rng)]
        seeds = drawn_seeds(rng, len(halves))
        fits = (
            delayed(_selected)(
                clone(sample.template).set_params(random_state=seed, n_jobs=1),
                some_rows(sample.data.X, half),
                sample.y[half],
                count,
            )
            for half, seed in zip(halves, seeds, strict=True)
        )
        chosen = collect(self, fits, len(halves), self.n_jobs, sample.data.X, sample.y)
        shares = np.bincount(np.concatenate(chosen), minlength=n_groups) / len(halves)
        return {
            "selection_probabilities_": shares[sample.labels],
            "support_": shares[sample.labels] >= threshold,
            "threshold_": threshold,
            "n_features_per_half_": count,
            "error_bounds_": error_bounds(count, n_groups, threshold, pairs),
        }

    def _count(self, n_groups: int) -> int:
        """Return how many groups each half selects."""
        if self.n_features_per_half != "auto":
            check_count("n_features_per_half", int(self.n_features_per_half), n_groups)
            return int(self.n_features_per_half)

        def bound(count: int) -> float:
            bounds = error_bounds(count, n_groups, float(self.threshold), int(self.n_pairs))
            return bounds["r_concave"]

        low, high = 1, n_groups  # the bound rises with the number
        while low < high:
            middle = (low + high + 1) // 2
            if bound(middle) <= self.false_selections:
                low = middle
            else:
                high = middle - 1
        return low


def _halves(sample: Sample, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return two disjoint halves of the rows; a class of two rows or more is dealt to both.

    Of an odd number of rows one of the largest class is left out.
    """
    m = len(sample.y)
    if m < 2:
        raise ValueError(f"X must have at least 2 samples to be split; got n_samples = {m}")
    rows = rng.permutation(m)
    classes = sample.data.classes(sample.y)
    if classes is not None:
        sizes = np.bincount(classes)
        rows = rows[np.lexsort((classes[rows], sizes[classes[rows]]))]
    even = 2 * (m // 2)
    return np.sort(rows[:even:2]), np.sort(rows[1:even:2])


def _selected(estimator: ImplicitEstimator, X: Any, y: Any, count: int) -> IntArray:
    """Return the groups that one half selects: none if it has a single target."""
    if (y == y[:1]).all():
        return np.zeros(0, dtype=np.intp)
    data = estimator._encode(X, y, None)
    prepared = estimator._prepared(data)
    fitter = search_fitter(estimator, prepared)
    return quick_groups(fitter, count, prepared.search_parts(fitter.rng, SEARCH_ROWS).folds[:1])
