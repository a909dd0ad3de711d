"""A range of rows: its data in standardised units, and the states that belong to it.

What a block remembers of its states between two passes depends on the memory that there is: all
that was computed, the states alone, or one byte a state: enough to start the next equilibrium from,
since it tells the piece of the activation.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray, IntArray

if TYPE_CHECKING:
    from bcd_implicit.blocked_rows import BlockedRows

__all__ = ["Block", "CompactBlock", "Memory", "Solved", "Solver", "StateBlock", "worth_taking"]

Array = NDArray[np.float64]
# What a block hands on to the block of the same rows in the next pass; None is nothing.
Memory: TypeAlias = Any

_LEVELS = 126  # one less than a byte has: rounding errors may lead to one more


class Solved(NamedTuple):
    """States of the rows of a block, and what inputs add to the outputs."""

    X: Array
    """States, shape (rows, n)."""
    offset: Array | float
    """``D u``, shape (rows, q), or zero."""
    error: float
    """Proven bound of the error of the states."""


class Solver(Protocol):
    """Finds the states of a block for given parameters."""

    def offset(self) -> Array | float:
        """Return ``D u``, or zero."""

    def states(self, start: Array | None, out: Array | None) -> tuple[Array, float]:
        """Return the equilibrium, in ``out`` if that is given, and the bound of its error."""


def worth_taking(used: BoolArray) -> IntArray | slice:
    """Return the inputs that are used or, if these are most, all: to gather costs more than zeros.

    Examples
    --------
    >>> worth_taking(np.array([False, True, False])), worth_taking(np.array([True, True, False]))
    (array([1]), slice(None, None, None))
    """
    columns = np.flatnonzero(used)
    return columns if 2 * len(columns) < len(used) else slice(None)


class Block(ABC):
    """A range of rows and what is known of their states.

    Parameters
    ----------
    data : BlockedRows
        Where the rows come from.
    rows : slice
        Where the block lies among the rows in use.
    """

    def __init__(self, data: "BlockedRows[Any]", rows: slice) -> None:
        self._data, self.rows = data, rows

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.rows.stop - self.rows.start)

    def inputs(self, columns: IntArray | slice = slice(None)) -> Array:
        """Return the standardised inputs, dense, or some columns of them."""
        return self._data.inputs(self, columns)

    def product(self, matrix: Array) -> Array:
        """Return ``U matrix'``."""
        columns = worth_taking(np.any(matrix, axis=0))
        product: Array = self.inputs(columns) @ matrix[:, columns].T
        return product

    def targets(self) -> tuple[Array, Array]:
        """Return targets and weights."""
        return self._data.targets(self)

    def sampled(self) -> IntArray:
        """Return the rows, from the first, that belong to the sample of `RowBlocks.sampled`."""
        return self._data.sampled(self)

    def adjoint_start(self) -> Array | None:
        """Return where the adjoint starts from and goes to, if that is worth keeping."""
        return None

    @abstractmethod
    def start(self) -> Array | None:
        """Return the accepted states, or about where they are; None if nothing is known."""

    @abstractmethod
    def solve_trial(self, solver: Solver) -> Solved:
        """Solve for the states of new parameters, and remember them."""

    @abstractmethod
    def at_trial(self, solver: Solver) -> Solved:
        """Return what `solve_trial` found last, solving again for what is not remembered."""


class StateBlock(Block):
    """A block that remembers everything.

    Attributes
    ----------
    X, trial : ndarray of shape (rows, n)
        States of the accepted and of the tried parameters.
    offset : ndarray of shape (rows, q), or zero
        ``D u`` of the parameters that were tried last.
    """

    def __init__(self, data: "BlockedRows[Any]", rows: slice) -> None:
        super().__init__(data, rows)
        self.X = self.trial = self._V = np.empty((0, 0))
        self.offset: Array | float = 0.0
        self._error = np.inf

    def start_states(self, n: int, *, adjoint: bool) -> None:
        """Forget all states: they start at zero."""
        self.X, self.trial = np.zeros((len(self), n)), np.zeros((len(self), n))
        self._V = np.zeros((len(self), n) if adjoint else (0, 0))

    def adjoint_start(self) -> Array | None:
        """Return where the adjoint starts from and goes to, if that is worth keeping."""
        return self._V if self._V.size else None

    def start(self) -> Array | None:
        """Return the accepted states."""
        return self.X

    def solve_trial(self, solver: Solver) -> Solved:
        """Solve for the states of new parameters, and remember them."""
        self.trial, self._error = solver.states(self.X, self.trial)
        self.offset = solver.offset()
        return self.at_trial(solver)

    def at_trial(self, solver: Solver) -> Solved:
        """Return what `solve_trial` found last: inputs are read once."""
        del solver  # nothing is missing
        return Solved(self.trial, self.offset, self._error)

    def scale_trial(self, s: float) -> None:
        """Multiply the states of the trial."""
        self.trial *= s
        self._error *= s

    def accept_trial(self) -> None:
        """Make the states of the trial the accepted ones."""
        self.X, self.trial = self.trial, self.X


class PassBlock(Block):
    """A block that lasts for one pass, and remembers the states alone."""

    def __init__(self, data: "BlockedRows[Any]", rows: slice) -> None:
        super().__init__(data, rows)
        self._accepted: Memory = None
        self._tried: Memory = None
        self._spare: Memory = None
        self._inputs: Array | None = None
        self._units = 1.0, 1.0

    def recall(
        self, accepted: Memory, tried: Memory, spare: Memory, units: tuple[float, float]
    ) -> None:
        """Take over what blocks of the same rows remembered, the first two multiplied by units.

        ``spare`` may be overwritten: new arrays in every pass would leave the memory in pieces.
        """
        self._accepted, self._tried, self._spare, self._units = accepted, tried, spare, units

    def inputs(self, columns: IntArray | slice = slice(None)) -> Array:
        """Return the standardised inputs, or some columns; all of them are kept until `leave`."""
        if self._inputs is None and isinstance(columns, slice) and columns == slice(None):
            self._inputs = super().inputs()
        if self._inputs is None:
            return super().inputs(columns)
        if isinstance(columns, slice):
            return self._inputs[:, columns]
        return self._inputs.take(columns, 1)  # C order, as otherwise: BLAS adds up as it lies

    def leave(self) -> None:
        """Let go of what was kept while the block was worked on."""
        self._inputs = None

    def memory(self) -> Memory:
        """Return what is to be remembered of the trial."""
        return self._tried

    def start(self) -> Array | None:
        """Return the accepted states, if they are remembered."""
        if self._accepted is None:
            return None
        states: Array = np.asarray(self._accepted) * self._units[0]
        return states

    def solve_trial(self, solver: Solver) -> Solved:
        """Solve for the states of new parameters, and remember them."""
        X, error = self._states(solver)
        self._tried, self._units = self._kept(X), (self._units[0], 1.0)
        return Solved(X, solver.offset(), error)

    def at_trial(self, solver: Solver) -> Solved:
        """Return the states that `solve_trial` found last; solve again if they were lost."""
        if self._tried is None:
            X, error = solver.states(None, None)
        else:
            X, error = np.asarray(self._tried) * self._units[1], np.nan
        return Solved(X, solver.offset(), error)

    def _states(self, solver: Solver) -> tuple[Array, float]:
        return solver.states(self.start(), self._spare)

    def _kept(self, X: Array) -> Memory:
        """Return what is remembered of states."""
        return X


class CompactBlock(PassBlock):
    """A block that lasts for one pass, and remembers a byte of every state."""

    def start(self) -> Array | None:
        """Return about where the accepted states are, if anything is remembered."""
        return _expand(self._accepted, self._units[0])

    def at_trial(self, solver: Solver) -> Solved:
        """Solve again, from about where the states are."""
        X, error = solver.states(_expand(self._tried, self._units[1]), None)
        return Solved(X, solver.offset(), error)

    def _states(self, solver: Solver) -> tuple[Array, float]:
        return solver.states(self.start(), None)

    def _kept(self, X: Array) -> Memory:
        """Return every state in units of its own, rounded away from zero."""
        codes = np.abs(X)
        top = codes.max(axis=0, initial=0.0)
        unit = np.where(top > 0.0, top, 1.0) / _LEVELS
        codes *= 1.0 / unit
        np.copysign(np.ceil(codes, out=codes), X, out=codes)
        if self._spare is None:
            return codes.astype(np.int8), unit
        np.copyto(self._spare[0], codes, casting="unsafe")
        return self._spare[0], unit


def _expand(memory: Memory, s: float) -> Array | None:
    if memory is None:
        return None
    codes, unit = memory
    expanded: Array = codes * (unit * s)
    return expanded
