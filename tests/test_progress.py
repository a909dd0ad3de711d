"""The progress bar follows a fit."""

import io

import numpy as np
import pytest
from rich.console import Console
from sklearn.base import clone

from bcd_implicit import ImplicitRegressor, ProgressBar

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_the_line_says_where_a_fit_is():
    X = np.random.default_rng(0).standard_normal((80, 4))
    written = io.StringIO()
    with ProgressBar(Console(file=written, force_terminal=True, width=200)) as bar:
        model = clone(ImplicitRegressor(3, alpha=0.01, max_iter=5, random_state=0, callback=bar))
        model.fit(X, np.abs(X[:, 0]))
    assert bar.updates == len(model.history_)
    last = model.history_[-1]
    assert (
        f"final: pass {last['passes']}, rows 80, objective {last['objective']:.6g}, "
        f"residual {last['equilibrium_residual']:.1g}, active inputs {last['active_inputs']}"
    ) in written.getvalue()
    assert "nan" not in written.getvalue()


def test_a_bar_needs_its_context():
    bar = ProgressBar()
    with pytest.raises(RuntimeError, match="ProgressBar must be used as a context"):
        ImplicitRegressor(2, alpha=0.01, callback=bar).fit(np.eye(20), np.arange(20.0))
