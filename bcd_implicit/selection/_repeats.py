"""How far inputs repeat others."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block
from bcd_implicit.training_data import TrainingData

__all__ = ["explained_shares"]

Array = NDArray[np.float64]

_SINGULAR = 1e-10  # of the largest eigenvalue of a covariance, below which there is only rounding


def explained_shares(data: TrainingData, sets: list[IntArray], labels: IntArray) -> Array:
    """Return which share of every group of inputs each of some sets of groups explains.

    Explained is the variance that a linear function of the inputs of the set has in common with
    those of the group, all of them together: 1 for a group of the set, 0 for a constant. One pass.

    Parameters
    ----------
    data : TrainingData
    sets : list of ndarray of int
        Groups.
    labels : ndarray of shape (p,)
        The group of every input, from 0 without gaps.

    Returns
    -------
    ndarray of shape (number of sets, number of groups)
    """
    columns = np.flatnonzero(np.isin(labels, np.concatenate(sets)))

    def sums(block: Block) -> tuple[Array, Array, Array]:
        _, w = block.targets()
        U = block.inputs()
        return (U[:, columns] * w[:, None]).T @ U, w @ U, w @ U**2

    with data.threads():
        products, mean, squares = data.sum(sums)
    products = products - np.outer(mean[columns], mean)
    variance = np.bincount(labels, np.maximum(squares - mean**2, 0.0))
    shares = np.zeros((len(sets), len(variance)))
    for share, groups in zip(shares, sets, strict=True):
        chosen = np.isin(labels[columns], groups)
        cross = products[chosen]
        values, vectors = np.linalg.eigh(cross[:, columns[chosen]])
        kept = values > _SINGULAR * values[-1]
        factors = vectors[:, kept].T @ cross / np.sqrt(values[kept])[:, None]
        explained = np.bincount(labels, (factors**2).sum(axis=0))
        np.divide(explained, variance, out=share, where=variance > 0.0)
    return np.minimum(shares, 1.0)
