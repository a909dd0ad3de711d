"""Predictions of one sample at a time, as a service makes them, beside scikit-learn's MLP."""

import warnings
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from bcd_implicit import ImplicitRegressor
from experiments.benchmarks.harness import Comparison, Contender, compare

__all__ = ["run"]


def run(*, full: bool) -> Iterator[Comparison]:
    """Compare estimators of the same width, fitted to the same nonlinear data."""
    del full  # it takes a second
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 50))
    y = np.abs(X[:, 0]) + X[:, 1] * X[:, 2]
    ours = ImplicitRegressor(20, random_state=0).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = MLPRegressor(hidden_layer_sizes=(20,), random_state=0).fit(X, y)

    def contender(name: str, estimator: Any) -> Contender:
        samples = cycle(list(X[:, None, :]))

        def error(_: Any) -> float:
            return 1.0 - float(estimator.score(X, y))

        return Contender(name, lambda: estimator.predict(next(samples)), error)

    yield compare(
        "prediction",
        "one sample at a time, 50 inputs, 20 states against 20 hidden units",
        "1 - R2",
        [contender("bcd_implicit", ours), contender("scikit-learn MLPRegressor", theirs)],
        target=1.0,
        repeats=9,
    )
