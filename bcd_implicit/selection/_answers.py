"""What eliminations on parts of the rows say: whether states are needed, and k groups of use."""

from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.candidates import gain_in_errors, honest_losses
from bcd_implicit.forward import sample_losses
from bcd_implicit.selection._linear_fits import LinearRefitter
from bcd_implicit.selection._shrinking import Refitter
from bcd_implicit.selection._votes import Fold, HeldOutElimination, Vote, vote_of

__all__ = ["Answers", "ask", "linear_is_better", "too_many", "useful_size"]

Array = NDArray[np.float64]

_LINEAR_STRENGTHS = (0.1, 0.03, 0.01, 0.003)
_CLEAR = 2.0  # standard errors by which a difference is clear
# What is clear on four folds is one standard error on a single one. States that are better by that
# are needed, and fewer groups that are better by half of that at most will not become clearly so.
_NEEDED, _HARDLY_BETTER = 1.0, 0.5
_CERTAIN_ROWS = 200  # fewer validation rows never end the questions


@dataclass(frozen=True)
class Answers:
    """Votes with states and without, and losses under the best constant, of the folds asked.

    ``rivals`` are empty where there is no model without states; at ``strength`` k groups do best
    without them on the first fold.
    """

    votes: list[Vote]
    rivals: list[Vote]
    strength: float
    empty: Array


def ask(
    states: Refitter,
    linear: LinearRefitter,
    folds: list[Fold],
    k: int,
    strengths: tuple[float, ...],
    candidates: BoolArray,
) -> Answers:
    """Ask as many folds as it takes whether states are needed, and whether k are too many.

    They are eliminated at the strengths by turns. Where states are needed and k are not too many,
    one fold of four mostly says so.
    """
    everything = np.ones(len(states.problem.group_weights), dtype=np.bool_)
    votes: list[Vote] = []
    rivals: list[Vote] = []
    empty: list[Array] = []
    strength = np.nan
    for fold, turn in zip(folds, cycle(strengths), strict=False):
        votes.append(vote_of(states, fold, k, turn, candidates))
        training, validation = fold
        rival = linear.on(training)
        if states.problem.feedthrough:
            tried = (strength,) if rivals else _LINEAR_STRENGTHS
            trials = (HeldOutElimination(rival, validation, k, one, everything) for one in tried)
            best = min(trials, key=lambda trial: trial.loss)
            strength = best.strength
            rivals.append(best.vote())
        empty.append(sample_losses(validation, linear.problem, rival.empty()))
        if _all_is_clear(votes, rivals):
            break
    return Answers(votes, rivals, strength, np.concatenate(empty))


def linear_is_better(answers: Answers) -> bool:
    """Tell whether models without states clearly explain something, and states not more."""
    votes, rivals = answers.votes, answers.rivals
    if not rivals:
        return False
    explained = gain_in_errors(answers.empty, _honest_of_all(rivals), _weights(rivals))
    return explained > _CLEAR and _gain_of_states(votes, rivals) <= 0.0


def too_many(votes: list[Vote], empty: Array) -> bool:
    """Tell whether fewer than k groups clearly do better on the validation rows, and than none.

    Better than k at any strength: of MNIST's pixels 37 beat 50 at the strength of an elimination,
    and lose at ten times that; taken for too many, 50 gave trees 0.87 instead of 0.92.
    """
    _, least = _least(votes)
    better_than_none = gain_in_errors(empty, least, _weights(votes))
    return min(_gain_of_fewer(votes), better_than_none) > _CLEAR


def useful_size(votes: list[Vote]) -> int:
    """Return the least number of groups, up to k, that does about best on the validation rows.

    Its loss is above the least by no more than a standard error of the difference: of a strong
    effect among noise all 50 groups may be worth a little more than the first.
    """
    losses, least = _least(votes)
    return min(
        size
        for size, some in zip(votes[0].sizes, losses, strict=True)
        if gain_in_errors(some, least, _weights(votes)) <= 1.0
    )


def _all_is_clear(votes: list[Vote], rivals: list[Vote]) -> bool:
    """Whether other folds would hardly say that states are not needed or k are too many."""
    if len(_weights(votes)) < _CERTAIN_ROWS:
        return False
    if rivals and _gain_of_states(votes, rivals) <= _NEEDED:
        return False
    return _gain_of_fewer(votes) <= _HARDLY_BETTER


def _gain_of_states(votes: list[Vote], rivals: list[Vote]) -> float:
    """Return by how many standard errors models with states are better than those without."""
    return gain_in_errors(_honest_of_all(rivals), _honest_of_all(votes), _weights(votes))


def _gain_of_fewer(votes: list[Vote]) -> float:
    """Return by how many standard errors fewer groups are better than k at any strength."""
    if any(len(vote.fewer) == 0 for vote in votes):  # k is 1
        return 0.0
    at_k = [honest_losses(vote.at_k, vote.weights) for vote in votes]
    fewer = [honest_losses(vote.fewer, vote.weights) for vote in votes]
    return gain_in_errors(np.concatenate(at_k), np.concatenate(fewer), _weights(votes))


def _least(votes: list[Vote]) -> tuple[Array, Array]:
    """Return the losses of the validation rows for each size, and those of the best size."""
    losses = np.hstack([vote.losses for vote in votes])
    return losses, losses[int((losses @ _weights(votes)).argmin())]


def _honest_of_all(votes: list[Vote]) -> Array:
    """Return the losses of the rows under what does best on the others of a fold."""
    return np.concatenate(
        [honest_losses(np.vstack([one.at_k, one.fewer]), one.weights) for one in votes]
    )


def _weights(votes: list[Vote]) -> Array:
    return np.concatenate([vote.weights for vote in votes]) / len(votes)
