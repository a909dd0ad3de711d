"""One bar for each input: importances, sensitivities, selection probabilities."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches
from sklearn.utils.validation import _check_feature_names_in, validate_data

from bcd_implicit._matrices import dense
from bcd_implicit.displays._axes import FITTED, Display, as_text, attribute_of
from bcd_implicit.model import ImplicitModel

__all__ = [
    "ImportancesDisplay",
    "SelectionProbabilityDisplay",
    "SensitivityDisplay",
    "local_sensitivities",
]

Array = NDArray[np.float64]

_MOST_BARS = 30
_ENTRIES = 2**21  # of the Jacobians of rows that are held at a time


class BarDisplay(Display):
    """Values of the inputs as horizontal bars, the largest on top.

    Parameters
    ----------
    values : ndarray of shape (p,)
    feature_names : array-like of str, shape (p,)
    """

    _label = ""

    def __init__(self, values: Array, feature_names: Any) -> None:
        self.values = values
        self.feature_names = feature_names

    def plot(self, ax: Any = None, *, max_bars: int = _MOST_BARS, **bar_options: Any) -> Any:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        max_bars : int, default=30
            Inputs that are shown.
        **bar_options : dict
            Passed to ``ax.barh``.

        Returns
        -------
        object
            The display.
        """
        top = np.argsort(-self.values, kind="stable")[:max_bars][::-1]
        ax = self._axes(ax, figsize=(6.4, 1.2 + 0.22 * len(top)))
        names = [as_text(self.feature_names[j]) for j in top]
        self.bars_ = ax.barh(np.arange(len(top)), self.values[top], **bar_options)
        ax.set_yticks(np.arange(len(top)), names)
        ax.set_xlabel(self._label)
        if not self.values.any():
            ax.set_xlim(0.0, 1.0)  # where every bar ends at zero it would begin below
            ax.text(0.5, 0.5, "zero for all inputs", transform=ax.transAxes, ha="center")
        return self


class ImportancesDisplay(BarDisplay):
    """Norms of the groups ``[B; D]_g`` of a fitted estimator; exact zeros have no length.

    In standardised units, or those of raw inputs with ``standardize=False``.

    Parameters
    ----------
    values : ndarray of shape (p,)
    feature_names : array-like of str, shape (p,)
    """

    _label = "norm of the group"

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **options: Any
    ) -> "ImportancesDisplay":
        """Draw the importances of a fitted implicit estimator; options are those of `plot`."""
        importances = attribute_of(estimator, "feature_importances_", FITTED)
        display = cls(importances, _check_feature_names_in(estimator))
        display.plot(ax, **options)
        return display


class SelectionProbabilityDisplay(BarDisplay):
    """How often each input was selected by `StabilitySelection`, and the threshold.

    Parameters
    ----------
    values : ndarray of shape (p,)
    feature_names : array-like of str, shape (p,)
    threshold : float
    """

    _label = "selection probability"

    def __init__(self, values: Array, feature_names: Any, threshold: float) -> None:
        super().__init__(values, feature_names)
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **options: Any
    ) -> "SelectionProbabilityDisplay":
        """Draw the probabilities of a fitted selector; options are those of `plot`."""
        shares = attribute_of(estimator, "selection_probabilities_", "StabilitySelection has")
        display = cls(shares, _check_feature_names_in(estimator), estimator.threshold_)
        display.plot(ax, **options)
        return display

    def plot(self, ax: Any = None, *, max_bars: int = _MOST_BARS, **bar_options: Any) -> Any:
        """Draw the bars and a line at the threshold; see `BarDisplay.plot`."""
        super().plot(ax, max_bars=max_bars, **bar_options)
        self.ax_.axvline(self.threshold, color="0.3", linestyle="--", linewidth=1.0)
        self.ax_.set_xlim(0.0, 1.0)
        return self


class SensitivityDisplay(BarDisplay):
    """Root mean square of the local sensitivities of the first output over given rows.

    The derivative of the prediction in each input, at the equilibrium, times the deviation of the
    input: by how much the prediction moves, to first order, when an input moves by one deviation.

    Parameters
    ----------
    values : ndarray of shape (p,)
    feature_names : array-like of str, shape (p,)
    """

    _label = "root mean square sensitivity to one deviation"

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, output: int = 0, ax: Any = None, **options: Any
    ) -> "SensitivityDisplay":
        """Draw the sensitivities of an output of a fitted estimator over the rows of ``X``."""
        model = attribute_of(estimator, "model_", FITTED)
        if not (isinstance(output, Integral) and 0 <= output < model.n_outputs):
            raise ValueError(
                f"output must be a whole number from 0 to {model.n_outputs - 1}; got {output!r}"
            )
        checked = validate_data(estimator, X, accept_sparse="csr", dtype=np.float64, reset=False)
        U: Array = dense(checked)
        _, exponents = np.frexp(np.abs(U).max(axis=0))  # rounds nothing; no square overflows
        deviation = np.ldexp(np.ldexp(U, -exponents).std(axis=0), exponents)
        squares = np.zeros(U.shape[1])
        n, p, q = model.n_states, model.n_inputs, model.n_outputs
        for rows in gen_batches(len(U), max(1, _ENTRIES // (n * (n + p) + q * p))):
            slopes = local_sensitivities(model, U[rows])[:, output]
            squares += ((slopes * deviation) ** 2).sum(axis=0)
        display = cls(np.sqrt(squares / len(U)), _check_feature_names_in(estimator))
        display.plot(ax, **options)
        return display


def local_sensitivities(model: ImplicitModel, U: Array) -> Array:
    """Return the derivatives (m, q, p) of the predictions in the inputs, at the equilibrium.

    They are ``C (I - M A)^-1 M B + D`` with ``M = diag(phi'(z))``; exactly zero for inputs that the
    model does not use.

    Examples
    --------
    >>> model = ImplicitModel(A=[[0.5]], B=[[1.0, 0.0]], C=[[2.0]], D=[[0.0, 0.0]])
    >>> local_sensitivities(model, np.array([[1.0, 7.0], [-1.0, 7.0]]))[:, 0]
    array([[4., 0.],
           [0., 0.]])
    """
    X = model.states(U)
    columns = np.flatnonzero(model.active_inputs)
    Z = X @ model.A.T + U[:, columns] @ model.B[:, columns].T + model.b
    M: Array = np.asarray(model.activation.derivative(Z), dtype=np.float64)[:, :, None]
    V = np.linalg.solve(np.eye(model.n_states) - M * model.A, M * model.B[:, columns])
    slopes = np.zeros((len(U), model.n_outputs, model.n_inputs))
    slopes[:, :, columns] = model.C @ V + model.D[:, columns]
    return slopes
