"""The article's recovery of the true inputs: whole paths, and the choice on them.

Paths are compared by their best model that uses the true inputs alone, on fresh rows without noise.
``max_iter=0`` is ours without steps after the dense start: B loses columns, and C is refitted. Its
models are no minimisers of the objective, as LassoNet's are not; those of the default nearly are.
Then each method chooses itself: ours by BIC, LassoNet by its validation loss or by
cross-validation. Beside them the automatic strength, which is no path, and a cross-validated lasso.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import MultiTaskLassoCV

from bcd_implicit import ImplicitRegressor, ImplicitRegressorCV, implicit_path
from bcd_implicit.selection.path import ImplicitPath
from experiments.benchmarks.harness import Comparison, Contender, compare
from experiments.selection.phase_transition import (
    implicit,
    lasso_net,
    lasso_net_cross_validated,
    lasso_net_path,
)
from experiments.teacher import Sample, draw

__all__ = ["run"]

_PATIENCE = 20.0  # seconds; what takes longer runs once
Array = NDArray[np.floating[Any]]
Supports = NDArray[np.bool_]
Predict = Callable[[Array], Array]
Found = TypeVar("Found")


def run(*, full: bool) -> Iterator[Comparison]:
    """Compare paths, and what is chosen on them."""
    for seed in range(3 if full else 1):
        sample = draw(seed, noise=0.1)
        work = f"the article's experiment, 10 % noise, seed {seed}"
        wrong, ours = partial(_wrong, sample.support), partial(_unexplained_by_path, sample)
        theirs = partial(_unexplained_by_lasso_net, sample)
        yield compare(
            "whole path",
            work,
            "1 - R2 of fresh rows, with the true inputs alone",
            [
                Contender("bcd_implicit, max_iter=0", partial(_path, sample, max_iter=0), ours),
                Contender("bcd_implicit", partial(_path, sample), ours),
                Contender("LassoNet", partial(_on_one_thread, lasso_net_path, sample), theirs),
            ],
            target=100.0,
            patience=_PATIENCE,
        )
        contenders: dict[str, Callable[[Sample], Any]] = {
            "bcd_implicit": _by_criterion,
            "LassoNet path": partial(_on_one_thread, lasso_net),
            'bcd_implicit, alpha="auto"': lambda sample: implicit(10)(sample, 0),
            "scikit-learn MultiTaskLassoCV": _lasso,
        }
        if full:
            contenders["LassoNet, cross-validated"] = partial(
                _on_one_thread, lasso_net_cross_validated
            )
        yield compare(
            "path and choice",
            work,
            "wrong inputs",
            [Contender(name, partial(one, sample), wrong) for name, one in contenders.items()],
            patience=_PATIENCE,
        )


def _wrong(truth: Supports, selected: Any) -> float:
    """Return how many inputs are wrongly in or out."""
    return float((np.asarray(selected, dtype=bool) != truth).sum())


def _unexplained(sample: Sample, models: Iterable[tuple[Any, Predict]]) -> float:
    """Return 1 - R2 of the best model with the true inputs alone, infinite if there is none.

    Models are supports and what predicts; R2 is that of all outputs together.
    """
    Y = sample.Y_fresh
    left = [
        np.sum((predict(sample.U_fresh) - Y) ** 2)
        for support, predict in models
        if (np.asarray(support) == sample.support).all()
    ]
    return float(min(left, default=np.inf) / np.sum((Y - Y.mean(axis=0)) ** 2))


def _unexplained_by_path(sample: Sample, path: ImplicitPath) -> float:
    predict = (model.predict for model in path.models)
    return _unexplained(sample, zip(path.supports, predict, strict=True))


def _unexplained_by_lasso_net(sample: Sample, found: tuple[Any, list[Any]]) -> float:
    model, path = found

    def predict(parameters: Any, U: Array) -> Array:
        model.load(parameters)
        predicted: Array = model.predict(U.astype(np.float32))
        return predicted

    models = ((point.selected.numpy(), partial(predict, point.state_dict)) for point in path)
    return _unexplained(sample, models)


def _on_one_thread(select: Callable[[Sample, int], Found], sample: Sample) -> Found:
    """Let LassoNet select: a path took 23 s so, and 186 on two threads, beside others' work."""
    import torch

    torch.set_num_threads(1)
    return select(sample, 0)


def _path(sample: Sample, **options: Any) -> ImplicitPath:
    model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0)
    return implicit_path(sample.U, sample.Y, estimator=model, **options)


def _by_criterion(sample: Sample) -> Any:
    model = ImplicitRegressorCV(10, criterion="bic", fit_feedthrough=False, random_state=0)
    return model.fit(sample.U, sample.Y).support_


def _lasso(sample: Sample) -> Any:
    fitted = MultiTaskLassoCV(cv=4, n_jobs=2).fit(sample.U, sample.Y)
    return (fitted.coef_ != 0.0).any(axis=0)
