"""Fixed-point iteration on blocks of rows with BLAS, for `bcd_implicit.equilibrium`."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._activation import Activation, Array
from bcd_implicit.solvers._kernels import row_changes
from bcd_implicit.wellposed import Contraction


def rounding_units(A: Array, factor: float) -> tuple[float, float]:
    """Return the relative rounding error of one step: its proven bound, and its usual size.

    The bound counts n products and sums, phi and the differences. The usual size is a few units
    in the last place, or what is negligible beside the bound after its division by 1 - r.
    """
    eps = float(np.finfo(A.dtype).eps)
    bound = 0.5 * eps * (len(A) + 8)
    return bound, min(bound, max(8.0 * eps, (1.0 - factor) * bound))


def row_blocks(X: Array) -> list[slice]:
    """Cut the rows so that a few arrays of a block fit in the second-level cache."""
    m, n = X.shape
    size = min(max(32768 // n, 64), 1024)
    return [slice(start, min(start + size, m)) for start in range(0, m, size)]


class StateBlock:
    """One iteration ``x <- phi(A x + z)`` for a block of rows."""

    def __init__(
        self,
        activation: Activation,
        AT: Array,
        Z: Array,
        contraction: Contraction,
        weight: NDArray[np.float64],
        tol: float,
    ) -> None:
        self.activation, self.AT, self.Z = activation, AT, Z
        self.factor = contraction.factor
        self.units = rounding_units(AT, self.factor)
        self.weight, self.tol = weight, tol
        self.inputs = activation.lipschitz * (np.abs(Z) * weight).max(axis=1)

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Go on with these rows only."""
        self.Z, self.inputs = self.Z[rows], self.inputs[rows]

    def step(self, X: Array, new: Array) -> tuple[Array, Array, Array]:
        """Write the next iterate to ``new``; return the step, the magnitudes and the target."""
        np.matmul(X, self.AT, out=new)
        new += self.Z
        result = self.activation.value(new, out=new)
        if result is not new:  # a map that ignores out
            new[...] = result
        change, norm, size = np.empty((3, len(X)))
        row_changes(new, X, self.weight, change, norm, size)
        return change, self.inputs + norm + change, self.tol * size

    def magnitudes(self, X: Array, rows: NDArray[np.bool_]) -> Array:
        """Return the size of what is added and rounded in every state of these rows."""
        sums = np.abs(X) @ np.abs(self.AT) + np.abs(self.Z[rows])
        return self.activation.lipschitz * sums + np.abs(X)


class AdjointBlock:
    """One iteration ``v <- M o (A' v + r)`` for a block of rows."""

    def __init__(
        self,
        A: Array,
        M: Array,
        R: Array,
        contraction: Contraction,
        weight: NDArray[np.float64],
        tol: float,
    ) -> None:
        self.A, self.M, self.R = A, M, R
        self.factor = contraction.factor
        self.units = rounding_units(A, self.factor)
        self.weight = weight
        self.limit = tol * np.abs(R).max(axis=1)
        self.inputs = np.abs(M * R) @ weight

    def keep(self, rows: NDArray[np.bool_]) -> None:
        """Go on with these rows only."""
        self.M, self.R = self.M[rows], self.R[rows]
        self.limit, self.inputs = self.limit[rows], self.inputs[rows]

    def step(self, V: Array, new: Array) -> tuple[Array, Array, Array]:
        """Write the next iterate to ``new``; return the step, the magnitudes and the target."""
        np.matmul(V, self.A, out=new)
        new += self.R
        new *= self.M
        new[self.inputs == 0.0] = 0  # the solution, which iterations would only approach
        change = np.abs(new - V) @ self.weight
        change[self.inputs == 0.0] = 0
        norm = np.abs(new) @ self.weight
        return change, self.inputs + norm + change, self.limit

    def magnitudes(self, V: Array, rows: NDArray[np.bool_]) -> Array:
        """Return the size of what is added and rounded in every entry of these rows."""
        return self.M[rows] * (np.abs(V) @ np.abs(self.A) + np.abs(self.R[rows])) + np.abs(V)


def iterate(
    problem: StateBlock | AdjointBlock, X: Array, error: Array, max_iter: int
) -> tuple[int, int]:
    """Iterate in place until every row is done; return the worst status and the iterations."""
    rows = np.arange(len(X))
    current, new = X.copy(), np.empty_like(X)
    rounding, quiet = problem.units
    code = t = 0
    while len(rows):
        t += 1
        change, magnitude, limit = problem.step(current, new)
        current, new = new, current
        rest = problem.factor * change
        bound = (1.0 + 2.0 * rounding) * (rest + rounding * magnitude) / (1.0 - problem.factor)
        broken = ~np.isfinite(bound)
        met = bound <= limit
        settled = ~met & ~broken & (rest <= quiet * magnitude)
        if settled.any():  # the weights may hide a state that still moves: look at each of them
            moves = np.abs(current[settled] - new[settled])
            settled[settled] = np.all(
                moves <= quiet * problem.magnitudes(current[settled], settled), axis=1
            )
        done = met | settled | broken
        if t < max_iter and 2 * np.count_nonzero(done) < len(rows):
            continue  # rows that are done iterate along until they are worth taking out
        last = done if t < max_iter else np.ones(len(rows), dtype=bool)
        X[rows[last]] = current[last]
        error[rows[last]] = np.where(broken, np.inf, bound)[last]
        status = np.where(met, 0, np.where(~broken & (rest <= rounding * magnitude), 1, 2))
        code = max(code, int(status[last].max(initial=0)))
        problem.keep(~last)
        rows, current, new = rows[~last], current[~last], new[~last]
    return code, t
