"""The (A, B) block: rows in the ball, groups over columns."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import MultiTaskLasso

from bcd_implicit.metric import column_metrics
from bcd_implicit.solvers import _kernels, group_ball_ls, group_ball_metric, reference
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.solvers.group_ball_metric import majoriser, sweep_metric


def wishart(rng, k, rank=None):
    K = rng.standard_normal((rank or 2 * k, k))
    return K.T @ K / len(K)


def problem(
    seed,
    n=3,
    extra=0,
    p=4,
    free=1,
    m=40,
    radius=0.5,
    mean=1.0,
    noise=1.0,
    threshold=0.2,
    explained=1,
    **options,
):
    """A problem from data: states with a mean, inputs, a column of ones.

    With H2, so many directions in the space of the samples explain a part of the columns.
    """
    rng = np.random.default_rng(seed)
    r, P = n + extra, n + p + free
    Z = rng.standard_normal((m, P))
    Z[:, :n] += mean
    if free:
        Z[:, n + p] = 1.0
    H = wishart(rng, r)
    Y = H @ rng.standard_normal((r, P)) @ Z.T + noise * rng.standard_normal((r, m))
    t = np.broadcast_to(threshold, p) if np.ndim(threshold) == 0 else threshold
    if "H2" in options:
        directions = np.linalg.qr(rng.standard_normal((m, explained)))[0]
        directions *= rng.uniform(0.5, 1.0, explained)
        options["K"] = Z.T @ directions / np.sqrt(m)
    return GroupBallProblem.of(-Y @ Z / m, H, Z.T @ Z / m, n, t, radius, **options)


def varied(seed):
    """A small problem of one of many kinds."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 5))
    extra = int(rng.integers(0, 3)) if n else int(rng.integers(1, 4))
    p = int(rng.integers(0 if n else 1, 6))
    free = int(rng.integers(0, 3))
    options = {}
    if seed % 3 == 0:
        options["l1"] = float(rng.uniform(0.0, 0.5))
    if seed % 4 == 0:
        options["pattern"] = rng.random((n, n)) < 0.7
    if seed % 5 < 2:
        options["H2"] = wishart(rng, n + extra, rank=max(n + extra - 1, 1))
        options["explained"] = int(rng.integers(1, n + p + free + 1))
    count = p
    if seed % 7 < 3 and p > 1:  # groups of several columns
        options["sizes"] = np.bincount(np.sort(rng.integers(0, p, p)))
        options["sizes"] = options["sizes"][options["sizes"] > 0]
        count = len(options["sizes"])
    t = rng.choice([0.1, 0.5, 1.0]) * rng.uniform(0.0, 3.0, count)
    t[rng.random(count) < 0.15] = 0.0
    t[rng.random(count) < 0.15] = np.inf
    radius = float(rng.choice([0.05, 0.5, 2.0, 50.0]))
    return problem(
        seed, n, extra, p, free, radius=radius, mean=rng.uniform(0, 2), threshold=t, **options
    )


def groups_of(problem):
    """The columns of every group."""
    columns = np.arange(problem.n_states, problem.n_states + problem.sizes.sum())
    return np.split(columns, np.cumsum(problem.sizes)[:-1]) if columns.size else []


def rest_of(problem):
    """The columns of the second metric."""
    return problem.W - problem.K @ problem.K.T


def objective(problem, Theta):
    """The objective as the docstring of the problem writes it."""
    n, t = problem.n_states, problem.threshold
    value = np.sum(problem.linear * Theta)
    value += 0.5 * np.trace(problem.H @ Theta @ problem.W @ Theta.T)
    if len(problem.H2):
        value += 0.5 * np.trace(problem.H2 @ Theta @ rest_of(problem) @ Theta.T)
    for group, level in zip(groups_of(problem), t, strict=True):
        if Theta[:, group].any():
            value += level * np.linalg.norm(Theta[:, group])
    return value + problem.l1 * np.abs(Theta[:n, :n]).sum()


def check_optimal(problem, Theta, tol=1e-7):
    """Feasibility, stationarity and complementarity, with the multipliers of the ball."""
    n, t, radius, l1 = problem.n_states, problem.threshold, problem.radius, problem.l1
    last = n + problem.sizes.sum()
    G = problem.linear + problem.H @ Theta @ problem.W
    if len(problem.H2):
        G = G + problem.H2 @ Theta @ rest_of(problem)
    tol = tol * max(np.abs(problem.linear).max(), np.abs(G).max())
    A, allowed = Theta[:n, :n], problem.pattern
    assert (np.abs(A).sum(axis=1) <= radius).all()
    assert not A[~allowed].any()
    assert not Theta[n:, :n].any()
    assert not Theta[n:, last:].any()
    for a, g, mask in zip(A, G[:n, :n], allowed, strict=True):
        if not mask.any():
            continue
        mu = max(l1, np.abs(g[mask]).max())  # the multiplier of the norm is at least this
        if np.abs(a).sum() < radius * (1.0 - 1e-9):
            assert mu <= l1 + tol
        # |a|-weighted: g = -mu sign(a) wherever a is not zero
        assert np.abs(a) @ (mu + g * np.sign(a)) <= tol * max(np.abs(a).sum(), 1e-300)
    for group, level in zip(groups_of(problem), t, strict=True):
        g, b = G[:, group], Theta[:, group]
        if b.any():
            assert np.linalg.norm(g + level * b / np.linalg.norm(b)) <= tol
        else:
            assert np.linalg.norm(g) <= level + tol
    assert np.abs(G[:n, last:]).max(initial=0.0) <= tol


def solve(problem, tol=1e-10, max_sweeps=5000, **options):
    result = solve_group_ball(problem, tol=tol, max_sweeps=max_sweeps, **options)
    assert result.converged, result.gap
    assert result.gap == pytest.approx(problem.residual(result.x), abs=1e-13)
    check_optimal(problem, result.x, 10 * tol)
    return result


# against others


@pytest.mark.parametrize("seed", range(80))
def test_equals_cvxpy(seed):
    case = varied(seed)
    Theta, twin = solve(case).x, reference.group_ball(case)
    np.testing.assert_allclose(Theta, twin, atol=1e-6 * max(1.0, np.abs(twin).max()))
    for group, level in zip(groups_of(case), case.threshold, strict=True):
        twin[:, group] = 0.0 if np.isinf(level) else twin[:, group]
    value = objective(case, twin)
    assert case.objective(Theta) == pytest.approx(objective(case, Theta), rel=1e-10, abs=1e-12)
    assert case.objective(Theta) == pytest.approx(value, rel=1e-6, abs=1e-9)


def test_the_cases_bind_everywhere_somewhere_and_nowhere():
    shares = []
    for seed in range(80):
        case = varied(seed)
        n = case.n_states
        if n > 1 and case.pattern.all():
            sums = np.abs(solve(case).x[:n, :n]).sum(axis=1)
            shares.append((sums > case.radius * (1.0 - 1e-9)).mean())
    assert {0.0, 1.0} < set(shares)


def test_equals_scikit_learn_without_states():
    rng = np.random.default_rng(0)
    m, p, q = 60, 12, 4
    U = rng.standard_normal((m, p))
    Y = U[:, :3] @ rng.standard_normal((3, q)) + 0.1 * rng.standard_normal((m, q))
    case = GroupBallProblem.of(-Y.T @ U / m, np.eye(q), U.T @ U / m, 0, 0.3, 1.0)
    twin = MultiTaskLasso(alpha=0.3, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(U, Y)
    Theta = solve(case, tol=1e-12).x
    np.testing.assert_allclose(Theta, twin.coef_, atol=1e-8)
    assert np.array_equal(Theta.any(axis=0), twin.coef_.any(axis=0))


def test_an_intercept_centres_the_states():
    """Means far from zero must not slow the sweeps down."""
    sweeps = [solve(problem(1, n=8, mean=mean), tol=1e-8).n_iter for mean in (0.0, 10.0, 1000.0)]
    assert max(sweeps) <= 2 * min(sweeps) + 10


@pytest.mark.parametrize("seed", range(5))
def test_an_hessian_of_low_rank_does_not_slow_the_sweeps_down(seed):
    case = problem(seed, n=9, p=5, mean=0.5)
    H = wishart(np.random.default_rng(seed), 9, rank=3) + 1e-3 * np.eye(9)
    assert solve(replace(case, H=H), tol=1e-8).n_iter < 200


# the guarantee


@pytest.mark.parametrize("seed", range(20))
def test_row_sums_hold_exactly_in_any_order(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    radius = float(rng.choice([0.1, 1.0 / 3.0, 0.5, 0.9, 0.95]))
    case = problem(seed, n=n, p=2, radius=radius)
    for sweeps in (0, 1, 2, 50):
        start = rng.standard_normal(case.linear.shape) * 10.0
        A = solve_group_ball(case, Theta0=start, max_sweeps=sweeps).x[:n, :n]
        for row in np.abs(A):
            sums = (math.fsum(row), np.sum(row), sum(row), sum(row[::-1]), sum(np.sort(row)))
            assert max(sums) <= radius
    assert np.abs(A).sum(axis=1).max() > radius * (1.0 - 1e-12)


def test_excluded_columns_and_entries_are_exact_zeros():
    pattern = np.eye(4, dtype=bool)[::-1]
    t = np.array([0.1, np.inf, 0.0])
    case = problem(2, n=4, extra=1, p=3, threshold=t, pattern=pattern)
    Theta = solve(case, Theta0=np.ones(case.linear.shape)).x
    assert not Theta[:, 5].any()
    assert not Theta[:4, :4][~pattern].any()
    assert Theta[:, 6].all()


# descent


@pytest.mark.parametrize("seed", range(40))
def test_no_sweep_raises_the_objective(seed):
    case = varied(seed)
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(case.linear.shape)
    start[:, case.n_states :][:, : case.threshold.size][:, np.isinf(case.threshold)] = 0.0
    Theta = solve_group_ball(case, Theta0=start, max_sweeps=0).x
    value = objective(case, Theta)
    unit = max(1.0, abs(value))
    for _ in range(15):
        Theta = solve_group_ball(case, Theta0=Theta, max_sweeps=1, tol=0.0).x
        new = objective(case, Theta)
        assert new <= value + 1e-12 * unit
        value = new


@pytest.mark.parametrize("seed", range(30))
def test_no_block_raises_the_objective(seed):
    case = varied(seed)
    every = np.repeat(case.threshold, case.sizes)
    case = replace(case, threshold=every, sizes=np.ones(len(every), dtype=np.int64))
    n, p = case.n_states, case.threshold.size
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(case.linear.shape) < 0.5, 0.0, 0.3)
    Theta = solve_group_ball(case, Theta0=start, max_sweeps=0).x
    Theta[:, n : n + p][:, np.isinf(case.threshold)] = 0.0
    vectors, values, bound, inverse = majoriser(case)
    places = np.r_[0:n, n + p : Theta.shape[1]]
    value = objective(case, Theta)
    for block in range(n + p + (places.size - n if n else 0)):
        G = case.gradient(Theta)
        if block < n:
            M = case.H[block, block] * case.W
            if len(case.H2):
                M += case.H2[block, block] * rest_of(case)
            M = np.ascontiguousarray(M[np.ix_(places, places)])
            _kernels._regularise(M, np.trace(M))
            a, g = Theta[block, places], -G[block, places]
            mask = case.pattern[block]
            _kernels.row_in_ball(M, g, n, case.radius, case.l1, mask, a, np.empty_like(M))
            Theta[block, places] = a
        elif block < n + p:
            scaled, b = bound[block] * values, np.empty(len(values))
            rotated = scaled * (vectors.T @ Theta[:, block]) - vectors.T @ G[:, block]
            level = case.threshold[block - n]
            assert _kernels.group_prox_diag(rotated, scaled, level, 0.0, b) < np.inf
            Theta[:, block] = vectors @ b
        else:
            Theta[:n, block] -= inverse @ G[:n, block] / bound[block]
        new = objective(case, Theta)
        assert new <= value + 1e-12 * max(1.0, abs(value))
        value = new


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_the_majoriser_bounds_every_column(seed):
    case = varied(seed)
    vectors, values, bound, inverse = majoriser(case)
    N = (vectors * values) @ vectors.T
    n = case.n_states
    np.testing.assert_allclose(inverse @ N[:n, :n], np.eye(n), atol=1e-6)
    W2 = rest_of(case) if len(case.H2) else np.zeros_like(case.W)
    H2 = case.H2 if len(case.H2) else np.zeros_like(case.H)
    for w, w2, factor in zip(np.diag(case.W), np.diag(W2), bound, strict=True):
        least = np.linalg.eigvalsh(factor * N - w * case.H - w2 * H2)[0]
        assert least >= -1e-12 * factor * values[-1]


@pytest.mark.parametrize("kind", ["any", "copies", "orthonormal", "constant"])
def test_wide_groups_are_bounded_by_one_eigenvalue(kind, monkeypatch):
    # all eigenvalues of 3,000 categories, found in every step, took most of a fit
    rng, p = np.random.default_rng(0), 400
    W = {
        "any": wishart(rng, p),
        "copies": np.ones((p, p)),
        "orthonormal": np.eye(p),
        "constant": np.zeros((p, p)),
    }[kind]
    values, vectors = np.linalg.eigh(W)
    K = vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0.0))
    case = GroupBallProblem.of(
        np.ones((1, p)), [[1.0]], W, 0, [0.1], 0.5, H2=[[1.0]], K=K, sizes=[p]
    )
    rest = np.linalg.eigvalsh(W - K @ K.T)[-1]
    monkeypatch.setattr(np.linalg, "eigvalsh", None)
    asked, small = [], group_ball_metric.eigh_tridiagonal

    def count(diagonal, *rest, **options):
        asked.append(len(diagonal))
        return small(diagonal, *rest, **options)

    monkeypatch.setattr(group_ball_metric, "eigh_tridiagonal", count)
    (value,), bound = majoriser(case)[1:3]  # one row
    np.testing.assert_allclose(bound * value, values[-1] + rest, rtol=1e-10, atol=1e-10)
    assert len(asked) <= 2 * (2 + max(asked) / 10)  # of two metrics, not after every product


def test_groups_are_bounded_together(monkeypatch):
    # 500 pairs, one by one in every step, took a third of a fit
    rng, sizes = np.random.default_rng(0), np.array([2, 1, 3, 2, 3, 2])
    W = wishart(rng, 13)
    values, vectors = np.linalg.eigh(W)
    K = vectors[:, -2:] * np.sqrt(values[-2:])
    case = GroupBallProblem.of(
        np.ones((1, 13)), [[1.0]], W, 0, np.ones(6), 0.5, H2=[[1.0]], K=K, sizes=sizes
    )
    groups = np.split(np.arange(13), np.cumsum(sizes)[:-1])
    first, second = (
        np.concatenate([len(g) * [np.linalg.eigvalsh(V[np.ix_(g, g)])[-1]] for g in groups])
        for V in (W, W - K @ K.T)
    )
    calls, every = [], np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda V: calls.append(V.shape) or every(V))
    bound = majoriser(case)[2]
    assert sorted(calls) == 2 * [(2, 3, 3)] + 2 * [(3, 2, 2)]
    expected = np.maximum(first / first.sum(), second / second.sum())
    np.testing.assert_allclose(bound, expected, rtol=1e-12)


# degenerate data


def test_zero_sweeps_never_converge():
    case = problem(3)
    result = solve_group_ball(case, max_sweeps=0, Theta0=solve(case).x)
    assert (result.gap, result.n_iter, result.converged) == (np.inf, 0, False)


def test_too_few_sweeps_are_reported():
    result = solve_group_ball(problem(3, n=6), max_sweeps=1, tol=1e-12)
    assert (result.n_iter, result.status) == (1, "max_iter")
    assert result.gap > 1e-12


def test_an_unattainable_tolerance_ends():
    assert not solve_group_ball(problem(3, n=6), max_sweeps=3000, tol=0.0).converged
    assert not solve_group_ball(problem(3, n=6), max_sweeps=3000, tol=1e-18).converged


@pytest.mark.parametrize("seed", range(30))
def test_a_warm_start_is_kept(seed):
    case = varied(seed)
    Theta = solve(case, tol=1e-9).x
    again = solve(case, tol=1e-8, Theta0=Theta)
    assert again.n_iter <= 2
    np.testing.assert_allclose(again.x, Theta, atol=1e-6 * max(1.0, np.abs(Theta).max()))


@pytest.mark.parametrize(
    "shape",
    [
        {"n": 1, "p": 0, "free": 0},
        {"n": 1, "p": 1, "free": 0},
        {"n": 1, "p": 1, "free": 1},
        {"n": 0, "p": 1, "free": 0, "extra": 1},
        {"n": 0, "p": 1, "free": 1, "extra": 2},
        {"n": 2, "p": 0, "free": 3},
    ],
)
def test_the_smallest_shapes(shape):
    case = problem(4, **shape)
    np.testing.assert_allclose(solve(case).x, reference.group_ball(case), atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_fewer_samples_than_columns(seed):
    case = problem(seed, n=4, p=10, m=7, extra=seed % 2)
    Theta = solve(case, tol=1e-8, max_sweeps=20_000).x
    value = objective(case, reference.group_ball(case))
    assert objective(case, Theta) == pytest.approx(value, rel=1e-6)


def drop(case, j, by=0.0):
    """Column ``j`` of the data times ``by``."""
    scale = np.ones(case.linear.shape[1])
    scale[j] = by
    return replace(case, linear=case.linear * scale, W=case.W * np.outer(scale, scale))


@pytest.mark.parametrize("j", [1, 4, 7])
def test_a_constant_state_input_or_intercept(j):
    """Its column of W and of the linear term is zero, so nothing is known about it."""
    case = drop(problem(5), j)
    start = np.full(case.linear.shape, 0.1)
    for Theta0 in (None, start):
        Theta = solve(case, Theta0=Theta0).x
        value = objective(case, reference.group_ball(case))
        assert objective(case, Theta) == pytest.approx(value, rel=1e-7)
        if j == 4:
            assert not Theta[:, j].any()


def test_a_column_in_the_second_metric_only():
    case = problem(6, n=0, extra=3, explained=2, H2=np.eye(3))
    case = replace(case, H=np.zeros((3, 3)))
    np.testing.assert_allclose(solve(case).x, reference.group_ball(case), atol=1e-6)
    assert solve(case).x[:, :4].any(axis=0).all()


@pytest.mark.parametrize("pair", [(0, 1), (3, 4), (0, 3), (6, 7)])
def test_duplicate_columns(pair):
    """Two states, two inputs, a state and an input, an input and the intercept."""
    case = problem(7, n=3, p=4)
    places = np.arange(8)
    places[pair[1]] = pair[0]
    case = replace(
        case,
        linear=np.ascontiguousarray(case.linear[:, places]),
        W=np.ascontiguousarray(case.W[np.ix_(places, places)]),
    )
    Theta = solve(case, tol=1e-9, max_sweeps=20_000).x
    value = objective(case, reference.group_ball(case))
    assert objective(case, Theta) == pytest.approx(value, rel=1e-7)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_singular_metric_of_rows(rank):
    case = problem(8, n=3, extra=1, noise=0.0)
    rng = np.random.default_rng(8)
    H = wishart(rng, 4, rank=rank)
    case = replace(case, H=H, linear=-H @ rng.standard_normal((4, 8)) @ case.W)
    Theta = solve(case, tol=1e-8, max_sweeps=20_000).x
    value = objective(case, reference.group_ball(case))
    assert objective(case, Theta) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("linear", [0.0, 0.1])
def test_a_state_without_influence(linear):
    """A zero row of H leaves a linear program: a vertex of the ball, or anything."""
    case = problem(9, n=3, free=0, noise=0.0)
    H = case.H.copy()
    H[1] = H[:, 1] = 0.0
    G = case.linear.copy()
    G[1] = 0.0
    G[1, :3] = [linear, -2.0 * linear, 0.0]
    case = replace(case, H=H, linear=G)
    Theta = solve(case, max_sweeps=20_000).x
    if linear:
        np.testing.assert_allclose(Theta[1, :3], [0.0, 0.5, 0.0], atol=1e-12)
    value = objective(case, reference.group_ball(case))
    assert objective(case, Theta) == pytest.approx(value, rel=1e-7)


def test_no_metric_at_all():
    zero = GroupBallProblem.of([[1.0, -3.0]], [[0.0]], np.zeros((2, 2)), 1, 4.0, 0.5)
    np.testing.assert_allclose(solve(zero).x, [[-0.5, 0.0]], rtol=1e-14)
    np.testing.assert_allclose(solve(zero, Theta0=np.ones((1, 2))).x, [[-0.5, 0.0]], rtol=1e-14)
    far = replace(zero, threshold=np.array([0.25]))
    result = solve_group_ball(far, Theta0=np.ones((1, 2)), max_sweeps=5)
    assert result.status == "max_iter"  # it has no minimum
    assert np.isfinite(result.x).all()


def test_a_zero_linear_term_has_the_zero_solution():
    case = problem(10)
    case = replace(case, linear=np.zeros_like(case.linear))
    result = solve_group_ball(case, Theta0=np.ones(case.linear.shape))
    assert result.converged
    assert not result.x.any()


def test_a_metric_that_rounding_made_indefinite():
    case = problem(11)
    W = case.W.copy()
    W[1] = W[:, 1] = 0.0
    W[1, 1] = -1e-18
    G = case.linear.copy()
    G[:, 1] = 0.0
    assert solve_group_ball(replace(case, W=W, linear=G)).converged


@pytest.mark.parametrize("seed", [18, 25, 27, 32, 42])
def test_states_that_the_second_metric_explains_and_dead_ones(seed):
    """What is left of their metric is rounding errors: factors of it overflowed."""
    n, p, m = 20, 5, 180
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, 2)) @ rng.standard_normal((2, n)) * rng.uniform(0.0, 1.0, n)
    X = np.maximum(X + rng.standard_normal(n), 0.0)
    X[:, rng.random(n) < 0.3] = 0.0
    U = rng.standard_normal((m, p))
    V = np.column_stack([X, np.ones(m)]) / np.sqrt(m)
    W, K = column_metrics(V.T @ V, V.T @ U / np.sqrt(m), U.T @ U / m)
    c = rng.standard_normal(n + 1) * rng.uniform(0.0, 1.0, n + 1) ** 3
    linear = 0.1 * rng.standard_normal((n + 1, n + p + 1))
    linear[:, :n][:, ~X.any(axis=0)] = 0.0
    case = GroupBallProblem.of(
        linear, 3e-5 * np.eye(n + 1), W, n, np.full(p, 0.1), 0.95, H2=0.5 * np.outer(c, c), K=K
    )
    start = rng.standard_normal((n + 1, n + p + 1))
    start[n, :n] = start[n, -1] = 0.0
    start[:n, :n] = group_ball_ls.feasible_rows(start[:n, :n], 0.95, case.pattern)
    found = solve_group_ball(case, Theta0=start, tol=0.0, max_sweeps=5).x
    assert np.isfinite(found).all()
    assert case.objective(found) < case.objective(start)


@pytest.mark.parametrize("inputs", [1e100, 1e-100, 1e-150])
@pytest.mark.parametrize("targets", [1.0, 1e100, 1e-100])
def test_units_do_not_matter(inputs, targets):
    case = problem(12, n=4, extra=1, H2=np.eye(5), explained=3, l1=0.05)
    scaled = replace(
        case,
        linear=case.linear * inputs * targets,
        W=case.W * inputs * inputs,
        K=case.K * inputs,
        threshold=case.threshold * inputs * targets,
        l1=case.l1 * inputs * targets,
        radius=case.radius * targets / inputs,
    )
    result = solve_group_ball(scaled, tol=1e-11)
    assert result.converged
    np.testing.assert_allclose(result.x * (inputs / targets), solve(case).x, atol=1e-9)
    assert scaled.residual(result.x) == pytest.approx(result.gap, abs=1e-14)


@pytest.mark.parametrize("scale", [1e100, 1e-100, 1e250, 1e-280])
def test_the_unit_of_the_objective_does_not_matter(scale):
    case = problem(13, l1=0.05)
    scaled = replace(
        case,
        H=case.H * scale,
        linear=case.linear * scale,
        threshold=case.threshold * scale,
        l1=case.l1 * scale,
    )
    np.testing.assert_allclose(solve_group_ball(scaled, tol=1e-11).x, solve(case).x, atol=1e-9)
    result = solve_group_ball(replace(case, linear=case.linear * scale), max_sweeps=20)
    assert np.isfinite(result.x).all()


@pytest.mark.parametrize("radius", [5e-324, 1e-310, 1e-200, 1e300, 1e307])
@pytest.mark.parametrize("unit", [1e100, 1.0, 1e-100])
def test_any_radius_is_kept(radius, unit):
    case = problem(13, radius=radius)
    case = replace(case, linear=case.linear * unit, threshold=case.threshold * unit)
    Theta = solve_group_ball(case, max_sweeps=20).x
    assert np.isfinite(Theta).all()
    assert (np.abs(Theta[:3, :3]).sum(axis=1) <= radius).all()


def test_either_metric_may_dwarf_the_other():
    case = problem(16)
    same = {"rtol": 1e-6, "atol": 1e-9}
    Theta, nothing = solve(case).x, np.zeros((len(case.W), 1))
    for tiny in (0.0, 1e-200):
        other = replace(case, H2=tiny * np.eye(3), K=nothing)
        np.testing.assert_allclose(solve(other).x, Theta, **same)
        other = replace(case, H=tiny * np.eye(3), H2=case.H, K=nothing)
        np.testing.assert_allclose(solve(other).x, Theta, **same)


def test_the_residual_is_relative_to_the_largest_gradient():
    case = GroupBallProblem.of([[4.0, -3.0]], [[1.0]], np.eye(2), 0, 0.5, 1.0)
    assert case.residual(np.zeros((1, 2))) == pytest.approx(3.5 / 4.0)
    assert case.residual(np.array([[6.0, 2.5]])) == pytest.approx(10.5 / 10.0)
    assert case.residual(np.array([[-3.5, 2.5]])) == pytest.approx(0.0, abs=1e-15)
    row = GroupBallProblem.of([[4.0, -3.0], [0.0, 0.0]], np.eye(2), np.eye(2), 2, 1.0, 0.5, l1=1.0)
    # top = 3 and no entry; all on the second entry with gradient -2.5: 3 + (-2.5 + 1)
    assert row.residual(np.zeros((2, 2))) == pytest.approx(3.0 / 4.0)
    assert row.residual(np.array([[0.0, 0.5], [0.0, 0.0]])) == pytest.approx(1.5 / 4.0)
    loose = replace(row, radius=100.0)
    assert loose.residual(np.array([[0.0, 50.0], [0.0, 0.0]])) == pytest.approx(94.0 / 47.0)


# bad input


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("linear", {"linear": [1.0, 2.0]}),
        ("linear", {"linear": np.full((2, 5), np.nan)}),
        ("linear", {"linear": [["a"]]}),
        ("H", {"H": np.eye(3)}),
        ("H", {"H": np.full((2, 2), np.inf)}),
        ("W", {"W": np.eye(4)}),
        ("W", {"W": 1j * np.eye(5)}),
        ("n_states", {"n_states": 3}),
        ("n_states", {"n_states": -1}),
        ("threshold", {"threshold": -1.0}),
        ("threshold", {"threshold": np.nan}),
        ("threshold", {"threshold": np.ones(4)}),
        ("threshold", {"threshold": np.ones((1, 2))}),
        ("threshold", {"threshold": "much"}),
        ("n_states", {"n_states": "a"}),
        ("sizes", {"threshold": [1.0], "sizes": ["a"]}),
        ("sizes", {"threshold": [1.0], "sizes": [None]}),
        ("sizes", {"threshold": [1.0], "sizes": [np.inf]}),
        ("radius", {"radius": 0.0}),
        ("radius", {"radius": -1.0}),
        ("radius", {"radius": np.inf}),
        ("l1", {"l1": -1.0}),
        ("l1", {"l1": np.nan}),
        ("pattern", {"pattern": np.ones((2, 2))}),
        ("pattern", {"pattern": np.ones((3, 2), dtype=bool)}),
        ("H2", {"K": np.eye(5)}),
        ("K", {"H2": np.eye(2)}),
        ("H2", {"H2": np.eye(3), "K": np.eye(5)}),
        ("K", {"H2": np.eye(2), "K": np.eye(3)}),
    ],
)
def test_bad_problems_are_named(name, change):
    good = {
        "linear": np.ones((2, 5)),
        "H": np.eye(2),
        "W": np.eye(5),
        "n_states": 2,
        "threshold": 1.0,
        "radius": 0.5,
    }
    GroupBallProblem.of(**good)
    with pytest.raises(ValueError, match=name):
        GroupBallProblem.of(**(good | change))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Theta0", {"Theta0": np.ones((3, 3))}),
        ("Theta0", {"Theta0": np.full((3, 8), np.nan)}),
        ("tol", {"tol": -1.0}),
        ("tol", {"tol": np.nan}),
        ("max_sweeps", {"max_sweeps": -1}),
        ("max_sweeps", {"max_sweeps": np.nan}),
        ("max_sweeps", {"max_sweeps": "a"}),
    ],
)
def test_bad_options_are_named(name, options):
    with pytest.raises(ValueError, match=name):
        solve_group_ball(problem(0), **options)


def test_the_arguments_are_left_alone():
    case = problem(14)
    start = np.ones(case.linear.shape)
    before = [v.copy() for v in (case.linear, case.H, case.W, start)]
    solve(case, Theta0=start)
    for old, new in zip(before, (case.linear, case.H, case.W, start), strict=True):
        assert np.array_equal(old, new)


# the row problem


def row_value(M, q, l1, a):
    n = l1.size
    return 0.5 * a @ M @ a - q @ a + l1 @ np.abs(a[:n])


def row_by_enumeration(M, q, n, radius, l1, mask):
    """Smallest value over all supports and signs, with and without a binding ball."""
    best = np.inf
    free = list(range(n, q.size))
    for signs in itertools.product((-1.0, 0.0, 1.0), repeat=n):
        support = [j for j in range(n) if signs[j]]
        if not mask[support].all():
            continue
        index = support + free
        s = np.array([signs[j] for j in support] + [0.0] * len(free))
        for binding in (False, True) if support else (False,):
            k = len(index)
            K = np.zeros((k + 1, k + 1))
            K[:k, :k] = M[np.ix_(index, index)]
            K[:k, k] = K[k, :k] = s
            rhs = np.append(q[index] - l1 * s, radius)
            if not binding:
                K, rhs = K[:k, :k], rhs[:k]
            if not k:
                best = min(best, 0.0)
                continue
            x = np.linalg.solve(K, rhs)[:k]
            if (s * x >= 0.0).all() and s @ x <= radius * (1.0 + 1e-12):
                a = np.zeros(q.size)
                a[index] = x
                best = min(best, row_value(M, q, np.full(n, l1), a))
    return best


@st.composite
def rows(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, free = draw(st.integers(1, 4)), draw(st.integers(0, 2))
    k = n + free
    Q = np.linalg.qr(rng.standard_normal((k, k)))[0]
    condition = draw(st.sampled_from([1.0, 1e2, 1e4, 1e8]))
    M = (Q * np.geomspace(1.0, 1.0 / condition, k)) @ Q.T
    M = 0.5 * (M + M.T)
    x = rng.standard_normal(k) * draw(st.sampled_from([0.1, 1.0, 30.0]))
    q = M @ x if draw(st.booleans()) else rng.standard_normal(k)
    radius = draw(st.sampled_from([1e-3, 0.5, 1.0, 1e3]))
    l1 = draw(st.sampled_from([0.0, 1e-3, 0.2, 5.0]))
    mask = rng.random(n) < 0.8
    start = np.where(rng.random(k) < 0.6, rng.standard_normal(k), 0.0)
    start[:n] *= mask
    _kernels.project_l1_row(start[:n], radius, np.empty(n))
    return M, q, n, radius, l1, mask, start


def row(M, q, n, radius, l1, mask, start, solver=_kernels.row_in_ball):
    a, g = start.copy(), q - M @ start
    mu = solver(M, g, n, radius, l1, mask, a, np.empty_like(M))
    return a, g, mu


@settings(max_examples=300)
@given(rows())
def test_a_row_is_solved_exactly(data):
    M, q, n, radius, l1, mask, start = data
    a, g, mu = row(*data)
    assert np.abs(a[:n]).sum() <= radius
    assert not a[:n][~mask].any()
    best = row_by_enumeration(M, q, n, radius, l1, mask)
    size = np.abs(q) @ np.abs(a) + abs(best)
    penalty = np.full(n, l1)
    assert row_value(M, q, penalty, a) <= best + 1e-9 * size
    assert row_value(M, q, penalty, a) <= row_value(M, q, penalty, start) + 1e-12 * size
    # the conditions of optimality, with the multiplier and the gradient that came back
    condition = 1.0 / np.linalg.eigvalsh(M)[0]
    unit = np.abs(q).max() + np.abs(start).max() + np.abs(a).max()
    tol = (1e-12 + 1e-15 * condition) * unit
    np.testing.assert_allclose(g, q - M @ a, rtol=0.0, atol=tol)
    assert mu >= l1
    assert (np.abs(g[:n][mask]) <= mu + tol).all()
    support = a[:n] != 0.0
    assert np.abs(g[:n] - mu * np.sign(a[:n]))[support].max(initial=0.0) <= tol
    assert np.abs(g[n:]).max(initial=0.0) <= tol
    if mu > l1 + tol:
        assert np.abs(a[:n]).sum() == pytest.approx(radius, rel=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.9999, 1.0])
@pytest.mark.parametrize("radius", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_large_rows_of_correlated_states(correlation, radius, mean):
    rng = np.random.default_rng(0)
    n, m = 60, 200
    X = np.sqrt(1.0 - correlation) * rng.standard_normal((m, n))
    X += np.sqrt(correlation) * rng.standard_normal((m, 1)) + mean
    M = X.T @ X / m
    _kernels._regularise(M, np.trace(M))
    q = X.T @ (X @ rng.standard_normal(n) + rng.standard_normal(m)) / m
    a, _, mu = row(M, q, n, radius, 0.0, np.ones(n, dtype=bool), np.zeros(n))
    g = q - M @ a
    gap = radius * np.abs(g).max() - g @ a  # bounds the distance from the minimum
    assert gap <= 1e-7 * max(q @ a, 1.0)
    assert mu == pytest.approx(np.abs(g).max(), abs=1e-7 * np.abs(q).max())


# the kernels in Python


@pytest.mark.parametrize("seed", range(8))
def test_sweeps_compiled_and_not_are_the_same(seed):
    second = {"H2": np.eye(3), "explained": 2} if seed % 2 else {}
    grouped = {"sizes": [2, 1], "threshold": np.zeros(2)} if seed in (2, 3) else {}
    case = problem(seed, n=2, extra=1, p=3, free=1, l1=0.01, **second, **grouped)
    case.threshold[:] = [0.1, 5.0, 0.3][: len(case.threshold)]
    if seed == 4:
        case.H[1] = case.H[:, 1] = 0.0
    target = 1e-9 * case.scale(case.linear)
    found = []
    for solver in (_kernels.group_ball_sweeps, _kernels.group_ball_sweeps.py_func):
        Theta, G = np.zeros(case.linear.shape), case.linear.copy()
        t = (2, case.threshold, case.sizes, case.radius, case.l1, case.pattern, case.entry)
        metrics = (*sweep_metric(case), *majoriser(case))
        sweeps = solver(*metrics, Theta, G, *t, target, 200)
        found.append((sweeps, Theta))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-12, atol=1e-14)
    if seed != 4:
        check_optimal(case, found[0][1])


def test_sweeps_leave_an_unbounded_column_alone():
    case = GroupBallProblem.of([[-1.0, -3.0]], [[0.0]], np.eye(2), 1, 1.0, 0.5)
    args = (np.eye(1), np.zeros(1), np.ones(2), np.eye(1))
    for solver in (_kernels.group_ball_sweeps, _kernels.group_ball_sweeps.py_func):
        Theta, G = np.array([[0.0, 0.2]]), case.linear.copy()
        t = (1, case.threshold, case.sizes, case.radius, case.l1, case.pattern, case.entry)
        assert solver(*sweep_metric(case), *args, Theta, G, *t, 1e-9, 3) == 3
        np.testing.assert_allclose(Theta, [[0.5, 0.2]], rtol=1e-14)


@pytest.mark.parametrize("seed", range(40))
def test_row_compiled_and_not_are_the_same(seed):
    rng = np.random.default_rng(seed)
    n, k = 4, 5
    M = wishart(rng, k) + 0.01 * np.eye(k)
    start = 0.1 * rng.standard_normal(k) * (rng.random(k) < 0.7)
    q, mask = rng.standard_normal(k), rng.random(n) < 0.9
    start[:n] *= mask
    data = (M, q, n, [0.4, 5.0][seed % 2], [0.0, 0.3, 10.0][seed % 3], mask, start)
    one, two = row(*data), row(*data, solver=_kernels.row_in_ball.py_func)
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13)


def test_a_row_ends_for_an_indefinite_metric():
    M = np.array([[1.0, 2.0], [2.0, 1.0]])
    for solver in (_kernels.row_in_ball, _kernels.row_in_ball.py_func):
        a = np.array([0.1, 0.0])
        g = np.array([1.0, 3.0])
        solver(M, g, 2, 10.0, 0.0, np.ones(2, dtype=bool), a, np.empty((2, 2)))
        assert np.isfinite(a).all()


def test_residuals_compiled_and_not_are_the_same():
    for seed in range(10):
        case = varied(seed)
        Theta = solve_group_ball(case, max_sweeps=2).x
        G = case.gradient(Theta)
        t = (
            case.n_states,
            case.threshold,
            case.sizes,
            case.radius,
            case.l1,
            case.pattern,
            case.entry,
        )
        one = _kernels.group_ball_residual(Theta, G, *t)
        assert _kernels.group_ball_residual.py_func(Theta, G, *t) == pytest.approx(one, rel=1e-12)
    for a in (np.zeros(3), np.array([0.1, -0.2, 0.0])):
        g, mask = np.array([0.3, -0.2, 0.9]), np.array([True, True, False])
        one = _kernels._row_residual(g, a, 0.5, 0.1, mask)
        assert _kernels._row_residual.py_func(g, a, 0.5, 0.1, mask) == pytest.approx(one)
    G, Theta = np.array([[3.0, 1.0], [4.0, 1.0]]), np.array([[0.0, 3.0], [0.0, 4.0]])
    every = np.ones(2, dtype=bool)
    for f in (_kernels._group_residual, _kernels._group_residual.py_func):
        assert f(G, Theta, 2, 0, 1, 2.0, every) == pytest.approx(3.0)
        assert f(G, Theta, 2, 1, 2, 0.5, every) == pytest.approx(math.hypot(1.3, 1.4))
        both = math.sqrt(9 + 16 + 1.3**2 + 1.4**2)
        assert f(G, Theta, 2, 0, 2, 0.5, every) == pytest.approx(both)
        assert f(G, Theta, 2, 0, 1, 2.0, np.array([True, False])) == pytest.approx(1.0)


@pytest.mark.parametrize(("rows", "size", "columns"), [(1, 1, 1), (6, 5, 70), (8, 32, 128)])
def test_products_by_tiles(rows, size, columns):
    rng = np.random.default_rng(0)
    left, W = rng.standard_normal((rows, size + 2)), rng.standard_normal((40, columns))
    G = rng.standard_normal((rows, columns))
    expected = G + left[:, :size] @ W[:size]
    for function in (_kernels._add_tiles, _kernels._add_tiles.py_func):
        new = G.copy()
        function(left, W, size, new)
        np.testing.assert_allclose(new, expected, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_chunk():
    rng = np.random.default_rng(0)
    G, K, Z = (rng.standard_normal(s) for s in ((4, 9), (9, 3), (3, 2)))
    F = rng.standard_normal((4, 2))
    u, v, w, k = rng.standard_normal(4), rng.standard_normal(4), *rng.standard_normal((2, 9))
    for pick in (lambda f: f, lambda f: f.py_func):
        left, near = np.empty((6, 2)), np.empty((6, 4))
        F_minus = np.ascontiguousarray(-F.T)
        pick(_kernels._chunk_gradient)(G, K, Z, F_minus, 2, 7, left, near)
        expected = G - F @ (K @ Z).T
        np.testing.assert_allclose(near[:5], expected[:, 2:7].T, rtol=1e-12, atol=1e-12)
        before = near.copy()
        pick(_kernels._push)(near.ravel(), 1, u, w, 2, v, k, 5)
        np.testing.assert_array_equal(near[[0, 3, 4, 5]], before[[0, 3, 4, 5]])
        np.testing.assert_allclose(
            near[1:3], before[1:3] + np.outer(w[3:5], u) + np.outer(k[1:3], v), rtol=1e-12
        )
        length = pick(_kernels._length_of_sum)(u, 0.5, v)
        assert length == pytest.approx(np.linalg.norm(u + 0.5 * v))


def test_zero_groups_are_judged_by_their_gradients():
    near = np.array([[3.0, 1.0], [0.0, 2.0], [4.0, 7.0]])
    sizes, level, free = np.array([1, 2]), np.array([2.5, 3.0]), np.array([1.0, 0.0])
    for f in (_kernels._violation_of_zeros, _kernels._violation_of_zeros.py_func):
        assert f(near, np.zeros(6), sizes, level, free) == 1.0
        assert f(near, np.zeros(6), sizes, level + 2.0, free) == 0.0
        assert f(near, np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), sizes, level, free) == np.inf


def test_helpers_compiled_and_not_are_the_same():
    rng = np.random.default_rng(0)
    G, u, w = (rng.standard_normal(s) for s in ((3, 4), 3, 4))
    u[1] = 0.0
    K = rng.standard_normal((2, 3))
    for pick in (lambda f: f, lambda f: f.py_func):
        new = G.copy()
        pick(_kernels._add_outer)(new, u, 3, w)
        np.testing.assert_allclose(new, G + np.outer(u, w))
        for size in (2, 6):
            x, out = rng.standard_normal(size), np.empty(3)
            rows = rng.standard_normal((size, 3))
            pick(_kernels._combine)(x, rows, size, out)
            np.testing.assert_allclose(out, x @ rows)
        column = np.empty(3)
        assert pick(_kernels._copy_column)(G, 2, column)
        np.testing.assert_array_equal(column, G[:, 2])
        assert not pick(_kernels._copy_column)(np.zeros((3, 4)), 0, column)
        M = np.empty((2, 2))
        pick(_kernels._gram_of_rows)(K, M)
        np.testing.assert_allclose(M, K @ K.T)
        pick(_kernels._regularise)(M, 2.0 * np.trace(M))
        assert (np.diag(M) > (K * K).sum(axis=1)).all()
        np.testing.assert_allclose(M, K @ K.T, rtol=1e-11)
        L, zero = np.zeros((2, 2)), np.zeros((2, 2))
        for i in range(2):
            pick(_kernels._factor_row)(M, np.array([1, 0]), i, L)
        np.testing.assert_allclose(L @ L.T, M[::-1, ::-1])
        pick(_kernels._regularise)(zero, 0.0)
        np.testing.assert_allclose(zero, np.eye(2))
        for i in range(2):  # of rank one: the lost pivot is a small one
            pick(_kernels._factor_row)(np.ones((2, 2)), np.array([0, 1]), i, L)
        assert L[1, 1] == pytest.approx(1e-7)
