"""Implicit models whose strength is chosen on the path: by cross-validation or a criterion."""

from typing import Any, ClassVar

from numpy.typing import ArrayLike

from bcd_implicit.activations import Activation
from bcd_implicit.estimators import ImplicitClassifier, ImplicitRegressor
from bcd_implicit.selection._path_estimator import PathEstimator

__all__ = ["ImplicitClassifierCV", "ImplicitRegressorCV"]


class ImplicitRegressorCV(PathEstimator, ImplicitRegressor):
    """`ImplicitRegressor` whose strength is chosen on its regularisation path.

    What predicts best on a path alone keeps most false inputs, since a strength that drops them
    also shrinks the others. At every strength the model of the path therefore competes with
    refits, at a tenth of the strength, or at the weakest of the path if that is more: of its
    support; of what backward eliminations leave, since with few rows a path may follow the noise
    until it loses all that has no linear effect; and, if there is a feedthrough, without states, of
    what such a model uses at that strength. Where the path is empty, they are, too.

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
        As in scikit-learn; R2, or accuracy for a classifier, by default. It is given the sample
        weights, and has to take them, if there are any.
    criterion : {"aic", "bic", "ebic"} or None, default=None
        Choose between the refits by an information criterion, without cross-validation; see
        `bcd_implicit.selection.criteria` for how degrees of freedom are counted.
    rule : {"min", "1se"}, default="min"
        The model of the best mean score, or the one with the fewest inputs, also in the mean of the
        folds, whose mean score is not worse by more than the standard error of the best; of equals
        that of the largest strength.
    l2, kappa, activation, fit_feedthrough, fit_intercept, standardize, groups, max_iter, tol, \
n_init, random_state, n_jobs, verbose
        As in `ImplicitRegressor`, but ``l2="auto"`` as in `bcd_implicit.implicit_path`; ``n_jobs``
        also counts the folds that are fitted at a time.

    Attributes
    ----------
    path_ : ImplicitPath
        The path of all rows.
    alphas_ : ndarray of shape (k,)
        Its strengths.
    kinds_ : ndarray of str, shape (k,)
        Which was best at every strength: the model of the "path" or its "refit", or the
        "eliminated" or the "linear" one, whose inputs need not be those of the path.
    cv_scores_ : ndarray of shape (k, folds)
        Of these, unless a criterion was used.
    criterion_values_ : ndarray of shape (k,)
        Of these, if one was.
    index_ : int
        The place of the choice among the strengths. With "1se", ``kinds_`` and ``cv_scores_`` are
        there those of the choice, which need not be the best.
    alpha_, model_, support_, ...
        As in `ImplicitRegressor`: the model that was chosen, trained on with the inputs it selects.
        If it has states and its score on its own rows is below that of the folds, it may be in a
        poor minimum, without an input that folds have: the models of the folds at its strength, of
        the path, or of the eliminations for one of these, are trained on with all rows, and the one
        of the lowest objective takes its place, with its own inputs, if it, and what `kinds_` makes
        of it, have a lower objective.

    Examples
    --------
    >>> import numpy as np
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
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 6))
    >>> noise = 0.3 * rng.standard_normal(300)
    >>> y = np.where(np.abs(X[:, 1]) + noise > 0.7, "far", "near")
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
