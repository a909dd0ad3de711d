"""Inputs that no gradient shows: by absolute values, waves or products they act on what is left."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import first_of_groups, inputs_of
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.binned_effects import binned_effects
from bcd_implicit.even_effects import clear_level, even_effects
from bcd_implicit.interactions import interactions
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._judging import JudgedSupport
from bcd_implicit.unseen_inputs import effects_alone

__all__ = ["not_linear", "wavy", "with_unseen"]

Array = NDArray[np.float64]

# Of what is clear by itself: 4 to 5 standard errors, one above the largest of 50 inputs without an
# effect. In 100 and 200 noisy rows what mattered had 0.9 to 1.3, noise up to 0.75.
_CLEAR = 0.8
_USUAL = 0.01  # strength of dense fits, beside that which found the best support
# A wave takes several states: of fifteen fits to one, two linear effects and an input of noise, ten
# found all three at 1e-3, six at 0.003, three at 0.01 and none at 0.03. There are two starts.
_WAVE = (1e-3, 1e-3)


def with_unseen(
    fitter: WarmFitter, judge: TrainingProblem, best: JudgedSupport, k: int
) -> list[tuple[BoolArray, float]]:
    """Return sets of the inputs of the first k groups, and of others that no gradient may show.

    As many whose absolute values matter: among many inputs a dense fit may spend its states on
    noise. And those that clearly act together or in waves, if there are any, without other company;
    if they are k or more, also without the best ones, which may be noise. Beside each stands the
    strength of the dense fit to it.
    """
    parameters, order = best.parameters, best.order
    first = first_of_groups(judge)
    most = k + max(k, 10)
    even = even_effects(fitter.data, judge, parameters)[first]
    even[order[:k]] = np.inf
    strengths = sorted({best.strength, _USUAL})
    likely = inputs_of(judge, np.argsort(-even, kind="stable")[:most])
    sets = [(likely, strength) for strength in strengths]
    together = interactions(fitter.data, judge, parameters)[first]
    together[order[:k]] = -np.inf
    for clear, tried in (
        (_clear(together), strengths),
        (wavy(fitter, judge, parameters, order[:k]), _WAVE),
    ):
        for strength in tried:
            if len(clear) > 0:
                sets.append((inputs_of(judge, [*order[:k], *clear[: most - k]]), strength))
            if len(clear) >= k:
                sets.append((inputs_of(judge, clear[:most]), strength))
    return sets


def wavy(
    fitter: WarmFitter, judge: TrainingProblem, parameters: Parameters, chosen: IntArray
) -> IntArray:
    """Return the groups that are not chosen but clearly matter to what is left, the clearest first.

    What is left differs between bins of an input.
    """
    first = first_of_groups(judge)
    of_level = binned_effects(fitter.data, judge, parameters)[first] / clear_level(len(first))
    of_level[chosen] = -np.inf
    return _clear(of_level)


def _clear(of_level: Array) -> IntArray:
    """Return where values are above one, the largest first."""
    return np.argsort(-of_level, kind="stable")[: int((of_level > 1.0).sum())]


def not_linear(fitter: WarmFitter, parameters: Parameters, groups: IntArray) -> IntArray:
    """Return the groups that clearly act otherwise than linearly on what is left, in their order.

    By the other rows states may be no better because they follow noise, and then choose it, too: of
    five linear effects with as much noise in 100 rows they had the last ones wrong.
    """
    problem = fitter.problem
    first = first_of_groups(problem)
    of = fitter.data, problem, parameters
    alone = effects_alone(*of)[first] / clear_level(len(first))
    together = interactions(*of)[first]
    return groups[np.maximum(alone, together)[groups] > _CLEAR]
