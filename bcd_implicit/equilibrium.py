"""The equilibrium ``x = phi(A x + z)`` and its adjoint, each with a proven error bound.

Both are fixed points of a contraction with factor ``r`` in a weighted norm: the maximum norm for
the states, its dual for the adjoint. After a step of length ``d`` the solution is within
``(r d + e) / (1 - r)``, where ``e`` bounds the rounding errors of the step; that number decides
when to stop and is returned. Where rounding makes the tolerance unreachable, the iteration stops
once its steps are rounding errors themselves, and the bound says what was reached.

Piecewise linear maps start with Gauss-Seidel sweeps over tiles of rows (`bcd_implicit._sweeps`);
rows that converge slowly are soon left. What is left goes on as follows; blocks of rows that
converge slowly are accelerated by Anderson's method, or, adjoints, solved directly where so many
iterations would take longer (`bcd_implicit._acceleration`). Before all that, loops of states to
themselves are solved where that can be done (`bcd_implicit._self_loops`).

Rows are independent. Up to `ROW_BY_ROW` states a compiled loop takes one row at a time, with
Newton steps and an exit of its own, and a row has the same bits in whatever block it stands. Above,
and for maps other than piecewise linear ones (NumPy's vectorised tanh beats a compiled loop at
every size), blocks of rows go through BLAS, whose rounding may depend on the size of the block.
Measured for relu with row sums of 0.95 on one core, in microseconds a row to 1e-13 from near by,
loop against BLAS: where the signs in A cancel 0.3 and 1.6 with 5 states, 0.7 and 1.8 with 20, 3.1
and 4.3 with 50; where all entries of A are positive, the slowest case, 0.3 and 1.4, 1.2 and 3.5, 9
and 7. From zero, sweeps and what is left against BLAS alone: 0.2 and 1.9, 0.3 and 2.3, 1.0 and 5.3;
0.6 and 2.2, 1.7 and 6.0, 9 and 12. The loop has become faster since: in the slowest case 8.3 with
50 states where it was 10.8, and the same with 5 and 20.
"""

import numpy as np

from bcd_implicit._acceleration import elimination_cost
from bcd_implicit._activation import Activation
from bcd_implicit._fixed_point import (
    STATUS,
    AdjointBlock,
    FixedPoint,
    StateBlock,
    check_tolerance,
    enough_iterations,
    iterate,
    rounding_units,
    row_blocks,
    start_of,
)
from bcd_implicit._self_loops import adjoint_without_self_loops, without_self_loops
from bcd_implicit._sweeps import SweepForm
from bcd_implicit._typing import FloatArray
from bcd_implicit.solvers._kernels import PIECEWISE_LINEAR, adjoint_rows, picard_rows
from bcd_implicit.wellposed import Contraction

__all__ = ["ROW_BY_ROW", "FixedPoint", "solve_adjoint", "solve_equilibrium"]

ROW_BY_ROW = 64  # states up to which a compiled loop takes one row at a time
_FAST = 0.9  # factor up to which sweeps pay from near by, where Newton steps find the solution
_FIRST_ITERATIONS = 40  # of the methods for fast contractions
# What an adjoint takes from near by: 215 steps with 100 states took 3.1 s of them instead of 5.7,
# 60 with 200 states take 0.75 s instead of 1.2 if iterations come first.
_FEWEST_ITERATIONS = 27.0


def solve_equilibrium(
    activation: Activation,
    A: FloatArray,
    Zin: FloatArray,
    contraction: Contraction,
    tol: float = 1e-10,
    X0: FloatArray | None = None,
    max_iter: int | None = None,
    out: FloatArray | None = None,
    form: SweepForm | None = None,
) -> FixedPoint:
    """Solve ``x = phi(A x + z)`` for every row ``z`` of ``Zin``.

    Parameters
    ----------
    activation : Activation
        Any componentwise map with the Lipschitz constant that ``contraction`` was made for.
    A : ndarray of shape (n, n)
    Zin : ndarray of shape (m, n), same dtype as A, C order
        ``U B' + b``. float32 stays float32, with the accuracy that it allows.
    contraction : Contraction
        From `bcd_implicit.wellposed.contraction`.
    tol : float, default=1e-10
        Asked of each row: ``max_k |x_k - x*_k| <= tol * max(1, max_k |x_k|)``.
    X0 : ndarray of shape (m, n), optional
        Where to start; zero by default.
    max_iter : int, optional
        Default: as many as ``contraction`` can need, at most a million.
    out : ndarray of shape (m, n), optional
        Where to write the states; may be ``X0`` itself.
    form : SweepForm, optional
        For sweeps from zero, made for A; by default, the equation without self-loops.

    Returns
    -------
    FixedPoint
        ``x`` is ``out`` if that was given.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, or ``tol`` is not a number or negative.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> from bcd_implicit.wellposed import contraction
    >>> A = np.array([[0.0, 0.5], [0.5, 0.0]])
    >>> solve_equilibrium(Relu(), A, np.array([[1.0, 1.0]]), contraction(A)).x.round(6)
    array([[2., 2.]])
    """
    check_tolerance(tol)
    X = start_of(A, Zin, contraction, X0, out, "Zin")
    if not X.size:
        return FixedPoint(X, 0.0, 0, STATUS[0])
    if X0 is not None:
        form = None
    loopless = without_self_loops(activation, A, contraction) if form is None else None
    if loopless is not None:
        A, contraction, Zin = loopless.A, loopless.contraction, Zin * loopless.gain
    kernel = activation.kernel
    linear = kernel is not None and kernel[0] == PIECEWISE_LINEAR
    short = linear and len(A) <= ROW_BY_ROW
    sweeps = linear and _sweeps_pay(contraction, short and X0 is not None, max_iter)
    error = np.zeros(len(X))
    left = np.ones(len(X), dtype=bool)
    code = begun = 0
    if X0 is None and not sweeps:
        X[...] = 0.0
    if kernel is not None and sweeps:
        if form is None:
            form = SweepForm.plain(activation, kernel, A, contraction)
        code, begun = form.solve(
            activation,
            Zin,
            X,
            float(tol),
            _FIRST_ITERATIONS,
            error,
            left,
            from_zero=X0 is None,
        )
    if not left.any():
        return FixedPoint(X, float(error.max(initial=0.0)), begun, STATUS[code])

    s = contraction.scale
    weight = s.max() / s
    if max_iter is None:
        max_iter = begun + enough_iterations(contraction)
    everything = bool(left.all())
    states, rest = (X, Zin) if everything else (X[left], Zin[left])
    bound = np.zeros(len(states))
    n_iter = 0
    if kernel is not None and short:
        one_code, n_iter = picard_rows(
            kernel[1],
            np.array(A.T, order="C"),
            rest,
            states,
            weight,
            contraction.factor,
            float(activation.lipschitz),
            *rounding_units(A, contraction.factor),
            float(tol),
            int(max_iter) - begun,
            bound,
        )
        code = max(code, one_code)
    else:
        AT = np.ascontiguousarray(A.T)
        for rows in row_blocks(states):
            solve = StateBlock(activation, AT, rest[rows], contraction, weight, float(tol))
            one_code, one_n_iter = iterate(solve, states[rows], bound[rows], max_iter - begun)
            code, n_iter = max(code, one_code), max(n_iter, one_n_iter)
    if not everything:
        X[left] = states
    error[left] = bound
    return FixedPoint(X, float(error.max()), begun + int(n_iter), STATUS[code])


def _sweeps_pay(contraction: Contraction, newton: bool, max_iter: int | None) -> bool:
    """Whether to begin with sweeps; ``newton``: Newton steps from near by are the alternative."""
    if max_iter is not None and max_iter <= _FIRST_ITERATIONS:
        return False
    return not newton or contraction.factor <= _FAST


def solve_adjoint(
    A: FloatArray,
    M: FloatArray,
    R: FloatArray,
    contraction: Contraction,
    tol: float = 1e-8,
    V0: FloatArray | None = None,
    max_iter: int | None = None,
    out: FloatArray | None = None,
) -> FixedPoint:
    """Solve ``v = M o (A' v + r)`` for every row; with all rows, ``V = M o (V A + R)``.

    With ``M = phi'(Z)`` and ``R = G C``, where ``G`` holds the gradient of a loss in the
    prediction, ``V`` is its gradient in ``Zin`` through the equilibrium.

    Parameters
    ----------
    A : ndarray of shape (n, n)
    M : ndarray of shape (m, n)
        Entries between 0 and the Lipschitz constant that ``contraction`` was made for.
    R : ndarray of shape (m, n), same dtype as A, C order
    contraction : Contraction
    tol : float, default=1e-8
        Asked of each row: ``max_k |v_k - v*_k| <= tol * max_k |r_k|``.
    V0, max_iter, out
        As ``X0``, ``max_iter`` and ``out`` of `solve_equilibrium`.

    Returns
    -------
    FixedPoint

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, or ``tol`` is not a number or negative.

    Examples
    --------
    >>> from bcd_implicit.wellposed import contraction
    >>> A = np.array([[0.0, 0.5], [0.0, 0.0]])
    >>> solve_adjoint(A, np.ones((1, 2)), np.ones((1, 2)), contraction(A)).x
    array([[1. , 1.5]])
    """
    check_tolerance(tol)
    V = start_of(A, R, contraction, V0, out, "R")
    if M.shape != R.shape or M.dtype != R.dtype:
        raise ValueError(
            f"M must have shape {R.shape} and dtype {R.dtype}; got {M.shape} and {M.dtype}"
        )
    if V0 is None:
        V[...] = 0.0
    if not V.size:
        return FixedPoint(V, 0.0, 0, STATUS[0])
    s = contraction.scale
    weight = s / s.min()
    if max_iter is None:
        max_iter = enough_iterations(contraction)
    error = np.zeros(len(V))
    if len(A) <= ROW_BY_ROW or elimination_cost(M) <= _FEWEST_ITERATIONS:
        code, n_iter = adjoint_rows(
            np.array(A, order="C"),
            M,
            R,
            V,
            weight,
            contraction.factor,
            *rounding_units(A, contraction.factor),
            float(tol),
            int(max_iter),
            error,
        )
        return FixedPoint(V, float(error.max(initial=0.0)), int(n_iter), STATUS[code])

    slip = 0.0
    loopless = adjoint_without_self_loops(A, M, contraction)
    if loopless is not None:
        A, M, contraction, slip = loopless
        weight = contraction.scale / contraction.scale.min()
    code = n_iter = 0
    for rows in row_blocks(V):
        solve = AdjointBlock(A, M[rows], R[rows], contraction, weight, float(tol), slip)
        one_code, one_n_iter = iterate(solve, V[rows], error[rows], max_iter)
        code, n_iter = max(code, one_code), max(n_iter, one_n_iter)
    return FixedPoint(V, float(error.max(initial=0.0)), n_iter, STATUS[code])
