"""Training data in memory, in blocks of rows.

Every pass maps a function over fixed blocks of rows and adds what it returns in twice the
precision, so that the result has the same bits for any number of threads. The states live in the
block they belong to. BLAS runs on one thread inside a block; the blocks run in parallel.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bcd_implicit._threads import in_order, single_threaded_blas
from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block, StateBlock
from bcd_implicit.cuts import aligned_rows, block_rows, block_slices
from bcd_implicit.rows import are_few
from bcd_implicit.sums import Sums, Twofold, made, twofold, values
from bcd_implicit.training_data import TrainingData

__all__ = ["BlockedRows", "RowBlocks", "sample_step"]

Array = NDArray[np.float64]
AnyBlock = TypeVar("AnyBlock", bound=Block)

_SAMPLE = 256  # most rows of `RowBlocks.sampled`
_SHORT = 64  # up to so many states the adjoint is solved directly, and needs no warm start


class BlockedRows(Generic[AnyBlock]):
    """Rows in memory, standardised on the fly, behind a map over blocks.

    Parameters
    ----------
    block : type of Block
    U, Y, weights, centre, scale, n_threads, order, columns, aligned
        As in `RowBlocks`.
    weight : float
        What the weights are divided by.
    sample : ndarray of int
        Places of the rows that belong to the sample of the metric.
    """

    def __init__(
        self,
        block: Callable[["BlockedRows[Any]", slice], AnyBlock],
        U: Any,
        Y: Array,
        weights: Array,
        centre: Array,
        scale: Array,
        *,
        n_threads: int = 1,
        order: IntArray | None = None,
        columns: IntArray | None = None,
        aligned: bool = False,
        weight: float,
        sample: IntArray,
    ) -> None:
        self.U, self.Y, self.weights, self._order = U, Y, weights, order
        self._sparse = sparse.issparse(U)
        self._centre, self._scale, self._columns = centre, scale, columns
        self.centre, self.inverse_scale = centre, 1.0 / scale
        self.n_samples, self.n_inputs = U.shape
        if columns is not None:
            self.centre, self.inverse_scale = centre[columns], 1.0 / scale[columns]
            self.n_inputs = len(columns)
        if order is not None:
            self.n_samples = len(order)
        self.n_outputs = Y.shape[1]
        self.n_threads = n_threads
        self._weight, self._sample, self._aligned = weight, sample, aligned
        size = block_rows(self.n_inputs)
        if aligned:
            size = min(size, aligned_rows(U.shape[1]))
        cuts = block_slices(self.n_samples, size, order if aligned else None)
        self.blocks = [block(self, rows) for rows in cuts]
        self._pool: ThreadPoolExecutor | None = None
        self.passes = 0

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Keep the threads, and BLAS on one thread each, while the context lasts."""
        with single_threaded_blas():
            if self.n_threads == 1 or len(self.blocks) == 1:
                yield
                return
            with ThreadPoolExecutor(min(self.n_threads, len(self.blocks))) as pool:
                self._pool = pool
                try:
                    yield
                finally:
                    self._pool = None

    def inputs(self, block: Block, columns: IntArray | slice = slice(None)) -> Array:
        """Return the standardised inputs of a block, dense, or some columns of them."""
        rows = self._rows(block)
        taken = columns if self._columns is None else self._columns[columns]
        if self._sparse:
            part = self.U[rows][:, taken].toarray()
        elif isinstance(rows, slice) or isinstance(taken, slice):
            part = self.U[rows, taken]
        else:
            part = self.U[rows[:, None], taken]
        # numpy lays out what it takes by index as it likes, and BLAS adds up as the layout is
        dense: Array = np.subtract(part, self.centre[columns], order="C")
        dense *= self.inverse_scale[columns]
        return dense

    def targets(self, block: Block) -> tuple[Array, Array]:
        """Return targets and weights of a block; all weights together sum to one."""
        rows = self._rows(block)
        return self.Y[rows], self.weights[rows] / self._weight

    def _rows(self, block: Block) -> IntArray | slice:
        """Rows of the data that make up a block."""
        return block.rows if self._order is None else self._order[block.rows]

    def sampled(self, block: Block) -> IntArray:
        """Return the rows of a block, from its first, that belong to a sample of a few hundred.

        They are spread over the data; rows of weight zero are as good as absent.
        """
        first, last = np.searchsorted(self._sample, (block.rows.start, block.rows.stop))
        rows: IntArray = self._sample[first:last] - block.rows.start
        return rows

    def map(self, function: Callable[[AnyBlock], Sums]) -> list[Sums]:
        """Apply ``function`` to every block; results in the order of the blocks.

        No call is left running when it returns or raises: blocks may be written to again.
        """
        return list(self._results(function))

    def total(self, function: Callable[[AnyBlock], Sums]) -> Sums:
        """Add what ``function`` returns for the blocks, entry by entry, in twice the precision.

        As `map`, but only a few results are held at a time.
        """
        with closing(self._results(function)) as results:
            first = twofold(next(results))
            total = list(first)
            for sums in results:
                for k, term in enumerate(sums):
                    total[k] += term  # in place: it may be large
        return made(first, total)

    def _results(self, function: Callable[[AnyBlock], Sums]) -> Generator[Sums, None, None]:
        """Yield the results in order, with few blocks under way or waiting to be taken."""
        return in_order(self._pool, function, self.blocks, 2 * self.n_threads)


class RowBlocks(BlockedRows[StateBlock], TrainingData):
    """Training data, standardised on the fly, behind a map over row blocks.

    Parameters
    ----------
    U : ndarray or CSR matrix of shape (m, p)
        Raw inputs, never copied as a whole.
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
        """Return the same rows with some of the inputs; nothing is copied."""
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
        )

    def sampled_rows(self, size: int, first: int = 0, *, compact: bool = False) -> "RowBlocks":
        """Return about ``size`` of the rows, spread evenly, with weights that sum to one again.

        Another ``first``, below the number of rows over ``size``, gives other rows.
        """
        del compact  # all rows are in memory anyway
        used = np.arange(self.n_samples) if self._order is None else self._order
        present = used[self.weights[used] > 0.0]
        chosen = present[first :: max(len(present) // size, 1)]
        return RowBlocks(
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
