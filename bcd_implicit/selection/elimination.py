"""The best k groups of inputs, by backward elimination of the smallest from several dense fits.

It goes from dense to sparse because inputs that act only together are invisible to a sparse start.
One dense fit may end in a poor minimum, or at a strength that empties a weak effect. Fits at
different strengths are therefore eliminated independently until two of them agree; if none do, the
inputs that any of them kept get a fresh start together, and the support with the least objective at
one weak strength wins. All have the same size, so that the training objective compares them fairly
and no rows are held back. Then, and always among many inputs, other eliminations start from the
best support and inputs that no gradient shows: those whose absolute values are related to what it
leaves unexplained, and, without other company, those whose products clearly are; and others if
these found a better one. Friedman's function among 500 inputs was found 0 of 3 times without
absolute values, 3 of 3 with them; five absolute effects among 50 inputs 19 of 20 times without, 60
of 60 with them; ``sign(u1 u2 u3)`` never without products, always with them.

Where no other elimination confirms the best support, or rows are too few for that to mean anything,
the support with the least objective may be the one that fits the noise best. Eliminations down to
one group on three quarters of the rows tell, by the loss of the other rows. If the model without
states clearly explains something there, and states no more, as few groups as do about best without
them come first. Mean F1 at the true k among 50 inputs, ten states, eight samples each, with
and without this: five linear effects with noise, 100 and 200 rows, 0.98 and 1 against 0.55 and
0.80; Friedman's function with noise 0.98 and 1 against 0.75 and 0.88 (400 rows: 0.98 against 1);
two linear effects and a product, 200 and 400 rows, 0.94 and 0.97 against 0.94 and 0.94; five
absolute effects in 100 rows 1 and 1 (four samples). Lost: the linear model for all k groups
(Friedman's function 0.80, 0.80 and 0.90, six samples), and the same unless absolute values clearly
matter to what it leaves unexplained (the product 0.53 and 0.81).

Otherwise, where k groups that the model without states leaves can be fitted with states about as
well, those of the largest strength at which they can come first. Of many classes nearly any 50
inputs fit the rows, and weak penalties then choose by chance: mice by their proteins, 30 splits,
trees have 0.532 with these, with those of a dense fit 0.512 to 0.517; colon, 36 splits, 0.809 and
0.799; digits, 8 splits, 0.9845 and 0.9842 to 0.9850. Lost: what does best on other rows by refits
(Friedman's function in 400 rows 0.93 instead of 1); eliminating and comparing at the strength that
does best there (100 and 200 rows: 0.83 and 0.88 instead of 0.93 and 0.98); ranks of both, fused;
the mean of ranks without states in 40 halves of the rows (mice 0.533 to 0.536, colon 0.011 less);
the same where the linear model is better anyway (the product in 200 rows 0.94 instead of 1).

Also k may be more than are of use. If fewer than k do clearly better on the other rows than k at
any strength, and better than none, every group is ranked by the share of it that the groups explain
with which other rows fare best, in the mean of these and other such eliminations: those of use come
first, then those that say the same, then noise. Of madelon's 20 inputs among 500 the best support
of 50 has 8 to 14, and this ranking has all. Lost: fusing the ranks of these eliminations with that
of the best support (12 to 18, and trees 0.83 instead of 0.86); the share that the first of those
fused ranks explain (13 to 20); asking where not even the best number of groups is clearly of use
(five absolute effects in 100 rows: 0.7 instead of 1); eliminating again without the inputs of use.

Mean F1 at the true k over 6 seeds, 1,000 x 50, of products, absolute effects and Friedman's
function: a single fit at 0.1 has 0.67, 0.50 and 0.83; at 0.03 0.83, 0.97 and 0.97; at 0.01 0.96, 1
and 1; the method 1, 1 and 1. What lost: finding the first hundred inputs with 2,000 of 5,000 rows
when there are 1,000 inputs; F1 falls from 1 to 0.25 on products.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import first_of_groups, group_numbers
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.even_effects import even_effects
from bcd_implicit.interactions import interactions
from bcd_implicit.problem import Parameters
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.selection._linear_fits import LinearRefitter
from bcd_implicit.selection._repeats import explained_shares
from bcd_implicit.selection._shrinking import left_groups
from bcd_implicit.selection._votes import (
    Folds,
    Vote,
    best_linear,
    empty_losses,
    linear_is_better,
    too_many,
    useful_groups,
    useful_size,
    votes_of,
)

__all__ = ["best_groups", "elimination_order", "quick_groups"]

Array = NDArray[np.float64]

_STRENGTHS = (0.01, 0.003, 0.03)  # of the dense fits
_JUDGE = 0.003  # the strength at which supports are compared
_JUDGE_STEPS = 30
_ROWS_A_WEIGHT = 10  # of the states: with fewer rows a support of noise confirms itself
_CANDIDATES = 1000  # or ten times k: more are not voted on
_PLAIN_STRENGTHS = (0.1, 0.03, 0.01)  # of eliminations without states
_UNWORTHY = 2e-3  # of the loss of the empty model: what states are not needed for
_ROUNDS = 2  # of a last elimination, if the first finds a better support
_OFTEN_UNSEEN = 100  # above, absolute values are always looked at


@dataclass(frozen=True)
class _Elimination:
    """Outcome of an elimination.

    Attributes
    ----------
    parameters : Parameters
        A fit with the selected inputs alone.
    objective : float
        Of that fit, at the strength at which supports are compared.
    groups : frozenset of int
        Those that were selected.
    order : ndarray of int
        The groups from the most to the least important: the selected ones by their norms, the
        others from the last that was dropped to the first.
    """

    parameters: Parameters
    objective: float
    groups: frozenset[int]
    order: IntArray


def best_groups(fitter: WarmFitter, k: int, deals: Iterable[Folds]) -> IntArray:
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
    found, sure = _eliminations(fitter, k)
    best = _least(found)
    order = _chained(best.order, found[0].order)
    if sure:
        return order
    inside = _inside(fitter, order[: max(_CANDIDATES, 10 * k)])
    linear: IntArray = order[:0]
    useful: list[IntArray] = []
    for folds in deals:
        votes = votes_of(fitter, folds, k, _STRENGTHS[:2], inside)
        if not votes:
            return order
        if not useful:
            without_states = LinearRefitter(fitter.data, fitter.problem)
            empty = empty_losses(without_states, folds)
            if fitter.problem.feedthrough:
                linear = _linear_groups(without_states, k, folds, votes, empty)
                if len(linear) == 0:
                    order = _chained(_plainest(fitter, without_states, k, best).order, order)
            if len(linear) == k or not too_many(votes, empty, folds):
                return _chained(linear, order)
        useful += useful_groups(votes, folds)
    labels = group_numbers(fitter.problem)
    explained = explained_shares(fitter.data, useful, labels).mean(axis=0)
    return _chained(linear, order[np.argsort(-explained[order], kind="stable")])


def quick_groups(fitter: WarmFitter, k: int, folds: Folds) -> IntArray:
    """Return the k groups that a single elimination leaves, the most important first.

    It is one of models without states where the folds say that these clearly explain something, and
    states no more: of five linear effects with as much noise among 50 inputs, stability selection
    missed all by states alone, with 300 and with 1,000 rows, and now one and none.
    """
    if fitter.problem.feedthrough and folds:
        linear = LinearRefitter(fitter.data, fitter.problem)
        everything = np.ones(len(fitter.problem.group_weights), dtype=np.bool_)
        strength, rivals = best_linear(linear, folds, k)
        votes = votes_of(fitter, folds, k, _STRENGTHS[:1], everything)
        if linear_is_better(rivals, votes, empty_losses(linear, folds), folds):
            _, order = left_groups(linear, k, strength)
            return order[:k]
    _, order = left_groups(fitter, k, _STRENGTHS[0])
    return order[:k]


def elimination_order(fitter: WarmFitter) -> IntArray:
    """Return all groups from the most to the least important by a single elimination."""
    _, order = left_groups(fitter, 1, _STRENGTHS[0])
    return order


def _linear_groups(
    linear: LinearRefitter, k: int, folds: Folds, votes: list[Vote], empty: Array
) -> IntArray:
    """Return the groups that are of use without states, at most k; none if states do better."""
    strength, rivals = best_linear(linear, folds, k)
    if not linear_is_better(rivals, votes, empty, folds):
        return np.zeros(0, dtype=np.intp)
    size = useful_size(rivals, folds)
    _, order = left_groups(linear, size, strength)
    return order[:size]


def _eliminations(fitter: WarmFitter, k: int) -> tuple[list[_Elimination], bool]:
    """Return several eliminations, and whether two of them, one the best, clearly agree."""
    problem = fitter.problem
    p = len(problem.group_weights)
    found: list[_Elimination] = []
    agree = False
    for strength in _STRENGTHS:
        found.append(_eliminate(fitter, k, strength))
        agree = len(found) > 1 and found[-1].groups == found[-2].groups
        if agree:
            break
    if not agree:
        inside = _inside(fitter, sorted(frozenset.union(*(one.groups for one in found))))
        found.append(_eliminate(fitter, k, _STRENGTHS[0], inside))
    best = _least(found)
    if not agree or p > _OFTEN_UNSEEN:
        for _ in range(_ROUNDS):
            tried = len(found)
            found += [
                _eliminate(fitter, k, _STRENGTHS[0], inside)
                for inside in _with_unseen(fitter, best, k)
            ]
            best = _least(found)
            confirmed = sum(one.groups == best.groups for one in found) > 1
            if confirmed or not any(one is best for one in found[tried:]):
                break
        enough = fitter.data.n_samples >= _ROWS_A_WEIGHT * k * problem.n_states
        agree = agree or (confirmed and enough)
    return found, agree


def _least(found: list[_Elimination]) -> _Elimination:
    return min(found, key=lambda one: one.objective)


def _chained(first: IntArray, rest: IntArray) -> IntArray:
    """Return ``first`` and then what else there is in ``rest``, in its order."""
    return np.array(list(dict.fromkeys([*first.tolist(), *rest.tolist()])))


def _with_unseen(fitter: WarmFitter, best: _Elimination, k: int) -> list[BoolArray]:
    """Return sets of the inputs of the k groups, and of others that no gradient may show.

    As many whose absolute values matter: among many inputs a dense fit may spend its states on
    noise. And those that clearly act together, if there are any, without other company; if they are
    k or more, also without the best ones, which may be noise.
    """
    judge = replace(fitter.problem, alpha=_JUDGE, l2=_JUDGE)
    first = first_of_groups(judge)
    most = k + max(k, 10)
    even = even_effects(fitter.data, judge, best.parameters)[first]
    even[best.order[:k]] = np.inf
    sets: list[BoolArray] = [_inside(fitter, np.argsort(-even, kind="stable")[:most])]
    together = interactions(fitter.data, judge, best.parameters)[first]
    together[best.order[:k]] = -np.inf
    clear = np.argsort(-together, kind="stable")[: int((together > 1.0).sum())]
    if len(clear) > 0:
        sets.append(_inside(fitter, [*best.order[:k], *clear[: most - k]]))
    if len(clear) >= k:
        sets.append(_inside(fitter, clear[:most]))
    return sets


def _plainest(
    fitter: WarmFitter, linear: LinearRefitter, k: int, best: _Elimination
) -> _Elimination:
    """Return what the model without states leaves at the largest strength, if about as good."""
    dense = replace(fitter.problem, alpha=_STRENGTHS[0], l2=_STRENGTHS[0])
    worth = _UNWORTHY * linear.empty_loss()
    for strength in _PLAIN_STRENGTHS:
        _, order = left_groups(linear, k, strength)
        start = fitter.refit(dense, None, _inside(fitter, order[:k]))
        plain = _judged(fitter, k, start, order)
        if plain.objective <= best.objective + worth:
            return plain
    return best


def _eliminate(
    fitter: WarmFitter, k: int, strength: float, inside: BoolArray | None = None
) -> _Elimination:
    """Drop groups until k are left, and judge them."""
    return _judged(fitter, k, *left_groups(fitter, k, strength, inside))


def _judged(fitter: WarmFitter, k: int, start: Parameters, order: IntArray) -> _Elimination:
    """Fit the first k groups alone, at the strength at which supports are compared."""
    judge = replace(fitter.problem, alpha=_JUDGE, l2=_JUDGE)
    final = fitter.keep(judge, start, _inside(fitter, order[:k]), _JUDGE_STEPS)
    groups = frozenset(order[:k].tolist())
    return _Elimination(final.point.parameters, final.point.objective, groups, order)


def _inside(fitter: WarmFitter, groups: Sequence[int] | IntArray) -> BoolArray:
    """Return which inputs belong to some of the groups."""
    return np.isin(group_numbers(fitter.problem), groups)
