"""A range of rows: its data in standardised units, and the states that belong to it.

Between the passes the states are kept either as they are or, where they do not fit in memory, as
one byte each: enough to start the next equilibrium from, which costs a fifth of a cold start.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray

if TYPE_CHECKING:
    from bcd_implicit.statistics import RowBlocks

__all__ = ["Block", "CompactBlock", "Solve", "Solved"]

Array = NDArray[np.float64]

_LEVELS = 127


class Solved(NamedTuple):
    """States of the rows of a block, with the products that they and the outputs stand on."""

    X: Array
    """States, shape (rows, n)."""
    Z: Array
    """``B u + b``, shape (rows, n)."""
    offset: Array | float
    """``D u``, shape (rows, q), or zero."""
    error: float
    """Proven bound of the error of the states."""


# From where to start, and where to write, if that is given.
Solve: TypeAlias = Callable[[Array | None, Array | None], Solved]


class Block:
    """A range of rows and the states that belong to it.

    Parameters
    ----------
    data : RowBlocks
        Where the rows come from.
    rows : slice
        Where the block lies among the rows in use.

    Attributes
    ----------
    X, trial : ndarray of shape (rows, n)
        States of the accepted and of the tried parameters.
    V : ndarray of shape (rows, n), or empty
        Adjoint states, where a warm start saves iterations.
    Z, offset : ndarray of shape (rows, n), and (rows, q) or zero
        ``B u + b`` and ``D u`` of the parameters that were tried last: inputs are read once.
    error : float
        Proven bound of the error of the states of the trial.
    """

    def __init__(self, data: "RowBlocks", rows: slice) -> None:
        self._data, self.rows = data, rows
        self.X = self.trial = self.V = self.Z = np.empty((0, 0))
        self.offset: Array | float = 0.0
        self.error = np.inf

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.rows.stop - self.rows.start)

    def inputs(self, columns: IntArray | slice = slice(None)) -> Array:
        """Return the standardised inputs, dense, or some columns of them."""
        return self._data.inputs(self, columns)

    def targets(self) -> tuple[Array, Array]:
        """Return targets and weights."""
        return self._data.targets(self)

    def sampled(self) -> IntArray:
        """Return the rows, from the first, that belong to the sample of `RowBlocks.sampled`."""
        return self._data.sampled(self)

    def start_states(self, n: int, *, adjoint: bool) -> None:
        """Forget all states: they start at zero."""
        shape = (len(self), n)
        self.X, self.trial = np.zeros(shape), np.zeros(shape)
        self.V = np.zeros(shape if adjoint else (0, 0))

    def solve_trial(self, solve: Solve) -> Solved:
        """Solve for the states of new parameters, ``solve(start, out)``, and keep them."""
        solved = solve(self.X, self.trial)
        self.trial, self.Z, self.offset, self.error = solved
        return solved

    def at_trial(self, solve: Solve) -> Solved:
        """Return what `solve_trial` found last; ``solve`` finds what was not kept."""
        del solve  # everything was kept
        return Solved(self.trial, self.Z, self.offset, self.error)

    def scale_trial(self, s: float) -> None:
        """Multiply the states of the trial."""
        self.trial *= s
        self.Z *= s
        self.error *= s

    def accept_trial(self) -> None:
        """Make the states of the trial the accepted ones."""
        self.X, self.trial = self.trial, self.X


class CompactBlock(Block):
    """A block that remembers of its states only a byte each."""

    def __init__(self, data: "RowBlocks", rows: slice) -> None:
        super().__init__(data, rows)
        self._accepted: tuple[NDArray[np.int8], Array] | None = None
        self._tried: tuple[NDArray[np.int8], Array] | None = None

    def start_states(self, n: int, *, adjoint: bool) -> None:
        """Forget all states."""
        del n, adjoint
        self._accepted = self._tried = None

    def solve_trial(self, solve: Solve) -> Solved:
        """Solve for the states of new parameters, and remember about where they are."""
        solved = solve(_expand(self._accepted), None)
        self._tried = _compress(solved.X)
        return solved

    def at_trial(self, solve: Solve) -> Solved:
        """Solve again, from about where the states are."""
        return solve(_expand(self._tried), None)

    def scale_trial(self, s: float) -> None:
        """Multiply the states of the trial."""
        if self._tried is not None:
            codes, unit = self._tried
            self._tried = codes, unit * s

    def accept_trial(self) -> None:
        """Make the states of the trial the accepted ones."""
        self._accepted = self._tried


def _compress(X: Array) -> tuple[NDArray[np.int8], Array]:
    """Return states as bytes in units of every state's own; what is not zero stays so."""
    top = np.abs(X).max(axis=0, initial=0.0)
    unit = np.where(top > 0.0, top, 1.0) / _LEVELS
    codes = X / unit
    np.rint(np.copysign(np.maximum(np.abs(codes), 1.0 * (X != 0.0)), codes), out=codes)
    return codes.astype(np.int8), unit


def _expand(compact: tuple[NDArray[np.int8], Array] | None) -> Array | None:
    if compact is None:
        return None
    codes, unit = compact
    return codes * unit
