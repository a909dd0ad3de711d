"""Projection on the row-sum ball: optimality, the exact bound, extreme numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from bcd_implicit.solvers import _kernels, reference
from bcd_implicit.solvers.certificates import l1_ball_gap
from bcd_implicit.solvers.projections import project_l1_rows

EPS = np.finfo(float).eps
anything = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-100.0, 100.0)
shapes = array_shapes(min_dims=2, max_dims=2, max_side=8)
radii = st.floats(0.0, 1e3) | st.sampled_from([0.5, 0.95, 1.0, 1e-300, 5e-324, 1e150])


def assert_bounded(A, radius):
    """The promise: sums of a row in any order stay within the radius."""
    rng = np.random.default_rng(0)
    for row in np.abs(A):
        orders = [row, row[::-1], np.sort(row), np.sort(row)[::-1]]
        orders += [rng.permutation(row) for _ in range(3)]
        assert math.fsum(row) <= radius
        for order in orders:
            assert sum(order.tolist()) <= radius
            assert np.sum(order) <= radius
            assert np.abs(order).cumsum()[-1] <= radius
            assert np.linalg.norm(order, 1) <= radius
    assert np.linalg.norm(A, np.inf) <= radius


def exact_projection(v, radius):
    """Projection of one row in rational arithmetic, by sorting."""
    size = sorted((abs(Fraction(float(x))) for x in v), reverse=True)
    radius = Fraction(float(radius))
    if sum(size) <= radius:
        return [float(x) for x in v]
    total, theta = Fraction(0), Fraction(0)
    for j, s in enumerate(size, start=1):
        total += s
        if j * s >= total - radius:
            theta = (total - radius) / j
    return [math.copysign(max(abs(Fraction(float(x))) - theta, Fraction(0)), x) for x in v]


@pytest.mark.parametrize("seed", range(60))
def test_equals_cvxpy(seed):
    rng = np.random.default_rng(seed)
    V = rng.standard_normal(rng.integers(1, 7, 2)) * rng.choice([0.3, 1.0, 5.0])
    radius = rng.uniform(0.1, 2.0)
    pattern = rng.random(V.shape) < 0.7 if seed % 3 == 0 else None
    result = project_l1_rows(V, radius, pattern=pattern)
    assert result.status == "optimal"
    np.testing.assert_allclose(
        result.x, reference.project_l1_rows(V, radius, pattern=pattern), atol=1e-6
    )
    if pattern is not None:
        assert not result.x[~pattern].any()


@settings(max_examples=200)
@given(arrays(float, shapes, elements=anything), radii)
def test_bound_is_exact_and_projecting_twice_changes_nothing(V, radius):
    before = V.copy()
    A = project_l1_rows(V, radius).x
    assert_bounded(A, radius)
    assert (np.abs(A) <= np.abs(V)).all()
    assert (A * np.sign(V) >= 0.0).all()
    np.testing.assert_array_equal(project_l1_rows(A, radius).x, A)
    np.testing.assert_array_equal(V, before)


@settings(max_examples=200)
@given(arrays(float, st.integers(1, 12), elements=anything), radii)
def test_equals_rational_arithmetic(v, radius):
    k = v.size
    exact = exact_projection(v, radius)
    tolerance = 16 * k * EPS * radius + 5e-324 * k
    np.testing.assert_allclose(project_l1_rows(v[None], radius).x[0], exact, 0.0, tolerance)


@settings(max_examples=100)
@given(arrays(float, (2, 5), elements=moderate), st.floats(0.01, 10.0))
def test_is_nonexpansive(V, radius):
    a, b = project_l1_rows(V, radius).x
    assert np.linalg.norm(a - b) <= np.linalg.norm(V[0] - V[1]) + 100 * EPS * radius


@settings(max_examples=100)
@given(
    arrays(float, 5, elements=moderate), arrays(float, 5, elements=moderate), st.floats(0.01, 10.0)
)
def test_satisfies_the_variational_inequality(v, w, radius):
    a = project_l1_rows(v[None], radius).x[0]
    w *= radius / max(radius, np.abs(w).sum())
    slack = 1e3 * EPS * radius * max(1.0, np.abs(v).max())
    for feasible in (w, *(radius * np.vstack([np.eye(5), -np.eye(5)]))):
        assert (v - a) @ (feasible - a) <= slack


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
def test_extreme_numbers(scale):
    V = np.random.default_rng(0).standard_normal((4, 30)) * scale
    for radius in (0.7, 0.7 * scale):
        result = project_l1_rows(V, radius)
        assert np.isfinite(result.x).all()
        assert result.converged
        assert_bounded(result.x, radius)
    np.testing.assert_allclose(
        project_l1_rows(V, 0.7 * scale).x / scale, project_l1_rows(V / scale, 0.7).x, atol=1e-14
    )


def test_rows_inside_come_back_bit_for_bit():
    rng = np.random.default_rng(1)
    V = rng.standard_normal((50, 20))
    V *= (1.0 - 5 * 20 * EPS) * 0.9 / np.abs(V).sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(project_l1_rows(V, 0.9).x, V)


def test_rows_on_the_border_shrink_by_the_margin_only():
    rng = np.random.default_rng(2)
    V = rng.standard_normal((50, 20))
    V *= 0.9 / np.abs(V).sum(axis=1, keepdims=True)
    A = project_l1_rows(V, 0.9).x
    assert_bounded(A, 0.9)
    np.testing.assert_allclose(A, V, rtol=0.0, atol=6 * 20 * EPS)


def test_rounding_at_the_border_is_harmless():
    """Where the threshold is all rounding error: nothing grows, zeros stay, twice is once."""
    rng = np.random.default_rng(7)
    for k in (2, 3, 7, 20, 150):
        V = rng.standard_normal((2000, k)) * (rng.random((2000, k)) < 0.7)
        total = np.abs(V).sum(axis=1, keepdims=True)
        V *= 0.9 * (1.0 + EPS * rng.integers(-5 * k, 5 * k, (2000, 1))) / np.where(total, total, 1)
        for W in (V, 1.5 * V):
            A = project_l1_rows(W, 0.9).x
            assert (np.abs(A) <= np.abs(W)).all()
            np.testing.assert_array_equal(project_l1_rows(A, 0.9).x, A)
            thresholds = [_kernels.project_l1_row(row, 0.9, np.empty(k)) for row in W.copy()]
            assert min(thresholds) >= 0.0


def test_large_rows_keep_the_bound():
    rng = np.random.default_rng(3)
    V = rng.standard_cauchy((20, 3000))
    for radius in (0.5, 0.95, 100.0):
        assert_bounded(project_l1_rows(V, radius).x, radius)


def test_rounding_of_the_threshold_is_taken_back():
    """Equal entries below a large one: uncorrected, the sum exceeds the radius by 6000 eps."""
    rng = np.random.default_rng(0)
    W = np.ones((300, 3000))
    W[:, 0] = rng.uniform(1.0, 1000.0, 300)
    W *= 0.9 / W.sum(axis=1, keepdims=True)
    for factor in (1.0, 2.0, 50.0):
        A = project_l1_rows(factor * W, 0.9).x
        assert max(math.fsum(row) for row in A) <= 0.9 * (1.0 - 2.0 * 3000 * EPS)
        assert (A >= 0.0).all()
        assert (factor * W >= A).all()
        np.testing.assert_array_equal(project_l1_rows(A, 0.9).x, A)
    assert_bounded(A[:5], 0.9)
    W = np.ones((20, 100_000))
    W[:, 0] = rng.uniform(1.0, 1000.0, 20)
    W *= 0.9 / W.sum(axis=1, keepdims=True)
    A = W.copy()
    assert min(_kernels.project_l1_row(row, 0.9, np.empty(row.size)) for row in A) >= 0.0
    assert (W >= A).all()


@pytest.mark.parametrize("seed", range(5))
def test_gap_is_the_duality_gap(seed):
    rng = np.random.default_rng(seed)
    V = rng.standard_normal((4, 6))
    radius = 0.8
    # a feasible candidate that is not the solution: compare with primal minus dual objective
    A = rng.standard_normal(V.shape)
    A *= radius / np.abs(A).sum(axis=1, keepdims=True) * rng.uniform(0.1, 0.99, (4, 1))
    U = V - A
    primal = 0.5 * np.sum((A - V) ** 2)
    dual = np.sum(U * V) - 0.5 * np.sum(U**2) - radius * np.abs(U).max(axis=1).sum()
    scale = radius * np.abs(V).max(axis=1).sum()
    assert l1_ball_gap(V, A, radius) == pytest.approx((primal - dual) / scale, rel=1e-10)
    result = project_l1_rows(V, radius)
    assert result.gap <= 1e-13
    assert l1_ball_gap(V, 1.001 * result.x, radius) == math.inf
    assert project_l1_rows(V, radius, tol=0.0).converged == (result.gap == 0.0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_thin_matrices(shape):
    V = np.random.default_rng(4).standard_normal(shape) * 3
    np.testing.assert_allclose(
        project_l1_rows(V, 1.0).x, [exact_projection(row, 1.0) for row in V], atol=1e-14
    )


def test_ties_zeros_and_radius_zero():
    assert not project_l1_rows(np.zeros((2, 3)), 1.0).x.any()
    assert project_l1_rows(np.zeros((2, 3)), 1.0).converged
    assert not project_l1_rows(np.ones((2, 3)), 0.0).x.any()
    assert not np.signbit(project_l1_rows([[-1.0, 5.0]], 1.0).x).any()  # no negative zeros
    np.testing.assert_allclose(project_l1_rows(-np.ones((2, 4)), 1.0).x, -0.25, rtol=1e-14)
    result = project_l1_rows(np.ones((2, 2)), 1.0, pattern=np.zeros((2, 2), dtype=bool))
    assert not result.x.any()
    assert result.converged


def test_accepts_other_orders_and_types():
    V = np.random.default_rng(5).standard_normal((6, 4)).astype(np.float32)
    expected = project_l1_rows(V.astype(float), 0.5).x
    np.testing.assert_array_equal(project_l1_rows(np.asfortranarray(V), 0.5).x, expected)
    np.testing.assert_array_equal(project_l1_rows(V.tolist(), 0.5).x, expected)
    assert expected.flags.c_contiguous


def test_compiled_kernels_equal_their_source():
    rng = np.random.default_rng(6)
    for _ in range(20):
        v = rng.standard_normal(9)
        w, work = v.copy(), np.empty(9)
        theta = _kernels.project_l1_row(v, 1.0, work)
        assert _kernels.project_l1_row.py_func(w, 1.0, work) == pytest.approx(theta, rel=1e-14)
        np.testing.assert_allclose(v, w, rtol=1e-13, atol=1e-16)
    d = rng.standard_normal(33)
    for kernel, args in (
        (_kernels._sum_above, (d, 0.1)),
        (_kernels._abs_into, (d, np.empty(33))),
        (_kernels._shift, (d.copy(), 0.0)),
        (_kernels._dot, (d, d[::-1].copy(), 20)),
    ):
        np.testing.assert_allclose(kernel(*args), kernel.py_func(*args), rtol=1e-12, atol=1e-14)
    V = rng.standard_normal((3, 9))
    W = V.copy()
    _kernels.project_l1_rows(V, 1.0, np.empty(9))
    _kernels.project_l1_rows.py_func(W, 1.0, np.empty(9))
    np.testing.assert_array_equal(V, W)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[np.nan]], 1.0), "V must be finite"),
        (([[np.inf]], 1.0), "V must be finite"),
        ((np.zeros((0, 3)), 1.0), "V must not be empty"),
        (([1.0, 2.0], 1.0), "V must have shape"),
        (([["a"]], 1.0), "V must hold real numbers"),
        (([[1j]], 1.0), "V must hold real numbers"),
        (([[1.0]], -1.0), "radius must be finite and nonnegative; got -1.0"),
        (([[1.0]], np.nan), "radius must be finite"),
        (([[1.0, 1.0]], 1e308), "radius must leave sums"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        project_l1_rows(*arguments)


@pytest.mark.parametrize("pattern", [[[True]], [[1, 0]]])
def test_bad_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="pattern must be a boolean array of shape"):
        project_l1_rows([[1.0, 2.0]], 1.0, pattern=pattern)
