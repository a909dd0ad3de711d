"""Well-posedness: norms in which the state equation is a contraction.

The map ``x -> phi(A x + c)`` contracts by ``r < 1`` in the norm ``max_k |x_k| / s_k`` whenever
``L |A| s <= r s`` componentwise for a positive vector ``s``; ``L`` is the Lipschitz constant of
phi. Such an ``s`` exists if and only if the Perron-Frobenius eigenvalue of ``L |A|`` is below 1.
This one criterion contains the usual ones: row sums of ``L |A|`` below 1 are the case ``s = 1``,
and a block-triangular ``A`` qualifies exactly if its diagonal blocks do, because the eigenvalues of
``|A|`` are those of its diagonal blocks. See L. El Ghaoui, F. Gu, B. Travacca, A. Askari, A. Tsai,
"Implicit deep learning", SIAM Journal on Mathematics of Data Science 3 (2021).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from bcd_implicit._activation import Array
from bcd_implicit._matrices import check_finite
from bcd_implicit._typing import FloatArray, IntArray
from bcd_implicit.activations import Activation, get_activation
from bcd_implicit.exceptions import IllPosedError

__all__ = ["Contraction", "Rescaled", "contraction", "perron_frobenius", "rescale", "row_sums"]

_EPS = float(np.finfo(np.float64).eps)
_SMALLEST = 1e-290  # weights below could lose the verification to underflow
_Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Contraction:
    """Evidence that ``x -> phi(A x + c)`` is a contraction.

    Attributes
    ----------
    factor : float
        ``r`` in [0, 1): distances in the norm ``max_k |x_k| / s_k`` shrink by it.
    scale : ndarray of shape (n,)
        The positive weights ``s``, read-only, with maximum 1. ``L |A| s <= r s`` holds in exact
        arithmetic: rounding is on the safe side of ``factor``.

    Examples
    --------
    >>> contraction([[0.5, 0.0], [0.0, 0.25]])
    Contraction(factor=0.5..., scale=array([1., 1.]))
    """

    factor: float
    scale: _Float64


class Rescaled(NamedTuple):
    """Result of `rescale`: the new matrices and the scaling ``x = scale * x_new``."""

    A: FloatArray
    B: FloatArray
    C: FloatArray
    b: FloatArray
    scale: _Float64


def row_sums(A: ArrayLike) -> _Float64:
    """Return ``sum_l |A_kl|`` for every row k; the state equation is well-posed if all are < 1.

    Examples
    --------
    >>> row_sums([[0.5, -0.25], [0.0, 0.0]])
    array([0.75, 0.  ])
    """
    sums: _Float64 = _absolute(A).sum(axis=1)
    return sums


def perron_frobenius(A: ArrayLike) -> float:
    """Return the Perron-Frobenius eigenvalue (the spectral radius) of ``|A|``.

    It is the largest over the strongly connected diagonal blocks of ``A``, computed block by block:
    entries between the blocks, however large, do not disturb it.

    Examples
    --------
    >>> perron_frobenius([[0.5, 1e9], [0.0, -0.25]])
    0.5
    """
    M = _absolute(A)
    check_finite("A", M)
    return _spectrum(M)[0]


def contraction(A: ArrayLike, lipschitz: float = 1.0) -> Contraction:
    """Find a weighted maximum norm in which ``x -> phi(A x + c)`` is a contraction.

    The candidates for the weights are 1 (row sums), the Perron vector of an irreducible ``A``, and
    ``(I - L |A| / theta)^-1 1`` for several theta between the Perron-Frobenius eigenvalue and 1,
    which works for every well-posed ``A``, triangular ones with huge entries included. Each is
    verified with its rounding errors; returned is the one that needs the fewest iterations.

    Parameters
    ----------
    A : array-like of shape (n, n)
    lipschitz : float, default=1.0
        Lipschitz constant ``L`` of the activation.

    Returns
    -------
    Contraction

    Raises
    ------
    IllPosedError
        If the Perron-Frobenius eigenvalue of ``L |A|`` is not below 1, or so close to it that
        no weights pass the verification.

    Examples
    --------
    >>> A = [[0.5, 100.0], [0.0, 0.5]]  # a row sum of 100.5, yet well-posed
    >>> 0.5 < contraction(A).factor < 1.0
    True
    """
    if not lipschitz >= 0.0:
        raise ValueError(f"lipschitz must not be negative; got {lipschitz!r}")
    M = float(lipschitz) * _absolute(A)
    check_finite("A", M)
    radius, worst, vectors = _spectrum(M)
    found = [c for c in (verify(M, s) for s in (np.ones(len(M)), *vectors)) if c is not None]
    # the matrix products of the resolvent pay only where row sums are far from the optimum
    enough = 1.5 * _iterations_at(radius, 1.0) if radius < 1.0 else np.inf
    if min(map(_iterations, found), default=np.inf) > enough:
        found += _resolvent_candidates(M, radius)
    if found:
        return min(found, key=_iterations)

    row_sum = float(M.sum(axis=1).max())
    what = "A" if lipschitz == 1.0 else f"{lipschitz} A"
    if radius < 1.0:
        raise IllPosedError(
            f"the state equation is too close to ill-posed: the largest row sum of |{what}| is "
            f"{row_sum:.6g} and its Perron-Frobenius eigenvalue {radius:.17g} is below 1, but no "
            "contraction can be verified in double precision. Rescale A by a factor below 1, or "
            "project its rows on the l1 ball of radius kappa < 1."
        )
    named = f"states {worst[:10].tolist()}{' and more' if len(worst) > 10 else ''}"
    raise IllPosedError(
        f"the state equation is not well-posed: the largest row sum of |{what}| is {row_sum:.6g} "
        f"and its Perron-Frobenius eigenvalue is {radius:.6g}, attained by the diagonal block of "
        f"{named}; one of the two must be below 1. Rescale A by a factor below {1 / radius:.6g}, "
        "or project its rows on the l1 ball of radius kappa < 1."
    )


def rescale(
    A: FloatArray,
    B: FloatArray,
    C: FloatArray,
    b: FloatArray | None = None,
    activation: str | Activation = "relu",
) -> Rescaled:
    """Change the units of the states so that the row sums of ``|A|`` are below 1.

    With ``x = S x_new`` and ``S = diag(scale)`` from `contraction`, the matrices become
    ``S^-1 A S``, ``S^-1 B``, ``C S`` and ``S^-1 b``. Predictions stay the same, up to rounding,
    because phi commutes with positive scalings.

    Parameters
    ----------
    A, B, C : ndarray of shape (n, n), (n, p), (q, n)
    b : ndarray of shape (n,), optional
    activation : str or Activation, default="relu"
        Must be positively homogeneous (relu, leaky relu, identity): others would change.

    Returns
    -------
    Rescaled

    Raises
    ------
    ValueError
        If the activation is not positively homogeneous.
    IllPosedError
        If no scaling exists.

    Examples
    --------
    >>> new = rescale(np.array([[0.5, 4.0], [0.0, 0.5]]), np.eye(2), np.eye(2))
    >>> bool(row_sums(new.A).max() < 1)
    True
    """
    phi = get_activation(activation)
    if not phi.positively_homogeneous:
        raise ValueError(f"activation must be positively homogeneous to rescale; got {phi!r}")
    s = contraction(A, phi.lipschitz).scale
    given = (A, B, C, np.zeros(len(A), A.dtype) if b is None else b)
    # new whole numbers would be cut off
    A, B, C, b = (M if M.dtype.kind == "f" else M.astype(np.float64) for M in given)
    column = s[:, np.newaxis]
    new_A: Array = (A * (s / column)).astype(A.dtype)
    if not np.all(row_sums(new_A) < 1.0):
        raise IllPosedError(
            f"rescaling leaves a row sum of {row_sums(new_A).max():.17g}: the state equation is "
            f"too close to ill-posed for {A.dtype}"
        )
    new_B: Array = (B / column).astype(B.dtype)
    new_C: Array = (C * s).astype(C.dtype)
    new_b: Array = (b / s).astype(b.dtype)
    return Rescaled(new_A, new_B, new_C, new_b, s)


def _absolute(A: ArrayLike) -> _Float64:
    given = np.asarray(A)
    if np.iscomplexobj(given):  # NumPy would drop the imaginary part
        raise ValueError(f"A must hold real numbers; got dtype {given.dtype}")
    M = np.abs(given.astype(np.float64))
    if M.ndim != 2 or M.shape[0] != M.shape[1]:
        raise ValueError(f"A must be a square matrix; got shape {M.shape}")
    return M


def verify(M: _Float64, s: _Float64) -> Contraction | None:
    """Return the contraction that ``M s <= r s`` proves for nonnegative matrices, or None."""
    with np.errstate(all="ignore"):  # candidates may overflow: then they fail below
        s = s / s.max(initial=0.0)
        if not (np.all(np.isfinite(s)) and np.all(s > _SMALLEST)):
            return None
        # the factor L, a sum of n nonnegative products, a division, this product: n + 4 roundings
        factor = float(((M @ s) / s).max(initial=0.0)) * (1.0 + (len(s) + 5) * _EPS)
    if not factor < 1.0:
        return None
    s.setflags(write=False)
    return Contraction(factor, s)


def _iterations(c: Contraction) -> float:
    return _iterations_at(c.factor, float(c.scale.min(initial=1.0)))


def _iterations_at(factor: float, smallest: float) -> float:
    """Count the iterations that reduce an error by 1e-10 in every component, in the worst case."""
    return float(np.log(1e10 / smallest) / -np.log(max(factor, 1e-300)))


def _resolvent_candidates(M: _Float64, radius: float) -> list[Contraction]:
    """Verify ``s = (I - M / theta)^-1 1``, for which ``M s = theta (s - 1) < theta s``.

    The inverse is the product of ``I + (M / theta)^(2^k)``: sums of nonnegative terms are accurate
    in every component, unlike elimination with pivoting, when entries differ by many orders.
    """
    found = []
    for share in (0.05, 0.2, 0.5, 1.0):
        with np.errstate(all="ignore"):
            P = M / (radius + share * (1.0 - radius))
            s = np.ones(len(M))
            for _ in range(60):
                step = P @ s
                s = s + step
                if not np.all(np.isfinite(s)) or np.all(step <= _EPS * s):
                    break
                P = P @ P
        verified = verify(M, s)
        if verified is not None:
            found.append(verified)
    return found


def _spectrum(M: _Float64) -> tuple[float, IntArray, list[_Float64]]:
    """Return the largest eigenvalue of strongly connected states, these, and the vector of all."""
    if not len(M):
        return 0.0, np.arange(0), []
    count, labels = connected_components(csr_array(M), directed=True, connection="strong")
    if count == 1:
        radius, vector = _perron_pair(M)
        return radius, np.arange(len(M)), [vector]
    if count == len(M):  # triangular in some order, as trained matrices often are
        k = int(np.argmax(M.diagonal()))
        return float(M[k, k]), np.array([k]), []
    order = np.argsort(labels, kind="stable")
    blocks = np.split(order, np.searchsorted(labels[order], np.arange(1, count)))
    radii = [_perron_pair(M[np.ix_(states, states)])[0] for states in blocks]
    largest = int(np.argmax(radii))
    return radii[largest], blocks[largest], []


def _perron_pair(M: _Float64) -> tuple[float, _Float64]:
    """Return the Perron-Frobenius eigenvalue and vector of an irreducible nonnegative matrix."""
    v = np.ones(len(M))
    if len(M) == 1:
        return float(M[0, 0]), v
    shift = 0.1 * float(M.sum(axis=1).max())  # makes periodic blocks converge
    # then eigenvalues cost less: many trained matrices are nearly diagonal
    for _ in range(min(max(len(M), 20), 200)):
        w = M @ v + shift * v
        ratio = w / v  # the eigenvalue lies between the extremes (Collatz and Wielandt)
        v = w / w.max()
        if ratio.max() - ratio.min() <= 1e-13 * ratio.max():
            return float(ratio.max()) - shift, v
    values, vectors = np.linalg.eig(M)
    k = int(np.argmax(values.real))
    return float(values[k].real), np.abs(vectors[:, k].real)
