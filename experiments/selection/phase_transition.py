"""The probability that exactly the true inputs are found, against samples and true inputs.

Data come from the teacher of the article: 50 inputs, 100 outputs, 20 states. Every method chooses
its strength, or its threshold, by itself. LassoNet is cut where its validation loss is least,
MultiTaskLassoCV where its cross-validated error is, and the forest is told the number of inputs.

Cells that the folder has from earlier runs stay in the map: one method may get a coarser grid.

What this does not show: what happens with few outputs, where each point says less.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import MultiTaskLassoCV

from bcd_implicit import ImplicitRegressor
from experiments.teacher import Sample, draw

__all__ = ["main"]

_SAMPLES = (50, 100, 200, 400, 800, 1600)
_TRUE = (2, 5, 10, 15, 20, 25)
Support = NDArray[np.bool_]


def implicit(n_states: int) -> Callable[[Sample, int], Support]:
    """Select with automatic strength and a number of states."""

    def select(sample: Sample, seed: int) -> Support:
        model = ImplicitRegressor(n_states, fit_feedthrough=False, random_state=seed)
        return model.fit(sample.U, sample.Y).support_

    return select


def lasso_net_path(sample: Sample, seed: int) -> tuple[Any, list[Any]]:
    """Return LassoNet's model and the points of its path, which hold its parameters there."""
    from lassonet import LassoNetRegressor

    model = LassoNetRegressor(**_lasso_net_options(seed))
    U, Y = sample.U.astype(np.float32), sample.Y.astype(np.float32)
    return model, model.path(U, Y, return_state_dicts=True)


def lasso_net(sample: Sample, seed: int) -> Support:
    """Select with LassoNet's path, where its validation loss is least."""
    _, path = lasso_net_path(sample, seed)
    best = min(path, key=lambda point: float(point.val_loss))
    return np.asarray(best.selected.numpy(), dtype=np.bool_)


def lasso_net_cross_validated(sample: Sample, seed: int) -> Support:
    """Select with LassoNet's own cross-validation."""
    from lassonet import LassoNetRegressorCV

    model = LassoNetRegressorCV(**_lasso_net_options(seed))
    model.fit(sample.U.astype(np.float32), sample.Y.astype(np.float32))
    return np.asarray(model.best_selected_.numpy(), dtype=np.bool_)


def _lasso_net_options(seed: int) -> dict[str, Any]:
    return {
        "hidden_dims": (20,),
        "val_size": 0.25,
        "random_state": seed,
        "torch_seed": seed,
        "verbose": 0,
    }


def multi_task_lasso(sample: Sample, seed: int) -> Support:
    """Select with a cross-validated multi-task lasso."""
    fitted = MultiTaskLassoCV(n_jobs=2).fit(sample.U, sample.Y)
    return np.asarray((fitted.coef_ != 0.0).any(axis=0))


def random_forest(sample: Sample, seed: int) -> Support:
    """Select as many inputs as are true by the importances of a forest."""
    fitted = RandomForestRegressor(100, random_state=seed, n_jobs=2).fit(sample.U, sample.Y)
    order = np.argsort(-fitted.feature_importances_)
    return np.isin(np.arange(len(order)), order[: int(sample.support.sum())])


METHODS: dict[str, Callable[[Sample, int], Support]] = {
    "10 states": implicit(10),
    "20 states": implicit(20),
    "LassoNet": lasso_net,
    "MultiTaskLassoCV": multi_task_lasso,
    "random forest": random_forest,
}


def probability(
    method: str, noise: float, n_samples: int, n_true: int, seeds: int
) -> tuple[float, float]:
    """Return the share of samples whose support is exact, and the mean share of wrong inputs."""
    exact, wrong = [], []
    for seed in range(seeds):
        sample = draw(seed, noise=noise, n_samples=n_samples, n_true=n_true, n_fresh=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = METHODS[method](sample, seed)
        exact.append(bool((found == sample.support).all()))
        wrong.append(float(np.mean(found != sample.support)))
    return float(np.mean(exact)), float(np.mean(wrong))


def heat_map(results: list[dict[str, Any]], target: Path) -> None:
    """Write a map for every method (columns) and noise (rows)."""
    methods = list(dict.fromkeys(row["method"] for row in results))
    noises = sorted({row["noise"] for row in results})
    samples = sorted({row["samples"] for row in results})
    true = sorted({row["true"] for row in results})
    figure = Figure(figsize=(0.8 + 2.6 * len(methods), 0.6 + 2.4 * len(noises)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(noises), len(methods), squeeze=False, sharex=True, sharey=True)
    image = None
    for i, noise in enumerate(noises):
        for j, method in enumerate(methods):
            share = np.full((len(true), len(samples)), np.nan)
            for row in results:
                if row["method"] == method and row["noise"] == noise:
                    share[true.index(row["true"]), samples.index(row["samples"])] = row["exact"]
            axis = axes[i, j]
            image = axis.imshow(share, origin="lower", vmin=0, vmax=1, cmap="viridis")
            axis.set_xticks(range(len(samples)), [str(value) for value in samples], rotation=60)
            axis.set_yticks(range(len(true)), [str(value) for value in true])
            if i == 0:
                axis.set_title(method, fontsize=10)
            if j == 0:
                axis.set_ylabel(f"noise {noise:.0%}\ntrue inputs")
            if i == len(noises) - 1:
                axis.set_xlabel("samples")
    if image is not None:
        figure.colorbar(image, ax=axes, label="share of samples with the exact support")
    figure.savefig(target, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--samples", nargs="+", type=int, default=list(_SAMPLES))
    parser.add_argument("--true", nargs="+", type=int, default=list(_TRUE))
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.1, 0.5])
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=["10 states", "20 states"]
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args(arguments)
    if min(options.seeds, *options.samples, *options.true) < 1 or min(options.noise) < 0.0:
        parser.error("counts must be at least 1 and noise not negative")
    if max(options.true) > 50:
        parser.error(f"--true must be at most 50, the number of inputs; got {max(options.true)}")
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "phase_transition.json"
    console = Console()
    results: list[dict[str, Any]] = json.loads(target.read_text()) if target.exists() else []
    cells = [
        (method, noise, n_samples, n_true)
        for method in options.methods
        for noise in options.noise
        for n_samples in options.samples
        for n_true in options.true
    ]
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(cells))
        for method, noise, n_samples, n_true in cells:
            progress.update(task, description=f"{method}, {noise:.0%}, {n_samples}", advance=1)
            cell = {"method": method, "noise": noise, "samples": n_samples, "true": n_true}
            exact, wrong = probability(method, noise, n_samples, n_true, options.seeds)
            results = [row for row in results if not cell.items() <= row.items()]
            results.append({**cell, "seeds": options.seeds, "exact": exact, "wrong": wrong})
            target.write_text(json.dumps(results, indent=1))
    for method in dict.fromkeys(row["method"] for row in results):
        share = np.mean([row["exact"] for row in results if row["method"] == method])
        console.print(f" {method}: exact in {share:.0%} of all cells", highlight=False)
    heat_map(results, target.with_suffix(".png"))
    console.print(f"wrote {target} and {target.with_suffix('.png')}")


if __name__ == "__main__":
    main()
