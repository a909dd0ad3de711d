"""The (C, d) block: given the states, the convex fit of the outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bcd_implicit._newton import newton
from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block
from bcd_implicit.losses import Loss
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.solvers.ridge import ridge
from bcd_implicit.training_data import TrainingData

__all__ = [
    "Readout",
    "StateSums",
    "feedthrough",
    "fit_readout",
    "state_sums",
]

Array = NDArray[np.float64]

# A squared loss that is less than this part of the terms that it is the difference of is taken from
# the residuals: inputs of mean 1e8 and no unit made the objective wrong by a tenth.
_CANCELLED = 1e-9
_NEWTON = 128  # coefficients, up to which a Hessian costs no more than the states
_UNSHIFTED = 1e-14  # of the largest coefficient: to remove a smaller shift only rounds again
_MOST_ITERATIONS = 50  # of L-BFGS
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

    The squared loss is a ridge regression in the sums. The others are minimised from the current C
    until an iteration lowers the value by less than ``tol`` of itself: by Newton's method or, with
    many coefficients, by L-BFGS in coordinates in which the Gram matrix of the states and the mean
    Hessian of the loss at a sample of the rows are the identity. Each evaluation is one pass. The
    value never rises.
    """
    n = problem.n_states
    places = np.flatnonzero(problem.read)
    keep = np.append(places, n) if problem.intercept else places
    gram, cross = sums.VV[np.ix_(keep, keep)], sums.RV[:, keep]
    penalised = keep < n
    if problem.loss.quadratic:
        solution = ridge(gram, cross, problem.l2, unpenalized=~penalised).x
        loss = 0.5 * (sums.RR + float(np.vdot(solution, solution @ gram - 2.0 * cross)))
        size = sums.RR + float(np.vdot(np.abs(solution), np.abs(solution) @ np.abs(gram)))
        if loss < _CANCELLED * size:
            loss = _Outputs(problem.loss, states, places, keep, n, 0.0).objective(data, solution)[0]
        return Readout(*_split(solution, places, n), loss)

    start = np.column_stack([parameters.C, parameters.d])[:, keep]
    # the multinomial loss does not feel a shift of all classes, which a descent would shrink slowly
    bound = problem.loss.curvature(len(start))
    unshifted: Array = np.linalg.pinv(bound, hermitian=True) @ bound
    first: Array = unshifted @ start
    if np.abs(first - start).max() <= _UNSHIFTED * np.abs(start).max():
        first = start
    outputs = _Outputs(problem.loss, states, places, keep, n, problem.l2)
    if first.size <= _NEWTON:
        value, best = _newton(data, outputs, first, tol)
    else:
        value, best = _quasi_newton(data, outputs, first, gram, bound, tol)
    C, d = _split(start if best is start else unshifted @ best, places, n)
    return Readout(C, d, value - 0.5 * problem.l2 * float(np.vdot(C, C)))


@dataclass(frozen=True)
class _Outputs:
    """The penalised loss as a function of the coefficients that are fitted, (q, len(keep))."""

    loss: Loss
    states: Callable[[Any], tuple[Array, Array | float]]
    places: IntArray
    keep: IntArray
    n: int
    l2: float

    def predict(self, block: Block, coefficients: Array) -> tuple[Array, Array]:
        """Return the columns (x, 1) that are used, and the predictions."""
        X, offset = self.states(block)
        V = np.column_stack([X, np.ones(len(X))])
        if len(self.keep) < V.shape[1]:  # taking all of them would cost more than the product
            V = V[:, self.keep]
        return V, V @ coefficients.T + offset

    def objective(self, data: TrainingData, coefficients: Array) -> tuple[float, Array]:
        """Return value and gradient: one pass."""

        def objective(block: Block) -> tuple[float, Array]:
            Y, w = block.targets()
            V, F = self.predict(block, coefficients)
            value, G = self.loss.value_and_gradient(Y, F, w)
            return value, G.T @ V

        value, gradient = data.sum(objective)
        penalised = coefficients * (self.keep < self.n)
        value += 0.5 * self.l2 * float(np.vdot(penalised, penalised))
        return value, gradient + self.l2 * penalised

    def expansion(self, data: TrainingData, coefficients: Array) -> tuple[float, Array, Array]:
        """Return value, gradient and Hessian: one pass."""
        q, k = coefficients.shape

        def objective(block: Block) -> tuple[float, Array, Array]:
            Y, w = block.targets()
            V, F = self.predict(block, coefficients)
            value, G = self.loss.value_and_gradient(Y, F, w)
            return value, G.T @ V, self.loss.coefficient_hessian(Y, F, w, V)

        value, gradient, H = data.sum(objective)
        penalised = coefficients * (self.keep < self.n)
        value += 0.5 * self.l2 * float(np.vdot(penalised, penalised))
        hessian = H.reshape(q * k, q * k)
        hessian[np.diag_indices(q * k)] += self.l2 * np.tile(self.keep < self.n, q)
        return value, gradient + self.l2 * penalised, hessian

    def mean_hessian(self, data: TrainingData, coefficients: Array) -> Array:
        """Return the mean Hessian in the prediction, of a sample of the rows."""

        def objective(block: Block) -> tuple[Array]:
            Y, w = block.targets()
            rows = block.sampled()
            F = self.predict(block, coefficients)[1]
            return (self.loss.total_hessian(Y[rows], F[rows], w[rows]),)

        (mean,) = data.sum(objective)
        return mean


def _newton(data: TrainingData, outputs: _Outputs, start: Array, tol: float) -> tuple[float, Array]:
    """Minimise by Newton's method.

    What L-BFGS leaves undone depends so much on rounding errors that equal fits would differ.
    """

    def objective(flat: Array) -> tuple[float, Array]:
        value, gradient = outputs.objective(data, flat.reshape(start.shape))
        return value, gradient.ravel()

    def expansion(flat: Array) -> tuple[float, Array, Array]:
        value, gradient, hessian = outputs.expansion(data, flat.reshape(start.shape))
        return value, gradient.ravel(), hessian

    first = start.ravel()
    value, best = newton(objective, expansion, first, tol)
    return value, start if best is first else best.reshape(start.shape)


def _quasi_newton(
    data: TrainingData, outputs: _Outputs, start: Array, gram: Array, bound: Array, tol: float
) -> tuple[float, Array]:
    """Minimise by L-BFGS in coordinates in which the curvature is about the identity."""
    mean = outputs.mean_hessian(data, start)
    penalised = outputs.keep < outputs.n
    # Kronecker factors of (mean (x) gram + l2), each with its part of the penalty
    least = _FLOOR * float(np.trace(bound)) / len(bound)
    slope = max(float(np.trace(mean)) / len(mean), least)
    size = float(np.trace(gram)) / len(gram)
    floor = max(_FLOOR * slope, outputs.l2 / max(size, 1e-300))
    left = np.linalg.cholesky(mean + min(floor, 1.0) * np.eye(len(mean)))
    right = np.linalg.cholesky(_regular(gram + outputs.l2 / slope * np.diag(penalised * 1.0)))

    # any coordinates do, so that inverses need not be exact; solving takes ten times as long
    L, R = np.linalg.inv(left), np.linalg.inv(right)

    def unwhiten(flat: Array) -> Array:
        coefficients: Array = L.T @ flat.reshape(start.shape) @ R
        return coefficients

    def whitened_objective(flat: Array) -> tuple[float, Array]:
        value, gradient = outputs.objective(data, unwhiten(flat))
        return value, (L @ gradient @ R.T).ravel()

    found: Any = minimize(
        whitened_objective,
        (left.T @ start @ right).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MOST_ITERATIONS, "ftol": tol, "gtol": 1e-8},
    )
    before, _ = outputs.objective(data, start)
    if found.fun < before:
        return float(found.fun), unwhiten(found.x)
    return before, start


def feedthrough(block: Block, parameters: Parameters) -> Array | float:
    """Return ``D u`` for the rows of a block, or 0 when D is zero."""
    return block.product(parameters.D) if parameters.D.any() else 0.0


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
