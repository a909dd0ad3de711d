"""Group soft-thresholding and its counterpart in a metric."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bcd_implicit.solvers import _kernels, reference
from bcd_implicit.solvers.certificates import (
    group_prox_metric_residual,
    group_soft_threshold_gap,
)
from bcd_implicit.solvers.proximal import group_prox_metric, group_soft_threshold

moderate = st.floats(-100.0, 100.0)
thresholds = st.floats(0.0, 100.0)


@pytest.mark.parametrize("seed", range(60))
def test_group_soft_threshold_equals_cvxpy(seed):
    rng = np.random.default_rng(seed)
    V = rng.standard_normal(rng.integers(1, 7, 2))
    t = rng.uniform(0.0, 2.5, V.shape[1]) if seed % 2 else rng.uniform(0.0, 2.0)
    result = group_soft_threshold(V, t)
    assert result.converged
    np.testing.assert_allclose(result.x, reference.group_soft_threshold(V, t), atol=1e-6)


@pytest.mark.parametrize("seed", range(60))
def test_group_prox_metric_equals_cvxpy(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 7)
    r, e = rng.standard_normal(n), rng.uniform(0.1, 2.0, n)
    if seed % 2:
        e *= rng.random(n) > 0.3
    t = 1.3 * np.linalg.norm(r[e == 0.0]) + rng.uniform(0.0, 1.0)
    result = group_prox_metric(r, e, t)
    assert result.converged
    expected = reference.group_prox_metric(r, e, t)
    np.testing.assert_allclose(result.x, expected, atol=1e-6 * max(1.0, np.abs(expected).max()))


@settings(max_examples=150)
@given(arrays(float, (3, 4, 2), elements=moderate), thresholds)
def test_group_soft_threshold_is_a_prox(pair, t):
    V, W = pair[..., 0].copy(), pair[..., 1].copy()
    X, Y = group_soft_threshold(V, t).x, group_soft_threshold(W, t).x
    assert np.linalg.norm(X - Y) <= np.linalg.norm(V - W) + 1e-12
    # V - X is a subgradient at X: the penalty lies above its linearisation everywhere
    for point in (W, np.zeros_like(V), V):
        rise = t * (np.linalg.norm(point, axis=0) - np.linalg.norm(X, axis=0)).sum()
        assert rise >= np.sum((V - X) * (point - X)) - 1e-9 * (1.0 + t)
    short = np.array([math.hypot(*column) for column in V.T]) < t * (1.0 - 1e-14)
    assert not X[:, short].any()


@settings(max_examples=200)
@given(
    arrays(float, (5, 2), elements=moderate),
    arrays(float, 5, elements=st.floats(1e-3, 1e3)),
    thresholds,
)
def test_group_prox_metric_is_optimal(pair, e, t):
    r, w = pair[:, 0].copy(), pair[:, 1].copy()
    result = group_prox_metric(r, e, t)
    b = result.x
    if np.abs(r).max() == 0.0 or np.abs(r).max() > 1e-290:  # the solution is not subnormal
        assert result.gap <= 1e-13
    slack = 1e-10 * (1.0 + t) * (1.0 + np.abs(w).max() + np.abs(b).max())
    for point in (w, np.zeros(5), r):
        rise = t * (np.linalg.norm(point) - np.linalg.norm(b))
        assert rise >= (r - e * b) @ (point - b) - slack
    # monotone in the metric: (b1 - b2)' E (b1 - b2) <= (b1 - b2)'(r1 - r2)
    d = b - group_prox_metric(w, e, t).x
    assert d @ (e * d) <= d @ (r - w) + 1e-9 * (1.0 + np.abs(d).max() ** 2 * e.max())


@settings(max_examples=100)
@given(arrays(float, 4, elements=moderate), thresholds)
def test_metric_of_identity_is_soft_thresholding(r, t):
    assume(np.abs(r).max() > 1e-100)
    length = np.linalg.norm(r)
    b = group_prox_metric(r, np.ones(4), t).x
    np.testing.assert_allclose(b, group_soft_threshold(r[:, None], t).x[:, 0], atol=1e-13 * length)


def bisected_length(r, e, t):
    """Norm of the minimiser in extended precision, by bisection."""
    r, e, t = np.longdouble(r), np.longdouble(e), np.longdouble(t)

    def excess(s):
        return np.sum((r / (e * s + t)) ** 2) - 1

    low, high = np.longdouble(0), np.longdouble(1)
    while excess(high) > 0:
        high *= 2
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


@pytest.mark.parametrize("seed", range(40))
def test_group_prox_metric_to_the_last_digits(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 9)
    r = rng.standard_normal(n)
    e = 10.0 ** rng.uniform(-12.0 * (seed % 4) / 3.0, 0.0, n)
    t = rng.uniform(0.05, 0.7) * np.linalg.norm(r)
    if seed % 5 == 0 and n > 2:
        e[0], r[0] = 0.0, 0.9 * t
    out = np.empty(n)
    s = bisected_length(r, e, t)
    scale = 10.0 ** rng.uniform(-100, 100)
    bend = 10.0 ** rng.uniform(-50, 50)
    length = _kernels.group_prox_diag(r * scale, e * bend, t * scale, 0.0, out)
    assert length * bend / scale == pytest.approx(float(s), rel=3e-14)
    expected = np.longdouble(r) * s / (np.longdouble(e) * s + np.longdouble(t))
    np.testing.assert_allclose(out * bend / scale, expected.astype(float), rtol=3e-14)


@pytest.mark.parametrize("seed", range(20))
def test_any_guess_leads_to_the_same_length(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 9)
    r, e = rng.standard_normal(n), 10.0 ** rng.uniform(-6.0, 0.0, n)
    t, out, other = rng.uniform(0.05, 0.7) * np.linalg.norm(r), np.empty(n), np.empty(n)
    length = _kernels.group_prox_diag(r, e, t, 0.0, out)
    near = (0.5, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 2.0)
    for factor in (1e-300, 1e-9, *near, 1e5, 1e9, 1e30, 1e300, np.inf):
        assert _kernels.group_prox_diag(r, e, t, length * factor, other) == pytest.approx(
            length, rel=3e-14
        )
        np.testing.assert_allclose(other, out, rtol=3e-14)


def test_powers_of_two_scale_exactly():
    rng = np.random.default_rng(0)
    r, e, t = rng.standard_normal(6), rng.uniform(0.0, 1.0, 6), 0.5
    b = group_prox_metric(r, e, t).x
    for power in (-400, -3, 5, 400):
        scaled = group_prox_metric(np.ldexp(r, power), e, np.ldexp(t, power))
        np.testing.assert_array_equal(scaled.x, np.ldexp(b, power))
        assert scaled.converged


def test_zero_exactly_when_the_linear_term_is_short():
    r = np.array([3.0, 4.0])
    assert not group_prox_metric(r, [1.0, 2.0], 5.0).x.any()
    assert not group_prox_metric(r, [0.0, 0.0], 5.0).x.any()
    assert group_prox_metric(r, [1.0, 2.0], 5.0 * (1.0 - 1e-14)).x.all()
    assert not group_prox_metric(np.zeros(2), [0.0, 0.0], 0.0).x.any()
    np.testing.assert_array_equal(group_prox_metric([3.0, 0.0], [2.0, 0.0], 0.0).x, [1.5, 0.0])


@pytest.mark.parametrize(
    ("e", "t"), [([0.0, 0.0], 4.9), ([1.0, 0.0], 4.0), ([1.0, 0.0], 0.0), ([0.0, 5.0], 2.0)]
)
def test_unbounded_problems_are_refused(e, t):
    with pytest.raises(ValueError, match="r must be shorter than threshold in the null space"):
        group_prox_metric([3.0, 4.0], e, t)


def test_minimisers_at_the_largest_numbers():
    r = np.array([1e308, 1e308])
    np.testing.assert_array_equal(group_prox_metric(r, [1.0, 1.0], 1.0).x, r)
    with pytest.raises(ValueError, match=r"that the minimiser overflows; .* entries up to 1e\+308"):
        group_prox_metric(r, [0.5, 0.5], 1.0)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e150, 1e300])
def test_extreme_numbers(scale):
    V = np.random.default_rng(1).standard_normal((4, 3))
    expected = group_soft_threshold(V, [0.1, 1.0, 9.0]).x
    result = group_soft_threshold(V * scale, np.array([0.1, 1.0, 9.0]) * scale)
    assert result.converged
    np.testing.assert_allclose(result.x / scale, expected, rtol=1e-13)


def test_degenerate_columns():
    V = np.array([[0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 1.0, 4.0]])
    result = group_soft_threshold(V, [0.0, 0.5, 0.5, np.inf])
    assert result.converged
    assert not result.x[:, [0, 3]].any()
    np.testing.assert_array_equal(result.x[:, 1], result.x[:, 2])
    np.testing.assert_array_equal(group_soft_threshold(V, 0.0).x, V)
    assert group_soft_threshold(np.zeros((2, 2)), 1.0).gap == 0.0
    assert group_soft_threshold_gap(np.zeros((2, 2)), np.ones((2, 2)), 1.0) == np.inf
    assert group_prox_metric_residual(np.zeros(2), np.ones(2), np.ones(2), 1.0) == np.inf


@pytest.mark.parametrize("seed", range(5))
def test_gap_is_primal_minus_dual(seed):
    rng = np.random.default_rng(seed)
    V, X, t = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.uniform(0.1, 1.0, 4)
    primal = 0.5 * np.sum((X - V) ** 2) + t @ np.linalg.norm(X, axis=0)
    U = V - X
    U = U * np.minimum(1.0, t / np.linalg.norm(U, axis=0))
    dual = np.sum(U * V) - 0.5 * np.sum(U**2)
    gap = group_soft_threshold_gap(V, X, t)
    assert gap == pytest.approx((primal - dual) / (0.5 * np.sum(V**2)), rel=1e-12)
    assert group_soft_threshold(V, t).gap <= 1e-14


@pytest.mark.parametrize("seed", range(5))
def test_metric_residual_is_the_subgradient(seed):
    rng = np.random.default_rng(seed)
    r, e, b, t = rng.standard_normal(4), rng.uniform(0, 1, 4), rng.standard_normal(4), 0.3
    gradient = e * b - r + t * b / np.linalg.norm(b)
    expected = np.linalg.norm(gradient) / np.linalg.norm(r)
    assert group_prox_metric_residual(r, b, e, t) == pytest.approx(expected, rel=1e-12)
    at_zero = (np.linalg.norm(r) - t) / np.linalg.norm(r)
    assert group_prox_metric_residual(r, np.zeros(4), e, t) == pytest.approx(at_zero, rel=1e-12)


def test_compiled_kernels_equal_their_source():
    rng = np.random.default_rng(2)
    for n in (1, 4, 9):
        r, e, t = rng.standard_normal(n), rng.uniform(0.0, 1.0, n), 0.2
        one, two = np.empty(n), np.empty(n)
        length = _kernels.group_prox_diag(r, e, t, 0.0, one)
        same = _kernels.group_prox_diag.py_func(r, e, t, 0.0, two)
        assert same == pytest.approx(length, rel=1e-14)
        np.testing.assert_allclose(one, two, rtol=1e-13)
        V = rng.standard_normal((n, 5))
        W, t5 = V.copy(), rng.uniform(0.0, 1.0, 5)
        _kernels.shrink_columns(V, t5, np.empty(5), np.empty(5))
        _kernels.shrink_columns.py_func(W, t5, np.empty(5), np.empty(5))
        np.testing.assert_allclose(V, W, rtol=1e-13)
    none, some = np.zeros(2), np.ones(2)
    assert _kernels.group_prox_diag.py_func(some, none, 0.1, 0.0, np.empty(2)) == np.inf
    assert _kernels.group_prox_diag.py_func(none, some, 0.1, 0.0, np.empty(2)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[np.nan]], 1.0), "V must be finite"),
        ((np.zeros((3, 0)), 1.0), "V must not be empty"),
        (([[1.0, 2.0]], [1.0, 2.0, 3.0]), "threshold must be one or 2 numbers"),
        (([[1.0, 2.0]], -1.0), "threshold must be one or 2 numbers"),
        (([[1.0, 2.0]], np.nan), "threshold must be one or 2 numbers"),
    ],
)
def test_bad_input_of_soft_threshold_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        group_soft_threshold(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.nan], [1.0], 1.0), "r must be finite"),
        (([], [], 1.0), "r must not be empty"),
        (([1.0], [1.0, 2.0], 1.0), r"eigenvalues must have shape \(1,\)"),
        (([1.0, 1.0], [2.0, -1.0], 1.0), "eigenvalues must not be negative"),
        (([1.0], [1.0], -1.0), "threshold must be finite and nonnegative"),
    ],
)
def test_bad_input_of_metric_prox_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        group_prox_metric(*arguments)
