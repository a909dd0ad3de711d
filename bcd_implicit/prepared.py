"""Raw arrays made ready for training: canonical rows, standardised units, groups side by side."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.candidates import PathPoint
from bcd_implicit.losses import SquaredLoss
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.rows import canonical_rows
from bcd_implicit.scaling import Scaling
from bcd_implicit.statistics import RowBlocks

__all__ = ["PreparedData"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PreparedData:
    """Data behind row blocks, and the problem in the order in which its inputs are seen there.

    Attributes
    ----------
    problem : TrainingProblem
        With groups of inputs, these stand side by side.
    rows : ndarray of int
        The rows in use, equal ones merged, in canonical order.
    scaling : Scaling
        Of the inputs in their original order.
    """

    problem: TrainingProblem
    rows: IntArray
    scaling: Scaling
    _U: Any
    _Y: Array
    _weights: Array
    _n_threads: int
    _groups: IntArray | None
    _order: IntArray | None

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
    ) -> "PreparedData":
        """Prepare checked data; see `bcd_implicit.fitting.fit_model` for the arguments."""
        rows, weights = canonical_rows(U, Y, weights)
        weights = weights / weights.max()  # before the sum: it may overflow
        weights = weights / weights.sum()
        q = Y.shape[1]
        scaling = Scaling.identity(U.shape[1], q)
        if standardize:
            scaling = Scaling.of_inputs(U, weights, rows, q, centred=problem.intercept)
        if isinstance(problem.loss, SquaredLoss):
            scaling = scaling.with_targets(Y, weights, rows, centred=problem.intercept)
            Y = scaling.targets(Y)
        order = None
        if groups is not None:
            order = np.argsort(groups, kind="stable")
            problem = replace(
                problem, group_weights=problem.group_weights[order], groups=groups[order]
            )
            if (np.diff(order) > 0).all():
                order = None  # nothing needs to be gathered
        return cls(problem, rows, scaling, U, Y, weights, n_threads, groups, order)

    def blocks(self, rows: IntArray | None = None) -> RowBlocks:
        """Return the row blocks of some of the rows, of all by default; weights sum to one."""
        chosen = self.rows if rows is None else rows
        share = np.zeros_like(self._weights)
        share[chosen] = self._weights[chosen] / self._weights[chosen].sum()
        return RowBlocks(
            self._U,
            self._Y,
            share,
            self.scaling.centre,
            self.scaling.scale,
            self._n_threads,
            order=chosen,
            columns=self._order,
        )

    def without_rows(self) -> "PreparedData":
        """Return what is needed to put models back into raw units, without the data."""
        empty = np.empty((0, 0))
        return replace(self, rows=np.empty(0, dtype=np.intp), _U=empty, _Y=empty, _weights=empty)

    def inside(self, parameters: Parameters) -> Parameters:
        """Return parameters of the inputs in their original order in the order of the blocks."""
        return parameters if self._order is None else parameters.only(self._order)

    def restored(self, parameters: Parameters) -> Parameters:
        """Undo `inside`."""
        if self._order is None:
            return parameters
        return parameters.among(self._order, len(self._order))

    def restored_weights(self, group_weights: Array) -> Array:
        """Return group weights in the original order of the inputs."""
        weights = group_weights.copy()
        if self._order is not None:
            weights[self._order] = group_weights
        return weights

    def restored_point(self, point: PathPoint) -> PathPoint:
        """Return a candidate in the original order of the inputs."""
        return replace(point, parameters=self.restored(point.parameters), groups=self._groups)
