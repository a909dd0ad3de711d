"""Scores of every strength of a path on folds, and the metadata that splitter and scorer take."""

import copy
from collections.abc import Callable
from inspect import Parameter, signature
from numbers import Real
from typing import Any, NamedTuple
from warnings import catch_warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import check_scoring, r2_score
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.parallel import delayed
from sklearn.utils.validation import _check_method_params

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._random import drawn_seeds, generator_of
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.encoded import Encoded, is_table, some_rows
from bcd_implicit.selection._grid import Grid
from bcd_implicit.selection._path_models import PathModels
from bcd_implicit.selection._progress import Reporting, collect
from bcd_implicit.selection.path import ImplicitPath

__all__ = ["ScoredOnFolds"]

Array = NDArray[np.float64]


class Validation(NamedTuple):
    """Training and test rows, weights of all rows, and what scores a model."""

    parts: list[tuple[IntArray, IntArray]]
    weights: Array | None
    scorer: Any
    score_params: dict[str, Any]


class ScoredOnFolds(Reporting, ImplicitEstimator):
    """An estimator whose strengths are scored by cross-validation."""

    cv: Any
    scoring: Any
    path_iter: int

    def _validation(
        self, data: Encoded, y: Any, sample_weight: Any, params: dict[str, Any]
    ) -> Validation:
        """Return the folds, and what scores models on them: before a path takes its time."""
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if _routing_enabled():
            routed = process_routing(self, "fit", sample_weight=weights, **params)
        else:
            score = {} if weights is None else {"sample_weight": weights}
            routed = Bunch(splitter=Bunch(split={}), scorer=Bunch(score=score))
        splitter = check_cv(self.cv, y, classifier=is_classifier(self))
        rows = np.arange(len(y))  # a part may be a mask
        folds = splitter.split(data.X, y, **routed.splitter.split)
        parts = [(rows[train], rows[test]) for train, test in folds]
        if not parts:
            raise ValueError("cv has no folds; a generator of them can be read only once")
        scorer = self._scorer()
        scored = routed.scorer.score.get("sample_weight") is not None
        if scored and not _takes_weights(scorer):
            raise ValueError(
                "scoring must take sample_weight, which is given to fit; got "
                f"{scorer!r}. A callable scoring(estimator, X, y, sample_weight=None) may ignore it"
            )
        _check_folds(data.classes(y), weights, parts, scored=scored)
        if is_classifier(self) and hasattr(scorer, "_score_func"):
            _check_classes(scorer, y, weights, parts, scored=scored)
        by_r2 = getattr(scorer, "_score_func", None) is r2_score
        counts = np.ones(len(y)) if weights is None or not scored else weights > 0.0
        if by_r2 and min(counts[test].sum() for _, test in parts) < 2:
            raise ValueError(
                "scoring must give a number for every fold of cv; R2 is not defined for a single "
                'row: take scoring="neg_mean_squared_error", or larger folds'
            )
        return Validation(parts, weights, scorer, routed.scorer.score)

    def _fold_scores(
        self,
        path: ImplicitPath,
        data: Encoded,
        y: Any,
        validation: Validation,
        template: ImplicitEstimator,
    ) -> tuple[Array, list[dict[str, PathModels]]]:
        """Return the scores of the candidates of a path, and those of the folds.

        The scores have the shape (strengths, folds, kinds). Where the path is empty, models of
        parts of the rows say nothing about it: they are empty.
        """
        folds = validation.parts
        seeds = drawn_seeds(generator_of(self.random_state), len(folds))
        jobs = self.n_jobs if len(folds) > 1 else 1
        fits = (
            delayed(_one_fold)(
                template.__class__(**template.get_params(deep=False)).set_params(
                    random_state=seed, n_jobs=1, verbose=0
                ),
                data.X,
                y,
                validation.weights,
                train,
                test,
                Grid(path.alphas, max_iter=int(self.path_iter)),
                ~path.supports.any(axis=1),
                path.unit,
                validation.scorer,
                validation.score_params,
            )
            for (train, test), seed in zip(folds, seeds, strict=True)
        )
        each, models = zip(*collect(self, fits, len(folds), jobs, data.X, y), strict=True)
        scores = np.stack(each, axis=1)
        if np.isnan(scores.mean(axis=1)).all():
            raise ValueError(
                "scoring must give a number for every fold of cv; got NaN at all strengths. R2 "
                "is not defined for a single row"
            )
        return scores, list(models)

    def _falls_short(
        self, model: ImplicitEstimator, promised: float, data: Encoded, y: Any, of: Validation
    ) -> bool:
        """Whether a model does worse on its own rows than those of the folds on other rows."""
        model = copy.copy(model)
        if hasattr(model, "feature_names_in_"):
            del model.feature_names_in_  # the rows have no names, as those of the folds
        counts = of.score_params.get("sample_weight")
        if counts is None or np.all(counts):  # no copy of the data
            score = _number(of.scorer(model, data.X, y, **of.score_params))
        else:
            score = _scored_on(data.X, y, np.arange(len(y)), of.scorer, of.score_params)(model)
        return score < promised

    def _scorer(self) -> Any:
        scoring = self.scoring
        if scoring is None:
            scoring = "accuracy" if is_classifier(self) else "r2"
        return check_scoring(self, scoring=scoring)

    def get_metadata_routing(self) -> MetadataRouter:
        """Say where `fit` sends metadata: to the splitter and to the scorer."""
        fit = MethodMapping().add(caller="fit", callee="split")
        score = MethodMapping().add(caller="fit", callee="score")
        # a generator of folds takes no metadata, and could not be read again
        cv = self.cv if hasattr(self.cv, "split") else None
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=check_cv(cv, classifier=is_classifier(self)), method_mapping=fit)
            .add(scorer=self._scorer(), method_mapping=score)
        )


def _takes_weights(scorer: Any) -> bool:
    """Whether a scorer, or the metric that it is made of, takes sample weights."""
    try:
        parameters = signature(getattr(scorer, "_score_func", scorer)).parameters
    except (TypeError, ValueError):
        return True  # it does not say
    kinds = [parameter.kind for parameter in parameters.values()]
    return "sample_weight" in parameters or Parameter.VAR_KEYWORD in kinds


def _check_folds(
    codes: IntArray | None,
    weights: Array | None,
    parts: list[tuple[IntArray, IntArray]],
    *,
    scored: bool,
) -> None:
    """Raise ValueError if a fold has no rows or of weight zero alone, or trains on a single class.

    ``scored`` tells whether the weights count for the scores.
    """
    for number, (train, test) in enumerate(parts):
        for rows, use, counts in ((train, "train on", True), (test, "score", scored)):
            if not len(rows):
                raise ValueError(f"cv leaves no sample to {use} in fold {number}")
            if counts and weights is not None and not (weights[rows] > 0.0).any():
                raise ValueError(
                    f"cv leaves no sample of positive weight to {use} in fold {number}; drop "
                    "samples of weight zero"
                )
        if codes is None:
            continue
        found = codes[train] if weights is None else codes[train][weights[train] > 0.0]
        if not (found != found[:1]).any():
            raise ValueError(
                f"cv leaves fewer than two classes to train on in fold {number}, as it may where "
                "rows are sorted by class, or all but one class have a single row; use "
                "StratifiedKFold, or shuffle them: KFold(shuffle=True), and more rows of a class"
            )


def _check_classes(
    scorer: Any,
    y: Any,
    weights: Array | None,
    parts: list[tuple[IntArray, IntArray]],
    *,
    scored: bool,
) -> None:
    """Raise ValueError if a scorer of scikit-learn cannot do with the classes of a fold.

    Some need all of them to train on, or to score, some two classes or a label 1: frequencies of
    the classes are scored, on the first fold and where classes are missing.
    """
    classes = np.unique(y)
    for number, (train, test) in enumerate(parts):
        if weights is not None:
            train = train[weights[train] > 0.0]
            test = test[weights[test] > 0.0] if scored else test
        missing = [
            f"no {use} rows of classes {np.setdiff1d(classes, y[rows]).tolist()}"
            for use, rows in (("training", train), ("test", test))
            if len(np.unique(y[rows])) < len(classes)
        ]
        if not missing and number > 0:
            continue
        trained, tested = np.zeros((len(train), 1)), np.zeros((len(test), 1))
        try:
            with catch_warnings(action="ignore"):
                score = scorer(LogisticRegression().fit(trained, y[train]), tested, y[test])
            reason, cause = "the score is not a number", None
        except ValueError as error:
            score, reason, cause = np.nan, str(error).rstrip("."), error
        if np.isnan(score):
            remedy = "another scoring"
            if missing:
                remedy = f"fewer folds, or {remedy}: fold {number} has {', and '.join(missing)}"
            raise ValueError(
                f"scoring must give a number for every fold of cv; take {remedy}: {reason}"
            ) from cause


def _one_fold(
    estimator: ImplicitEstimator,
    X: Any,
    y: Any,
    weights: Array | None,
    train: IntArray,
    test: IntArray,
    grid: Grid,
    empty: BoolArray,
    unit: float,
    scorer: Any,
    score_params: dict[str, Any],
) -> tuple[Array, dict[str, PathModels]]:
    """Fit the candidates to a training part and score them on the rest, (strengths, kinds)."""
    if is_table(X):
        # parts are read from the first of their rows to the last: shuffled, each is the whole table
        train, test = np.sort(train), np.sort(test)
    some = None if weights is None else weights[train]
    training = some_rows(X, train)
    data = estimator._encode(training, y[train], some)
    prepared = estimator._prepared(data)
    # in its own unit the penalties of C would not be those of the path
    path = PathModels.of(estimator, prepared, grid, empty, unit)
    models = path.candidates(prepared)
    score = _scored_on(X, y, test, scorer, score_params)
    scores = [[score(one.estimator(i)) for i in range(len(one.steps))] for one in models.values()]
    return np.column_stack(scores), models


def _scored_on(
    X: Any, y: Any, rows: IntArray, scorer: Any, score_params: dict[str, Any]
) -> Callable[[ImplicitEstimator], float]:
    """Return what scores a model on some of the rows."""
    counts = score_params.get("sample_weight")
    if counts is not None:
        # means over classes would count a class of which all rows weigh nothing
        rows = rows[np.asarray(counts)[rows] > 0.0]
    some = some_rows(X, rows)
    params = _check_method_params(X, params=score_params, indices=rows)
    return lambda model: _number(scorer(model, some, y[rows], **params))


def _number(score: Any) -> float:
    """Return a score, also one in an array, as scikit-learn takes it."""
    value = np.asarray(score)
    if value.size != 1 or not isinstance(value.item(), Real):
        raise ValueError(f"scoring must return a number; got {score!r}")
    return float(value.item())
