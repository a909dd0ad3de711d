"""Training data in a table: passes over its parts, and what is remembered between them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._threads import single_threaded_blas
from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import CompactBlock, Memory, PassBlock
from bcd_implicit.coding import Coding
from bcd_implicit.part_rows import Part, Rows
from bcd_implicit.rows import are_few
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.sums import Sums, values
from bcd_implicit.tables import Table
from bcd_implicit.training_data import TrainingData

__all__ = ["PartedRows", "take_rows"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Pass:
    """One pass: the same for all parts."""

    rows: Rows
    function: Callable[[Any], Any]
    block: type[PassBlock]
    units: tuple[float, float]
    solves: bool

    def on(self, block: PassBlock) -> Any:
        """Return the sums of a block."""
        sums = self.function(block)
        block.leave()
        return sums


def run_part(
    U: NDArray[Any],
    y: NDArray[Any],
    w: NDArray[Any] | None,
    part: Part,
    memory: tuple[list[Memory] | None, ...] | None,
    job: _Pass,
) -> Any:
    """Return the sums of a part, and with ``job.solves`` what its blocks remember."""
    rows = job.rows.of(job.block, U, y, w, part)
    nothing = [None] * len(rows.blocks)
    memories = [one or nothing for one in memory or (None, None, None)]
    for block, accepted, tried, spare in zip(rows.blocks, *memories, strict=True):
        block.recall(accepted, tried, spare, job.units)
    sums = None
    if rows.blocks:
        with single_threaded_blas():
            sums = rows.total(job.on)
    tried = [block.memory() for block in rows.blocks]
    rows.blocks.clear()  # they point back to their rows, which would live until garbage collection
    return (sums, tried) if job.solves else sums


def take_rows(
    U: NDArray[Any],
    y: NDArray[Any],
    w: NDArray[Any] | None,
    places: IntArray,
    coding: Coding | None,
    columns: IntArray | None,
) -> tuple[NDArray[Any], NDArray[Any], Array]:
    """Return some rows of a part: with ``coding`` of those of positive weight, else of all."""
    weights = np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64)
    if coding is not None:
        weights = coding.weights(y, w)
        places = np.flatnonzero(weights > 0.0)[places]
    taken = U[places] if columns is None else U[places[:, None], columns]
    return taken, y[places], weights[places]


class PartedRows(TrainingData):
    """Training data that lie in a table: a few parts are in memory at a time.

    Parameters
    ----------
    table : Table
    parts : list of Part
    rows : Rows
    n_states : int
        Decides with the memory of the table how much is remembered of the states.
    n_threads : int
    gather : callable
        ``gather(ranks, columns)`` returns rows in memory as `RowBlocks`.
    """

    def __init__(
        self,
        table: Table,
        parts: list[Part],
        rows: Rows,
        n_states: int,
        n_threads: int,
        gather: Callable[[IntArray, IntArray | None], RowBlocks],
    ) -> None:
        self._table, self._parts, self._rows, self._gather = table, parts, rows, gather
        self._n_states = n_states
        self.n_threads, self.n_samples = n_threads, rows.level.size
        self.n_inputs = table.shape[1] if rows.columns is None else len(rows.columns)
        self.n_outputs = rows.coding.n_outputs
        # of accepted and tried states
        fits = 2 * self.n_samples * n_states <= table.state_entries
        self._block: type[PassBlock] = PassBlock if fits else CompactBlock
        self._accepted: list[Memory] | None = None
        self._tried: list[Memory] | None = None
        self._replaced: list[Memory] | None = None
        self._units = 1.0, 1.0  # of the first two

    def only(self, columns: IntArray) -> "PartedRows":
        """Return the same rows with some of the inputs."""
        if self._rows.columns is not None:
            columns = self._rows.columns[columns]
        return self._with(replace(self._rows, columns=columns))

    def sampled_rows(self, size: int, first: int = 0, *, compact: bool = False) -> TrainingData:
        """Return about ``size`` of the rows, spread evenly, with weights that sum to one again.

        Few rows are gathered in memory; of others, with ``compact``, only a byte a state is kept.
        """
        level = self._rows.level.every(max(self.n_samples // size, 1), first)
        merged = any(part.weights is not None for part in self._parts)
        if merged or are_few(level.size, self.n_inputs):
            return self._gather(level.ranks(), self._rows.columns)
        with self.threads():
            sampled = self._with(self._rows.weighed(level, self._table, self._parts))
        if compact:
            sampled._block = CompactBlock
        return sampled

    def in_memory(self) -> RowBlocks:
        """Return the same rows in memory."""
        return self._gather(self._rows.level.ranks(), self._rows.columns)

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Keep the threads, and BLAS on one thread each, while the context lasts."""
        with self._table.running(self.n_threads):
            yield

    def sum(self, function: Callable[[Any], Sums], *, solves: bool = False) -> Sums:
        """Add what ``function`` returns for the blocks of all parts."""
        self.passes += 1
        memories = None
        if self._accepted is not None or self._tried is not None:
            nothing = [None] * len(self._parts)
            spare = self._spare() if solves else None
            if solves:
                self._tried = None  # what is found takes its place: not three of them at a time
            known = self._accepted or nothing, self._tried or nothing, spare or nothing
            memories = list(zip(*known, strict=True))
        total, tried = self._table.total(
            run_part,
            [(part,) for part in self._parts],
            _Pass(self._rows, function, self._block, self._units, solves),
            memories,
            remembers=solves,
        )
        if solves:
            self._tried, self._units = tried, (self._units[0], 1.0)
        return values(cast(Sums, total))

    def _spare(self) -> list[Memory] | None:
        """Return what may be overwritten: a trial that was not accepted, or what one replaced."""
        if not self._table.overwrites:
            return None
        if self._tried is not self._accepted:
            return self._tried
        return self._replaced

    def start_states(self, n: int) -> None:
        """Forget all states."""
        del n  # known from the start
        self._accepted = self._tried = self._replaced = None
        self._units = 1.0, 1.0

    def scale_trial(self, s: float) -> None:
        """Multiply the states of the trial."""
        self._units = self._units[0], s * self._units[1]

    def accept_trial(self) -> None:
        """Make the states of the trial the accepted ones."""
        self._replaced = self._accepted if self._table.overwrites else None
        self._accepted, self._units = self._tried, (self._units[1], self._units[1])

    def _with(self, rows: Rows) -> "PartedRows":
        return PartedRows(
            self._table, self._parts, rows, self._n_states, self.n_threads, self._gather
        )
