"""``alpha="auto"``: choose the inputs and the strength of the penalties from the data.

The strength that predicts best keeps most of the false inputs, as with the lasso: what removes them
also shrinks the true ones. Selection and prediction are therefore separated, on a split of the rows
into a training and a validation part:

1. Dense fits at a few strengths; the best on the validation part goes on. It starts dense because
   inputs that act only together are lost by a sparse start. On the first fold other random starts
   are tried as long as next to nothing is found, and if none does well, the best is eliminated: of
   30 samples of a wave in one of five inputs, 240 rows, 29 are then found instead of 26; samples of
   noise take 3.4 s instead of 2.3.
2. Backward elimination: the inputs with the smallest groups are dropped, a quarter at a time, and
   what is left is refitted, warm. Around the size chosen, inputs are dropped one by one. Chosen is
   the smallest support that is good enough (`bcd_implicit.candidates.smallest_good`). Where the
   absolute values or waves of other inputs, or products of two or three, clearly matter to what it
   leaves unexplained, which no gradient shows, a dense fit to them and the chosen ones is
   eliminated, too.
3. The model without states is cross-validated over its whole path (`bcd_implicit.linear_path`),
   which is cheap, and taken unless states are better by three standard errors, in many rows by two
   and a half, if need be with the few rows that count most clipped, or by two and far better. While
   the difference is less than three, steps 1 and 2 are repeated on another fold: with few rows, a
   single split prefers the wrong kind of model far too often. Of several folds, that one goes on
   whose candidate does well on all.
4. The chosen support and the smallest that is nearly as good are left to settle as the final fit
   will be, and compared once more. With the winner's inputs alone, the strength of all penalties
   rises or falls, then that of C rises, as long as the validation loss falls; with few rows of
   classes, on all folds. Inputs that were left out, but clearly act linearly on what the winner
   leaves unexplained of all rows, are taken back (`bcd_implicit.left_out`) unless the validation
   rows are against it: of six true inputs of 33 with half noise 0.2 are missed instead of 0.6.

Every candidate is a refit at a uniform strength. What lost: an adaptive penalty, ``omega_j = (mean
norm / norm_j)^2``, scored along its own path. It found the article's inputs as well, but shrank
weak true inputs so much that Friedman's fifth was dropped, at three times the loss.
"""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.candidates import (
    PathPoint,
    Strength,
    clipped_gain,
    gain_in_errors,
    honest_losses,
    smallest_good,
    standard_error,
    trimmed_gain,
)
from bcd_implicit.linear_path import linear_path
from bcd_implicit.monitor import Monitor
from bcd_implicit.pooled_folds import PooledFolds
from bcd_implicit.problem import TrainingProblem
from bcd_implicit.state_search import StateSearch
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.validation_rows import validation_weights

__all__ = ["DENSE_STRENGTH", "choose_strength"]

Array = NDArray[np.float64]

DENSE_STRENGTH = 0.03
_CERTAIN = 3.0  # standard errors between models with states and without that end the search
_CERTAIN_ROWS = 50  # fewer validation rows never decide by themselves
# What decides once all folds are in, if rows are many. Of |u| beside a linear effect, 50
# positives in 800 rows, states were 2.3 to 3 errors better in three of six samples. With 200 rows
# and 20 positives linear effects gave two of 20 states that were worse, with 300 to 600 one of 118.
_CLEAR = 2.5
_MANY_ROWS = 300
# So many errors and a loss of less than so much of the rival's decide, too: the few rows that gain
# most, as those of a rare class, are what the error is of as well.
_LIKELY, _CLEARLY = 2.0, 0.7
_OUTLYING = 0.02  # of the rows, at least one: if they count no more than others, that is enough
# Validation rows of classes, below which all folds have to confirm the strength of one: there
# probabilities that are too certain cost most. Regressions were as often worse for it.
_FEW_ROWS = 200
# Standard errors that inputs gain on none, or none is chosen: of 360 samples of noise, 40 to 400
# rows, 93 kept some without this and 55 with it. Where inputs explain a fifth it costs 0.02 of R2
# with 40 and 60 rows, and nothing with 100. A whole one lost dense effects in 42 rows.
_SOMETHING = 0.5


def choose_strength(
    data: RowBlocks,
    folds: list[tuple[RowBlocks, RowBlocks]],
    problem: TrainingProblem,
    rng: np.random.Generator,
    monitor: Monitor,
    *,
    fixed_l2: bool = False,
    with_states: bool = True,
) -> Strength:
    """Choose inputs and strengths; see the module for the method and its reasons.

    Parameters
    ----------
    data : RowBlocks
        All rows to use; the weights sum to one.
    folds : list of (RowBlocks, RowBlocks)
        Training and validation parts of them in the same units, likewise.
    problem : TrainingProblem
        Its ``l2`` is where the search starts; its ``alpha`` is ignored.
    rng : numpy.random.Generator
        For the random start of the dense fit.
    monitor : Monitor
        Receives the history of all fits.
    fixed_l2 : bool
        Whether ``l2`` stays where it is; then all candidates have states.
    with_states : bool
        Whether models with states are tried.

    Returns
    -------
    Strength

    Raises
    ------
    KeyboardInterrupt
        If the user stops before there is any model.
    """
    weights = validation_weights([validation for _, validation in folds])
    if not with_states:
        return _choose_linear(*linear_path(data, folds, problem, monitor), problem, weights, [])

    def search(fold: tuple[RowBlocks, RowBlocks]) -> StateSearch:
        return StateSearch(data, *fold, problem, rng, monitor, fixed_l2)

    searches = [search(folds[0])]
    chosen = searches[0]
    interrupted = False
    try:
        states = [searches[0].eliminate(insist=True)]
        if problem.feedthrough and not fixed_l2:
            linear, refits = linear_path(data, folds, problem, monitor)
            rival = honest_losses(np.stack([point.losses for point in linear + refits]), weights)
            gain = _gain(states, rival, weights)
            for fold in folds[1:]:
                if abs(gain) > _CERTAIN and len(np.concatenate(states)) >= _CERTAIN_ROWS:
                    break
                searches.append(search(fold))
                states.append(searches[-1].eliminate())
                gain = _gain(states, rival, weights)
            if not _states_win(states, rival, weights):
                return _choose_linear(linear, refits, problem, weights, searches[0].path)
            # where one row overruled all others, none may be
            better = [searches[k] for k in _better(states, rival, weights)]
            chosen = _best_everywhere(better or searches)
        pool = None
        if not problem.loss.quadratic and len(chosen.weights) < _FEW_ROWS:
            pool = PooledFolds([*searches, *map(search, folds[len(searches) :])])
        chosen.refine(pool)
    except KeyboardInterrupt:
        if chosen.best is None:
            raise
        interrupted = True
    if chosen.best is None:
        raise RuntimeError("the search ended without a candidate")
    return Strength(chosen.best, chosen.chosen_weights, chosen.path, interrupted)


def _choose_linear(
    path: list[PathPoint],
    refits: list[PathPoint],
    problem: TrainingProblem,
    weights: Array,
    before: list[PathPoint],
) -> Strength:
    """Choose from the candidates of `linear_path`: in few rows from refits only if they are better.

    There a refit of one lucky input often has the least loss; asked to be better by one standard
    error, refits cost 0.01 to 0.03 less of R2 on 50 rows, and still find sparse models. In 300 rows
    and more that kept false inputs for nothing: of five true ones among 20 and half noise 1.5
    instead of 0.1 (16 samples), with 80 % of noise 5.3 instead of 2.7, at R2 of 0.97 and 0.78.
    """
    pool = path + refits
    if refits and len(weights) < _MANY_ROWS:
        best, refit = (min(points, key=lambda point: point.loss) for points in (path, refits))
        if best.loss - refit.loss <= standard_error(best.losses, refit.losses, weights):
            pool = path
    best = smallest_good(pool, weights, path[0].loss)
    if gain_in_errors(path[0].losses, best.losses, weights) < _SOMETHING:
        best = path[0]
    chosen = np.where(best.support, problem.group_weights, np.inf)
    return Strength(best, chosen, before + path + refits)


def _better(states: list[Array], rival: Array, weights: Array) -> list[int]:
    """Return the folds on which states are better: the fits to others may have found nothing."""
    rivals, losses, of = _compared(states, rival, weights)
    gains = of * (rivals - losses)
    ends = np.cumsum([len(fold) for fold in states])[:-1]
    return [k for k, fold in enumerate(np.split(gains, ends)) if fold.sum() > 0.0]


def _best_everywhere(searches: list[StateSearch]) -> StateSearch:
    """Return the search whose best does well on all of their folds, the inputs few.

    One fold may end in a poor minimum, or prefer a strength by chance: of noisy ``u1 u2 > 0``, 200
    rows, three quadrants or inputs of noise came from the one whose strength was the middle one.
    """
    if len(searches) == 1:
        return searches[0]
    pool = PooledFolds(searches)
    judged = [pool.judged(search.smallest_support()) for search in searches]
    empty = float(np.mean([one.empty_loss for one in searches]))
    best = smallest_good(judged, pool.weights, empty)
    return next(one for one, point in zip(searches, judged, strict=True) if point is best)


def _states_win(states: list[Array], rival: Array, weights: Array) -> bool:
    """Whether states are clearly better, with all rows or with the far ones clipped.

    Where targets or inputs have heavy tails, one row may be most of what there is to gain, and of
    its error: all of four folds were for states, by factors of 4 to 25, and 1.9 standard errors.
    Nor does a single row overrule the others.
    """
    rivals, losses, of = _compared(states, rival, weights)
    clearly = float(of @ losses) < _CLEARLY * float(of @ rivals)
    enough = _CLEAR if len(losses) >= _MANY_ROWS else _CERTAIN
    if gain_in_errors(rivals, losses, of) > (_LIKELY if clearly else enough):
        return True
    few = max(1, int(_OUTLYING * len(losses)))
    clear = clipped_gain(rivals, losses, of, few) > enough
    return clear and trimmed_gain(rivals, losses, of, 1) > 0.0


def _gain(states: list[Array], rival: Array, weights: Array) -> float:
    """Return by how many standard errors states are better on the folds that they were tried on."""
    return gain_in_errors(*_compared(states, rival, weights))


def _compared(states: list[Array], rival: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return the losses of the rival and of states on the folds that these were tried on, weighted.

    The weights sum to one.
    """
    losses = np.concatenate(states)
    of = weights[: len(losses)]
    return rival[: len(losses)], losses, of / of.sum()
