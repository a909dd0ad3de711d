"""Clustering as a network."""

import numpy as np
from numpy.typing import ArrayLike

from bcd_implicit.convert.network import Network
from bcd_implicit.model import ImplicitModel

__all__ = ["kmeans_assignment"]


def kmeans_assignment(centres: ArrayLike, sharpness: float = 1.0) -> ImplicitModel:
    """Return the soft assignment ``softmax_k(-sharpness ||u - c_k||^2)`` to the centres of k-means.

    The square of u is common to all centres and drops out: one linear layer and a softmax. The
    largest output is that of the nearest centre at any sharpness.

    Parameters
    ----------
    centres : array-like of shape (k, p)
        ``cluster_centers_`` of scikit-learn's KMeans.
    sharpness : float, default=1.0

    References
    ----------
    D. J. C. MacKay, "Information theory, inference, and learning algorithms" (2003), section 20.2.

    Examples
    --------
    >>> kmeans_assignment([[0.0], [2.0]]).predict([[1.0]])
    array([[0.5, 0.5]])
    """
    c = np.asarray(centres, dtype=np.float64)
    if c.ndim != 2 or not len(c) or not sharpness > 0.0:
        raise ValueError(
            "centres must be a matrix with rows and sharpness positive; got shape "
            f"{c.shape} and {sharpness!r}"
        )
    network = Network(c.shape[1])
    middle = c.mean(axis=0)  # less its logit, or squares of far centres drown their distances
    logits = network.linear(
        network.inputs,
        2.0 * sharpness * (c - middle),
        -sharpness * np.einsum("ij,ij->i", c - middle, c + middle),
    )
    return network.model(network.activate(logits, "softmax", size=len(c)))
