"""Data, objective and certificate of the (A, B) block."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._kernels import group_ball_residual
from .certificates import as_count, as_float64, as_mask, as_scalar, as_thresholds

Array = NDArray[np.float64]

USUAL = 100  # binary exponents whose squares are harmless


@dataclass(frozen=True)
class GroupBallProblem:
    """Data of a group-ball least-squares problem.

    The unknown is ``Theta`` of shape (r, P), whose columns are those of the states (n), of the
    inputs (p) and of the intercepts (P - n - p), and whose first n rows belong to the states:
    ``Theta = [[A, B, b], [0, D, 0]]``. The problem is to minimise

        ``<G, Theta> + tr(H Theta W Theta') / 2 + tr(H2 Theta (W - K K') Theta') / 2
        + sum_g threshold_g ||Theta[:, g]||_F + l1 ||A||_1``

    where a group g is one or several neighbouring columns of the inputs,
    over ``||A||_inf <= radius`` (row sums), with ``A`` zero outside ``pattern`` and the
    columns of the inputs zero outside ``entry``.

    Attributes
    ----------
    linear : ndarray of shape (r, P)
        ``G``, the gradient at zero.
    H : ndarray of shape (r, r)
        Metric of the rows, symmetric and positive semidefinite.
    W : ndarray of shape (P, P)
        Metric of the columns (a Gram matrix), symmetric and positive semidefinite.
    n_states : int
        ``n``.
    threshold : ndarray of shape (groups,)
        Group strengths, nonnegative; infinity forces a group to zero.
    radius : float
        Positive.
    l1 : float
        Strength of the l1 penalty on A.
    pattern : ndarray of bool, shape (n, n)
        Entries of A that may be nonzero.
    H2, K : ndarray of shape (r, r) and (P, k), or both (0, 0)
        A second metric, added to the first: its columns are without what the k directions K explain
        of them. ``W - K K'`` must be positive semidefinite.
    entry : ndarray of bool, shape (r,)
        Rows in which the columns of the inputs may be nonzero.
    sizes : ndarray of int, shape (groups,)
        Columns of each group; they sum to p.
    """

    linear: Array
    H: Array
    W: Array
    n_states: int
    threshold: Array
    radius: float
    l1: float
    pattern: NDArray[np.bool_]
    H2: Array
    K: Array
    entry: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        linear: ArrayLike,
        H: ArrayLike,
        W: ArrayLike,
        n_states: int,
        threshold: ArrayLike,
        radius: float,
        *,
        l1: float = 0.0,
        pattern: ArrayLike | None = None,
        H2: ArrayLike | None = None,
        K: ArrayLike | None = None,
        entry: ArrayLike | None = None,
        sizes: ArrayLike | None = None,
    ) -> "GroupBallProblem":
        """Check and coerce the data; a scalar ``threshold`` needs as many inputs as fill ``P - n``.

        Without ``sizes`` every input is a group of its own.

        Raises
        ------
        ValueError
            If an array is misshapen or not finite, a strength negative or the radius not positive.
        """
        G = as_float64("linear", linear, (None, None))
        r, P = G.shape
        if as_count("n_states", n_states) > min(r, P):
            raise ValueError(f"n_states must lie between 0 and {min(r, P)}; got {n_states!r}")
        try:
            thresholds = np.asarray(threshold, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"threshold must hold real numbers; got {error}") from error
        count = P - n_states if thresholds.ndim == 0 else thresholds.size
        widths = np.ones(count) if sizes is None else np.asarray(sizes)
        real = widths.shape == (count,) and widths.dtype.kind in "fiub"
        if not real or not ((np.floor(widths) == widths) & (widths >= 1) & (widths < np.inf)).all():
            raise ValueError(f"sizes must be {count} positive integers; got {sizes!r}")
        if widths.sum() > P - n_states:
            raise ValueError(
                f"threshold and sizes must be of at most {P - n_states} columns; got {count} "
                f"groups of {int(widths.sum())} columns"
            )
        if (H2 is None) != (K is None):
            raise ValueError("H2 and K must be given together; got only one of them")
        return cls(
            G,
            as_float64("H", H, (r, r)),
            as_float64("W", W, (P, P)),
            int(n_states),
            as_thresholds(thresholds, count),
            as_scalar("radius", radius, positive=True),
            as_scalar("l1", l1),
            np.ones((n_states, n_states), dtype=np.bool_)
            if pattern is None
            else as_mask("pattern", pattern, (n_states, n_states)),
            np.zeros((0, 0)) if H2 is None else as_float64("H2", H2, (r, r)),
            np.zeros((0, 0)) if K is None else as_float64("K", K, (P, None)),
            np.ones(r, dtype=np.bool_) if entry is None else as_mask("entry", entry, (r,)),
            widths.astype(np.int64),
        )

    @property
    def n_inputs(self) -> int:
        """Columns of all groups together."""
        return int(self.sizes.sum())

    def used(self, Theta: Array) -> NDArray[np.bool_]:
        """Return which groups are not zero."""
        n, count = self.n_states, len(self.sizes)
        nonzero = (Theta[:, n : n + self.n_inputs] != 0.0).any(axis=0)
        used = np.zeros(count, dtype=np.bool_)
        used[np.repeat(np.arange(count), self.sizes)[nonzero]] = True
        return used

    def only(self, groups: NDArray[np.bool_]) -> "tuple[GroupBallProblem, NDArray[np.intp]]":
        """Return the problem in which all other groups are zero, and the columns that it keeps."""
        inputs = self.n_states + np.flatnonzero(np.repeat(groups, self.sizes))
        free = np.arange(self.n_states + self.n_inputs, self.linear.shape[1])
        places = np.concatenate([np.arange(self.n_states), inputs, free])
        problem = replace(
            self,
            linear=np.ascontiguousarray(self.linear[:, places]),
            W=np.ascontiguousarray(self.W[np.ix_(places, places)]),
            threshold=self.threshold[groups],
            sizes=self.sizes[groups],
            K=self.K[places] if len(self.K) else self.K,
        )
        return problem, places

    def gradient(self, Theta: Array) -> Array:
        """Gradient of the smooth part at ``Theta``."""
        return self.linear + self.curved(Theta)

    def curved(self, Theta: Array) -> Array:
        """Product of the metric with ``Theta``: what it adds to the gradient."""
        product: Array = self.total @ Theta @ self.W
        if len(self.H2):
            product -= self.H2 @ (Theta @ self.K) @ self.K.T
        return product

    @property
    def total(self) -> Array:
        """``H + H2``, the metric of the rows beside W."""
        return self.H + self.H2 if len(self.H2) else self.H

    def objective(self, Theta: Array) -> float:
        """Objective at a feasible ``Theta``."""
        return self.value(Theta, self.gradient(Theta))

    def value(self, Theta: Array, G: Array) -> float:
        """Objective at a feasible ``Theta`` with gradient ``G``."""
        return 0.5 * float(((self.linear + G) * Theta).sum()) + self.penalty(Theta)

    def penalty(self, Theta: Array) -> float:
        """Value of the penalties."""
        n = self.n_states
        squares = (Theta[:, n : n + self.n_inputs] ** 2).sum(axis=0)
        if squares.size:
            squares = np.add.reduceat(squares, np.cumsum(self.sizes) - self.sizes)
        norms = np.sqrt(squares)
        penalty = float(np.dot(self.threshold[norms > 0.0], norms[norms > 0.0]))
        return penalty + self.l1 * float(np.abs(Theta[:n, :n]).sum())

    def residual(self, Theta: Array) -> float:
        """Certificate: the largest violation of the optimality conditions, relative.

        For a group it is the distance of the negative gradient from the subdifferential of the
        penalty. For a row of A with entries ``a``, gradient ``g`` and ``top = max (|g| - l1)_+`` it
        is the mean of ``g sign(a) + l1 + top`` weighted with ``|a|`` or, when that is less than
        ``top``, the gap of the linearised problem over the radius. All are divided by the largest
        entry of ``linear`` or, if that is larger, of the gradient.
        """
        scaled, unit = self.normalised()
        Theta = np.ldexp(Theta, -unit)
        return scaled.violation(Theta, scaled.gradient(Theta))

    def violation(self, Theta: Array, G: Array) -> float:
        """Residual at ``Theta`` with gradient ``G``, in units in which squares are harmless."""
        worst: float = group_ball_residual(
            Theta,
            G,
            self.n_states,
            self.threshold,
            self.sizes,
            self.radius,
            self.l1,
            self.pattern,
            self.entry,
        )
        return worst / self.scale(G)

    def scale(self, G: Array) -> float:
        """Size of the gradients, the unit of the residual."""
        return max(float(np.abs(self.linear).max()), float(np.abs(G).max()), 1e-300)

    def normalised(self) -> "tuple[GroupBallProblem, int]":
        """Return the problem in units in which its data are harmless, and the unit of Theta.

        The unknown of the new problem is ``Theta / 2^unit``. Powers of two round nothing, and
        squares neither overflow nor vanish whatever the units of the data. Metrics of the columns
        of usual size stay as they are: they are large, and copies take as long as a sweep.
        """
        rows, columns, linear = (exponent(part) for part in (self.H, self.W, self.linear))
        if self.H2.any():
            rows = max(rows, exponent(self.H2))
        columns = columns // 2 * 2 if abs(columns) > USUAL else 0  # even, for a half of it in K
        total = rows + columns
        with np.errstate(over="ignore", under="ignore"):
            radius = float(np.ldexp(self.radius, total - linear))
            problem = replace(
                self,
                linear=np.ldexp(self.linear, -linear),
                H=np.ldexp(self.H, -rows),
                W=np.ldexp(self.W, -columns) if columns else self.W,
                threshold=np.ldexp(self.threshold, -linear),
                radius=max(radius, 1e-300),
                l1=float(np.ldexp(self.l1, -linear)),
                H2=np.ldexp(self.H2, -rows),
                K=np.ldexp(self.K, -columns // 2) if columns else self.K,
            )
        return problem, linear - total


def exponent(values: Array) -> int:
    """Binary exponent of the largest entry."""
    return math.frexp(max(values.max(initial=0.0), -values.min(initial=0.0)))[1]
