"""How the rows of a part of a table become rows of the training."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.blocked_rows import BlockedRows
from bcd_implicit.blocks import PassBlock
from bcd_implicit.coding import Coding
from bcd_implicit.statistics import sample_step
from bcd_implicit.sums import Twofold
from bcd_implicit.tables import Table

__all__ = ["Level", "Part", "Rows"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """What the rows of one part are to the whole table.

    Attributes
    ----------
    first : int
        Rank of its first row among the rows in use.
    weights : ndarray of shape (rows,), optional
        Relative to the largest, after equal rows have been merged; then ranks are not in the order
        of the rows.
    sample : ndarray of int, optional
        With ``weights``, the rows that belong to the sample of the metric.
    """

    first: int
    weights: Array | None = None
    sample: IntArray | None = None


@dataclass(frozen=True)
class Level:
    """Rows of ranks ``first``, ``first + step``, ...

    Attributes
    ----------
    first, step, size : int
    weight : float
        Sum of their weights.
    """

    first: int
    step: int
    size: int
    weight: float

    def every(self, step: int, first: int) -> "Level":
        """Return a part of the rows, whose weight is not known yet."""
        size = len(range(first, self.size, step))
        return Level(self.first + self.step * first, self.step * step, size, np.nan)

    def ranks(self) -> IntArray:
        """Return the ranks of the rows."""
        return self.first + self.step * np.arange(self.size)


@dataclass(frozen=True)
class Rows:
    """How the rows of a table become those of the training; the same for all parts.

    Attributes
    ----------
    coding : Coding
    centre, scale : ndarray of shape (p,)
    level : Level
    columns : ndarray of int, optional
        Inputs to use.
    """

    coding: Coding
    centre: Array
    scale: Array
    level: Level
    columns: IntArray | None = None

    def of(
        self,
        block: type[PassBlock],
        U: NDArray[Any],
        y: NDArray[Any],
        w: NDArray[Any] | None,
        part: Part,
    ) -> BlockedRows[PassBlock]:
        """Return the rows in use of a part."""
        weights, order, sample = self._chosen(y, w, part)
        return BlockedRows(
            block,
            U,
            self.coding.targets(y),
            weights,
            self.centre,
            self.scale,
            order=order,
            columns=self.columns,
            aligned=True,
            weight=self.level.weight,
            sample=sample,
        )

    def weight(self, U: None, y: NDArray[Any], w: NDArray[Any] | None, part: Part) -> Twofold:
        """Return the sum of the weights of the rows in use of a part."""
        del U  # not needed
        weights, order, _ = self._chosen(y, w, part)
        return Twofold.total(weights if order is None else weights[order])

    def weighed(self, level: Level, table: Table, parts: list[Part]) -> "Rows":
        """Return the rows of a level, whose weight is found in a pass."""
        some = replace(self, level=level)
        weights = table.map(some.weight, [(part,) for part in parts], inputs=False)
        return replace(some, level=replace(level, weight=reduce(add, weights).value()))

    def _chosen(
        self, y: NDArray[Any], w: NDArray[Any] | None, part: Part
    ) -> tuple[Array, IntArray | None, IntArray]:
        """Return weights of all rows, the rows in use unless all are, and the sample of these."""
        if part.weights is not None and part.sample is not None:
            # zero times a target that is missing or huge would not be zero
            used = np.flatnonzero(part.weights)
            sample = np.searchsorted(used, part.sample)
            return part.weights, used if len(used) < len(y) else None, sample
        weights = self.coding.weights(y, w)
        present = np.flatnonzero(weights > 0.0)
        level = self.level
        begin = (level.first - part.first) % level.step
        order = present[begin :: level.step]
        place = (part.first + begin - level.first) // level.step
        step = sample_step(level.size)
        sample = np.arange(-place % step, len(order), step)
        return weights, order if len(order) < len(y) else None, sample
