"""What the automatic choice tries, and what it chooses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import whole_groups
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.problem import Parameters, first_inputs, group_norms

__all__ = [
    "PathPoint",
    "Strength",
    "clipped_gain",
    "gain_in_errors",
    "honest_losses",
    "is_refined",
    "smallest_good",
    "standard_error",
    "trimmed_gain",
]

Array = NDArray[np.float64]

_REPEATABILITY = 0.02  # relative difference of the loss that local minima alone can make
_WORTHWHILE = 0.05  # relative loss that is too high a price for a smaller support
_UNWORTHY = 3e-3  # of the loss of the empty model: what no input is kept for,
_CERTAIN = 3.0  # unless it is so many standard errors
_NEGLIGIBLE = 1e-4  # of the loss of the empty model: what no refinement is made for
_LUCK = 0.5  # standard errors that no refinement is made for


@dataclass(frozen=True)
class PathPoint:
    """Strengths, the model that they gave on the training part, and how it did.

    Attributes
    ----------
    alpha, l2 : float
        Strengths of the group penalty and of the penalty of C.
    columns : ndarray of int
        The inputs that the model uses; it is kept without the others, which may be many.
    losses : ndarray
        Losses of the validation rows.
    loss : float
        Their weighted mean.
    groups : ndarray of int, optional
        Labels of the groups of inputs, if they are not groups of their own.
    """

    alpha: float
    l2: float
    columns: IntArray
    _of_columns: Parameters
    _n_features: int
    losses: Array
    loss: float
    groups: IntArray | None = None

    @classmethod
    def of(
        cls,
        alpha: float,
        l2: float,
        parameters: Parameters,
        losses: Array,
        loss: float,
        groups: IntArray | None = None,
    ) -> "PathPoint":
        """Keep what is needed of parameters of all inputs."""
        columns = np.flatnonzero(parameters.active)
        some, p = parameters.only(columns), parameters.B.shape[1]
        return cls(alpha, l2, columns, some, p, losses, loss, groups)

    @property
    def parameters(self) -> Parameters:
        """The model, in the units of the inputs that alpha has; made when it is asked for."""
        return self._of_columns.among(self.columns, self._n_features)

    @property
    def family(self) -> tuple[float, float]:
        """The strengths: candidates of one elimination share them."""
        return self.alpha, self.l2

    @property
    def support(self) -> BoolArray:
        """Inputs that the model uses, with the rest of their groups: they enter and leave together.

        In the rows of a fold a category may not occur that the others hold.
        """
        used = np.zeros(self._n_features, dtype=np.bool_)
        used[self.columns] = True
        return whole_groups(self.groups, used)

    @property
    def n_inputs(self) -> int:
        """Number of inputs of `support`."""
        return int(np.count_nonzero(self.support))

    @property
    def n_groups(self) -> int:
        """Number of groups of inputs that the model uses."""
        return self.n_inputs if self.groups is None else len(np.unique(self.groups[self.support]))

    def clearly_used(self, gap: float) -> int:
        """Count the groups above the widest gap between their norms, a factor ``gap`` or more."""
        norms = group_norms(self.parameters.B, self.parameters.D, self.groups)
        if self.groups is not None:
            norms = norms[first_inputs(self.groups)]
        norms = np.sort(norms[norms > 0.0])[::-1]
        ratios = norms[:-1] / norms[1:]
        if not np.any(ratios >= gap):
            return len(norms)
        return int(np.argmax(ratios)) + 1


@dataclass(frozen=True)
class Strength:
    """What `choose_strength` chose.

    Attributes
    ----------
    best : PathPoint
        Strengths, and a warm start.
    group_weights : ndarray of shape (p,)
        ``omega``: infinite for the inputs that were not chosen.
    path : list of PathPoint
        Candidates in the order of their fits: those of the fold that was chosen or, if a model
        without states was, those of the first fold and those without states, scored on all folds.
    interrupted : bool
        Whether the user stopped the search; ``best`` is then the best so far.
    """

    best: PathPoint
    group_weights: Array
    path: list[PathPoint]
    interrupted: bool = False


def standard_error(losses: Array, others: Array, weights: Array) -> float:
    """Return the standard error of the weighted mean difference of paired losses."""
    difference = losses - others
    deviation = difference - float(weights @ difference)
    return float(np.sqrt(np.sum((weights * deviation) ** 2)))


def gain_in_errors(losses: Array, better: Array, weights: Array) -> float:
    """Return by how many standard errors the weighted mean of ``better`` is below the other."""
    gain = float(weights @ (losses - better))
    if gain == 0.0:
        return 0.0
    return gain / max(standard_error(losses, better, weights), abs(gain) * 1e-9)


def trimmed_gain(losses: Array, better: Array, weights: Array, left_out: int) -> float:
    """Return `gain_in_errors` without so many rows, those that count most for or against it.

    A single row that is most of the gain is most of its error, too, and nothing is ever clear.
    """
    order = np.argsort(-np.abs(weights * (losses - better)), kind="stable")
    kept = np.sort(order[left_out:])
    weight = float(weights[kept].sum())
    if weight == 0.0:
        return 0.0
    return gain_in_errors(losses[kept], better[kept], weights[kept] / weight)


def clipped_gain(losses: Array, better: Array, weights: Array, clipped: int) -> float:
    """Return `gain_in_errors` with as many rows, those that count most, no more than the next.

    Where most rows gain a little and few lose much, to leave these out is to find a gain in noise.
    """
    counting = weights > 0.0
    weights = weights[counting]
    counted = weights * (losses - better)[counting]
    most = np.sort(np.abs(counted))[::-1][min(clipped, len(counted) - 1)]
    difference = np.clip(counted, -most, most) / weights
    return gain_in_errors(difference, np.zeros_like(difference), weights)


def honest_losses(losses: Array, weights: Array) -> Array:
    """Return the loss of every validation row under the candidate that is best on all others.

    ``losses`` has a row for each candidate. The least mean loss of many candidates is too good to
    be true; the mean of these is not.
    """
    weighted = losses * weights
    without = weighted.sum(axis=1, keepdims=True) - weighted
    honest: Array = losses[without.argmin(axis=0), np.arange(losses.shape[1])]
    return honest


def smallest_good(path: list[PathPoint], weights: Array, empty: float) -> PathPoint:
    """Return the candidate with the fewest inputs, or groups of inputs, that is good enough.

    Its loss is not above the best by more than 2 %, the scatter between local minima, or half a
    standard error of the paired difference, but never by more than 5 %. The percentages are of the
    best loss or, if that is smaller, of what it gains on the empty model. Three thousandths of the
    loss of the empty model or, if that is smaller, 2 % of what the best gains on it are not worth
    an input, unless the difference is certain: beside a large effect a small one may be far above
    the noise.

    Parameters
    ----------
    path : list of PathPoint
    weights : ndarray
        Weights of the validation rows.
    empty : float
        Loss of the empty model.
    """
    best = min(path, key=lambda point: point.loss)
    gain = max(empty - best.loss, 0.0)  # candidates that were refitted may all be worse
    unit = min(best.loss, gain)
    negligible = min(_UNWORTHY * empty, _REPEATABILITY * gain)

    def good_enough(point: PathPoint) -> bool:
        error = standard_error(point.losses, best.losses, weights)
        allowed = max(0.5 * error, _REPEATABILITY * unit)
        allowed = min(allowed, _WORTHWHILE * unit)
        if point.loss - best.loss <= _CERTAIN * error:
            allowed = max(allowed, negligible)
        return point.loss - best.loss <= allowed

    return min(filter(good_enough, path), key=lambda point: (point.n_groups, point.loss))


def is_refined(point: PathPoint, other: PathPoint, weights: Array, empty: float) -> bool:
    """Whether the other candidate is better: not by next to nothing, luck, or a single row.

    ``empty`` is the loss of the empty model.
    """
    error = standard_error(other.losses, point.losses, weights)
    gain = point.loss - other.loss
    clear = gain > max(_NEGLIGIBLE * empty, _LUCK * error)
    return clear and trimmed_gain(point.losses, other.losses, weights, 1) > 0.0
