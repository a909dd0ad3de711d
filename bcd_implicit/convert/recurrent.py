"""Recurrent networks, unrolled over a fixed number of steps: strictly triangular, without loops."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bcd_implicit._activation import Activation
from bcd_implicit.convert._checks import check_least
from bcd_implicit.convert.network import Network, Value
from bcd_implicit.model import ImplicitModel

__all__ = ["lstm", "rnn", "unrolled"]


def rnn(
    W: ArrayLike,
    V: ArrayLike,
    b: ArrayLike,
    steps: int,
    activation: str | dict[str, Any] | Activation = "tanh",
) -> ImplicitModel:
    """Unroll the recurrent network ``h_t = phi(W h_{t-1} + V u_t + b)`` from ``h_0 = 0``.

    Parameters
    ----------
    W : array-like of shape (h, h)
        ``weight_hh`` of PyTorch.
    V : array-like of shape (h, p)
        ``weight_ih`` of PyTorch.
    b : array-like of shape (h,)
        The sum of ``bias_hh`` and ``bias_ih`` of PyTorch.
    steps : int
    activation : str, dict or Activation, default="tanh"

    Returns
    -------
    ImplicitModel
        Of the inputs ``(u_1, ..., u_T)`` and the outputs ``(h_1, ..., h_T)``, each in one row.

    Raises
    ------
    ValueError
        If a shape does not fit, or there is no step.

    References
    ----------
    J. L. Elman, "Finding structure in time", Cognitive Science 14 (1990).

    Examples
    --------
    >>> rnn([[0.5]], [[1.0]], [0.0], 3, "relu").predict([[1.0, 1.0, 0.0]])
    array([[1.  , 1.5 , 0.75]])
    """
    return unrolled(W, V, b, steps, activation, equilibrium=False)


def lstm(W: ArrayLike, V: ArrayLike, b: ArrayLike, steps: int) -> ImplicitModel:
    """Unroll a long short-term memory from ``h_0 = c_0 = 0``.

    With gates ``i, f, o = sigmoid(...)`` and ``g = tanh(...)`` of ``W h_{t-1} + V u_t + b``,

        ``c_t = f c_{t-1} + i g``,   ``h_t = o tanh(c_t)``.

    The products are multiplicative units (`bcd_implicit.per_state.Product`) of bounded factors:
    gates lie in (0, 1), and ``|c_t| <= t``. Being unrolled, the network is triangular and needs no
    Lipschitz constant of them. A cell at rest, ``h = cell(h)``, would put products into a loop:
    that is refused, since no norm of A certifies it.

    Parameters
    ----------
    W : array-like of shape (4 h, h)
        ``weight_hh`` of PyTorch: the rows of i, f, g and o.
    V : array-like of shape (4 h, p)
        ``weight_ih`` of PyTorch.
    b : array-like of shape (4 h,)
        The sum of its biases.
    steps : int

    Returns
    -------
    ImplicitModel
        Of the inputs ``(u_1, ..., u_T)`` and the outputs ``(h_1, ..., h_T)``, each in one row.

    Raises
    ------
    ValueError
        If a shape does not fit, or there is no step.

    References
    ----------
    S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); F. Gers,
    J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000).

    Examples
    --------
    >>> model = lstm(np.zeros((4, 1)), np.ones((4, 1)), np.zeros(4), 2)
    >>> model.predict([[1.0, 0.0]]).round(4)
    array([[0.3696, 0.1357]])
    """
    hidden, inputs, bias = _shapes(W, V, b, 4)
    check_least("steps", steps, 1)
    n = hidden.shape[1]
    network = Network(steps * inputs.shape[1])
    h = c = network.constant(np.zeros(n))
    outputs = []
    for t in range(steps):
        u = _at(network, t, inputs.shape[1])
        i, f, g, o = (
            network.activate(
                network.linear(u, inputs[rows], bias[rows]) + network.linear(h, hidden[rows]), phi
            )
            for rows, phi in zip(
                np.arange(4 * n).reshape(4, n),
                ("sigmoid", "sigmoid", "tanh", "sigmoid"),
                strict=True,
            )
        )
        c = network.product(c, f) + network.product(g, i)
        h = network.product(network.activate(c, "tanh"), o)
        outputs.append(h)
    return network.model(network.concatenate(outputs))


def unrolled(
    W: ArrayLike,
    V: ArrayLike,
    b: ArrayLike,
    steps: int,
    activation: str | dict[str, Any] | Activation,
    *,
    equilibrium: bool,
) -> ImplicitModel:
    """Return a cell of one activation over its steps; at an equilibrium, W also feeds it back."""
    hidden, inputs, bias = _shapes(W, V, b, 1)
    check_least("steps", steps, 1)
    network = Network(steps * inputs.shape[1])
    h = network.constant(np.zeros(len(hidden)))
    outputs = []
    for t in range(steps):
        z = network.linear(_at(network, t, inputs.shape[1]), inputs, bias)
        z = z + network.linear(h, hidden)
        h = network.activate(z, activation, loop=hidden if equilibrium else None)
        outputs.append(h)
    return network.model(network.concatenate(outputs))


def _at(network: Network, t: int, p: int) -> Value:
    """Return the inputs of one time."""
    return network.inputs[t * p : (t + 1) * p]


def _shapes(W: ArrayLike, V: ArrayLike, b: ArrayLike, gates: int) -> tuple[Any, Any, Any]:
    """Return the arrays, checked against one another."""
    hidden, inputs, bias = (np.asarray(M, dtype=np.float64) for M in (W, V, b))
    if hidden.ndim != 2 or len(hidden) != gates * hidden.shape[1]:
        raise ValueError(f"W must have shape ({gates} h, h); got {hidden.shape}")
    if inputs.ndim != 2 or len(inputs) != len(hidden) or bias.shape != (len(hidden),):
        raise ValueError(
            f"V and b must have {len(hidden)} rows as W has; got {inputs.shape} and {bias.shape}"
        )
    return hidden, inputs, bias
