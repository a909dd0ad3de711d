"""Phase two: block-coordinate descent on the true objective, at the true equilibrium.

`attempt` puts the states on the equilibrium of given A, B, b and D, refits C and d, balances the
scale, and returns the objective; `differentiate` adds gradient and metric. From such a point
`bcd_implicit.stepper` makes a step.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.balance import balance
from bcd_implicit.blocks import Block
from bcd_implicit.equilibrium import solve_adjoint
from bcd_implicit.forward import StateSolver, predictions
from bcd_implicit.metric import MetricSums, metric_sums
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.readout import StateSums, fit_readout, state_sums
from bcd_implicit.solvers._kernels import group_ball_residual
from bcd_implicit.sums import Largest
from bcd_implicit.training_data import TrainingData

__all__ = ["Point", "Trial", "attempt", "differentiate", "evaluate", "revisit"]

Array = NDArray[np.float64]

_ADJOINT_TOLERANCE = 1e-12


class _Derivatives(NamedTuple):
    VX: Array
    products: Array
    H: Array
    N: Array
    L: Array
    weight: float


@dataclass(frozen=True)
class Trial:
    """Parameters whose true objective is known; the states are in the trial arrays of the blocks.

    Attributes
    ----------
    parameters : Parameters
    XX : ndarray of shape (n + 1, n + 1)
        Gram matrix of (x, 1).
    objective : float
        The true objective, penalties included.
    error : float
        Proven bound of the error of the states.
    """

    parameters: Parameters
    XX: Array
    objective: float
    error: float


@dataclass(frozen=True)
class Point:
    """Parameters with everything that the passes over the data say about them.

    Attributes
    ----------
    parameters : Parameters
    objective : float
        The true objective, penalties included.
    error : float
        Proven bound of the error of the states.
    gradient : ndarray of shape (n + q, n + p + 1)
        Of the loss in the stacked unknown ``[[A, B, b], [0, D, 0]]``.
    XX, XU : ndarray of shape (n + 1, n + 1) and (n + 1, p)
        Products of (x, 1) with itself and with the inputs.
    metric : MetricSums
    residual : float
        Largest violation of the optimality conditions in A, B, b and D; gradients in units of
        the loss over standardised inputs.
    """

    parameters: Parameters
    objective: float
    error: float
    gradient: Array
    XX: Array
    XU: Array
    metric: MetricSums
    residual: float

    def allowed(self, problem: TrainingProblem) -> "Point":
        """Return the point in a problem that excludes other inputs, none of those in use."""
        return replace(self, residual=_residual(problem, self.parameters, self.gradient))


def attempt(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters, tol: float = 1e-12
) -> Trial:
    """Solve for the states, refit C and d up to ``tol``, and balance; the inputs are read once.

    The states go to the trial arrays of the blocks, starting from the accepted ones.
    """

    def equilibrium(block: Block) -> tuple[Array, Array, float, Largest]:
        solved = block.solve_trial(StateSolver(problem, parameters, block))
        return *state_sums(block, solved.X, solved.offset), Largest(solved.error)

    def states(block: Block) -> tuple[Array, Array | float]:
        solved = block.at_trial(StateSolver(problem, parameters, block))
        return solved.X, solved.offset

    VV, RV, RR, error = data.sum(equilibrium, solves=True)
    C, d, loss = fit_readout(data, problem, parameters, StateSums(VV, RV, RR), states, tol)
    fitted = replace(parameters, C=C, d=d)
    s = balance(problem, fitted)
    if s != 1.0:
        fitted = fitted.scaled(s)
        data.scale_trial(s)
        units = np.append(np.full(problem.n_states, s), 1.0)
        VV = VV * np.outer(units, units)
    return Trial(fitted, VV, loss + problem.penalty(fitted), s * float(error))


def evaluate(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters, tol: float = 1e-12
) -> Point:
    """Make a `Point` of given parameters, with C, d and the scale of the states refitted."""
    return differentiate(data, problem, attempt(data, problem, parameters, tol))


def revisit(
    data: TrainingData,
    problem: TrainingProblem,
    parameters: Parameters,
    objective: float,
    error: float,
) -> Point:
    """Make the `Point` of accepted parameters again, just as they are; accepts the states."""

    def equilibrium(block: Block) -> tuple[Array]:
        solved = block.solve_trial(StateSolver(problem, parameters, block))
        return (state_sums(block, solved.X, solved.offset).VV,)

    (VV,) = data.sum(equilibrium, solves=True)
    point = differentiate(data, problem, Trial(parameters, VV, objective, error))
    data.accept_trial()
    return point


def differentiate(data: TrainingData, problem: TrainingProblem, trial: Trial) -> Point:
    """Gradient through the equilibrium, and metric, at the last trial; the inputs are read once."""
    parameters = trial.parameters
    n, q = problem.n_states, data.n_outputs
    A, C = parameters.A, parameters.C

    def sums(block: Block) -> _Derivatives:
        Y, w = block.targets()
        U = block.inputs()  # before anything else asks for some of them
        solver = StateSolver(problem, parameters, block)
        X, offset, _ = block.at_trial(solver)
        F, M = predictions(parameters, X, offset), solver.derivatives(X)
        G = problem.loss.gradient(Y, F) * w[:, None]
        warm = block.adjoint_start()
        adjoint = solve_adjoint(
            A, M, G @ C, problem.contraction, _ADJOINT_TOLERANCE, V0=warm, out=warm
        )
        V: Array = np.asarray(adjoint.x, dtype=np.float64)
        left = [V, X * w[:, None], w[:, None]]
        if problem.feedthrough:
            left.append(G)
        products = np.column_stack(left).T @ U
        VX = np.concatenate([V.T @ X, V.sum(axis=0)[:, None]], axis=1)
        sampled = block.sampled()
        metric = metric_sums(problem, parameters, M[sampled], Y[sampled], F[sampled], w[sampled])
        return _Derivatives(VX, products, *metric)

    total = data.sum(sums)
    gradient = np.zeros((n + q, n + data.n_inputs + 1))
    gradient[:n, :n] = total.VX[:, :n]
    gradient[:n, n:-1] = total.products[:n]
    if problem.intercept:
        gradient[:n, -1] = total.VX[:, n]
    if problem.feedthrough:
        gradient[n:, n:-1] = total.products[2 * n + 1 :]
    gradient[:n, n:-1][~problem.entry] = 0.0
    return Point(
        parameters=parameters,
        objective=trial.objective,
        error=trial.error,
        gradient=gradient,
        XX=trial.XX,
        XU=total.products[n : 2 * n + 1],
        metric=MetricSums(total.H, total.N, total.L, total.weight),
        residual=_residual(problem, parameters, gradient),
    )


def _residual(problem: TrainingProblem, parameters: Parameters, gradient: Array) -> float:
    """Return the largest violation of the optimality conditions in A, B, b and D."""
    worst: float = group_ball_residual(
        parameters.stacked(),
        gradient,
        problem.n_states,
        *problem.group_levels(),
        problem.kappa,
        problem.l1,
        problem.mask,
        problem.entry_rows(len(gradient)),
    )
    return worst
