"""Small fits as the tests of checkpoints, clusters and tables make them, and their comparison."""

import numpy as np

from bcd_implicit import ImplicitRegressor

BLOCKS = ("A_", "B_", "C_", "D_", "state_intercept_", "intercept_")
LIMITS = {
    "many": "bcd_implicit.training._MANY_ROWS",
    "gathered": "bcd_implicit.rows._GATHERED_ROWS",
    "merged": "bcd_implicit.rows.MERGED_ROWS",
}


def set_limits(monkeypatch, **rows):
    """Set numbers of rows from which on they are treated otherwise, so that few count as many."""
    for name, number in rows.items():
        monkeypatch.setattr(LIMITS[name], number)
    monkeypatch.setattr("bcd_implicit.curvature._FEWEST_ROWS", 1)


def samples(m, p):
    """Return m rows of p inputs, of which the first two matter, and the targets."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, p))
    return X, np.abs(X[:, 0]) + X[:, 1] + 0.1 * rng.standard_normal(m)


def small_model(kind=ImplicitRegressor, **settings):
    """Make an estimator that is fitted fast."""
    settings = {"n_states": 3, "alpha": 0.01, "max_iter": 8, "random_state": 0} | settings
    return kind(**settings)


def assert_same_blocks(one, other, tolerance=1e-8):
    """Compare the matrices of two fitted estimators, each by the size of its largest entry."""
    for name in BLOCKS:
        first, second = getattr(one, name), getattr(other, name)
        size = max(1.0, np.abs(first).max())
        np.testing.assert_allclose(first, second, rtol=0, atol=tolerance * size, err_msg=name)


def assert_same_bits(one, other):
    """Compare the matrices of two fitted estimators bit by bit."""
    for name in BLOCKS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
