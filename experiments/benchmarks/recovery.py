"""The article's recovery of the true inputs from whole paths, the choice on them included.

LassoNet chooses by its validation loss, ours by BIC. Beside them the automatic strength, which is
no path, and a cross-validated lasso.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import MultiTaskLassoCV

from bcd_implicit import ImplicitRegressor, ImplicitRegressorCV
from experiments.benchmarks.harness import Comparison, Contender, compare
from experiments.selection.phase_transition import lasso_net
from experiments.teacher import draw

__all__ = ["run"]


def run(*, full: bool) -> Iterator[Comparison]:
    """Compare whole paths; the inputs that each chooses itself are held against the truth."""
    for seed in range(3 if full else 1):
        sample = draw(seed, noise=0.1)

        def wrong(selected: Any, truth: Any = sample.support) -> float:
            return float(np.count_nonzero(np.asarray(selected, dtype=bool) != truth))

        def path(data: Any = sample) -> Any:
            model = ImplicitRegressorCV(10, criterion="bic", fit_feedthrough=False, random_state=0)
            return model.fit(data.U, data.Y).support_

        def automatic(data: Any = sample) -> Any:
            model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0)
            return model.fit(data.U, data.Y).support_

        def lasso(data: Any = sample) -> Any:
            fitted = MultiTaskLassoCV(cv=4, n_jobs=2).fit(data.U, data.Y)
            return (fitted.coef_ != 0.0).any(axis=0)

        yield compare(
            "sparsity recovery",
            f"the article's experiment, 10 % noise, seed {seed}",
            "wrong inputs",
            [
                Contender("bcd_implicit", path, wrong),
                Contender("LassoNet path", partial(lasso_net, sample, 0), wrong),
                Contender('bcd_implicit, alpha="auto"', automatic, wrong),
                Contender("scikit-learn MultiTaskLassoCV", lasso, wrong),
            ],
            target=100.0,
            patience=None if full else 20.0,
        )
