"""What the (A, B) block keeps of a start."""

import numpy as np
import pytest

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
