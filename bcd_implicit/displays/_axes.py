"""Axes to draw on, made only when a display is plotted."""

from typing import Any

from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

__all__ = ["FITTED", "Display", "as_text", "attribute_of"]

FITTED = "implicit estimators have once they are fitted"


def attribute_of(estimator: Any, name: str, made_by: str) -> Any:
    """Return what a fitted estimator has to draw; raise ValueError if it is not of a kind to."""
    check_is_fitted(estimator)
    if not hasattr(estimator, name):
        last = ": draw one of its steps" if hasattr(estimator, "steps") else ""
        raise ValueError(
            f"estimator must have {name}, as {made_by}; got {type(estimator).__name__}{last}"
        )
    return getattr(estimator, name)


def as_text(name: Any) -> str:
    """Return a name as matplotlib draws it letter by letter: between two dollars is a formula."""
    return str(name).replace("$", r"\$")


class Display:
    """A display: it holds what is drawn, and after `plot` the axes and the figure.

    Attributes
    ----------
    ax_ : matplotlib Axes or ndarray of Axes
    figure_ : matplotlib Figure
    """

    ax_: Any
    figure_: Any

    def _axes(self, ax: Any, count: int = 1, **options: Any) -> Any:
        """Return the given axes, or new ones."""
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes

        if ax is None:
            _, ax = plt.subplots(1, count, layout="constrained", **options)
        elif count > 1 and (not hasattr(ax, "__len__") or len(ax) != count):
            raise ValueError(f"ax must hold {count} axes; got {ax!r}")
        elif count == 1 and not isinstance(ax, Axes):
            raise ValueError(f"ax must be a matplotlib Axes; got {ax!r}")
        self.ax_ = ax
        self.figure_ = (ax[0] if count > 1 else ax).figure
        return ax
