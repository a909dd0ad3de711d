"""The metric of the sweeps, its majoriser, and how sweeps are counted."""

import numpy as np
import pytest

from bcd_implicit.solvers import group_ball_ls
from bcd_implicit.solvers.group_ball_ls import (
    GroupBallProblem,
    majoriser,
    solve_group_ball,
    sweep_metric,
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
    monkeypatch.setattr(group_ball_ls, "_MOST_DIRECTIONS", 5)
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
