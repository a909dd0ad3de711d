"""The best k groups of inputs, by backward elimination of the smallest from several dense fits.

It goes from dense to sparse because inputs that act only together are invisible to a sparse start.
One dense fit may end in a poor minimum, or at a strength that empties a weak effect. Fits at
different strengths are therefore eliminated independently until two of them agree; if none do, the
inputs that any of them kept get a fresh start together, and the support with the least objective at
one weak strength wins. All have the same size, so that the training objective compares them fairly
and no rows are held back. Then, and always among many inputs, a last elimination starts from the
best support and the inputs whose absolute values are related to what it leaves unexplained, and
another if that found a better one: Friedman's function among 500 inputs was found 0 of 3 times
without it, 3 of 3 with it; five absolute effects among 50 inputs 19 of 20 times without it, 60 of
60 with it.

Where no other elimination confirms the best support, or rows are too few for that to mean anything,
k may be more than are of use, and the support with the least objective the one that fits the noise
best. Eliminations down to one group on three quarters of the rows tell, by the loss of the other
rows. If fewer than k do clearly better, the ranks of these and other such eliminations are fused
with that of the best support: going on to a single group brings those of use to the front, and
other rows bring others that say the same. Of madelon's 20 inputs among 500 the best support of 50
has 8 to 11, the fused ranks 15 to 17, and trees 0.729 and 0.833 of accuracy (four splits that no
table shows). Lost: the ranks without the best support (ISOLET 0.925 instead of 0.932); four parts
instead of eight (madelon 0.810); counting how many parts keep a group among k; eliminating again
without the inputs that other rows call useful (madelon 0.836 on three splits, in more time); and
fusing whatever the other rows say (ISOLET 0.936 instead of 0.949 on one split).

Mean F1 at the true k over 6 seeds, 1,000 x 50, of products, absolute effects and Friedman's
function: a single fit at 0.1 has 0.67, 0.50 and 0.83; at 0.03 0.83, 0.97 and 0.97; at 0.01 0.96, 1
and 1; the method 1, 1 and 1. What lost: finding the first hundred inputs with 2,000 of 5,000 rows
when there are 1,000 inputs; F1 falls from 1 to 0.25 on products.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.candidates import honest_losses, standard_error
from bcd_implicit.even_effects import even_effects
from bcd_implicit.forward import sample_losses
from bcd_implicit.linear_path import validation_weights
from bcd_implicit.problem import Parameters, TrainingProblem, first_inputs, group_norms
from bcd_implicit.selection._fits import WarmFitter
from bcd_implicit.statistics import RowBlocks

__all__ = ["best_groups", "elimination_order", "quick_groups"]

Array = NDArray[np.float64]
Folds = list[tuple[RowBlocks, RowBlocks]]

_STRENGTHS = (0.01, 0.003, 0.03)  # of the dense fits
_JUDGE = 0.003  # the strength at which supports are compared
_JUDGE_STEPS = 30
_ROWS_A_WEIGHT = 10  # of the states: with fewer rows a support of noise confirms itself
_CLEAR = 2.0  # standard errors by which fewer than k groups are better
_CANDIDATES = 1000  # or ten times k: more are not voted on
_ROUNDS = 2  # of a last elimination, if the first finds a better support
_MANY_GROUPS = 100  # above, half of the groups are dropped at a time instead of a quarter
_FINE = 4  # more than k: from there, groups are dropped one by one


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


@dataclass(frozen=True)
class _Vote:
    """The order of the groups on a part of the rows, and the losses of others by falling sizes."""

    order: IntArray
    losses: Array
    sizes: list[int]


def best_groups(fitter: WarmFitter, k: int, deals: Iterable[Folds]) -> IntArray:
    """Return all groups, the best ``k`` by several eliminations first.

    Parameters
    ----------
    fitter : WarmFitter
    k : int
        From 1 to the number of groups. When fewer are of any use, those with the largest gradients
        fill up, then the first.
    deals : iterable of lists of (RowBlocks, RowBlocks)
        Training and validation parts of the rows, which vote where all rows leave a doubt; the
        first tell whether k is too many. There may be none.
    """
    order, sure = _least_objective(fitter, k)
    if sure:
        return order
    labels = _labels(fitter.problem)
    candidates = np.isin(labels, order[: max(_CANDIDATES, 10 * k)])
    votes: list[IntArray] = []
    for folds in deals:
        found = [
            _tested(fitter.on(training), validation, k, _STRENGTHS[turn % 2], candidates)
            for turn, (training, validation) in enumerate(folds)
        ]
        if not found or (not votes and not _too_many(found, k, folds)):
            return order
        votes += [one.order for one in found]
    _, first = _left_groups(fitter, 1, _STRENGTHS[0], np.isin(labels, order[:k]))
    return _fused(_chained(first, order), votes)


def quick_groups(fitter: WarmFitter, k: int) -> IntArray:
    """Return the k groups that a single elimination leaves, the most important first."""
    everything = np.ones(len(fitter.problem.group_weights), dtype=np.bool_)
    _, order = _left_groups(fitter, k, _STRENGTHS[0], everything)
    return order[:k]


def elimination_order(fitter: WarmFitter) -> IntArray:
    """Return all groups from the most to the least important by a single elimination."""
    everything = np.ones(len(fitter.problem.group_weights), dtype=np.bool_)
    _, order = _left_groups(fitter, 1, _STRENGTHS[0], everything)
    return order


def _least_objective(fitter: WarmFitter, k: int) -> tuple[IntArray, bool]:
    """Return all groups, the k of least objective first, and whether these were found twice."""
    problem = fitter.problem
    p = len(problem.group_weights)
    everything = np.ones(p, dtype=np.bool_)
    found: list[_Elimination] = []
    agree = False
    for strength in _STRENGTHS:
        found.append(_eliminate(fitter, k, strength, everything))
        agree = len(found) > 1 and found[-1].groups == found[-2].groups
        if agree:
            break
    if not agree:
        inside = np.isin(_labels(problem), sorted(frozenset.union(*(one.groups for one in found))))
        found.append(_eliminate(fitter, k, _STRENGTHS[0], inside))
    best = min(found, key=lambda one: one.objective)
    if not agree or p > _MANY_GROUPS:
        for _ in range(_ROUNDS):
            found.append(_eliminate(fitter, k, _STRENGTHS[0], _with_even_effects(fitter, best, k)))
            best = min(found, key=lambda one: one.objective)
            confirmed = sum(one.groups == best.groups for one in found) > 1
            if confirmed or best is not found[-1]:
                break
        enough = fitter.data.n_samples >= _ROWS_A_WEIGHT * k * problem.n_states
        agree = agree or (confirmed and enough)
    return _chained(best.order, found[0].order), agree


def _tested(
    voter: WarmFitter, validation: RowBlocks, k: int, strength: float, candidates: BoolArray
) -> _Vote:
    """Eliminate down to k and to one on a part of the rows, and look at other rows on the way."""
    steps = list(_shrinking(voter, 1, strength, candidates, k))
    losses = [sample_losses(validation, voter.problem, parameters) for parameters, _, _ in steps]
    return _Vote(steps[-1][1], np.stack(losses), [size for _, _, size in steps])


def _too_many(votes: list[_Vote], k: int, folds: Folds) -> bool:
    """Tell whether fewer than k groups clearly do better on the validation rows."""
    if k == 1:
        return False
    at_k, fewer = [], []
    for vote, (_, validation) in zip(votes, folds, strict=True):
        place = vote.sizes.index(k)
        at_k.append(vote.losses[place])
        fewer.append(honest_losses(vote.losses[place + 1 :], validation_weights([validation])))
    weights = validation_weights([validation for _, validation in folds])
    losses, others = np.concatenate(at_k), np.concatenate(fewer)
    gain = float(weights @ (losses - others))
    return gain > _CLEAR * standard_error(losses, others, weights)


def _chained(first: IntArray, rest: IntArray) -> IntArray:
    """Return ``first`` and then what else there is in ``rest``, in its order."""
    return np.array(list(dict.fromkeys([*first.tolist(), *rest.tolist()])))


def _fused(first: IntArray, others: list[IntArray]) -> IntArray:
    """Order by the sums of reciprocal ranks; the first counts as much as all others together.

    The others need not have all groups.
    """
    reciprocals = 1.0 / np.arange(1, len(first) + 1)
    scores = np.zeros(len(first))
    scores[first] = len(others) * reciprocals
    for order in others:
        scores[order] += reciprocals[: len(order)]
    return np.argsort(-scores, kind="stable")


def _with_even_effects(fitter: WarmFitter, best: _Elimination, k: int) -> BoolArray:
    """Return the inputs of the k groups, and of as many others whose absolute values matter.

    Among many inputs a dense fit may spend its states on noise, and miss what no gradient shows.
    """
    judge = replace(fitter.problem, alpha=_JUDGE, l2=_JUDGE)
    pull = even_effects(fitter.data, judge, best.parameters)[_first(judge)]
    pull[best.order[:k]] = np.inf
    inside: BoolArray = np.isin(_labels(judge), np.argsort(-pull, kind="stable")[: k + max(k, 10)])
    return inside


def _eliminate(fitter: WarmFitter, k: int, strength: float, inside: BoolArray) -> _Elimination:
    """Drop groups until k are left, and judge them."""
    current, order = _left_groups(fitter, k, strength, inside)
    judge = replace(fitter.problem, alpha=_JUDGE, l2=_JUDGE)
    selected = np.isin(_labels(fitter.problem), order[:k])
    final = fitter.keep(judge, current, selected, _JUDGE_STEPS)
    groups = frozenset(order[:k].tolist())
    return _Elimination(final.point.parameters, final.point.objective, groups, order)


def _left_groups(
    fitter: WarmFitter, k: int, strength: float, inside: BoolArray
) -> tuple[Parameters, IntArray]:
    """Drop the smallest groups of a dense fit with some of the inputs until k are left."""
    *_, (parameters, order, _) = _shrinking(fitter, k, strength, inside)
    return parameters, order


def _shrinking(
    fitter: WarmFitter, k: int, strength: float, inside: BoolArray, through: int = 0
) -> Iterator[tuple[Parameters, IntArray, int]]:
    """Yield ever smaller fits down to k groups, all groups in order, and how many are left.

    One of the sizes is ``through``, unless that is less than k.
    """
    labels = _labels(fitter.problem)
    problem = replace(fitter.problem, alpha=strength, l2=strength)
    left = np.unique(labels[inside])
    current = fitter.dense(problem, inside).point.parameters
    dropped: list[IntArray] = []
    while True:
        ranked = _ranked(fitter, problem, current, left)
        yield current, np.concatenate([ranked, *dropped[::-1]]), len(left)
        if len(left) == k:
            break
        size = _next_size(len(left), through if k < through < len(left) else k)
        dropped.append(ranked[size:])
        left = np.sort(ranked[:size])
        inside = np.isin(labels, left)
        current = fitter.keep(problem, current, inside).point.parameters


def _next_size(size: int, k: int) -> int:
    if size <= k + _FINE:
        return size - 1
    return max(size // 2 if size > _MANY_GROUPS else (3 * size) // 4, k + _FINE)


def _ranked(
    fitter: WarmFitter, problem: TrainingProblem, parameters: Parameters, left: IntArray
) -> IntArray:
    """Return the groups from the largest to the smallest norm, zeros by their gradients."""
    first = _first(problem)[left]
    norms = group_norms(parameters.B, parameters.D, problem.groups)[first]
    pull = np.zeros(len(left))
    if (norms == 0.0).any():
        pull = fitter.gradient_norms(problem, parameters)[first]
    return left[np.lexsort((-pull, -norms))]


def _labels(problem: TrainingProblem) -> IntArray:
    """Return the number of the group of every input, from 0 without gaps."""
    if problem.groups is None:
        return np.arange(len(problem.group_weights))
    return np.unique(problem.groups, return_inverse=True)[1]


def _first(problem: TrainingProblem) -> IntArray:
    if problem.groups is None:
        return np.arange(len(problem.group_weights))
    return first_inputs(problem.groups)
