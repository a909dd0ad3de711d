"""The second opponent: torchidl's ImplicitModel, trained by Adam as its README does."""

import warnings
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchidl import ImplicitModel
from torchidl.implicit_function import ImplicitFunctionWarning, project_onto_Linf_ball

from bcd_implicit.problem import Parameters
from experiments.benchmarks.adam import Snapshots, penalty, sample_loss, standardised
from experiments.benchmarks.problems import Task

__all__ = ["torchidl"]


def torchidl(task: Task, rate: float, limit: float, *, threads: int) -> list[tuple[float, float]]:
    """Return the curve of the true objective; the penalties are terms of the loss.

    Its bias is one more input that is 1: b and d are the last columns of B and D, which must not
    pay the group penalty. It divides all of A by one number where the row sums exceed kappa; the
    model that it predicts with is the one that is evaluated.
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    problem = task.problem
    U, Y = standardised(task, torch.float32)
    clock = Snapshots(limit)
    model = ImplicitModel(
        U.shape[1],
        Y.shape[1],
        problem.n_states,
        no_D=not problem.feedthrough,
        bias=True,
        kappa=problem.kappa,
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    loader = DataLoader(TensorDataset(U, Y), task.trials[0][0], shuffle=True)

    def copy() -> list[Any]:
        return [block.detach().clone() for block in (model.A, model.B, model.C, model.D)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitFunctionWarning)
        running = True
        while running:
            for inputs, targets in loader:
                optimiser.zero_grad()
                D = model.D[:, :-1] if problem.feedthrough else None
                loss = sample_loss(problem, model(inputs), targets)
                loss = loss + penalty(problem, model.B[:, :-1], model.C, D, groups=True)
                loss.backward()
                optimiser.step()
                running = clock.offer(copy)
                if not running:
                    break

    def convert(blocks: list[Any]) -> Parameters:
        A, B, C, D = blocks
        A = project_onto_Linf_ball(A, problem.kappa)
        A, B, C, D = (np.array(block.double()) for block in (A, B, C, D))
        return problem.feasible(Parameters(A, B[:, :-1], B[:, -1], C, D[:, :-1], D[:, -1]))

    return clock.curve(task, convert)
