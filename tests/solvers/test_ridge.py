"""Ridge regression from sums."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from bcd_implicit.solvers import _kernels, reference
from bcd_implicit.solvers.certificates import ridge_residual
from bcd_implicit.solvers.ridge import ridge


def problem(seed, m=20, n=5, q=3):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((m, n)), rng.standard_normal((m, q))
    return X, Y, X.T @ X, Y.T @ X


@pytest.mark.parametrize("seed", range(60))
def test_equals_cvxpy(seed):
    rng = np.random.default_rng(seed)
    n, q = rng.integers(1, 7, 2)
    _, _, G, R = problem(seed, m=int(rng.integers(n, 12)), n=n, q=q)
    l2 = rng.uniform(0.05, 2.0)
    mask = np.arange(n) == 0 if seed % 2 else None
    result = ridge(G, R, l2, unpenalized=mask)
    assert result.converged
    np.testing.assert_allclose(result.x, reference.ridge(G, R, l2, unpenalized=mask), atol=1e-6)


def test_equals_scikit_learn_with_an_intercept():
    X, Y, _, _ = problem(0)
    X1 = np.column_stack([X, np.ones(len(X))])
    mask = np.arange(6) == 5
    C = ridge(X1.T @ X1, Y.T @ X1, 0.7, unpenalized=mask).x
    twin = Ridge(alpha=0.7).fit(X, Y)
    np.testing.assert_allclose(C[:, :5], twin.coef_, rtol=1e-10)
    np.testing.assert_allclose(C[:, 5], twin.intercept_, rtol=1e-10)


@pytest.mark.parametrize("m", [1, 3, 5, 30])
def test_without_penalty_has_least_norm(m):
    X, Y, G, R = problem(1, m=m, n=6)
    result = ridge(G, R, 0.0)
    assert result.converged
    np.testing.assert_allclose(result.x, np.linalg.lstsq(X, Y, rcond=None)[0].T, atol=1e-10)


def test_duplicate_and_zero_columns():
    X, Y, _, _ = problem(2, n=4)
    X = np.column_stack([X, X[:, 0], np.zeros(len(X))])
    C = ridge(X.T @ X, Y.T @ X, 0.0).x
    np.testing.assert_allclose(C[:, 0], C[:, 4], atol=1e-12)
    np.testing.assert_allclose(C[:, 5], 0.0, atol=1e-14)
    np.testing.assert_allclose(C, np.linalg.lstsq(X, Y, rcond=None)[0].T, atol=1e-10)
    C = ridge(X.T @ X, Y.T @ X, 1e-3).x
    np.testing.assert_allclose(C[:, 0], C[:, 4], atol=1e-9)
    assert not C[:, 5].any()


def test_all_zero():
    result = ridge(np.zeros((3, 3)), np.zeros((2, 3)), 0.0)
    assert result.converged
    assert not result.x.any()
    assert not ridge(np.eye(3), np.zeros((2, 3)), 0.0).x.any()


def test_rank_deficient_on_unpenalized_columns():
    G = np.diag([0.0, 2.0])
    result = ridge(G, [[0.0, 3.0]], 1.0, unpenalized=[True, False])
    np.testing.assert_allclose(result.x, [[0.0, 1.0]])
    assert result.converged


def test_what_cannot_be_fitted_shows_in_the_gap():
    result = ridge(np.diag([1.0, 0.0]), [[1.0, 1.0]], 0.0)
    assert result.status == "max_iter"
    assert result.gap == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-200, 1e-100, 1e100, 1e150])
def test_is_free_of_units(scale):
    _, _, G, R = problem(3)
    result = ridge(G * scale, R * scale, 0.5 * scale)
    assert result.converged
    np.testing.assert_allclose(result.x, ridge(G, R, 0.5).x, rtol=1e-12)


def test_badly_scaled_columns():
    X, Y, _, _ = problem(4)
    units = 10.0 ** np.array([-8, -3, 0, 4, 8])
    XS = X * units
    result = ridge(XS.T @ XS, Y.T @ XS, 0.0)
    assert result.converged
    np.testing.assert_allclose(
        result.x * units, np.linalg.lstsq(X, Y, rcond=None)[0].T, rtol=1e-9, atol=1e-10
    )


def test_ill_conditioned_gram_has_a_small_backward_error():
    n = 12
    H = 1.0 / (np.arange(n)[:, None] + np.arange(n) + 1.0)  # Hilbert, condition 1e16
    R = H.sum(axis=0, keepdims=True)
    for l2 in (0.0, 1e-14, 1e-8, 1e-3):
        assert ridge(H, R, l2).gap <= 1e-13


@pytest.mark.parametrize("seed", range(5))
def test_residual_is_the_gradient(seed):
    rng = np.random.default_rng(seed)
    _, _, G, R = problem(seed)
    C, l2 = rng.standard_normal(R.shape), rng.uniform(0.1, 2.0, 5)
    R = 10.0 ** (seed % 3) * R  # either term may be the larger one

    def objective(C):
        return 0.5 * np.trace(C @ G @ C.T) - np.trace(C @ R.T) + 0.5 * np.sum(l2 * C**2)

    gradient = np.empty_like(C)
    for index in np.ndindex(C.shape):
        step = np.zeros_like(C)
        step[index] = 1.0  # central differences are exact for a quadratic
        gradient[index] = 0.5 * (objective(C + step) - objective(C - step))
    size = max(np.abs(R).max(), (np.abs(C) @ np.abs(G + np.diag(l2))).max())
    expected = np.abs(gradient).max() / size
    assert ridge_residual(C, G, R, l2) == pytest.approx(expected, rel=1e-9)
    assert ridge(G, R, 0.3).gap <= 1e-15
    assert not ridge(G, R, 0.3, tol=-1.0).converged


@pytest.mark.parametrize(("rows", "regular"), [(2, False), (12, True)])
def test_compiled_kernels_equal_their_source(rows, regular):
    _, _, G, R = problem(6, m=rows)
    one, two = np.zeros_like(R), np.zeros_like(R)
    assert _kernels.ridge_rows(G, R, one) == regular
    assert _kernels.ridge_rows.py_func(G, R, two) == regular
    np.testing.assert_allclose(one, two, rtol=1e-6)
    assert one.any() == regular
    L, K = np.zeros((5, 5)), np.zeros((5, 5))
    G += np.eye(5)
    assert _kernels.cholesky_lower(G, L)
    assert _kernels.cholesky_lower.py_func(G, K)
    np.testing.assert_allclose(L, K, rtol=1e-13)
    np.testing.assert_allclose(L @ L.T, G, rtol=1e-12, atol=1e-13)
    one, two = R.copy(), R.copy()
    _kernels.cholesky_solve_rows(L, one)
    _kernels.cholesky_solve_rows.py_func(L, two)
    np.testing.assert_allclose(one, two, rtol=1e-12)
    assert not _kernels.cholesky_lower.py_func(np.ones((2, 2)), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0]], [[np.nan]], 1.0), "cross must be finite"),
        (([[np.inf]], [[1.0]], 1.0), "gram must be finite"),
        (([[1.0]], [[1.0, 1.0]], 1.0), r"gram must have shape \(2, 2\); got \(1, 1\)"),
        ((np.zeros((0, 0)), np.zeros((1, 0)), 1.0), "cross must not be empty"),
        (([[1.0]], [[1.0]], -1.0), "l2 must be finite and nonnegative"),
        (([[1.0, 2.0], [0.0, 1.0]], [[1.0, 1.0]], 1.0), "gram must be symmetric"),
        (([[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0]], 0.0), "gram must be positive semidefinite"),
        (([[-1.0]], [[1.0]], 0.0), "gram must be positive semidefinite"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ridge(*arguments)


def test_bad_mask_is_refused():
    with pytest.raises(ValueError, match="unpenalized must be a boolean array"):
        ridge([[1.0]], [[1.0]], 1.0, unpenalized=[1])


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_symmetry_is_judged_in_the_units_of_the_gram_matrix(unit):
    _, _, G, R = problem(3)
    for relative in (1e-13, 1e-4):
        near = unit * G
        near[0, 1] *= 1.0 + relative
        if relative < 1e-8:
            assert ridge(near, unit * R, unit, tol=1e-8).converged
        else:
            with pytest.raises(ValueError, match="gram must be symmetric"):
                ridge(near, unit * R, unit)


def test_a_gap_that_equals_the_tolerance_is_optimal():
    _, _, G, R = problem(0)
    gap = ridge(G, R, 0.3).gap
    assert ridge(G, R, 0.3, tol=gap).converged


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_definiteness_is_judged_in_the_units_of_the_gram_matrix(unit):
    _, _, G, R = problem(1, m=2, n=6)  # its least eigenvalues are rounding errors of either sign
    assert ridge(unit * G, unit * R, 0.0).converged
    with pytest.raises(ValueError, match="gram must be positive semidefinite"):
        ridge(unit * np.array([[1.0, 2.0], [2.0, 1.0]]), [[unit, unit]], 0.0)


def test_only_what_drowns_in_rounding_errors_counts_as_singular():
    for small in (1e-6, 1e-10, 1e-13):
        found = ridge(np.diag([1.0, small, 0.0]), [[1.0, small, 0.0]], 0.0).x
        np.testing.assert_allclose(found, [[1.0, 1.0, 0.0]], rtol=1e-12)
