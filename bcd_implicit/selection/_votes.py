"""Eliminations on parts of the rows, judged by the loss of the others."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.candidates import gain_in_errors, honest_losses
from bcd_implicit.forward import sample_losses
from bcd_implicit.linear_path import validation_weights
from bcd_implicit.problem import Parameters
from bcd_implicit.selection._linear_fits import LinearRefitter
from bcd_implicit.selection._shrinking import Refitter, group_numbers, shrinking
from bcd_implicit.statistics import RowBlocks

__all__ = [
    "Folds",
    "Vote",
    "best_linear",
    "linear_is_better",
    "too_many",
    "useful_size",
    "votes_of",
]

Array = NDArray[np.float64]
Folds = list[tuple[RowBlocks, RowBlocks]]

_STRONGER = (0.03, 0.1)  # of refits with k groups, for the comparison with
_LINEAR_STRENGTHS = (0.1, 0.03, 0.01, 0.003)
_CLEAR = 2.0  # standard errors by which a difference is clear


@dataclass(frozen=True)
class Vote:
    """The order of the groups on a part of the rows, and the losses of others.

    ``at_k`` holds those of models with k groups, the first of which is that of the elimination,
    ``fewer`` of models with fewer; ``sizes`` are k and how many groups the latter have.
    """

    order: IntArray
    at_k: Array
    fewer: Array
    sizes: list[int]


def votes_of(
    fitter: Refitter, folds: Folds, k: int, strengths: tuple[float, ...], candidates: BoolArray
) -> list[Vote]:
    """Eliminate on the training part of every fold, at the strengths by turns."""
    votes = []
    for turn, (training, validation) in enumerate(folds):
        strength = strengths[turn % len(strengths)]
        votes.append(_Trial(fitter.on(training), validation, k, strength, candidates).vote())
    return votes


def best_linear(fitter: LinearRefitter, folds: Folds, k: int) -> tuple[float, list[Vote]]:
    """Return the strength at which k groups do best without states, and the votes there.

    The first fold chooses it.
    """
    everything = np.ones(len(fitter.problem.group_weights), dtype=np.bool_)
    weights = _weights(folds[:1])
    training, validation = folds[0]
    voter = fitter.on(training)
    best = min(
        (_Trial(voter, validation, k, strength, everything) for strength in _LINEAR_STRENGTHS),
        key=lambda trial: float(weights @ trial.losses),
    )
    return best.strength, [
        best.vote(),
        *votes_of(fitter, folds[1:], k, (best.strength,), everything),
    ]


class _Trial:
    """An elimination down to k groups on a part of the rows, which may go on and vote.

    Attributes
    ----------
    strength : float
    losses : ndarray
        Of the other rows, with k groups.
    """

    def __init__(
        self, voter: Refitter, validation: RowBlocks, k: int, strength: float, candidates: BoolArray
    ) -> None:
        self._voter, self._validation, self.strength = voter, validation, strength
        self._steps = shrinking(voter, 1, strength, candidates, k)
        self._at_k = next(step for step in self._steps if step[-1] == k)
        self.losses = self._losses(self._at_k[0])

    def vote(self) -> Vote:
        """Go on to one group."""
        parameters, order, k = self._at_k
        inside = np.isin(group_numbers(self._voter.problem), order[:k])
        at_k = [self.losses]
        for stronger in _STRONGER:
            problem = replace(self._voter.problem, alpha=stronger, l2=stronger)
            parameters = self._voter.refit(problem, parameters, inside)
            at_k.append(self._losses(parameters))
        rest = list(self._steps)
        _, order, _ = rest[-1] if rest else self._at_k
        fewer = [self._losses(parameters) for parameters, _, _ in rest]
        sizes = [k, *(size for _, _, size in rest)]
        return Vote(order, np.stack(at_k), np.reshape(fewer, (-1, len(self.losses))), sizes)

    def _losses(self, parameters: Parameters) -> Array:
        return sample_losses(self._validation, self._voter.problem, parameters)


def linear_is_better(
    linear: LinearRefitter, rivals: list[Vote], votes: list[Vote], folds: Folds
) -> bool:
    """Tell whether models without states clearly explain something, and states not more."""
    empty = np.concatenate(
        [
            sample_losses(validation, linear.problem, linear.on(training).empty())
            for training, validation in folds
        ]
    )
    without, states = (
        _honest([np.vstack([one.at_k, one.fewer]) for one in some], folds)
        for some in (rivals, votes)
    )
    weights = _weights(folds)
    explained = gain_in_errors(empty, without, weights) > _CLEAR
    return explained and gain_in_errors(without, states, weights) <= 0.0


def useful_size(votes: list[Vote], folds: Folds) -> int:
    """Return the number of groups, up to k, that has the least loss on the validation rows."""
    losses = np.hstack([np.vstack([one.at_k[:1], one.fewer]) for one in votes])
    return votes[0].sizes[int((losses @ _weights(folds)).argmin())]


def too_many(votes: list[Vote], folds: Folds) -> bool:
    """Tell whether fewer than k groups clearly do better on the validation rows."""
    if any(len(one.fewer) == 0 for one in votes):  # k is 1
        return False
    at_k = np.concatenate([one.at_k[0] for one in votes])
    fewer = _honest([one.fewer for one in votes], folds)
    return gain_in_errors(at_k, fewer, _weights(folds)) > _CLEAR


def _honest(losses: list[Array], folds: Folds) -> Array:
    """Return the losses of the validation rows under what does best on the others of a fold."""
    return np.concatenate(
        [honest_losses(some, _weights([fold])) for some, fold in zip(losses, folds, strict=True)]
    )


def _weights(folds: Folds) -> Array:
    return validation_weights([validation for _, validation in folds])
