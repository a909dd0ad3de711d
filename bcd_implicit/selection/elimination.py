"""The best k groups of inputs, by backward elimination of the smallest from several dense fits.

It goes from dense to sparse because inputs that act only together are invisible to a sparse start.

1. One dense fit may end in a poor minimum, or at a strength that empties a weak effect. Fits at
   different strengths are therefore eliminated independently until two in a row agree on the best
   support; if none do, the inputs that any of them kept get a fresh start together, at the strength
   that found the best. Supports are compared by the loss of rows that fits with their inputs alone
   have not seen (`bcd_implicit.selection._judging`): the objective on all rows prefers inputs of
   noise where noise is strong, above all those of many columns.
2. Unless they agreed and no wave of another input is clear in what they leave unexplained, and
   always among many inputs, other eliminations start from the best support and inputs that no
   gradient shows: those whose absolute values are related to what it leaves unexplained, and,
   without other company, those whose products or waves clearly are. If D is fitted, the last one
   starts from the best support and what the model without states leaves.
3. Where no two fits agreed so, and no later elimination confirms the best support, or rows are too
   few for that to mean anything, it may be the one that fits the noise best. Eliminations down to
   one group on three quarters of the rows tell, by the loss of the other rows. If the model without
   states clearly explains something there, and states no more, as few groups as do about best
   without them come first, then those that clearly act otherwise than linearly on what is left,
   then those that the model without states keeps longest. Otherwise k groups that the model without
   states leaves come first where states fit these about as well: those of the largest strength at
   which they do.
4. If fewer than k groups do clearly better on the other rows than k at any strength, and better
   than none, k is more than are of use. Every group is then ranked by the share of it that the
   groups explain with which other rows fare best, in the mean of several such eliminations: those
   of use come first, then those that say the same, then noise.

What each of these is worth, and what lost to it, is in docs/method.md, "k inputs".
"""

from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import group_numbers, inputs_of
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.selection._answers import (
    Answers,
    ask,
    linear_is_better,
    too_many,
    useful_size,
)
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._judging import JudgedSupport, SupportJudge
from bcd_implicit.selection._linear_fits import LinearRefitter
from bcd_implicit.selection._repeats import explained_shares
from bcd_implicit.selection._shrinking import left_groups, moved, moved_groups, shrinking
from bcd_implicit.selection._unseen import not_linear, wavy, with_unseen
from bcd_implicit.selection._votes import Fold, vote_of

__all__ = ["best_groups", "elimination_order", "quick_groups"]

Array = NDArray[np.float64]

_STRENGTHS = (0.01, 0.003, 0.03, 0.1)  # of the dense fits
_QUICK_STRENGTHS = (0.01, 0.03)
_ROWS_A_WEIGHT = 10  # of the states: with fewer rows a support of noise confirms itself
_CANDIDATES = 1000  # or ten times k: more are not voted on
_PLAIN_STRENGTHS = (0.1, 0.03, 0.01)  # of eliminations without states
_UNWORTHY = 2e-3  # of the loss of the empty model: what states are not needed for
_ROUNDS = 2  # of a last elimination, if the first finds a better support
_OFTEN_UNSEEN = 100  # above, absolute values are always looked at


def best_groups(fitter: WarmFitter, k: int, deals: Iterable[list[Fold]]) -> IntArray:
    """Return all groups, the best ``k`` by several eliminations first.

    Parameters
    ----------
    fitter : WarmFitter
    k : int
        From 1 to the number of groups. When fewer are of any use, those with the largest gradients
        fill up, then the first.
    deals : iterable of lists of (RowBlocks, RowBlocks)
        Training and validation parts of the rows, which are asked where all rows leave a doubt; the
        first tell whether states are needed and whether k is too many. There may be none.
    """
    without_states = LinearRefitter(fitter.data, fitter.problem)
    rounds = iter(deals)
    folds = next(rounds, [])
    judge = SupportJudge(fitter, folds)
    found, sure = _eliminations(fitter, judge, without_states, k)
    best = judge.best(found)
    order = _chained(best.order, found[0].order)
    if sure or not folds:
        return order
    inside = inputs_of(fitter.problem, order[: max(_CANDIDATES, 10 * k)])
    strengths = tuple(dict.fromkeys((best.strength, *_STRENGTHS)))[:2]
    answers = ask(fitter, without_states, folds, k, strengths, inside)
    linear, rest = _linear_groups(fitter, without_states, answers, k, order)
    if fitter.problem.feedthrough and len(linear) == 0:
        order = _chained(_plainest(fitter, judge, without_states, k, best).order, order)
    if len(linear) == k or not too_many(answers.votes, answers.empty):
        return _chained(linear, rest, order)
    useful = [vote.best for vote in answers.votes]
    for more in rounds:
        turns = zip(more, cycle(strengths), strict=False)
        useful += [vote_of(fitter, fold, k, strength, inside).best for fold, strength in turns]
    labels = group_numbers(fitter.problem)
    explained = explained_shares(fitter.data, useful, labels).mean(axis=0)
    return _chained(linear, order[np.argsort(-explained[order], kind="stable")])


def quick_groups(fitter: WarmFitter, k: int, folds: list[Fold]) -> IntArray:
    """Return the k groups that the better of two eliminations leaves, the most important first.

    Fewer than k where the rest tell nothing, as constants do not. Of 3 to 5 true inputs (absolute
    values, products, Friedman's function, linear ones with a square; 300 and 1,000 rows) halves
    select 0.91 in the mean, by one at 0.01 0.85, at 0.03 0.89, in two thirds of the time.

    It is one of models without states where the folds say that these clearly explain something, and
    states no more: of five linear effects with as much noise among 50 inputs, stability selection
    missed all by states alone, with 300 and with 1,000 rows, and now one and none.
    """
    if fitter.problem.feedthrough and folds:
        linear = LinearRefitter(fitter.data, fitter.problem)
        everything = np.ones(len(fitter.problem.group_weights), dtype=np.bool_)
        answers = ask(fitter, linear, folds, k, _STRENGTHS[:1], everything)
        if linear_is_better(answers):
            return moved_groups(linear, k, answers.strength)
    judge = SupportJudge(fitter, folds)
    best = judge.best([_eliminate(fitter, judge, k, strength) for strength in _QUICK_STRENGTHS])
    return moved(fitter, judge.problem, best.parameters, best.chosen)


def elimination_order(fitter: WarmFitter) -> IntArray:
    """Return all groups from the most to the least important by a single elimination."""
    _, order = left_groups(fitter, 1, _STRENGTHS[0])
    return order


def _linear_groups(
    fitter: WarmFitter, linear: LinearRefitter, answers: Answers, k: int, order: IntArray
) -> tuple[IntArray, IntArray]:
    """Return the groups that are of use without states, at most k, and what comes after them.

    That is what of ``order`` is clearly not linear, then what the model without states keeps
    longest. There are none of either if states do better.
    """
    none = np.zeros(0, dtype=np.intp)
    if not linear_is_better(answers):
        return none, none
    size = useful_size(answers.rivals)
    everything = np.ones(len(linear.problem.group_weights), dtype=np.bool_)
    steps = list(shrinking(linear, size, answers.strength, everything, k))
    kept = steps[-1][1][:k]
    if size == k:
        return kept, none
    parameters = next(fit for fit, _, left in steps if left == k)
    return kept[:size], _chained(not_linear(fitter, parameters, order), kept)


def _eliminations(
    fitter: WarmFitter, judge: SupportJudge, linear: LinearRefitter, k: int
) -> tuple[list[JudgedSupport], bool]:
    """Return several eliminations, and whether they leave no doubt.

    There is none if two dense fits in a row agreed on the best support so far, or if rows are many
    and two of all eliminations have found the best.
    """
    problem = fitter.problem
    p = len(problem.group_weights)
    enough = fitter.data.n_samples >= _ROWS_A_WEIGHT * k * problem.n_states
    found: list[JudgedSupport] = []
    agree = False
    for strength in _STRENGTHS:
        found.append(_eliminate(fitter, judge, k, strength))
        best = judge.best(found)
        agree = len(found) > 1 and found[-1].groups == found[-2].groups == best.groups
        if agree:
            break
    if not agree:
        found.append(_united(fitter, judge, k, found, best))
        best = judge.best(found)
    # fits that agree may both have missed a wave, and hold an input of noise in its place
    agree = agree and not len(wavy(fitter, judge.problem, best.parameters, best.chosen))
    if not agree or p > _OFTEN_UNSEEN:
        for _ in range(_ROUNDS):
            tried = len(found)
            found += [
                _eliminate(fitter, judge, k, strength, inside)
                for inside, strength in with_unseen(fitter, judge.problem, best, k)
            ]
            best = judge.best(found)
            if _found_again(best, found) or not any(one is best for one in found[tried:]):
                break
    if not agree and problem.feedthrough:
        plain = [_plain(fitter, judge, linear, k, one) for one in _PLAIN_STRENGTHS[:2]]
        found += [*plain, _united(fitter, judge, k, [best, *plain], best)]
        best = judge.best(found)
    return found, agree or (_found_again(best, found) and enough)


def _united(
    fitter: WarmFitter,
    judge: SupportJudge,
    k: int,
    found: list[JudgedSupport],
    best: JudgedSupport,
) -> JudgedSupport:
    """Eliminate from what any of some supports has, at the strength that found the best one."""
    inside = inputs_of(fitter.problem, frozenset.union(*(one.groups for one in found)))
    return _eliminate(fitter, judge, k, best.strength, inside)


def _found_again(best: JudgedSupport, found: list[JudgedSupport]) -> bool:
    """Whether the best support was found more than once."""
    return sum(one.groups == best.groups for one in found) > 1


def _chained(*orders: IntArray) -> IntArray:
    """Return the first order, and then what else there is in each of the others, in its order."""
    return np.array(list(dict.fromkeys(np.concatenate(orders).tolist())))


def _plainest(
    fitter: WarmFitter, judge: SupportJudge, linear: LinearRefitter, k: int, best: JudgedSupport
) -> JudgedSupport:
    """Return what the model without states leaves at the largest strength, if about as good."""
    worth = _UNWORTHY * linear.empty_loss()
    for strength in _PLAIN_STRENGTHS:
        plain = _plain(fitter, judge, linear, k, strength)
        if judge.loss(plain) <= judge.loss(best) + worth:
            return plain
    return best


def _plain(
    fitter: WarmFitter, judge: SupportJudge, linear: LinearRefitter, k: int, strength: float
) -> JudgedSupport:
    """Drop groups without states until k are left, and judge them by a fit with states."""
    dense = replace(fitter.problem, alpha=_STRENGTHS[0], l2=_STRENGTHS[0])
    _, order = left_groups(linear, k, strength)
    start = fitter.refit(dense, None, inputs_of(fitter.problem, order[:k]))
    return judge.judged(k, _STRENGTHS[0], start, order)


def _eliminate(
    fitter: WarmFitter,
    judge: SupportJudge,
    k: int,
    strength: float,
    inside: BoolArray | None = None,
) -> JudgedSupport:
    """Drop groups until k are left."""
    return judge.judged(k, strength, *left_groups(fitter, k, strength, inside))
