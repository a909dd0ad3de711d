"""Which entries of A and B are not zero, and how large they are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import _check_feature_names_in

from bcd_implicit.displays._axes import FITTED, Display, as_text, attribute_of

__all__ = ["SparsityDisplay"]

Array = NDArray[np.float64]

_MOST_NAMES = 40


class SparsityDisplay(Display):
    """Pictures of A (state to state) and B (input to state); exact zeros are left blank.

    Parameters
    ----------
    A : ndarray of shape (n, n)
    B : ndarray of shape (n, p)
    feature_names : array-like of str, shape (p,)
    """

    def __init__(self, A: Array, B: Array, feature_names: Any) -> None:
        self.A = A
        self.B = B
        self.feature_names = feature_names

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **options: Any) -> "SparsityDisplay":
        """Draw the matrices of a fitted estimator; options are those of `plot`."""
        A, B = (attribute_of(estimator, name, FITTED) for name in ("A_", "B_"))
        display = cls(A, B, _check_feature_names_in(estimator))
        display.plot(ax, **options)
        return display

    def plot(self, ax: Any = None, **image_options: Any) -> Any:
        """Draw both matrices.

        Parameters
        ----------
        ax : two matplotlib Axes, optional
        **image_options : dict
            Passed to ``ax.imshow``.

        Returns
        -------
        object
            The display.
        """
        axes = self._axes(ax, count=2, figsize=(10.0, 4.0), width_ratios=(1, 2))
        self.images_ = []
        for part, matrix, title in zip(axes, (self.A, self.B), ("A", "B"), strict=True):
            shown = np.where(matrix == 0.0, np.nan, matrix)
            top = float(np.abs(matrix).max(initial=0.0)) or 1.0
            options = {"cmap": "RdBu_r", "vmin": -top, "vmax": top, "aspect": "auto"}
            self.images_.append(part.imshow(shown, **(options | image_options)))
            self.figure_.colorbar(self.images_[-1], ax=part, shrink=0.8)
            part.set(title=title, ylabel="state", xlabel="state" if title == "A" else "input")
        if len(self.feature_names) <= _MOST_NAMES:
            names = [as_text(name) for name in self.feature_names]
            axes[1].set_xticks(np.arange(len(names)), names, rotation=90, fontsize="x-small")
        return self
