"""What the two estimators share that choose a strength on the path."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import _raise_for_params

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._typing import IntArray
from bcd_implicit.activations import Activation
from bcd_implicit.selection._folds import ScoredOnFolds
from bcd_implicit.selection._grid import Grid
from bcd_implicit.selection._path_models import PathModels
from bcd_implicit.selection._progress import reporting
from bcd_implicit.selection.criteria import path_criteria
from bcd_implicit.selection.path import fit_path

__all__ = ["PathEstimator"]

Array = NDArray[np.float64]

_UNUSED = ("alpha", "warm_start", "callback", "checkpoint", "checkpoint_every", "resume")
_OWN = ("alphas", "n_alphas", "eps", "cv", "scoring", "criterion", "rule", "path_iter")


class PathEstimator(ScoredOnFolds):
    """Parameters, the path, and the choice on it by cross-validation or a criterion."""

    # what a path has no use for
    alpha = "auto"
    warm_start = False
    callback = None
    checkpoint = None
    checkpoint_every = 10
    resume = False

    _single: ClassVar[type[ImplicitEstimator]]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **{
            name: constraint
            for name, constraint in ImplicitEstimator._parameter_constraints.items()
            if name not in _UNUSED
        },
        "alphas": [None, "array-like"],
        "n_alphas": [Interval(Integral, 2, None, closed="left")],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "scoring": [None, StrOptions(set(get_scorer_names())), callable],
        "criterion": [None, StrOptions({"aic", "bic", "ebic"})],
        "rule": [StrOptions({"min", "1se"})],
        "path_iter": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        n_states: int = 20,
        *,
        alphas: ArrayLike | None = None,
        n_alphas: int = 16,
        eps: float = 1e-2,
        cv: Any = None,
        scoring: Any = None,
        criterion: str | None = None,
        rule: str = "min",
        path_iter: int = 4,
        l2: float | str = "auto",
        kappa: float = 0.95,
        activation: str | Activation = "relu",
        fit_feedthrough: bool = True,
        fit_intercept: bool = True,
        standardize: bool = True,
        groups: Any = None,
        max_iter: int = 500,
        tol: float = 1e-4,
        n_init: int = 1,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_states = n_states
        self.alphas = alphas
        self.n_alphas = n_alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.criterion = criterion
        self.rule = rule
        self.path_iter = path_iter
        self.l2 = l2
        self.kappa = kappa
        self.activation = activation
        self.fit_feedthrough = fit_feedthrough
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.groups = groups
        self.max_iter = max_iter
        self.tol = tol
        self.n_init = n_init
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @reporting
    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None, **params: Any) -> Any:
        """Fit the path, choose a strength and settle on it.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like of shape (m,), for regression also (m, q)
        sample_weight : array-like of shape (m,), optional
            Used by the fits and by the scores of the folds.
        **params : dict
            Metadata for the splitter and the scorer, with scikit-learn's metadata routing enabled.

        Returns
        -------
        object
            The estimator.
        """
        _raise_for_params(params, self, "fit")
        self._validate_params()
        with self._all_or_nothing():
            self._fit_path(X, y, sample_weight, params)
        self._warn()
        return self

    def _fit_path(self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]) -> None:
        data = self._encode(X, y, sample_weight)
        sample_weight = self._weights_of_rows(X, sample_weight)
        y = np.asarray(y)
        if is_classifier(self):
            y = y.ravel()  # a column has been warned about
        template = self._template()
        grid = Grid.checked(self.alphas, self.n_alphas, self.eps, self.path_iter)
        prepared = template._prepared(data)
        validation = None
        if self.criterion is None:
            validation = self._validation(data, y, sample_weight, params)
        elif not np.isfinite(data.weight):
            raise ValueError("sample_weight must have a finite sum where a criterion chooses")
        path = fit_path(template, prepared, X, y, sample_weight, grid)
        candidates = path.candidates(prepared)
        of_folds: list[dict[str, PathModels]] = []
        if self.criterion is not None:
            del candidates["path"]  # with the shrinkage that it has, all inputs pay
            values = [path_criteria(self.criterion, one, data) for one in candidates.values()]
            scores = -np.stack(values, axis=1)[:, None]
        elif validation is not None:
            scores, of_folds = self._fold_scores(path, data, y, validation, template)
        index, kinds = self._chosen(scores, _sizes(candidates, of_folds))
        self._keep_scores(np.take_along_axis(scores, kinds[:, None, None], axis=2)[:, :, 0])
        self.path_, self.index_, self.alphas_ = path, index, path.alphas
        self.kinds_ = np.array(list(candidates))[kinds]
        kind = self.kinds_[index]
        models = candidates[kind]
        if validation is not None and kind != "linear" and len(models.steps[index].columns):
            promised = float(self.cv_scores_[index].mean())
            if self._falls_short(models.estimator(index), promised, data, y, validation):
                # the supports of refits are those of the path
                refits = models if kind == "refit" else None
                among = "path" if kind == "refit" else kind
                others = [fold[among] for fold in of_folds]
                models = candidates[among].rivalled(index, prepared, others, refits)
        settled = models.settled(index, prepared, int(self.max_iter), float(self.tol))
        for name, value in vars(settled).items():
            if (name.endswith("_") and name != "path_") or name == "_outcome":
                setattr(self, name, value)

    def _keep_scores(self, best: Array) -> None:
        """Keep what was chosen by, (strengths, folds); the last fit may have chosen otherwise."""
        for name in ("criterion_values_", "cv_scores_"):
            if hasattr(self, name):
                delattr(self, name)
        if self.criterion is not None:
            self.criterion_values_ = -best[:, 0]
        else:
            self.cv_scores_ = best

    def _template(self) -> ImplicitEstimator:
        """Return the estimator that is fitted at every strength, to the data coded here."""
        shared = {k: v for k, v in self.get_params(deep=False).items() if k not in _OWN}
        template = self._single(**shared, alpha=1.0)
        template.__dict__.update({k: v for k, v in vars(self).items() if k in self._coded})
        return template

    def _chosen(self, scores: Array, sizes: Array) -> tuple[int, IntArray]:
        """Return the place of the strength by the rule, the larger of equals, and the best kinds.

        ``sizes`` are the numbers of inputs of every strength and kind. With one standard error the
        kind at the chosen strength is the one that the rule took.
        """
        means = _means(scores)
        kinds = means.argmax(axis=1)
        index = len(means) - 1 - int(means.max(axis=1)[::-1].argmax())
        folds = scores.shape[1]
        if self.rule == "1se" and folds > 1:
            error = scores[index, :, kinds[index]].std(ddof=1) / np.sqrt(folds)
            good = means >= means[index, kinds[index]] - error
            few = good & (sizes == sizes[good].min())
            index = int(np.flatnonzero(few.any(axis=1))[-1])
            kinds[index] = np.where(few[index], means[index], -np.inf).argmax()
        return index, kinds


def _sizes(all_rows: dict[str, PathModels], of_folds: list[dict[str, PathModels]]) -> Array:
    """Return how many inputs the models of every strength and kind use, (strengths, kinds).

    That is the number of all rows, or the mean of the folds if it is larger: a fit that has lost
    inputs, or holds many of noise, is not what the scores are of.
    """

    def of(candidates: dict[str, PathModels]) -> Array:
        models = (candidates[kind] for kind in all_rows)
        return np.array([[len(step.columns) for step in one.steps] for one in models], float).T

    sizes = of(all_rows)
    return np.maximum(sizes, np.mean([of(one) for one in of_folds], axis=0)) if of_folds else sizes


def _means(scores: Array) -> Array:
    """Return the means over the folds; what is no number is worse than any."""
    means: Array = scores.mean(axis=1)
    return np.where(np.isnan(means), -np.inf, means)
