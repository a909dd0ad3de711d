"""Newton's method by itself: its updates, and its last step."""

import numpy as np
import pytest

from bcd_implicit._newton import _Metric, newton


def quadratic(constant=0.0, n=3):
    """Objective and expansion of a quadratic with its minimum at one; the calls of each."""
    K = np.random.default_rng(0).standard_normal((2 * n, n))
    H, calls = K.T @ K, {"objective": 0, "expansion": 0}

    def value(x):
        return constant + 0.5 * (x - 1.0) @ H @ (x - 1.0), H @ (x - 1.0)

    def objective(x):
        calls["objective"] += 1
        return value(x)

    def expansion(x):
        calls["expansion"] += 1
        return *value(x), H.copy()

    return objective, expansion, calls


def test_updates_meet_the_secant_equation():
    rng = np.random.default_rng(1)
    K, L = rng.standard_normal((2, 12, 6))
    H, metric = K.T @ K, _Metric(L.T @ L)
    for s in rng.standard_normal((4, 6)):
        metric.update(s, H @ s)
        np.testing.assert_allclose(metric.step(-(H @ s)), s, rtol=1e-8)


def test_a_change_without_curvature_is_no_update():
    metric, gradient = _Metric(np.diag([1.0, 2.0])), np.ones(2)
    for y in (np.zeros(2), -np.ones(2)):
        metric.update(np.ones(2), y)
    np.testing.assert_allclose(metric.step(gradient), [-1.0, -0.5], rtol=1e-9)


@pytest.mark.parametrize(("part", "expansions"), [(0.9, 2), (1.1, 1)])
def test_the_last_step_is_the_first_that_promises_little(part, expansions):
    """A step promises what a quadratic falls by: here all of it but the constant."""
    objective, expansion, calls = quadratic(constant=1.0)
    fall = objective(np.zeros(3))[0] - 1.0
    value, x = newton(objective, expansion, np.zeros(3), part * fall / (1.0 + fall))
    assert value == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(x, 1.0, rtol=1e-9)
    assert calls["expansion"] == expansions


def test_a_step_that_the_values_cannot_tell_is_made():
    objective, expansion, _ = quadratic(constant=1e6)
    _, x = newton(objective, expansion, np.full(3, 1.0 + 1e-7), 1e-12)
    np.testing.assert_allclose(x, 1.0, rtol=1e-11)
