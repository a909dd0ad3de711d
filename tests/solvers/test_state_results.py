"""The state block: iterations and gaps of its results, starts, and rounding errors."""

import numpy as np
import pytest

from bcd_implicit.solvers.certificates import StateMatrices
from bcd_implicit.solvers.state_qp import is_jointly_convex, solve_states
from bcd_implicit.solvers.state_tiles import StateTiles
from tests.solvers.test_state_qp import ACTIVATIONS, NAMES, problem


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("seed", range(6))
def test_joint_convexity_is_judged_up_to_rounding_in_any_units(seed, unit):
    V = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 4)))[0]
    A, lam, Q = 0.5 * (np.eye(5) - V @ V.T), np.full(5, unit), np.zeros((5, 5))  # singular
    assert is_jointly_convex(A, lam, Q)
    assert not is_jointly_convex(A + 1e-12 * np.eye(5), lam, Q)


@pytest.mark.parametrize("max_iter", [18, 19, 30])
@pytest.mark.parametrize("name", ["relu", "leaky"])
def test_iterations_of_tiles_count(name, max_iter):
    (Q, c, zeta, *rest), _ = problem(0, name, m=3, n=9, kappa=0.97)
    found = solve_states(Q, c, zeta, *rest, tol=0.0, max_iter=max_iter)
    assert found.n_iter == max_iter
    assert found.gap < 1e-2  # infinite only where nothing has been evaluated


def test_threads_report_the_most_iterations_of_a_sample():
    (Q, c, zeta, *rest), lipschitz = problem(5, "tanh", m=8000, n=2, kappa=0.9)  # four parts
    one, two = (solve_states(Q, c, zeta, *rest, lipschitz=lipschitz, n_jobs=k) for k in (1, 2))
    assert one.n_iter == two.n_iter > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_the_activation_of_the_inputs(name):
    arguments, lipschitz = problem(0, name)
    start = solve_states(*arguments, lipschitz=lipschitz, max_iter=0).x
    np.testing.assert_allclose(start, ACTIVATIONS[name][3](arguments[2]), rtol=1e-14)


def test_a_gap_that_equals_the_tolerance_is_optimal():
    (Q, c, zeta, *rest), _ = problem(0, "relu")
    found = solve_states(Q, 0.0 * c, 0.0 * zeta, *rest, X0=0.0 * c, tol=0.0)
    assert (found.gap, found.status) == (0.0, "optimal")


@pytest.mark.parametrize("case", ["Q", "one row of Q", "A", "long"])
def test_noise_bounds_what_single_precision_does_to_a_step(case):
    rng, n = np.random.default_rng(0), 40
    Q, A, lam = np.zeros((n, n)), 1e-9 * np.ones((n, n)), np.full(n, 1e-3)
    steps = rng.standard_normal((50, n))
    if case == "Q":
        K = rng.standard_normal((n, n))
        Q = K @ K.T
    elif case == "one row of Q":
        lam[1:] = 1e6
        Q[0, 1:] = Q[1:, 0] = 1.0 / 3.0
        Q[0, 0] = 1e-3
        steps[:, 0] = 0.0
    elif case == "A":
        A = rng.standard_normal((n, n))
    else:  # all but the first term are lost, one by one
        Q += 1.0
        steps[:, 0], steps[:, 1:] = 1.0, 0.9 * 2.0**-24
    tiles = StateTiles.of(
        np.array([0.0, 0.0, -np.inf, np.inf]), lam, A, StateMatrices.of(Q, A, lam, 1.0), 1.0
    )
    AW, H = A.T * lam, Q - A.T * lam - (A.T * lam).T + 0.5 * (A.T * lam) @ A

    def product(M, v, dtype):
        return np.add.accumulate(M.astype(dtype) * v.astype(dtype), axis=1)[:, -1]

    for d in steps:
        single, double = (
            product(H, d, dtype) + product(AW, product(A, d, dtype), dtype)
            for dtype in (np.float32, np.float64)
        )
        error = np.abs(single - double) / (tiles.M + lam)
        assert error.max() <= tiles.noise * np.abs(d).sum()
