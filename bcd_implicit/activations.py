"""Activations: componentwise maps phi with their Fenchel terms.

Every built-in activation is the proximal operator of a convex function Psi, hence increasing and
non-expansive. With ``h(x) = Psi(x) + x^2 / 2`` the conjugate ``h*`` has the derivative phi, and

    F(x, z) = h(x) + h*(z) - x z  >=  (x - phi(z))^2 / (2 L)  >=  0

is zero exactly where ``x = phi(z)``; ``L`` is the Lipschitz constant of phi.

A new activation is one small class here, listed in ``BUILT_IN``. It needs ``value`` and
``derivative``; the Fenchel terms are needed for training only, and ``derivative_at_value`` spares
it a product with the inputs.
"""
# ruff: noqa: D102 (the methods are documented once, in the base class)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bcd_implicit._activation import INF, Activation, Array, Kernel, Projection
from bcd_implicit._smooth import Sigmoid, Tanh
from bcd_implicit.solvers._kernels import PIECEWISE_LINEAR

__all__ = [
    "Activation",
    "Clip",
    "Identity",
    "LeakyRelu",
    "Relu",
    "Sigmoid",
    "SoftThreshold",
    "Tanh",
    "get_activation",
]


@dataclass(frozen=True)
class Relu(Projection):
    """``max(z, 0)``, with derivative 0 at 0; ``h(x) = x^2 / 2`` on ``x >= 0``.

    Examples
    --------
    >>> import numpy as np
    >>> Relu().value(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    name: ClassVar[str] = "relu"
    positively_homogeneous = True
    domain = (0.0, INF)


@dataclass(frozen=True)
class Identity(Projection):
    """``z`` itself; ``h(x) = x^2 / 2``.

    Examples
    --------
    >>> import numpy as np
    >>> Identity().value(np.array([-1.0, 2.0]))
    array([-1.,  2.])
    """

    name: ClassVar[str] = "identity"
    positively_homogeneous = True


@dataclass(frozen=True)
class Clip(Projection):
    """``min(max(z, low), high)``; ``h(x) = x^2 / 2`` on ``[low, high]``.

    Examples
    --------
    >>> import numpy as np
    >>> Clip(high=2.0).value(np.array([-3.0, 0.5, 3.0]))
    array([-1. ,  0.5,  2. ])
    """

    name: ClassVar[str] = "clip"
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _as_floats(self)
        if not self.low < self.high:
            raise ValueError(f"low must be less than high; got low={self.low}, high={self.high}")

    @property
    def domain(self) -> tuple[float, float]:
        return (self.low, self.high)


@dataclass(frozen=True)
class LeakyRelu(Activation):
    """``z`` for ``z > 0`` and ``slope * z`` below; ``h(x) = x_+^2 / 2 + x_-^2 / (2 slope)``.

    Examples
    --------
    >>> import numpy as np
    >>> LeakyRelu(0.5).value(np.array([-1.0, 2.0]))
    array([-0.5,  2. ])
    """

    name: ClassVar[str] = "leaky_relu"
    positively_homogeneous = True
    slope: float = 0.01

    def __post_init__(self) -> None:
        _as_floats(self)
        if not 0.0 < self.slope < 1.0:
            raise ValueError(f"slope must be strictly between 0 and 1; got {self.slope}")

    def value(self, Z: Array, out: Array | None = None) -> Array:
        return np.maximum(Z, self.slope * Z, out=out)

    def derivative(self, Z: Array) -> Array:
        return np.where(Z > 0, 1.0, self.slope).astype(Z.dtype)

    def derivative_at_value(self, X: Array) -> Array:
        return self.derivative(X)

    @property
    def kernel(self) -> Kernel:
        return PIECEWISE_LINEAR, (0.0, self.slope, -INF, INF)

    def conjugate(self, Z: Array) -> Array:
        return 0.5 * Z * self.value(Z)

    def _potential(self, X: Array) -> Array:
        return 0.5 * X * np.where(X > 0, X, X / self.slope).astype(X.dtype)

    def _divergence(self, X: Array, Z: Array) -> Array:
        gap = X - self.value(Z)
        same = 0.5 * gap * np.where(X > 0, gap, gap / self.slope)
        # x and z on different sides of the kink: three nonnegative terms
        apart = self._potential(X) + self.conjugate(Z) - X * Z
        return np.where((X > 0) == (Z > 0), same, apart).astype(apart.dtype)


@dataclass(frozen=True)
class SoftThreshold(Activation):
    """``sign(z) max(|z| - threshold, 0)``; ``h(x) = x^2 / 2 + threshold |x|``.

    Examples
    --------
    >>> import numpy as np
    >>> SoftThreshold(1.0).value(np.array([-3.0, 0.5]))
    array([-2.,  0.])
    """

    name: ClassVar[str] = "soft_threshold"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        _as_floats(self)
        if not 0.0 <= self.threshold < INF:
            raise ValueError(f"threshold must be nonnegative and finite; got {self.threshold}")

    def value(self, Z: Array, out: Array | None = None) -> Array:
        return np.subtract(Z, self._excess(Z), out=out)

    def derivative(self, Z: Array) -> Array:
        return (np.abs(Z) > self.threshold).astype(Z.dtype)

    def derivative_at_value(self, X: Array) -> Array:
        return (X != 0).astype(X.dtype)

    @property
    def kernel(self) -> Kernel:
        return PIECEWISE_LINEAR, (self.threshold, 1.0, -INF, INF)

    def conjugate(self, Z: Array) -> Array:
        return 0.5 * self.value(Z) ** 2

    def _excess(self, Z: Array) -> Array:
        return np.clip(Z, -self.threshold, self.threshold)

    def _potential(self, X: Array) -> Array:
        return np.abs(X) * (0.5 * np.abs(X) + self.threshold)

    def _divergence(self, X: Array, Z: Array) -> Array:
        slack = self.threshold - np.sign(X) * self._excess(Z)
        return 0.5 * (X - self.value(Z)) ** 2 + np.abs(X) * slack


BUILT_IN: dict[str, type[Activation]] = {
    cls.name: cls for cls in (Relu, LeakyRelu, Tanh, Sigmoid, Identity, Clip, SoftThreshold)
}


def _as_floats(activation: Any) -> None:
    """Make parameters Python's: NumPy's scalars are no JSON, and turn float32 into float64."""
    for name, value in vars(activation).items():
        object.__setattr__(activation, name, float(value))


def get_activation(activation: str | Activation | Mapping[str, Any]) -> Activation:
    """Return the activation of a name, of a saved dictionary, or the instance itself.

    Parameters
    ----------
    activation : str, dict or Activation
        One of ``"relu"``, ``"leaky_relu"``, ``"tanh"``, ``"sigmoid"``, ``"identity"``, ``"clip"``,
        ``"soft_threshold"``; or what `Activation.to_dict` returned; or an instance.

    Raises
    ------
    ValueError
        If the name or a parameter is not known.

    Examples
    --------
    >>> get_activation("relu")
    Relu()
    >>> get_activation({"name": "clip", "low": 0.0, "high": 2.0})
    Clip(low=0.0, high=2.0)
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, Mapping):
        parameters: dict[str, Any] = dict(activation)
        name = parameters.pop("name", None)
    else:
        parameters, name = {}, activation
    if not isinstance(name, str) or name not in BUILT_IN:
        raise ValueError(
            f"activation must be one of {', '.join(map(repr, BUILT_IN))} or an Activation "
            f"instance; got {activation!r}"
        )
    try:
        return BUILT_IN[name](**parameters)
    except TypeError as error:
        raise ValueError(f"activation {name!r} does not accept {parameters}: {error}") from error
