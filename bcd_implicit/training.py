"""The two phases, restarts and stopping: from data and problem to the best model found."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from bcd_implicit.exceptions import DataLostError
from bcd_implicit.fits import Fit
from bcd_implicit.lifted import random_parameters
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.trainer import Run, Trainer
from bcd_implicit.training_data import TrainingData

__all__ = ["on_allowed_inputs", "train"]

_PROBE_STEPS = 10  # exact steps before the worse half of the starts is dropped
_MANY_ROWS = 4000
_NESTING = 8
_MOST_LIFTED = 6  # draws of a random start, while its states die
_NOTHING = 0.05  # of the deviation of an output, by a deviation of an input


def train(
    data: TrainingData,
    problem: TrainingProblem,
    *,
    start: Parameters | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
    window: int = 10,
    n_init: int = 1,
    rng: np.random.Generator,
    monitor: Monitor | None = None,
    held_out: TrainingData | None = None,
    first: TrainingProblem | None = None,
    rival: float = np.inf,
) -> Fit:
    """Minimise the objective of a `TrainingProblem` from random starts or from a given one.

    Many rows are begun with an eighth of them, and these likewise, until another eighth gains
    little beside what the first is ahead of it: the start costs little, and what the few rows say
    about the minimum saves most of the steps over all, the first of which is as long as the next of
    the few would be. Steps then use the curvature of single rows.
    Every random start goes through the lifted phase; without D it is drawn again if its states die.
    With several, each gets a few exact steps and the worse half is dropped, repeatedly, with twice
    the steps each time; the last one goes on until it has converged. A given start goes straight to
    the exact phase.

    Parameters
    ----------
    data : TrainingData
    problem : TrainingProblem
    start : Parameters, optional
        Warm start: ``n_init`` is ignored. What the problem does not allow is removed from it.
    max_iter : int
        Most exact steps.
    tol : float
        Stop when the objective falls by less than ``tol`` of itself a step, in the mean over
        ``window`` steps.
    window : int
    n_init : int
        Number of random starts.
    rng : numpy.random.Generator
    monitor : Monitor, optional
        Receives the history.
    held_out : TrainingData, optional
        Other rows: the exact phase also ends when the objective on them hardly falls any more, or
        little beside what that on ``data`` is ahead.
    first : TrainingProblem, optional
        What random starts are trained for first, with half of the steps; with many rows only where
        they are begun. If that leaves next to nothing, the problem gets a random start itself.
    rival : float
        An objective that a warm start is to beat: the fit ends where it is not going to.

    Returns
    -------
    Fit
        Its objective is never above that of the first exact point. After a KeyboardInterrupt, the
        best accepted iterate.

    Raises
    ------
    ValueError
        If ``start`` does not have the shapes of the problem.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> from bcd_implicit.losses import SquaredLoss
    >>> from bcd_implicit.statistics import RowBlocks
    >>> U = np.random.default_rng(0).standard_normal((100, 3))
    >>> Y = np.maximum(U[:, :1], 0.0)
    >>> data = RowBlocks(U, Y, np.full(100, 0.01), np.zeros(3), np.ones(3))
    >>> problem = TrainingProblem(SquaredLoss(), Relu(), 2, 0.05, 1e-3, 0.9, np.ones(3))
    >>> fit = train(data, problem, rng=np.random.default_rng(0))
    >>> fit.converged, fit.point.parameters.active
    (True, array([ True, False, False]))
    """
    monitor = monitor or Monitor()
    options: dict[str, Any] = {
        "tol": tol,
        "window": window,
        "n_init": n_init,
        "rng": rng,
        "monitor": monitor,
    }
    with monitor.journal.entry() as entry:
        done = entry.finished(rng)
        if done is not None:
            return done
        saved = entry.begun(rng)
        before, spent, eta = False, 0, 1.0
        many_rows = data.n_samples > _MANY_ROWS
        if start is None and not many_rows:
            data = data.in_memory()
        if saved is not None:
            spent = saved.spent
        elif start is None and many_rows:
            begun = _train_few(data, problem, max_iter=max_iter, first=first, **options)
            start, before, eta = begun.point.parameters, begun.interrupted, begun.eta
        elif start is None and first is not None:
            begun = train(data, first, max_iter=max_iter // 2, held_out=held_out, **options)
            before, spent = begun.interrupted, begun.n_iter
            # hardly a gradient leads out of a model of nothing: then begin at random here, too
            if before or _largest_effect(begun.point.parameters) > _NOTHING:
                start = begun.point.parameters
        monitor.rows = data.n_samples
        many = held_out is not None or many_rows
        trainer = Trainer(
            data, problem, tol, monitor, held_out, many=many, window=window, rival=rival
        )
        steps = 0 if before else max_iter - spent

        def keep(run: Run) -> None:
            entry.step(replace(run.progress(), spent=spent), rng)

        runs: list[Run] = []
        interrupted = before
        with data.threads(), held_out.threads() if held_out is not None else nullcontext():
            try:
                if saved is None:
                    _begin(trainer, runs, start, eta, n_init, steps, rng)
                else:
                    trainer.safe = saved.parameters
                    runs.append(trainer.take_up(saved))
                trainer.advance(runs[0], steps - runs[0].n_iter, keep)
            except KeyboardInterrupt:
                interrupted = True
                if not runs:
                    data.start_states(problem.n_states)
                    fallback = trainer.safe or _random_start(data, problem, rng)
                    runs.append(trainer.begin(fallback))
            except DataLostError as error:
                error.parameters = _best(runs).point.parameters if runs else trainer.safe
                raise
        best = _best(runs)
        fit = Fit(
            point=best.point,
            began=best.began,
            n_iter=spent + best.n_iter,
            decrease=best.decrease(),
            eta=best.stepper.eta,
            converged=not interrupted and best.converged(tol),
            interrupted=interrupted,
        )
        if not interrupted:
            entry.finish(fit, rng)
        return fit


def _largest_effect(parameters: Parameters) -> float:
    """Return a bound of how far an output moves where an input moves by one, slopes up to one."""
    p = parameters
    states = np.linalg.solve(np.eye(len(p.A)) - np.abs(p.A), np.abs(p.B))
    return float((np.abs(p.C) @ states + np.abs(p.D)).max(initial=0.0))


def _best(runs: list[Run]) -> Run:
    return min(runs, key=lambda run: run.point.objective)


def _train_few(data: TrainingData, problem: TrainingProblem, **options: Any) -> Fit:
    """Train on a part of the rows; its states are forgotten on return."""
    size = data.n_samples // _NESTING
    few, others = data.sampled_rows(size), data.sampled_rows(size, 1, compact=True)
    return train(few, problem, held_out=others, **options)


def on_allowed_inputs(
    data: TrainingData,
    problem: TrainingProblem,
    start: Parameters | None,
    fit: Callable[[TrainingData, TrainingProblem, Parameters | None], Fit],
) -> Fit:
    """Fit with the inputs of finite weight alone: the others need not even be read."""
    left = np.flatnonzero(np.isfinite(problem.group_weights))
    if not 0 < len(left) < data.n_inputs:
        return fit(data, problem, start)
    try:
        some = None if start is None else start.only(left)
        found = fit(data.only(left), problem.only(left), some)
    except DataLostError as error:
        if error.parameters is not None:
            error.parameters = error.parameters.among(left, data.n_inputs)
        raise
    return found.among(left, data.n_inputs)


def _random_start(
    data: TrainingData, problem: TrainingProblem, rng: np.random.Generator
) -> Parameters:
    """Return random parameters without inputs that are zero in all samples: nothing moves them."""
    parameters = random_parameters(problem, data.n_inputs, data.n_outputs, rng)
    (present,) = data.sum(lambda block: (block.inputs().any(axis=0),))
    return replace(parameters, B=np.where(present, parameters.B, 0.0))


def _lifted_start(trainer: Trainer, rng: np.random.Generator) -> Parameters:
    """Return a random start after the lifted phase, or another one if its states have died.

    Without D no gradient leads out of nothing: of three absolute values among 150 inputs (300 rows)
    3 of 8 fits with two states were empty, and 2 with five.
    """
    for _ in range(_MOST_LIFTED):
        start = _random_start(trainer.data, trainer.problem, rng)
        lifted = trainer.lift(start)
        if trainer.problem.feedthrough or lifted.B.any() or not start.B.any():
            break
    return lifted


def _begin(
    trainer: Trainer,
    runs: list[Run],
    start: Parameters | None,
    eta: float,
    n_init: int,
    max_iter: int,
    rng: np.random.Generator,
) -> None:
    """Fill ``runs``, and thin it out until the best start is left."""
    data, problem = trainer.data, trainer.problem
    if start is not None:
        data.start_states(problem.n_states)
        trainer.safe = problem.feasible(start)
        runs.append(trainer.begin(trainer.safe, eta))
        trainer.record_exact("C", runs[-1].point, runs[-1].stepper)
    for index in range(n_init if start is None else 0):
        trainer.monitor.start = index
        run = trainer.begin(_lifted_start(trainer, rng))
        runs.append(run)
        trainer.record_exact("C", run.point, run.stepper)
        if n_init > 1:
            trainer.advance(run, min(_PROBE_STEPS, max_iter))
    order = {id(run): index for index, run in enumerate(runs)}
    steps = _PROBE_STEPS
    while len(runs) > 1:
        runs.sort(key=lambda run: run.point.objective)
        del runs[(len(runs) + 1) // 2 :]
        steps *= 2
        for run in runs:
            trainer.monitor.start = order[id(run)]
            trainer.resume(run)
            trainer.advance(run, min(steps, max_iter - run.n_iter))
