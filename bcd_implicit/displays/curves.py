"""Curves along the strength of the penalty: importances, and scores of cross-validation."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.displays._axes import Display, as_text, attribute_of

if TYPE_CHECKING:
    from bcd_implicit.selection.path import ImplicitPath

__all__ = ["CrossValidationDisplay", "PathDisplay"]

Array = NDArray[np.float64]

_NAMED = 10
_CHOSEN_ON_A_PATH = "ImplicitRegressorCV and ImplicitClassifierCV have"


class PathDisplay(Display):
    """Importances of the inputs against the strength.

    Parameters
    ----------
    alphas : ndarray of shape (k,)
    importances : ndarray of shape (k, p)
        In standardised units, or those of raw inputs with ``standardize=False``.
    feature_names : array-like of str, shape (p,)
    """

    def __init__(self, alphas: Array, importances: Array, feature_names: Any) -> None:
        self.alphas = alphas
        self.importances = importances
        self.feature_names = feature_names

    @classmethod
    def from_path(cls, path: "ImplicitPath", *, ax: Any = None, **options: Any) -> "PathDisplay":
        """Draw a path; options are those of `plot`."""
        display = cls(path.alphas, path.importances, path.feature_names)
        display.plot(ax, **options)
        return display

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **options: Any) -> "PathDisplay":
        """Draw the path of an estimator that was fitted on one, and the strength it chose."""
        attribute_of(estimator, "alphas_", _CHOSEN_ON_A_PATH)  # path_ of others is no path
        display = cls.from_path(estimator.path_, ax=ax, **options)
        chosen = estimator.alphas_[estimator.index_]  # alpha_ of a refit is weaker
        display.ax_.axvline(chosen, color="0.3", linestyle="--", linewidth=1.0)
        return display

    def plot(self, ax: Any = None, *, max_names: int = _NAMED, **line_options: Any) -> Any:
        """Draw a line for each input that ever enters.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        max_names : int, default=10
            Inputs that are named: those that stay longest.
        **line_options : dict
            Passed to ``ax.plot``.

        Returns
        -------
        object
            The display.
        """
        ax = self._axes(ax, figsize=(7.0, 4.2))
        lasts = (self.importances > 0.0).sum(axis=0)
        named = set(np.lexsort((-self.importances.max(axis=0), -lasts))[:max_names].tolist())
        self.lines_, hidden = [], []
        for j in np.flatnonzero(lasts):
            options: dict[str, Any] = {"color": "0.8", "linewidth": 0.8, "zorder": 1}
            if j in named:
                options = {"label": as_text(self.feature_names[j]), "linewidth": 1.6, "zorder": 2}
            self.lines_ += ax.plot(self.alphas, self.importances[:, j], **(options | line_options))
            if j in named and self.lines_[-1].get_label().startswith("_"):
                hidden.append(self.lines_[-1])  # to matplotlib such a name is none
        ax.set(xscale="log", xlabel="alpha", ylabel="norm of the group")
        if self.lines_:
            lines, names = ax.get_legend_handles_labels()
            names += [line.get_label() for line in hidden]
            ax.legend(lines + hidden, names, fontsize="small", frameon=False)
        return self


class CrossValidationDisplay(Display):
    """Mean score of the folds against the strength, its standard error and the choice.

    Parameters
    ----------
    alphas : ndarray of shape (k,)
    scores : ndarray of shape (k, folds)
    alpha : float
        The strength that was chosen.
    """

    def __init__(self, alphas: Array, scores: Array, alpha: float) -> None:
        self.alphas = alphas
        self.scores = scores
        self.alpha = alpha

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **options: Any
    ) -> "CrossValidationDisplay":
        """Draw the curve of an estimator that was cross-validated; options are those of `plot`."""
        scores = attribute_of(estimator, "cv_scores_", f"{_CHOSEN_ON_A_PATH} without criterion")
        display = cls(estimator.alphas_, scores, estimator.alphas_[estimator.index_])
        display.plot(ax, **options)
        return display

    def plot(self, ax: Any = None, **line_options: Any) -> Any:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **line_options : dict
            Passed to ``ax.plot``.

        Returns
        -------
        object
            The display.
        """
        ax = self._axes(ax, figsize=(7.0, 4.2))
        mean, folds = self.scores.mean(axis=1), self.scores.shape[1]
        error = self.scores.std(axis=1, ddof=1) / np.sqrt(folds) if folds > 1 else 0.0 * mean
        (self.line_,) = ax.plot(self.alphas, mean, **({"marker": ".", "zorder": 2} | line_options))
        self.band_ = ax.fill_between(self.alphas, mean - error, mean + error, alpha=0.2)
        self.choice_ = ax.axvline(self.alpha, color="0.3", linestyle="--", linewidth=1.0)
        ax.set(xscale="log", xlabel="alpha", ylabel=f"score, mean of {folds} folds")
        return self
