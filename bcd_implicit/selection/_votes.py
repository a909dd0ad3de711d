"""Eliminations on parts of the rows, judged by the loss of the others."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import group_numbers
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.candidates import gain_in_errors, honest_losses
from bcd_implicit.forward import sample_losses
from bcd_implicit.linear_path import validation_weights
from bcd_implicit.problem import Parameters
from bcd_implicit.selection._linear_fits import LinearRefitter
from bcd_implicit.selection._shrinking import Refitter, shrinking
from bcd_implicit.statistics import RowBlocks

__all__ = [
    "Folds",
    "Vote",
    "best_linear",
    "empty_losses",
    "linear_is_better",
    "too_many",
    "useful_groups",
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

    @property
    def losses(self) -> Array:
        """Return those of the models of the elimination, one for each of the sizes."""
        return np.vstack([self.at_k[:1], self.fewer])


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


def empty_losses(linear: LinearRefitter, folds: Folds) -> Array:
    """Return the losses of the validation rows under the best constant prediction."""
    return np.concatenate(
        [
            sample_losses(validation, linear.problem, linear.on(training).empty())
            for training, validation in folds
        ]
    )


def linear_is_better(rivals: list[Vote], votes: list[Vote], empty: Array, folds: Folds) -> bool:
    """Tell whether models without states clearly explain something, and states not more."""
    without, states = (
        _honest([np.vstack([one.at_k, one.fewer]) for one in some], folds)
        for some in (rivals, votes)
    )
    weights = _weights(folds)
    explained = gain_in_errors(empty, without, weights) > _CLEAR
    return explained and gain_in_errors(without, states, weights) <= 0.0


def useful_size(votes: list[Vote], folds: Folds) -> int:
    """Return the least number of groups, up to k, that does about best on the validation rows.

    Its loss is above the least by no more than a standard error of the difference: of a strong
    effect among noise all 50 groups may be worth a little more than the first.
    """
    losses, least = _least(votes, folds)
    return min(
        size
        for size, some in zip(votes[0].sizes, losses, strict=True)
        if gain_in_errors(some, least, _weights(folds)) <= 1.0
    )


def useful_groups(votes: list[Vote], folds: Folds) -> list[IntArray]:
    """Return for each vote the groups with which the rows of its fold have the least loss."""
    return [
        vote.order[: vote.sizes[int((vote.losses @ _weights([fold])).argmin())]]
        for vote, fold in zip(votes, folds, strict=True)
    ]


def too_many(votes: list[Vote], empty: Array, folds: Folds) -> bool:
    """Tell whether fewer than k groups clearly do better on the validation rows, and than none.

    Better than k at any strength: of MNIST's pixels 37 beat 50 at the strength of an elimination,
    and lose at ten times that; taken for too many, 50 gave trees 0.87 instead of 0.92.
    """
    if any(len(one.fewer) == 0 for one in votes):  # k is 1
        return False
    at_k, fewer = (
        _honest(some, folds) for some in ([one.at_k for one in votes], [one.fewer for one in votes])
    )
    weights = _weights(folds)
    _, least = _least(votes, folds)
    gains = gain_in_errors(at_k, fewer, weights), gain_in_errors(empty, least, weights)
    return min(gains) > _CLEAR


def _least(votes: list[Vote], folds: Folds) -> tuple[Array, Array]:
    """Return the losses of the validation rows for each size, and those of the best size."""
    losses = np.hstack([one.losses for one in votes])
    return losses, losses[int((losses @ _weights(folds)).argmin())]


def _honest(losses: list[Array], folds: Folds) -> Array:
    """Return the losses of the validation rows under what does best on the others of a fold."""
    return np.concatenate(
        [honest_losses(some, _weights([fold])) for some, fold in zip(losses, folds, strict=True)]
    )


def _weights(folds: Folds) -> Array:
    return validation_weights([validation for _, validation in folds])
