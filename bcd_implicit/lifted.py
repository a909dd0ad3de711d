"""Phase one: block-coordinate descent on the lifted (Fenchel-relaxed) objective.

The states X are free and the equilibrium is priced instead of imposed: the objective is

    ``sum_i w_i [loss(y_i, C x_i + D u_i + d) + sum_k lambda_k F(x_ik, z_ik)] + penalties``,

where ``z = A x + B u + b`` and the Fenchel divergence F of the activation is zero if and only if
``x = phi(z)``. It is convex in each of (C, d), (A, B, b, D) and, for lambda large, X; no update
raises it. What comes out is a start for the exact phase, not a model.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.blocks import StateBlock
from bcd_implicit.forward import solve_block
from bcd_implicit.gram import InputGram
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.readout import StateSums, feedthrough, fit_readout, state_sums
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, descend_group_ball
from bcd_implicit.solvers.projections import project_l1_rows
from bcd_implicit.solvers.state_qp import solve_states
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.working_set import most_sweeps, working_set

__all__ = ["LiftedDescent", "random_parameters"]

Array = NDArray[np.float64]

_PRICE = 10.0  # lambda over the mean curvature of the loss in a state
_NOTHING = 1e-9  # of the unit of the predictions, that the states add to them
_STATE_SWEEPS = 5
_MATRIX_STEPS = 3  # majorised steps of the (A, B) block an iteration
_MATRIX_SWEEPS = 10  # of a step


def random_parameters(
    problem: TrainingProblem, n_inputs: int, n_outputs: int, rng: np.random.Generator
) -> Parameters:
    """Return a start: B random with pre-activations of unit variance, all else zero.

    With an activation that is odd about its value at zero, as tanh and the sigmoid, b is random,
    too: all states were odd functions of the inputs, and the readout of an even target zero. States
    that no input may enter get random rows of A, of the largest sum: else they were dead.
    """
    n = problem.n_states
    eligible = np.isfinite(problem.thresholds)
    B = rng.standard_normal((n, n_inputs)) / np.sqrt(max(int(eligible.sum()), 1))
    B[:, ~eligible] = 0.0
    A = np.zeros((n, n))
    if not problem.entry.all():
        B[~problem.entry] = 0.0
        A = np.where(problem.mask & ~problem.entry[:, None], rng.standard_normal((n, n)), 0.0)
        A *= problem.kappa / np.maximum(np.abs(A).sum(axis=1, keepdims=True), 1e-300)
        A = project_l1_rows(A, problem.kappa).x
    value, one = problem.activation.value, np.ones(1)
    below, above = value(0.0 * one) - value(-one), value(one) - value(0.0 * one)
    odd = problem.intercept and np.allclose(below, above, rtol=1e-12, atol=0.0)
    return Parameters(
        A=A,
        B=B,
        b=rng.standard_normal(n) if odd else np.zeros(n),
        C=np.zeros((n_outputs, n)),
        D=np.zeros((n_outputs, n_inputs)),
        d=np.zeros(n_outputs),
    )


@dataclass
class LiftedDescent:
    """Block updates of the lifted objective; the states of ``data`` are the block X.

    Attributes
    ----------
    data, problem, gram
        What is fitted, and the Gram matrix of the inputs.
    parameters : Parameters
        The current blocks.
    multipliers : ndarray of shape (n,)
        ``lambda``.
    """

    data: RowBlocks
    problem: TrainingProblem
    gram: InputGram
    parameters: Parameters
    multipliers: Array

    @classmethod
    def start(
        cls, data: RowBlocks, problem: TrainingProblem, gram: InputGram, parameters: Parameters
    ) -> "LiftedDescent":
        """Put the states on the equilibrium of the parameters, fit C and d, and set lambda."""
        data.start_states(problem.n_states)
        lifted = cls(data, problem, gram, parameters, np.ones(problem.n_states))

        def states(block: StateBlock) -> tuple[()]:
            Zin = lifted._inputs(block)
            if parameters.A.any():
                solve_block(problem, parameters, Zin, out=block.X)
            else:
                problem.activation.value(Zin, out=block.X)
            return ()

        data.sum(states)
        lifted.update_readout()
        C = lifted.parameters.C
        curvature = np.trace(C.T @ problem.loss.curvature(len(C)) @ C) / problem.n_states
        largest = max(float(np.abs(block.X).max(initial=0.0)) for block in data.blocks)
        # where states explain nothing, C is rounding errors: any price will do, but next to none
        explains = float(np.abs(C).max()) * largest > _NOTHING
        lifted.multipliers[:] = _PRICE * curvature if explains else 1.0
        return lifted

    def objective(self) -> float:
        """Value of the lifted objective: one pass."""

        def value(block: StateBlock) -> tuple[float]:
            Y, w = block.targets()
            Z = self._inputs(block) + block.X @ self.parameters.A.T
            divergence = self.problem.activation.divergence(block.X, Z) @ self.multipliers
            loss = self.problem.loss.value(Y, self._predict(block), w)
            return (loss + float(np.dot(w, divergence)),)

        return self.data.sum(value)[0] + self.problem.penalty(self.parameters)

    def update_states(self) -> None:
        """Lower the block X, every sample by itself, the loss replaced by its majoriser."""
        A, C = self.parameters.A, self.parameters.C
        curvature = self.problem.loss.curvature(len(C))
        Q = C.T @ curvature @ C
        kernel = self.problem.activation.kernel
        if kernel is None:
            raise ValueError(f"activation {self.problem.activation!r} has no compiled kernel")

        def states(block: StateBlock) -> tuple[()]:
            Y, _ = block.targets()
            G = self.problem.loss.gradient(Y, self._predict(block))
            block.X = solve_states(
                Q,
                block.X @ Q - G @ C,
                self._inputs(block),
                self.multipliers,
                A,
                kernel[0],
                kernel[1],
                X0=block.X,
                lipschitz=self.problem.activation.lipschitz,
                max_iter=_STATE_SWEEPS,
                overwrite_x0=True,
            ).x
            return ()

        self.data.sum(states)

    def update_readout(self) -> None:
        """Fit the block (C, d) to the current states."""

        def sums(block: StateBlock) -> StateSums:
            block.offset = feedthrough(block, self.parameters)
            return state_sums(block, block.X, block.offset)

        def states(block: StateBlock) -> tuple[Array, Array | float]:
            return block.X, block.offset

        total = self.data.sum(sums)
        fitted = fit_readout(self.data, self.problem, self.parameters, total, states)
        self.parameters = replace(self.parameters, C=fitted.C, d=fitted.d)

    def update_matrices(self) -> None:
        """Fit the block (A, B, b, D) in a few majorised steps."""
        for _ in range(_MATRIX_STEPS):
            self._matrix_step()

    def _matrix_step(self) -> None:
        """Minimise a majoriser: the slope of h* is Lipschitz, so its model has a Gram metric."""
        problem, old = self.problem, self.parameters
        (n, p), q = old.B.shape, len(old.C)
        intercept = problem.intercept

        def gradient(block: StateBlock) -> tuple[Array]:
            Y, w = block.targets()
            U, X = block.inputs(), block.X
            Z = U @ old.B.T + old.b + X @ old.A.T
            R: Array = np.asarray(problem.activation.value(Z) - X) * self.multipliers
            G = [problem.loss.gradient(Y, self._predict(block))] if problem.feedthrough else []
            left: Array = np.column_stack([R, *G, X, np.ones(len(X))])
            left *= w[:, None]
            return (np.concatenate([left.T @ X, left.T @ U, left.sum(axis=0)[:, None]], axis=1),)

        (total,) = self.data.sum(gradient)
        rows = n + q if problem.feedthrough else n
        linear, products = total[:rows], total[rows:]
        linear[:n, n:-1][~problem.entry] = 0.0
        columns = working_set(problem, old.groups[:rows], linear[:, n:-1], self.data.n_samples)
        keep = np.r_[0:n, n + columns, n + p] if intercept else np.r_[0:n, n + columns]
        W = np.empty((len(keep), len(keep)))
        states = np.r_[0:n, len(keep) - 1] if intercept else np.arange(n)
        inputs = np.arange(n, n + len(columns))
        W[states] = products[:, keep] if intercept else products[:-1, keep]
        W[np.ix_(inputs, states)] = W[np.ix_(states, inputs)].T
        W[np.ix_(inputs, inputs)] = self.gram.of(columns)
        H = np.zeros((rows, rows))
        H[:n, :n] = np.diag(self.multipliers * problem.activation.lipschitz)
        if problem.feedthrough:
            H[n:, n:] = problem.loss.curvature(q)
        start, slope = old.stacked()[:rows, keep], linear[:, keep]
        thresholds, sizes = problem.group_levels(columns)
        model = GroupBallProblem.of(
            slope - H @ start @ W,
            H,
            W,
            n,
            thresholds,
            problem.kappa,
            l1=problem.l1,
            pattern=problem.pattern,
            entry=problem.entry_rows(rows),
            sizes=sizes,
        )
        sweeps = most_sweeps(columns, _MATRIX_SWEEPS)
        Theta = descend_group_ball(model, start, slope, 1e-5, sweeps)[0].x
        B, D, b = old.B.copy(), old.D.copy(), old.b
        B[:, columns] = Theta[:n, inputs]
        if problem.feedthrough:
            D[:, columns] = Theta[n:, inputs]
        if intercept:
            b = Theta[:n, -1].copy()
        self.parameters = replace(old, A=Theta[:n, :n].copy(), B=B, b=b, D=D)

    def _inputs(self, block: StateBlock) -> Array:
        """Return ``B u + b`` for the rows of a block."""
        product = block.product(self.parameters.B)
        product += self.parameters.b
        return product

    def _predict(self, block: StateBlock) -> Array:
        """Return ``C x + D u + d`` for the rows of a block."""
        offset = self.parameters.d + feedthrough(block, self.parameters)
        prediction: Array = block.X @ self.parameters.C.T + offset
        return prediction
