"""Backward elimination: drop the smallest groups of a dense fit, refit, and go on.

How groups of several columns are compared: `bcd_implicit.group_sizes`.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import first_of_groups, group_numbers
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.group_sizes import beyond_noise, noise_of_column
from bcd_implicit.problem import Parameters, TrainingProblem, group_norms
from bcd_implicit.training_data import TrainingData

__all__ = ["Refitter", "left_groups", "moved", "moved_groups", "shrinking"]

Array = NDArray[np.float64]

_MANY_GROUPS = 100  # above, half of the groups are dropped at a time instead of a quarter
_ROUNDING = 1e-10  # of the strength: a gradient below is none
_FINE = 4  # more than k: from there, groups are dropped one by one


class Refitter(Protocol):
    """What makes the fits of an elimination, with states or without."""

    problem: TrainingProblem

    def on(self, data: TrainingData) -> Self: ...

    def refit(
        self, problem: TrainingProblem, start: Parameters | None, inside: BoolArray
    ) -> Parameters: ...

    def gradient_norms(self, problem: TrainingProblem, parameters: Parameters) -> Array: ...


def left_groups(
    fitter: Refitter, k: int, strength: float, inside: BoolArray | None = None
) -> tuple[Parameters, IntArray]:
    """Drop the smallest groups of a dense fit, with all or some of the inputs, until k are left."""
    if inside is None:
        inside = np.ones(len(fitter.problem.group_weights), dtype=np.bool_)
    *_, (parameters, order, _) = shrinking(fitter, k, strength, inside)
    return parameters, order


def moved_groups(fitter: Refitter, k: int, strength: float) -> IntArray:
    """Return the k groups that are left and have `moved`."""
    parameters, order = left_groups(fitter, k, strength)
    problem = replace(fitter.problem, alpha=strength, l2=strength)
    return moved(fitter, problem, parameters, order[:k])


def moved(
    fitter: Refitter, problem: TrainingProblem, parameters: Parameters, groups: IntArray
) -> IntArray:
    """Return those of the groups that are not zero or have a gradient.

    Of the others none is better than another, and the first would be taken whatever the rows.
    """
    some = _norms(problem, parameters, groups) > 0.0
    if not some.all():
        first = first_of_groups(problem)[groups]
        pull = fitter.gradient_norms(problem, parameters)[first]
        some |= pull > _ROUNDING * problem.thresholds[first]
    return groups[some]


def shrinking(
    fitter: Refitter, k: int, strength: float, inside: BoolArray, through: int = 0
) -> Iterator[tuple[Parameters, IntArray, int]]:
    """Yield ever smaller fits down to k groups, all groups in order, and how many are left.

    One of the sizes is ``through``, unless that is less than k.
    """
    labels = group_numbers(fitter.problem)
    problem = replace(fitter.problem, alpha=strength, l2=strength)
    left = np.unique(labels[inside])
    current = fitter.refit(problem, None, inside)
    columns = np.bincount(labels)
    noise = noise_of_column(_norms(problem, current, left), columns[left])
    dropped: list[IntArray] = []
    while True:
        ranked = _ranked(fitter, problem, current, left, columns[left], noise)
        yield current, np.concatenate([ranked, *dropped[::-1]]), len(left)
        if len(left) == k:
            break
        size = _next_size(len(left), through if k < through < len(left) else k)
        dropped.append(ranked[size:])
        left = np.sort(ranked[:size])
        inside = np.isin(labels, left)
        current = fitter.refit(problem, current, inside)


def _next_size(size: int, k: int) -> int:
    if size <= k + _FINE:
        return size - 1
    return max(size // 2 if size > _MANY_GROUPS else (3 * size) // 4, k + _FINE)


def _norms(problem: TrainingProblem, parameters: Parameters, left: IntArray) -> Array:
    first = first_of_groups(problem)[left]
    return group_norms(parameters.B, parameters.D, problem.groups)[first]


def _ranked(
    fitter: Refitter,
    problem: TrainingProblem,
    parameters: Parameters,
    left: IntArray,
    columns: IntArray,
    noise: float,
) -> IntArray:
    """Return the groups from the largest squared norm beyond noise's, zeros by their gradients."""
    norms = _norms(problem, parameters, left)
    pull = np.zeros(len(left))
    if (norms == 0.0).any():
        first = first_of_groups(problem)[left]
        pull = fitter.gradient_norms(problem, parameters)[first] / np.sqrt(columns)
    size = beyond_noise(norms, columns, noise)
    return left[np.lexsort((-pull, -norms, -size))]
