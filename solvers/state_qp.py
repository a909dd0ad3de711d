"""The state block of the lifted problem: one small problem for every sample."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike

from ._kernels import PIECEWISE_LINEAR, phi_rows, state_sweeps
from .certificates import StateMatrices, as_activation, as_count, as_float64, as_scalar
from .result import Result
from .state_tiles import StateTiles

# A thread that is done takes another part, of whole tiles. To take one costs 15 microseconds and
# keeps the other thread waiting, a tenth of all with 1,280 rows; few samples are shared out so.
_MOST_ROWS, _LEAST_ROWS = 2560, 1280


def is_jointly_convex(
    A: ArrayLike, lam: ArrayLike, Q: ArrayLike, *, lipschitz: float = 1.0
) -> bool:
    """Tell whether the state problem is sure to be convex in all coordinates together.

    Sufficient is ``W / L - W A - A' W + Q >= 0`` with ``W = diag(lam)`` and phi ``L``-Lipschitz,
    since the potential of phi then has curvature at least ``1 / L``.

    Parameters
    ----------
    A, Q : array-like of shape (n, n)
        State matrix and shared curvature.
    lam : array-like of shape (n,)
        Multipliers.
    lipschitz : float
        Lipschitz constant ``L`` of the activation.

    Returns
    -------
    bool
        Whether the smallest eigenvalue is nonnegative up to rounding errors.

    Raises
    ------
    ValueError
        If an argument is not finite, misshapen, or ``lipschitz`` is not positive.

    Examples
    --------
    >>> from bcd_implicit.solvers.state_qp import is_jointly_convex
    >>> is_jointly_convex([[0.4]], [1.0], [[0.0]]), is_jointly_convex([[0.6]], [1.0], [[0.0]])
    (True, False)
    """
    weight = as_float64("lam", lam, (None,))
    n = weight.size
    WA = weight[:, None] * as_float64("A", A, (n, n))
    curvature = as_float64("Q", Q, (n, n)) - WA - WA.T
    curvature += np.diag(weight / as_scalar("lipschitz", lipschitz, positive=True))
    values = np.linalg.eigvalsh(0.5 * (curvature + curvature.T))
    return bool(values[0] >= -8 * n * np.finfo(np.float64).eps * np.abs(values).max())


def solve_states(
    Q: ArrayLike,
    c: ArrayLike,
    zeta: ArrayLike,
    lam: ArrayLike,
    A: ArrayLike,
    kind: int,
    par: ArrayLike,
    *,
    X0: ArrayLike | None = None,
    lipschitz: float = 1.0,
    tol: float = 1e-8,
    max_iter: int = 1000,
    overwrite_x0: bool = False,
    n_jobs: int = 1,
) -> Result:
    """Minimise the lifted objective over the states, each sample by itself.

    For every sample ``i`` minimises over ``x`` in R^n

        ``x'Q x / 2 - c_i'x + sum_k lam_k [h(x_k) + h*(z_k) - x_k z_k]``,  ``z = A x + zeta_i``,

    where ``phi = (h*)'`` is the activation and the bracket, its Fenchel divergence, is zero if and
    only if ``x_k = phi(z_k)``.

    Parameters
    ----------
    Q : array-like of shape (n, n)
        Curvature of the loss, symmetric and positive semidefinite, shared by the samples.
    c, zeta : array-like of shape (m, n)
        Linear terms and inputs ``B u_i + b`` of the samples.
    lam : array-like of shape (n,)
        Multipliers, positive.
    A : array-like of shape (n, n)
        State matrix.
    kind : int
        Activation family of the kernels: 0 piecewise linear, 1 tanh, 2 sigmoid.
    par : array-like of shape (4,)
        Threshold, negative slope, lower and upper clip of kind 0; ignored by the others.
    X0 : array-like of shape (m, n), optional
        Start; it is first moved into the domain of ``h``. By default ``phi(zeta)``.
    lipschitz : float
        Lipschitz constant ``L`` of the activation (1/4 for the sigmoid); too small a value forfeits
        the descent.
    tol : float
        A sample stops when its certificate is at most ``tol``.
    max_iter : int
        Largest number of iterations of a sample.
    overwrite_x0 : bool
        Work in ``X0`` itself if it is a C-ordered float64 array.
    n_jobs : int
        Threads among which the samples are shared out, as joblib counts them: all with -1. The
        solution has the same bits for any number.

    Returns
    -------
    Result
        ``x`` of shape (m, n); ``gap`` bounds the largest :func:`certificates.state_residual` of a
        sample, from above where single precision had a part in it, up to rounding and to what is
        below 1e-25; ``n_iter`` the most iterations of a sample. With ``max_iter = 0`` nothing is
        evaluated and ``gap`` is infinite.

    Raises
    ------
    ValueError
        If an argument is not finite, misshapen or of the wrong sign.

    Notes
    -----
    Each iteration replaces the smooth part, ``h*`` included, by the quadratic that touches it at
    ``x`` and has the Hessian ``H = Q - W A - A'W + L A'W A``, and makes two sweeps of exact
    coordinate minimisation (the proximal operator of ``h``) on that bound. As ``h*`` has curvature
    between 0 and ``L``, the objective never rises above that of a given start, convex or not; when
    it is jointly convex (:func:`is_jointly_convex`) the limit is the minimiser, else a stationary
    point. Against one exact gradient per coordinate the bound takes as many sweeps, each needs n
    evaluations of phi instead of n^2, and the time is 0.85 (relu, n = 20) to 0.33 (tanh, n = 50)
    of it. Where phi is piecewise linear, Newton steps on the piece of the current point are tried
    after 1, 2, 4, ... iterations and kept if they end on it, where the objective is the quadratic
    that they minimise: 2.2 iterations instead of 11 and 7 us a sample instead of 25 (n = 20,
    tol = 1e-8). Without a start it begins on 64 samples side by side, with half of ``L`` in the
    model, first in single precision and accelerated: 0.26 us a sample instead of 3.3 (n = 20, relu,
    jointly convex), 1.2 instead of 10 with n = 50; 3.5 instead of 7.5 where row sums of 0.9 are all
    that bounds A. With all of ``L`` it was half as fast.
    Sources: D. R. Hunter and K. Lange, "A tutorial on MM algorithms", Amer. Statist. 58 (2004);
    P. Tseng and S. Yun, "A coordinate gradient descent method for nonsmooth separable
    minimization", Math. Program. 117 (2009).

    Examples
    --------
    With ``Q = 0`` and ``c = 0`` the minimiser is the equilibrium ``x = relu(A x + zeta)``.

    >>> from bcd_implicit.solvers.state_qp import solve_states
    >>> relu = (0.0, 0.0, float("-inf"), float("inf"))
    >>> solve_states([[0.0]], [[0.0], [0.0]], [[1.0], [-1.0]], [1.0], [[0.5]], 0, relu).x.round(6)
    array([[2.],
           [0.]])
    """
    zeta = as_float64("zeta", zeta, (None, None))
    m, n = zeta.shape
    Q = as_float64("Q", Q, (n, n))
    c = as_float64("c", c, (m, n))
    lam = as_float64("lam", lam, (n,))
    if not (lam > 0.0).all():
        raise ValueError(f"lam must be positive; got {lam.min()!r}")
    A = as_float64("A", A, (n, n))
    kind, par = as_activation(kind, par)
    lipschitz = as_scalar("lipschitz", lipschitz, positive=True)
    tol = as_scalar("tol", tol)
    max_iter = as_count("max_iter", max_iter)
    wide = X0 is None and kind == PIECEWISE_LINEAR and max_iter >= StateTiles.LEAST_ITERATIONS
    if X0 is None:
        X = np.empty_like(zeta)
        if not wide:
            phi_rows(kind, par, zeta, X)
    else:
        X = as_float64("X0", X0, (m, n))
        kept = [c, zeta] if overwrite_x0 else [c, zeta, np.asarray(X0)]
        if not X.flags.writeable or any(np.may_share_memory(X, other) for other in kept):
            X = X.copy()
    matrices = StateMatrices.of(Q, A, lam, lipschitz)
    tiles = StateTiles.of(par, lam, A, matrices, lipschitz) if wide else None
    residual = np.empty(m)

    def solve(rows: slice) -> int:
        x, f, z, gap = X[rows], c[rows], zeta[rows], residual[rows]
        begun = 0
        left = np.ones(len(x), dtype=bool)
        if tiles is not None:
            begun = tiles.solve(f, z, tol, x, gap)
            left = ~(gap <= tol)
            if begun == max_iter or not left.any():  # the gaps of the tiles stand
                return begun
        some = slice(None) if left.all() else left
        rest, bound = x[some], gap[some]
        n_iter = state_sweeps(
            kind, par, f[some], z[some], lam, *matrices, tol, max_iter - begun, rest, bound
        )
        if some is left:
            x[left], gap[left] = rest, bound
        return int(begun + n_iter)

    threads = min(effective_n_jobs(n_jobs), -(-m // _LEAST_ROWS))
    if threads == 1:
        n_iter = solve(slice(None))
    else:
        size = _MOST_ROWS if m > threads * _LEAST_ROWS else _LEAST_ROWS
        parts = iter([slice(first, first + size) for first in range(0, m, size)])

        def take_parts() -> int:
            return max(map(solve, parts), default=0)

        pool = ThreadPoolExecutor(threads - 1)
        working = True
        try:
            others = [pool.submit(take_parts) for _ in range(threads - 1)]
            n_iter = max([take_parts(), *(one.result() for one in others)])
            working = False
        finally:
            list(parts)  # after an error, others end with the part that they are at
            pool.shutdown(wait=working)  # to see idle threads end takes 0.06 ms of 1.6
    gap = float(residual.max())  # NaN, which is never optimal, if a sample diverged
    return Result(X, gap, n_iter, "optimal" if gap <= tol else "max_iter")
