"""Bounds of the expected number of false selections of stability selection."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar

__all__ = ["error_bounds"]

Array = NDArray[np.float64]

# logarithms of the shift a: of a mean of 1e-120, or less; and where a power law over a few hundred
# points is flat
_SMALLEST, _LARGEST = math.log(1e-60), math.log(1e5)


def error_bounds(
    n_selected: int, n_features: int, threshold: float, n_pairs: int
) -> dict[str, float]:
    """Return bounds of the expected number of features selected without being any better.

    A feature counts as false when half of the rows select it no more often than a random guess of
    as many features would. All bounds are at most ``n_features``.

    Parameters
    ----------
    n_selected : int
        Features that are selected on every half of the rows.
    n_features : int
    threshold : float
        Share of the halves, above 0.5, from which on a feature is selected.
    n_pairs : int
        Number of complementary pairs of halves.

    Returns
    -------
    dict of float
        "meinshausen_buehlmann" assumes that false features are exchangeable and that the selection
        is not worse than guessing. The others need neither: "unimodal" assumes that the
        distributions of the simultaneous selection probabilities are unimodal, "r_concave" that
        they and those of the selection probabilities are r-concave, with r = -1/2 and -1/4.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    N. Meinshausen, P. Buehlmann, "Stability selection", J. R. Stat. Soc. B 72 (2010), theorem 1.

    R. Shah, R. Samworth, "Variable selection with error control: another look at stability
    selection", J. R. Stat. Soc. B 75 (2013), equations 4, 7 and 8, and appendix A.4.

    Examples
    --------
    >>> {name: round(bound, 2) for name, bound in error_bounds(10, 100, 0.9, 50).items()}
    {'meinshausen_buehlmann': 1.25, 'unimodal': 0.43, 'r_concave': 0.08}
    """
    if not (0 < n_selected <= n_features and 0.5 < threshold <= 1.0 and n_pairs >= 1):
        raise ValueError(
            "n_selected must be from 1 to n_features, threshold above 0.5 and at most 1, and "
            f"n_pairs positive; got {n_selected!r} of {n_features!r}, {threshold!r} and {n_pairs!r}"
        )
    theta = n_selected / n_features
    classic = n_selected**2 / (n_features * (2.0 * threshold - 1.0))
    return {
        "meinshausen_buehlmann": min(classic, float(n_features)),
        "unimodal": n_features * min(1.0, _unimodal(theta, threshold, n_pairs)),
        "r_concave": n_features * _r_concave(theta, threshold, n_pairs),
    }


def _unimodal(theta: float, threshold: float, pairs: int) -> float:
    """Return the bound of the probability that a false feature is selected."""
    lowest = min(0.5 + theta**2, 0.5 + 1.0 / (2 * pairs) + 0.75 * theta**2)
    margin = 2.0 * threshold - 1.0 - 1.0 / (2 * pairs)
    if theta > 1.0 / math.sqrt(3.0) or threshold <= lowest or margin <= 0.0:
        return 1.0
    if threshold <= 0.75:
        return theta**2 / (2.0 * margin)
    return 4.0 * (1.0 - threshold + 1.0 / (2 * pairs)) / (1.0 + 1.0 / pairs) * theta**2


def _r_concave(theta: float, threshold: float, pairs: int) -> float:
    # of 2 pairs fits, the least number that reaches the threshold; guarded against rounding
    least = math.ceil(round(threshold * 2 * pairs, 8))
    simultaneous = _tail(theta**2, least - pairs, pairs, -0.5)
    return min(1.0, simultaneous, _tail(theta, least, 2 * pairs, -0.25))


def _tail(mean: float, least: int, n: int, r: float) -> float:
    """Return the largest P(X >= least / n) of r-concave X on {0, 1/n, ..., 1} of that mean.

    The extremal distribution has masses proportional to ``(a + i)^(1/r)`` for i up to some k, and
    one free mass at ``k + 1``.
    """
    power, total = 1.0 / r, mean * n
    first = math.ceil(2.0 * total) + 1
    if least < first or first >= n:
        return 1.0

    ranks = np.arange(n + 1)

    def masses(log_a: float, k: int) -> Array:
        return np.asarray((1.0 + ranks[: k + 1] * math.exp(-log_a)) ** power, dtype=np.float64)

    def excess(log_a: float, k: int) -> float:
        weights = masses(log_a, k)
        return float(weights @ ranks[: k + 1] / weights.sum()) - total

    def shift(k: int, most: float) -> float:
        if excess(most, k) <= 0.0:
            return most
        if excess(_SMALLEST, k) >= 0.0:
            return _SMALLEST
        return float(brentq(excess, _SMALLEST, most, args=(k,), xtol=1e-12))

    def negative_tail(log_a: float, k: int) -> float:
        # summed as it is: one minus the rest would be rounding where few of many are selected
        weights = masses(log_a, k)
        free = max(total * weights.sum() - weights @ ranks[: k + 1], 0.0)
        reached = (k + 1 - total) * weights[least:].sum() + free
        return -float(reached / (weights @ (k + 1 - ranks[: k + 1])))

    best, upper = 0.0, shift(first, _LARGEST)
    for k in range(first, n):
        lower = shift(k + 1, upper)
        if k + 1 >= least:
            found = minimize_scalar(
                negative_tail, bounds=(lower, upper), args=(k,), method="bounded"
            )
            ends = (negative_tail(lower, k), negative_tail(upper, k), float(found.fun))
            best = max(best, -min(ends))
        upper = lower
    return best
