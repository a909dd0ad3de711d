"""Prediction by block substitution: every stage of `bcd_implicit.structure` in turn.

States lie along rows here, so that a sparse block adds whole rows of samples and a dense one is a
product of BLAS. A block between layers is kept dense where most of it is not zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd_implicit._activation import Array
from bcd_implicit._matrices import check_overflow, csr, is_sparse
from bcd_implicit._typing import IntArray, Matrix
from bcd_implicit.equilibrium import solve_equilibrium
from bcd_implicit.exceptions import EquilibriumError
from bcd_implicit.per_state import GroupMap
from bcd_implicit.structure import BlockTriangular, Stage

__all__ = ["Substitution"]

_DENSE = 0.3  # share of nonzeros above which BLAS beats a sparse product
_ENTRIES_DENSE = 1 << 22  # of the widest array of a block of rows: BLAS wants long ones,
_ENTRIES_SPARSE = 1 << 18  # sparse products want them in cache


@dataclass(frozen=True)
class _Step:
    """A stage with its matrices, in the order of substitution."""

    stage: Stage
    rows: slice
    reads: slice | IntArray
    A: Any
    B: Any
    b: Array
    loop: Array | None


class Substitution:
    """The matrices of a model, cut along the stages of its states.

    Parameters
    ----------
    structure : BlockTriangular
    A, B, C, D : ndarray or csr_array
        B and D with the active columns only.
    b, d : ndarray

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> from bcd_implicit.structure import block_triangular
    >>> A, B, C, D = np.diag([2.0], 1), np.array([[0.0], [1.0]]), np.eye(2), np.zeros((2, 1))
    >>> network = Substitution(block_triangular(A, Relu()), A, B, C, D, np.zeros(2), np.zeros(2))
    >>> network.predict(np.array([[3.0]]), 1e-10)
    array([[6., 3.]])
    """

    def __init__(
        self, structure: BlockTriangular, A: Any, B: Any, C: Any, D: Any, b: Array, d: Array
    ) -> None:
        self.evidence = structure
        order = structure.order
        n = len(order)
        self.place = np.empty(n, dtype=np.intp)
        self.place[order] = np.arange(n)
        A, B, C, D = (csr(M) for M in (A, B, C, D))
        A = A[order][:, order]
        self.steps: list[_Step] = []
        growth = np.zeros(n)
        start = 0
        for stage in structure.stages:
            rows = slice(start, start + len(stage.states))
            earlier = A[rows, :start]
            growth[rows] = _growth(stage, earlier, growth[:start])
            reads, before = _compact(earlier)
            loop = None if stage.loop is None else A[rows, rows].toarray()
            inputs, own = _dense_enough(B[stage.states]), b[stage.states][:, np.newaxis]
            self.steps.append(_Step(stage, rows, reads, before, inputs, own, loop))
            start = rows.stop
        # the errors of loops grow along the chains, and add up in the outputs; without a bound,
        # loops are solved up to rounding
        self.share = 0.1 / float(growth.max(initial=1.0))
        self.read, self.C = _compact(C[:, order])
        self.D, self.d = _dense_enough(D), d[:, np.newaxis]
        sparse = any(is_sparse(M) for step in self.steps for M in (step.A, step.B))
        self.entries = _ENTRIES_SPARSE if sparse else _ENTRIES_DENSE

    def for_rows(self, m: int) -> "Substitution":
        """Return what is best for so many rows in all."""
        del m
        return self

    def states(self, U: Any, tol: float, out: Array | None = None) -> Array:
        """Return the states of a block of inputs, shape (m, n)."""
        with np.errstate(over="ignore", invalid="ignore"):
            X = self._solve(U.T, tol)
        return _written(X[self.place], out)

    def predict(self, U: Any, tol: float, out: Array | None = None) -> Array:
        """Return the predictions of a block of inputs, shape (m, q)."""
        UT = U.T
        with np.errstate(over="ignore", invalid="ignore"):
            X = self._solve(UT, tol)
            F = np.empty((len(self.d), X.shape[1]), dtype=X.dtype)
            _sum(F, ((self.C, X[self.read]), (self.D, UT)), self.d)
        return _written(F, out)

    def _solve(self, UT: Any, tol: float) -> Array:
        """Return the states in the order of substitution, samples along columns."""
        X = np.empty((len(self.place), UT.shape[1]), dtype=self.d.dtype)
        for step in self.steps:
            Z = X[step.rows]
            _sum(Z, ((step.A, X[step.reads]), (step.B, UT)), step.b)
            phi = step.stage.phi
            if step.stage.loop is None:
                check_overflow(Z)  # a relu of minus infinity would not show it any more
            if isinstance(phi, GroupMap):
                groups = Z.reshape(-1, step.stage.size, Z.shape[1]).swapaxes(0, 1)
                groups[...] = phi.value(groups)
            elif step.stage.loop is None or step.loop is None:
                new = phi.value(Z, out=Z)
                if new is not Z:  # a map that ignores out
                    Z[...] = new
            else:
                Zin = np.ascontiguousarray(Z.T)
                found = solve_equilibrium(phi, step.loop, Zin, step.stage.loop, tol * self.share)
                if found.status == "max_iter":
                    raise EquilibriumError(
                        f"a loop of {len(Z)} states is not known to {tol * self.share:g} after "
                        f"{found.n_iter} iterations with contraction factor "
                        f"{step.stage.loop.factor:.9g}: the proven error is {found.error:g}; if it "
                        f"is infinite, the inputs are too large for {Z.dtype}"
                    )
                Z[...] = found.x.T
        return X


def _written(X: Array, out: Array | None) -> Array:
    """Return the transpose, checked, in ``out`` if that is given."""
    check_overflow(X)
    if out is None:
        return X.T
    out[...] = X.T
    return out


def _sum(out: Array, products: Sequence[tuple[Any, Any]], offset: Array) -> None:
    """Write the sum of matrix products and an offset; a matrix that is None counts as zero."""
    filled = False
    for M, V in products:
        if M is None:
            continue
        if not (filled or is_sparse(M) or is_sparse(V)):
            np.matmul(M, V, out=out)
        else:
            product = M @ V
            product = product.toarray() if is_sparse(product) else product
            out[...] = out + product if filled else product
        filled = True
    out[...] = out + offset if filled else offset


def _growth(stage: Stage, earlier: Matrix, growth: Array) -> Array:
    """Bound the errors of a stage when every loop makes an error of at most one; infinite: none."""
    with np.errstate(over="ignore", invalid="ignore"):  # long chains of loops, products behind one
        incoming = abs(earlier) @ growth
        if not incoming.any():
            return np.full(len(stage.states), 0.0 if stage.loop is None else 1.0)
        spread = np.where(incoming > 0.0, stage.phi.lipschitz * incoming, 0.0)  # not inf * 0
        if isinstance(stage.phi, GroupMap):
            return np.full(len(spread), spread.max())
        if stage.loop is None:
            return spread
        s = stage.loop.scale
        return 1.0 + (spread / s).max() / (1.0 - stage.loop.factor) * s


def _compact(M: Matrix) -> tuple[slice | IntArray, Any]:
    """Return the columns that are not zero, and the matrix on them, dense if it mostly is."""
    used = np.unique(M.indices[M.data != 0.0]) if M.nnz else np.zeros(0, dtype=np.intp)
    if not used.size:
        return slice(0, 0), None
    first, last = int(used[0]), int(used[-1]) + 1
    contiguous = len(used) == last - first
    if M.nnz <= _DENSE * M.shape[0] * len(used):
        return slice(first, last), M[:, first:last]
    return (slice(first, last) if contiguous else used), M[:, used].toarray()


def _dense_enough(M: Matrix) -> Any:
    """Return a matrix as it is best multiplied: dense, sparse, or None if it is zero."""
    if not M.nnz:
        return None
    return M.toarray() if M.nnz > _DENSE * M.shape[0] * M.shape[1] else M
