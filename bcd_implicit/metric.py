"""The Gauss-Newton metric of the exact phase, averaged over a few hundred samples.

To first order the prediction of a sample moves by ``J E v`` when the stacked unknown moves by E,
with ``v = (x, u, 1)``, ``J = [C T, I]`` and ``T = (I - M A)^-1 M``, ``M = diag(phi'(z))``. Taking
J and v for independent, the curvature of the loss is ``H (x) W`` with ``H = mean J' L J``, ``L``
the Hessian of the loss, and ``W = mean v v'``. But C and d are refitted after every step: what a
step changes linearly in (x, 1) costs nothing in the mean. Eliminating them splits the metric in

    ``(H - H2) (x) W + H2 (x) W2``,  ``H2 = N' mean(L)^+ N``,  ``N = mean L J``,

where W2 is W after projecting out the columns of (x, 1): ``W - K K'``, with as many columns in K as
(x, 1) has. Sweeps work with K, which takes them two thirds of the time. Against ``H (x) W`` alone,
this metric brings the experiment with 20 states to 0.017 instead of 0.029 in ten steps.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray, FloatArray
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.solvers._kernels import output_sensitivities, sensitivities

__all__ = [
    "MetricSums",
    "column_metrics",
    "jacobians",
    "metric_sums",
    "row_metrics",
    "uncoupled",
]

Array = NDArray[np.float64]

_DAMPING = 1e-3  # of the mean eigenvalue: 1e-2 and 1e-4 are slower or as fast
# Where outputs do not read all states. A layer that is linear in the data has no curvature left
# once C is refitted, and intercepts of 50 and more follow from the rounding of C. The curvature of
# the layers differs in size, so that each state is damped in its own: digits with 40, 30 and 20
# states, three splits, 30 steps end at 0.034 to 0.042 with 0.03 to 0.3 of the mean, and at 0.033 to
# 0.036 with as much of each; 98.9 % instead of 98.1 % of other digits are then recognised.
_LAYERED_DAMPING = 0.1
# Of the coupling of states, and of the curvature of all, in `uncoupled`. Images take a fifth fewer
# steps with 0.35 and 1.8, and more with 0.7. 0.16 and 2.5 cost squared loss on images and
# classifiers of 300 to 500 normal inputs 11 % to 50 % of the objective after as many steps, these
# nothing.
_COUPLING, _STEEPER = 0.5, 1.5
_LEAST_CURVATURE = 0.01  # of the mean: in states that hardly matter
_FADED = 1e-7  # of the largest eigenvalue: directions below would amplify rounding errors
_MOST_ENTRIES = 2**21  # of the sensitivities of the samples that are held at a time, 16 MB


class MetricSums(NamedTuple):
    """Sums over the sampled rows; ``r = n + q``."""

    H: Array
    """``sum w J' L J``, shape (r, r)."""
    N: Array
    """``sum w L J``, shape (q, r)."""
    L: Array
    """``sum w L``, shape (q, q)."""
    weight: float


def metric_sums(
    problem: TrainingProblem, parameters: Parameters, M: Array, Y: Array, F: Array, w: Array
) -> MetricSums:
    """Return the sums over given samples with activation derivatives M and predictions F."""
    s, n = M.shape
    q = Y.shape[1]
    H, N, L = np.zeros((n + q, n + q)), np.zeros((q, n + q)), np.zeros((q, q))
    size = max(_MOST_ENTRIES // (q * max(n, q)), 1)
    for start in range(0, s, size):
        part = slice(start, start + size)
        _add_metric(problem, parameters, M[part], Y[part], F[part], w[part], H, N, L)
    N[:, n:] = L
    H[n:] = N
    H[:, n:] = N.T
    return MetricSums(H, N, L, float(w.sum()))


def _add_metric(
    problem: TrainingProblem,
    parameters: Parameters,
    M: Array,
    Y: Array,
    F: Array,
    w: Array,
    H: Array,
    N: Array,
    L: Array,
) -> None:
    """Add the contributions of some samples to L and to the state blocks of H and N."""
    n, C = M.shape[1], parameters.C

    def mean(each: FloatArray) -> Array:
        total: Array = w @ each.reshape(len(w), -1)
        return total.reshape(each.shape[1:])

    # of a quadratic loss the identity: nothing of size samples x q x q
    hessian = None if problem.loss.quadratic else problem.loss.hessian(Y, F)
    L += problem.loss.total_hessian(Y, F, w) if hessian is None else mean(hessian)
    if len(C) < n:
        left = jacobians(parameters, M)
        right = left if hessian is None else np.matmul(hessian, left)
        N[:, :n] += mean(right)
    else:  # J is larger than T
        left = _state_sensitivities(parameters.A, M)
        if hessian is None:
            N[:, :n] += C @ mean(left)
            right = np.matmul(C.T @ C, left)
        else:
            LC = np.matmul(hessian, C)
            N[:, :n] += mean(np.matmul(LC, left))
            right = np.matmul(np.matmul(C.T, LC), left)
    right = np.multiply(right, w[:, None, None], out=None if right is left else right)
    H[:n, :n] += left.reshape(-1, n).T @ right.reshape(-1, n)  # one product instead of many


def _state_sensitivities(A: Array, M: Array) -> Array:
    """Return ``(I - diag(m) A)^-1 diag(m)`` for every row m of M, shape (rows, n, n)."""
    T = np.zeros((*M.shape, M.shape[1]))
    sensitivities(A, M, T)
    return T


def jacobians(parameters: Parameters, M: Array) -> Array:
    """Return ``C (I - diag(m) A)^-1 diag(m)`` for every row m of M, shape (rows, q, n)."""
    A, C = parameters.A, parameters.C
    if len(C) >= len(A):
        J: Array = np.matmul(C, _state_sensitivities(A, M))
        return J
    J = np.zeros((len(M), *C.shape))
    output_sensitivities(np.array(A.T, order="C"), M, np.ascontiguousarray(C), J)
    return J


def row_metrics(problem: TrainingProblem, sums: MetricSums) -> tuple[Array, Array]:
    """Return ``H - H2``, damped, and ``H2``; without feedthrough only their state blocks."""
    n = problem.n_states
    keep = len(sums.H) if problem.feedthrough else n
    H = sums.H[:keep, :keep] / sums.weight
    N = sums.N[:, :keep] / sums.weight
    L = sums.L / sums.weight
    if problem.loss.quadratic:  # L is the identity
        H2 = N.T @ N
    else:
        # the trace guards classes that the sample does not hold
        floor = 1e-10 * float(np.trace(L)) + 1e-300
        H2 = N.T @ np.linalg.solve(L + floor * np.eye(len(L)), N)
    H1 = H - H2
    layered = not problem.read.all()
    share = _LAYERED_DAMPING if layered else _DAMPING
    damping = np.full(len(H), share * max(float(np.trace(L)) / len(L), 1e-12))
    mean = max(float(np.trace(H[:n, :n])) / n, 1e-12)
    damping[:n] = share * mean
    if layered:
        damping[:n] = share * np.maximum(np.diag(H)[:n], _LEAST_CURVATURE * mean)
    H1[np.diag_indices_from(H1)] += damping
    return _symmetric(H1), _symmetric(H2)


def uncoupled(H: Array, n: int) -> Array:
    """Return a row metric in which n states are less coupled, and all are steeper.

    In the mean over the samples states undo each other's changes that do not in any one sample, for
    other samples excite them; and the steps that a model proposes are those that cost it least. On
    Fashion-MNIST with 50 states the samples, taken by themselves, have 7 to 12 times the curvature
    of `row_metrics` along a step. So corrected, 12 to 14 trials do what 17 did. Positive
    semidefinite if H is.
    """
    states = np.arange(n)
    scale = np.ones(len(H))
    scale[:n] = (_COUPLING * _STEEPER) ** 0.5
    looser: Array = H * np.outer(scale, scale)
    looser[states, states] = _STEEPER * H[states, states]
    return looser


def column_metrics(
    XX: Array,
    XU: Array,
    UU: Array,
    *,
    intercept: bool = True,
    read: BoolArray | None = None,
) -> tuple[Array, Array]:
    """Return W over the columns (x, u, 1), and K: ``W - K K'`` is outside the span of (x, 1).

    Parameters
    ----------
    XX : ndarray of shape (n + 1, n + 1)
        Gram matrix of (x, 1).
    XU : ndarray of shape (n + 1, k)
        Products of (x, 1) with the inputs of the working set.
    UU : ndarray of shape (k, k)
        Gram matrix of these inputs.
    intercept : bool
        Whether the columns end with 1. Otherwise d is not refitted: the span is that of x.
    read : ndarray of bool, shape (n,), optional
        States that outputs read; the span is that of these. All by default.

    Examples
    --------
    Of two inputs with Gram matrix I, the first is the state:

    >>> XX, XU = np.eye(2), np.array([[1.0, 0.0], [0.0, 0.0]])
    >>> W, K = column_metrics(XX, XU, np.eye(2))
    >>> np.diag(W - K @ K.T).round(6) + 0.0
    array([0., 0., 1., 0.])
    """
    if not intercept:
        XX, XU = XX[:-1, :-1], XU[:-1]
    n, k = len(XX) - int(intercept), len(UU)
    W = np.block(
        [
            [XX[:n, :n], XU[:n], XX[:n, n:]],
            [XU[:n].T, UU, XU[n:].T],
            [XX[n:, :n], XU[n:], XX[n:, n:]],
        ]
    )
    fitted = np.full(len(W), intercept)  # is the column one that the outputs are refitted in?
    fitted[:n] = True if read is None else read
    fitted[n : n + k] = False
    span = np.flatnonzero(fitted)
    return W, _explained(W[np.ix_(span, span)], W[span])


def _symmetric(H: Array) -> Array:
    """Remove the asymmetry of rounding; C order."""
    return np.ascontiguousarray(0.5 * (H + H.T))


def _explained(gram: Array, cross: Array) -> Array:
    """Return K with ``K K' = cross' gram^+ cross``, in which small eigenvalues fade out smoothly.

    Cut off at a threshold, they would make fits that differ by rounding errors differ by much more.
    """
    values, vectors = np.linalg.eigh(gram)
    faded = _FADED * max(float(values[-1]), 1e-150)
    weights = np.maximum(values, 0.0) / (values * values + faded * faded)
    return np.ascontiguousarray((cross.T @ vectors) * np.sqrt(weights))
