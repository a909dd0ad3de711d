"""The steps that training is made of: the lifted phase, and runs of the exact one."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.curvature import curvature_sample
from bcd_implicit.exact import Point, evaluate, revisit
from bcd_implicit.forward import followed_objective, true_objective
from bcd_implicit.gram import InputGram
from bcd_implicit.lifted import LiftedDescent
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.stepper import Stepper
from bcd_implicit.training_data import PassCounter, TrainingData

__all__ = ["Progress", "Run", "Trainer"]

Array = NDArray[np.float64]

# More of them make odd functions of the inputs out of the states, and even targets lose: after 0,
# 1, 3 and 15, fits of |u| (1,000 rows, strength 0.03) end at 0.092, 0.046, 0.045 and 0.18 in the
# mean, of products at 0.10, 0.061, 0.070, 0.15, of Friedman's function at 0.078, 0.054, 0.050,
# 0.054. Images take as long with 3, 4 and 15.
_LIFTED_ITERATIONS = 3
# The multipliers follow the curvature of the loss at random states, which is small with one output:
# a strength that suits the exact phase then empties the lifted model, and |u| or u1 u2 are missed.
_LIFTED_STRENGTH = 1e-3
_NO_LOSS = 1e-3  # of unit loss: separable classes lower the objective for ever, to no avail
# Of a rival's objective, that a fit may begin above it. With the pace of the last step as the limit
# later on, a fifth of the steps that lost are made, and three quarters of the fits that won.
_FAR = 0.2
_FIRST = 1e-6  # accuracy of the first readout, which the first step makes anew
_SHORTEST = 1.0 / 16.0  # first step, also where a part has ended with steps of nearly nothing
# A part of the rows is left when so many steps gain less on others than this share of what it is
# ahead of them: steps on all rows would take that back at once.
_SOON, _AHEAD = 5, 0.1
# Steps after which states are found afresh: on a cluster, lost ones are traced back no further.
# Everywhere, so that fits have the same bits.
_AFRESH = 20


@dataclass(frozen=True)
class Progress:
    """What a run needs to be taken up again; the states are found again.

    Attributes
    ----------
    parameters, began : Parameters
    objective, error : float
        Of the parameters.
    n_iter : int
    eta, tolerance : float
        Of the stepper.
    objectives, held_out : list of float
        As many of the last ones as decide when to stop.
    spent : int
        Steps that were made before, for another problem.
    """

    parameters: Parameters
    began: Parameters
    objective: float
    error: float
    n_iter: int
    eta: float
    tolerance: float
    objectives: list[float]
    held_out: list[float]
    spent: int = 0


@dataclass
class Run:
    """One start: its current point and stepper; the states of the data may belong to another."""

    point: Point
    stepper: Stepper
    began: Parameters
    n_iter: int = 0
    objectives: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    stalled: bool = False
    window: int = 10

    def decrease(self) -> float:
        """Mean relative decrease a step over the window; infinite before it is full."""
        return _decrease(self.objectives, self.window)

    def progress(self) -> Progress:
        """Return what is needed to take the run up again."""
        return Progress(
            self.point.parameters,
            self.began,
            self.point.objective,
            self.point.error,
            self.n_iter,
            self.stepper.eta,
            self.stepper.tolerance,
            self.objectives[-self.window - 1 :],
            self.held_out[-max(self.window, _SOON) - 1 :],
        )

    def converged(self, tol: float) -> bool:
        """Whether no step falls, the residual is small, or the objective has stopped falling.

        A part of the rows has also converged where other rows hardly gain.

        At the kinks of an activation the residual of the gradient that was picked does not go to
        zero: a minimiser may sit on a kink of some samples. There the decrease decides.
        """
        settled = self.stalled or self.point.residual <= 0.1 * tol or self.decrease() <= tol
        return settled or self.fits_itself(tol)

    def fits_itself(self, tol: float) -> bool:
        """Whether other rows hardly gain any more, or little beside what these are ahead."""
        held_out = self.held_out
        if len(held_out) <= _SOON:
            return False
        gained, ahead = held_out[-1 - _SOON] - held_out[-1], held_out[-1] - self.objectives[-1]
        return gained <= _AHEAD * ahead or _decrease(held_out, self.window) <= tol


def _decrease(objectives: list[float], window: int) -> float:
    """Return the mean relative decrease a step over the window; infinite before it is full."""
    if len(objectives) <= window:
        return np.inf
    old, new = objectives[-1 - window], objectives[-1]
    return (old - new) / window / max(abs(new), _NO_LOSS)


class Trainer:
    """The steps that training is made of, for one problem and its rows."""

    def __init__(
        self,
        data: TrainingData,
        problem: TrainingProblem,
        tol: float,
        monitor: Monitor,
        held_out: TrainingData | None,
        *,
        many: bool,
        window: int,
        rival: float = np.inf,
    ) -> None:
        self.data, self.problem, self.tol, self.monitor = data, problem, tol, monitor
        self.held_out, self._many, self._window, self._rival = held_out, many, window, rival
        if held_out is not None:
            held_out.start_states(problem.n_states)
        self.gram = InputGram(data)
        # what a fit falls back on that is interrupted before its first exact point
        self.safe: Parameters | None = None
        self.safe_objective = np.inf
        self._passes = PassCounter(data)

    @cached_property
    def _sample(self) -> RowBlocks | None:
        """Rows whose curvature steps use; gathering them may be interrupted, or find data lost."""
        return curvature_sample(self.data, self.problem) if self._many else None

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
        return lifted.parameters

    def begin(self, parameters: Parameters, eta: float = 1.0) -> Run:
        """Put the states on the equilibrium: the first point; steps begin about ``eta`` long."""
        point = evaluate(self.data, self.problem, parameters, _FIRST)
        self.data.accept_trial()
        stepper = Stepper(self.data, self.problem, self.gram, self._sample)
        # about: where a part has converged, what it ends with is a matter of rounding errors
        stepper.eta = 2.0 ** round(math.log2(min(max(eta, _SHORTEST), 1.0)))
        return Run(point, stepper, parameters, objectives=[point.objective], window=self._window)

    def take_up(self, progress: Progress) -> Run:
        """Return a run as it was, with the states of the data on its equilibrium."""
        self.data.start_states(self.problem.n_states)
        point = revisit(
            self.data, self.problem, progress.parameters, progress.objective, progress.error
        )
        stepper = Stepper(self.data, self.problem, self.gram, self._sample)
        stepper.eta, stepper.tolerance = progress.eta, progress.tolerance
        objectives, held_out = list(progress.objectives), list(progress.held_out)
        if self.held_out is not None:
            followed_objective(self.held_out, self.problem, progress.parameters)
        return Run(
            point,
            stepper,
            progress.began,
            progress.n_iter,
            objectives,
            held_out,
            window=self._window,
        )

    def advance(self, run: Run, steps: int, after: Callable[[Run], None] | None = None) -> None:
        """Make exact steps until the run has converged or used them up; call ``after`` each.

        A run also ends where it would not beat the rival at the pace of its last step.
        """
        while steps > 0 and not run.converged(self.tol) and self._in_reach(run, steps):
            if (run.n_iter + 1) % _AFRESH == 0:
                for data in filter(None, (self.data, self.held_out)):
                    data.start_states(self.problem.n_states)
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
                run.held_out.append(followed_objective(self.held_out, self.problem, new.parameters))
            if after is not None:
                after(run)

    def _in_reach(self, run: Run, steps: int) -> bool:
        """Whether so many steps may bring a run below the rival."""
        missing = run.objectives[-1] - self._rival
        if len(run.objectives) == 1:
            return missing <= _FAR * self._rival
        return missing <= steps * (run.objectives[-2] - run.objectives[-1])

    def resume(self, run: Run) -> None:
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
            lifted_objective=lifted.objective() if self.monitor.heard else np.nan,
            equilibrium_residual=error,
            active_inputs=int(lifted.parameters.active.sum()),
            passes=self._passes(),
        )

    def record_exact(self, block: str, point: Point, stepper: Stepper) -> None:
        """Tell the monitor of a point."""
        self.monitor.record(
            "exact",
            block,
            objective=point.objective,
            equilibrium_residual=point.error,
            active_inputs=int(point.parameters.active.sum()),
            step=stepper.eta,
            passes=self._passes(),
        )
