"""Raw data made ready for training: canonical rows, standardised units, groups side by side."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit import rows as row_rules
from bcd_implicit._typing import IntArray
from bcd_implicit.candidates import PathPoint
from bcd_implicit.losses import SquaredLoss
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.rows import canonical_rows, fold_rows
from bcd_implicit.scaling import Scaling
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData

__all__ = ["Prepared", "PreparedData", "SearchParts", "Units"]

Array = NDArray[np.float64]


class SearchParts(NamedTuple):
    """Rows on which strengths are tried: all of them, and pairs of training and validation."""

    data: RowBlocks
    folds: list[tuple[RowBlocks, RowBlocks]]


@dataclass(frozen=True)
class Units:
    """The problem in the units and the order of inputs in which it is solved, and the way back.

    Attributes
    ----------
    problem : TrainingProblem
        With groups of inputs, these stand side by side.
    scaling : Scaling
        Of the inputs in their original order.
    groups, order : ndarray of int, shape (p,), optional
        Labels of the inputs, and the inputs in the order in which groups stand side by side,
        unless they do already.
    """

    problem: TrainingProblem
    scaling: Scaling
    groups: IntArray | None
    order: IntArray | None

    def inside(self, parameters: Parameters) -> Parameters:
        """Return parameters of the inputs in their original order in the order of the problem."""
        return parameters if self.order is None else parameters.only(self.order)

    def restored(self, parameters: Parameters) -> Parameters:
        """Undo `inside`."""
        if self.order is None:
            return parameters
        return parameters.among(self.order, len(self.order))

    def restored_weights(self, group_weights: Array) -> Array:
        """Return group weights in the original order of the inputs."""
        weights = group_weights.copy()
        if self.order is not None:
            weights[self.order] = group_weights
        return weights

    def restored_point(self, point: PathPoint) -> PathPoint:
        """Return a candidate in the original order of the inputs."""
        return PathPoint.of(
            point.alpha * self.scaling.unit,
            point.l2,
            self.scaling.reported(self.restored(point.parameters)),
            point.losses,
            point.loss,
            self.groups,
        )


@dataclass(frozen=True)
class Prepared(Units):
    """Data made ready for training."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of rows in use, equal ones merged."""

    @abstractmethod
    def blocks(self) -> TrainingData:
        """Return the rows in use; their weights sum to one."""

    @abstractmethod
    def search_parts(self, rng: np.random.Generator, most: int) -> SearchParts:
        """Draw at most ``most`` rows, and split them; of few rows there may be no folds."""

    def without_rows(self) -> Units:
        """Return what is needed to put models back into raw units, without the data."""
        return Units(self.problem, self.scaling, self.groups, self.order)


@dataclass(frozen=True)
class PreparedData(Prepared):
    """Arrays in memory made ready for training.

    Attributes
    ----------
    rows : ndarray of int
        The rows in use, equal ones merged, in canonical order.
    """

    rows: IntArray
    _U: Any
    _Y: Array
    _weights: Array
    _labels: IntArray | None
    _n_threads: int

    @classmethod
    def of(
        cls,
        U: Any,
        Y: Array,
        weights: Array,
        problem: TrainingProblem,
        *,
        standardize: bool = True,
        n_threads: int = 1,
        groups: IntArray | None = None,
        labels: IntArray | None = None,
    ) -> "PreparedData":
        """Prepare checked data.

        ``labels`` are codes of classes, by which rows are stratified.
        """
        # a power of two, which rounds nothing: the units of tables and arrays are the same
        weights = np.ldexp(weights, -np.frexp(weights.max())[1])
        rows, weights = canonical_rows(U, Y, weights)
        # equal weights are to give the same bits whatever their size
        relative = weights / weights.max()
        q = Y.shape[1]
        scaling = Scaling.of_inputs(U, weights, rows, q, centred=problem.intercept)
        if not standardize:
            scaling = scaling.in_one_unit()
        if isinstance(problem.loss, SquaredLoss):
            scaling = scaling.with_targets(Y, weights, rows, centred=problem.intercept)
            Y = scaling.targets(Y)
        problem, order = side_by_side(problem, groups, scaling.unit)
        return cls(problem, scaling, groups, order, rows, U, Y, relative, labels, n_threads)

    @property
    def n_rows(self) -> int:
        """Number of rows in use, equal ones merged."""
        return len(self.rows)

    def blocks(self) -> RowBlocks:
        """Return the row blocks of the rows in use; weights sum to one."""
        return self._some(self.rows, aligned=len(self.rows) > row_rules.MERGED_ROWS)

    def search_parts(self, rng: np.random.Generator, most: int) -> SearchParts:
        """Draw at most ``most`` rows, and split them; of few rows there may be no folds."""
        folds = fold_rows(self._U, self.rows, self._labels, rng, most)
        used = self.rows
        if folds:
            used = used[np.isin(used, np.union1d(*folds[0]))]
        return SearchParts(
            self._some(used), [(self._some(part), self._some(rest)) for part, rest in folds]
        )

    def _some(self, rows: IntArray, *, aligned: bool = False) -> RowBlocks:
        return RowBlocks(
            self._U,
            self._Y,
            self._weights,
            self.scaling.centre,
            self.scaling.scale,
            self._n_threads,
            order=rows,
            columns=self.order,
            aligned=aligned,
        ).kept()


def side_by_side(
    problem: TrainingProblem, groups: IntArray | None, unit: float
) -> tuple[TrainingProblem, IntArray | None]:
    """Return the problem in a unit of the inputs, groups side by side, and the order if another."""
    problem = replace(problem, alpha=problem.alpha / unit)
    if groups is None:
        return problem, None
    order = np.argsort(groups, kind="stable")
    problem = replace(problem, group_weights=problem.group_weights[order], groups=groups[order])
    return problem, order if (np.diff(order) < 0).any() else None
