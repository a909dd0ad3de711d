"""Proximal operators of the group penalty, in the Euclidean and in a general metric."""

import numpy as np
from numpy.typing import ArrayLike

from ._kernels import group_prox_diag, shrink_columns
from .certificates import (
    as_float64,
    as_scalar,
    as_thresholds,
    group_prox_metric_residual,
    group_soft_threshold_gap,
)
from .result import Result


def group_soft_threshold(V: ArrayLike, threshold: ArrayLike, *, tol: float = 1e-9) -> Result:
    """Shrink the columns of a matrix: the proximal operator of the group penalty.

    Minimises ``||X - V||_F^2 / 2 + sum_j t_j ||X[:, j]||_2``. The columns of ``V`` no longer than
    ``t_j`` become exactly zero, the others lose ``t_j`` of their length [1]_.

    Parameters
    ----------
    V : array-like of shape (n, p)
        Matrix whose columns are the groups; any finite numbers.
    threshold : float or array-like of shape (p,)
        The ``t_j``, nonnegative; infinity forbids a column.
    tol : float
        The gap up to which the result is called optimal. The method is direct and does not use it.

    Returns
    -------
    Result
        ``x`` is a new (n, p) array; ``gap`` is :func:`certificates.group_soft_threshold_gap`, the
        duality gap relative to ``||V||^2 / 2``.

    Raises
    ------
    ValueError
        If ``V`` is not a finite nonempty matrix, or ``threshold`` is negative, NaN or misshapen.

    References
    ----------
    .. [1] M. Yuan and Y. Lin, "Model selection and estimation in regression with grouped
       variables", J. R. Stat. Soc. B 68 (2006).

    Examples
    --------
    >>> from bcd_implicit.solvers.proximal import group_soft_threshold
    >>> group_soft_threshold([[3.0, 0.3], [4.0, 0.4]], 1.0).x.round(6)
    array([[2.4, 0. ],
           [3.2, 0. ]])
    """
    V = as_float64("V", V, (None, None))
    t = as_thresholds(threshold, V.shape[1])
    X = V.copy()
    shrink_columns(X, t, np.empty_like(t), np.empty_like(t))
    gap = group_soft_threshold_gap(V, X, t)
    return Result(X, gap, 1, "optimal" if gap <= tol else "max_iter")


def group_prox_metric(
    r: ArrayLike, eigenvalues: ArrayLike, threshold: float, *, tol: float = 1e-9
) -> Result:
    """Minimise a diagonal quadratic plus the length of the vector.

    Minimises ``b' diag(e) b / 2 - r'b + t ||b||_2`` with ``e >= 0``. The solution is exactly zero
    if and only if ``||r|| <= t``; otherwise its length is the root of a scalar equation, which
    Newton's method solves monotonically (the reciprocal form of Moré and Sorensen [1]_).

    Parameters
    ----------
    r : array-like of shape (n,)
        Linear term, in the eigenvectors of the metric.
    eigenvalues : array-like of shape (n,)
        The ``e``, nonnegative; zeros are allowed.
    threshold : float
        The ``t``, nonnegative.
    tol : float
        The residual up to which the result is called optimal. The method does not use it.

    Returns
    -------
    Result
        ``x`` of shape (n,); ``gap`` is :func:`certificates.group_prox_metric_residual`, the
        distance from stationarity relative to ``||r||``, a rounding error unless the solution is
        subnormal. Where ``e`` and ``r`` are zero and ``t`` is too, the solution of least norm.

    Raises
    ------
    ValueError
        If an argument is not finite, negative where it must not be, or misshapen; or if no
        minimiser exists because the part of ``r`` in the null space of the metric is not shorter
        than ``t``, or its length overflows.

    References
    ----------
    .. [1] J. J. Moré and D. C. Sorensen, "Computing a trust region step", SIAM J. Sci. Stat.
       Comput. 4 (1983).

    Examples
    --------
    >>> from bcd_implicit.solvers.proximal import group_prox_metric
    >>> group_prox_metric([3.0, 4.0], [1.0, 1.0], 1.0).x.round(6)
    array([2.4, 3.2])
    """
    r = as_float64("r", r, (None,))
    e = as_float64("eigenvalues", eigenvalues, r.shape)
    if (e < 0.0).any():
        raise ValueError(f"eigenvalues must not be negative; got {e.min()!r}")
    t = as_scalar("threshold", threshold)
    b = np.empty_like(r)
    if np.isinf(group_prox_diag(r, e, t, 0.0, b)):
        raise ValueError(
            "r must be shorter than threshold in the null space of eigenvalues, and beside them "
            "not so large that the minimiser overflows; got length "
            f"{float(np.linalg.norm(r[e == 0.0]))!r} there, entries up to "
            f"{float(np.abs(r).max())!r} and threshold {t!r}"
        )
    gap = group_prox_metric_residual(r, b, e, t)
    return Result(b, gap, 1, "optimal" if gap <= tol else "max_iter")
