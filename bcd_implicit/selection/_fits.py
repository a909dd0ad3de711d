"""Warm-started fits that read only the inputs they need, and elimination of the smallest groups."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import first_of_groups, group_numbers, whole_groups
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.exact import Point, Trial, attempt, evaluate
from bcd_implicit.fits import Fit
from bcd_implicit.group_sizes import largest_groups
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.training import train
from bcd_implicit.training_data import TrainingData

__all__ = ["Start", "WarmFitter", "group_count", "has_constants"]

Array = NDArray[np.float64]

_SLACK = 1.01  # a gradient this much above its threshold is a violation
_MOST_NEW = 64  # inputs that enter at a time, or as many as there are
_PARTS = (0.1, 0.01)  # of the largest norm, below which all groups together are tried without
# Of the inputs, up to which fits read all of them and exclude some: gathering some, and taking the
# gradients of the others afterwards, takes longer.
_FEW_ENTRIES = 2**15


def group_count(problem: TrainingProblem) -> int:
    """Return the number of groups of inputs."""
    return len(first_of_groups(problem))


def has_constants(problem: TrainingProblem) -> bool:
    """Whether states without inputs are constants of use: not zero, in place of intercepts."""
    return not problem.intercept and bool(problem.activation.value(np.zeros((1, 1))).any())


@dataclass(frozen=True)
class Start:
    """Parameters to start from, their objective at the new strengths, and gradients.

    ``gradient_norms`` holds for each input the norm of the gradient of its group.
    """

    parameters: Parameters
    objective: float
    gradient_norms: Array


class WarmFitter:
    """Fits to one data set from warm starts, with the inputs that are in use and few others.

    Only columns in use or violating the optimality conditions are read while a fit runs, so that
    its cost follows the size of the support; the gradients of all inputs are taken once after it.
    Where all inputs of all rows are few numbers, all are read.
    A KeyboardInterrupt ends all of them, but for `settle`.

    Parameters
    ----------
    data : TrainingData
    problem : TrainingProblem
        Every fit gives its own strengths.
    max_iter : int
        Most exact steps of a fit.
    tol, window : float, int
        See `bcd_implicit.training.train`.
    rng : numpy.random.Generator
    monitor : Monitor
    dense_iter : int
        Most exact steps of a fit from random starts.
    n_init : int
        Number of random starts.
    """

    def __init__(
        self,
        data: TrainingData,
        problem: TrainingProblem,
        *,
        max_iter: int,
        tol: float,
        rng: np.random.Generator,
        monitor: Monitor,
        window: int = 10,
        dense_iter: int = 30,
        n_init: int = 1,
    ) -> None:
        self.data, self.problem = data, problem
        self._reads_all = data.n_samples * data.n_inputs <= _FEW_ENTRIES
        self.max_iter, self.tol, self.window = max_iter, tol, window
        self.dense_iter, self.n_init = dense_iter, n_init
        self.rng, self.monitor = rng, monitor

    def on(self, data: TrainingData) -> "WarmFitter":
        """Return a fitter with the same budget to other rows."""
        return WarmFitter(
            data,
            self.problem,
            max_iter=self.max_iter,
            tol=self.tol,
            rng=self.rng,
            monitor=self.monitor,
            window=self.window,
            dense_iter=self.dense_iter,
            n_init=self.n_init,
        )

    def dense(self, problem: TrainingProblem, inside: BoolArray) -> Fit:
        """Fit with some of the inputs from random starts."""
        data, some, columns = self._some(inside, problem)
        fit = _finished(self._train(data, some, None, self.dense_iter))
        return fit.among(columns, len(inside))

    def fit(self, problem: TrainingProblem, start: Start, max_iter: int) -> tuple[Fit, Array]:
        """Fit at other strengths; return what `Start` needs of the next gradients too.

        Inputs that were out and want in, by the gradients of the start, may enter.
        """
        wanted = _wanted(problem, start.gradient_norms, start.parameters.active)
        inside = whole_groups(problem.groups, start.parameters.active | wanted)
        if inside.any():
            data, some, columns = self._some(inside, problem)
            parameters = start.parameters.only(columns)
            begun = _pruned(data, some, parameters, start.objective)
            found = _finished(self._train(data, some, begun, max_iter))
            found = found.among(columns, len(inside))
            point = found.point
            if len(columns) < len(inside):
                point = self._everywhere(problem, point.parameters)
            elif not inside.all():
                point = point.allowed(problem)
            found = replace(found, point=point)
        else:
            point = self._everywhere(problem, start.parameters)
            found = Fit(point, start.parameters, 0, 0.0, 1.0, converged=True, interrupted=False)
        return found, _gradient_norms(problem, found.point)

    def thinned(self, problem: TrainingProblem, found: Fit, norms: Array) -> tuple[Fit, Array]:
        """Go on with the larger half of the groups in use, as long as the objective is less for it.

        Many inputs that fit the noise together hold each other: none leaves by itself, though all
        of them are worth less than they cost. Takes and returns what `fit` returns.
        """
        while True:
            parameters = found.point.parameters
            used = len(np.unique(group_numbers(problem)[parameters.active]))
            if used < 2:
                return found, norms
            inside = largest_groups(problem, parameters, (used + 1) // 2)
            best, smaller = found.point.objective, parameters.restricted(inside)
            # no step needs the derivatives, which take longer
            if self.max_iter == 0 and self._objective(problem, smaller, inside) >= best:
                return found, norms
            fit = self.keep(problem, smaller, inside, rival=best)
            if fit.point.objective >= best:
                return found, norms
            again = Start(fit.point.parameters, fit.point.objective, np.zeros(len(inside)))
            steps = found.n_iter + fit.n_iter
            found, norms = self.fit(problem, again, 0)
            if not found.point.parameters.active.any():  # but something may want in
                again = Start(found.point.parameters, found.point.objective, norms)
                found, norms = self.fit(problem, again, self.max_iter)
                steps += found.n_iter
            found = replace(found, n_iter=steps)

    def keep(
        self,
        problem: TrainingProblem,
        start: Parameters,
        inside: BoolArray,
        max_iter: int | None = None,
        rival: float = np.inf,
    ) -> Fit:
        """Fit with some of the inputs alone; see `bcd_implicit.training.train` for the rival."""
        return _finished(self.settle(problem, start, inside, max_iter, rival))

    def settle(
        self,
        problem: TrainingProblem,
        start: Parameters,
        inside: BoolArray,
        max_iter: int | None = None,
        rival: float = np.inf,
    ) -> Fit:
        """As `keep`, but an interrupted fit is returned."""
        data, some, columns = self._some(inside, problem)
        steps = self.max_iter if max_iter is None else max_iter
        fit = self._train(data, some, start.only(columns), steps, rival)
        return fit.among(columns, len(inside))

    def refit(
        self, problem: TrainingProblem, start: Parameters | None, inside: BoolArray
    ) -> Parameters:
        """Return the parameters of `keep`, or without a start those of `dense`."""
        if start is None:
            return self.dense(problem, inside).point.parameters
        return self.keep(problem, start, inside).point.parameters

    def gradient_norms(self, problem: TrainingProblem, parameters: Parameters) -> Array:
        """Return for each input the norm of the gradient of its group, all inputs considered."""
        return _gradient_norms(problem, self._everywhere(problem, parameters))

    def _some(
        self, inside: BoolArray, problem: TrainingProblem
    ) -> tuple[TrainingData, TrainingProblem, IntArray]:
        """Return data and problem of which only some inputs may be used, and what inputs it has."""
        columns = np.arange(len(inside))
        if inside.all():
            return self.data, problem, columns
        if self._reads_all:
            weights = np.where(inside, problem.group_weights, np.inf)
            return self.data, replace(problem, group_weights=weights), columns
        columns = columns[inside]
        return self.data.only(columns), problem.only(columns), columns

    def _train(
        self,
        data: TrainingData,
        problem: TrainingProblem,
        start: Parameters | None,
        steps: int,
        rival: float = np.inf,
    ) -> Fit:
        return train(
            data,
            problem,
            start=start,
            max_iter=steps,
            tol=self.tol,
            window=self.window,
            n_init=self.n_init,
            rng=self.rng,
            monitor=self.monitor,
            rival=rival,
        )

    def _objective(
        self, problem: TrainingProblem, parameters: Parameters, inside: BoolArray
    ) -> float:
        """Return the objective of parameters that use some of the inputs, C and d refitted."""
        data, some, columns = self._some(inside, problem)
        return _attempt(data, some, parameters.only(columns)).objective

    def _everywhere(self, problem: TrainingProblem, parameters: Parameters) -> Point:
        """Return the point with its gradient in all inputs."""
        self.data.start_states(problem.n_states)
        with self.data.threads():
            return evaluate(self.data, problem, parameters)


def _finished(fit: Fit) -> Fit:
    """Return a fit, or go on with the KeyboardInterrupt that ended it."""
    if fit.interrupted:
        raise KeyboardInterrupt
    return fit


def _gradient_norms(problem: TrainingProblem, point: Point) -> Array:
    """Return for each input the norm of the gradient of its group."""
    n, gradient = problem.n_states, point.gradient
    return group_norms(gradient[:n, n:-1], gradient[n:, n:-1], problem.groups)


def _wanted(problem: TrainingProblem, gradient_norms: Array, inside: BoolArray) -> BoolArray:
    """Return the inputs outside whose gradient is above their threshold, the worst of them."""
    excess = np.where(inside, -np.inf, gradient_norms - _SLACK * problem.thresholds)
    found = np.flatnonzero(excess > 0.0)
    most = max(_MOST_NEW, int(np.count_nonzero(inside)))
    wanted = np.zeros(len(inside), dtype=np.bool_)
    wanted[found[np.argsort(-excess[found], kind="stable")[:most]]] = True
    return wanted


def _pruned(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters, objective: float
) -> Parameters:
    """Return the parameters without their smallest groups, if the true objective is less for it.

    A descent that ends on the kinks of an activation leaves groups that are small but not zero.
    """
    norms = group_norms(parameters.B, parameters.D, problem.groups)
    for part in _PARTS:
        inside = norms > part * norms.max(initial=0.0)
        if (parameters.active & ~inside).any():
            new = _attempt(data, problem, parameters.restricted(inside))
            if new.objective < objective:
                return new.parameters
    return parameters


def _attempt(data: TrainingData, problem: TrainingProblem, parameters: Parameters) -> Trial:
    """Return what is known of parameters without derivatives, C and d refitted."""
    data.start_states(problem.n_states)
    with data.threads():
        return attempt(data, problem, parameters)
