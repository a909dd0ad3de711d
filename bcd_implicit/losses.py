"""Losses: convex functions of the prediction, one value per sample."""
# ruff: noqa: D102 (the methods are documented once, in the base class)

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._activation import Array
from bcd_implicit._loss import Loss, check_pair, weighted_mean
from bcd_implicit._smooth import logistic
from bcd_implicit._typing import FloatArray
from bcd_implicit.solvers._kernels import cross_entropy_rows, lower_rows, share_rows

__all__ = ["LogisticLoss", "Loss", "MultinomialLoss", "SquaredLoss", "get_loss"]

# Probabilities are kept this far from 0 and 1 in the first intercept: a class without a sample
# would otherwise put it at infinity.
_RAREST = 1e-8


class SquaredLoss(Loss):
    """``||y - f||^2 / 2``.

    Examples
    --------
    >>> import numpy as np
    >>> SquaredLoss().per_sample(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]))
    array([2.5])
    """

    name: ClassVar[str] = "squared"
    quadratic: ClassVar[bool] = True

    def per_sample(self, Y: Array, F: Array) -> Array:
        residual = self.gradient(Y, F)
        return 0.5 * np.einsum("ij,ij->i", residual, residual)

    def gradient(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        return F - Y

    def hessian(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        q = F.shape[1]
        return np.tile(np.eye(q, dtype=F.dtype), (len(F), 1, 1))

    def total_hessian(self, Y: Array, F: Array, weights: Array) -> NDArray[np.float64]:
        check_pair(Y, F)
        return np.asarray(weights.sum() * np.eye(F.shape[1]), np.float64)

    def curvature(self, q: int) -> NDArray[np.float64]:
        return np.eye(q)

    def initial_intercept(self, Y: Array, weights: Array | None = None) -> Array:
        return weighted_mean(Y, weights)

    def check_targets(self, Y: FloatArray) -> None:
        if Y.ndim != 2:
            raise ValueError(f"Y must have shape (m, q); got {Y.shape}")


class LogisticLoss(Loss):
    """``log(1 + exp(f)) - y f`` for ``y`` in {0, 1} and one output.

    Examples
    --------
    >>> import numpy as np
    >>> LogisticLoss().per_sample(np.array([[1.0], [0.0]]), np.array([[1e4], [1e4]]))
    array([    0., 10000.])
    """

    name: ClassVar[str] = "logistic"

    def per_sample(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        # both terms are nonnegative: nothing cancels when the logit is large
        linear = np.where(F > 0, 1 - Y, Y) * np.abs(F)
        return (np.log1p(np.exp(-np.abs(F))) + linear).sum(axis=1)

    def gradient(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        # (1 - y) P(1) - y P(0) keeps its relative accuracy where P - y would cancel
        return (1 - Y) * logistic(F) - Y * logistic(-F)

    def hessian(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        return (logistic(F) * logistic(-F))[:, :, np.newaxis]

    def curvature(self, q: int) -> NDArray[np.float64]:
        return 0.25 * np.eye(q)

    def initial_intercept(self, Y: Array, weights: Array | None = None) -> Array:
        frequency = np.clip(weighted_mean(Y, weights), _RAREST, 1.0 - _RAREST)
        return np.log(frequency) - np.log1p(-frequency)

    def check_targets(self, Y: FloatArray) -> None:
        if Y.ndim != 2 or Y.shape[1] != 1 or not np.all((Y == 0) | (Y == 1)):
            raise ValueError(f"Y must have shape (m, 1) and entries 0 or 1; got shape {Y.shape}")

    def doubted(self, Y: FloatArray, wrong: float) -> FloatArray:
        return Y + wrong * (1.0 - 2.0 * Y)

    def probabilities(self, F: FloatArray) -> FloatArray:
        """Return the probabilities of class 0 and class 1, (m, 2), for logits (m, 1)."""
        return np.hstack([logistic(-F), logistic(F)])


class MultinomialLoss(Loss):
    """``log sum_k exp(f_k) - sum_k y_k f_k`` for one-hot ``y`` over K classes.

    The constant bound of the Hessian, ``(I - 11'/K) / 2``, is that of D. Boehning, "Multinomial
    logistic regression algorithm", Annals of the Institute of Statistical Mathematics 44 (1992).

    Examples
    --------
    >>> import numpy as np
    >>> MultinomialLoss().per_sample(np.array([[0.0, 1.0]]), np.array([[1e4, -1e4]]))
    array([20000.])
    """

    name: ClassVar[str] = "multinomial"

    def per_sample(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        shifted, P = _exponentials(F)
        total = np.empty(len(P), P.dtype)
        share_rows(P, total)
        return _cross_entropy(Y, shifted, total)

    def gradient(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        return self.probabilities(F) - Y

    def value_and_gradient(self, Y: Array, F: Array, weights: Array) -> tuple[float, Array]:
        check_pair(Y, F)
        # once for both, in few calls: threads that make many short ones wait for each other
        shifted, G = _exponentials(F)
        losses = np.empty(len(G), G.dtype)
        cross_entropy_rows(G, shifted, Y, weights, losses)
        return float(np.dot(losses, weights)), G

    def hessian(self, Y: Array, F: Array) -> Array:
        check_pair(Y, F)
        P = self.probabilities(F)
        H = -P[:, :, np.newaxis] * P[:, np.newaxis, :]
        _set_diagonal(H.swapaxes(0, 1))
        return H

    def hessian_product(self, Y: Array, F: Array) -> Callable[[Array], Array]:
        check_pair(Y, F)
        P = self.probabilities(F)

        def product(change: Array) -> Array:
            G: Array = P * change
            G -= P * np.einsum("ij->i", G)[:, np.newaxis]
            return G

        return product

    def total_hessian(self, Y: Array, F: Array, weights: Array) -> NDArray[np.float64]:
        check_pair(Y, F)
        P = self.probabilities(F)
        total = np.asarray(-(P * weights[:, np.newaxis]).T @ P, np.float64)
        _set_diagonal(total[:, np.newaxis])
        return total

    def coefficient_hessian(
        self, Y: Array, F: Array, weights: Array, V: Array
    ) -> NDArray[np.float64]:
        check_pair(Y, F)
        (m, q), k = F.shape, V.shape[1]
        root = self.probabilities(F) * np.sqrt(weights)[:, np.newaxis]
        # one product: a third of the time of one for each pair of 10 classes
        S = (root[:, :, np.newaxis] * V[:, np.newaxis, :]).reshape(m, q * k)
        H = np.asarray(-(S.T @ S), np.float64).reshape(q, k, q, k)
        _set_diagonal(H)
        return H

    def curvature(self, q: int) -> NDArray[np.float64]:
        bound: NDArray[np.float64] = 0.5 * (np.eye(q) - np.full((q, q), 1.0 / q))
        return bound

    def initial_intercept(self, Y: Array, weights: Array | None = None) -> Array:
        logits = np.log(np.clip(weighted_mean(Y, weights), _RAREST, 1.0))
        return logits - logits.mean()

    def check_targets(self, Y: FloatArray) -> None:
        if (
            Y.ndim != 2
            or Y.shape[1] < 2
            or not np.all((Y == 0) | (Y == 1))
            or not np.all(Y.sum(axis=1) == 1)
        ):
            raise ValueError(
                f"Y must have shape (m, K) with K >= 2 and one-hot rows; got shape {Y.shape}"
            )

    def doubted(self, Y: FloatArray, wrong: float) -> FloatArray:
        return np.asarray(Y + wrong * ((1.0 - Y) / (Y.shape[1] - 1) - Y))

    def probabilities(self, F: Array) -> Array:
        """Return the class probabilities, (m, K), for logits (m, K)."""
        P = np.array(F, order="C")
        lower_rows(P)
        np.exp(P, out=P)  # in place: of many rows of many classes each copy is large
        share_rows(P, np.empty(len(P), P.dtype))
        return P


def _exponentials(F: Array) -> tuple[Array, Array]:
    """Return logits below the largest of their row, and their exponentials.

    By compiled loops over the rows, whose few entries NumPy reduces slowly: value and gradient of
    2,500 rows of 10 classes take a third of the time.
    """
    shifted = np.array(F, order="C")
    lower_rows(shifted)
    return shifted, np.exp(shifted)


def _set_diagonal(H: Array) -> None:
    """Let ``H[a, :, b]`` sum to zero over the classes b: p (1 - p), exact as p times the others."""
    classes = np.arange(len(H))
    H[classes, :, classes] = 0.0
    H[classes, :, classes] = -H.sum(axis=2)


def _cross_entropy(Y: Array, shifted: Array, total: Array) -> Array:
    """Return the losses of one-hot targets; both terms are nonnegative, nothing cancels."""
    return np.log(total) - np.einsum("ij,ij->i", Y, shifted)


_BUILT_IN: dict[str, type[Loss]] = {
    cls.name: cls for cls in (SquaredLoss, LogisticLoss, MultinomialLoss)
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss of a name, or the instance itself.

    Parameters
    ----------
    loss : {"squared", "logistic", "multinomial"} or Loss

    Raises
    ------
    ValueError
        If the name is not known.

    Examples
    --------
    >>> get_loss("squared").name
    'squared'
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in _BUILT_IN:
        raise ValueError(
            f"loss must be one of {', '.join(map(repr, _BUILT_IN))} or a Loss instance; "
            f"got {loss!r}"
        )
    return _BUILT_IN[loss]()
