"""The opponent: Adam through the equilibrium, in PyTorch with implicit differentiation.

It minimises the same objective as `bcd_implicit.training.train`. States and adjoint states of all
samples are kept as warm starts, also over minibatches; A is projected after every step.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bcd_implicit.losses import SquaredLoss
from bcd_implicit.problem import Parameters, TrainingProblem
from experiments.benchmarks.problems import Task

__all__ = ["Settings", "Snapshots", "adam", "penalty", "sample_loss", "standardised"]

_MOST_ITERATIONS = 300


@dataclass(frozen=True)
class Settings:
    """How Adam runs.

    Attributes
    ----------
    rate : float
        Learning rate.
    batch : int
        Rows of a step.
    limit : float
        Seconds.
    proximal : bool
        Whether the group penalty is a proximal step, or a term of the loss.
    cosine : bool
        Whether the rate falls to zero along a cosine over the time limit, or stays.
    tol : float
        Largest entry of the last step of the fixed-point iterations, relative to the gradient in
        the adjoint one. Warm starts make up for it: 1e-4 ends no lower, and later.
    single : bool
        Whether single precision is used: as good as double here, and never slower.
    threads, seed : int
    """

    rate: float
    batch: int
    limit: float
    proximal: bool = False
    cosine: bool = True
    tol: float = 1e-3
    single: bool = True
    threads: int = 2
    seed: int = 0


class Snapshots:
    """Copies of the parameters at times that grow geometrically; to be evaluated off the clock."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.seconds: list[float] = []
        self.iterates: list[Any] = []
        self.steps = 0
        self._next = 0.02
        self._began = time.perf_counter()

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._began

    def offer(self, copy: Callable[[], Any]) -> bool:
        """Take a copy if it is time to; return whether to go on."""
        self.steps += 1
        seconds = self.elapsed()
        done = seconds >= self.limit
        if seconds >= self._next or done:
            self.seconds.append(seconds)
            self.iterates.append(copy())
            self._next = min(1.15 * max(seconds, self._next), self.limit)
        return not done

    def curve(self, task: Task, convert: Callable[[Any], Parameters]) -> list[tuple[float, float]]:
        """Return seconds and the least true objective so far."""
        objectives = task.objectives([convert(one) for one in self.iterates])
        least = np.fmin.accumulate(
            [value if np.isfinite(value) else np.inf for value in objectives]
        )
        return [(s, float(v)) for s, v in zip(self.seconds, least, strict=True) if np.isfinite(v)]


class _Equilibrium(torch.autograd.Function):  # type: ignore[misc]
    """States of ``x = relu(A x + z)`` with the adjoint equilibrium as the backward pass."""

    @staticmethod
    def forward(ctx: Any, A: Any, Z: Any, X0: Any, V0: Any, tol: float) -> Any:
        AT = A.t()
        X = _iterate(lambda X: torch.addmm(Z, X, AT).relu_(), X0, tol)
        ctx.save_for_backward(A, X)
        ctx.V0, ctx.tol = V0, tol
        return X

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (G,) = gradients
        A, X = ctx.saved_tensors
        M = (X > 0).to(X.dtype)
        # relative to the gradient, which has the size of one over the samples
        tol = ctx.tol * float(G.abs().max())
        V = _iterate(lambda V: torch.addmm(G, V, A).mul_(M), ctx.V0, tol)
        ctx.V0.copy_(V)  # a warm start
        return V.t() @ X, V, None, None, None


def _iterate(step: Callable[[Any], Any], X: Any, tol: float) -> Any:
    """Iterate a contraction; looking at the step costs as much as making it: every third time."""
    for k in range(_MOST_ITERATIONS):
        new = step(X)
        if k % 3 == 2 and float((new - X).abs().max()) <= tol:
            return new
        X = new
    return X


def standardised(task: Task, dtype: Any) -> tuple[Any, Any]:
    """Return inputs and targets in the units of the problem, as tensors."""
    data = task.blocks()
    U = np.concatenate([data.inputs(block) for block in data.blocks])
    return torch.from_numpy(U).to(dtype), torch.from_numpy(np.array(data.Y)).to(dtype)


def sample_loss(problem: TrainingProblem, F: Any, Y: Any) -> Any:
    """Return the mean loss of a batch."""
    if isinstance(problem.loss, SquaredLoss):
        return 0.5 * (F - Y).square().sum() / len(F)
    return torch.nn.functional.cross_entropy(F, Y)


def penalty(problem: TrainingProblem, B: Any, C: Any, D: Any | None, *, groups: bool) -> Any:
    """Return the penalties; the norms are smoothed at zero, where autograd would give NaN."""
    value = 0.5 * problem.l2 * C.square().sum()
    if groups:
        squares = B.square().sum(0) + (0.0 if D is None else D.square().sum(0))
        value = value + problem.alpha * (squares + 1e-16).sqrt().sum()
    return value


def adam(task: Task, settings: Settings) -> tuple[list[tuple[float, float]], int]:
    """Return the curve of the true objective and the number of steps that were made."""
    torch.set_num_threads(settings.threads)
    problem = task.problem
    U, Y = standardised(task, torch.float32 if settings.single else torch.float64)
    clock = Snapshots(settings.limit)
    generator = torch.Generator().manual_seed(settings.seed)
    model = _Model(problem, U, Y, generator)
    optimiser = torch.optim.Adam(model.trained, lr=settings.rate, fused=True)
    for rows in _batches(len(U), settings.batch, generator):
        optimiser.zero_grad()
        loss = model.loss(rows, settings.tol)
        loss = loss + penalty(problem, model.B, model.C, model.D, groups=not settings.proximal)
        loss.backward()
        if settings.cosine:
            progress = min(clock.elapsed() / settings.limit, 1.0)
            optimiser.param_groups[0]["lr"] = (
                settings.rate * 0.5 * (1 + math.cos(math.pi * progress))
            )
        optimiser.step()
        with torch.no_grad():
            if settings.proximal:
                model.shrink(optimiser)
            _project_rows(model.A, problem.kappa)
        if not clock.offer(model.copy):
            break
    return clock.curve(task, model.parameters), clock.steps


def _batches(m: int, size: int, generator: Any) -> Iterator[Any]:
    """Yield the rows of the steps for ever: all of them, or the parts of random orders."""
    while True:
        if size >= m:
            yield slice(None)
        else:
            yield from torch.randperm(m, generator=generator).split(size)


class _Model:
    """Parameters, data, and the states of all samples as warm starts."""

    def __init__(self, problem: TrainingProblem, U: Any, Y: Any, generator: Any) -> None:
        n, (m, p), q = problem.n_states, U.shape, Y.shape[1]
        self.problem, self.U, self.Y = problem, U, Y
        self.X, self.V = U.new_zeros(m, n), U.new_zeros(m, n)

        def random(rows: int, columns: int, deviation: float) -> Any:
            values = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            return (values * deviation).to(U.dtype).requires_grad_()

        self.A = random(n, n, 0.3 / n)
        self.B, self.b = random(n, p, p**-0.5), U.new_zeros(n, requires_grad=True)
        self.C, self.d = random(q, n, 0.5 * (n * q) ** -0.5), U.new_zeros(q, requires_grad=True)
        self.D = U.new_zeros(q, p, requires_grad=True) if problem.feedthrough else None
        blocks = (self.A, self.B, self.b, self.C, self.D, self.d)
        self.trained = [block for block in blocks if block is not None]

    def loss(self, rows: Any, tol: float) -> Any:
        U, V0 = self.U[rows], self.V[rows]
        Z = torch.addmm(self.b, U, self.B.t())
        X = _Equilibrium.apply(self.A, Z, self.X[rows], V0, tol)
        self.X[rows] = X.detach()
        F = torch.addmm(self.d, X, self.C.t())
        if self.D is not None:
            F = F + U @ self.D.t()
        return sample_loss(self.problem, F, self.Y[rows])

    def shrink(self, optimiser: Any) -> None:
        """Take the proximal step of the group penalty in the mean metric of each group."""
        blocks = [block for block in (self.B, self.D) if block is not None]
        roots, count = 0.0, 0
        for block in blocks:
            state = optimiser.state[block]
            correction = 1.0 - 0.999 ** float(state["step"])
            roots = roots + (state["exp_avg_sq"] / correction).sqrt().add_(1e-8).sum(0)
            count += len(block)
        rate = optimiser.param_groups[0]["lr"] / (roots / count)
        norms = sum(block.square().sum(0) for block in blocks).sqrt().clamp_(min=1e-30)
        factor = (1.0 - rate * self.problem.alpha / norms).clamp_(min=0.0)
        for block in blocks:
            block.mul_(factor)

    def copy(self) -> list[Any]:
        return [block.detach().clone() for block in self.trained]

    def parameters(self, copy: list[Any]) -> Parameters:
        A, B, b, C, *D, d = (block.double().numpy() for block in copy)
        feedthrough = D[0] if D else np.zeros((len(C), B.shape[1]))
        return self.problem.feasible(Parameters(A, B, b, C, feedthrough, d))


def _project_rows(A: Any, radius: float) -> None:
    """Project the rows of A on the l1 ball, in place."""
    sizes = A.abs()
    if float(sizes.sum(1).max()) <= radius:
        return
    ordered = sizes.sort(dim=1, descending=True).values
    counts = torch.arange(1, len(A) + 1, dtype=A.dtype)
    excess = (ordered.cumsum(1) - radius) / counts
    last = (ordered > excess).sum(1, keepdim=True) - 1
    threshold = excess.gather(1, last).clamp_(min=0.0)
    A.copy_(A.sign() * (sizes - threshold).clamp_(min=0.0))
