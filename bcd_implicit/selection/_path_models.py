"""The models of a path as fitted estimators."""

import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._group_numbers import whole_groups
from bcd_implicit._typing import BoolArray
from bcd_implicit.fits import Outcome
from bcd_implicit.fitting import FittedModel
from bcd_implicit.prepared import Prepared, Units
from bcd_implicit.selection._eliminated_path import eliminated_steps
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._grid import Grid
from bcd_implicit.selection._path_fits import PathStep, follow_path
from bcd_implicit.selection._support_refits import refit_other, refit_supports, refit_without_states
from bcd_implicit.selection._template import fitter_of, search_fitter

__all__ = ["PathModels"]

Array = NDArray[np.float64]

_TOLERANCE = 1e-3
_DENSE_STEPS = 15
# Of refits, which end when two steps gain so little: ten steps for each took 2.5 times as long with
# the teachers of the article. BIC chose the same inputs in 30 of 32 samples, better ones in two.
_REFIT_TOLERANCE, _REFIT_WINDOW = 1e-4, 2
_RIVAL_STEPS = 30  # of models of other paths


@dataclass(frozen=True)
class PathModels:
    """The steps of a path, and what makes estimators of them.

    Attributes
    ----------
    template : ImplicitEstimator
        It has coded the data.
    units : Units
    steps : list of PathStep
        Their strengths are those of the units.
    alpha_max : float
        The smallest strength whose model is empty, see `follow_path`; in raw units.
    """

    template: ImplicitEstimator
    units: Units
    steps: list[PathStep]
    alpha_max: float

    @classmethod
    def of(
        cls,
        template: ImplicitEstimator,
        prepared: Prepared,
        grid: Grid,
        empty: BoolArray | None = None,
        l2_unit: float | None = None,
    ) -> "PathModels":
        """Fit the path to data that ``template`` has coded and prepared. See `follow_path`.

        ``l2_unit`` is the unit of the inputs in which an automatic penalty of C equals the
        strength; by default that of the data.
        """
        fitter = fitter_of(
            template, prepared, max_iter=grid.max_iter, tol=_TOLERANCE, dense_iter=_DENSE_STEPS
        )
        units = prepared.without_rows()
        unit = units.scaling.unit
        l2, ratio = _penalty_of_C(template), 1.0 if l2_unit is None else unit / l2_unit

        def penalty(alpha: float) -> float:
            return ratio * alpha if l2 is None else l2

        with fitter.data.threads():  # once: every fit would ask for them
            steps, alpha_max = follow_path(fitter, grid.over(unit), penalty, empty)
        return cls(template, units, steps, alpha_max * unit)

    @property
    def alphas(self) -> Array:
        """The strengths in raw units."""
        return np.array([step.alpha for step in self.steps]) * self.units.scaling.unit

    def estimator(self, index: int) -> ImplicitEstimator:
        """Return the model of a step as a fitted estimator."""
        step, units = self.steps[index], self.units
        estimator = copy.copy(self.template)
        estimator.alpha, estimator.l2 = step.alpha * units.scaling.unit, step.l2
        parameters = units.restored(step.full(len(units.problem.group_weights)))
        fitted = FittedModel(
            model=units.scaling.fold(parameters, units.problem.activation),
            alpha=estimator.alpha,
            l2=step.l2,
            group_weights=units.restored_weights(units.problem.group_weights),
            parameters=units.scaling.reported(parameters),
            objective=step.objective,
            n_iter=step.n_iter,
            # nothing is left to settle of an empty model
            outcome=Outcome(
                step.residual, np.nan, converged=not len(step.columns), interrupted=False
            ),
            path=[],
        )
        estimator._set_attributes(fitted, [])
        return estimator

    def candidates(self, prepared: Prepared) -> dict[str, "PathModels"]:
        """Return these models of the "path" and less shrunk ones, by their kind.

        They are fitted to the same data. A "refit" has the same support, an "eliminated" one that
        which eliminations leave; a "linear" one has no states and needs a feedthrough.
        """
        fitter, l2 = self._refitter(prepared), _penalty_of_C(self.template)
        with fitter.data.threads():
            eliminated = eliminated_steps(search_fitter(self.template, prepared), self.steps)
            kinds = {
                "refit": refit_supports(fitter, self.steps, l2),
                "eliminated": refit_supports(fitter, eliminated, l2),
            }
            if prepared.problem.feedthrough:
                kinds["linear"] = refit_without_states(fitter, self.steps)
        return {"path": self, **{kind: replace(self, steps=steps) for kind, steps in kinds.items()}}

    def rivalled(
        self,
        index: int,
        prepared: Prepared,
        others: list["PathModels"],
        refits: "PathModels | None" = None,
    ) -> "PathModels":
        """Return these models, with a better one at one of the strengths if another path has it.

        A path may lose an input at a strength at which others keep it, those of parts of the rows
        by which it was chosen. Their models are trained on with these data, and the one of the
        lowest objective takes the place of that of this path if its own is lower. Of the "refit"
        models that belong to these, if they are given, the same is returned: the refit of that one
        takes the place if its objective is lower, too.
        """
        own = self.steps[index]
        problem = replace(prepared.problem, alpha=own.alpha, l2=own.l2)
        fitter = fitter_of(self.template, prepared, max_iter=_RIVAL_STEPS, tol=_TOLERANCE)
        best = own
        with fitter.data.threads():
            for other in others:
                model = other.estimator(index).model_
                # in a part of the rows a class may be missing
                if not model.active_inputs.any() or model.n_outputs != len(own.parameters.C):
                    continue
                start = problem.feasible(prepared.inside(prepared.scaling.unfold(model)))
                inside = whole_groups(problem.groups, start.active)
                found = fitter.keep(problem, start, inside, rival=best.objective)
                if found.point.objective < best.objective:
                    norms = fitter.gradient_norms(problem, found.point.parameters)
                    best = PathStep.of(found, norms, problem)
            if refits is None:
                return self._with(index, best)
            if best is own:
                return refits
            before, l2 = refits.steps[max(index - 1, 0)], _penalty_of_C(self.template)
            weakest = self.steps[0].alpha
            best = refit_other(self._refitter(prepared), best, before, weakest, l2)
        if best.objective >= refits.steps[index].objective:
            return refits
        return refits._with(index, best)

    def _refitter(self, prepared: Prepared) -> WarmFitter:
        """Return what refits supports of these models."""
        return fitter_of(
            self.template, prepared, max_iter=0, tol=_REFIT_TOLERANCE, window=_REFIT_WINDOW
        )

    def _with(self, index: int, step: PathStep) -> "PathModels":
        """Return these models with another one at a strength."""
        return replace(self, steps=[*self.steps[:index], step, *self.steps[index + 1 :]])

    def settled(
        self, index: int, prepared: Prepared, max_iter: int, tol: float
    ) -> ImplicitEstimator:
        """Return the model of a step, trained on with the inputs it uses, on the same data."""
        step = self.steps[index]
        if not len(step.columns):
            return self.estimator(index)
        parameters = step.full(len(prepared.problem.group_weights))
        inside = whole_groups(prepared.problem.groups, parameters.active)
        problem = replace(prepared.problem, alpha=step.alpha, l2=step.l2)
        fitter = fitter_of(self.template, prepared, history=True, max_iter=max_iter, tol=tol)
        fit = fitter.settle(problem, parameters, inside)
        allowed = replace(problem, group_weights=np.where(inside, problem.group_weights, np.inf))
        estimator = copy.copy(self.template)
        fitted = FittedModel.of(prepared, allowed, fit, [])
        estimator._set_attributes(fitted, fitter.monitor.history)
        return estimator


def _penalty_of_C(template: ImplicitEstimator) -> float | None:
    """Return it, or None if it follows the strength: it equals that in the units of the path.

    In raw units it would be far too large where the inputs are: C does not have their unit.
    """
    return None if template.l2 == "auto" else float(template.l2)
