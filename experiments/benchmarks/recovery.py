"""The article's recovery of the true inputs: whole paths, and the choice on them.

Paths are held against the truth where they are nearest to it. Then each method chooses itself:
ours by BIC, LassoNet by its validation loss or by cross-validation. Beside them the automatic
strength, which is no path, and a cross-validated lasso.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import MultiTaskLassoCV

from bcd_implicit import ImplicitRegressor, ImplicitRegressorCV, implicit_path
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
Supports = NDArray[np.bool_]


def run(*, full: bool) -> Iterator[Comparison]:
    """Compare paths, and what is chosen on them."""
    for seed in range(3 if full else 1):
        sample = draw(seed, noise=0.1)
        work = f"the article's experiment, 10 % noise, seed {seed}"
        wrong = partial(_wrong, sample.support)
        yield compare(
            "whole path",
            work,
            "wrong inputs at best",
            [
                Contender("bcd_implicit", partial(_path, sample), wrong),
                Contender("LassoNet path", partial(_on_one_thread, lasso_net_path, sample), wrong),
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
    """Return how many inputs are wrongly in or out, in the best of several supports."""
    selected = np.atleast_2d(np.asarray(selected, dtype=bool))
    return float((selected != truth).sum(axis=1).min())


def _on_one_thread(select: Callable[[Sample, int], Supports], sample: Sample) -> Supports:
    """Let LassoNet select: a path took 23 s so, and 186 on two threads, beside others' work."""
    import torch

    torch.set_num_threads(1)
    return select(sample, 0)


def _path(sample: Sample) -> Supports:
    model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0)
    return implicit_path(sample.U, sample.Y, estimator=model).supports


def _by_criterion(sample: Sample) -> Any:
    model = ImplicitRegressorCV(10, criterion="bic", fit_feedthrough=False, random_state=0)
    return model.fit(sample.U, sample.Y).support_


def _lasso(sample: Sample) -> Any:
    fitted = MultiTaskLassoCV(cv=4, n_jobs=2).fit(sample.U, sample.Y)
    return (fitted.coef_ != 0.0).any(axis=0)
