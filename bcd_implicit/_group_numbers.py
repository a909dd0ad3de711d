"""The groups of the inputs of a problem, numbered."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.problem import TrainingProblem, first_inputs

__all__ = ["first_of_groups", "group_numbers", "inputs_of", "strongest_of_groups", "whole_groups"]


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


def inputs_of(problem: TrainingProblem, groups: Iterable[int]) -> BoolArray:
    """Return which inputs belong to groups of some numbers."""
    return np.isin(group_numbers(problem), np.fromiter(groups, dtype=np.intp))


def strongest_of_groups(
    problem: TrainingProblem, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return for each input the largest of the values of its group, zero if all are negative."""
    number = group_numbers(problem)
    strongest = np.zeros(number.max() + 1)
    np.maximum.at(strongest, number, values)
    return strongest[number]


def whole_groups(groups: IntArray | None, inside: BoolArray) -> BoolArray:
    """Return which inputs belong to a group, by its label, of which an input is ``inside``."""
    return inside if groups is None else np.isin(groups, groups[inside])
