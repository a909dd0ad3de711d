"""Differential equations on a grid: a residual network is Euler's method, with or without loops."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bcd_implicit._activation import Activation
from bcd_implicit.activations import get_activation
from bcd_implicit.convert._checks import array_of, check_least
from bcd_implicit.convert.network import Network, Value
from bcd_implicit.exceptions import EquilibriumError
from bcd_implicit.model import ImplicitModel
from bcd_implicit.wellposed import perron_frobenius

__all__ = [
    "VectorField",
    "choose_steps",
    "explicit_euler",
    "implicit_euler",
    "largest_implicit_step",
    "runge_kutta",
]

Array = NDArray[np.float64]

_MOST_STEPS = 4096


@dataclass(frozen=True)
class VectorField:
    """The right-hand side of ``x' = f(x, u) = V phi(W x + U u + b)``, a network with one layer.

    Attributes
    ----------
    V, W : ndarray of shape (n, h), (h, n)
    U : ndarray of shape (h, p)
        A constant input; ``p`` may be 0.
    b : ndarray of shape (h,)
    activation : Activation

    Examples
    --------
    >>> field = VectorField.of([[1.0]], [[-1.0]], activation="identity")  # x' = -x
    >>> explicit_euler(field, 1.0, 2).predict([[1.0]])
    array([[0.25]])
    """

    V: Array
    W: Array
    U: Array
    b: Array
    activation: Activation

    @classmethod
    def of(
        cls,
        V: ArrayLike,
        W: ArrayLike,
        U: ArrayLike | None = None,
        b: ArrayLike | None = None,
        activation: str | dict[str, Any] | Activation = "tanh",
    ) -> "VectorField":
        """Check the arrays.

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        inner = array_of("W", W, None, None)
        h, n = inner.shape
        out = array_of("V", V, n, h)
        given = array_of("U", np.zeros((h, 0)) if U is None else U, h, None)
        offset = array_of("b", np.zeros(h) if b is None else b, h)
        return cls(out, inner, given, offset, get_activation(activation))

    def start(self) -> tuple[Network, Value, Value]:
        """Return a network of the inputs ``(x_0, u)``, and x_0 and ``U u + b``."""
        n = len(self.V)
        network = Network(n + self.U.shape[1])
        return network, network.inputs[:n], network.linear(network.inputs[n:], self.U, self.b)

    def slope(self, network: Network, x: Value, offset: Value) -> Value:
        """Return ``f(x, u)``: one layer."""
        s = network.activate(network.linear(x, self.W) + offset, self.activation)
        return network.linear(s, self.V)


def explicit_euler(field: VectorField, time: float, steps: int) -> ImplicitModel:
    """Return ``x_0 -> x(time)`` by ``x_{t+1} = x_t + h f(x_t)``: a residual network.

    Parameters
    ----------
    field : VectorField
    time : float
    steps : int
        See `choose_steps`.

    Returns
    -------
    ImplicitModel
        Of the inputs ``(x_0, u)``.

    References
    ----------
    R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, "Neural ordinary differential
    equations", NeurIPS (2018).

    Examples
    --------
    >>> field = VectorField.of([[1.0]], [[1.0]], activation="identity")
    >>> explicit_euler(field, 1.0, 1).predict([[1.0]])
    array([[2.]])
    """
    network, x, offset = field.start()
    h = _step(time, steps)
    for _ in range(steps):
        k = field.slope(network, x, offset)
        x = network.settled(x + k.scaled(np.full(len(x), h)))
    return network.model(x)


def runge_kutta(field: VectorField, time: float, steps: int) -> ImplicitModel:
    """Return ``x_0 -> x(time)`` by the classical method of order four: four layers a step.

    Parameters and result are those of `explicit_euler`.

    References
    ----------
    E. Hairer, S. P. Norsett, G. Wanner, "Solving ordinary differential equations I", section II.1.

    Examples
    --------
    >>> field = VectorField.of([[1.0]], [[1.0]], activation="identity")
    >>> runge_kutta(field, 1.0, 1).predict([[1.0]]).round(4)
    array([[2.7083]])
    """
    network, x, offset = field.start()
    h = _step(time, steps)
    one = np.ones(len(x))
    for _ in range(steps):
        k = [field.slope(network, x, offset)]
        for part in (0.5, 0.5, 1.0):
            k.append(field.slope(network, x + k[-1].scaled(part * h * one), offset))
        for slope, part in zip(k, (1.0, 2.0, 2.0, 1.0), strict=True):
            x = x + slope.scaled(part * h / 6.0 * one)
        x = network.settled(x)
    return network.model(x)


def implicit_euler(field: VectorField, time: float, steps: int) -> ImplicitModel:
    """Return ``x_0 -> x(time)`` by ``x_{t+1} = x_t + h f(x_{t+1})``, with a truly implicit A.

    The hidden units of a step solve ``s = phi(h W V s + W x_t + U u + b)``.

    Parameters and result are those of `explicit_euler`.

    Raises
    ------
    IllPosedError
        If the step is not certified: `largest_implicit_step` is.

    References
    ----------
    E. Hairer, G. Wanner, "Solving ordinary differential equations II", section IV.8.

    Examples
    --------
    >>> field = VectorField.of([[1.0]], [[-1.0]], activation="identity")
    >>> implicit_euler(field, 0.5, 1).predict([[1.5]])
    array([[1.]])
    """
    network, x, offset = field.start()
    h = _step(time, steps)
    for _ in range(steps):
        z = network.linear(x, field.W) + offset
        s = network.activate(z, field.activation, loop=h * field.W @ field.V)
        x = network.settled(x + network.linear(s, h * field.V))
    return network.model(x)


def largest_implicit_step(field: VectorField) -> float:
    """Return the step below which `implicit_euler` is certified: the loop is ``h W V``.

    Examples
    --------
    >>> largest_implicit_step(VectorField.of([[1.0]], [[-4.0]]))
    0.25
    """
    radius = field.activation.lipschitz * perron_frobenius(field.W @ field.V)
    return 1.0 / radius if radius > 0.0 else np.inf


def choose_steps(
    method: Callable[[VectorField, float, int], ImplicitModel],
    field: VectorField,
    time: float,
    inputs: ArrayLike,
    tol: float,
) -> int:
    """Return a number of steps that another halving changes by at most ``tol`` on these inputs.

    Parameters
    ----------
    method : callable
        `explicit_euler`, `runge_kutta` or `implicit_euler`, begun with certified steps.
    field : VectorField
    time : float
    inputs : array-like of shape (m, n + p)
        Typical ``(x_0, u)``.
    tol : float
        Largest change of an entry of ``x(time)``.

    Raises
    ------
    ValueError
        If more than 4096 steps would be needed.

    Examples
    --------
    >>> field = VectorField.of([[1.0]], [[-1.0]], activation="identity")
    >>> choose_steps(runge_kutta, field, 1.0, [[1.0]], 1e-4)
    4
    """
    steps = 1
    if method is implicit_euler:
        most = abs(time) / largest_implicit_step(field)
        steps = int(most * (1.0 + 1e-9)) + 1  # a loop within rounding of its limit is refused
        if steps > _MOST_STEPS // 2:
            raise ValueError(
                f"implicit_euler needs {steps} steps over time {time:g} to be certified, and may "
                f"have {_MOST_STEPS // 2}: use another method or a shorter time"
            )
    coarse = _end(method, field, time, steps, inputs)
    while steps <= _MOST_STEPS // 2:
        fine = _end(method, field, time, 2 * steps, inputs)
        if np.abs(fine - coarse).max(initial=0.0) <= tol:
            return steps
        steps, coarse = 2 * steps, fine
    raise ValueError(
        f"tol={tol:g} needs more than {_MOST_STEPS} steps over time {time:g}; the last halving "
        "still changes more: use runge_kutta, a shorter time or a larger tol"
    )


def _end(
    method: Callable[[VectorField, float, int], ImplicitModel],
    field: VectorField,
    time: float,
    steps: int,
    inputs: ArrayLike,
) -> Array:
    """Return x(time); no numbers where steps are so long that it overflows."""
    model = method(field, time, steps)
    try:
        return model.predict(inputs).astype(np.float64, copy=False)
    except EquilibriumError:
        return np.full((1, model.n_outputs), np.nan)


def _step(time: float, steps: int) -> float:
    check_least("steps", steps, 1)
    return time / steps
