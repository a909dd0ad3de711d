"""Candidates of the search for states: fits to a training part, scored on a validation part."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.candidates import PathPoint, smallest_good
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import on_allowed_inputs, train
from bcd_implicit.validation_rows import validation_losses, validation_weights

__all__ = ["DENSE", "REFIT", "SETTLE", "Budget", "CandidateFits"]

Array = NDArray[np.float64]


class Budget(NamedTuple):
    """Most steps of a fit, and when it ends before: see `bcd_implicit.training.train`."""

    max_iter: int
    tol: float
    window: int


DENSE = Budget(30, 1e-3, 10)
# Two steps that gain so little are the end: of eight steps each, noisy rows spare a third, and the
# same inputs were found in 28 of 28 samples.
REFIT = Budget(8, 1e-4, 2)
SETTLE = Budget(60, 1e-3, 10)


class CandidateFits:
    """Candidates with states, fitted on a training part and scored on a validation part.

    Parameters
    ----------
    data : RowBlocks
        All rows of both parts.
    train_data, validation_data : RowBlocks
        In the same units; the weights of each sum to one.
    problem : TrainingProblem
    rng : numpy.random.Generator
        For the random starts of the dense fits.
    monitor : Monitor
    fixed_l2 : bool
        Whether ``l2`` stays where it is.

    Attributes
    ----------
    path : list of PathPoint
        The candidates in the order of their fits.
    best : PathPoint or None
        The best so far.
    chosen_weights : ndarray of shape (p,)
        Weights of the groups, infinite for inputs that were not chosen.
    """

    def __init__(
        self,
        data: RowBlocks,
        train_data: RowBlocks,
        validation_data: RowBlocks,
        problem: TrainingProblem,
        rng: np.random.Generator,
        monitor: Monitor,
        fixed_l2: bool,
    ) -> None:
        self.data = data
        self.train_data, self.validation_data = train_data, validation_data
        self.problem, self.rng, self.monitor = problem, rng, monitor
        self.fixed_l2 = fixed_l2
        self.weights = validation_weights([validation_data])
        self.group_weights = self.chosen_weights = problem.group_weights
        self.path: list[PathPoint] = []
        self.best: PathPoint | None = None
        self._least: PathPoint | None = None  # of all fits, candidates or not
        self._began: Parameters | None = None  # of the last fit

    def fit(self, alpha: float, l2: float, start: Parameters | None, budget: Budget) -> PathPoint:
        """Fit and score one candidate; raises KeyboardInterrupt after keeping what there is."""
        problem = replace(self.problem, alpha=alpha, l2=l2, group_weights=self.group_weights)
        found = on_allowed_inputs(
            self.train_data,
            problem,
            start,
            lambda data, allowed, begun: train(
                data,
                allowed,
                start=begun,
                rng=self.rng,
                monitor=self.monitor,
                **budget._asdict(),
            ),
        )
        self._began, parameters = found.began, found.point.parameters
        losses = validation_losses(self.validation_data, problem, parameters)
        loss = float(self.weights @ losses)
        point = PathPoint.of(alpha, l2, parameters, losses, loss, problem.groups)
        if self._least is None or loss < self._least.loss:
            self._least = point
        if found.interrupted:
            raise KeyboardInterrupt
        return point

    @property
    def empty_loss(self) -> float:
        """Loss of the empty model, in which eliminations end, or of a worse one."""
        return max(point.loss for point in self.path)

    def smallest_support(self) -> PathPoint:
        """Return the candidate with the fewest inputs that is good enough."""
        return smallest_good(self.path, self.weights, self.empty_loss)

    def losses_of(self, point: PathPoint) -> Array:
        """Return validation losses of a candidate of this fold or, trained on here, of another."""
        if any(point is one for one in self.path):
            return point.losses
        self.exclude(~point.support)
        return self.fit(point.alpha, point.l2, point.parameters, SETTLE).losses

    def exclude(self, outside: BoolArray) -> None:
        """Give infinite weights to these inputs, and to no others."""
        self.group_weights = np.where(outside, np.inf, self.problem.group_weights)
