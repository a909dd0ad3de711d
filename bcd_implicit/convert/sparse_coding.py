"""Sparse coding: the lasso as an equilibrium, and its iterations as layers."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bcd_implicit.activations import SoftThreshold
from bcd_implicit.convert._checks import array_of, check_least
from bcd_implicit.convert.network import Network
from bcd_implicit.model import ImplicitModel
from bcd_implicit.per_state import PerState

__all__ = ["adaptive_ista", "ista", "lista", "sparse_code"]

Array = NDArray[np.float64]


def sparse_code(dictionary: ArrayLike, strength: float) -> ImplicitModel:
    """Return ``u -> argmin_x ||u - D x||^2 / 2 + strength ||x||_1`` as an equilibrium.

    It solves ``x_k = soft(x_k - d_k'(D x - u) / ||d_k||^2, strength / ||d_k||^2)``: the fixed point
    of iterative soft thresholding, whatever its steps. The loop is the Gram matrix of the atoms
    without its diagonal, so that it is certified for incoherent dictionaries only.

    Parameters
    ----------
    dictionary : array-like of shape (p, n)
        One atom a column, none zero.
    strength : float

    Returns
    -------
    ImplicitModel

    Raises
    ------
    IllPosedError
        If the atoms are too coherent; `ista` needs no such thing.

    References
    ----------
    I. Daubechies, M. Defrise, C. De Mol, "An iterative thresholding algorithm for linear inverse
    problems with a sparsity constraint", Comm. Pure Appl. Math. 57 (2004).

    Examples
    --------
    >>> sparse_code(np.eye(2), 1.0).predict([[3.0, 0.5]])
    array([[2., 0.]])
    """
    D = _dictionary(dictionary)
    n = D.shape[1]
    squares = np.einsum("ij,ij->j", D, D)
    A = -(D.T @ D) / squares[:, None]
    np.fill_diagonal(A, 0.0)
    thresholds, which = np.unique(strength / squares, return_inverse=True)
    phi = PerState(
        [(SoftThreshold(float(t)), np.flatnonzero(which == k)) for k, t in enumerate(thresholds)]
    )
    return ImplicitModel(
        A, D.T / squares[:, None], np.eye(n), np.zeros((n, len(D))), activation=phi
    )


def ista(dictionary: ArrayLike, strength: float, depth: int) -> ImplicitModel:
    """Return ``depth`` iterations of soft thresholding from zero, with the step ``1 / ||D||^2``.

    Parameters
    ----------
    dictionary : array-like of shape (p, n)
    strength : float
    depth : int

    Raises
    ------
    ValueError
        If an atom is zero, or ``depth`` is negative.

    References
    ----------
    As `sparse_code`.

    Examples
    --------
    >>> ista(np.eye(2), 1.0, 1).predict([[3.0, 0.5]])
    array([[2., 0.]])
    """
    D = _dictionary(dictionary)
    L = float(np.linalg.norm(D, 2) ** 2)
    return lista(D.T / L, np.eye(D.shape[1]) - D.T @ D / L, strength / L, depth)


def lista(W: ArrayLike, S: ArrayLike, threshold: float, depth: int) -> ImplicitModel:
    """Return the learned iteration ``x_{t+1} = soft(W u + S x_t, threshold)`` from zero, unrolled.

    Parameters
    ----------
    W : array-like of shape (n, p)
    S : array-like of shape (n, n)
    threshold : float
    depth : int

    Raises
    ------
    ValueError
        If a shape does not fit, or ``depth`` is negative.

    References
    ----------
    K. Gregor, Y. LeCun, "Learning fast approximations of sparse coding", ICML (2010).

    Examples
    --------
    >>> lista([[1.0]], [[0.5]], 1.0, 2).predict([[3.0]])
    array([[3.]])
    """
    check_least("depth", depth, 0)
    filters = array_of("W", W, None, None)
    n = len(filters)
    mutual = array_of("S", S, n, n)
    network = Network(filters.shape[1])
    code = network.constant(np.zeros(n))
    offset = network.linear(network.inputs, filters)
    for _ in range(depth):
        code = network.activate(offset + network.linear(code, mutual), SoftThreshold(threshold))
    return network.model(code)


def adaptive_ista(
    W: ArrayLike,
    S: ArrayLike,
    input_gate: tuple[ArrayLike, ArrayLike],
    forget_gate: tuple[ArrayLike, ArrayLike],
    threshold: float,
    depth: int,
) -> ImplicitModel:
    """Return adaptive soft thresholding with input and forget gates (SC2Net), unrolled from zero.

    With gates ``i_t, f_t = sigmoid(P u + Q x_{t-1})``, each with its own P and Q,

        ``c_t = f_t c_{t-1} + i_t (W u + S x_{t-1})``,   ``x_t = soft(c_t, threshold)``.

    Parameters
    ----------
    W, S : array-like of shape (n, p), (n, n)
    input_gate, forget_gate : pair of array-like of shape (n, p), (n, n)
        ``(P, Q)``.
    threshold : float
    depth : int

    Raises
    ------
    ValueError
        If a shape does not fit, or ``depth`` is negative.

    References
    ----------
    J. T. Zhou, K. Di, J. Du, X. Peng, H. Yang, S. J. Pan, I. W. Tsang, Y. Liu, Z. Qin, R. S. M.
    Goh, "SC2Net: sparse LSTMs for sparse coding", AAAI (2018).

    Examples
    --------
    Gates that are half open:

    >>> zero = [[0.0]]
    >>> adaptive_ista([[1.0]], zero, (zero, zero), (zero, zero), 0.5, 2).predict([[4.0]])
    array([[2.5]])
    """
    check_least("depth", depth, 0)
    n, p = array_of("W", W, None, None).shape
    pairs = [
        (array_of("W and P", P, n, p), array_of("S and Q", Q, n, n))
        for P, Q in ((W, S), input_gate, forget_gate)
    ]
    network = Network(p)
    code = cell = network.constant(np.zeros(n))
    for _ in range(depth):
        new, i, f = (network.linear(network.inputs, P) + network.linear(code, Q) for P, Q in pairs)
        kept = network.product(cell, network.activate(f, "sigmoid"))
        cell = kept + network.product(new, network.activate(i, "sigmoid"))
        code = network.activate(cell, SoftThreshold(threshold))
    return network.model(code)


def _dictionary(dictionary: ArrayLike) -> Array:
    D = np.asarray(dictionary, dtype=np.float64)
    if D.ndim != 2 or not np.all(np.any(D != 0.0, axis=0)):
        raise ValueError(f"dictionary must be a matrix without zero columns; got shape {D.shape}")
    return D
