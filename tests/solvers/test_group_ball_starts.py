"""Where the (A, B) block starts from, and when it says that it has ended."""

import numpy as np
import pytest

from bcd_implicit.solvers import group_ball_ls
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball


@pytest.mark.parametrize("sweeps", [0, 50])
def test_a_start_keeps_nothing_that_is_not_allowed(sweeps):
    """Two states and an output, three inputs and an intercept."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((40, 6))
    entry, pattern = np.array([True, False, True]), np.array([[True, False], [True, True]])
    problem = GroupBallProblem.of(
        rng.standard_normal((3, 6)),
        np.eye(3),
        Z.T @ Z / 40,
        2,
        np.full(3, 0.01),
        0.5,
        pattern=pattern,
        entry=entry,
    )
    found = solve_group_ball(problem, Theta0=np.ones((3, 6)), max_sweeps=sweeps).x
    allowed = np.zeros((3, 6), dtype=bool)
    allowed[:2, :2], allowed[:, 2:5], allowed[:2, 5] = pattern, entry[:, None], True
    assert not found[~allowed].any()
    assert np.abs(found[:2, :2]).sum(axis=1).max() <= 0.5
    if not sweeps:
        assert (found[:, 2:][allowed[:, 2:]] == 1.0).all()


@pytest.fixture
def simple():
    """A small problem that takes a few sweeps."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((40, 6)) + 1.0
    return GroupBallProblem.of(
        rng.standard_normal((3, 6)), np.eye(3), Z.T @ Z / 40, 2, np.full(3, 0.01), 0.5
    )


def test_a_solution_that_the_last_sweep_finds_is_one(simple):
    found = solve_group_ball(simple)
    assert found.n_iter > 1
    again = solve_group_ball(simple, max_sweeps=found.n_iter)
    assert (again.status, again.n_iter) == ("optimal", found.n_iter)


def test_the_residual_is_computed_anew(simple, monkeypatch):
    """However wrong the gradient is that the sweeps keep up to date."""
    plain = group_ball_ls.group_ball_sweeps

    def drifting(*arguments):
        n_iter = plain(*arguments)
        arguments[9][:] += 1.0
        return n_iter

    monkeypatch.setattr(group_ball_ls, "group_ball_sweeps", drifting)
    found = solve_group_ball(simple)
    assert found.status == "optimal"
    assert found.gap == pytest.approx(simple.residual(found.x), abs=1e-12)
