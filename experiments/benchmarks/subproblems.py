"""The convex subproblems against CVXPY, scikit-learn and skglm."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.solvers.projections import project_l1_rows
from bcd_implicit.solvers.state_qp import solve_states
from experiments.benchmarks import group_lasso
from experiments.benchmarks.harness import Comparison, Contender, Curve, compare

__all__ = ["run"]

Array = NDArray[np.float64]

_SOLVERS = ("CLARABEL", "SCS", "OSQP")
_TIME_LIMIT = 300.0  # seconds that CVXPY's solvers may take for the large block
_LIMITS = {"CLARABEL": {"time_limit": _TIME_LIMIT}, "SCS": {"time_limit_secs": _TIME_LIMIT}}
_USER = "CVXPY is timed as a user calls it, from the expressions to the solution."


def run(*, full: bool) -> Iterator[Comparison | Curve]:
    """Yield the comparisons of all subproblems, on one thread of the BLAS."""
    with threadpool_limits(1, user_api="blas"):
        yield _row_ball()
        yield _block(n=10, p=50, solvers=_SOLVERS, repeats=5)
        if full:
            yield _block(n=50, p=500, solvers=("CLARABEL", "SCS"), repeats=1)
        yield from group_lasso.run(full=full)
        yield _states()


def _cvxpy(solver: str, build: Callable[[Any], tuple[Any, Any]], options: dict[str, Any]) -> Any:
    """Build a problem and solve it; return the value of its unknown."""
    import cvxpy

    problem, unknown = build(cvxpy)
    problem.solve(solver=solver, **options)
    if unknown.value is None:
        raise RuntimeError(f"no solution: {problem.status}")
    return np.asarray(unknown.value)


def _rivals(
    solvers: tuple[str, ...],
    build: Callable[[Any], tuple[Any, Any]],
    accuracy: Callable[[Array], float],
    options: dict[str, dict[str, Any]],
) -> list[Contender]:
    return [
        Contender(
            f"CVXPY {solver}",
            lambda solver=solver: _cvxpy(solver, build, options.get(solver, {})),  # type: ignore[misc]
            accuracy,
        )
        for solver in solvers
    ]


def _row_ball() -> Comparison:
    """Projection of a 200 x 200 matrix on the row-sum ball."""
    size, radius = 200, 0.9
    V = np.random.default_rng(0).standard_normal((size, size)) / np.sqrt(size)
    exact = _sorted_projection(V, radius)
    best = float(((exact - V) ** 2).sum())

    def accuracy(A: Array) -> float:
        outside = float(np.abs(A).sum(axis=1).max()) / radius - 1.0
        return max(float(((A - V) ** 2).sum()) / best - 1.0, outside, 0.0)

    def build(cp: Any) -> tuple[Any, Any]:
        A = cp.Variable((size, size))
        objective = cp.Minimize(cp.sum_squares(A - V))
        return cp.Problem(objective, [cp.sum(cp.abs(A), axis=1) <= radius]), A

    return compare(
        "row-sum ball",
        f"{size} x {size}",
        "excess, outside",
        [
            Contender("bcd_implicit", lambda: project_l1_rows(V, radius).x, accuracy),
            *_rivals(_SOLVERS, build, accuracy, {}),
        ],
        target=1000.0,
        note="Larger of the relative excess over the projection by sorting and of the relative "
        f"excess of a row sum; the solvers at their default tolerances. {_USER}",
    )


def _sorted_projection(V: Array, radius: float) -> Array:
    """Project by sorting, for rows that are all outside of the ball."""
    order = -np.sort(-np.abs(V), axis=1)
    excess = (np.cumsum(order, axis=1) - radius) / np.arange(1, V.shape[1] + 1)
    tau = excess.max(axis=1, keepdims=True)
    projected: Array = np.sign(V) * np.maximum(np.abs(V) - tau, 0.0)
    return projected


def _block_problem(n: int, p: int) -> GroupBallProblem:
    """Return the (A, B) block of a model with states; a third of the inputs is used."""
    rng = np.random.default_rng(1)
    m = max(400, 2 * (n + p))
    A = project_l1_rows(rng.standard_normal((n, n)), 0.8).x
    true = np.zeros((n, n + p + 1))
    true[:, :n] = A
    used = rng.choice(p, p // 3, replace=False)
    true[:, n + used] = rng.standard_normal((n, p // 3))
    Z = np.hstack(
        [np.abs(rng.standard_normal((m, n))), rng.standard_normal((m, p)), np.ones((m, 1))]
    )
    root = rng.standard_normal((3 * n, n))
    H, W = root.T @ root / (3 * n), Z.T @ Z / m
    linear = -H @ (true @ W + 0.5 * rng.standard_normal((n, m)) @ Z / m)
    noise = np.linalg.norm(np.delete(linear[:, n : n + p], used, axis=1), axis=0)
    return GroupBallProblem.of(linear, H, W, n, np.full(p, np.median(noise)), 0.5)


def _block(n: int, p: int, solvers: tuple[str, ...], repeats: int) -> Comparison:
    """Return the comparison of the (A, B) block."""
    problem = _block_problem(n, p)
    best = problem.objective(solve_group_ball(problem, tol=1e-11, max_sweeps=20_000).x)
    rows, columns = np.linalg.cholesky(problem.H), np.linalg.cholesky(problem.W)

    def accuracy(Theta: Array) -> float:
        feasible = Theta.copy()
        feasible[:, :n] = project_l1_rows(Theta[:, :n], problem.radius).x
        return abs(problem.objective(feasible) / best - 1.0)

    def build(cp: Any) -> tuple[Any, Any]:
        Theta, image = cp.Variable((n, n + p + 1)), cp.Variable((n, n + p + 1))
        loss = 0.5 * cp.sum_squares(rows.T @ image) + cp.sum(cp.multiply(problem.linear, Theta))
        penalty = problem.threshold @ cp.norm(Theta[:, n : n + p], 2, axis=0)
        ball = cp.sum(cp.abs(Theta[:, :n]), axis=1) <= problem.radius
        return cp.Problem(cp.Minimize(loss + penalty), [image == Theta @ columns, ball]), Theta

    return compare(
        "(A, B) block",
        f"n={n} p={p}",
        "relative excess",
        [
            Contender("bcd_implicit", lambda: solve_group_ball(problem, tol=1e-3).x, accuracy),
            *_rivals(solvers, build, accuracy, _LIMITS),
        ],
        target=100.0,
        repeats=repeats,
        note=f"Excess of the objective once the rows are in the ball. {_USER}",
    )


def _states() -> Comparison:
    """Return the comparison of the X block, with relu."""
    n, q, m, few = 20, 5, 10_000, 200
    rng = np.random.default_rng(2)
    A = project_l1_rows(rng.standard_normal((n, n)), 0.5).x
    A = A * min(1.0, 0.45 / float(np.linalg.norm(A, 2)))  # jointly convex, as CVXPY needs
    C, lam = rng.standard_normal((q, n)) / np.sqrt(n), np.full(n, 10.0)
    Q, c = C.T @ C, rng.standard_normal((m, q)) @ C
    zeta, relu = rng.standard_normal((m, n)), np.array([0.0, 0.0, -np.inf, np.inf])
    hessian = Q + np.diag(lam) - lam[:, None] * A - (lam[:, None] * A).T
    root = np.linalg.cholesky(hessian)
    linear = c + lam * zeta

    def objective(X: Array) -> np.longdouble:
        """Objective over the first samples, at states that are moved into the domain.

        In extended precision: in double its terms cancel down to 1e-14.
        """
        X = np.maximum(X[:few], 0.0).astype(np.longdouble)
        positive = np.maximum(X @ A.T + zeta[:few], 0.0)
        smooth = 0.5 * ((X @ hessian) * X).sum() - (linear[:few] * X).sum()
        value: np.longdouble = smooth + 0.5 * ((positive**2) @ lam).sum()
        return value

    exact = solve_states(Q, c[:few], zeta[:few], lam, A, 0, relu, tol=1e-13, max_iter=100_000).x
    best = objective(exact)

    def accuracy(X: Array) -> float:
        return float(abs(objective(X) / best - 1.0))

    def build(cp: Any) -> tuple[Any, Any]:
        X = cp.Variable((few, n), nonneg=True)
        positive = cp.pos(X @ A.T + zeta[:few])
        smooth = 0.5 * cp.sum_squares(X @ root) - cp.sum(cp.multiply(linear[:few], X))
        conjugate = 0.5 * cp.sum_squares(cp.multiply(positive, np.sqrt(lam)))
        return cp.Problem(cp.Minimize(smooth + conjugate)), X

    result = compare(
        "X block",
        f"n={n} m={m}",
        "relative excess",
        [
            Contender(
                "bcd_implicit",
                lambda: solve_states(Q, c, zeta, lam, A, 0, relu, n_jobs=2).x,
                accuracy,
            ),
            *_rivals(_SOLVERS, build, accuracy, {}),
        ],
        target=1000.0,
        note=f"CVXPY solves {few} samples in one problem, on one thread; its time is multiplied by "
        f"{m // few}. {_USER}",
    )
    ours, *others = result.rows
    scaled = [replace(row, seconds=[m // few * s for s in row.seconds]) for row in others]
    return replace(result, rows=[ours, *scaled])
