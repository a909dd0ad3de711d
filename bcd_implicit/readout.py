"""The (C, d) block: given the states, the convex fit of the outputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.solvers.ridge import ridge
from bcd_implicit.statistics import TrainingData

__all__ = ["Readout", "StateSums", "feedthrough", "fit_readout", "state_sums"]

Array = NDArray[np.float64]

_MOST_ITERATIONS = 50
_FLOOR = 1e-3  # of the mean curvature of the outputs, where their metric is singular


class StateSums(NamedTuple):
    """Weighted sums over the samples, with ``v = (x, 1)`` and ``r = y - D u``.

    Those with r are used by the squared loss only.
    """

    VV: Array
    """``sum w v v'``, shape (n + 1, n + 1)."""
    RV: Array
    """``sum w r v'``, shape (q, n + 1)."""
    RR: float
    """``sum w r' r``."""


class Readout(NamedTuple):
    """C and d, and the loss with them, without the penalty."""

    C: Array
    d: Array
    loss: float


def state_sums(block: Block, X: Array, offset: Array | float) -> StateSums:
    """Return the sums of one block for given states and ``offset = D u``."""
    Y, w = block.targets()
    V = np.column_stack([X, np.ones(len(X))])
    wV = V * w[:, None]
    R = Y - offset
    return StateSums(wV.T @ V, R.T @ wV, float(w @ np.einsum("ij,ij->i", R, R)))


def fit_readout(
    data: TrainingData,
    problem: TrainingProblem,
    parameters: Parameters,
    sums: StateSums,
    states: Callable[[Any], tuple[Array, Array | float]],
    tol: float = 1e-12,
) -> Readout:
    """Minimise the loss plus ``l2 / 2 ||C||^2`` over C and d, at given states and offsets.

    ``states`` returns those of a block.

    The squared loss is a ridge regression in the sums. The others are minimised by L-BFGS from
    the current C until an iteration lowers the value by less than ``tol`` of itself, in coordinates
    in which the Gram matrix of the states and the mean Hessian of the loss at a sample of the rows
    are the identity; each evaluation is one pass. The value never rises.
    """
    n = problem.n_states
    places = np.flatnonzero(problem.read)
    keep = np.append(places, n) if problem.intercept else places
    gram, cross = sums.VV[np.ix_(keep, keep)], sums.RV[:, keep]
    penalised = keep < n
    if problem.loss.quadratic:
        solution = ridge(gram, cross, problem.l2, unpenalized=~penalised).x
        loss = 0.5 * (sums.RR + float(np.vdot(solution, solution @ gram - 2.0 * cross)))
        return Readout(*_split(solution, places, n), max(loss, 0.0))

    start = np.column_stack([parameters.C, parameters.d])[:, keep]
    # the multinomial loss does not feel a shift of all classes, which L-BFGS would shrink slowly
    bound = problem.loss.curvature(len(start))
    first = np.linalg.pinv(bound, hermitian=True) @ bound @ start

    def predict(block: Block, coefficients: Array) -> tuple[Array, Array]:
        X, offset = states(block)
        C, d = _split(coefficients, places, n)
        return X, X @ C.T + d + offset

    def hessian(block: Block) -> tuple[Array]:
        Y, w = block.targets()
        rows = block.sampled()
        local = problem.loss.hessian(Y[rows], predict(block, first)[1][rows])
        return (np.einsum("i,ijk->jk", w[rows], local),)

    (mean,) = data.sum(hessian)
    # Kronecker factors of (mean (x) gram + l2), each with its part of the penalty
    least = _FLOOR * float(np.trace(bound)) / len(bound)
    slope = max(float(np.trace(mean)) / len(mean), least)
    size = float(np.trace(gram)) / len(gram)
    floor = max(_FLOOR * slope, problem.l2 / max(size, 1e-300))
    left = np.linalg.cholesky(mean + min(floor, 1.0) * np.eye(len(mean)))
    right = np.linalg.cholesky(_regular(gram + problem.l2 / slope * np.diag(penalised * 1.0)))

    def objective(coefficients: Array) -> tuple[float, Array]:
        def loss(block: Block) -> tuple[float, Array]:
            Y, w = block.targets()
            X, F = predict(block, coefficients)
            G = problem.loss.gradient(Y, F) * w[:, None]
            V = np.column_stack([X, np.ones(len(X))])[:, keep]
            return problem.loss.value(Y, F, w), G.T @ V

        value, gradient = data.sum(loss)
        C, _ = _split(coefficients, places, n)
        value += 0.5 * problem.l2 * float(np.vdot(C, C))
        return value, gradient + problem.l2 * coefficients * penalised

    def unwhiten(flat: Array) -> Array:
        return _solve(left.T, _solve(right.T, flat.reshape(start.shape).T).T)

    def whitened_objective(flat: Array) -> tuple[float, Array]:
        value, gradient = objective(unwhiten(flat))
        return value, _solve(left, _solve(right, gradient.T).T).ravel()

    found: Any = minimize(
        whitened_objective,
        (left.T @ first @ right).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_ITERATIONS, "ftol": tol, "gtol": 1e-8},
    )
    value, best = objective(start)[0], start
    if found.fun < value:
        value, best = float(found.fun), unwhiten(found.x)
    C, d = _split(best, places, n)
    return Readout(C, d, value - 0.5 * problem.l2 * float(np.vdot(C, C)))


def feedthrough(block: Block, parameters: Parameters) -> Array | float:
    """Return ``D u`` for the rows of a block, or 0 when D is zero."""
    used = np.flatnonzero((parameters.D != 0.0).any(axis=0))
    if not used.size:
        return 0.0
    product: Array = block.inputs(used) @ parameters.D[:, used].T
    return product


def _solve(triangle: NDArray[Any], right: Array) -> Array:
    solution: Array = np.linalg.solve(triangle, right)
    return solution


def _split(coefficients: Array, places: IntArray, n: int) -> tuple[Array, Array]:
    """Return C, nonzero on ``places`` only, and d; no last column means no intercept."""
    C = np.zeros((len(coefficients), n))
    C[:, places] = coefficients[:, : len(places)]
    if coefficients.shape[1] == len(places):
        return C, np.zeros(len(C))
    return C, coefficients[:, -1].copy()


def _regular(gram: Array) -> Array:
    """Lift a Gram matrix off singularity by rounding errors' worth."""
    size = float(np.trace(gram)) / len(gram)
    return gram + (1e-10 * size + 1e-300) * np.eye(len(gram))
