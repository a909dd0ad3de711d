"""The metric of the sweeps, its majoriser, and how sweeps are counted."""

from dataclasses import replace

import numpy as np
import pytest

from bcd_implicit.solvers import group_ball_ls, group_ball_metric
from bcd_implicit.solvers.group_ball_ls import (
    GroupBallProblem,
    descend_group_ball,
    solve_group_ball,
)
from bcd_implicit.solvers.group_ball_metric import (
    eigenbases,
    in_bases,
    majoriser,
    sweep_metric,
    turned,
)
from tests.solvers.test_group_ball_ls import problem, wishart


def wide(p=320):
    """A problem with one wide group, and the largest eigenvalues of its two metrics."""
    W = wishart(np.random.default_rng(0), p)
    values, vectors = np.linalg.eigh(W)
    K = vectors[:, -3:] * np.sqrt(values[-3:])
    case = GroupBallProblem.of(
        np.ones((1, p)), [[1.0]], W, 0, [0.1], 0.5, H2=[[1.0]], K=K, sizes=[p]
    )
    return case, values[-1] + np.linalg.eigvalsh(W - K @ K.T)[-1]


def test_a_wide_group_that_needs_too_many_directions_is_bounded_all_the_same(monkeypatch):
    monkeypatch.setattr(group_ball_metric, "_MOST_DIRECTIONS", 5)
    case, expected = wide()
    (value,), bound = majoriser(case)[1:3]
    np.testing.assert_allclose(bound * value, expected, rtol=1e-10)


def test_equal_problems_have_equal_bits():
    case, _ = wide()
    first, second = majoriser(case), majoriser(case)
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_metric_has_as_few_columns_as_the_rank(rank):
    root = np.random.default_rng(1).standard_normal((6, rank)) * [1.0, 1e-3, 1.0][:rank]
    case = problem(0, n=6, H2=root @ root.T)
    total, W, F, K = sweep_metric(case)
    assert F.shape[1] == rank
    Theta = np.random.default_rng(2).standard_normal(case.linear.shape)
    product = total @ Theta @ W - F @ F.T @ Theta @ K @ K.T
    np.testing.assert_allclose(product, case.curved(Theta), rtol=1e-9, atol=1e-11)


def test_sweeps_are_counted_over_all_rounds(monkeypatch):
    plain = group_ball_ls.group_ball_sweeps
    monkeypatch.setattr(
        group_ball_ls, "group_ball_sweeps", lambda *most: plain(*most[:-1], min(most[-1], 2))
    )
    assert solve_group_ball(problem(3, n=6), tol=1e-15, max_sweeps=5).n_iter == 5


def windows(m=100, width=10):
    """Three groups of neighbouring points of smooth curves: a block of W is nearly of rank one."""
    rng = np.random.default_rng(0)
    at = (np.arange(3.0)[:, np.newaxis] + np.linspace(0.0, 0.3, width)).ravel()
    Z = np.exp(-((at - rng.uniform(0.0, 3.0, (m, 5, 1))) ** 2)).sum(axis=1)
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0) + 1e-3 * rng.standard_normal((m, 3 * width))
    y = Z[:, 2] - Z[:, 15] + 0.1 * rng.standard_normal(m)
    return GroupBallProblem.of(
        -(y @ Z)[np.newaxis] / m, [[1.0]], Z.T @ Z / m, 0, 3 * [0.01], 0.5, sizes=3 * [width]
    )


def test_columns_of_a_group_that_say_nearly_the_same_take_few_sweeps():
    """By the largest eigenvalue of a group they took 826, and take 57."""
    found = solve_group_ball(windows(), tol=1e-4, max_sweeps=100)
    assert found.converged
    assert windows().residual(found.x) == pytest.approx(found.gap)


def test_in_its_basis_every_column_of_a_group_has_its_own_eigenvalue():
    case = windows()
    blocks = [slice(10 * g, 10 * g + 10) for g in range(3)]
    expected = np.concatenate([np.linalg.eigvalsh(case.W[g, g]) for g in blocks])
    (value,), bound = majoriser(in_bases(case, eigenbases(case)))[1:3]  # one row
    np.testing.assert_allclose(value * bound, expected, rtol=1e-6)
    assert len(set(majoriser(case)[2][:10])) == 1


def test_bases_change_no_product_and_lead_back():
    case = problem(1, p=6, sizes=[2, 1, 3], threshold=np.full(3, 0.2))
    bases = eigenbases(case)
    assert [len(columns) for columns, *_ in bases] == [1, 1]
    Theta = np.random.default_rng(0).standard_normal(case.linear.shape)
    there = turned(Theta, bases)
    np.testing.assert_allclose(turned(there, bases, back=True), Theta, rtol=1e-12)
    product = turned(in_bases(case, bases).curved(there), bases, back=True)
    np.testing.assert_allclose(product, case.curved(Theta), rtol=1e-10, atol=1e-12)


def test_groups_with_a_constant_column_stay_as_they_are():
    """Among eigenvectors of zero that column would mix with others that say nothing new."""
    case = windows()
    W, linear = case.W.copy(), case.linear.copy()
    W[3], W[:, 3], linear[:, 3] = 0.0, 0.0, 0.0
    case = replace(case, W=W, linear=linear)
    assert eigenbases(case)[0].columns[:, 0].tolist() == [10, 20]
    found = solve_group_ball(case, max_sweeps=50).x
    assert found[0, 3] == 0.0
    assert found[0, :10].any()


def test_directions_in_which_a_group_does_not_vary_are_left_alone():
    """Without a penalty a rounding error over an eigenvalue that is one had no end."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50, 3))
    Z = np.column_stack([Z, Z @ rng.standard_normal((3, 3))])
    linear = -(rng.standard_normal(50) @ Z)[np.newaxis] / 50
    case = GroupBallProblem.of(linear, [[1.0]], Z.T @ Z / 50, 0, [0.0], 0.5, sizes=[6])
    found = solve_group_ball(case, tol=1e-9, max_sweeps=10)
    assert found.converged
    expected = -np.linalg.pinv(case.W, rcond=1e-10) @ linear[0]
    np.testing.assert_allclose(found.x[0], expected, atol=1e-5)


def test_steps_that_are_not_exact_move_groups_by_their_largest_eigenvalue():
    case = windows()
    start = np.zeros_like(case.linear)
    found, _ = descend_group_ball(case, start, case.linear, 1e-9, 1)
    first = case.linear[0, :10]
    move = -first * (1.0 - 0.01 / np.linalg.norm(first)) / np.linalg.eigvalsh(case.W[:10, :10])[-1]
    np.testing.assert_allclose(found.x[0, :10], move, rtol=1e-6)
    assert np.abs(solve_group_ball(case, tol=1e-9, max_sweeps=1).x[0, :10] - move).max() > 1e-3
