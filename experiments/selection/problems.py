"""Targets with and without linear effects, among inputs that do not matter."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

__all__ = ["LINEAR", "PROBLEMS", "Drawn", "Problem"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A sample and its true inputs."""

    X: Array
    y: Array
    true: NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """A target of the first inputs, standard normal with correlations ``rho ** |i - j|``.

    The inputs are shuffled afterwards, unless they are correlated. ``noise`` is relative to the
    deviation of the target.
    """

    target: Callable[[Array], Array]
    n_true: int
    n_inputs: int = 50
    rho: float = 0.0
    noise: float = 0.1
    gap: int = 1

    def draw(self, seed: int, n_samples: int = 1000) -> Drawn:
        """Draw a sample; with correlated inputs the true ones are ``gap`` apart."""
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n_samples, self.n_inputs))
        for column in range(1, self.n_inputs if self.rho else 0):
            innovation = np.sqrt(1.0 - self.rho**2) * X[:, column]
            X[:, column] = self.rho * X[:, column - 1] + innovation
        if self.rho:
            places = self.gap * np.arange(self.n_true)
        else:
            places = rng.choice(self.n_inputs, self.n_true, replace=False)
        clean = self.target(X[:, places])
        y = clean + self.noise * clean.std() * rng.standard_normal(n_samples)
        return Drawn(X, y, np.isin(np.arange(self.n_inputs), places))


def _linear(U: Array) -> Array:
    return np.asarray(U.sum(axis=1))


def _linear_and_product(U: Array) -> Array:
    return np.asarray(U[:, 0] + U[:, 1] + U[:, 2] * U[:, 3])


def _absolute(U: Array) -> Array:
    return np.asarray(np.abs(U).sum(axis=1))


def _products(U: Array) -> Array:
    return np.asarray(U[:, 0] * U[:, 1] + U[:, 2] * U[:, 3])


def _signs(U: Array) -> Array:
    return np.asarray(np.sign(U).prod(axis=1))


def _friedman(U: Array) -> Array:
    V = norm.cdf(U)
    wave = 10.0 * np.sin(np.pi * V[:, 0] * V[:, 1]) + 20.0 * (V[:, 2] - 0.5) ** 2
    return np.asarray(wave + 10.0 * V[:, 3] + 5.0 * V[:, 4])


PROBLEMS = {
    "|u|": Problem(_absolute, 5),
    "products": Problem(_products, 4),
    "sign of a product of three": Problem(_signs, 3),
    "Friedman 1": Problem(_friedman, 5),
    "Friedman 1, 500 inputs": Problem(_friedman, 5, n_inputs=500),
    "|u|, correlated 0.5": Problem(_absolute, 5, rho=0.5, gap=5),
    "|u|, correlated 0.9": Problem(_absolute, 5, rho=0.9, gap=5),
    "products, correlated 0.5": Problem(_products, 4, rho=0.5, gap=5),
    "products, correlated 0.9": Problem(_products, 4, rho=0.9, gap=5),
}

LINEAR = {
    "five linear": Problem(_linear, 5),
    "five linear, as much noise": Problem(_linear, 5, noise=1.0),
    "two linear and a product": Problem(_linear_and_product, 4),
}
