"""Raw targets and weights as the loss wants them, part by part."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.sums import Twofold

__all__ = ["Coding", "balanced", "checked_class_weights", "class_sums", "class_targets"]

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
        if y.dtype.kind == "O":  # those without weight may be missing, which have no order
            places = {label: i for i, label in enumerate(self.classes.tolist())}
            return np.array([places.get(label, 0) for label in y.ravel()], dtype=np.intp)
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


def class_sums(codes: IntArray, weights: Array, n_classes: int) -> list[Twofold]:
    """Return the sum of the weights of every class.

    Examples
    --------
    >>> [float(some.value()) for some in class_sums(np.array([0, 1, 1]), np.ones(3), 2)]
    [1.0, 2.0]
    >>> class_sums(np.empty(0, dtype=int), np.empty(0), 0)
    []
    """
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=n_classes))
    pieces = np.split(weights[order], ends[:-1])[:n_classes]  # there is one of nothing
    return [Twofold.total(some) for some in pieces]


def checked_class_weights(class_weight: dict[Any, float], classes: NDArray[Any]) -> Array:
    """Return the weight of every class, one where none is given.

    Raises
    ------
    ValueError
        If one is not a positive number, or one of no class is given and none of another class. All
        of them may have weights where some have no row, as in a fold of the rows.
    """
    unknown = [label for label in class_weight if label not in classes]
    if unknown and any(label not in class_weight for label in classes.tolist()):
        raise ValueError(
            f"class_weight must have classes as keys, {classes.tolist()}; got {unknown}"
        )
    weights = np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])
    if not (np.isfinite(weights) & (weights > 0.0)).all():
        raise ValueError(f"class_weight must hold positive numbers; got {class_weight!r}")
    return weights


def balanced(sums: list[Twofold]) -> Array:
    """Return class weights with which all classes weigh the same, and all rows as much as before.

    Examples
    --------
    >>> balanced(class_sums(np.array([0, 1, 1]), np.ones(3), 2))
    array([1.5 , 0.75])
    """
    each = np.array([some.value() for some in sums])
    total: float = sum(sums[1:], sums[0]).value()
    return total / (len(each) * each)
