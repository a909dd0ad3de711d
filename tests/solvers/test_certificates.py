"""What the certificates say of points on the edge, and what they refuse."""

import numpy as np
import pytest

from bcd_implicit.solvers.certificates import (
    as_activation,
    as_scalar,
    as_thresholds,
    group_lasso_gap,
    group_prox_metric_residual,
    l1_ball_gap,
)


def test_a_single_row_outside_the_ball_is_enough():
    V = np.array([[3.0, 0.0], [0.0, 3.0]])
    assert l1_ball_gap(V, np.array([[1.0, 0.0], [0.0, 1.0]]), 1.0) == 0.0  # on its boundary
    assert l1_ball_gap(V, np.array([[1.0, 0.0], [0.0, np.nextafter(1.0, 2.0)]]), 1.0) == np.inf


@pytest.mark.parametrize(("v", "radius"), [(0.0, 1.0), (1.0, 0.0)])
def test_outside_the_ball_nothing_is_certified_where_gaps_have_no_unit(v, radius):
    V = np.full((1, 2), v)
    assert l1_ball_gap(V, np.array([[0.5, 1.0]]), radius) == np.inf
    assert l1_ball_gap(V, np.zeros((1, 2)), radius) == 0.0


def test_no_residual_is_negative():
    r, e = np.array([3.0, 4.0]), np.ones(2)
    assert group_prox_metric_residual(r, np.zeros(2), e, 7.0) == 0.0


@pytest.mark.parametrize("size", [0.5, 1.0, -2.0, 20.0])
@pytest.mark.parametrize("threshold", [0.05, 5.0])
def test_the_dual_point_is_the_best_multiple_of_the_residual(size, threshold):
    rng, m = np.random.default_rng(0), 30
    U, Y = rng.standard_normal((m, 4)), rng.standard_normal((m, 2))
    Theta, t = size * np.linalg.lstsq(U, Y, rcond=None)[0].T, np.full(4, threshold)
    residual = Y - U @ Theta.T
    correlation = residual.T @ U / m
    most = 1.0 / (np.linalg.norm(correlation, axis=0) / t).max()  # of feasible multiples
    product, square = np.vdot(residual, Y) / m, np.vdot(residual, residual) / m
    reach = min(most, 4.0)  # one is best of all where it is feasible
    dual = max(a * product - 0.5 * a * a * square for a in np.linspace(-reach, reach, 10_001))
    primal = 0.5 * square + t @ np.linalg.norm(Theta, axis=0)
    gap = group_lasso_gap(Y, residual, correlation, Theta, t)
    assert gap == pytest.approx((primal - dual) / (0.5 * np.vdot(Y, Y) / m), rel=1e-5)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_scalars_must_be_finite(bad):
    with pytest.raises(ValueError, match="tol must be finite and nonnegative"):
        as_scalar("tol", bad)


@pytest.mark.parametrize(
    "par",
    [
        (np.inf, 1.0, -np.inf, np.inf),
        (0.0, 1.0, np.inf, np.inf),
        (0.0, 1.0, -np.inf, -np.inf),
        (0.0, 1.0, np.nan, 1.0),
        (0.0, 1.0, -1.0, np.nan),
    ],
)
def test_activations_that_are_none(par):
    with pytest.raises(ValueError, match="par must"):
        as_activation(0, par)


@pytest.mark.parametrize("bad", [np.nan, [0.0, np.nan], -1.0, "many"])
def test_thresholds_that_are_none(bad):
    with pytest.raises(ValueError, match="threshold must"):
        as_thresholds(bad, 2)


def test_a_gap_that_is_not_a_number_proves_nothing():
    V = np.array([[1.0, 2.0]])
    assert l1_ball_gap(V, np.array([[np.nan, 0.0]]), 1.0) == np.inf
