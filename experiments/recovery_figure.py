"""The figure of the recovery experiment: learned and true column norms, and the path."""

import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from bcd_implicit import ImplicitRegressor
from experiments.teacher import Sample

_TRUE, _FALSE = "#d1495b", "#9aa5b1"


def norm_path(sample: Sample, n_states: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return strengths and group norms of a warm-started path with uniform weights."""
    alphas = np.geomspace(1e-3, 10.0, 33)
    model = ImplicitRegressor(
        n_states, fit_feedthrough=False, l2=5e-3, warm_start=True, random_state=0, max_iter=60
    )
    norms = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for alpha in alphas:
            model.set_params(alpha=alpha).fit(sample.U, sample.Y)
            norms.append(model.feature_importances_)
    return alphas, np.array(norms)


def write_figure(sample: Sample, model: ImplicitRegressor, target: Path) -> None:
    """Write a PNG: norms of the learned and of the generating columns, and norms along alpha."""
    true_norms = np.linalg.norm(sample.B, axis=0)
    places = np.arange(len(true_norms))
    colours = np.where(sample.support, _TRUE, _FALSE)
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        grid = figure.add_gridspec(2, 2)
        for column, norms, title in (
            (0, model.feature_importances_, f"learned, {model.n_states} states"),
            (1, true_norms, f"generating, {len(sample.B)} states"),
        ):
            axis = figure.add_subplot(grid[0, column])
            axis.bar(places, norms / norms.max(), color=colours)
            axis.set(title=title, xlabel="input", ylabel="norm of column of B / largest")
        axis = figure.add_subplot(grid[1, :])
        alphas, norms = norm_path(sample, model.n_states)
        for j in np.argsort(sample.support, kind="stable"):
            values = np.where(norms[:, j] > 0.0, norms[:, j], np.nan)
            axis.plot(alphas, values, color=colours[j], lw=1.5 if sample.support[j] else 0.8)
        axis.set(
            xscale="log",
            yscale="log",
            xlabel="alpha",
            ylabel="norm of group",
            title="norms along alpha (red: true inputs); a line ends where the norm is zero",
        )
        figure.savefig(target, dpi=130)
