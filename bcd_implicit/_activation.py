"""The base classes of the activations."""

from abc import ABC, abstractmethod
from dataclasses import asdict, is_dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from bcd_implicit._typing import FloatArray
from bcd_implicit.solvers._kernels import PIECEWISE_LINEAR

INF = float("inf")
Kernel = tuple[int, tuple[float, float, float, float]]
Array: TypeAlias = Any  # float32 in, float32 out; NumPy's stubs know arithmetic on either as Any


class Activation(ABC):
    """Componentwise map phi; all methods act entry by entry and keep the dtype.

    Attributes
    ----------
    name : str
        The name of the class in `get_activation` and in saved models.
    lipschitz : float
        A constant ``L`` with ``|phi(s) - phi(t)| <= L |s - t|``.
    positively_homogeneous : bool
        Whether ``phi(c z) = c phi(z)`` for every ``c > 0``.

    Examples
    --------
    >>> import numpy as np
    >>> class Arctan(Activation):
    ...     name = "arctan"
    ...     def value(self, Z, out=None):
    ...         return np.arctan(Z, out=out)
    ...     def derivative(self, Z):
    ...         return 1 / (1 + Z**2)
    >>> float(Arctan().value(np.tan(0.5)))
    0.5
    """

    name: ClassVar[str]
    lipschitz: float = 1.0
    positively_homogeneous: bool = False

    @abstractmethod
    def value(self, Z: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return phi(Z), written to ``out`` if given (``out`` may be ``Z`` itself)."""

    @abstractmethod
    def derivative(self, Z: FloatArray) -> FloatArray:
        """Return an element of the Clarke subdifferential: at a kink, the smallest one."""

    def derivative_at_value(self, X: FloatArray) -> FloatArray | None:
        """Return ``derivative(Z)`` where phi(Z) is X; None if the value does not tell it."""
        del X
        return None

    @property
    def kernel(self) -> Kernel | None:
        """The ``(kind, par)`` of phi in `bcd_implicit.solvers._kernels`; None without a branch."""
        return None

    @property
    def domain(self) -> tuple[float, float]:
        """Ends of the closed interval on which ``h`` is finite."""
        return (-INF, INF)

    def potential(self, X: FloatArray) -> FloatArray:
        """Return ``h(X) = Psi(X) + X^2 / 2``, infinite outside the domain."""
        low, high = self.domain
        outside = (low > X) | (high < X)
        inside = self._potential(np.clip(X, low, high))
        return np.where(outside, np.inf, inside).astype(inside.dtype)

    def conjugate(self, Z: FloatArray) -> FloatArray:
        """Return ``h*(Z)``, the convex function whose derivative is phi."""
        raise NotImplementedError(f"{type(self).__name__} has no Fenchel terms")

    def divergence(self, X: FloatArray, Z: FloatArray) -> FloatArray:
        """Return ``F(X, Z) = h(X) + h*(Z) - X Z``, never negative, infinite outside the domain."""
        low, high = self.domain
        outside = (low > X) | (high < X)
        inside = np.maximum(self._divergence(np.clip(X, low, high), Z), 0)
        return np.where(outside, np.inf, inside).astype(inside.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the parameters: what `get_activation` accepts back."""
        parameters: dict[str, Any] = asdict(self) if is_dataclass(self) else {}
        return {"name": self.name, **parameters}

    def __repr__(self) -> str:
        # tells fits apart, also in another process: no address
        parameters = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({parameters})"

    def _potential(self, X: Array) -> Array:
        raise NotImplementedError(f"{type(self).__name__} has no Fenchel terms")

    def _divergence(self, X: Array, Z: Array) -> Array:
        return self._potential(X) + self.conjugate(Z) - X * Z


class Projection(Activation):
    """Projection on the domain: Psi is its indicator function."""

    def value(self, Z: Array, out: Array | None = None) -> Array:
        return np.clip(Z, *self.domain, out=out)

    def derivative(self, Z: Array) -> Array:
        low, high = self.domain
        return ((low < Z) & (high > Z)).astype(Z.dtype)

    def derivative_at_value(self, X: Array) -> Array:
        return self.derivative(X)

    @property
    def kernel(self) -> Kernel | None:
        return PIECEWISE_LINEAR, (0.0, 1.0, *self.domain)

    def conjugate(self, Z: Array) -> Array:
        P = self.value(Z)
        return P * (Z - 0.5 * P)

    def _potential(self, X: Array) -> Array:
        return 0.5 * X**2

    def _divergence(self, X: Array, Z: Array) -> Array:
        P = self.value(Z)
        gap: Array = X - P
        return 0.5 * gap**2 + gap * (P - Z)  # no cancellation: both terms are nonnegative
