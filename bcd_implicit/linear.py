"""The model without states, a group-penalised generalised linear model: the rival of the others.

It is convex and far cheaper than a model with states, so that its strengths can be chosen by
cross-validation over all folds.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.blocks import Block
from bcd_implicit.gram import InputGram
from bcd_implicit.linear_curvature import LinearCurvature, linear_sample
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.readout import feedthrough
from bcd_implicit.solvers._kernels import group_ball_residual
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.solvers.group_ball_model import refine_group_ball
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData
from bcd_implicit.working_set import working_set

__all__ = ["NO_STATES", "LinearFitter", "largest_strength"]

Array = NDArray[np.float64]

NO_STATES = 1e6  # a penalty of C that leaves only the linear part
_STEPS = 50
_BACKTRACKS = 20
_INNER_TOLERANCE = 0.1  # of a Newton step, as a part of the residual before it
_SWEEPS = 3  # in the metric, before the model of the rows
_REFINEMENTS, _LEAST_GAIN = 30, 0.02  # most, and when they end: gains as a part of all
_TOLD = 0.5  # least part of the variance of an input in the rows that the curvature is of
_FEW_COLUMNS = 128  # whose Hessian costs no more than its products, if there is one output


@dataclass(frozen=True)
class _Point:
    """D and d with the loss, its gradients, and the mean Hessian in the prediction."""

    D: Array
    d: Array
    loss: float
    gradient: Array
    d_gradient: Array
    hessian: Array


class LinearFitter:
    """Minimise ``sum_i w_i loss(y_i, D u_i + d) + sum_g threshold_g ||D_g||_F``.

    By proximal Newton steps, in which d follows D; a step is accepted only if the objective falls.
    Its model is minimised in the metric ``mean Hessian (x) Gram matrix``, which is exact for the
    squared loss. For the others the model of the rows themselves is then minimised by accelerated
    proximal steps in that metric or, with one output and few inputs, in its own matrix. Steps of
    the metric alone, extrapolated by Anderson's method, did not converge in 50 steps in half of the
    fits to the ten classes of digits; these take five to eight there, in half the time, and with
    two classes of tumours a sixth of it. For inputs that a sample of many rows hardly tells of, as
    categories with few rows, the metric's curvature is added: they had none, and no step fell.

    Parameters
    ----------
    data : TrainingData
    problem : TrainingProblem
        Its loss and whether an intercept is fitted; what belongs to states is ignored.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> from bcd_implicit.losses import SquaredLoss
    >>> from bcd_implicit.statistics import RowBlocks
    >>> U = np.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> data = RowBlocks(U, U @ [[2.0], [0.2]], np.full(4, 0.25), np.zeros(2), np.ones(2))
    >>> problem = TrainingProblem(SquaredLoss(), Relu(), 1, 0.5, 1.0, 0.9, np.ones(2))
    >>> LinearFitter(data, problem).fit(problem, None).D
    array([[1.5, 0. ]])
    """

    def __init__(self, data: TrainingData, problem: TrainingProblem) -> None:
        self.data, self._problem = data, problem
        self._gram = InputGram(data)

    @cached_property
    def _mean(self) -> Array:
        if not self._problem.intercept:
            return np.zeros(self.data.n_inputs)

        def mean(block: Block) -> tuple[Array]:
            _, w = block.targets()
            return (w @ block.inputs(),)

        with self.data.threads():  # as everywhere here: the bits would depend on those of BLAS
            (total,) = self.data.sum(mean)
        return total

    def empty(self) -> tuple[Parameters, float, Array]:
        """Return the best constant prediction, and where it is stationary.

        The second is the smallest strength at which no group leaves zero by itself, the third for
        each input the norm of the gradient of its group.
        """
        parameters = self.constant()
        norms = self.gradient_norms(parameters)
        return parameters, largest_strength(self._problem, norms), norms

    def constant(self) -> Parameters:
        """Return the best constant prediction."""
        excluded = replace(self._problem, group_weights=np.full(self.data.n_inputs, np.inf))
        return self.fit(excluded, None)

    def loss(self, parameters: Parameters) -> float:
        """Return the loss, without the penalty."""
        with self.data.threads():
            return self._evaluate(parameters.D, parameters.d).loss

    def gradient_norms(self, parameters: Parameters) -> Array:
        """Return for each input the norm of the gradient of the loss in its group."""
        with self.data.threads():
            gradient = self._evaluate(parameters.D, parameters.d).gradient
        return group_norms(np.zeros((0, gradient.shape[1])), gradient, self._problem.groups)

    def fit(
        self, problem: TrainingProblem, start: Parameters | None, tol: float = 1e-4
    ) -> Parameters:
        """Minimise at the strength and group weights of ``problem``, from ``start``.

        ``tol`` bounds the violation of the optimality conditions, in units of the loss over
        standardised inputs.
        """
        p, q = self.data.n_inputs, self.data.n_outputs
        D, d = np.zeros((q, p)), np.zeros(q)
        if start is not None:
            D, d = np.where(np.isfinite(problem.thresholds), start.D, 0.0), start.d
        with self.data.threads():
            return self._descend(problem, D, d, tol)

    def _descend(self, problem: TrainingProblem, D: Array, d: Array, tol: float) -> Parameters:
        point = self._evaluate(D, d)
        for _ in range(_STEPS):
            residual = self._residual(problem, point)
            if residual <= tol:
                break
            new = self._step(problem, point, _INNER_TOLERANCE * residual)
            if new is None:
                break
            point = new
        return self._parameters(point.D, point.d)

    def _evaluate(self, D: Array, d: Array) -> _Point:
        loss, quadratic = self._problem.loss, self._problem.loss.quadratic
        parameters = self._parameters(D, d)

        def sums(block: Block) -> tuple[float, Array, Array, Array]:
            Y, w = block.targets()
            F = np.zeros_like(Y) + d + feedthrough(block, parameters)
            value, G = loss.value_and_gradient(Y, F, w)
            return value, G.T @ block.inputs(), G.sum(axis=0), loss.total_hessian(Y, F, w)

        value, gradient, d_gradient, hessian = self.data.sum(sums)
        if quadratic:
            hessian = np.eye(len(d))
        if not self._problem.intercept:
            d_gradient = np.zeros_like(d)
        return _Point(D, d, value, gradient, d_gradient, hessian)

    def _residual(self, problem: TrainingProblem, point: _Point) -> float:
        worst: float = group_ball_residual(
            point.D,
            point.gradient,
            0,
            *problem.group_levels(),
            1.0,
            0.0,
            np.ones((0, 0), dtype=np.bool_),
            np.ones(len(point.D), dtype=np.bool_),
        )
        return max(worst, float(np.abs(point.d_gradient).max()))

    def _step(self, problem: TrainingProblem, point: _Point, tol: float) -> _Point | None:
        """Return a point with a lower objective, or None when there is none in reach."""
        columns = working_set(problem, point.D, point.gradient, self.data.n_samples)
        mean, start = self._mean[columns], point.D[:, columns]
        hessian, curvature, exact = point.hessian, None, problem.loss.quadratic
        if len(columns) and not exact:
            curvature = LinearCurvature(
                self._sample,
                problem.loss,
                point.D,
                point.d,
                columns,
                self._untold[columns],
                intercept=problem.intercept,
            )
            inverse = curvature.inverse
            shift = curvature.shift(point.d_gradient)
            exact = len(hessian) == 1 and len(columns) <= _FEW_COLUMNS
        else:
            inverse = np.asarray(np.linalg.pinv(hessian, hermitian=True), dtype=np.float64)
            shift = np.outer(point.d_gradient, mean)
        if exact and curvature is not None:
            hessian, gram = np.ones((1, 1)), curvature.matrix()
        else:
            gram = self._gram.of(columns) - np.outer(mean, mean)
        gradient = point.gradient[:, columns] - shift
        before = self._objective(problem, point)
        thresholds, sizes = problem.group_levels(columns)
        eta = 1.0
        for _ in range(_BACKTRACKS):
            H = hessian / eta
            D, d = point.D.copy(), point.d - eta * (inverse @ point.d_gradient)
            if len(columns):
                model = GroupBallProblem.of(
                    gradient - H @ start @ gram, H, gram, 0, thresholds, 1.0, sizes=sizes
                )
                rows = None if exact else curvature
                change = _best_change(model, start, rows, eta, tol / model.scale(gradient))
                D[:, columns] += change
                if curvature is not None:
                    d = d + curvature.best_change(change)
                elif problem.intercept:
                    d = d - change @ mean
            new = self._evaluate(D, d)
            if self._objective(problem, new) < before:
                return new
            eta *= 0.25
        return None

    @cached_property
    def _sample(self) -> RowBlocks:
        return linear_sample(self.data)

    @cached_property
    def _untold(self) -> Array:
        """Variance of the inputs of which the sample holds less than half, zero of the others."""
        if self._sample.n_samples == self.data.n_samples:
            return np.zeros(self.data.n_inputs)

        def variance(block: Block) -> tuple[Array]:
            _, w = block.targets()
            return (w @ (block.inputs() - self._mean) ** 2,)

        (told,), (whole,) = self._sample.sum(variance), self.data.sum(variance)
        return np.where(told < _TOLD * whole, whole, 0.0)

    def _objective(self, problem: TrainingProblem, point: _Point) -> float:
        return point.loss + problem.penalty(self._parameters(point.D, point.d))

    def _parameters(self, D: Array, d: Array) -> Parameters:
        """Return a model whose states are not used."""
        n, q = self._problem.n_states, len(d)
        return Parameters(
            np.zeros((n, n)), np.zeros((n, D.shape[1])), np.zeros(n), np.zeros((q, n)), D, d
        )


def largest_strength(problem: TrainingProblem, gradient_norms: Array) -> float:
    """Return the largest strength that gradients outweigh, of groups that it is for."""
    usable = np.isfinite(problem.group_weights) & (problem.group_weights > 0.0)
    strengths = gradient_norms[usable] / problem.group_weights[usable]
    return float(strengths.max(initial=0.0))


def _best_change(
    model: GroupBallProblem,
    start: Array,
    curvature: LinearCurvature | None,
    eta: float,
    tol: float,
) -> Array:
    """Minimise the model of a step of length ``eta``: in the curvature of rows, if it is given."""
    sweeps = 1000 if curvature is None else _SWEEPS
    Theta = solve_group_ball(model, Theta0=start, tol=tol, max_sweeps=sweeps).x
    if curvature is not None:
        product = curvature.product
        Theta = refine_group_ball(
            model,
            lambda E: product(E) / eta,
            start,
            Theta,
            tol=tol,
            least_gain=_LEAST_GAIN,
            max_steps=_REFINEMENTS,
        ).x
    change: Array = Theta - start
    return change
