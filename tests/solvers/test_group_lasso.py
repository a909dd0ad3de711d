"""The multi-task group lasso from a design matrix."""

import numpy as np
import pytest

from bcd_implicit.solvers import _kernels, group_lasso, reference
from bcd_implicit.solvers.certificates import group_lasso_gap
from bcd_implicit.solvers.group_lasso import solve_group_lasso


def make(seed, m=40, p=12, q=3, noise=0.3):
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((m, p)) + rng.standard_normal((m, 1))
    C = rng.standard_normal((q, p)) * (rng.random(p) < 0.4)
    return U, U @ C.T + noise * rng.standard_normal((m, q))


def strongest(U, Y):
    return np.linalg.norm(U.T @ Y, axis=1).max() / len(U)


def objective(U, Y, t, Theta):
    norms = np.linalg.norm(Theta, axis=0)
    used = norms > 0
    penalty = np.broadcast_to(t, norms.shape)[used] @ norms[used]
    return ((Y - U @ Theta.T) ** 2).sum() / (2 * len(U)) + penalty


def gap(U, Y, t, Theta):
    """Duality gap with the residual itself, shortened to be feasible, as the dual point."""
    m = len(U)
    V = Y - U @ Theta.T
    V /= max(1.0, (np.linalg.norm(U.T @ V, axis=1) / (m * t)).max())
    dual = ((Y**2).sum() - ((Y - V) ** 2).sum()) / (2 * m)
    return (objective(U, Y, t, Theta) - dual) / ((Y**2).sum() / (2 * m))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("factor", [0.5, 0.1, 0.01])
def test_equals_cvxpy(seed, factor):
    shape = [(40, 12, 3), (15, 20, 2), (30, 8, 1), (15, 20, 1), (1, 3, 2)][seed % 5]
    U, Y = make(seed, *shape)
    t = factor * strongest(U, Y) * np.random.default_rng(seed).uniform(0.5, 2.0, shape[1])
    result = solve_group_lasso(U, Y, t, tol=1e-12)
    assert result.converged
    twin = reference.solve_group_lasso(U, Y, t)
    np.testing.assert_allclose(objective(U, Y, t, result.x), objective(U, Y, t, twin), rtol=1e-6)
    if shape[0] > shape[1]:
        np.testing.assert_allclose(result.x, twin, atol=1e-6 * max(1.0, np.abs(twin).max()))


@pytest.mark.parametrize("factor", [0.3, 0.03, 0.003])
@pytest.mark.parametrize("order", ["C", "F"])
def test_working_sets_reach_the_gap(factor, order):
    U, Y = make(1, m=60, p=400, q=4)
    U = np.asarray(U, order=order)
    before = U.copy()
    t = factor * strongest(U, Y)
    result = solve_group_lasso(U, Y, t, tol=1e-9)
    assert result.converged
    assert result.gap <= 1e-9
    assert gap(U, Y, t, result.x) <= 1e-8  # another dual point
    np.testing.assert_array_equal(U, before)
    G = (U @ result.x.T - Y).T @ U / len(U)
    for j in range(400):
        if result.x[:, j].any():
            size = np.linalg.norm(G[:, j] + t * result.x[:, j] / np.linalg.norm(result.x[:, j]))
            assert size <= 1e-2 * t
        else:
            assert np.linalg.norm(G[:, j]) <= t * (1.0 + 1e-2)


def test_the_gap_bounds_the_excess():
    U, Y = make(2)
    t = np.full(12, 0.1 * strongest(U, Y))
    best = objective(U, Y, t, solve_group_lasso(U, Y, t, tol=1e-13).x)
    rng = np.random.default_rng(0)
    far = 3.0 * np.linalg.lstsq(U, Y)[0].T  # whose residual points away from the targets
    for Theta in (far, *(size * rng.standard_normal((3, 12)) for size in (0.0, 0.01, 1.0))):
        R = Y - U @ Theta.T
        bound = group_lasso_gap(Y, R, R.T @ U / len(U), Theta, t)
        excess = objective(U, Y, t, Theta) - best
        assert excess <= bound * (Y**2).sum() / (2 * len(U)) * (1 + 1e-9)


def test_excluded_inputs_and_the_strongest_penalty():
    U, Y = make(3)
    t = np.full(12, 0.1 * strongest(U, Y))
    t[[0, 5]] = np.inf
    result = solve_group_lasso(U, Y, t, tol=1e-11)
    assert not result.x[:, [0, 5]].any()
    rest = np.isfinite(t)
    smaller = solve_group_lasso(U[:, rest], Y, t[rest], tol=1e-11).x
    np.testing.assert_allclose(result.x[:, rest], smaller, atol=1e-5)
    for factor, used in ((1.001, 0), (0.999, 1)):
        x = solve_group_lasso(U, Y, factor * strongest(U, Y), tol=1e-12).x
        assert x.any(axis=0).sum() == used
    assert not solve_group_lasso(U, Y, np.inf).x.any()
    assert solve_group_lasso(U, 0.0 * Y, 1.0).gap == 0.0
    R = -U @ result.x.T
    assert group_lasso_gap(0.0 * Y, R, R.T @ U / len(U), result.x, np.ones(12)) == np.inf


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_units_of_the_targets_do_not_matter(unit):
    U, Y = make(4)
    t = 0.1 * strongest(U, Y)
    plain = solve_group_lasso(U, Y, t, tol=1e-10)
    scaled = solve_group_lasso(U, unit * Y, unit * t, tol=1e-10)
    assert scaled.converged
    np.testing.assert_allclose(scaled.x / unit, plain.x, atol=1e-6)


def test_a_column_of_zeros_and_equal_columns():
    U, Y = make(5)
    U[:, 0] = 0.0
    U[:, 2] = U[:, 3]
    result = solve_group_lasso(U, Y, 0.01 * strongest(U, Y), tol=1e-10)
    assert result.converged
    assert not result.x[:, 0].any()


def test_a_limit_on_the_sweeps_is_reported():
    U, Y = make(6)
    result = solve_group_lasso(U, Y, 0.01 * strongest(U, Y), tol=1e-10, max_sweeps=2)
    assert (result.status, result.n_iter) == ("max_iter", 2)
    assert result.gap > 1e-10


def test_a_gap_that_rounding_leaves_is_not_called_zero():
    ended = []
    for seed in range(8):
        U, Y = make(seed)
        result = solve_group_lasso(U, Y, 0.5 * strongest(U, Y), tol=0.0, max_sweeps=1000)
        if result.n_iter < 1000:
            ended.append(result.gap)
    assert max(ended) > 0.0


def test_the_sweeps_never_raise_the_objective():
    U, Y = make(7, p=80, m=50)
    m, t = len(U), np.full(80, 0.02 * strongest(U, Y))
    W, L = U.T @ U / m, np.ascontiguousarray(-Y.T @ U / m)
    y2 = (Y**2).sum() / m
    Theta, G = np.zeros_like(L), L.copy()
    last = np.inf
    for _ in range(20):
        _kernels.group_lasso_sweeps(W, L, y2, t, Theta, G, 0.0, 7)
        np.testing.assert_allclose(G, L + Theta @ W, atol=1e-12)
        value = objective(U, Y, t, Theta)
        assert value <= last * (1 + 1e-14)
        last = value


def test_the_kernel_equals_its_python():
    U, Y = make(8, p=40)
    m, t = len(U), np.full(40, 0.05 * strongest(U, Y))
    W, L = U.T @ U / m, np.ascontiguousarray(-Y.T @ U / m)
    done = []
    for sweeps in (_kernels.group_lasso_sweeps, _kernels.group_lasso_sweeps.py_func):
        Theta, G = np.zeros_like(L), L.copy()
        done.append((sweeps(W, L, (Y**2).sum() / m, t, Theta, G, 1e-8, 100), Theta))
    assert done[0][0] == done[1][0]
    np.testing.assert_allclose(done[0][1], done[1][1], atol=1e-12)


def test_sweeps_without_a_gram_matrix():
    U, Y = make(9, m=20, p=70)
    m, t = len(U), np.full(70, 0.02 * strongest(U, Y))
    rows, L = np.ascontiguousarray(U.T), np.ascontiguousarray(-Y.T @ U / m)
    y2 = (Y**2).sum() / m
    done = []
    for sweeps in (
        _kernels.group_lasso_residual_sweeps,
        _kernels.group_lasso_residual_sweeps.py_func,
    ):
        Theta, R = np.zeros_like(L), np.ascontiguousarray(Y.T)
        last = np.inf
        for _ in range(30):
            assert sweeps(rows, L, y2, t, Theta, R, 0.0, 7) == 7
            np.testing.assert_allclose(R, Y.T - Theta @ rows, atol=1e-12)
            value = objective(U, Y, t, Theta)
            assert value <= last * (1 + 1e-14)
            last = value
        done.append(Theta)
    np.testing.assert_allclose(done[0], done[1], atol=1e-10)
    best = objective(U, Y, t, solve_group_lasso(U, Y, t, tol=1e-12).x)
    assert last <= best * (1.0 + 1e-4)


def test_many_more_inputs_than_samples_need_no_gram_matrix(monkeypatch):
    U, Y = make(10, m=15, p=300)
    sizes = []

    def extended(gram, U, old, new):
        sizes.append(len(old) + len(new))
        return whole(gram, U, old, new)

    whole = group_lasso._extended
    monkeypatch.setattr(group_lasso, "_extended", extended)
    t = 1e-3 * strongest(U, Y)
    result = solve_group_lasso(U, Y, t, tol=1e-8)
    assert result.converged
    assert gap(U, Y, t, result.x) <= 1e-7
    assert max(sizes, default=0) <= 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"U": np.ones(3)}, "U must have shape"),
        ({"U": np.full((3, 2), np.nan)}, "U must be finite"),
        ({"Y": np.ones((2, 1))}, "Y must have shape"),
        ({"threshold": 0.0}, "threshold must be positive"),
        ({"threshold": [1.0]}, "threshold must be one or 2"),
        ({"threshold": [0.1, "much"]}, "threshold must hold real numbers"),
        ({"tol": -1.0}, "tol must be"),
        ({"tol": "small"}, "tol must be a number; got 'small'"),
        ({"max_sweeps": -1}, "max_sweeps must be a whole number and not be negative"),
        ({"max_sweeps": np.nan}, "max_sweeps must be a whole number"),
        ({"max_sweeps": 2.5}, "max_sweeps must be a whole number"),
    ],
)
def test_bad_input(options, message):
    arguments = {"U": np.eye(3)[:, :2], "Y": np.ones((3, 1)), "threshold": 0.1} | options
    with pytest.raises(ValueError, match=message):
        solve_group_lasso(**arguments)


@pytest.mark.parametrize("unit", [1e-200, 1e-160, 1e160, 1e200])
@pytest.mark.parametrize("m", [100, 20])
def test_units_of_the_inputs_do_not_matter(unit, m):
    U, Y = make(4, m=m)
    t = 0.1 * strongest(U, Y)
    plain = solve_group_lasso(U, Y, t, tol=1e-10)
    scaled = solve_group_lasso(unit * U, Y, unit * t, tol=1e-10)
    assert scaled.converged
    np.testing.assert_allclose(unit * scaled.x, plain.x, atol=1e-6)


def test_what_is_not_a_number_has_no_small_gap():
    U, Y = make(4)
    Theta = np.full((Y.shape[1], U.shape[1]), np.nan)
    t = np.full(U.shape[1], 0.1)
    assert group_lasso_gap(Y, Y - U @ Theta.T, (Y - U @ Theta.T).T @ U, Theta, t) == np.inf
