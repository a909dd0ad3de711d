"""The groups of the inputs of a problem, numbered."""

import numpy as np

from bcd_implicit._typing import IntArray
from bcd_implicit.problem import TrainingProblem, first_inputs

__all__ = ["first_of_groups", "group_numbers"]


def group_numbers(problem: TrainingProblem) -> IntArray:
    """Return the number of the group of every input, from 0 without gaps."""
    if problem.groups is None:
        return np.arange(len(problem.group_weights))
    return np.unique(problem.groups, return_inverse=True)[1]


def first_of_groups(problem: TrainingProblem) -> IntArray:
    """Return the first input of every group."""
    if problem.groups is None:
        return np.arange(len(problem.group_weights))
    return first_inputs(problem.groups)
