"""Fixed-point iteration on blocks of rows with BLAS, for `bcd_implicit.equilibrium`."""

from dataclasses import dataclass
from math import ceil, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._acceleration import (
    Anderson,
    Elimination,
    elimination_cost,
    iterations_ahead,
)
from bcd_implicit._activation import Activation, Array
from bcd_implicit._typing import FloatArray
from bcd_implicit.solvers._kernels import PIECEWISE_LINEAR, row_changes
from bcd_implicit.wellposed import Contraction

_PATIENCE = 4  # iterations before a block is accelerated
_SLOW = 0.5  # of the steps of most rows: acceleration pays
_MOST_ITERATIONS = 1_000_000

Status = Literal["converged", "rounding", "max_iter"]
STATUS: tuple[Status, ...] = ("converged", "rounding", "max_iter")


@dataclass(frozen=True)
class FixedPoint:
    """Solution of a fixed-point equation for a block of rows, with its proven accuracy.

    Attributes
    ----------
    x : ndarray of shape (m, n)
        The solution.
    error : float
        Largest bound over the rows of ``max_k |x_k - x*_k|``, where ``x*`` solves the equation with
        the given matrices, and the ends of what phi cuts off in their dtype, exactly: rounding is
        included. Infinite if the iteration broke down.
    n_iter : int
        Most iterations used by a row.
    status : {"converged", "rounding", "max_iter"}
        Whether every row met the tolerance; the best that rounding allows was reached; or some
        row ran out of iterations or overflowed.
    """

    x: FloatArray
    error: float
    n_iter: int
    status: Status


def check_tolerance(tol: float) -> None:
    """Raise ValueError unless the tolerance is a number of at least zero."""
    if not tol >= 0.0:
        raise ValueError(f"tol must be a number of at least 0; got {tol!r}")


def start_of(
    A: Array,
    Zin: Array,
    contraction: Contraction,
    start: Array | None,
    out: Array | None,
    name: str,
) -> Array:
    """Check the arrays and return the one to iterate in, with the start in it if there is one."""
    n = len(A)
    if A.shape != (n, n) or contraction.scale.shape != (n,):
        raise ValueError(
            f"A must be square and contraction made for it; got shape {A.shape} and "
            f"{contraction.scale.size} weights"
        )
    if Zin.ndim != 2 or Zin.shape[1] != n or Zin.dtype != A.dtype or Zin.dtype.char not in "fd":
        raise ValueError(
            f"{name} must have shape (m, {n}) and the dtype of A, float32 or float64; got "
            f"{Zin.shape}, {Zin.dtype} and {A.dtype}"
        )
    for what, array in (("the start", start), ("out", out)):
        if array is not None and (array.shape != Zin.shape or array.dtype != Zin.dtype):
            raise ValueError(
                f"{what} must have shape {Zin.shape} and dtype {Zin.dtype}; got {array.shape} "
                f"and {array.dtype}"
            )
    X = np.empty_like(Zin, order="C") if out is None else out
    if start is not None and start is not X:
        X[...] = start
    return X


def enough_iterations(contraction: Contraction) -> int:
    """Count the iterations after which only rounding errors are left."""
    s, r = contraction.scale, contraction.factor
    decades = 50.0 - log(1.0 - r) + log(float(s.max() / s.min()))
    return min(ceil(decades / -log(max(r, 1e-300))) + 2, _MOST_ITERATIONS)


def rounding_units(A: Array, factor: float, more: float = 0.0) -> tuple[float, float]:
    """Return the relative rounding error of one step: its proven bound, and its usual size.

    The bound counts n products and sums and the differences, and phi or, where phi only cuts off,
    what a matrix without self-loops and its inputs were rounded by. The usual size is a few units
    in the last place, or what is negligible beside the bound after its division by 1 - r. There may
    be ``more``, in units of half an epsilon.
    """
    eps = float(np.finfo(A.dtype).eps)
    bound = 0.5 * eps * (len(A) + 8 + more)
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

    def accelerator(self, ahead: Array) -> Anderson:
        """Return what makes a slow iteration faster, with about so many left for each row."""
        kernel = self.activation.kernel
        bounds = (-np.inf, np.inf)
        if kernel is not None and kernel[0] == PIECEWISE_LINEAR:
            bounds = kernel[1][2:]
        return Anderson(len(ahead), self.Z, self.weight, self.factor, bounds)

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
        slip: float,
    ) -> None:
        self.A, self.M, self.R = A, M, R
        self.factor = contraction.factor
        self.units = rounding_units(A, self.factor, slip)
        self.weight = weight
        self.limit = tol * np.abs(R).max(axis=1)
        self.inputs = np.abs(M * R) @ weight

    def accelerator(self, ahead: Array) -> Elimination | None:
        """Return what ends an iteration with so many ahead for each row, if it is worth it."""
        if float(np.mean(ahead)) <= elimination_cost(self.M):
            return None
        return Elimination(self)

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
    before, accelerator = np.full(len(X), np.inf), None
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
        slow = 2 * np.count_nonzero(change > _SLOW * before) > len(rows)
        if accelerator is None and t >= _PATIENCE and slow:
            # a row ends when it has met its limit, or settled
            with np.errstate(divide="ignore", invalid="ignore"):
                excess = np.log(rest) - np.log(quiet * magnitude)
                excess = np.fmin(excess, np.log(bound) - np.log(limit))
            excess[rest <= rounding * magnitude] = 0.0  # its steps need not shrink any more
            accelerator = problem.accelerator(iterations_ahead(before, change, excess))
        if t < max_iter and 2 * np.count_nonzero(done) < len(rows):
            if accelerator is not None:
                accelerator.step(new, current, change, ~done)
            before = change
            continue  # rows that are done iterate along until they are worth taking out
        last = done if t < max_iter else np.ones(len(rows), dtype=bool)
        X[rows[last]] = current[last]
        error[rows[last]] = np.where(broken, np.inf, bound)[last]
        status = np.where(met, 0, np.where(~broken & (rest <= rounding * magnitude), 1, 2))
        code = max(code, int(status[last].max(initial=0)))
        problem.keep(~last)
        rows, current, new = rows[~last], current[~last], new[~last]
        before = change[~last]
        if accelerator is not None:
            accelerator.keep(~last)
            accelerator.step(new, current, before, np.ones(len(rows), dtype=bool))
    return code, t
