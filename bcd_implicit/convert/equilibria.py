"""Networks that are implicit already: equilibrium cells and layers."""

from typing import Any

from numpy.typing import ArrayLike

from bcd_implicit._activation import Activation
from bcd_implicit.convert._checks import array_of
from bcd_implicit.convert.network import Network
from bcd_implicit.convert.recurrent import unrolled
from bcd_implicit.model import ImplicitModel

__all__ = ["deep_equilibrium", "equilibrium_rnn"]


def deep_equilibrium(
    W: ArrayLike,
    V: ArrayLike,
    b: ArrayLike,
    C: ArrayLike,
    d: ArrayLike,
    activation: str | dict[str, Any] | Activation = "relu",
) -> ImplicitModel:
    """Convert a deep equilibrium layer ``z = phi(W z + V u + b)`` with the head ``y = C z + d``.

    Parameters
    ----------
    W, V, b : array-like of shape (n, n), (n, p), (n,)
    C, d : array-like of shape (q, n), (q,)
    activation : str, dict or Activation, default="relu"

    Raises
    ------
    ValueError
        If a shape does not fit.
    IllPosedError
        If the layer is not certified to have one equilibrium, as a deep equilibrium layer trained
        without constraint need not have.

    References
    ----------
    S. Bai, J. Z. Kolter, V. Koltun, "Deep equilibrium models", NeurIPS (2019).

    Examples
    --------
    >>> deep_equilibrium([[0.5]], [[1.0]], [0.0], [[1.0]], [3.0]).predict([[1.0]])
    array([[5.]])
    """
    inputs, head = array_of("V", V, None, None), array_of("C", C, None, None)
    n, q = len(inputs), len(head)
    network = Network(inputs.shape[1])
    z = network.linear(network.inputs, inputs, array_of("b", b, n))
    z = network.activate(z, activation, loop=array_of("W", W, n, n))
    return network.model(network.linear(z, array_of("C", C, q, n), array_of("d", d, q)))


def equilibrium_rnn(
    W: ArrayLike,
    V: ArrayLike,
    b: ArrayLike,
    steps: int,
    activation: str | dict[str, Any] | Activation = "relu",
) -> ImplicitModel:
    """Unroll the equilibrium recurrent cell ``h_t = phi(W (h_t + h_{t-1}) + V u_t + b)``.

    Every step is an equilibrium, and A is block-triangular with loops on its diagonal.

    Parameters
    ----------
    W, V, b : array-like of shape (h, h), (h, p), (h,)
    steps : int
    activation : str, dict or Activation, default="relu"

    Returns
    -------
    ImplicitModel
        Of the inputs ``(u_1, ..., u_T)`` and the outputs ``(h_1, ..., h_T)``, each in one row.

    Raises
    ------
    ValueError
        If a shape does not fit, or there is no step.
    IllPosedError
        If the cell is not certified to have one equilibrium.

    References
    ----------
    A. Kag, Z. Zhang, V. Saligrama, "RNNs incrementally evolving on an equilibrium manifold", ICLR
    (2020).

    Examples
    --------
    >>> equilibrium_rnn([[0.5]], [[1.0]], [0.0], 2).predict([[1.0, 0.0]])
    array([[2., 2.]])
    """
    return unrolled(W, V, b, steps, activation, equilibrium=True)
