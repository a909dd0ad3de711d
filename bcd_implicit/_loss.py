"""What a loss is.

A loss gives its value, its gradient and a bound of its Hessian that holds at every prediction; the
trainer needs nothing else. Sums over samples are weighted sums, never means: the caller divides.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._activation import Array
from bcd_implicit._typing import FloatArray

__all__ = ["Loss", "check_pair", "coefficient_hessian", "weighted_mean"]


class Loss(ABC):
    """Convex loss of a prediction ``f`` (q,) for a target ``y`` (q,).

    Attributes
    ----------
    name : str
        The name of the class in `get_loss`.
    quadratic : bool
        Whether the Hessian is the identity everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from bcd_implicit.losses import get_loss
    >>> Y, F = np.array([[1.0], [0.0]]), np.zeros((2, 1))
    >>> [round(get_loss(name).value(Y, F), 3) for name in ("squared", "logistic")]
    [0.5, 1.386]
    """

    name: ClassVar[str]
    quadratic: ClassVar[bool] = False

    @abstractmethod
    def per_sample(self, Y: FloatArray, F: FloatArray) -> FloatArray:
        """Return the loss of each sample, (m,), for targets and predictions (m, q)."""

    @abstractmethod
    def gradient(self, Y: FloatArray, F: FloatArray) -> FloatArray:
        """Return the gradient in the prediction of each sample, unweighted, (m, q)."""

    @abstractmethod
    def hessian(self, Y: FloatArray, F: FloatArray) -> FloatArray:
        """Return the Hessian in the prediction of each sample, unweighted, (m, q, q)."""

    @abstractmethod
    def curvature(self, q: int) -> NDArray[np.float64]:
        """Return a (q, q) matrix that dominates the Hessian at every prediction."""

    @abstractmethod
    def initial_intercept(
        self, Y: FloatArray, weights: FloatArray | None = None
    ) -> NDArray[np.float64]:
        """Return the constant prediction (q,) of least total loss; always finite.

        Class frequencies are kept above 1e-8. The intercept of the multinomial loss sums to zero.
        """

    @abstractmethod
    def check_targets(self, Y: FloatArray) -> None:
        """Raise ValueError unless the targets (m, q) are ones this loss is defined for."""

    def doubted(self, Y: FloatArray, wrong: float) -> FloatArray:
        """Return targets whose losses are expected ones where a share ``wrong`` of labels is wrong.

        Every other class is as likely then. Targets that are not classes are returned as they are.
        """
        return Y

    def value(self, Y: FloatArray, F: FloatArray, weights: FloatArray | None = None) -> float:
        """Return ``sum_i w_i loss(y_i, f_i)`` in double precision; no weights means ones."""
        losses = self.per_sample(Y, F)
        if weights is None:
            return float(np.sum(losses, dtype=np.float64))
        return float(np.dot(losses.astype(np.float64), weights))

    def value_and_gradient(
        self, Y: FloatArray, F: FloatArray, weights: FloatArray
    ) -> tuple[float, FloatArray]:
        """Return `value`, and the gradient of it in every prediction, (m, q)."""
        return self.value(Y, F, weights), self.gradient(Y, F) * weights[:, np.newaxis]

    def hessian_product(self, Y: FloatArray, F: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """Return the product of the Hessians with a change of the predictions, (m, q)."""
        hessians = self.hessian(Y, F)
        return lambda change: np.matmul(hessians, change[:, :, np.newaxis])[:, :, 0]

    def total_hessian(
        self, Y: FloatArray, F: FloatArray, weights: FloatArray
    ) -> NDArray[np.float64]:
        """Return the weighted sum of the Hessians, (q, q)."""
        return np.asarray(np.tensordot(weights, self.hessian(Y, F), 1), np.float64)

    def coefficient_hessian(
        self, Y: FloatArray, F: FloatArray, weights: FloatArray, V: FloatArray
    ) -> NDArray[np.float64]:
        """Return the Hessian of `value` in C where ``f = C v``, (q, k, q, k), for V of (m, k)."""
        return coefficient_hessian(self.hessian(Y, F), weights, V)


def coefficient_hessian(
    hessians: FloatArray, weights: FloatArray, V: FloatArray
) -> NDArray[np.float64]:
    """Return ``sum_i w_i L_i (x) v_i v_i'``, (q, k, q, k), for Hessians L of samples, (m, q, q)."""
    q, k = hessians.shape[1], V.shape[1]
    H = np.empty((q, k, q, k))
    for a in range(q):
        for b in range(a + 1):
            H[a, :, b] = (V * (weights * hessians[:, a, b])[:, None]).T @ V
            H[b, :, a] = H[a, :, b].T
    return H


def check_pair(Y: Array, F: Array) -> None:
    """Raise ValueError unless targets and predictions fit."""
    if Y.ndim != 2 or Y.shape != F.shape:
        raise ValueError(
            f"Y and F must be two-dimensional and of one shape; got {Y.shape} and {F.shape}"
        )


def weighted_mean(Y: Array, weights: Array | None) -> Array:
    """Return the mean of the rows; refuse weights that do not define one."""
    if weights is None:
        weights = np.ones(len(Y))
    total = float(np.sum(weights, dtype=np.float64))
    if weights.shape != (len(Y),) or not 0.0 < total < np.inf or np.min(weights) < 0:
        raise ValueError(
            f"weights must be {len(Y)} nonnegative numbers with a positive finite sum; "
            f"got shape {weights.shape} and sum {total}"
        )
    return np.asarray(weights, np.float64) @ np.asarray(Y, np.float64) / total
