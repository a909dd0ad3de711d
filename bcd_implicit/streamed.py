"""Tables made ready for training, with nothing of the size of the rows in memory.

Passes come before the training: over targets and weights, and one over the inputs. Up to
`bcd_implicit.rows.MERGED_ROWS` rows, equal ones are merged and the order of the rows does not
matter, as for arrays in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit import rows as row_rules
from bcd_implicit._typing import IntArray
from bcd_implicit.coding import Coding
from bcd_implicit.moments import Moments
from bcd_implicit.part_rows import Level, Part, Rows
from bcd_implicit.parts import PartedRows, take_rows
from bcd_implicit.prepared import Prepared, SearchParts, side_by_side
from bcd_implicit.problem import TrainingProblem
from bcd_implicit.rows import are_few, deal, draw, merged_rows
from bcd_implicit.scaling import Scaling
from bcd_implicit.statistics import RowBlocks, sample_step
from bcd_implicit.survey import PartRows, look_at_rows
from bcd_implicit.tables import Table
from bcd_implicit.training_data import TrainingData

__all__ = ["StreamedData"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StreamedData(Prepared):
    """A table made ready for training."""

    _table: Table
    _parts: list[Part]
    _rows: Rows
    _canonical: IntArray | None
    _n_threads: int

    @classmethod
    def of(
        cls,
        table: Table,
        coding: Coding,
        problem: TrainingProblem,
        *,
        standardize: bool = True,
        n_threads: int = 1,
        groups: IntArray | None = None,
    ) -> "StreamedData":
        """Look at all inputs once, and decide on rows and units.

        Raises
        ------
        ValueError
            If an input is not finite, with the rows.
        """
        with table.running(n_threads):
            few = _count(table, coding) <= row_rules.MERGED_ROWS
            found: list[PartRows] = table.map(
                look_at_rows, [(start, coding, few) for start in table.starts], inputs=True
            )
        q = coding.n_outputs
        coding = replace(coding, largest=max(part.largest for part in found))
        moments = Moments.total([part.inputs for part in found])
        scaling = Scaling.of_moments(moments, q, centred=problem.intercept)
        if not standardize:
            scaling = scaling.in_one_unit()
        if coding.classes is None:
            targets = Moments.total([part.targets for part in found])
            scaling = scaling.with_target_moments(targets, centred=problem.intercept)
            coding = replace(coding, centre=scaling.target_centre, scale=scaling.target_scale)
        problem, order = side_by_side(problem, groups, scaling.unit)
        canonical = None
        if few:
            canonical, parts = _merged(found, table.starts, table.sizes)
            size = len(canonical)
        else:
            firsts = np.cumsum([0, *(part.n_used for part in found)])
            parts, size = [Part(int(first)) for first in firsts[:-1]], int(firsts[-1])
        level = Level(0, 1, size, np.nan)
        rows = Rows(coding, scaling.centre, scaling.scale, level, order)
        return cls(problem, scaling, groups, order, table, parts, rows, canonical, n_threads)

    @property
    def n_rows(self) -> int:
        """Number of rows in use, equal ones merged."""
        return self._rows.level.size

    def blocks(self) -> TrainingData:
        """Return the rows in use, of few rows a copy in memory; their weights sum to one."""
        if are_few(self.n_rows, self._table.shape[1]):
            every = np.arange(self.n_rows)
            return self._in_memory(*self._take(every, None), every, self.order)
        with self._table.running(self._n_threads):
            rows = self._rows.weighed(self._rows.level, self._table, self._parts)
        return PartedRows(
            self._table,
            self._parts,
            rows,
            self.problem.n_states,
            self._n_threads,
            self._gather,
        )

    def search_parts(self, rng: np.random.Generator, most: int) -> SearchParts:
        """Draw at most ``most`` rows, and split them; of few rows there may be no folds."""
        shuffled = draw(self.n_rows, rng, most)
        used = np.sort(shuffled)
        U, y, weights = self._take(used, None)
        folds = deal(np.searchsorted(used, shuffled), self._rows.coding.codes(y))
        whole = self._in_memory(U, y, weights, np.arange(len(used)), self.order)
        pairs = [
            (
                self._in_memory(U, y, weights, training, self.order),
                self._in_memory(U, y, weights, validation, self.order),
            )
            for training, validation in folds
        ]
        return SearchParts(whole, pairs)

    def _gather(self, ranks: IntArray, columns: IntArray | None) -> RowBlocks:
        """Return rows in memory, with the inputs that are asked for alone."""
        U, y, weights = self._take(ranks, columns)
        return self._in_memory(U, y, weights, np.arange(len(ranks)), None, columns)

    def _in_memory(
        self,
        U: NDArray[Any],
        y: NDArray[Any],
        weights: Array,
        rows: IntArray,
        order: IntArray | None,
        taken: IntArray | None = None,
    ) -> RowBlocks:
        """Return some of the gathered rows; ``taken`` are the inputs that U holds."""
        centre, scale = self.scaling.centre, self.scaling.scale
        if taken is not None:
            centre, scale = centre[taken], scale[taken]
        Y = self._rows.coding.targets(y)
        every = len(rows) == len(weights)
        return RowBlocks(
            U, Y, weights, centre, scale, self._n_threads, None if every else rows, order
        )

    def _take(
        self, ranks: IntArray, columns: IntArray | None
    ) -> tuple[NDArray[Any], NDArray[Any], Array]:
        """Read the rows of some ranks, in the order of the ranks."""
        coding: Coding | None = self._rows.coding
        places, firsts = ranks, np.array([part.first for part in self._parts])
        if self._canonical is not None:
            coding, places, firsts = None, self._canonical[ranks], np.array(self._table.starts)
        owner = np.searchsorted(firsts, places, side="right") - 1
        wanted = [np.flatnonzero(owner == i) for i in range(len(firsts))]
        arguments: Sequence[tuple[Any, ...]] = [
            (places[these] - first, coding, columns)
            for these, first in zip(wanted, firsts, strict=True)
        ]
        with self._table.running(self._n_threads):
            pieces = self._table.map(take_rows, arguments, inputs=True)
        back = np.argsort(np.concatenate(wanted), kind="stable")
        U, y, weights = (np.concatenate(column)[back] for column in zip(*pieces, strict=True))
        if self._canonical is not None:
            merged = [part.weights for part in self._parts if part.weights is not None]
            weights = np.concatenate(merged)[places]
        return U, y, weights


def _count(table: Table, coding: Coding) -> int:
    """Return the number of rows; of those of positive weight, if it decides on their merging."""
    rows = sum(table.sizes)
    alike = not table.weighted and coding.class_weights is None
    if alike or rows <= row_rules.MERGED_ROWS:
        return rows
    counts: list[int] = table.map(_count_used, [(coding,) for _ in table.sizes], inputs=False)
    return sum(counts)


def _count_used(_: None, y: NDArray[Any], w: NDArray[Any] | None, coding: Coding) -> int:
    return int(np.count_nonzero(coding.weights(y, w)))


def _merged(
    found: list[PartRows], starts: list[int], sizes: tuple[int, ...]
) -> tuple[IntArray, list[Part]]:
    """Merge equal rows; return the rows in canonical order and what they are to the parts."""
    used = np.concatenate([part.used for part in found])
    weights = np.zeros(sum(sizes))
    weights[used] = np.concatenate([part.weights for part in found])
    keys = [key for part in found for key in part.keys]
    canonical, merged = merged_rows(keys, used, weights)
    merged /= merged.max()
    sample = np.sort(canonical[:: sample_step(len(canonical))])
    parts = []
    for start, size in zip(starts, sizes, strict=True):
        inside = sample[(sample >= start) & (sample < start + size)] - start
        parts.append(Part(start, merged[start : start + size], inside))
    return canonical, parts
