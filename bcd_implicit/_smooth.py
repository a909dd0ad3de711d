"""Tanh and sigmoid, with the divergence that they share."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.polynomial.polynomial import polyval
from scipy.special import xlog1py, xlogy

from bcd_implicit._activation import Activation, Array
from bcd_implicit.solvers._kernels import SIGMOID, TANH

__all__ = ["Sigmoid", "Tanh", "logistic"]


_NEAR = 0.1  # relative distance of probabilities, up to which a series is exact to rounding errors
_SERIES = [(-1) ** k / (k * (k - 1)) for k in range(2, 17)]  # of ((1 + t) log(1 + t) - t) / t^2


def entropy(X: Array) -> Array:
    """Return ``x log x + (1 - x) log(1 - x)``, zero at both ends."""
    return xlogy(X, X) + xlog1py(1 - X, -X)


def softplus(Z: Array) -> Array:
    """Return ``log(1 + exp(z))``."""
    return np.log1p(np.exp(-np.abs(Z))) + np.maximum(Z, 0)


def logistic(Z: Array) -> Array:
    """Return ``1 / (1 + exp(-z))`` with full relative accuracy on both sides."""
    E = np.exp(-np.abs(Z))
    return np.where(Z >= 0, 1, E) / (1 + E)


def bernoulli_divergence(X: Array, Z: Array, gap: Array) -> Array:
    """Return the Kullback-Leibler divergence of probability ``x`` from ``logistic(z)``.

    ``gap`` is their difference, which rounds to nothing near one half if it is taken here.
    """
    P, Q = logistic(Z), logistic(-Z)
    # the gap between softplus(z) and x z, written with nonnegative terms
    far = entropy(X) + np.log1p(np.exp(-np.abs(Z))) + np.abs(Z) * np.where(Z > 0, 1 - X, X)
    smaller = np.minimum(P, Q)
    near = (np.abs(gap) <= _NEAR * smaller) & (smaller > 0)
    close = np.zeros_like(far)
    for probability, change in ((P, gap), (Q, -gap)):
        ratio = np.where(near, change / np.where(near, probability, 1), 0)
        # p ((1 + t) log(1 + t) - t), whose terms cancel where x is near logistic(z)
        close += np.where(near, change, 0) * ratio * polyval(ratio, _SERIES)
    return np.where(near, close, far)


@dataclass(frozen=True)
class Tanh(Activation):
    """Hyperbolic tangent; ``h(x) = x atanh x + log(1 - x^2) / 2``, ``h*(z) = log cosh z``.

    Examples
    --------
    >>> import numpy as np
    >>> Tanh().conjugate(np.array([0.0, 1000.0])).round(3)
    array([  0.   , 999.307])
    """

    name: ClassVar[str] = "tanh"
    kernel = (TANH, (0.0, 0.0, 0.0, 0.0))
    domain = (-1.0, 1.0)

    def value(self, Z: Array, out: Array | None = None) -> Array:
        return np.tanh(Z, out=out)

    def derivative(self, Z: Array) -> Array:
        return self.derivative_at_value(np.tanh(Z))

    def derivative_at_value(self, X: Array) -> Array:
        return (1 - X) * (1 + X)

    def conjugate(self, Z: Array) -> Array:
        size = np.abs(Z)
        near = np.log1p(2 * np.sinh(0.5 * np.minimum(size, 1)) ** 2)  # accurate near 0
        far = size + np.log1p(np.exp(-2 * size)) - np.log(2.0).astype(Z.dtype)
        return np.where(size < 1, near, far)

    def _potential(self, X: Array) -> Array:
        return entropy(0.5 * (1 + X)) + np.log(2.0).astype(X.dtype)

    def _divergence(self, X: Array, Z: Array) -> Array:
        return bernoulli_divergence(0.5 * (1 + X), 2 * Z, 0.5 * (X - np.tanh(Z)))


@dataclass(frozen=True)
class Sigmoid(Activation):
    """``1 / (1 + exp(-z))``; ``h(x) = x log x + (1 - x) log(1 - x)``, ``h*(z) = log(1 + exp z)``.

    Its Lipschitz constant is 1/4, so row sums of ``|A|`` below 4 are already well-posed.

    Examples
    --------
    >>> import numpy as np
    >>> Sigmoid().value(np.array([-1000.0, 0.0]))
    array([0. , 0.5])
    """

    name: ClassVar[str] = "sigmoid"
    lipschitz = 0.25
    kernel = (SIGMOID, (0.0, 0.0, 0.0, 0.0))
    domain = (0.0, 1.0)

    def value(self, Z: Array, out: Array | None = None) -> Array:
        E = np.exp(-np.abs(Z))
        return np.divide(np.where(Z >= 0, 1, E), 1 + E, out=out)

    def derivative(self, Z: Array) -> Array:
        return logistic(Z) * logistic(-Z)

    def derivative_at_value(self, X: Array) -> Array:
        return X * (1 - X)

    def conjugate(self, Z: Array) -> Array:
        return softplus(Z)

    def _potential(self, X: Array) -> Array:
        return entropy(X)

    def _divergence(self, X: Array, Z: Array) -> Array:
        return bernoulli_divergence(X, Z, X - logistic(Z))
