"""Training data in memory, in blocks of rows.

Every pass maps a function over fixed blocks of rows and adds what it returns in a fixed order, so
that the result has the same bits for any number of threads. The states live in the block they
belong to. BLAS runs on one thread inside a block; the blocks run in parallel.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bcd_implicit._threads import in_order, single_threaded_blas
from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block, StateBlock
from bcd_implicit.training_data import Sums, TrainingData

__all__ = ["BlockedRows", "RowBlocks", "sample_step", "shares"]

Array = NDArray[np.float64]
AnyBlock = TypeVar("AnyBlock", bound=Block)

_BLOCK_ENTRIES = 2**18  # of the inputs of a block, 2 MB: stays in the cache, fills a BLAS call
_BLOCK_ROWS = (256, 8192)
_SAMPLE = 256  # most rows of `RowBlocks.sampled`
_SHORT = 64  # up to so many states the adjoint is solved directly, and needs no warm start


class BlockedRows(Generic[AnyBlock]):
    """Rows in memory, standardised on the fly, behind a map over blocks.

    Parameters
    ----------
    block : type of Block
    U, Y, weights, centre, scale, n_threads, order, columns
        As in `RowBlocks`; the weights need not sum to one.
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
        self._sample = sample
        low, high = _BLOCK_ROWS
        size = min(max(_BLOCK_ENTRIES // max(self.n_inputs, 1), low), high)
        self.blocks = [
            block(self, slice(start, min(start + size, self.n_samples)))
            for start in range(0, self.n_samples, size)
        ]
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
        """Return targets and weights of a block."""
        rows = self._rows(block)
        return self.Y[rows], self.weights[rows]

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

    def sum(self, function: Callable[[AnyBlock], Sums], *, solves: bool = False) -> Sums:
        """Add what ``function`` returns for the blocks, entry by entry of its tuple.

        As `map`, but only a few results are held at a time.
        """
        del solves  # the blocks see to their states
        self.passes += 1
        with closing(self._results(function)) as results:
            first = next(results)
            total = list(first)
            for sums in results:
                for k, value in enumerate(sums):
                    total[k] = total[k] + value
        return cast(Sums, getattr(first, "_make", tuple)(total))

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
        Nonnegative weights that sum to one.
    centre, scale : ndarray of shape (p,)
        The inputs are ``(U - centre) / scale``.
    n_threads : int
        Threads that work on blocks; the results do not depend on it.
    order : ndarray of int, optional
        The rows to use, in this order; all by default. They are gathered block by block.
    columns : ndarray of int, optional
        The inputs to use; all by default. ``centre`` and ``scale`` are those of all inputs.

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
    ) -> None:
        present = np.flatnonzero(weights if order is None else weights[order])
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
        )

    def sampled_rows(self, size: int, first: int = 0, *, compact: bool = False) -> "RowBlocks":
        """Return about ``size`` of the rows, spread evenly, with weights that sum to one again.

        Another ``first``, below the number of rows over ``size``, gives other rows.
        """
        del compact  # all rows are in memory anyway
        used = np.arange(self.n_samples) if self._order is None else self._order
        present = used[self.weights[used] > 0.0]
        chosen = present[first :: max(len(present) // size, 1)]
        weights = np.zeros_like(self.weights)
        weights[chosen] = shares(self.weights[chosen])
        return RowBlocks(
            self.U,
            self.Y,
            weights,
            self._centre,
            self._scale,
            self.n_threads,
            chosen,
            self._columns,
        )

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


def shares(weights: Array) -> Array:
    """Return weights that sum to one; equal ones have the same bits whatever their size."""
    relative: Array = weights / weights.max()
    sum_to_one: Array = relative / relative.sum()
    return sum_to_one


def sample_step(n: int) -> int:
    """Return which part of ``n`` rows, one in how many, is a sample of a few hundred."""
    return max(-(-n // _SAMPLE), 1)
