"""Inputs that no gradient shows: they act by absolute values or in products, on what is left."""

import numpy as np

from bcd_implicit._group_numbers import first_of_groups, inputs_of
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.even_effects import clear_level, even_effects
from bcd_implicit.interactions import interactions
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.selection._fits import WarmFitter

__all__ = ["not_linear", "with_unseen"]

# Of what is clear by itself: 4 to 5 standard errors, one above the largest of 50 inputs without an
# effect. In 100 and 200 noisy rows what mattered had 0.9 to 1.3, noise up to 0.75.
_CLEAR = 0.8


def with_unseen(
    fitter: WarmFitter, judge: TrainingProblem, parameters: Parameters, order: IntArray, k: int
) -> list[BoolArray]:
    """Return sets of the inputs of the first k groups, and of others that no gradient may show.

    As many whose absolute values matter: among many inputs a dense fit may spend its states on
    noise. And those that clearly act together, if there are any, without other company; if they are
    k or more, also without the best ones, which may be noise.
    """
    first = first_of_groups(judge)
    most = k + max(k, 10)
    even = even_effects(fitter.data, judge, parameters)[first]
    even[order[:k]] = np.inf
    sets: list[BoolArray] = [inputs_of(judge, np.argsort(-even, kind="stable")[:most])]
    together = interactions(fitter.data, judge, parameters)[first]
    together[order[:k]] = -np.inf
    clear = np.argsort(-together, kind="stable")[: int((together > 1.0).sum())]
    if len(clear) > 0:
        sets.append(inputs_of(judge, [*order[:k], *clear[: most - k]]))
    if len(clear) >= k:
        sets.append(inputs_of(judge, clear[:most]))
    return sets


def not_linear(fitter: WarmFitter, parameters: Parameters, groups: IntArray) -> IntArray:
    """Return the groups that clearly act otherwise than linearly on what is left, in their order.

    By the other rows states may be no better because they follow noise, and then choose it, too: of
    five linear effects with as much noise in 100 rows they had the last ones wrong.
    """
    problem = fitter.problem
    first = first_of_groups(problem)
    even = even_effects(fitter.data, problem, parameters)[first] / clear_level(len(first))
    together = interactions(fitter.data, problem, parameters)[first]
    return groups[np.maximum(even, together)[groups] > _CLEAR]
