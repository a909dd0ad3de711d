"""State equations in which no state feeds itself.

Where phi only cuts off what is outside of an interval, as a relu does, the equation of one state,
``x_k = phi(a_kk x_k + v)`` with ``a_kk < 1``, has the solution ``x_k = phi(v / (1 - a_kk))``. So

    x = phi(A x + z)   and   x = phi(A' x + z'),   A' = G (A - diag(A)),   z' = G z,

with ``G = diag(1 / (1 - a_kk))``, have the same solution. Where row sums of ``|A|`` in a weighted
norm are at most r, those of ``|A'|`` are at most ``(r - |a_kk|) / (1 - a_kk) <= r``. Trained states
mostly feed themselves, which makes large values of small weights: with row sums of 0.95, A' of
classifiers of digits and images and of the article's experiment has 0.05 to 0.7.

The adjoint of any phi, ``v = M o (A' v + r)`` with the transpose of A, is likewise

    v = N o ((A - diag(A))' v + r),   N_k = M_k / (1 - M_k a_kk),

and N grows with M: where M is at most L it is at most ``d_k = L / (1 - L a_kk)``. If row k of
``d_k |A - diag(A)|``, weighted with s, sums to at most ``r s_k``, this contracts by r in the norm
``sum_k s_k |v_k| / d_k``.
"""

from typing import NamedTuple

import numpy as np

from bcd_implicit._activation import Activation, Array
from bcd_implicit.solvers._kernels import PIECEWISE_LINEAR
from bcd_implicit.solvers.pieces import Pieces
from bcd_implicit.wellposed import Contraction, verify

__all__ = ["Loopless", "LooplessAdjoint", "adjoint_without_self_loops", "without_self_loops"]


class Loopless(NamedTuple):
    """An equation with the same solution, in which no state feeds itself.

    Attributes
    ----------
    A : ndarray of shape (n, n)
        Its diagonal is zero; each entry has a relative rounding error of one epsilon at most.
    largest : ndarray of shape (n, n)
        In double precision, not below ``|A|`` of the equation without these errors.
    gain : ndarray of shape (n,)
        What the inputs of the states are to be multiplied by.
    contraction : Contraction
        In the norm of the given one, with a factor that is no larger.
    """

    A: Array
    largest: Array
    gain: Array
    contraction: Contraction


class LooplessAdjoint(NamedTuple):
    """The same for the adjoint.

    Attributes
    ----------
    A : ndarray of shape (n, n)
        Without its diagonal.
    M : ndarray of shape (m, n)
        What takes the place of the derivatives.
    contraction : Contraction
        The weights of the norm are the reciprocals of its scale, as if for the states.
    slip : float
        Relative rounding error of M in units of half an epsilon.
    """

    A: Array
    M: Array
    contraction: Contraction
    slip: float


def without_self_loops(activation: Activation, A: Array, found: Contraction) -> Loopless | None:
    """Take the loops out, or return None: there are none, or phi does not allow it.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> from bcd_implicit.wellposed import contraction
    >>> A = np.array([[0.75, 0.125], [0.0, 0.5]])
    >>> without_self_loops(Relu(), A, contraction(A)).A
    array([[0. , 0.5],
           [0. , 0. ]])
    """
    diagonal = A.diagonal()
    kernel = activation.kernel
    if not diagonal.any() or kernel is None or kernel[0] != PIECEWISE_LINEAR:
        return None
    if Pieces.of(kernel[1]).bend is not None:
        return None
    rest = 1.0 - diagonal
    other: Array = A / rest[:, None]
    np.fill_diagonal(other, 0.0)
    # of the exact one: L = 1, and each entry may be larger by its rounding errors
    largest = np.abs(other.astype(np.float64)) * (1.0 + 2.0 * float(np.finfo(A.dtype).eps))
    evidence = verify(largest, found.scale)
    return None if evidence is None else Loopless(other, largest, 1.0 / rest, evidence)


def adjoint_without_self_loops(A: Array, M: Array, found: Contraction) -> LooplessAdjoint | None:
    """Take the loops out of an adjoint equation, or return None: there are none.

    Examples
    --------
    >>> from bcd_implicit.wellposed import contraction
    >>> A, M = np.array([[0.75, 0.125], [0.0, 0.5]]), np.array([[1.0, 0.0]])
    >>> adjoint_without_self_loops(A, M, contraction(A)).M
    array([[4., 0.]])
    """
    diagonal = A.diagonal()
    most = float(M.max(initial=0.0))
    if not diagonal.any() or most == 0.0:
        return None
    least = 1.0 - most * diagonal.astype(np.float64)
    other: Array = A.copy()
    np.fill_diagonal(other, 0.0)
    eps = float(np.finfo(A.dtype).eps)
    slip = 4.0 + 2.0 / float(least.min(initial=1.0))
    gain = most / least * (1.0 + slip * eps)
    evidence = verify(gain[:, None] * np.abs(other.astype(np.float64)), found.scale)
    if evidence is None:
        return None
    N: Array = M * diagonal
    np.subtract(1.0, N, out=N)
    np.divide(M, N, out=N)
    scale = evidence.scale / gain
    return LooplessAdjoint(other, N, Contraction(evidence.factor, scale / scale.max()), slip)
