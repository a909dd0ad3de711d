"""What backward eliminations leave, for every strength of a path."""

from dataclasses import replace

import numpy as np

from bcd_implicit._group_numbers import inputs_of
from bcd_implicit.problem import TrainingProblem
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._path_fits import PathStep
from bcd_implicit.selection._shrinking import shrinking

__all__ = ["eliminated_steps"]

_STRENGTHS = (0.01, 0.03)  # of the eliminations: each alone misses inputs that the other keeps
_FEW = 20  # groups, below which those sizes count, too, that an elimination passes over
_COMPARED = 0.01  # strength at which fits of equal size are; training them there changed nothing


def eliminated_steps(fitter: WarmFitter, steps: list[PathStep]) -> list[PathStep]:
    """Return for every strength of a path the fit of an elimination with the least objective there.

    With few rows, all inputs together fit the noise and hold each other on a path until it loses
    most of them at once; an elimination that refits between has a fit of each size. Those of two
    eliminations are compared at one weak strength, where the better of each size is kept; at the
    strengths of the path they are not trained on. Sizes fall as strengths rise. Where the path is
    empty, so is what is returned: inputs of noise came back there in a sample of twelve.
    """
    if not any(len(step.columns) for step in steps):
        return steps
    weak = replace(fitter.problem, alpha=_COMPARED, l2=_COMPARED)
    chains = [_chain(fitter, weak, strength) for strength in _STRENGTHS]
    fits = [min(same, key=lambda fit: fit.objective) for same in zip(*chains, strict=True)]
    chosen: list[PathStep] = []
    for step in steps:
        if not len(step.columns):
            chosen.append(step)
            continue
        problem = replace(fitter.problem, alpha=step.alpha, l2=step.l2)
        fits = fits[int(np.argmin([fit.value(problem) for fit in fits])) :]
        chosen.append(replace(fits[0], alpha=step.alpha, l2=step.l2))
    return chosen


def _chain(fitter: WarmFitter, weak: TrainingProblem, strength: float) -> list[PathStep]:
    """Return the fits of an elimination; few inputs are also dropped one by one between them."""
    everything = np.ones(len(weak.group_weights), dtype=np.bool_)
    fits = list(shrinking(fitter, 1, strength, everything))
    sizes = [size for *_, size in fits]
    chain = []
    for (parameters, order, size), smaller in zip(fits, [*sizes[1:], 0], strict=True):
        last = smaller if size <= _FEW else size - 1
        chain += [
            PathStep.as_it_is(fitter, weak, parameters.restricted(inputs_of(weak, order[:count])))
            for count in range(size, last, -1)
        ]
    return chain
