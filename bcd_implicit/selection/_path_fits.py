"""The models of a regularisation path, in both directions, and the strength that empties it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import whole_groups
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.blocks import Block
from bcd_implicit.fits import Fit
from bcd_implicit.linear import LinearFitter, largest_strength
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.selection._fits import Start, WarmFitter, has_constants
from bcd_implicit.selection._grid import Grid

__all__ = ["PathStep", "follow_path"]

Array = NDArray[np.float64]

# Of the largest strength of a grid, or of the default one, which a given grid may exceed by far:
# where the random start begins.
_DENSE_PART = 0.01
_WEAKER = (0.3, 0.3)  # of the last one, how strong the next is where without D nothing is left
_CLOSE = 1.02  # between the smallest strength that empties the path and one that does not
_MOST_BEYOND = 200  # strengths beyond the grid, until the model is empty
_LEAST_RATIO = 1.05  # of them
_CONSTANT_STEPS = 50  # most, of a fit without inputs


@dataclass(frozen=True)
class PathStep:
    """A model on the path; its parameters hold the columns in use alone.

    Attributes
    ----------
    alpha, l2 : float
    columns : ndarray of int
        The inputs that the parameters are of.
    parameters : Parameters
    objective, loss : float
        True objective with and without the penalties.
    residual : float
        Largest violation of the optimality conditions over all inputs.
    gradient_norms : ndarray of shape (p,)
        Norm of the gradient of the group of every input.
    n_iter : int
    """

    alpha: float
    l2: float
    columns: IntArray
    parameters: Parameters
    objective: float
    loss: float
    residual: float
    gradient_norms: Array
    n_iter: int

    @classmethod
    def of(cls, fit: Fit, gradient_norms: Array, problem: TrainingProblem) -> "PathStep":
        """Keep what is needed of a fit to all inputs."""
        parameters, point = fit.point.parameters, fit.point
        columns = np.flatnonzero(parameters.active)
        return cls(
            alpha=problem.alpha,
            l2=problem.l2,
            columns=columns,
            parameters=parameters.only(columns),
            objective=point.objective,
            loss=point.objective - problem.penalty(parameters),
            residual=point.residual,
            gradient_norms=gradient_norms,
            n_iter=fit.n_iter,
        )

    @classmethod
    def as_it_is(
        cls, fitter: WarmFitter, problem: TrainingProblem, parameters: Parameters
    ) -> "PathStep":
        """Keep parameters without a step, C and d refitted; gradients are not taken."""
        inside = whole_groups(problem.groups, parameters.active)
        fit = fitter.keep(problem, parameters, inside, 0)
        return cls.of(fit, np.full(len(inside), np.nan), problem)

    def value(self, problem: TrainingProblem) -> float:
        """Return the objective that the model has in a problem with other strengths."""
        return self.loss + problem.only(self.columns).penalty(self.parameters)

    def full(self, p: int) -> Parameters:
        """Return the parameters of all ``p`` inputs."""
        return self.parameters.among(self.columns, p)


class _Path:
    """Fits along a path, and the empty model that it ends in.

    Without intercepts, states that are not zero without inputs are constants of use: the empty
    model is then a fit of them, and another at every strength.
    """

    def __init__(self, fitter: WarmFitter, penalty: Callable[[float], float]) -> None:
        self.fitter, self.penalty = fitter, penalty
        self.p = fitter.data.n_inputs
        fitted = LinearFitter(fitter.data, fitter.problem)
        self.empty = fitted.constant()
        # without D, no gradient leads to an input: states that are nothing have no output
        feedthrough = fitter.problem.feedthrough
        self.pull = fitted.gradient_norms(self.empty) if feedthrough else np.zeros(self.p)
        self.empty_loss, self.size = _loss_and_size(fitter, self.empty)
        self.constants = has_constants(fitter.problem)

    def at(self, alpha: float, before: PathStep, *, back: bool = False) -> PathStep:
        """Fit at a strength from the model of another; the way back takes twice the steps.

        On the way up, fewer inputs are tried, too: most of what a weak strength lets in is noise.
        """
        problem = self.problem(alpha)
        start = Start(before.full(self.p), self.value(before, alpha), before.gradient_norms)
        most = self.fitter.max_iter if back else -(-self.fitter.max_iter // 2)
        found, norms = self.fitter.fit(problem, start, most)
        if not back:
            found, norms = self.fitter.thinned(problem, found, norms)
        return PathStep.of(found, norms, problem)

    def empty_at(self, alpha: float) -> PathStep:
        """Return the empty model."""
        problem, none = self.problem(alpha), np.empty(0, dtype=np.intp)
        if self.constants:
            nothing = np.zeros(self.p, dtype=np.bool_)
            point = self.fitter.keep(problem, self.empty, nothing, _CONSTANT_STEPS).point
            start = Start(point.parameters, point.objective, np.zeros(self.p))
            return PathStep.of(*self.fitter.fit(problem, start, 0), problem)  # with all gradients
        loss, parameters = self.empty_loss, self.empty.only(none)
        return PathStep(alpha, problem.l2, none, parameters, loss, loss, 0.0, self.pull, 0)

    def problem(self, alpha: float) -> TrainingProblem:
        return replace(self.fitter.problem, alpha=alpha, l2=self.penalty(alpha))

    def value(self, step: PathStep, alpha: float) -> float:
        """Return the objective that the model of a step has at another strength."""
        return step.value(self.problem(alpha))

    def ends(self, step: PathStep) -> bool:
        """Whether the empty model is stationary, and nothing better came from the denser side."""
        empty = self.empty_at(step.alpha)
        better = len(step.columns) > 0 and step.objective < empty.objective
        return step.alpha >= self.stationary(empty) and not better

    def stationary(self, empty: PathStep) -> float:
        """Return the smallest strength at which no group leaves zero by itself."""
        return largest_strength(self.fitter.problem, empty.gradient_norms)

    def dense(self, alpha: float) -> PathStep:
        """Fit with all inputs from a random start."""
        problem = self.problem(alpha)
        fit = self.fitter.dense(problem, np.ones(self.p, dtype=np.bool_))
        return PathStep.of(fit, np.zeros(self.p), problem)  # all inputs are in already

    def upwards(self, grid: Array, *, until_empty: bool) -> list[PathStep]:
        """Fit from dense to sparse, on beyond the grid until the model is empty.

        It goes on at the ratio of the grid, unless that is so small that it might not get there.
        """
        top = min(float(grid[-1]), self.size) if self.size > 0.0 else float(grid[-1])
        current = self.dense(max(float(grid[0]), _DENSE_PART * top))
        for part in _WEAKER:
            if self.fitter.problem.feedthrough or len(current.columns):
                break
            current = self.dense(part * current.alpha)
        steps: list[PathStep] = []
        alphas = [float(alpha) for alpha in grid]
        while alphas:
            current = self.at(alphas.pop(0), current)
            steps.append(current)
            if until_empty and self.ends(steps[-1]):
                break
            if until_empty and not alphas and len(steps) < len(grid) + _MOST_BEYOND:
                alphas.append(steps[-1].alpha * max(float(grid[1] / grid[0]), _LEAST_RATIO))
        return steps

    def smallest_empty(self, steps: list[PathStep]) -> PathStep:
        """Bisect between the last model that is not empty and the next, which is the last step."""
        high = steps[-1].alpha
        stationary = self.stationary(self.empty_at(high))
        if len(steps) > 1:
            low = steps[-2]
        elif 0.0 < stationary < high:  # the grid begins where the model is empty already
            low = self.dense(stationary)
            if self.ends(low):
                return self.empty_at(stationary)
        else:
            return self.empty_at(high)
        while high > _CLOSE * low.alpha:
            middle = self.at(float(np.sqrt(low.alpha * high)), low)
            if self.ends(middle):
                high = middle.alpha
            else:
                low = middle
        return self.empty_at(high)

    def downwards(self, steps: list[PathStep]) -> None:
        """Go back from sparse to dense, taking over what has a lower objective."""
        for i in range(len(steps) - 2, -1, -1):
            if self.value(steps[i + 1], steps[i].alpha) < steps[i].objective:
                steps[i] = self.at(steps[i].alpha, steps[i + 1], back=True)


def follow_path(
    fitter: WarmFitter,
    grid: Grid,
    penalty: Callable[[float], float],
    empty: BoolArray | None = None,
) -> tuple[list[PathStep], float]:
    """Return the models at rising strengths, and the smallest strength whose model is empty.

    The path begins dense, with a random start; without D at a weaker strength if all states die.
    Each model starts from the denser one before it, and goes on with half of its groups where these
    do better. Then the path goes back: where the sparser model has a lower objective, the fit is
    repeated from there, so that the objective never falls as the strength rises.

    Parameters
    ----------
    fitter : WarmFitter
    grid : Grid
        Strengths that are not given go up to the largest gradient that an input of unit deviation
        could have at the empty model, and on at the same ratio, or a larger one, until the model is
        empty. The last one is then the smallest at which it is, found by bisection.
    penalty : callable
        Gives the penalty of C at a strength.
    empty : ndarray of bool, optional
        Of the given strengths, those at which the model is to be empty.

    Returns
    -------
    steps : list of PathStep
    alpha_max : float
        Not a number if strengths are given.
    """
    path = _Path(fitter, penalty)
    alphas = grid.alphas
    if alphas is not None:
        none = np.zeros(len(alphas), dtype=np.bool_) if empty is None else empty
        steps = [] if none.all() else path.upwards(alphas[~none], until_empty=False)
        path.downwards(steps)
        rest = iter(steps)
        return [
            path.empty_at(float(alpha)) if is_empty else next(rest)
            for alpha, is_empty in zip(alphas, none, strict=True)
        ], np.nan
    top = path.size if path.size > 0.0 else 1.0  # constant targets: any strength will do
    steps = path.upwards(grid.up_to(top), until_empty=True)
    if path.ends(steps[-1]):
        steps[-1] = path.smallest_empty(steps)
    path.downwards(steps)
    return steps, steps[-1].alpha if not len(steps[-1].columns) else np.inf


def _loss_and_size(fitter: WarmFitter, empty: Parameters) -> tuple[float, float]:
    """Return the loss of the empty model and the root mean square of its gradient.

    No gradient norm of a single input of unit deviation is above the latter.
    """
    data, loss = fitter.data, fitter.problem.loss

    def sums(block: Block) -> tuple[float, float]:
        Y, w = block.targets()
        F = np.tile(empty.d, (len(Y), 1))
        G = loss.gradient(Y, F)
        return loss.value(Y, F, w), float(w @ np.einsum("ij,ij->i", G, G))

    value, square = data.sum(sums)
    return value, float(np.sqrt(square))
