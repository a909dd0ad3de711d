"""The curvature of the loss of a model without states, row by row."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.losses import Loss
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import TrainingData

__all__ = ["LinearCurvature", "linear_sample"]

Array = NDArray[np.float64]

_ROWS = 4096  # or up to twice as many, as they are spread evenly
_MOST_PREDICTIONS = 2**22  # of theirs
_MOST_INPUTS = 2**23  # entries of their inputs


def linear_sample(data: TrainingData) -> RowBlocks:
    """Return the rows to take the curvature from: all of them, if they are not many."""
    most = min(_ROWS, _MOST_PREDICTIONS // data.n_outputs, _MOST_INPUTS // max(data.n_inputs, 1))
    return data.sampled_rows(max(most, 1)).in_memory()


class LinearCurvature:
    """The Hessian of ``sum_i w_i loss(y_i, D u_i + d)`` in some columns of D, d being at its best.

    Parameters
    ----------
    sample : RowBlocks
        The rows that it is taken from.
    loss : Loss
    D : ndarray of shape (q, p)
    d : ndarray of shape (q,)
    columns : ndarray of int
    untold : ndarray of shape (columns,)
        Variance of the columns of which the sample holds less than half, as of categories with few
        rows; zero for the others. The curvature of the mean Hessian is added to theirs.
    intercept : bool
        Whether d is fitted.

    Attributes
    ----------
    inverse : ndarray of shape (q, q)
        Of the sum of the Hessians in the prediction; zero if d is not fitted.
    """

    def __init__(
        self,
        sample: RowBlocks,
        loss: Loss,
        D: Array,
        d: Array,
        columns: IntArray,
        untold: Array,
        *,
        intercept: bool,
    ) -> None:
        targets = [block.targets() for block in sample.blocks]
        Y, w = (np.concatenate(part) for part in zip(*targets, strict=True))
        F = np.concatenate([block.product(D) for block in sample.blocks]) + d
        self._product, self._w = loss.hessian_product(Y, F), w[:, np.newaxis]
        self._U = np.concatenate([block.inputs(columns) for block in sample.blocks])
        self.inverse, self._untold = np.zeros((len(d), len(d))), untold
        self._mean = total = loss.total_hessian(Y, F, w)
        if intercept:
            self.inverse = np.asarray(np.linalg.pinv(total, hermitian=True), dtype=np.float64)

    def product(self, E: Array) -> Array:
        """Return the product with a change of the columns, (q, columns)."""
        G = self._weighted(self._U @ E.T)
        G += self._weighted(np.tile(self._followed(G), (len(G), 1)))
        image: Array = G.T @ self._U
        if self._untold.any():
            image += self._mean @ E * self._untold
        return image

    def matrix(self) -> Array:
        """Return the matrix of `product` for a single output, (columns, columns)."""
        weights = self._weighted(np.ones((len(self._U), 1)))
        # centred first: the difference of two products would be rounding errors of large means
        V = self._U - self.inverse * (weights.T @ self._U)
        matrix: Array = (V * weights).T @ V
        matrix[np.diag_indices_from(matrix)] += self._mean[0, 0] * self._untold
        return matrix

    def best_change(self, E: Array) -> Array:
        """Return the change of d that is best with a change of the columns."""
        return self._followed(self._weighted(self._U @ E.T))

    def shift(self, d_gradient: Array) -> Array:
        """Return by how much the gradient in the columns falls with the best change of d alone."""
        change = self.inverse @ d_gradient
        fallen: Array = self._weighted(np.tile(change, (len(self._U), 1))).T @ self._U
        return fallen

    def _weighted(self, F: Array) -> Array:
        weighted: Array = self._product(F) * self._w
        return weighted

    def _followed(self, G: Array) -> Array:
        change: Array = -(self.inverse @ G.sum(axis=0))
        return change
