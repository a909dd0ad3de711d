"""Newton's method on the groups in use."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from bcd_implicit.solvers import group_ball_newton
from bcd_implicit.solvers.group_ball_ls import (
    GroupBallProblem,
    descend_group_ball,
    solve_group_ball,
)
from bcd_implicit.solvers.group_ball_newton import beyond, few_in_use


def curves(m=60, p=40):
    """Neighbouring points of smooth curves, of which two act."""
    rng = np.random.default_rng(0)
    at = np.linspace(0.0, 3.0, p)
    Z = np.exp(-((at - rng.uniform(0.0, 3.0, (m, 5, 1))) ** 2)).sum(axis=1)
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    return Z, Z[:, 5] - Z[:, 25] + 0.1 * rng.standard_normal(m)


def problem_of(Z, Y, threshold, **options):
    Y = Y.reshape(len(Z), -1)
    W, H = Z.T @ Z / len(Z), np.eye(Y.shape[1])
    return GroupBallProblem.of(-Y.T @ Z / len(Z), H, W, 0, threshold, 0.5, **options)


def test_columns_that_hardly_differ_take_few_sweeps():
    case = problem_of(*curves(), 1e-3)
    found = solve_group_ball(case, tol=1e-6, max_sweeps=50)
    assert found.converged
    start = np.zeros_like(case.linear)
    by_sweeps, _ = descend_group_ball(case, start, case.linear, 1e-6, 1000)
    assert not by_sweeps.converged
    assert case.objective(found.x) < case.objective(by_sweeps.x)


def test_what_would_change_its_sign_leaves():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 5))
    y = Z @ [1.0, -1.0, 0.02, 0.0, 0.0] + 0.1 * rng.standard_normal(50)
    case = problem_of(Z, y, 0.1)
    start = np.array([[1.0, -0.5, -0.5, 0.0, 0.3]])
    found, slope = beyond(case, start, case.gradient(start))
    assert np.flatnonzero(found[0]).tolist() == [0, 1]
    np.testing.assert_allclose(slope, case.gradient(found))
    expected = Lasso(0.1, fit_intercept=False, tol=1e-12).fit(Z[:, :2], y).coef_
    np.testing.assert_allclose(found[0, :2], expected, rtol=1e-6)


@pytest.mark.parametrize("sizes", [None, [1, 2, 3]])
def test_a_step_near_the_solution_squares_the_error(sizes):
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 6))
    count = 6 if sizes is None else 3
    case = problem_of(Z, Z @ rng.standard_normal((6, 3)), np.full(count, 0.1), sizes=sizes)
    right = solve_group_ball(case, tol=1e-13).x
    start = right + 1e-3 * rng.standard_normal(right.shape)
    found, _ = beyond(case, start, case.gradient(start))
    assert np.abs(found - right).max() < 1e-5


def test_rows_that_no_group_may_fill_stay_empty():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 4))
    entry = np.array([True, False, True])
    case = replace(problem_of(Z, Z @ rng.standard_normal((4, 3)), 0.1), entry=entry)
    start = np.where(entry[:, np.newaxis], 1.0, 0.0) * np.ones((3, 4))
    found, _ = beyond(case, start, case.gradient(start))
    assert (found[1] == 0.0).all()
    assert case.objective(found) < case.objective(start)


def test_what_is_not_better_is_not_taken(monkeypatch):
    case = problem_of(*curves(), 1e-3)
    start = np.full_like(case.linear, 0.1)
    slope = case.gradient(start)
    monkeypatch.setattr(group_ball_newton, "_step", lambda *_: np.full((1, 40), 5.0))
    found, same = beyond(case, start, slope)
    assert found is start
    assert same is slope


@pytest.mark.parametrize("kind", ["zero", "many", "singular"])
def test_where_there_is_no_step(kind, monkeypatch):
    case = problem_of(*curves(), 1e-3)
    start = np.full_like(case.linear, 0.0 if kind == "zero" else 0.1)
    if kind == "many":
        monkeypatch.setattr(group_ball_newton, "_MOST_UNKNOWNS", 39)
        assert not few_in_use(case, start)
    if kind == "singular":
        monkeypatch.setattr(group_ball_newton, "_ROUNDING", -1.0)
    assert beyond(case, start, case.gradient(start))[0] is start
