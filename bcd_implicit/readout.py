"""The (C, d) block: given the states, the convex fit of the outputs."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.solvers.ridge import ridge
from bcd_implicit.statistics import Block, RowBlocks

__all__ = ["StateSums", "fit_readout", "state_sums"]

Array = NDArray[np.float64]


class StateSums(NamedTuple):
    """Weighted sums over the samples, with ``v = (x, 1)`` and ``r = y - D u``."""

    VV: Array
    """``sum w v v'``, shape (n + 1, n + 1)."""
    RV: Array
    """``sum w r v'``, shape (q, n + 1); used by the squared loss only."""


def state_sums(data: RowBlocks, block: Block, X: Array, offset: Array | float) -> StateSums:
    """Return the sums of one block for given states and ``offset = D u``."""
    Y, w = data.targets(block)
    V = np.column_stack([X, np.ones(len(X))])
    wV = V * w[:, None]
    return StateSums(wV.T @ V, (Y - offset).T @ wV)


def fit_readout(
    data: RowBlocks,
    problem: TrainingProblem,
    parameters: Parameters,
    sums: StateSums,
    *,
    trial: bool,
) -> tuple[Array, Array]:
    """Minimise the loss plus ``l2 / 2 ||C||^2`` over C and d, at the states of the blocks.

    The squared loss is a ridge regression in the sums. The others are minimised by L-BFGS from
    the current C, in coordinates in which the Gram matrix of the states is the identity; each
    evaluation is one pass. The value never rises.
    """
    n = problem.n_states
    keep = np.arange(n + 1 if problem.intercept else n)
    gram, cross = sums.VV[np.ix_(keep, keep)], sums.RV[:, keep]
    penalised = keep < n
    if problem.loss.quadratic:
        solution = ridge(gram, cross, problem.l2, unpenalized=~penalised).x
        return _split(solution, n)

    factor = np.linalg.cholesky(_regular(gram + problem.l2 * np.diag(penalised.astype(float))))
    start = np.column_stack([parameters.C, parameters.d])[:, keep]
    offsets = data.map(lambda block: (block.rows.start, feedthrough(data, block, parameters)))
    offset = dict(offsets)  # the inputs need not be read again at every evaluation

    def objective(flat: Array) -> tuple[float, Array]:
        whitened = flat.reshape(start.shape)
        coefficients = np.linalg.solve(factor.T, whitened.T).T
        C, d = _split(coefficients, n)

        def loss(block: Block) -> tuple[float, Array]:
            Y, w = data.targets(block)
            X = block.trial if trial else block.X
            F = X @ C.T + d + offset[block.rows.start]
            G = problem.loss.gradient(Y, F) * w[:, None]
            V = np.column_stack([X, np.ones(len(X))])[:, keep]
            return problem.loss.value(Y, F, w), G.T @ V

        value, gradient = data.sum(loss)
        value += 0.5 * problem.l2 * float(np.vdot(C, C))
        gradient = gradient + problem.l2 * coefficients * penalised
        return value, np.linalg.solve(factor, gradient.T).T.ravel()

    whitened = (start @ factor).ravel()
    before, _ = objective(whitened)
    # the multinomial loss does not feel a shift of all classes, which L-BFGS would shrink slowly
    bound = problem.loss.curvature(len(start))
    whitened = (np.linalg.pinv(bound, hermitian=True) @ bound @ start @ factor).ravel()
    options: Any = {"maxiter": 50, "ftol": 1e-12, "gtol": 1e-8}
    found = minimize(objective, whitened, jac=True, method="L-BFGS-B", options=options)
    if not found.fun < before:
        return _split(start, n)
    return _split(np.linalg.solve(factor.T, found.x.reshape(start.shape).T).T, n)


def feedthrough(data: RowBlocks, block: Block, parameters: Parameters) -> Array | float:
    """Return ``D u`` for the rows of a block, or 0 when D is zero."""
    used = np.flatnonzero((parameters.D != 0.0).any(axis=0))
    if not used.size:
        return 0.0
    product: Array = data.inputs(block, used) @ parameters.D[:, used].T
    return product


def _split(coefficients: Array, n: int) -> tuple[Array, Array]:
    """Cut ``[C, d]`` in two; no last column means no intercept."""
    C = np.ascontiguousarray(coefficients[:, :n])
    if coefficients.shape[1] == n:
        return C, np.zeros(len(C))
    return C, coefficients[:, n].copy()


def _regular(gram: Array) -> Array:
    """Lift a Gram matrix off singularity by rounding errors' worth."""
    size = float(np.trace(gram)) / len(gram)
    return gram + (1e-10 * size + 1e-300) * np.eye(len(gram))
