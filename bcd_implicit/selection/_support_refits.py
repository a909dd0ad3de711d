"""Refits of the supports along paths, without the shrinkage of the strengths they were found at.

Models on a path differ more in shrinkage than in inputs: what predicts best on it keeps most false
inputs, and so do information criteria. Of the article's teachers (ten states, 10 % noise) BIC keeps
40 of 40 by the losses of the path, and none in 9 of 12 samples by those of refits.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bcd_implicit._group_numbers import whole_groups
from bcd_implicit._typing import BoolArray
from bcd_implicit.fits import Fit
from bcd_implicit.linear import NO_STATES
from bcd_implicit.problem import TrainingProblem
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._linear_fits import LinearRefitter
from bcd_implicit.selection._path_fits import PathStep

__all__ = ["refit_other", "refit_supports", "refit_without_states"]

_PART = 0.1  # of the strength at which a support was found, for its refit
_STEPS = 10


def refit_supports(fitter: WarmFitter, steps: list[PathStep], l2: float | None) -> list[PathStep]:
    """Refit the support of every model on a path, the inputs alone, at a tenth of its strength.

    None is refitted at less than the weakest strength of the path.
    ``l2`` is the penalty of C, which follows the strength if it is None. Each starts from the refit
    of the denser support before it, if it is a part of that: what is compared then differs by the
    inputs, not by the minima that the path went through. Lost: all at the weakest strength, where
    BIC chose none of four linear inputs among 30 (300 rows).
    """

    def fit(step: PathStep, problem: TrainingProblem, inside: BoolArray, last: PathStep) -> Fit:
        denser = last if np.isin(step.columns, last.columns).all() else step
        start = denser.full(len(inside)).restricted(inside)
        return fitter.keep(problem, start, inside, _STEPS)

    return _refits(fitter, steps, l2, fit)


def refit_other(
    fitter: WarmFitter, step: PathStep, before: PathStep, weakest: float, l2: float | None
) -> PathStep:
    """Refit the support of a model of another path, from that and from the refit ``before`` it.

    Returns the better of both. ``weakest`` is the weakest strength of the path.
    """
    p = fitter.data.n_inputs
    problem, inside = _weaker(fitter.problem, step, p, weakest, l2)
    fits = [
        fitter.keep(problem, start.full(p).restricted(inside), inside, _STEPS)
        for start in (step, before)
    ]
    best = min(fits, key=lambda fit: fit.point.objective)
    return PathStep.of(best, np.full(p, np.nan), problem)


def refit_without_states(fitter: WarmFitter, steps: list[PathStep]) -> list[PathStep]:
    """Refit what the model without states uses at every strength, as `refit_supports` does.

    Where the path is empty, so is what is returned. Lost: the supports of the path, of which
    cross-validation kept ten of 45 false inputs of five linear effects with as much noise (300
    rows).
    """
    linear = LinearRefitter(fitter.data, fitter.problem)

    def fit(step: PathStep, problem: TrainingProblem, inside: BoolArray, last: PathStep) -> Fit:
        start = None if last is step else last.full(len(inside)).restricted(inside)
        return fitter.keep(problem, linear.refit(problem, start, inside), inside, 0)

    return _refits(fitter, _linear_steps(fitter, linear, steps), NO_STATES, fit)


def _linear_steps(
    fitter: WarmFitter, linear: LinearRefitter, steps: list[PathStep]
) -> list[PathStep]:
    """Return the models without states at the strengths of a path."""
    everything = np.ones(fitter.data.n_inputs, dtype=np.bool_)
    start = None
    found: list[PathStep] = []
    for step in reversed(steps):
        if not len(step.columns):
            found.append(step)
            continue
        problem = replace(fitter.problem, alpha=step.alpha, l2=NO_STATES)
        start = linear.refit(problem, start, everything)
        found.append(PathStep.as_it_is(fitter, problem, start))
    return found[::-1]


def _refits(
    fitter: WarmFitter,
    steps: list[PathStep],
    l2: float | None,
    fit: Callable[[PathStep, TrainingProblem, BoolArray, PathStep], Fit],
) -> list[PathStep]:
    """Fit every support that is not empty; gradients of inputs outside are not taken.

    ``fit`` gets the step, its weaker problem, its inputs, and the refit before it or the step.
    """
    p = fitter.data.n_inputs
    refits: list[PathStep] = []
    for step in steps:
        if not len(step.columns):
            refits.append(step)
            continue
        problem, inside = _weaker(fitter.problem, step, p, steps[0].alpha, l2)
        found = fit(step, problem, inside, refits[-1] if refits else step)
        refits.append(PathStep.of(found, np.full(p, np.nan), problem))
    return refits


def _weaker(
    problem: TrainingProblem, step: PathStep, p: int, weakest: float, l2: float | None
) -> tuple[TrainingProblem, BoolArray]:
    """Return the problem in which a support is refitted, and its inputs."""
    alpha = max(_PART * step.alpha, weakest)
    weaker = step.l2 / step.alpha * alpha if l2 is None else l2
    inside = whole_groups(problem.groups, step.full(p).active)
    return replace(problem, alpha=alpha, l2=weaker), inside
