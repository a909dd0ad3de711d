"""Inputs that matter to what a model leaves unexplained, though no gradient may show them."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.binned_effects import binned_effects
from bcd_implicit.even_effects import clear_level, even_effects
from bcd_implicit.interactions import interactions
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.training_data import TrainingData

__all__ = ["effects_alone", "unseen_inputs"]

Array = NDArray[np.float64]


def effects_alone(data: TrainingData, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return for each input how strongly it acts alone, by its absolute value or in waves.

    In standard errors: the larger of `even_effects` and `binned_effects`.
    """
    of = data, problem, parameters
    return np.maximum(even_effects(*of), binned_effects(*of))


def unseen_inputs(
    data: TrainingData, problem: TrainingProblem, parameters: Parameters, used: BoolArray
) -> BoolArray:
    """Return which allowed inputs clearly matter, alone or two or three together, but are not used.

    Parameters
    ----------
    data : TrainingData
    problem : TrainingProblem
    parameters : Parameters
        The model whose gradients are looked at.
    used : ndarray of bool, shape (p,)
    """
    pull = effects_alone(data, problem, parameters)
    level = clear_level(max(len(pull), 2))
    outside = ~used & np.isfinite(problem.group_weights)
    together = interactions(data, problem, parameters)
    missing: BoolArray = outside & ((pull > level) | (together > 1.0))
    return missing
