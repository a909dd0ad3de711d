"""Rank inputs without a linear effect among 50, and see who finds them.

Each method ranks the inputs of 1,000 points; targets with linear effects can be asked for. F1 is
that of as many first inputs as there are true ones; the rank is the place of the last true input.
Both are means over the seeds.

What this does not show: how a method chooses the number of inputs by itself.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.selection.contenders import CONTENDERS
from experiments.selection.problems import LINEAR, PROBLEMS
from experiments.selection.running import f1, rank_inputs, worst_rank

__all__ = ["main"]

_PROBLEMS = PROBLEMS | LINEAR
_COMPARED = (
    "bcd_implicit",
    "LassoNet",
    "STG",
    "random forest",
    "Boruta",
    "mutual information",
    "MultiTaskLassoCV",
)


def compare(problem: str, name: str, seeds: int, n_samples: int) -> dict[str, object]:
    """Return the figures of a method on a problem, or its first error."""
    quality, ranks, seconds = [], [], []
    for seed in range(seeds):
        drawn = _PROBLEMS[problem].draw(seed, n_samples)
        k = int(drawn.true.sum())
        ranking = rank_inputs(name, drawn.X, drawn.y, k, seed)
        if ranking.error:
            return {"problem": problem, "method": name, "error": ranking.error}
        quality.append(f1(ranking.order, drawn.true))
        ranks.append(worst_rank(ranking.order, drawn.true))
        seconds.append(ranking.seconds)
    return {
        "problem": problem,
        "method": name,
        "f1": float(np.mean(quality)),
        "exact": int(np.sum(np.array(quality) == 1.0)),
        "rank": float(np.mean(ranks)),
        "seconds": float(np.median(seconds)),
        "seeds": seeds,
    }


def show(console: Console, results: list[dict[str, object]]) -> None:
    """Print a row for each method and problem."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("problem", "method", "F1", "exact", "rank", "s"):
        table.add_column(column, justify="left" if column in ("problem", "method") else "right")
    last = None
    for row in results:
        head = str(row["problem"]) if row["problem"] != last else ""
        last = row["problem"]
        if "error" in row:
            table.add_row(head, str(row["method"]), str(row["error"]))
            continue
        table.add_row(
            head,
            str(row["method"]),
            f"{row['f1']:.3f}",
            f"{row['exact']} of {row['seeds']}",
            f"{row['rank']:.1f}",
            f"{row['seconds']:.2f}",
        )
    console.print(table)


def draw(results: list[dict[str, object]], target: Path) -> None:
    """Write a figure: a row of squares for each method, a column for each problem."""
    problems = list(dict.fromkeys(str(row["problem"]) for row in results))
    methods = list(dict.fromkeys(str(row["method"]) for row in results))
    quality = np.full((len(methods), len(problems)), np.nan)
    for row in results:
        place = methods.index(str(row["method"])), problems.index(str(row["problem"]))
        quality[place] = row.get("f1", np.nan)
    figure = Figure(figsize=(1.6 + 1.1 * len(problems), 1.4 + 0.5 * len(methods)))
    figure.set_layout_engine("constrained")
    axis = figure.add_subplot()
    image = axis.imshow(quality, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    for (i, j), value in np.ndenumerate(quality):
        text = "failed" if np.isnan(value) else f"{value:.2f}"
        axis.text(j, i, text, ha="center", va="center", color="w" if value < 0.6 else "k")
    axis.set_xticks(range(len(problems)), problems, rotation=30, ha="right")
    axis.set_yticks(range(len(methods)), methods)
    figure.colorbar(image, ax=axis, label="F1 at the true number of inputs")
    figure.savefig(target, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--problems", nargs="+", choices=list(_PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--methods", nargs="+", choices=list(CONTENDERS), default=list(_COMPARED))
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.samples < 2:
        parser.error("--seeds must be at least 1 and --samples at least 2")
    console = Console()
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "nonlinear.json"
    results: list[dict[str, object]] = []
    pairs = [(problem, name) for problem in options.problems for name in options.methods]
    for problem, name in track(pairs, description="ranking", console=console, transient=True):
        results.append(compare(problem, name, options.seeds, options.samples))
        target.write_text(json.dumps(results, indent=1))
    show(console, results)
    draw(results, target.with_suffix(".png"))
    console.print(f"wrote {target} and {target.with_suffix('.png')}")


if __name__ == "__main__":
    main()
