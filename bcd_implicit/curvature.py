"""The Gauss-Newton curvature of the exact phase, sample by sample.

The metric of `bcd_implicit.metric` averages how a prediction answers to the states and how samples
excite them each by itself, as if the two were independent. Here they are taken together, for a few
thousand rows. To first order the prediction of a sample moves by ``J E v``, with ``J = [C T, I]``
and ``v = (x, u, 1)``; with the best change of C and d, the curvature along E is the least of

    ``sum_i w_i |J_i E v_i + dC x_i + dd|^2 + l2 |dC|^2``,  in the norm of the Hessian of the loss.
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._loss import coefficient_hessian
from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import StateBlock
from bcd_implicit.forward import StateSolver, predictions
from bcd_implicit.metric import jacobians
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.rows import are_few
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData

__all__ = ["Curvature", "curvature_sample"]

Array = NDArray[np.float64]

_ROWS = 2048  # or up to twice as many, as they are spread evenly
_FEWEST_ROWS = 256  # fewer tell less than the averages do
_MOST_WORK = 2**31  # rows times cubes of states: what the sensitivities take
_MOST_ENTRIES = 2**22  # of the sensitivities, 32 MB
_AT_A_TIME = 256  # rows whose n x n sensitivities are held
_MOST_REFITTED = 1024  # coefficients of the outputs whose joint Hessian is inverted
# Unknowns to an equation (an output of a row), and of all: 20,000 and 40,000 rows, one output and
# 20 to 30 states are trained in a quarter to half of the time with 100 inputs, in four fifths with
# 180, and in three times as much with 300; Fashion-MNIST with 50 states, five times as slowly.
_MOST_SHARE = 2
_MOST_UNKNOWNS = 8192
_FLOOR = 1e-8  # of the mean eigenvalue of that Hessian, which shifts of all classes leave singular


def curvature_sample(data: TrainingData, problem: TrainingProblem) -> RowBlocks | None:
    """Return rows to take the curvature from, or None if there are few, or it costs too much."""
    n, q = problem.n_states, data.n_outputs
    most = min(_ROWS, _MOST_WORK // n**3, _MOST_ENTRIES // (n * q))
    if min(most, data.n_samples) < _FEWEST_ROWS or not are_few(2 * most, data.n_inputs):
        return None
    return data.sampled_rows(most).in_memory()


class Curvature:
    """The curvature at given parameters, at a sample of the rows.

    Nothing is computed before a product is asked for.

    Parameters
    ----------
    sample : RowBlocks
    problem : TrainingProblem
    parameters : Parameters
    """

    def __init__(self, sample: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> None:
        self._sample, self._problem, self._parameters = sample, problem, parameters

    def suffices(self, n_inputs: int) -> bool:
        """Whether the sample tells enough of so many inputs, and soon enough."""
        n, q = self._problem.n_states, self._sample.n_outputs
        unknowns = n * (n + n_inputs + 1) + q * n_inputs
        most = min(_MOST_SHARE * q * self._sample.n_samples, _MOST_UNKNOWNS)
        return bool(unknowns <= most)

    def product(self, columns: IntArray) -> Callable[[Array], Array]:
        """Return the product with changes of ``[[A, B, b], [0, D, 0]]`` in some of the inputs.

        Without D there are no rows for the outputs, and without an intercept no last column.
        """
        rows, refit = self._rows, self._refit
        n, k = self._problem.n_states, len(columns)
        U = np.concatenate([block.inputs(columns) for block in self._sample.blocks])
        V = [rows.X, U, np.ones((len(U), int(self._problem.intercept)))]
        Z = np.concatenate(V, axis=1)
        inputs = slice(n, n + k)

        def product(E: Array) -> Array:
            F = np.einsum("iqn,in->iq", rows.J, Z @ E[:n].T)
            if len(E) > n:
                F += U @ E[n:, inputs].T
            G = refit.gradient(F)
            image = np.zeros_like(E)
            image[:n] = np.einsum("iqn,iq->in", rows.J, G).T @ Z
            if len(E) > n:
                image[n:, inputs] = G.T @ U
            return image

        return product

    @cached_property
    def _rows(self) -> "_Rows":
        problem, parameters = self._problem, self._parameters

        def rows(block: StateBlock) -> _Rows:
            Y, w = block.targets()
            solver = StateSolver(problem, parameters, block)
            X, _ = solver.states(None, None)
            M = solver.derivatives(X)
            J = np.empty((len(X), *parameters.C.shape))
            for start in range(0, len(X), _AT_A_TIME):
                some = slice(start, start + _AT_A_TIME)
                J[some] = jacobians(parameters, M[some])
            if problem.loss.quadratic:
                return _Rows(X, J, np.empty((len(X), 0, 0)), w)
            F = predictions(parameters, X, solver.offset())
            return _Rows(X, J, np.asarray(problem.loss.hessian(Y, F), dtype=np.float64), w)

        with self._sample.threads():
            parts = self._sample.map(rows)
        return _Rows(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    @cached_property
    def _refit(self) -> "_Refit":
        rows, problem = self._rows, self._problem
        ones = np.ones((len(rows.X), int(problem.intercept)))
        S = np.concatenate([rows.X[:, problem.read], ones], axis=1)
        l2 = np.repeat([problem.l2, 0.0], [int(problem.read.sum()), ones.shape[1]])
        return _Refit(S, rows.L, rows.w, l2, rows.J.shape[1])


class _Rows(NamedTuple):
    """States, sensitivities ``C T``, Hessians of the loss unless they are one, and weights."""

    X: Array
    J: Array
    L: Array
    w: Array


class _Refit:
    """What is left of a change of the predictions when C and d follow it."""

    def __init__(self, S: Array, L: Array, w: Array, l2: Array, q: int) -> None:
        self._S, self._L, self._w = S, L, w
        k = len(l2)
        # outputs that do not depend on each other have the same Hessian
        self._joint = L.size > 0 and q > 1
        self._inverse: Array | None = None
        if self._joint and q * k > _MOST_REFITTED:
            return
        outputs = q if self._joint else 1
        local = L if L.size else np.ones((len(S), 1, 1))
        hessian = coefficient_hessian(local, w, S).reshape(outputs * k, outputs * k)
        floor = _FLOOR * float(np.trace(hessian)) / len(hessian) + 1e-300
        hessian[np.diag_indices_from(hessian)] += np.tile(l2, outputs) + floor
        self._inverse = np.asarray(np.linalg.inv(hessian), dtype=np.float64)

    def gradient(self, F: Array) -> Array:
        """Return the gradient of half the curvature along the change F of the predictions."""
        G = self._weighted(F)
        if self._inverse is None:
            return G
        moments = G.T @ self._S
        if self._joint:
            change = (self._inverse @ moments.ravel()).reshape(moments.shape)
        else:
            change = moments @ self._inverse
        return G - self._weighted(self._S @ change.T)

    def _weighted(self, F: Array) -> Array:
        """Multiply by the Hessian of the loss and the weights."""
        weighted: Array = F * self._w[:, None]
        return np.einsum("iqr,ir->iq", self._L, weighted) if self._L.size else weighted
