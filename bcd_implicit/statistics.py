"""Training data in memory, in blocks of rows.

Every pass maps a function over fixed blocks of rows and adds what it returns in twice the
precision, so that the result has the same bits for any number of threads. The states live in the
block they belong to. Inside `threads` BLAS runs on one thread; the blocks run in parallel.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.blocked_rows import BlockedRows
from bcd_implicit.blocks import StateBlock
from bcd_implicit.rows import are_few
from bcd_implicit.sums import Sums, Twofold, values
from bcd_implicit.training_data import TrainingData

__all__ = ["RowBlocks", "sample_step"]

Array = NDArray[np.float64]

_SAMPLE = 256  # most rows of `RowBlocks.sampled`
# Of inputs and targets that are kept as they are used, 8 MB: a pass over 1,250 rows of 784 inputs
# would spend a third of its time on gathering and standardising them.
_KEPT_ENTRIES = 2**20
_SHORT = 64  # up to so many states the adjoint is solved directly, and needs no warm start


class RowBlocks(BlockedRows[StateBlock], TrainingData):
    """Training data, standardised on the fly, behind a map over row blocks.

    Parameters
    ----------
    U : ndarray or CSR matrix of shape (m, p)
        Raw inputs; many are never copied as a whole.
    Y : ndarray of shape (m, q)
        Targets, in the units of the loss.
    weights : ndarray of shape (m,)
        Nonnegative; those of the rows in use are divided by their sum.
    centre, scale : ndarray of shape (p,)
        The inputs are ``(U - centre) / scale``.
    n_threads : int
        Threads that work on blocks; the results do not depend on it.
    order : ndarray of int, optional
        The rows to use, in this order; all by default. They are gathered block by block.
    columns : ndarray of int, optional
        The inputs to use; all by default. ``centre`` and ``scale`` are those of all inputs.
    aligned : bool
        Whether blocks are cut by the numbers of the rows, which rise in ``order``: see
        `bcd_implicit.cuts`.

    Examples
    --------
    >>> U, Y = np.arange(6.0).reshape(3, 2), np.ones((3, 1))
    >>> data = RowBlocks(U, Y, np.full(3, 1 / 3), np.zeros(2), np.ones(2))
    >>> data.sum(lambda block: (float(data.inputs(block).sum()),))
    (15.0,)
    """

    def __init__(
        self,
        U: Any,
        Y: Array,
        weights: Array,
        centre: Array,
        scale: Array,
        n_threads: int = 1,
        order: IntArray | None = None,
        columns: IntArray | None = None,
        aligned: bool = False,
    ) -> None:
        used = weights if order is None else weights[order]
        present = np.flatnonzero(used)
        super().__init__(
            StateBlock,
            U,
            Y,
            weights,
            centre,
            scale,
            n_threads=n_threads,
            order=order,
            columns=columns,
            aligned=aligned,
            weight=Twofold.total(used).value(),
            sample=present[:: sample_step(len(present))],
        )

    def only(self, columns: IntArray) -> "RowBlocks":
        """Return the same rows with some of the inputs; only a few rows are copied."""
        if self._columns is not None:
            columns = self._columns[columns]
        return RowBlocks(
            self.U,
            self.Y,
            self.weights,
            self._centre,
            self._scale,
            self.n_threads,
            self._order,
            columns,
            self._aligned,
        ).kept()

    def sampled_rows(self, size: int, first: int = 0, *, compact: bool = False) -> "RowBlocks":
        """Return about ``size`` of the rows, spread evenly, with weights that sum to one again.

        Another ``first``, below the number of rows over ``size``, gives other rows.
        """
        del compact  # all rows are in memory anyway
        used = np.arange(self.n_samples) if self._order is None else self._order
        present = used[self.weights[used] > 0.0]
        chosen = present[first :: max(len(present) // size, 1)]
        part = RowBlocks(
            self.U,
            self.Y,
            self.weights,
            self._centre,
            self._scale,
            self.n_threads,
            chosen,
            self._columns,
            self._aligned and not are_few(len(chosen), self.n_inputs),
        )
        return part.kept()

    def kept(self) -> "RowBlocks":
        """Return the same rows, gathered and standardised once if they are few: up to 8 MB."""
        entries = self.n_samples * (self.n_inputs + self.n_outputs)
        if self._aligned or entries > _KEPT_ENTRIES:
            return self
        rows = slice(None) if self._order is None else self._order
        return RowBlocks(
            np.concatenate([block.inputs() for block in self.blocks]),
            self.Y[rows],
            self.weights[rows],
            np.zeros(self.n_inputs),
            np.ones(self.n_inputs),
            self.n_threads,
        )

    def sum(self, function: Callable[[StateBlock], Sums], *, solves: bool = False) -> Sums:
        """Add what ``function`` returns for the blocks, entry by entry of its tuple."""
        del solves  # the blocks see to their states
        self.passes += 1
        return function(self.blocks[0]) if len(self.blocks) == 1 else values(self.total(function))

    def in_memory(self) -> "RowBlocks":
        """Return itself."""
        return self

    def start_states(self, n: int) -> None:
        """Forget all states: they start at zero."""
        for block in self.blocks:
            block.start_states(n, adjoint=n > _SHORT)

    def scale_trial(self, s: float) -> None:
        """Multiply the states of the trial."""
        for block in self.blocks:
            block.scale_trial(s)

    def accept_trial(self) -> None:
        """Make the states of the trial the accepted ones."""
        for block in self.blocks:
            block.accept_trial()


def sample_step(n: int) -> int:
    """Return which part of ``n`` rows, one in how many, is a sample of a few hundred."""
    return max(-(-n // _SAMPLE), 1)
