"""Raw targets and weights as the loss wants them, part by part."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray

__all__ = ["Coding", "class_targets"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Coding:
    """Targets ``(y - centre) / scale``, or codes of classes; weights times those of the classes.

    Weights are divided by a power of two, which rounds nothing, and then by what is the largest.

    Attributes
    ----------
    n_outputs : int
    classes : ndarray of shape (K,), optional
        Labels in sorted order; with more than two, targets are indicators.
    class_weights : ndarray of shape (K,), optional
    centre : ndarray of shape (q,) or float
    scale : float
    unit : float
        The power of two that is not above the largest weight that is given.
    largest : float
        Of the products, or one while it is not known.

    Examples
    --------
    >>> coding = Coding(3, classes=np.array(["a", "b", "c"]))
    >>> coding.targets(np.array(["c", "a"]))
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """

    n_outputs: int
    classes: NDArray[Any] | None = None
    class_weights: Array | None = None
    centre: Array | float = 0.0
    scale: float = 1.0
    unit: float = 1.0
    largest: float = 1.0

    def targets(self, y: NDArray[Any]) -> Array:
        """Return the targets (rows, q)."""
        if self.classes is None:
            Y: Array = np.asarray(y, dtype=np.float64)
            return ((Y[:, None] if Y.ndim == 1 else Y) - self.centre) / self.scale
        return class_targets(self.codes(y), len(self.classes))

    def codes(self, y: NDArray[Any]) -> IntArray:
        """Return the codes of labels; of one that is no class, any."""
        if self.classes is None:
            return np.zeros(len(y), dtype=np.intp)
        return np.minimum(np.searchsorted(self.classes, np.ravel(y)), len(self.classes) - 1)

    def weights(self, y: NDArray[Any], weights: NDArray[Any] | None) -> Array:
        """Return the weights (rows,); None stands for ones."""
        given = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=np.float64)
        given = given / self.unit
        if self.class_weights is not None:
            given *= self.class_weights[self.codes(y)]
        given /= self.largest
        return given


def class_targets(codes: IntArray, n_classes: int) -> Array:
    """Return the targets of codes of classes: the codes of two, (m, 1), or indicators of more."""
    return codes[:, None].astype(np.float64) if n_classes == 2 else np.eye(n_classes)[codes]
