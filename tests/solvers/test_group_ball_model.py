"""The (A, B) block with a quadratic that is known by its products."""

from dataclasses import replace

import numpy as np
import pytest

from bcd_implicit.solvers.group_ball_ls import solve_group_ball
from bcd_implicit.solvers.group_ball_model import refine_group_ball
from tests.solvers.test_group_ball_ls import objective, varied, wishart


def feasible(case, rng):
    """A feasible Theta that is not zero."""
    noise = rng.standard_normal(case.linear.shape)
    return solve_group_ball(replace(case, linear=noise), tol=1.0, max_sweeps=1).x


def other_metric(case, start, size):
    """The problem in another metric, with the same gradient at ``start``, and its products."""
    rng = np.random.default_rng(1)
    r, P = case.linear.shape
    other = replace(
        case,
        linear=np.zeros((r, P)),
        H=size * (wishart(rng, r) + 0.1 * np.eye(r)),
        W=wishart(rng, P) + 0.1 * np.eye(P),
        H2=np.zeros((0, 0)),
        K=np.zeros((0, 0)),
    )
    other = replace(other, linear=case.gradient(start) - other.gradient(start))
    return other, lambda E: case.gradient(E) - case.linear


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0], ids=["flat", "alike", "steep"])
@pytest.mark.parametrize("seed", range(40))
def test_the_solution_does_not_depend_on_the_metric(seed, size):
    case = varied(seed)
    rng = np.random.default_rng(seed)
    ridge = 0.1 * np.eye(case.linear.shape[1])
    case = replace(case, H=case.H + 0.1 * np.eye(len(case.H)), W=case.W + ridge)
    start = feasible(case, rng)
    other, product = other_metric(case, start, size)
    found = refine_group_ball(other, product, start, feasible(case, rng), tol=1e-6, max_steps=9999)
    assert found.converged, found.gap
    least = objective(case, solve_group_ball(case, tol=1e-10).x)
    assert objective(case, found.x) <= least + 1e-7 * (abs(least) + np.abs(case.linear).max())
    n = case.n_states
    assert not found.x[:n, :n][~case.pattern].any()
    assert not found.x[n:, :n].any()


@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_the_units_of_the_data_do_not_matter(scale):
    case = varied(2)
    start = feasible(case, np.random.default_rng(0))
    other, product = other_metric(case, start, 1.0)
    large = replace(
        other, linear=scale * other.linear, H=scale * other.H, threshold=scale * other.threshold
    )
    one = refine_group_ball(other, product, start, start, max_steps=30)
    two = refine_group_ball(large, lambda E: scale * product(E), start, start, max_steps=30)
    np.testing.assert_allclose(two.x, one.x, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("max_steps", [0, 1, 2, 5, 20])
@pytest.mark.parametrize("seed", range(12))
def test_the_result_is_no_worse_than_either_start(seed, max_steps):
    case = varied(seed)
    rng = np.random.default_rng(seed)
    starts = feasible(case, rng), feasible(case, rng)
    other, product = other_metric(case, starts[0], 1e-3)
    found = refine_group_ball(other, product, *starts, tol=0.0, max_steps=max_steps)
    best = min(objective(case, Theta) for Theta in starts)
    assert objective(case, found.x) <= best + 1e-12 * abs(best)
    assert found.n_iter <= max_steps
    n = case.n_states
    assert (np.abs(found.x[:n, :n]).sum(axis=1) <= case.radius).all()


def test_products_that_are_not_numbers_lead_nowhere():
    case = varied(1)
    rng = np.random.default_rng(0)
    start = feasible(case, rng)
    found = refine_group_ball(case, lambda E: np.nan * E, start, feasible(case, rng), tol=0.0)
    np.testing.assert_allclose(found.x, start, rtol=1e-14)


def test_small_gains_end_it():
    case = varied(1)
    start = feasible(case, np.random.default_rng(0))
    other, product = other_metric(case, start, 1.0)
    long = refine_group_ball(other, product, start, start, tol=1e-10)
    short = refine_group_ball(other, product, start, start, tol=1e-10, least_gain=0.1)
    assert short.n_iter < long.n_iter
    assert short.gap > long.gap


@pytest.mark.parametrize("seed", range(12))
def test_a_problem_with_some_groups_is_the_whole_one_where_the_others_are_zero(seed):
    case = varied(seed)
    rng = np.random.default_rng(seed)
    Theta = feasible(case, rng)
    groups = rng.random(len(case.sizes)) < 0.5
    outside = np.repeat(~groups, case.sizes)
    Theta[:, case.n_states : case.n_states + case.n_inputs][:, outside] = 0.0
    some, places = case.only(groups)
    assert some.objective(Theta[:, places]) == pytest.approx(case.objective(Theta), rel=1e-12)
    np.testing.assert_allclose(
        some.gradient(Theta[:, places]), case.gradient(Theta)[:, places], atol=1e-12
    )
    assert not (case.used(Theta) & ~groups).any()
    np.testing.assert_array_equal(some.used(Theta[:, places]), case.used(Theta)[groups])


def test_a_gap_that_equals_the_tolerance_is_optimal():
    case = varied(1)
    start = feasible(case, np.random.default_rng(0))
    other, product = other_metric(case, start, 1.0)
    found = refine_group_ball(other, product, start, start, max_steps=20)
    again = refine_group_ball(other, product, start, start, tol=found.gap, max_steps=20)
    assert again.converged
