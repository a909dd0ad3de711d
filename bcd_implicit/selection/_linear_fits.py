"""Refits of the model without states, as `WarmFitter` makes those of models with states."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.linear import LinearFitter
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.training_data import TrainingData

__all__ = ["LinearRefitter"]

Array = NDArray[np.float64]

_TOLERANCE = 1e-3  # ranks 617 inputs of 26 classes as well as 1e-4, in half the time


class LinearRefitter:
    """Fits without states to one data set; see `bcd_implicit.linear.LinearFitter`.

    Parameters
    ----------
    data : TrainingData
    problem : TrainingProblem
        Every fit gives its own strengths; what belongs to states is ignored.
    """

    def __init__(self, data: TrainingData, problem: TrainingProblem) -> None:
        self._data, self.problem = data, problem
        self._fitter = LinearFitter(data, problem)

    def on(self, data: TrainingData) -> "LinearRefitter":
        """Return a fitter to other rows."""
        return LinearRefitter(data, self.problem)

    def empty(self) -> Parameters:
        """Return the best constant prediction."""
        return self._fitter.constant()

    def empty_loss(self) -> float:
        """Return the loss of the best constant prediction."""
        return self._fitter.loss(self.empty())

    def refit(
        self, problem: TrainingProblem, start: Parameters | None, inside: BoolArray
    ) -> Parameters:
        """Fit with some of the inputs alone."""
        if inside.all():
            return self._fitter.fit(problem, start, _TOLERANCE)
        columns = np.flatnonzero(inside)
        some = problem.only(columns)
        begun = None if start is None else start.only(columns)
        fitted = LinearFitter(self._data.only(columns), some).fit(some, begun, _TOLERANCE)
        return fitted.among(columns, len(inside))

    def gradient_norms(self, problem: TrainingProblem, parameters: Parameters) -> Array:
        """Return for each input the norm of the gradient of its group."""
        return self._fitter.gradient_norms(parameters)
