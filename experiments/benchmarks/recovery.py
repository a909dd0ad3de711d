"""The article's recovery of the true inputs, choice of the strength included, beside LassoNet."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from lassonet import LassoNetRegressor
from sklearn.linear_model import MultiTaskLassoCV

from bcd_implicit import ImplicitRegressor
from experiments.benchmarks.harness import Comparison, Contender, compare
from experiments.teacher import draw

__all__ = ["run"]


def run(*, full: bool) -> Iterator[Comparison]:
    """Compare whole paths; the inputs that each chooses itself are held against the truth."""
    for seed in range(3 if full else 1):
        sample = draw(seed, noise=0.1)

        def wrong(selected: Any, truth: Any = sample.support) -> float:
            return float(np.count_nonzero(np.asarray(selected, dtype=bool) != truth))

        def ours(data: Any = sample) -> Any:
            model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0)
            return model.fit(data.U, data.Y).support_

        def lasso_net(data: Any = sample) -> Any:
            # 75/25 split inside, as ours; the default path, cut where the best validation loss is
            U = data.U.astype(np.float32)
            Y = data.Y.astype(np.float32)
            model = LassoNetRegressor(
                hidden_dims=(20,), val_size=0.25, random_state=0, torch_seed=0, verbose=0
            )
            path = model.path(U, Y, return_state_dicts=False)
            return min(path, key=lambda point: point.val_loss).selected.numpy()

        def lasso(data: Any = sample) -> Any:
            fitted = MultiTaskLassoCV(cv=4, n_jobs=2).fit(data.U, data.Y)
            return (fitted.coef_ != 0.0).any(axis=0)

        yield compare(
            "sparsity recovery",
            f"the article's experiment, 10 % noise, seed {seed}",
            "wrong inputs",
            [
                Contender("bcd_implicit", ours, wrong),
                Contender("LassoNet path", lasso_net, wrong),
                Contender("scikit-learn MultiTaskLassoCV", lasso, wrong),
            ],
            target=100.0,
            patience=None if full else 20.0,
        )
