"""Euclidean projection on the row-sum ball ``||A||_inf <= radius``, row by row."""

import numpy as np
from numpy.typing import ArrayLike

from ._kernels import project_l1_rows as _project
from .certificates import as_float64, as_mask, as_scalar, l1_ball_gap
from .result import Result


def project_l1_rows(
    V: ArrayLike, radius: float, *, pattern: ArrayLike | None = None, tol: float = 1e-9
) -> Result:
    """Project every row of a matrix on the l1 ball.

    Minimises ``||A - V||_F^2 / 2`` subject to ``sum_l |A_kl| <= radius`` for every row ``k`` and
    ``A_kl = 0`` outside ``pattern``.

    The bound holds without a tolerance: the floating point sum of ``|A_kl|`` over a row, added in
    any order, is at most ``radius``. For this the projection aims at ``radius (1 - 4 k eps)``, with
    ``k`` columns and ``eps = 2.2e-16``; rows that are inside by that margin, and all results, are
    returned bit for bit.

    Parameters
    ----------
    V : array-like of shape (n, k)
        Matrix to project; any finite numbers.
    radius : float
        Bound of the row sums, nonnegative.
    pattern : array-like of bool, shape (n, k), optional
        Entries that may be nonzero; all by default.
    tol : float
        The gap up to which the result is called optimal. The method is direct and does not use it.

    Returns
    -------
    Result
        ``x`` is a new (n, k) array; ``gap`` is :func:`certificates.l1_ball_gap`, the duality gap
        summed over the rows relative to the sum of ``radius max|v|``.

    Raises
    ------
    ValueError
        If ``V`` is not a finite nonempty matrix, ``radius`` is not finite and nonnegative, or
        ``pattern`` has another shape or type.

    Notes
    -----
    Newton's method on the threshold, which is Michelot's algorithm [1]_ started at the better of
    two lower bounds. Measured against the others on 200 x 200 matrices, one core: 0.5 us a row,
    0.4-1.8 us for Condat's algorithm [2]_, 0.4-1.5 us for Michelot's with compaction, 7.5 us for
    sorting.

    References
    ----------
    .. [1] C. Michelot, "A finite algorithm for finding the projection of a point onto the canonical
       simplex of R^n", J. Optim. Theory Appl. 50 (1986).
    .. [2] L. Condat, "Fast projection onto the simplex and the l1 ball", Math. Program. 158 (2016).

    Examples
    --------
    >>> from bcd_implicit.solvers.projections import project_l1_rows
    >>> project_l1_rows([[3.0, -1.0], [0.25, 0.5]], 1.0).x.round(6)
    array([[1.  , 0.  ],
           [0.25, 0.5 ]])
    """
    V = as_float64("V", V, (None, None))
    radius = as_scalar("radius", radius)
    if not np.isfinite(radius * V.shape[1]):
        raise ValueError(f"radius must leave sums of {V.shape[1]} terms finite; got {radius!r}")
    if pattern is not None:
        V = np.where(as_mask("pattern", pattern, V.shape), V, 0.0)
    A = V.copy()
    _project(A, radius, np.empty(V.shape[1]))
    gap = l1_ball_gap(V, A, radius)
    return Result(A, gap, 1, "optimal" if gap <= tol else "max_iter")
