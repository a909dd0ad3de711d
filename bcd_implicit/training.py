"""The two phases, restarts and stopping: from data and problem to the best model found."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.exact import Point, Stepper, evaluate
from bcd_implicit.forward import followed_objective, true_objective
from bcd_implicit.gram import InputGram
from bcd_implicit.lifted import LiftedDescent, random_parameters
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import TrainingData

__all__ = ["Fit", "Outcome", "on_allowed_inputs", "train"]

Array = NDArray[np.float64]

_LIFTED_ITERATIONS = 15
# The multipliers follow the curvature of the loss at random states, which is small with one output:
# a strength that suits the exact phase then empties the lifted model, and |u| or u1 u2 are missed.
_LIFTED_STRENGTH = 1e-3
# A smaller fall of the true objective, twice: exact steps go faster. Only for parts of the rows:
# where these are all there are, the whole phase finds the right inputs more often.
_SLOW = 0.03
_PROBE_STEPS = 10  # exact steps before the worse half of the starts is dropped
_NO_LOSS = 1e-3  # of unit loss: separable classes lower the objective for ever, to no avail
_MANY_ROWS = 4000
_NESTING = 8
_WINDOW = 10  # accepted steps over which the decrease is judged


@dataclass(frozen=True)
class Outcome:
    """How a fit ended: what remains of a `Fit` without its arrays."""

    residual: float
    decrease: float
    converged: bool
    interrupted: bool


@dataclass
class Fit:
    """Outcome of `train`.

    Attributes
    ----------
    point : Point
        The best accepted iterate.
    began : Parameters
        Where the exact phase of the start that won began.
    n_iter : int
        Exact steps of the start that won.
    decrease : float
        Mean relative decrease of the objective over the last steps.
    converged, interrupted : bool
    """

    point: Point
    began: Parameters
    n_iter: int
    decrease: float
    converged: bool
    interrupted: bool

    def among(self, columns: IntArray, p: int) -> "Fit":
        """Return the fit to some of ``p`` inputs as one to all, of which the others are unused."""
        point = replace(self.point, parameters=self.point.parameters.among(columns, p))
        return replace(self, point=point, began=self.began.among(columns, p))

    def outcome(self) -> Outcome:
        """Return how it ended."""
        return Outcome(self.point.residual, self.decrease, self.converged, self.interrupted)


@dataclass
class _Run:
    """One start: its current point and stepper; the states of the data may belong to another."""

    point: Point
    stepper: Stepper
    began: Parameters
    n_iter: int = 0
    objectives: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    stalled: bool = False

    def decrease(self) -> float:
        """Mean relative decrease a step over the window; infinite before it is full."""
        return _decrease(self.objectives)

    def converged(self, tol: float) -> bool:
        """Whether no step falls, the residual is small, or the objective has stopped falling.

        At the kinks of an activation the residual of the gradient that was picked does not go to
        zero: a minimiser may sit on a kink of some samples. There the decrease decides.
        """
        return self.stalled or self.point.residual <= 0.1 * tol or self.decrease() <= tol


def _decrease(objectives: list[float]) -> float:
    """Return the mean relative decrease a step over the window; infinite before it is full."""
    if len(objectives) <= _WINDOW:
        return np.inf
    old, new = objectives[-1 - _WINDOW], objectives[-1]
    return (old - new) / _WINDOW / max(abs(new), _NO_LOSS)


class _Trainer:
    def __init__(
        self,
        data: TrainingData,
        problem: TrainingProblem,
        tol: float,
        monitor: Monitor,
        held_out: TrainingData | None,
    ) -> None:
        self.data, self.problem, self.tol, self.monitor = data, problem, tol, monitor
        self.held_out = held_out
        if held_out is not None:
            held_out.start_states(problem.n_states)
        self.gram = InputGram(data)
        # what a fit falls back on that is interrupted before its first exact point
        self.safe: Parameters | None = None
        self.safe_objective = np.inf

    def lift(self, parameters: Parameters) -> Parameters:
        """Phase one, from random or given parameters."""
        if self.problem.activation.kernel is None:
            self.data.start_states(self.problem.n_states)
            return parameters  # a user's activation without compiled terms starts as it is
        weak = replace(
            self.problem,
            alpha=min(self.problem.alpha, _LIFTED_STRENGTH),
            l2=min(self.problem.l2, _LIFTED_STRENGTH),
        )
        lifted = LiftedDescent.start(self.data.in_memory(), weak, self.gram, parameters)
        before, slow = np.inf, 0
        for _ in range(_LIFTED_ITERATIONS):
            lifted.update_states()
            self._record_lifted("X", lifted)
            lifted.update_readout()
            self._record_lifted("C", lifted)
            lifted.update_matrices()
            objective, error = true_objective(self.data, self.problem, lifted.parameters)
            if objective < self.safe_objective:
                self.safe, self.safe_objective = lifted.parameters, objective
            self._record_lifted("ABD", lifted, objective, error)
            slow = slow + 1 if 0.0 <= before - objective < _SLOW * before else 0
            before = objective
            if slow == 2 and self.held_out is not None:
                break
        return lifted.parameters

    def begin(self, parameters: Parameters) -> _Run:
        """Put the states on the equilibrium: the first point of phase two."""
        point = evaluate(self.data, self.problem, parameters)
        self.data.accept_trial()
        stepper = Stepper(self.data, self.problem, self.gram)
        return _Run(point, stepper, parameters, objectives=[point.objective])

    def advance(self, run: _Run, steps: int) -> None:
        """Make exact steps until the run has converged or used them up."""
        while steps > 0 and not run.converged(self.tol):
            new = run.stepper.step(run.point)
            if new is None:
                run.stalled = True
                return
            run.point = new
            run.n_iter += 1
            run.objectives.append(new.objective)
            self.record_exact("ABD", new, run.stepper)
            steps -= 1
            if self.held_out is not None:
                self._look_at_held_out(run, self.held_out)

    def _look_at_held_out(self, run: _Run, held_out: TrainingData) -> None:
        """End a run that gains nothing on other rows."""
        run.held_out.append(followed_objective(held_out, self.problem, run.point.parameters))
        run.stalled = _decrease(run.held_out) <= self.tol

    def resume(self, run: _Run) -> None:
        """Bring the states of the data back to the point of a run."""
        self.data.start_states(self.problem.n_states)
        point = evaluate(self.data, self.problem, run.point.parameters)
        self.data.accept_trial()
        if point.objective <= run.point.objective:
            run.point = point

    def _record_lifted(
        self, block: str, lifted: LiftedDescent, objective: float = np.nan, error: float = np.nan
    ) -> None:
        self.monitor.record(
            "lifted",
            block,
            objective=objective,
            lifted_objective=lifted.objective(),
            equilibrium_residual=error,
            active_inputs=int(lifted.parameters.active.sum()),
        )

    def record_exact(self, block: str, point: Point, stepper: Stepper) -> None:
        self.monitor.record(
            "exact",
            block,
            objective=point.objective,
            equilibrium_residual=point.error,
            active_inputs=int(point.parameters.active.sum()),
            step=stepper.eta,
        )


def train(
    data: TrainingData,
    problem: TrainingProblem,
    *,
    start: Parameters | None = None,
    max_iter: int = 200,
    tol: float = 1e-4,
    n_init: int = 1,
    rng: np.random.Generator,
    monitor: Monitor | None = None,
    held_out: TrainingData | None = None,
    first: TrainingProblem | None = None,
) -> Fit:
    """Minimise the objective of a `TrainingProblem` from random starts or from a given one.

    Many rows are begun with an eighth of them, and these likewise, for as long as the objective on
    another eighth falls: the start costs little, and what the few rows say about the minimum saves
    most of the steps over all. Every random start goes through the lifted phase. With several, each
    gets a few exact steps and the worse half is dropped, repeatedly, with twice the steps each
    time; the last one goes on until it has converged. A given start goes straight to the exact
    phase.

    Parameters
    ----------
    data : TrainingData
    problem : TrainingProblem
    start : Parameters, optional
        Warm start: ``n_init`` is ignored. What the problem does not allow is removed from it.
    max_iter : int
        Most exact steps.
    tol : float
        Stop when the objective falls by less than ``tol`` of itself a step, in the mean over ten.
    n_init : int
        Number of random starts.
    rng : numpy.random.Generator
    monitor : Monitor, optional
        Receives the history.
    held_out : TrainingData, optional
        Other rows: the exact phase ends when the objective on them has stopped falling, too.
    first : TrainingProblem, optional
        What random starts are trained for first, with half of the steps; with many rows only where
        they are begun.

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
    before, spent = False, 0
    if start is None and data.n_samples > _MANY_ROWS:
        begun = _train_few(data, problem, max_iter, tol, n_init, rng, monitor, first)
        start, before = begun.point.parameters, begun.interrupted
    elif start is None:
        data = data.in_memory()
    if start is None and first is not None:
        begun = train(
            data,
            first,
            max_iter=max_iter // 2,
            tol=tol,
            n_init=n_init,
            rng=rng,
            monitor=monitor,
            held_out=held_out,
        )
        start, before, spent = begun.point.parameters, begun.interrupted, begun.n_iter
    monitor.rows = data.n_samples
    trainer = _Trainer(data, problem, tol, monitor, held_out)
    runs: list[_Run] = []
    interrupted = before
    with data.threads():
        try:
            _run_starts(trainer, runs, start, n_init, 0 if before else max_iter - spent, rng)
        except KeyboardInterrupt:
            interrupted = True
            if not runs:
                data.start_states(problem.n_states)
                fallback = trainer.safe or _random_start(data, problem, rng)
                runs.append(trainer.begin(fallback))
    best = min(runs, key=lambda run: run.point.objective)
    return Fit(
        point=best.point,
        began=best.began,
        n_iter=spent + best.n_iter,
        decrease=best.decrease(),
        converged=not interrupted and best.converged(tol),
        interrupted=interrupted,
    )


def _train_few(
    data: TrainingData,
    problem: TrainingProblem,
    max_iter: int,
    tol: float,
    n_init: int,
    rng: np.random.Generator,
    monitor: Monitor,
    first: TrainingProblem | None,
) -> Fit:
    """Train on a part of the rows; its states are forgotten on return."""
    few, others = (data.sampled_rows(data.n_samples // _NESTING, first) for first in range(2))
    return train(
        few,
        problem,
        max_iter=max_iter,
        tol=tol,
        n_init=n_init,
        rng=rng,
        monitor=monitor,
        held_out=others,
        first=first,
    )


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
    found = fit(data.only(left), problem.only(left), None if start is None else start.only(left))
    return found.among(left, data.n_inputs)


def _random_start(
    data: TrainingData, problem: TrainingProblem, rng: np.random.Generator
) -> Parameters:
    """Return random parameters without inputs that are zero in all samples: nothing moves them."""
    parameters = random_parameters(problem, data.n_inputs, data.n_outputs, rng)
    (present,) = data.sum(lambda block: (block.inputs().any(axis=0),))
    return replace(parameters, B=np.where(present, parameters.B, 0.0))


def _run_starts(
    trainer: _Trainer,
    runs: list[_Run],
    start: Parameters | None,
    n_init: int,
    max_iter: int,
    rng: np.random.Generator,
) -> None:
    """Fill ``runs``, and thin it out until the best start is left and has run its course."""
    data, problem = trainer.data, trainer.problem
    if start is not None:
        data.start_states(problem.n_states)
        trainer.safe = problem.feasible(start)
        runs.append(trainer.begin(trainer.safe))
        trainer.record_exact("C", runs[-1].point, runs[-1].stepper)
    for index in range(n_init if start is None else 0):
        trainer.monitor.start = index
        parameters = _random_start(data, problem, rng)
        run = trainer.begin(trainer.lift(parameters))
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
    (run,) = runs
    trainer.advance(run, max_iter - run.n_iter)
