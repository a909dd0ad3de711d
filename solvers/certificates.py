"""Optimality certificates: how far a point is from solving its problem, and nothing else.

A certificate looks at the data of the problem and at the candidate, never at how the candidate was
found. All are nonnegative, zero at a solution up to rounding errors, and free of units: scaling
the data of a problem does not change them, but for states below 1e-12, whose residual is relative
to that. The functions that turn the arguments of a driver into arrays stand here too, since drivers
and certificates both begin with them.
"""

from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._kernels import PIECEWISE_LINEAR, SIGMOID, TANH, l1_gap_terms, state_residuals

Array = NDArray[np.float64]


def as_float64(
    name: str, value: ArrayLike, shape: tuple[int | None, ...], order: Literal["C", "K"] = "C"
) -> Array:
    """Return a finite, nonempty float64 array; ``None`` in ``shape`` is any length.

    It is C-ordered unless ``order`` is "K", any. The array is a copy only when ``value`` is not
    such an array already.
    """
    try:
        given = np.asarray(value)
        if np.iscomplexobj(given):
            raise TypeError("complex numbers")
        array = np.asarray(given, dtype=np.float64, order=order)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold real numbers; got {error}") from error
    if array.ndim != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, array.shape, strict=True)
    ):
        wanted = str(shape).replace("None", "any")
        raise ValueError(f"{name} must have shape {wanted}; got {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty; got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got NaN or infinity")
    return array


def as_mask(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a boolean array of the given shape."""
    mask = np.asarray(value)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(
            f"{name} must be a boolean array of shape {shape}; got {mask.dtype} {mask.shape}"
        )
    return mask


def as_scalar(name: str, value: float, *, positive: bool = False) -> float:
    """Return a finite float that is positive, or at least nonnegative."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number; got {value!r}") from error
    if not (0.0 < number < np.inf or (number == 0.0 and not positive)):
        kind = "positive" if positive else "nonnegative"
        raise ValueError(f"{name} must be finite and {kind}; got {value!r}")
    return number


def as_count(name: str, value: int) -> int:
    """Return a whole number that is not negative."""
    if not isinstance(value, Integral) or value < 0:
        raise ValueError(f"{name} must be a whole number and not be negative; got {value!r}")
    return int(value)


def as_thresholds(threshold: ArrayLike, p: int) -> Array:
    """Return the ``p`` thresholds of a group penalty: a scalar or one each, infinity allowed."""
    try:
        given = np.asarray(threshold, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"threshold must hold real numbers; got {threshold!r}") from error
    if given.shape not in ((), (p,)) or not (given >= 0.0).all():
        raise ValueError(
            f"threshold must be one or {p} numbers that are not negative; got {threshold!r}"
        )
    return np.array(np.broadcast_to(given, (p,)), order="C")


def _gap(value: float) -> float:
    """Return a gap without what rounding takes from zero; what is not a number proves nothing."""
    return max(0.0, value) if value == value else float("inf")


def l1_ball_gap(V: Array, A: Array, radius: float) -> float:
    """Duality gap of ``A`` as the projection of ``V`` on the row-sum ball.

    With ``u = v - a`` the gap of a row is ``radius max|u| - u'a``. It is summed over the rows and
    divided by the sum of ``radius max|v|``. Infinite when a row of ``A`` is outside the ball.
    """
    top = max(float(V.max()), -float(V.min()))
    if top == 0.0 or radius == 0.0:
        return 0.0 if (np.abs(A).sum(axis=1) <= radius).all() else float("inf")
    outmost, gap, size = l1_gap_terms(V, A, top, radius)
    return float("inf") if outmost > radius else _gap(gap / size)


def group_soft_threshold_gap(V: Array, X: Array, threshold: ArrayLike) -> float:
    """Duality gap of ``X`` as the minimiser of ``||X - V||^2 / 2 + sum_j t_j ||X[:, j]||``.

    The dual point is ``V - X`` with its columns shortened to ``t_j``. Relative to the objective at
    zero, ``||V||^2 / 2``.
    """
    t = as_thresholds(threshold, V.shape[1])
    top = np.abs(V).max()
    if top == 0.0:
        return 0.0 if not X.any() else float("inf")
    with np.errstate(over="ignore"):  # an infinite threshold is as good as a huge one
        U, X, t = (V - X) / top, X / top, t / top
    length, size = np.linalg.norm(U, axis=0), np.linalg.norm(X, axis=0)
    shorten = np.ones_like(t)
    np.divide(t, length, out=shorten, where=length > t)
    penalty = np.multiply(t, size, out=np.zeros_like(t), where=size > 0.0)
    gap = 0.5 * ((1.0 - shorten) * length) ** 2 + penalty - shorten * (U * X).sum(axis=0)
    return _gap(float(gap.sum() / (0.5 * ((V / top) ** 2).sum())))


def group_prox_metric_residual(r: Array, b: Array, eigenvalues: Array, threshold: float) -> float:
    """Distance of 0 from the subdifferential of ``b' diag(e) b / 2 - r'b + t ||b||`` at ``b``.

    Relative to ``||r||``: ``||e b + t b / ||b|| - r||``, and ``(||r|| - t)_+`` at ``b = 0``.
    """
    top = float(np.abs(r).max())
    if top == 0.0:
        return 0.0 if not b.any() else float("inf")
    r, t = r / top, threshold / top
    length = float(np.linalg.norm(r))
    reach = np.abs(b).max()
    if reach == 0.0:
        return float(max(0.0, length - t) / length)
    direction = (b / reach) / np.linalg.norm(b / reach)
    return float(np.linalg.norm(eigenvalues * (b / top) + t * direction - r) / length)


def group_lasso_gap(
    Y: Array, residual: Array, correlation: Array, Theta: Array, threshold: Array
) -> float:
    """Duality gap of ``Theta`` as the minimiser of a multi-task group lasso.

    The problem is ``||Y - U Theta'||_F^2 / (2 m) + sum_j t_j ||Theta_j||``; ``residual`` is
    ``Y - U Theta'`` and ``correlation`` of shape (q, p) is ``residual' U / m``. The dual point is
    the best multiple of the residual that is feasible. Relative to the objective at zero,
    ``||Y||_F^2 / (2 m)``.
    """
    m = len(Y)
    square, product = (float(np.vdot(residual, other)) / m for other in (residual, Y))
    norms = np.sqrt(np.einsum("ij,ij->j", Theta, Theta))
    used = norms > 0.0
    primal = 0.5 * square + float(threshold[used] @ norms[used])
    top = float((np.sqrt(np.einsum("ij,ij->j", correlation, correlation)) / threshold).max())
    multiple = product / square if square > 0.0 else 1.0
    if abs(multiple) * top > 1.0:
        multiple = np.copysign(1.0 / top, multiple)
    dual = multiple * (product - 0.5 * multiple * square)
    null = 0.5 * float(np.vdot(Y, Y)) / m
    if null == 0.0:
        return 0.0 if not used.any() else float("inf")
    return _gap((primal - dual) / null)


def ridge_residual(C: Array, gram: Array, cross: Array, penalty: Array) -> float:
    """Gradient ``C (G + diag(penalty)) - R`` of the ridge problem against its own terms.

    The largest entry of the gradient over the largest entry of ``|R|`` and of
    ``|C| |G + diag(penalty)|``: the backward error of the linear system, attainable in floating
    point whatever its condition.
    """
    G = gram + np.diag(penalty)
    size = max(float(np.abs(cross).max()), float((np.abs(C) @ np.abs(G)).max()), 1e-300)
    return float(np.abs(C @ G - cross).max()) / size


class StateMatrices(NamedTuple):
    """What the state problem shares between its samples, as the kernels want it.

    ``S = Q - W A - A' W`` with ``W = diag(lam)`` is the Hessian of the quadratic terms,
    ``H = S + L A' W A`` a bound of the curvature of the smooth part, ``M`` its diagonal kept away
    from zero, ``AT = A'`` and ``WA = W A``.
    """

    S: Array
    H: Array
    M: Array
    AT: Array
    WA: Array

    @classmethod
    def of(cls, Q: Array, A: Array, lam: Array, lipschitz: float) -> "StateMatrices":
        """Build the matrices from ``Q`` (n, n), ``A`` (n, n) and ``lam`` (n,)."""
        WA = lam[:, None] * A
        S = 0.5 * (Q + Q.T) - WA - WA.T
        H = S + lipschitz * (A.T @ WA)
        # a larger M is still a majoriser; below lam the potential supplies the curvature anyway
        M = np.maximum(np.diag(H), 1e-3 * lam)
        return cls(S, np.ascontiguousarray(0.5 * (H + H.T)), M, np.ascontiguousarray(A.T), WA)


def as_activation(kind: int, par: ArrayLike) -> tuple[int, Array]:
    """Check an activation in the form the kernels use; see ``_kernels``."""
    if kind not in (PIECEWISE_LINEAR, TANH, SIGMOID):
        raise ValueError(f"kind must be one of 0, 1, 2; got {kind!r}")
    values = np.array(par, dtype=np.float64, order="C")
    if values.shape != (4,) or np.isnan(values).any():
        raise ValueError(f"par must be 4 numbers; got {par!r}")
    threshold, slope, low, high = values
    if kind == PIECEWISE_LINEAR and not (0.0 <= threshold < np.inf and 0.0 <= slope <= 1.0):
        raise ValueError(f"par must have threshold >= 0 and slope in [0, 1]; got {par!r}")
    if kind == PIECEWISE_LINEAR and not (low <= high and low < np.inf and high > -np.inf):
        raise ValueError(f"par must have lower clip <= upper clip; got {par!r}")
    return int(kind), values


def state_residual(
    X: Array,
    Q: Array,
    c: Array,
    zeta: Array,
    lam: Array,
    A: Array,
    kind: int,
    par: Array,
    lipschitz: float = 1.0,
) -> Array:
    """Residual of the state problem of :func:`solve_states` for each sample, shape (m,).

    The largest change ``|x_k - prox(x_k - g_k / M_k)|`` that a proximal-gradient step with the
    curvature bounds ``M_k`` would make to a coordinate, over the largest of ``|x_k|`` and
    ``|phi(zeta_k)|`` (and ``1e-12``). It is zero exactly at the stationary points, which are the
    minimisers when the problem is convex.
    """
    S, _, M, AT, WA = StateMatrices.of(Q, A, lam, lipschitz)
    residual = np.empty(X.shape[0])
    state_residuals(kind, par, c, zeta, lam, S, M, AT, WA, X, residual)
    return residual
