"""The state block: optimality, descent with and without convexity, equilibria."""

import math
import threading

import numpy as np
import pytest
from scipy.special import entr, expit, xlogy

from bcd_implicit.solvers import _kernels, reference
from bcd_implicit.solvers.certificates import StateMatrices, state_residual
from bcd_implicit.solvers.state_qp import is_jointly_convex, solve_states
from bcd_implicit.solvers.state_tiles import StateTiles

INF = math.inf
# kind, par, Lipschitz constant, phi, potential inside its domain
ACTIVATIONS = {
    "relu": (0, (0.0, 0.0, -INF, INF), 1.0, lambda z: np.maximum(z, 0), lambda x: x**2 / 2),
    "identity": (0, (0.0, 1.0, -INF, INF), 1.0, lambda z: z, lambda x: x**2 / 2),
    "leaky": (
        0,
        (0.0, 0.1, -INF, INF),
        1.0,
        lambda z: np.where(z > 0, z, 0.1 * z),
        lambda x: np.where(x > 0, x**2 / 2, 5.0 * x**2),
    ),
    "clip": (0, (0.0, 1.0, -0.5, 0.8), 1.0, lambda z: np.clip(z, -0.5, 0.8), lambda x: x**2 / 2),
    "relu1": (0, (0.0, 0.0, -INF, 1.0), 1.0, lambda z: np.clip(z, 0, 1), lambda x: x**2 / 2),
    "soft": (
        0,
        (0.3, 1.0, -INF, INF),
        1.0,
        lambda z: np.sign(z) * np.maximum(np.abs(z) - 0.3, 0),
        lambda x: x**2 / 2 + 0.3 * np.abs(x),
    ),
    "tanh": (
        1,
        (0.0,) * 4,
        1.0,
        np.tanh,
        lambda x: (xlogy(1 + x, 1 + x) + xlogy(1 - x, 1 - x)) / 2,
    ),
    "sigmoid": (2, (0.0,) * 4, 0.25, expit, lambda x: -entr(x) - entr(1 - x)),
}
NAMES = list(ACTIVATIONS)


def problem(seed, name, *, m=3, n=4, kappa=0.5, convex=True):
    """Random problem; ``convex`` adds to Q what CVXPY needs to see the convexity."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    A *= kappa / np.abs(A).sum(axis=1, keepdims=True)
    lam = rng.uniform(0.3, 5.0, n)
    C = rng.standard_normal((max(1, n // 2), n))
    Q = C.T @ C
    if convex:
        W = lam[:, None] * A
        least = np.linalg.eigvalsh(Q - W - W.T)[0]
        Q += max(0.0, 0.05 - least) * np.eye(n)
    c, zeta = rng.standard_normal((m, n)), 1.5 * rng.standard_normal((m, n))
    kind, par, lipschitz, _, _ = ACTIVATIONS[name]
    return (Q, c, zeta, lam, A, kind, np.array(par)), lipschitz


def objective(X, arguments, name):
    """Objective of every sample, by Fenchel's equality ``h*(z) = z phi(z) - h(phi(z))``."""
    Q, c, zeta, lam, A = arguments[:5]
    *_, phi, h = ACTIVATIONS[name]
    Z = X @ A.T + zeta
    conjugate = Z * phi(Z) - h(phi(Z))
    divergence = h(X) + conjugate - X * Z
    assert (divergence >= -1e-12 * (1.0 + np.abs(X * Z))).all()
    return 0.5 * np.sum((X @ Q) * X, axis=1) - np.sum(c * X, axis=1) + divergence @ lam


def independent_residual(X, arguments, name):
    """The certificate from its definition, the proximal operator by bisection."""
    Q, c, zeta, lam, A = arguments[:5]
    lipschitz, phi = ACTIVATIONS[name][2:4]
    Z = X @ A.T + zeta
    gradient = X @ Q - c + (lam * (phi(Z) - X)) @ A - lam * Z
    M = np.diag(Q) + lipschitz * lam @ A**2 - 2 * lam * np.diag(A)
    M = np.maximum(M, 1e-3 * lam)
    V, tau = X - gradient / M, lam / M
    low, high = -10.0 - np.abs(V), 10.0 + np.abs(V)
    for _ in range(200):  # the prox x solves x = phi((v - x) / tau), a decreasing function of x
        middle = (low + high) / 2
        above = middle > phi((V - middle) / tau)
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    size = np.maximum(np.abs(X).max(axis=1), np.abs(phi(zeta)).max(axis=1))
    return np.abs(high - X).max(axis=1) / np.maximum(size, 1e-12)


@pytest.mark.parametrize("kappa", [0.5, 0.95])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_equals_cvxpy(name, seed, kappa):
    m, n = (1 + seed % 3, 1 + (seed + NAMES.index(name)) % 5)
    arguments, lipschitz = problem(seed, name, m=m, n=n, kappa=kappa)
    assert is_jointly_convex(arguments[4], arguments[3], arguments[0], lipschitz=lipschitz)
    result = solve_states(*arguments, lipschitz=lipschitz, tol=1e-10)
    assert result.status == "optimal"
    np.testing.assert_allclose(result.x, reference.solve_states(*arguments), atol=1e-6)


@pytest.mark.parametrize("par", [(0.1, 0.0, 0.2, INF), (0.2, 0.3, -0.5, 0.7), (0, 1, -INF, 0.1)])
@pytest.mark.parametrize("seed", range(3))
def test_other_piecewise_linear_activations_equal_cvxpy(seed, par):
    arguments, _ = problem(seed, "relu", kappa=0.7)
    arguments = (*arguments[:6], np.array(par))
    result = solve_states(*arguments, tol=1e-10)
    np.testing.assert_allclose(result.x, reference.solve_states(*arguments), atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_certificate_is_what_it_says(name, seed):
    arguments, lipschitz = problem(seed, name, m=5, n=6, kappa=0.8, convex=seed % 2 == 0)
    point = ACTIVATIONS[name][3](np.random.default_rng(seed).standard_normal((5, 6)))
    for X in (point, solve_states(*arguments, lipschitz=lipschitz, tol=1e-5).x):
        given = state_residual(X, *arguments, lipschitz)
        expected = independent_residual(X, arguments, name)
        np.testing.assert_allclose(given, expected, rtol=1e-6, atol=1e-12)
    for max_iter in (1, 2, 7, 2000):
        result = solve_states(*arguments, lipschitz=lipschitz, max_iter=max_iter)
        given = state_residual(result.x, *arguments, lipschitz).max()
        assert given <= (1.0 + 1e-9) * result.gap + 1e-14  # added up in another order
        assert result.gap <= 1.001 * given + 1e-14
        assert result.converged == (result.gap <= 1e-8)
        assert result.n_iter <= max_iter
    assert result.converged


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["convex", "nonconvex", "expansive"])
def test_objective_never_rises(case, name, seed):
    kappa = {"convex": 0.9, "nonconvex": 0.9, "expansive": 4.0}[case]
    arguments, lipschitz = problem(seed, name, m=4, n=5, kappa=kappa, convex=case == "convex")
    Q, _, _, lam, A = arguments[:5]
    if case != "convex":
        A += np.eye(5) * kappa / 2
        A /= lipschitz
        Q *= 0.05
        Q += 0.01 * np.eye(5)
        assert not is_jointly_convex(A, lam, Q, lipschitz=lipschitz)
    X = ACTIVATIONS[name][3](2.0 * np.random.default_rng(seed).standard_normal((4, 5)))
    value = objective(X, arguments, name)
    for _ in range(40):
        step = solve_states(*arguments, lipschitz=lipschitz, X0=X, max_iter=1, tol=0.0)
        after = objective(step.x, arguments, name)
        assert (after <= value + 1e-13 * (1.0 + np.abs(value) + np.sum(X**2, axis=1))).all()
        X, value = step.x, after


@pytest.mark.parametrize("kappa", [0.3, 0.95])
@pytest.mark.parametrize("name", NAMES)
def test_without_a_loss_the_solution_is_the_equilibrium(name, kappa):
    rng = np.random.default_rng(0)
    m, n = 4, 6
    kind, par, lipschitz, phi, _ = ACTIVATIONS[name]
    A = rng.standard_normal((n, n))
    A -= A.T  # skew: the problem is convex for equal multipliers however large A is
    A *= kappa / np.abs(A).sum(axis=1).max()
    zeta = rng.standard_normal((m, n))
    X = np.zeros((m, n))
    for _ in range(2000):
        X = phi(X @ A.T + zeta)
    zero = np.zeros((n, n)), np.zeros((m, n))
    assert is_jointly_convex(A, np.full(n, 2.0), zero[0])
    result = solve_states(
        *zero, zeta, np.full(n, 2.0), A, kind, par, lipschitz=lipschitz, tol=1e-11
    )
    assert result.converged
    np.testing.assert_allclose(result.x, X, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_zero_iterations_report_nothing(name):
    arguments, lipschitz = problem(0, name)
    solution = solve_states(*arguments, lipschitz=lipschitz).x
    result = solve_states(*arguments, lipschitz=lipschitz, X0=solution, max_iter=0)
    assert (result.status, result.gap, result.n_iter) == ("max_iter", INF, 0)
    np.testing.assert_array_equal(result.x, solution)


def test_warm_start_at_the_solution_stays_there():
    arguments, _ = problem(1, "relu")
    first = solve_states(*arguments)
    again = solve_states(*arguments, X0=first.x)
    assert again.n_iter == 0
    assert again.converged
    np.testing.assert_array_equal(first.x, again.x)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("relu", 0.0, INF),
        ("relu1", 0.0, 1.0),
        ("clip", -0.5, 0.8),
        ("tanh", -1.0, 1.0),
        ("sigmoid", 0.0, 1.0),
        ("leaky", -INF, INF),
    ],
)
def test_start_is_moved_into_the_domain(name, low, high):
    arguments, lipschitz = problem(2, name)
    X0 = 5.0 * np.random.default_rng(0).standard_normal((3, 4))
    moved = solve_states(*arguments, lipschitz=lipschitz, X0=X0, max_iter=0).x
    np.testing.assert_array_equal(moved, np.clip(X0, low, high))
    one = solve_states(*arguments, lipschitz=lipschitz, X0=X0, tol=1e-11).x
    np.testing.assert_allclose(one, solve_states(*arguments, lipschitz=lipschitz, tol=1e-11).x)


def test_start_is_overwritten_only_on_demand():
    arguments, _ = problem(3, "relu")
    X0 = np.ones((3, 4))
    kept = solve_states(*arguments, X0=X0)
    np.testing.assert_array_equal(X0, 1.0)
    used = solve_states(*arguments, X0=X0, overwrite_x0=True)
    assert used.x is X0
    np.testing.assert_array_equal(kept.x, used.x)


@pytest.mark.parametrize(("m", "n"), [(7, 4), (150, 9)])
@pytest.mark.parametrize("kappa", [0.5, 0.97])
@pytest.mark.parametrize("name", ["leaky", "soft"])
def test_samples_do_not_see_each_other(name, kappa, m, n):
    (Q, c, zeta, *rest), _ = problem(4, name, m=m, n=n, kappa=kappa)
    together = solve_states(Q, c, zeta, *rest).x
    for i in (0, 3, 6, m // 2, m - 1):
        alone = solve_states(Q, c[i : i + 1], zeta[i : i + 1], *rest).x
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_threads_do_not_change_a_bit(name):
    arguments, lipschitz = problem(5, name, m=2500, n=6, kappa=0.9)
    one = solve_states(*arguments, lipschitz=lipschitz)
    two = solve_states(*arguments, lipschitz=lipschitz, n_jobs=2)
    np.testing.assert_array_equal(one.x, two.x)
    assert (one.gap, one.n_iter, one.status) == (two.gap, two.n_iter, two.status)


def test_an_error_stops_the_other_threads(monkeypatch):
    arguments, _ = problem(5, "relu", m=200_000, n=1)
    failed, calls = threading.Event(), []

    def solve(self, c, *others):
        calls.append(len(c))
        if threading.current_thread() is threading.main_thread():
            failed.set()
            raise KeyboardInterrupt
        failed.wait()
        return 0

    monkeypatch.setattr(StateTiles, "solve", solve)
    with pytest.raises(KeyboardInterrupt):
        solve_states(*arguments, n_jobs=2)
    assert sum(calls) < 200_000


@pytest.mark.parametrize("name", [name for name in NAMES if ACTIVATIONS[name][0] == 0])
def test_tiles_leave_little_to_do(name, monkeypatch):
    arguments, _ = problem(7, name, m=200, n=8, kappa=0.5)
    monkeypatch.setattr("bcd_implicit.solvers.state_qp.state_sweeps", None)
    result = solve_states(*arguments)
    assert result.converged
    assert independent_residual(result.x, arguments, name).max() <= 1.01e-8
    assert result.n_iter <= 7 + 12


def test_a_sample_beyond_single_precision_disturbs_no_other():
    """Also where states do not fill up their last block of four, and in the tile after it."""
    (Q, c, zeta, *rest), _ = problem(6, "relu", m=128, n=3, kappa=0.5)
    base = solve_states(Q, c, zeta, *rest).x
    zeta[0] = 1e60
    np.testing.assert_array_equal(solve_states(Q, c, zeta, *rest).x[1:], base[1:])


def test_numbers_beyond_single_precision():
    (Q, c, zeta, *rest), _ = problem(6, "relu")
    base = solve_states(Q, c, zeta, *rest, tol=1e-12).x
    for power in (200, -200):
        far = solve_states(Q, np.ldexp(c, power), np.ldexp(zeta, power), *rest, tol=1e-12)
        # far below 1 the certificate is measured against a floor, which lets states be zero
        assert far.converged
        if power > 0:
            np.testing.assert_allclose(far.x, np.ldexp(base, power), rtol=1e-9)


@pytest.mark.parametrize("of_objective", [-60, 0, 8])
@pytest.mark.parametrize("of_states", [0, 34])
def test_the_certificate_holds_where_single_precision_ends(of_objective, of_states):
    for seed, tol in zip(range(12), 4 * [1e-8, 1e-5, 1e-3], strict=True):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 9))
        A = rng.standard_normal((n, n))
        A *= 0.5 / np.abs(A).sum(axis=1, keepdims=True)
        unit = 10.0**of_objective
        lam, Q = unit * rng.uniform(0.3, 5.0, n), unit * np.eye(n)
        c, zeta = 10.0**of_states * rng.standard_normal((2, 64, n))
        kind, par, *_ = ACTIVATIONS["relu" if seed % 2 else "leaky"]
        arguments = (Q, unit * c, zeta, lam, A, kind, np.array(par))
        result = solve_states(*arguments, tol=tol)
        assert result.converged
        given = state_residual(result.x, *arguments).max()
        assert given <= (1.0 + 1e-9) * result.gap + 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_zero_data_and_repeated_states(name):
    arguments, lipschitz = problem(5, name)
    Q, c, zeta, lam, A, kind, par = arguments
    c, zeta = 0.0 * c, 0.0 * zeta
    X0 = np.ones_like(c)
    result = solve_states(Q, c, zeta, lam, A, kind, par, X0=X0, lipschitz=lipschitz)
    assert result.converged
    if name != "sigmoid":
        np.testing.assert_allclose(result.x, 0.0, atol=1e-12)
    twice = np.ix_([0, 0, 1, 2], [0, 0, 1, 2])
    A = A[twice] / 2
    arguments = Q[twice], c, zeta[:, [0, 0, 1, 2]], lam[[0, 0, 1, 2]], A, kind, par
    result = solve_states(*arguments, lipschitz=lipschitz)
    assert result.converged
    np.testing.assert_allclose(result.x[:, 0], result.x[:, 1], atol=1e-6)


def test_is_free_of_units_for_relu():
    (Q, c, zeta, *rest), _ = problem(6, "relu")
    base = solve_states(Q, c, zeta, *rest)
    for power in (-10, 30):
        scaled = solve_states(Q, np.ldexp(c, power), np.ldexp(zeta, power), *rest)
        np.testing.assert_array_equal(scaled.x, np.ldexp(base.x, power))
        assert scaled.gap == base.gap


@pytest.mark.parametrize("convex", [True, False])
@pytest.mark.parametrize("name", [name for name in NAMES if ACTIVATIONS[name][0] == 0])
def test_newton_steps_end_on_the_right_piece(name, convex):
    used = []
    for seed in range(8):
        arguments, lipschitz = problem(seed, name, convex=convex)
        start = ACTIVATIONS[name][3](arguments[2])  # given, so that tiles do not come first
        result = solve_states(*arguments, X0=start, lipschitz=lipschitz, tol=1e-13)
        for found in (result, solve_states(*arguments, lipschitz=lipschitz, tol=1e-13)):
            assert found.converged
            assert independent_residual(found.x, arguments, name).max() <= 1e-12
        used.append(result.n_iter)
    assert np.median(used) <= 5  # coordinate steps alone need 9 to 15 for relu


def test_divergence_is_never_called_optimal():
    # a wrong Lipschitz constant forfeits the descent: this one runs off to infinity, and no Newton
    # step can help, for the objective is unbounded below
    ones = np.ones((1, 1))
    arguments = (-100.0 * ones, ones, ones, [1.0], 9.0 * ones, 0, (0.0, 1.0, -INF, INF))
    result = solve_states(*arguments, lipschitz=1e-9, max_iter=5000)
    assert result.status == "max_iter"
    assert not result.gap <= 1.0


@pytest.mark.parametrize("lipschitz", [0.25, 1.0])
def test_joint_convexity(lipschitz):
    rng = np.random.default_rng(7)
    seen = set()
    for _ in range(50):
        A, lam = 0.6 / lipschitz * rng.standard_normal((3, 3)), rng.uniform(0.5, 2.0, 3)
        Q = np.diag(rng.uniform(0.0, 3.0, 3))
        W = np.diag(lam)
        least = np.linalg.eigvalsh(W / lipschitz - W @ A - A.T @ W + Q)[0]
        assert is_jointly_convex(A, lam, Q, lipschitz=lipschitz) == (least >= 0)
        seen.add(least >= 0)
    assert seen == {True, False}
    assert is_jointly_convex(np.diag([0.5, 0.5]), [1.0, 3.0], np.zeros((2, 2)))


def test_reference_refuses_what_is_not_convex():
    arguments, _ = problem(8, "relu")
    with pytest.raises(ValueError, match="Q must make the problem convex"):
        reference.solve_states(0.0 * arguments[0], *arguments[1:4], np.eye(4), *arguments[5:])


@pytest.mark.parametrize("name", NAMES)
def test_compiled_kernels_equal_their_source(name):
    (Q, c, zeta, lam, A, kind, par), lipschitz = problem(9, name, kappa=0.8)
    S, H, M, AT, WA = StateMatrices.of(Q, A, lam, lipschitz)
    kernels = (_kernels.phi_rows, _kernels.state_sweeps, _kernels.state_residuals)
    results = []
    for start, sweeps, residuals in (kernels, [kernel.py_func for kernel in kernels]):
        X, gap, check = np.empty_like(zeta), np.empty(3), np.empty(3)
        start(kind, par, zeta, X)
        sweeps(kind, par, c, zeta, lam, S, H, M, AT, WA, 1e-13, 4, X, gap)
        residuals(kind, par, c, zeta, lam, S, M, AT, WA, X, check)
        np.testing.assert_allclose(gap, check, rtol=1e-12, atol=1e-16)
        results.append(X)
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-15)
    for kernel in (_kernels._phi_row, _kernels._clip_to_domain):
        one, two = 3.0 * zeta[0], 3.0 * zeta[0]
        extra = () if kernel is _kernels._clip_to_domain else (np.zeros(4),)
        for function, x in ((kernel, one), (kernel.py_func, two)):
            function(kind, par, x, *extra)
            if extra:
                x[:] = extra[0]
        np.testing.assert_allclose(one, two, rtol=1e-15)
    g, z, f = np.empty((2, 4)), np.empty((2, 4)), np.empty((2, 4))
    for i, function in enumerate((_kernels._state_gradient, _kernels._state_gradient.py_func)):
        function(kind, par, results[0][0], c[0], zeta[0], S, AT, WA, z[i], f[i], g[i])
    np.testing.assert_allclose(g[0], g[1], rtol=1e-10, atol=1e-13)
    residual = _kernels._state_residual
    args = (kind, par, results[0][0], g[0] + 0.1, M, lam, 1.0)
    assert residual(*args) == pytest.approx(residual.py_func(*args), rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"zeta": np.zeros((0, 2))}, "zeta must not be empty"),
        ({"zeta": [[np.nan, 0.0]]}, "zeta must be finite"),
        ({"c": np.zeros((2, 2))}, r"c must have shape \(1, 2\); got \(2, 2\)"),
        ({"Q": np.eye(3)}, r"Q must have shape \(2, 2\)"),
        ({"A": np.zeros(2)}, r"A must have shape \(2, 2\)"),
        ({"lam": [1.0, 0.0]}, "lam must be positive; got"),
        ({"lam": [1.0]}, r"lam must have shape \(2,\)"),
        ({"kind": 7}, "kind must be one of 0, 1, 2; got 7"),
        ({"par": (0.0,)}, "par must be 4 numbers"),
        ({"par": (0.0, 2.0, -INF, INF)}, "par must have threshold >= 0 and slope"),
        ({"par": (0.0, 1.0, 2.0, 1.0)}, "par must have lower clip <= upper clip"),
        ({"X0": np.full((1, 2), np.nan)}, "X0 must be finite"),
        ({"lipschitz": 0.0}, "lipschitz must be finite and positive"),
        ({"tol": -1.0}, "tol must be finite and nonnegative"),
        ({"max_iter": -1}, "max_iter must be a whole number and not be negative"),
        ({"max_iter": np.nan}, "max_iter must be a whole number"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {
        "Q": np.eye(2),
        "c": np.zeros((1, 2)),
        "zeta": np.zeros((1, 2)),
        "lam": np.ones(2),
        "A": np.zeros((2, 2)),
        "kind": 0,
        "par": (0.0, 0.0, -INF, INF),
    }
    with pytest.raises(ValueError, match=message):
        solve_states(**(arguments | change))


@pytest.mark.parametrize("shared", ["zeta", "c", "read-only"])
def test_a_start_that_may_not_be_written_to(shared):
    rng = np.random.default_rng(0)
    Q, c, zeta = np.eye(3), rng.standard_normal((8, 3)), rng.standard_normal((8, 3))
    A, lam = 0.1 * rng.standard_normal((3, 3)), np.ones(3)
    start = {"zeta": zeta, "c": c, "read-only": np.zeros((8, 3))}[shared]
    problem = (Q, c, zeta, lam, A, _kernels.PIECEWISE_LINEAR, (0.0, 0.0, 0.0, np.inf))
    expected = solve_states(*problem, X0=start.copy(), tol=1e-10)
    if shared == "read-only":
        start.setflags(write=False)
    found = solve_states(*problem, X0=start, tol=1e-10, overwrite_x0=True)
    np.testing.assert_array_equal(found.x, expected.x)
