"""The (A, B) block: a quadratic in a Gram metric, rows of A in the l1 ball, groups over columns."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal

from ._kernels import group_ball_sweeps
from .certificates import as_count, as_float64, as_scalar
from .group_ball_problem import GroupBallProblem, exponent
from .projections import project_l1_rows
from .result import Result, Status

__all__ = ["GroupBallProblem", "descend_group_ball", "feasible_rows", "solve_group_ball"]

Array = NDArray[np.float64]

_ROUNDING = 1e-14  # of the largest eigenvalue, and of W where next to nothing of it is left
# Columns of a group whose largest eigenvalue is found by itself: for the 3,000 of a variable's
# categories all eigenvalues took 3 s of a step of 4.
_WIDE = 300
# Most directions of its subspace, how often their eigenvalue is looked at, and the part of it up to
# which it is known.
_MOST_DIRECTIONS, _CHECKED, _KNOWN = 300, 10, 1e-12


def solve_group_ball(
    problem: GroupBallProblem,
    *,
    Theta0: ArrayLike | None = None,
    tol: float = 1e-8,
    max_sweeps: int = 1000,
) -> Result:
    """Minimise a group-ball least-squares problem by exact cyclic block minimisation.

    Parameters
    ----------
    problem : GroupBallProblem
        The data; see there for the objective.
    Theta0 : array-like of shape (r, P), optional
        Warm start; zero by default. Rows of its ``A`` are first put into the ball.
    tol : float
        Largest :meth:`GroupBallProblem.residual` of a solution.
    max_sweeps : int
        Passes over all blocks.

    Returns
    -------
    Result
        ``x`` is Theta; ``gap`` is its residual, computed anew from the data. Row sums of ``|A|``
        are at most ``radius`` exactly, in whatever order they are added.

    Raises
    ------
    ValueError
        If ``Theta0`` is misshapen or not finite, or a limit negative.

    Notes
    -----
    A block is a row of A with the intercepts of its state (solved by an active-set method), a
    group (solved through the eigenvectors of H and a scalar equation) or a free column. Every block
    update is a minimisation, or that of a majoriser when there is a second metric or a group of
    several columns, so the objective never rises. An intercept belongs to two blocks since it
    is tied to A by states with a mean and to its like by H: without the first, states with mean 10
    and variance 1 needed thousands of sweeps instead of 14; without the second, so did an H of low
    rank instead of 26.
    Source: P. Tseng, "Convergence of a block coordinate descent method for
    nondifferentiable minimization", J. Optim. Theory Appl. 109 (2001).

    Examples
    --------
    One state without recurrence and two inputs: a lasso with an orthonormal design.

    >>> from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
    >>> problem = GroupBallProblem.of([[0.0, -3.0, 0.5]], [[1.0]], np.eye(3), 1, 1.0, 0.9)
    >>> solve_group_ball(problem).x.round(6) + 0.0
    array([[0., 2., 0.]])
    """
    r, P = problem.linear.shape
    n, p = problem.n_states, problem.n_inputs
    tol = as_scalar("tol", tol)
    max_sweeps = as_count("max_sweeps", max_sweeps)
    Theta = np.zeros((r, P))
    if Theta0 is not None:
        Theta[:] = as_float64("Theta0", Theta0, (r, P))
    Theta[n:, :n] = 0.0
    Theta[n:, n + p :] = 0.0
    Theta[~problem.entry, n : n + p] = 0.0
    Theta[:n, :n] = feasible_rows(Theta[:n, :n], problem.radius, problem.pattern)
    if max_sweeps == 0:
        return Result(Theta, np.inf, 0, "max_iter")
    return descend_group_ball(problem, Theta, problem.gradient(Theta), tol, max_sweeps)[0]


def descend_group_ball(
    problem: GroupBallProblem, Theta: Array, gradient: Array, tol: float, max_sweeps: int
) -> tuple[Result, Array]:
    """Solve from a feasible ``Theta`` with a known gradient; return the result, and the last one.

    As :func:`solve_group_ball` with ``max_sweeps`` above zero; it spares two products with W.
    """
    scaled, unit = problem.normalised()
    down = exponent(problem.linear)
    with np.errstate(over="ignore", under="ignore"):
        G = np.ldexp(gradient, -down, order="C")  # another order would be compiled for once more
    if scaled.linear.any():
        Theta = np.ldexp(Theta, -unit, order="C")
    else:
        Theta, G = np.zeros_like(Theta), np.zeros_like(G)  # the minimiser
    metric = (*sweep_metric(scaled), *majoriser(scaled))
    n = problem.n_states
    n_iter, residual = 0, np.inf
    while n_iter < max_sweeps and residual > tol:
        n_iter += group_ball_sweeps(
            *metric,
            Theta,
            G,
            n,
            scaled.threshold,
            scaled.sizes,
            scaled.radius,
            scaled.l1,
            scaled.pattern,
            scaled.entry,
            tol * scaled.scale(G),
            max_sweeps - n_iter,
        )
        G = scaled.gradient(Theta)  # a fresh one, free of the rounding of many updates
        residual = scaled.violation(Theta, G)
    Theta = np.ldexp(Theta, unit)
    Theta[:n, :n] = feasible_rows(Theta[:n, :n], problem.radius, problem.pattern)
    status: Status = "optimal" if residual <= tol else "max_iter"
    with np.errstate(over="ignore", under="ignore"):
        G = np.ldexp(G, down)
    return Result(Theta, residual, n_iter, status), G


def feasible_rows(A: Array, radius: float, pattern: NDArray[np.bool_]) -> Array:
    """Return ``A`` projected on the row-sum ball and the pattern; unchanged if it is in both."""
    return project_l1_rows(A, radius, pattern=pattern).x if A.size else A


def sweep_metric(problem: GroupBallProblem) -> tuple[Array, Array, Array, Array]:
    """Return the metric as ``H (x) W - F F' (x) K K'``, with as few columns in F as H2 allows."""
    if not len(problem.H2):
        r, P = problem.linear.shape
        return problem.H, problem.W, np.zeros((r, 0)), np.zeros((P, 0))
    values, vectors = np.linalg.eigh(problem.H2)
    kept = values > _ROUNDING * values[-1]
    F = vectors[:, kept] * np.sqrt(values[kept])
    return problem.total, problem.W, _array(F), _array(problem.K)


def majoriser(problem: GroupBallProblem) -> tuple[Array, Array, Array, Array]:
    """Return eigenpairs of a row metric ``N`` and one factor a column: ``w H + w2 H2 <= factor N``.

    For a group of several columns w is the largest eigenvalue of its block of W, w2 likewise of
    ``W - K K'``. The smallest eigenvalues are kept off zero by a proximal term, so that every block
    has one minimiser.
    """
    bound = _largest_eigenvalues(problem, np.zeros((len(problem.W), 0)))
    N = problem.H
    if len(problem.H2):
        second = _largest_eigenvalues(problem, problem.K) + _ROUNDING * bound
        inputs = slice(problem.n_states, problem.n_states + problem.n_inputs)
        first_mean, second_mean = (float(d[inputs].sum()) or 1.0 for d in (bound, second))
        N = first_mean * N + second_mean * problem.H2
        bound = np.maximum(bound / first_mean, second / second_mean)
    places = np.ix_(problem.entry, problem.entry)
    values, vectors = np.ones(len(N)), np.eye(len(N))
    values[problem.entry], vectors[places] = np.linalg.eigh(N[places])
    floor = 1e-11 * float(np.trace(N))
    n = problem.n_states
    inverse = np.linalg.inv(N[:n, :n] + floor * np.eye(n)) if floor > 0.0 else np.zeros((n, n))
    values = np.maximum(values, 0.0) + floor
    return _array(vectors), _array(values), bound, _array(inverse)


def _largest_eigenvalues(problem: GroupBallProblem, K: Array) -> Array:
    """Return the diagonal of ``W - K K'``; on a group of columns its largest eigenvalue."""
    W = problem.W
    largest: Array = np.maximum(np.diag(W) - np.einsum("ij,ij->i", K, K), 0.0)
    ends = problem.n_states + np.cumsum(problem.sizes)
    for size in np.unique(problem.sizes[problem.sizes > 1]):
        groups = ends[problem.sizes == size, np.newaxis] + np.arange(-size, 0)
        if size > _WIDE:
            for group in groups:
                places = slice(group[0], group[-1] + 1)
                largest[places] = max(_largest_eigenvalue(W[places, places], K[places]), 0.0)
        else:  # all at once: one by one, 500 pairs took a third of a fit
            blocks = W[groups[:, :, np.newaxis], groups[:, np.newaxis]]
            blocks -= K[groups] @ K[groups].swapaxes(1, 2)
            largest[groups] = np.maximum(np.linalg.eigvalsh(blocks)[:, -1:], 0.0)
    return largest


def _largest_eigenvalue(W: Array, K: Array) -> float:
    """Return the largest eigenvalue of ``W - K K'``, by Lanczos' method if that ends soon.

    Not by ARPACK, whose restarts are random: equal fits are to have equal bits.
    """
    x = np.random.default_rng(0).standard_normal(len(W))
    x /= np.linalg.norm(x)
    basis, diagonal, beside = np.empty((_MOST_DIRECTIONS, len(W))), np.empty(0), np.empty(0)
    for k in range(_MOST_DIRECTIONS):
        basis[k] = x
        y = W @ x - K @ (x @ K)
        diagonal = np.append(diagonal, x @ y)
        for _ in range(2):  # once leaves rounding errors of what is taken off
            y -= (basis[: k + 1] @ y) @ basis[: k + 1]
        length = float(np.linalg.norm(y))
        if k % _CHECKED == 0 or length <= _KNOWN * abs(diagonal[0]):
            value, vector = eigh_tridiagonal(diagonal, beside, select="i", select_range=(k, k))
            residual = length * abs(float(vector[-1, 0]))
            if residual <= _KNOWN * abs(value[0]):
                return float(value[0]) + residual
        beside = np.append(beside, length)
        x = y / length
    return float(np.linalg.eigvalsh(W - K @ K.T)[-1])


def _array(values: ArrayLike) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
