"""Phase two: block-coordinate descent on the true objective, at the true equilibrium.

`evaluate` puts the states on the equilibrium of given A, B, b and D, refits C and d, balances the
scale, and returns objective and gradient. `step` makes one proximal Gauss-Newton step from such a
point and accepts it only if the true objective falls.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from bcd_implicit._typing import IntArray
from bcd_implicit.equilibrium import solve_adjoint
from bcd_implicit.forward import solve_block
from bcd_implicit.metric import MetricSums, column_metrics, metric_sums, row_metrics
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.readout import StateSums, feedthrough, fit_readout, state_sums
from bcd_implicit.solvers._kernels import group_ball_residual
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.statistics import Block, InputGram, RowBlocks
from bcd_implicit.working_set import working_set

__all__ = ["Point", "Stepper", "evaluate"]

Array = NDArray[np.float64]

_ADJOINT_TOLERANCE = 1e-9
_MOST_SWEEPS = 20  # 100 sweeps do not bring a step further
_BACKTRACKS = 12


class _Derivatives(NamedTuple):
    loss: float
    VZ: Array
    GU: Array
    XU: Array
    H: Array
    N: Array
    L: Array
    weight: float


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


def evaluate(data: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> Point:
    """Solve for the states, refit C and d, balance, and differentiate: two passes.

    The states go to the trial arrays of the blocks, starting from the accepted ones.
    """

    def states(block: Block) -> tuple[Array, Array, list[float]]:
        solution = solve_block(data, problem, parameters, block, X0=block.X, out=block.trial)
        sums = state_sums(data, block, block.trial, feedthrough(data, block, parameters))
        return sums.VV, sums.RV, [solution.error]

    VV, RV, errors = data.sum(states)
    C, d = fit_readout(data, problem, parameters, StateSums(VV, RV), trial=True)
    parameters = replace(parameters, C=C, d=d)
    s = _balance(problem, parameters)
    if s != 1.0:
        parameters = parameters.scaled(s)
        for block in data.blocks:
            block.trial *= s
        units = np.append(np.full(problem.n_states, s), 1.0)
        VV = VV * np.outer(units, units)
    return _differentiate(data, problem, parameters, VV, s * max(errors))


def _differentiate(
    data: RowBlocks, problem: TrainingProblem, parameters: Parameters, XX: Array, error: float
) -> Point:
    """Objective, gradient through the equilibrium, and metric at the trial states."""
    n, q = problem.n_states, data.n_outputs
    A, C, D = parameters.A, parameters.C, parameters.D
    BT = np.ascontiguousarray(parameters.B.T)

    def differentiate(block: Block) -> _Derivatives:
        Y, w = data.targets(block)
        U, X = data.inputs(block), block.trial
        Z = U @ BT
        Z += parameters.b
        Z += X @ A.T
        F = X @ C.T + parameters.d
        if problem.feedthrough:
            F += U @ D.T
        M: Array = np.asarray(problem.activation.derivative(Z), dtype=np.float64)
        G = problem.loss.gradient(Y, F) * w[:, None]
        solve_adjoint(A, M, G @ C, problem.contraction, _ADJOINT_TOLERANCE, V0=block.V, out=block.V)
        V = np.column_stack([X, np.ones(len(X))])
        VT = block.V.T
        VZ = np.concatenate([VT @ X, VT @ U, VT.sum(axis=1, keepdims=True)], axis=1)
        GU = G.T @ U if problem.feedthrough else np.zeros((q, 0))
        XU = (V * w[:, None]).T @ U
        sampled = data.sampled(block)
        metric = metric_sums(problem, parameters, M[sampled], Y[sampled], F[sampled], w[sampled])
        return _Derivatives(problem.loss.value(Y, F, w), VZ, GU, XU, *metric)

    sums = data.sum(differentiate)
    gradient = np.zeros((n + q, n + data.n_inputs + 1))
    gradient[:n] = sums.VZ
    if not problem.intercept:
        gradient[:n, -1] = 0.0
    if problem.feedthrough:
        gradient[n:, n:-1] = sums.GU
    return Point(
        parameters=parameters,
        objective=sums.loss + problem.penalty(parameters),
        error=error,
        gradient=gradient,
        XX=XX,
        XU=sums.XU,
        metric=MetricSums(sums.H, sums.N, sums.L, sums.weight),
        residual=group_ball_residual(
            parameters.stacked(),
            gradient,
            n,
            *problem.group_levels(),
            problem.kappa,
            problem.l1,
            problem.mask,
        ),
    )


class Stepper:
    """Proximal Gauss-Newton steps with an adapted step length.

    Attributes
    ----------
    eta : float
        Length of the next step: the model is divided by it.
    """

    def __init__(self, data: RowBlocks, problem: TrainingProblem, gram: InputGram) -> None:
        self.data, self.problem, self.gram = data, problem, gram
        self.eta = 1.0

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
        )
        for attempt in range(_BACKTRACKS):
            trial = self._propose(point, columns, H, W, H2, W2)
            new = evaluate(self.data, self.problem, trial)
            if new.objective < point.objective:
                self.data.accept_trial()
                if attempt == 0:
                    self.eta = min(1.5 * self.eta, 4.0)
                return new
            self.eta *= 0.4
        return None

    def _propose(
        self, point: Point, columns: IntArray, H: Array, W: Array, H2: Array, W2: Array
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
            H2=H2 / self.eta,
            W2=W2,
            sizes=sizes,
        )
        # no more accuracy than the step deserves: a part of the residual that it starts from
        tol = min(0.03 * point.residual / model.scale(point.gradient), 1.0)
        Theta = solve_group_ball(model, Theta0=start, tol=tol, max_sweeps=_MOST_SWEEPS).x
        B, D, b = old.B.copy(), old.D.copy(), old.b
        B[:, columns] = Theta[:n, n : n + len(columns)]
        if self.problem.feedthrough:
            D[:, columns] = Theta[n:, n : n + len(columns)]
        if self.problem.intercept:
            b = Theta[:n, -1].copy()
        return Parameters(Theta[:n, :n].copy(), B, b, old.C, D, old.d)


def _balance(problem: TrainingProblem, parameters: Parameters) -> float:
    """Return the best scale ``s`` of the states: the prediction stays, the penalties do not rise.

    B and b are multiplied by it, C is divided. It minimises
    ``sum_g t_g sqrt(s^2 ||B_g||^2 + ||D_g||^2) + l2 ||C||^2 / (2 s^2)``, which is unimodal in
    ``s``. Only for positively homogeneous activations.
    """
    if not problem.activation.positively_homogeneous:
        return 1.0
    t, sizes = problem.group_levels()
    first = np.cumsum(sizes) - sizes
    b2, d2 = (
        np.add.reduceat(np.einsum("ij,ij->j", block, block), first)
        for block in (parameters.B, parameters.D)
    )
    t, b2, d2 = t[b2 > 0.0], b2[b2 > 0.0], d2[b2 > 0.0]
    c2 = problem.l2 * float(np.vdot(parameters.C, parameters.C))
    if not (c2 > 0.0 and (t > 0.0).any()):
        return 1.0

    def value(s: float) -> float:
        return float(np.dot(t, np.sqrt(s * s * b2 + d2))) + 0.5 * c2 / (s * s)

    def slope(log_s: float) -> float:
        s2 = math.exp(2.0 * log_s)
        return float(np.dot(t, s2 * b2 / np.sqrt(s2 * b2 + d2))) - c2 / s2

    if slope(-3.0) >= 0.0 or slope(3.0) <= 0.0:  # a factor of 20 in one go is enough
        s = math.exp(-3.0 if slope(-3.0) >= 0.0 else 3.0)
    else:
        s = math.exp(float(brentq(slope, -3.0, 3.0, xtol=1e-3)))
    return s if value(s) < value(1.0) else 1.0
