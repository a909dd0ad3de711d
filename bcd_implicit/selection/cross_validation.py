"""Implicit models whose strength is chosen on the path: by cross-validation or a criterion."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.parallel import delayed
from sklearn.utils.validation import _check_method_params

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit.activations import Activation
from bcd_implicit.encoded import Encoded, some_rows
from bcd_implicit.estimators import ImplicitClassifier, ImplicitRegressor
from bcd_implicit.selection._progress import Reporting, collect, reporting
from bcd_implicit.selection.criteria import degrees_of_freedom, information_criterion
from bcd_implicit.selection.path import ImplicitPath, check_grid, fit_path

__all__ = ["ImplicitClassifierCV", "ImplicitRegressorCV"]

Array = NDArray[np.float64]

_UNUSED = ("alpha", "warm_start", "callback", "checkpoint", "checkpoint_every", "resume")
_OWN = ("alphas", "n_alphas", "eps", "cv", "scoring", "criterion", "rule", "path_iter")


class PathEstimator(Reporting, ImplicitEstimator):
    """What the two estimators share that choose a strength on the path."""

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
        y = np.asarray(y)
        if is_classifier(self):
            y = y.ravel()  # a column has been warned about
        template = self._template()
        grid = check_grid(self.alphas, self.n_alphas, self.eps, self.path_iter)
        options = (int(self.n_alphas), float(self.eps), int(self.path_iter))
        path = fit_path(template, data, X, y, sample_weight, grid, *options)
        if self.criterion is not None:
            self.criterion_values_ = self._criteria(path, data)
            index = int(self.criterion_values_.argmin())
        else:
            self.cv_scores_ = self._fold_scores(path, data, y, sample_weight, params, template)
            index = self._chosen(self.cv_scores_)
        self.path_, self.index_, self.alphas_ = path, index, path.alphas
        settled = path.settled(index, data, int(self.max_iter), float(self.tol))
        for name, value in vars(settled).items():
            if (name.endswith("_") and name != "path_") or name == "_outcome":
                setattr(self, name, value)

    def _template(self) -> ImplicitEstimator:
        """Return the estimator that is fitted at every strength, to the data coded here."""
        shared = {k: v for k, v in self.get_params(deep=False).items() if k not in _OWN}
        template = self._single(**shared, alpha=1.0)
        template.__dict__.update({k: v for k, v in vars(self).items() if k in self._coded})
        return template

    def _fold_scores(
        self,
        path: ImplicitPath,
        data: Encoded,
        y: Any,
        sample_weight: Any,
        params: dict[str, Any],
        template: ImplicitEstimator,
    ) -> Array:
        """Return the scores of every strength on every fold, (strengths, folds)."""
        scorer = self._scorer()
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if _routing_enabled():
            routed = process_routing(self, "fit", sample_weight=weights, **params)
        else:
            score = {} if weights is None else {"sample_weight": weights}
            routed = Bunch(splitter=Bunch(split={}), scorer=Bunch(score=score))
        splitter = check_cv(self.cv, y, classifier=is_classifier(self))
        folds = list(splitter.split(data.X, y, **routed.splitter.split))
        seeds = self._generator().integers(np.iinfo(np.int32).max, size=len(folds))
        jobs = self.n_jobs if len(folds) > 1 else 1
        fits = (
            delayed(_one_fold)(
                template.__class__(**template.get_params(deep=False)).set_params(
                    random_state=int(seed), n_jobs=1, verbose=0
                ),
                data.X,
                y,
                weights,
                train,
                test,
                path.alphas,
                int(self.path_iter),
                scorer,
                routed.scorer.score,
            )
            for (train, test), seed in zip(folds, seeds, strict=True)
        )
        return np.column_stack(collect(self, fits, len(folds), jobs, data.X, y))

    def _scorer(self) -> Any:
        scoring = self.scoring
        if scoring is None:
            scoring = "accuracy" if is_classifier(self) else "r2"
        return check_scoring(self, scoring=scoring)

    def _chosen(self, scores: Array) -> int:
        """Return the place of the strength by the rule; the larger of equals."""
        means = scores.mean(axis=1)
        best = len(means) - 1 - int(means[::-1].argmax())
        if self.rule == "min" or scores.shape[1] < 2:
            return best
        error = scores[best].std(ddof=1) / np.sqrt(scores.shape[1])
        return int(np.flatnonzero(means >= means[best] - error)[-1])

    def _criteria(self, path: ImplicitPath, data: Encoded) -> Array:
        """Return the criterion of every model on the path."""
        homogeneous = path.activation.positively_homogeneous
        labels = path.groups
        return np.array(
            [
                information_criterion(
                    str(self.criterion),
                    loss,
                    degrees_of_freedom(parameters, homogeneous=homogeneous),
                    data.weight,
                    data.n_outputs,
                    len(np.unique(labels)),
                    len(np.unique(labels[support])),
                    quadratic=data.loss.quadratic,
                )
                for loss, parameters, support in zip(
                    path.losses, path.parameters, path.supports, strict=True
                )
            ]
        )

    def get_metadata_routing(self) -> MetadataRouter:
        """Say where `fit` sends metadata: to the splitter and to the scorer."""
        fit = MethodMapping().add(caller="fit", callee="split")
        score = MethodMapping().add(caller="fit", callee="score")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=check_cv(self.cv, classifier=is_classifier(self)), method_mapping=fit)
            .add(scorer=self._scorer(), method_mapping=score)
        )


def _one_fold(
    estimator: ImplicitEstimator,
    X: Any,
    y: Any,
    weights: Array | None,
    train: Any,
    test: Any,
    alphas: Array,
    path_iter: int,
    scorer: Any,
    score_params: dict[str, Any],
) -> Array:
    """Fit the path to a training part and score it on the rest."""
    some = None if weights is None else weights[train]
    training, rest = some_rows(X, train), some_rows(X, test)
    data = estimator._encode(training, y[train], some)
    path = fit_path(estimator, data, training, y[train], some, alphas, 0, 0.0, path_iter)
    params = _check_method_params(X, params=score_params, indices=test)
    return np.array([scorer(path.estimator(i), rest, y[test], **params) for i in range(len(path))])


class ImplicitRegressorCV(PathEstimator, ImplicitRegressor):
    """`ImplicitRegressor` whose strength is chosen on its regularisation path.

    Parameters
    ----------
    n_states : int, default=20
    alphas : array-like, optional
        The strengths; by default those of `bcd_implicit.implicit_path`.
    n_alphas, eps, path_iter : int, float, int
        See there; ``path_iter`` is its ``max_iter``.
    cv : int, splitter or iterable, optional
        As in scikit-learn; five folds by default.
    scoring : str or callable, optional
        As in scikit-learn; R2, or accuracy for a classifier, by default.
    criterion : {"aic", "bic", "ebic"} or None, default=None
        Choose by an information criterion on the path, without cross-validation; see
        `bcd_implicit.selection.criteria` for how degrees of freedom are counted.
    rule : {"min", "1se"}, default="min"
        The strength of the best mean score, or the largest whose mean is not worse by more than
        the standard error of the best.
    l2, kappa, activation, fit_feedthrough, fit_intercept, standardize, groups, max_iter, tol, \
n_init, random_state, n_jobs, verbose
        As in `ImplicitRegressor`; ``n_jobs`` also counts the folds that are fitted at a time.

    Attributes
    ----------
    path_ : ImplicitPath
        The path of all rows.
    alphas_ : ndarray of shape (k,)
        Its strengths.
    cv_scores_ : ndarray of shape (k, folds)
        Unless a criterion was used.
    criterion_values_ : ndarray of shape (k,)
        If one was.
    index_ : int
        The place of the choice among the strengths.
    alpha_, model_, support_, ...
        As in `ImplicitRegressor`: the model of the path, trained on with the inputs it selects.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 6))
    >>> y = np.abs(X[:, 1]) + X[:, 4] + 0.3 * rng.standard_normal(300)
    >>> model = ImplicitRegressorCV(5, n_alphas=10, rule="1se", cv=3, random_state=0).fit(X, y)
    >>> bool(model.support_[[1, 4]].all()), bool(model.score(X, y) > 0.8)
    (True, True)
    """

    _single = ImplicitRegressor


class ImplicitClassifierCV(PathEstimator, ImplicitClassifier):
    """`ImplicitClassifier` whose strength is chosen on its regularisation path.

    Parameters and attributes are those of `ImplicitRegressorCV`, with ``class_weight`` and
    ``classes_`` of `ImplicitClassifier`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 6))
    >>> y = np.where(np.abs(X[:, 1]) > 0.7, "far", "near")
    >>> model = ImplicitClassifierCV(5, n_alphas=6, criterion="bic", random_state=0).fit(X, y)
    >>> bool(model.support_[1])
    True
    """

    _single = ImplicitClassifier
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PathEstimator._parameter_constraints,
        "class_weight": ImplicitClassifier._parameter_constraints["class_weight"],
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
        class_weight: dict[Any, float] | str | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_states,
            alphas=alphas,
            n_alphas=n_alphas,
            eps=eps,
            cv=cv,
            scoring=scoring,
            criterion=criterion,
            rule=rule,
            path_iter=path_iter,
            l2=l2,
            kappa=kappa,
            activation=activation,
            fit_feedthrough=fit_feedthrough,
            fit_intercept=fit_intercept,
            standardize=standardize,
            groups=groups,
            max_iter=max_iter,
            tol=tol,
            n_init=n_init,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.class_weight = class_weight
