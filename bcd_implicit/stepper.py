"""A proximal Gauss-Newton step of the exact phase, accepted only if the true objective falls."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.curvature import Curvature
from bcd_implicit.exact import Point, attempt, differentiate
from bcd_implicit.gram import InputGram
from bcd_implicit.metric import column_metrics, row_metrics, uncoupled
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, descend_group_ball
from bcd_implicit.solvers.group_ball_model import refine_group_ball
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData
from bcd_implicit.working_set import most_sweeps, working_set

__all__ = ["Stepper"]

Array = NDArray[np.float64]

_MOST_SWEEPS = 20  # 100 sweeps do not bring a step further
_BACKTRACKS = 12
_SHARE = 0.6  # of what its model promises, that a step is to gain; 0.7 is slower
_GAIN = 1e-12  # of the objective, to accept a step: less could be rounding errors
# In the curvature of single rows; 20 and 40 bring regressions as far, classifiers not so far.
_REFINEMENTS = 10
_LEAST_GAIN = 0.02  # of what the refinements of a step have gained: when they end
_LOOSE = 0.01  # of what the last step gained: when the readout stops


@dataclass(frozen=True)
class _Model:
    """Quadratic model over a working set, about the matrices ``start``.

    Attributes
    ----------
    start, gradient, curved : ndarray of shape (r, P)
        The matrices, the gradient of the loss there, and their product with the metric.
    metric : GroupBallProblem
        Metric and penalties for steps of length one; its linear term is not that of the model.
    """

    start: Array
    gradient: Array
    metric: GroupBallProblem
    curved: Array

    def at(self, eta: float) -> GroupBallProblem:
        """Return the model for steps of length ``eta``: its metric is divided by that."""
        return replace(
            self.metric,
            linear=self.gradient - self.curved / eta,
            H=self.metric.H / eta,
            H2=self.metric.H2 / eta,
        )


class Stepper:
    """Proximal Gauss-Newton steps with an adapted step length.

    With a ``sample`` of the rows a step goes on in their curvature (`bcd_implicit.curvature`), and
    where they do not suffice for that, the metric of the model is `bcd_implicit.metric.uncoupled`.

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
            self.data.n_samples,
        )
        curvature = None
        if self.sample is not None:
            curvature = Curvature(self.sample, self.problem, point.parameters)
        model = self._model(point, columns, curvature)
        for _ in range(_BACKTRACKS):
            proposal, promised = self._propose(point, columns, model, curvature)
            trial = attempt(self.data, self.problem, proposal, self.tolerance)
            gained = point.objective - trial.objective
            if gained > _GAIN * point.objective:
                self.tolerance = min(_LOOSE * gained / point.objective, 1e-4)
                new = differentiate(self.data, self.problem, trial)
                self.data.accept_trial()
                self._adapt(gained, promised)
                return new
            self._adapt(min(gained, 0.0), promised)  # a rounding error's worth is none
        return None

    def _adapt(self, gained: float, promised: float) -> None:
        """Take the length at which a step should gain a certain share of what its model promises.

        What is missing is taken to grow in proportion to the length. A step that is accepted does
        not shorten the next one: at the kinks of an activation some is missing however short a step
        is.
        """
        missing = 1.0 - gained / promised if promised > 0.0 else np.inf
        factor = np.inf if missing <= 0.0 else (1.0 - _SHARE) / missing
        least, most = (1.0, 2.0) if gained > 0.0 else (0.1, 0.5)
        self.eta = min(self.eta * min(float(np.fmax(factor, least)), most), 4.0)  # least if NaN

    def _model(self, point: Point, columns: IntArray, curvature: Curvature | None) -> "_Model":
        """Return the model over a working set, for steps of length one."""
        n, p = self.problem.n_states, self.data.n_inputs
        H, H2 = row_metrics(self.problem, point.metric)
        if curvature is not None and not curvature.suffices(len(columns)):
            H = uncoupled(H, n)
        W, K = column_metrics(
            point.XX,
            point.XU[:, columns],
            self.gram.of(columns),
            intercept=self.problem.intercept,
            read=self.problem.output_states,
        )
        rows = len(H)
        places = np.r_[0:n, n + columns, n + p : n + p + int(self.problem.intercept)]
        thresholds, sizes = self.problem.group_levels(columns)
        start = point.parameters.stacked()[:rows, places]
        gradient = point.gradient[:rows, places]
        metric = GroupBallProblem.of(
            gradient,
            H,
            W,
            n,
            thresholds,
            self.problem.kappa,
            l1=self.problem.l1,
            pattern=self.problem.pattern,
            entry=self.problem.entry_rows(rows),
            H2=H2,
            K=K,
            sizes=sizes,
        )
        return _Model(start, gradient, metric, metric.curved(start))

    def _propose(
        self,
        point: Point,
        columns: IntArray,
        unit: "_Model",
        curvature: Curvature | None,
    ) -> tuple[Parameters, float]:
        """Minimise the quadratic model plus the penalties over the working set.

        Returns also by how much they fall.
        """
        n = self.problem.n_states
        old, start = point.parameters, unit.start
        model = unit.at(self.eta)
        # no more accuracy than the step deserves: a part of the residual that it starts from
        tol = min(0.03 * point.residual / model.scale(point.gradient), 1.0)
        found, gradient = descend_group_ball(
            model, start, unit.gradient, tol, most_sweeps(columns, _MOST_SWEEPS)
        )
        Theta = found.x
        promised = model.penalty(start) - model.penalty(Theta)
        promised -= 0.5 * float(np.vdot(unit.gradient + gradient, Theta - start))
        if curvature is not None:
            Theta, promised = self._refine(model, start, Theta, promised, columns, curvature)
        B, D, b = old.B.copy(), old.D.copy(), old.b
        B[:, columns] = Theta[:n, n : n + len(columns)]
        if self.problem.feedthrough:
            D[:, columns] = Theta[n:, n : n + len(columns)]
        if self.problem.intercept:
            b = Theta[:n, -1].copy()
        return Parameters(Theta[:n, :n].copy(), B, b, old.C, D, old.d), promised

    def _refine(
        self,
        model: GroupBallProblem,
        start: Array,
        Theta: Array,
        promised: float,
        columns: IntArray,
        curvature: Curvature,
    ) -> tuple[Array, float]:
        """Go on with the inputs in use, in the curvature of single samples."""
        used = model.used(start) | model.used(Theta)
        chosen = columns[np.repeat(used, model.sizes)]
        if not curvature.suffices(len(chosen)):
            return Theta, promised
        some, places = model.only(used)
        product = curvature.product(chosen)
        found = refine_group_ball(
            some,
            lambda E: product(E) / self.eta,
            start[:, places],
            Theta[:, places],
            tol=0.0,
            least_gain=_LEAST_GAIN,
            max_steps=_REFINEMENTS,
        ).x
        E = found - start[:, places]
        promised = some.penalty(start[:, places]) - some.penalty(found)
        promised -= float(np.vdot(some.gradient(start[:, places]), E))
        promised -= 0.5 * float(np.vdot(product(E), E)) / self.eta
        refined = np.zeros_like(Theta)
        refined[:, places] = found
        return refined, promised
