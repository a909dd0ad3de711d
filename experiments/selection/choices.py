"""Let every way of choosing a strength say which inputs matter, without telling it how many do.

The automatic strength, cross-validation and information criteria on the path, and stability
selection, on the same samples: false and missed inputs, R2 on fresh points of the same target with
the same noise, seconds. Means over the seeds.

What this does not show: other numbers of states than ten; knockoffs, which need more true inputs.
"""

import argparse
import json
import warnings
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bcd_implicit import ImplicitRegressor, ImplicitRegressorCV, StabilitySelection
from experiments.selection.problems import LINEAR, PROBLEMS, Problem

__all__ = ["main"]

_STATES = 10
_FRESH = 2000


TARGETS: dict[str, Problem] = {
    name: (PROBLEMS | LINEAR)[name]
    for name in ("five linear, as much noise", "|u|", "products", "Friedman 1")
}


def _on_path(seed: int, **choice: Any) -> Any:
    return ImplicitRegressorCV(_STATES, random_state=seed, **choice)


WAYS: dict[str, Any] = {
    'alpha="auto"': lambda seed: ImplicitRegressor(_STATES, random_state=seed),
    "CV, minimum": lambda seed: _on_path(seed),
    "CV, one SE": lambda seed: _on_path(seed, rule="1se"),
    "BIC": lambda seed: _on_path(seed, criterion="bic"),
    "EBIC": lambda seed: _on_path(seed, criterion="ebic"),
    "stability": lambda seed: StabilitySelection(
        ImplicitRegressor(_STATES, random_state=seed), random_state=seed
    ),
}


def choose(target: str, way: str, n_samples: int, seed: int) -> dict[str, Any]:
    """Return what a way makes of one sample."""
    drawn = TARGETS[target].draw(seed, n_samples + _FRESH)
    X, y, true = drawn.X[:n_samples], drawn.y[:n_samples], drawn.true
    began = perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = WAYS[way](seed).fit(X, y)
    seconds = perf_counter() - began
    r2 = np.nan
    if hasattr(fitted, "predict"):
        r2 = fitted.score(drawn.X[n_samples:], drawn.y[n_samples:])
    support = fitted.support_
    return {
        "target": target,
        "rows": n_samples,
        "way": way,
        "seed": seed,
        "false": int((support & ~true).sum()),
        "missed": int((true & ~support).sum()),
        "r2": float(r2),
        "seconds": seconds,
    }


def summary(results: list[dict[str, Any]]) -> dict[tuple[str, int, str], dict[str, float]]:
    """Return means over the seeds for every target, number of rows and way."""
    cells: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in results:
        cells.setdefault((row["target"], row["rows"], row["way"]), []).append(row)
    return {
        key: {
            name: float(np.mean([row[name] for row in rows]))
            for name in ("false", "missed", "r2", "seconds")
        }
        for key, rows in cells.items()
    }


def show(console: Console, results: list[dict[str, Any]]) -> None:
    """Print a row for each way, target and number of rows."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("target", "rows", "way", "false", "missed", "R2", "s"):
        table.add_column(column, justify="left" if column in ("target", "way") else "right")
    last = None
    for (target, rows, way), mean in summary(results).items():
        head = (target, str(rows)) if (target, rows) != last else ("", "")
        last = (target, rows)
        r2 = "" if np.isnan(mean["r2"]) else f"{mean['r2']:.3f}"
        table.add_row(
            *head,
            way,
            f"{mean['false']:.1f}",
            f"{mean['missed']:.1f}",
            r2,
            f"{mean['seconds']:.1f}",
        )
    console.print(table)


def draw(results: list[dict[str, Any]], target: Path) -> None:
    """Write a figure: false inputs to the right and missed ones to the left, for every way."""
    means = summary(results)
    names = list(dict.fromkeys(name for name, _, _ in means))
    sizes = list(dict.fromkeys(size for _, size, _ in means))
    ways = list(dict.fromkeys(way for _, _, way in means))
    figure = Figure(figsize=(2.0 + 2.2 * len(names), 0.9 + (0.7 + 0.25 * len(ways)) * len(sizes)))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(len(sizes), len(names), sharex=True, sharey=True, squeeze=False)
    for row, size in zip(axes, sizes, strict=True):
        for axis, name in zip(row, names, strict=True):
            some = [means[name, size, way] for way in ways]
            axis.barh(ways, [one["false"] for one in some], color="C3", label="false")
            axis.barh(ways, [-one["missed"] for one in some], color="C0", label="missed")
            axis.axvline(0.0, color="k", lw=0.8)
            axis.set_title(f"{name}, {size:,} rows", fontsize=9)
    axes[0, 0].xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")  # both are counts
    axes[0, 0].invert_yaxis()
    axes[0, 0].legend(fontsize=8)
    figure.supxlabel("inputs, mean over the samples", fontsize=9)
    figure.savefig(target, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, nargs="+", default=[300, 1000])
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args(arguments)
    if options.seeds < 1 or min(options.samples) < 20:
        parser.error("--seeds must be at least 1 and --samples at least 20")
    console = Console()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "choices.json"
    results: list[dict[str, Any]] = []
    cells = [
        (name, way, n_samples, seed)
        for name in options.targets
        for n_samples in options.samples
        for way in options.ways
        for seed in range(options.seeds)
    ]
    for cell in track(cells, "choosing", console=console, transient=True):
        results.append(choose(*cell))
        file.write_text(json.dumps(results, indent=1))
    show(console, results)
    draw(results, file.with_suffix(".png"))
    console.print(f"wrote {file} and {file.with_suffix('.png')}")


if __name__ == "__main__":
    main()
