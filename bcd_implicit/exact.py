"""Phase two: block-coordinate descent on the true objective, at the true equilibrium.

`attempt` puts the states on the equilibrium of given A, B, b and D, refits C and d, balances the
scale, and returns the objective; `differentiate` adds gradient and metric. `Stepper` makes one
proximal Gauss-Newton step from such a point and accepts it only if the true objective falls.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.balance import balance
from bcd_implicit.blocks import Block
from bcd_implicit.curvature import Curvature
from bcd_implicit.equilibrium import solve_adjoint
from bcd_implicit.forward import StateSolver, predictions
from bcd_implicit.gram import InputGram
from bcd_implicit.metric import MetricSums, column_metrics, metric_sums, row_metrics
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.readout import StateSums, fit_readout, state_sums
from bcd_implicit.solvers._kernels import group_ball_residual
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.solvers.group_ball_model import refine_group_ball
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.sums import Largest
from bcd_implicit.training_data import TrainingData
from bcd_implicit.working_set import most_sweeps, working_set

__all__ = ["Point", "Stepper", "Trial", "attempt", "differentiate", "evaluate", "revisit"]

Array = NDArray[np.float64]

_ADJOINT_TOLERANCE = 1e-12
_MOST_SWEEPS = 20  # 100 sweeps do not bring a step further
_BACKTRACKS = 12
_GAIN = 1e-12  # of the objective, to accept a step: less could be rounding errors
# In the curvature of single rows; 20 and 40 bring regressions as far, classifiers not so far.
_REFINEMENTS = 10
_LEAST_GAIN = 0.02  # of what the refinements of a step have gained: when they end
_LOOSE = 0.01  # of what the last step gained: when the readout stops


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


def evaluate(data: TrainingData, problem: TrainingProblem, parameters: Parameters) -> Point:
    """Make a `Point` of given parameters, with C, d and the scale of the states refitted."""
    return differentiate(data, problem, attempt(data, problem, parameters))


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
        residual=group_ball_residual(
            parameters.stacked(),
            gradient,
            n,
            *problem.group_levels(),
            problem.kappa,
            problem.l1,
            problem.mask,
            problem.entry_rows(n + q),
        ),
    )


class Stepper:
    """Proximal Gauss-Newton steps with an adapted step length.

    With a ``sample`` of the rows a step goes on in their curvature (`bcd_implicit.curvature`).

    Attributes
    ----------
    eta : float
        Length of the next step: the model is divided by it.
    tolerance : float
        Of the readout.
    """

    def __init__(
        self,
        data: TrainingData,
        problem: TrainingProblem,
        gram: InputGram,
        sample: RowBlocks | None = None,
    ) -> None:
        self.data, self.problem, self.gram, self.sample = data, problem, gram, sample
        self.eta = 1.0
        self.tolerance = 1e-4

    def step(self, point: Point) -> Point | None:
        """Return a point with a lower true objective, or None when there is none in reach."""
        columns = working_set(
            self.problem,
            point.parameters.groups,
            point.gradient[:, self.problem.n_states : -1],
        )
        H, H2 = row_metrics(self.problem, point.metric)
        W, W2 = column_metrics(
            point.XX,
            point.XU[:, columns],
            self.gram.of(columns),
            intercept=self.problem.intercept,
            read=self.problem.output_states,
        )
        curvature = None
        if self.sample is not None:
            curvature = Curvature(self.sample, self.problem, point.parameters)
        for tries in range(_BACKTRACKS):
            proposal = self._propose(point, columns, H, W, H2, W2, curvature)
            trial = attempt(self.data, self.problem, proposal, self.tolerance)
            gained = point.objective - trial.objective
            if gained > _GAIN * point.objective:
                self.tolerance = min(_LOOSE * gained / point.objective, 1e-4)
                new = differentiate(self.data, self.problem, trial)
                self.data.accept_trial()
                if tries == 0:
                    self.eta = min(1.5 * self.eta, 4.0)
                return new
            self.eta *= 0.4
        return None

    def _propose(
        self,
        point: Point,
        columns: IntArray,
        H: Array,
        W: Array,
        H2: Array,
        W2: Array,
        curvature: Curvature | None,
    ) -> Parameters:
        """Minimise the quadratic model plus the penalties over the working set."""
        n, p = self.problem.n_states, self.data.n_inputs
        old = point.parameters
        rows = len(H)
        places = np.r_[0:n, n + columns, n + p : n + p + int(self.problem.intercept)]
        start = old.stacked()[:rows, places]
        thresholds, sizes = self.problem.group_levels(columns)
        model = GroupBallProblem.of(
            point.gradient[:rows, places] - (H @ start @ W + H2 @ start @ W2) / self.eta,
            H / self.eta,
            W,
            n,
            thresholds,
            self.problem.kappa,
            l1=self.problem.l1,
            pattern=self.problem.pattern,
            entry=self.problem.entry_rows(rows),
            H2=H2 / self.eta,
            W2=W2,
            sizes=sizes,
        )
        # no more accuracy than the step deserves: a part of the residual that it starts from
        tol = min(0.03 * point.residual / model.scale(point.gradient), 1.0)
        Theta = solve_group_ball(
            model, Theta0=start, tol=tol, max_sweeps=most_sweeps(columns, _MOST_SWEEPS)
        ).x
        if curvature is not None:
            Theta = self._refine(model, start, Theta, columns, curvature)
        B, D, b = old.B.copy(), old.D.copy(), old.b
        B[:, columns] = Theta[:n, n : n + len(columns)]
        if self.problem.feedthrough:
            D[:, columns] = Theta[n:, n : n + len(columns)]
        if self.problem.intercept:
            b = Theta[:n, -1].copy()
        return Parameters(Theta[:n, :n].copy(), B, b, old.C, D, old.d)

    def _refine(
        self,
        model: GroupBallProblem,
        start: Array,
        Theta: Array,
        columns: IntArray,
        curvature: Curvature,
    ) -> Array:
        """Go on with the inputs in use, in the curvature of single samples."""
        used = model.used(start) | model.used(Theta)
        some, places = model.only(used)
        chosen = columns[np.repeat(used, model.sizes)]
        if not curvature.suffices(len(chosen)):
            return Theta
        product = curvature.product(chosen)
        refined = np.zeros_like(Theta)
        refined[:, places] = refine_group_ball(
            some,
            lambda E: product(E) / self.eta,
            start[:, places],
            Theta[:, places],
            tol=0.0,
            least_gain=_LEAST_GAIN,
            max_steps=_REFINEMENTS,
        ).x
        return refined
