"""The convex subproblems written down in CVXPY: the oracle of the tests, never on the hot path.

Each function has the name and the arguments of the driver that it checks and returns the solution
as an array. Clarabel solves them to 1e-12, or to 1e-7 where rounding errors stop it. On the group
norms it leaves errors of 1e-5 in the solution, or fails, because its central path meets the surface
of the second-order cone, and on the exponential cones of tanh and sigmoid errors of 3e-6, on some
processors; SCS gets 1e-11 on the same problems and solves those.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernels import PIECEWISE_LINEAR, TANH
from .certificates import as_activation
from .group_ball_ls import GroupBallProblem

Array = NDArray[np.float64]


def _cvxpy() -> Any:
    """Import CVXPY, which takes a second, when it is needed."""
    import cvxpy

    return cvxpy


def _solve(objective: Any, constraints: list[Any], *, splitting: bool = False) -> float:
    """Minimise with Clarabel, or with the splitting method SCS; return the value."""
    cp = _cvxpy()
    problem = cp.Problem(cp.Minimize(objective), constraints)
    if splitting:
        options: dict[str, Any] = {"eps_abs": 1e-11, "eps_rel": 1e-11, "max_iters": 50_000}
    else:
        options = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)
        options |= dict.fromkeys(
            ("reduced_tol_gap_abs", "reduced_tol_gap_rel", "reduced_tol_feas"), 1e-7
        )
    with warnings.catch_warnings():  # it warns where only the reduced tolerances are met
        warnings.simplefilter("ignore", UserWarning)
        problem.solve(solver=cp.SCS if splitting else cp.CLARABEL, **options)
    if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise ValueError(f"the problem must have a solution; the solver says {problem.status}")
    return float(problem.value)


def project_l1_rows(V: Array, radius: float, *, pattern: NDArray[np.bool_] | None = None) -> Array:
    """Twin of :func:`projections.project_l1_rows`."""
    cp = _cvxpy()

    A = cp.Variable(V.shape)
    allowed = np.ones(V.shape, dtype=bool) if pattern is None else pattern
    constraints = [cp.norm1(A[k]) <= radius for k in range(V.shape[0])]
    constraints.append(cp.multiply(~allowed, A) == 0.0)
    _solve(0.5 * cp.sum_squares(A - np.where(allowed, V, 0.0)), constraints)
    return np.asarray(A.value, dtype=np.float64)


def group_soft_threshold(V: Array, threshold: float | Array) -> Array:
    """Twin of :func:`proximal.group_soft_threshold`, for finite thresholds."""
    cp = _cvxpy()

    X = cp.Variable(V.shape)
    t = np.broadcast_to(np.asarray(threshold, dtype=np.float64), V.shape[1:])
    _solve(0.5 * cp.sum_squares(X - V) + t @ cp.norm(X, 2, axis=0), [], splitting=True)
    return np.asarray(X.value, dtype=np.float64)


def group_prox_metric(r: Array, eigenvalues: Array, threshold: float) -> Array:
    """Twin of :func:`proximal.group_prox_metric`."""
    cp = _cvxpy()

    b = cp.Variable(r.size)
    _solve(0.5 * eigenvalues @ b**2 - r @ b + threshold * cp.norm2(b), [], splitting=True)
    return np.asarray(b.value, dtype=np.float64)


def ridge(
    gram: Array, cross: Array, l2: float, *, unpenalized: NDArray[np.bool_] | None = None
) -> Array:
    """Twin of :func:`ridge.ridge`, for a solution that is unique."""
    cp = _cvxpy()

    q, n = cross.shape
    penalty = l2 * np.ones(n) if unpenalized is None else np.where(unpenalized, 0.0, l2)
    C = cp.Variable((q, n))
    rows = [cp.quad_form(C[i], cp.psd_wrap(gram + np.diag(penalty))) for i in range(q)]
    _solve(0.5 * sum(rows) - cp.sum(cp.multiply(C, cross)), [])
    return np.asarray(C.value, dtype=np.float64)


def solve_states(
    Q: Array,
    c: Array,
    zeta: Array,
    lam: Array,
    A: Array,
    kind: int,
    par: Array,
) -> Array:
    """Twin of :func:`state_qp.solve_states`, where CVXPY can see that the problem is convex.

    The piecewise linear activations need ``Q + W - W A - A'W >= 0``, which is when they are convex;
    tanh and sigmoid need ``Q - W A - A'W >= 0``, for the curvature of their potentials cannot be
    split off in CVXPY's grammar.

    Raises
    ------
    ValueError
        If that matrix is not positive semidefinite.
    """
    cp = _cvxpy()

    kind, par = as_activation(kind, par)
    m, n = zeta.shape
    WA = lam[:, None] * A
    S = 0.5 * (Q + Q.T) - WA - WA.T
    if kind == PIECEWISE_LINEAR:
        S = S + np.diag(lam)
    least = float(np.linalg.eigvalsh(S)[0])
    if least < -1e-9 * np.abs(S).max():
        raise ValueError(f"Q must make the problem convex in CVXPY's sight; got {least:.3g}")
    X = cp.Variable((m, n))
    Z = X @ A.T + zeta
    if kind == PIECEWISE_LINEAR:
        divergence, constraints = _piecewise_linear(X, Z, par)
    elif kind == TANH:
        # log cosh z = log(1 + exp(2 z)) - z + constant
        divergence = cp.logistic(2.0 * Z) - Z - 0.5 * (cp.entr(1.0 + X) + cp.entr(1.0 - X))
        constraints = []
    else:
        divergence = cp.logistic(Z) - cp.entr(X) - cp.entr(1.0 - X)
        constraints = []
    quadratic = sum(cp.quad_form(X[i], cp.psd_wrap(S)) for i in range(m))
    linear = cp.sum(cp.multiply(c + zeta * lam, X))
    value = 0.5 * quadratic - linear + cp.sum(divergence @ lam)
    _solve(value, constraints, splitting=kind != PIECEWISE_LINEAR)
    return np.asarray(X.value, dtype=np.float64)


def _piecewise_linear(X: Any, Z: Any, par: Array) -> tuple[Any, list[Any]]:
    """Potential less ``x^2 / 2``, plus its conjugate in ``z``; with the constraints they need.

    The potential is ``h = x^2 / 2 + psi`` with ``psi(x) = t |x| + (1 / a - 1) min(x, 0)^2 / 2 +
    indicator of [low, high]``. The conjugate of a sum is the infimal convolution of the
    conjugates, so ``h*(z) = min (z - w1 - w2 - w3)^2 / 2 + psi*`` piece by piece.
    """
    cp = _cvxpy()

    threshold, slope, low, high = (float(value) for value in par)
    constraints: list[Any] = []
    potential = threshold * cp.abs(X)
    rest = Z
    conjugate = 0.0
    if threshold > 0.0:
        w = cp.Variable(Z.shape)
        constraints.append(cp.abs(w) <= threshold)
        rest = rest - w
    if slope < 1.0:
        w = cp.Variable(Z.shape)
        constraints.append(w <= 0.0)
        rest = rest - w
        if slope == 0.0:
            constraints.append(X >= 0.0)
        else:
            potential = potential + 0.5 * (1.0 / slope - 1.0) * cp.square(cp.neg(X))
            conjugate = conjugate + 0.5 * (slope / (1.0 - slope)) * cp.square(w)
    if np.isfinite(low) or np.isfinite(high):
        w = cp.Variable(Z.shape)
        rest = rest - w
        if np.isfinite(high):
            constraints.append(cp.max(X) <= high)
        else:
            constraints.append(w <= 0.0)
        if np.isfinite(low):
            constraints.append(cp.min(X) >= low)
        else:
            constraints.append(w >= 0.0)
        ends = [bound * w for bound in (low, high) if np.isfinite(bound)]
        conjugate = conjugate + (cp.maximum(*ends) if len(ends) == 2 else ends[0])
    return potential + conjugate + 0.5 * cp.square(rest), constraints


def group_ball(problem: GroupBallProblem) -> Array:
    """Twin of :func:`group_ball_ls.solve_group_ball`."""
    cp = _cvxpy()

    G, n, t = problem.linear, problem.n_states, problem.threshold
    last = n + problem.n_inputs
    Theta = cp.Variable(G.shape)
    free = np.zeros(G.shape, dtype=bool)
    free[:n, :n] = problem.pattern
    free[:, n:last] = problem.entry[:, None] & np.repeat(t < np.inf, problem.sizes)
    free[:n, last:] = True
    objective = cp.sum(cp.multiply(np.where(free, G, 0.0), Theta))
    metrics = [(problem.H, problem.W)]
    if len(problem.H2):
        metrics.append((problem.H2, problem.W - problem.K @ problem.K.T))
    for H, W in metrics:
        if H.any() and W.any():
            objective += 0.5 * cp.sum_squares(_root(H).T @ Theta @ _root(W))
    constraints = [cp.multiply(~free, Theta) == 0.0] if not free.all() else []
    if t.size:
        penalty = np.where(t < np.inf, t, 0.0)
        ends = n + np.cumsum(problem.sizes)
        for level, end, size in zip(penalty, ends, problem.sizes, strict=True):
            objective += level * cp.norm(Theta[:, end - size : end], "fro")
    if n:
        constraints.append(cp.max(cp.sum(cp.abs(Theta[:n, :n]), axis=1)) <= problem.radius)
        objective += problem.l1 * cp.sum(cp.abs(Theta[:n, :n]))
    _solve(objective, constraints, splitting=bool(t.size))
    return np.asarray(Theta.value, dtype=np.float64)


def solve_group_lasso(U: Array, Y: Array, threshold: float | Array) -> Array:
    """Twin of :func:`group_lasso.solve_group_lasso`, for finite thresholds."""
    cp = _cvxpy()

    t = np.broadcast_to(np.asarray(threshold, dtype=np.float64), U.shape[1:])
    Theta = cp.Variable((Y.shape[1], U.shape[1]))
    loss = cp.sum_squares(Y - U @ Theta.T) / (2 * len(U))
    _solve(loss + t @ cp.norm(Theta, 2, axis=0), [], splitting=True)
    return np.asarray(Theta.value, dtype=np.float64)


def _root(M: Array) -> Array:
    """Return a factor ``R`` with ``R R' = M`` of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(M)
    root: Array = vectors * np.sqrt(np.maximum(values, 0.0))
    return root[:, values > 1e-14 * values[-1]]
