"""The (A, B) block with a quadratic that is known by its products, in a Gram metric."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._kernels import group_ball_sweeps
from .group_ball_ls import feasible_rows
from .group_ball_metric import majoriser, sweep_metric
from .group_ball_problem import GroupBallProblem, exponent
from .result import Result

__all__ = ["refine_group_ball"]

Array = NDArray[np.float64]

_SWEEPS = 3  # of a proximal step; 20 bring it no further
_EXACT = 0.01  # of the residual so far: when a proximal step is left earlier
_SHARPEST = 2.0**40  # of the metric, beyond which only rounding is left


def refine_group_ball(
    problem: GroupBallProblem,
    product: Callable[[Array], Array],
    Theta0: Array,
    Theta: Array,
    *,
    tol: float = 1e-8,
    least_gain: float = 0.0,
    max_steps: int = 1000,
) -> Result:
    """Minimise over the set of ``problem``, with its penalties, another quadratic.

    With ``E = Theta - Theta0`` the objective is

        ``<G, E> + <E, product(E)> / 2 + penalties of Theta``

    where G is the gradient of ``problem`` at ``Theta0``. Its own quadratic is the metric of
    accelerated proximal steps, sharpened where it turns out to be too flat.

    Parameters
    ----------
    problem : GroupBallProblem
    product : callable
        Product with a symmetric positive semidefinite operator on arrays of shape (r, P).
    Theta0 : ndarray of shape (r, P)
        Feasible.
    Theta : ndarray of shape (r, P)
        Feasible; where to start, unless ``Theta0`` is better.
    tol : float
        Largest :meth:`GroupBallProblem.violation` of a solution, with the gradient of the quadratic
        above.
    least_gain : float
        Also stop when a step gains less than this part of what all have gained.
    max_steps : int
        Products to make, after a first one.

    Returns
    -------
    Result
        ``x`` is never worse than ``Theta0`` and ``Theta``; ``gap`` is its violation.

    Notes
    -----
    Source: A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear
    inverse problems", SIAM J. Imaging Sci. 2 (2009); B. O'Donoghue and E. Candes, "Adaptive restart
    for accelerated gradient schemes", Found. Comput. Math. 15 (2015).

    Examples
    --------
    A metric of one where the curvature is four, and a threshold of one:

    >>> problem = GroupBallProblem.of([[0.0, -3.0]], [[1.0]], np.eye(2), 1, 1.0, 0.9)
    >>> zero = np.zeros((1, 2))
    >>> refine_group_ball(problem, lambda E: 4.0 * E, zero, zero).x
    array([[0. , 0.5]])
    """
    scaled, unit = problem.normalised()
    down = -exponent(problem.linear)
    start = np.ldexp(Theta0, -unit)
    linear = scaled.gradient(start)
    steps = _Steps(scaled)

    def at(Theta: Array) -> _Iterate:
        E = Theta - start
        curved = np.ldexp(product(np.ldexp(E, unit)), down)
        value = float(np.vdot(linear, E)) + 0.5 * float(np.vdot(curved, E))
        return _Iterate(Theta, value + scaled.penalty(Theta), linear + curved)

    origin = _Iterate(start, scaled.penalty(start), linear)
    best = at(np.ldexp(Theta, -unit))
    steps.sharpen(best, origin)
    if not best.value <= origin.value:  # NaN, too
        best = origin
    point, weight, n_iter = best, 1.0, 0
    residual = scaled.violation(best.Theta, best.gradient)
    while residual > tol and n_iter < max_steps:
        target = _EXACT * residual * scaled.scale(best.gradient)
        new = at(steps.proximal(point, best.Theta, target))
        n_iter += 1
        if not new.value < best.value:
            if point is best and not steps.sharpen(new, best):
                break
            point, weight = best, 1.0
            continue
        following = 0.5 * (1.0 + (1.0 + 4.0 * weight * weight) ** 0.5)
        point, weight = new.beyond(best, (weight - 1.0) / following), following
        gained, best = best.value - new.value, new
        residual = scaled.violation(best.Theta, best.gradient)
        if gained < least_gain * (origin.value - best.value):
            break
    n = problem.n_states
    solution = np.ldexp(best.Theta, unit)
    solution[:n, :n] = feasible_rows(solution[:n, :n], problem.radius, problem.pattern)
    return Result(solution, residual, n_iter, "optimal" if residual <= tol else "max_iter")


@dataclass(frozen=True)
class _Iterate:
    Theta: Array
    value: float
    gradient: Array

    def beyond(self, other: "_Iterate", share: float) -> "_Iterate":
        """Return the point that lies beyond this one, seen from the other; its value is unknown."""
        return _Iterate(
            self.Theta + share * (self.Theta - other.Theta),
            np.nan,
            self.gradient + share * (self.gradient - other.gradient),
        )


class _Steps:
    """Proximal steps in a multiple of the metric of a problem."""

    def __init__(self, problem: GroupBallProblem) -> None:
        self._problem, self._factor = problem, 1.0
        self._metric = sweep_metric(problem)
        self._majoriser = majoriser(problem)

    def sharpen(self, new: _Iterate, old: _Iterate) -> bool:
        """Raise the factor to the curvature between two points; return whether it was below."""
        D = new.Theta - old.Theta
        flat = float(np.vdot(D, self._problem.curved(D)))
        curved = float(np.vdot(D, new.gradient - old.gradient))
        if not curved > self._factor * flat or self._factor > _SHARPEST:
            return False
        while self._factor * flat < curved and self._factor <= _SHARPEST:
            self._factor *= 2.0
        return True

    def proximal(self, point: _Iterate, Theta: Array, target: float) -> Array:
        """Make a step from ``point``, begun at the feasible ``Theta``."""
        p, f = self._problem, self._factor
        H, W, F, K = self._metric
        vectors, values, bound, inverse = self._majoriser
        G = point.gradient + f * p.curved(Theta - point.Theta)
        new = Theta.copy()
        group_ball_sweeps(
            f * H,
            W,
            f**0.5 * F,
            K,
            vectors,
            f * values,
            bound,
            inverse / f,
            new,
            G,
            p.n_states,
            p.threshold,
            p.sizes,
            p.radius,
            p.l1,
            p.pattern,
            p.entry,
            target,
            _SWEEPS,
        )
        return new
