"""The forward passes of torchidl and torchdeq, for `experiments.benchmarks.equilibrium`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.benchmarks.harness import Contender

if TYPE_CHECKING:
    from experiments.benchmarks.equilibrium import Problem

__all__ = ["torch_contenders"]


def torch_contenders(problem: Problem, threads: int) -> list[Contender]:
    """Return the contenders on a problem."""
    torch.set_num_threads(threads)
    U = torch.from_numpy(problem.U)
    A, B = (torch.from_numpy(np.array(M)) for M in (problem.model.A, problem.model.B))
    # torchdeq records this many residuals for every sample, however early it stops
    most = problem.picard_iterations + problem.picard_iterations // 4 + 5
    lam = 1e-20 if problem.model.contraction_factor > 0.95 else 1e-16
    makers: dict[str, Callable[[], Callable[[Any], Any]]] = {
        "torchidl": partial(_idl, A, B, problem.step, most),
        "torchdeq fixed_point_iter": partial(
            _deq, A, B, "fixed_point_iter", problem.step, most, lam
        ),
        "torchdeq anderson": partial(_deq, A, B, "anderson", problem.step, most, lam),
    }
    size = max(2**18 // len(A), 512)  # within 30 % of the best of 2^15 to 2^22 everywhere

    def contender(name: str) -> Contender:
        solver = cache(makers[name])  # made by the first run: its package may be missing

        def work() -> NDArray[np.float64]:
            with torch.no_grad():
                parts = [solver()(part) for part in U.split(size)]
                states: NDArray[np.float64] = torch.cat(parts).numpy()
                return states

        return Contender(name, work, problem.error)

    return [contender(name) for name in makers]


def _idl(A: Any, B: Any, tol: float, most: int) -> Callable[[Any], Any]:
    """Return torchidl's Picard iteration; it holds the samples in columns."""
    from torchidl.implicit_function import ImplicitFunction

    class Exact(ImplicitFunction):  # type: ignore[misc]
        """Its iteration without the projection of A on row sums below kappa."""

    Exact.set_parameters(mitr=most, tol=tol)

    def solve(U: Any) -> Any:
        X0 = torch.zeros((len(A), len(U)), dtype=U.dtype)
        return Exact.apply(A, B, X0, U.T).T

    return solve


def _deq(A: Any, B: Any, solver: str, tol: float, most: int, lam: float) -> Callable[[Any], Any]:
    """Return a forward pass of torchdeq in evaluation mode."""
    from torchdeq import get_deq

    deq = get_deq(
        f_solver=solver, f_max_iter=most, f_tol=tol, f_stop_mode="abs", no_stat=True
    ).eval()
    AT, BT = A.T.contiguous(), B.T

    def solve(U: Any) -> Any:
        Zin = U @ BT

        def step(X: Any) -> Any:
            return torch.addmm(Zin, X, AT).relu_()

        states, _ = deq(step, torch.zeros_like(Zin), solver_kwargs={"lam": lam})
        return states[-1]

    return solve
