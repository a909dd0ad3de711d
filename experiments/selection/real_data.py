"""Choose 50 inputs of real data, learn from these alone, and compare the accuracy.

The protocol is that of the LassoNet paper: 70 % of the rows to train on, 10 % for what a method has
to validate, 20 % kept back; k inputs are chosen without those; extremely randomised trees, ten
forests whose mean accuracy counts, and our own model then learn from the chosen inputs. Gaps are
filled and inputs standardised by what is trained on. Rows of one mouse are never divided between
training and test.

What this does not show: what each method would reach if its settings were tuned for every data set.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcd_implicit import ImplicitClassifier
from experiments.selection.contenders import CONTENDERS, trees
from experiments.selection.datasets import DATASETS, Dataset, load, splits
from experiments.selection.running import rank_inputs

__all__ = ["main"]

_ALL = "all inputs"
_COMPARED = (
    "bcd_implicit",
    "LassoNet",
    "Fisher score",
    "HSIC-Lasso",
    "mutual information",
    "random forest",
    "l1 logistic",
    _ALL,
)
_FORESTS = 10  # by the seed of a single one the accuracy moves as much as between two methods
Row = dict[str, Any]


def learn(X: Any, y: Any, X_test: Any, y_test: Any, seed: int) -> tuple[float, float]:
    """Return the accuracies of trees, the mean of several forests, and of our own model."""
    ours = ImplicitClassifier(10, alpha=1e-3, random_state=seed)
    forests = [trees(y, seed * _FORESTS + index) for index in range(_FORESTS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            float(np.mean([forest.fit(X, y).score(X_test, y_test) for forest in forests])),
            float(ours.fit(X, y).score(X_test, y_test)),
        )


def compare(data: Dataset, name: str, method: str, k: int, seed: int, rows: Any) -> Row:
    """Select, learn and test on one split."""
    train, test = rows
    prepare = make_pipeline(SimpleImputer(), StandardScaler()).fit(data.X[train])
    X, X_test = prepare.transform(data.X[train]), prepare.transform(data.X[test])
    y, y_test = data.y[train], data.y[test]
    row: Row = {"data": name, "method": method, "seed": seed, "k": k}
    chosen, seconds = np.arange(X.shape[1]), 0.0
    if method != _ALL:
        ranking = rank_inputs(method, X, y, min(k, X.shape[1]), seed)
        if ranking.error:
            return {**row, "error": ranking.error}
        # trees draw by the order of columns: with it, equal sets would differ by up to 0.006
        chosen, seconds = np.sort(ranking.order[:k]), ranking.seconds
    by_trees, by_ours = learn(X[:, chosen], y, X_test[:, chosen], y_test, seed)
    row |= {"inputs": chosen.tolist(), "n": len(chosen)}
    return {**row, "trees": by_trees, "ours": by_ours, "seconds": seconds}


def summary(results: list[Row]) -> dict[tuple[str, str], Row]:
    """Return means and deviations over the seeds for every data set and method."""
    found: dict[tuple[str, str], Row] = {}
    for key in dict.fromkeys((row["data"], row["method"]) for row in results):
        rows = [row for row in results if (row["data"], row["method"]) == key]
        failed = [row["error"] for row in rows if "error" in row]
        if failed:
            found[key] = {"error": failed[0]}
            continue
        found[key] = {"seeds": len(rows)}
        for column in ("trees", "ours", "seconds"):
            values = [row[column] for row in rows]
            # of one value it is unknown
            deviation = float(np.std(values)) if len(values) > 1 else float("nan")
            found[key][column] = (float(np.mean(values)), deviation)
    return found


def show(console: Console, results: list[Row]) -> None:
    """Print means and deviations."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("data", "method", "trees", "our model", "s", "seeds"):
        table.add_column(column, justify="left" if column in ("data", "method") else "right")
    last = None
    for (data, method), row in summary(results).items():
        head = data if data != last else ""
        last = data
        if "error" in row:
            table.add_row(head, method, row["error"])
            continue
        table.add_row(
            head,
            method,
            "{:.3f} ± {:.3f}".format(*row["trees"]),
            "{:.3f} ± {:.3f}".format(*row["ours"]),
            "{:.1f}".format(row["seconds"][0]),
            str(row["seeds"]),
        )
    console.print(table)


def draw(results: list[Row], target: Path) -> None:
    """Write a figure: for every data set the accuracies of the trees."""
    found = summary(results)
    data = list(dict.fromkeys(key[0] for key in found))
    methods = list(dict.fromkeys(key[1] for key in found))
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(data)), layout="constrained")
    axis = figure.add_subplot()
    for index, method in enumerate(methods):
        places = [i for i, one in enumerate(data) if "trees" in found.get((one, method), {})]
        means = [found[data[i], method]["trees"][0] for i in places]
        marker = "*" if method == "bcd_implicit" else "o"
        size = 13 if marker == "*" else 6
        axis.plot(means, places, marker, ms=size, color=f"C{index}", label=method, alpha=0.85)
    axis.set_yticks(range(len(data)), data)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("mean accuracy of ten forests of randomised trees on the chosen inputs")
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(target, dpi=120)


def main(arguments: list[str] | None = None) -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    bundled = ["digits", "breast cancer"]
    methods = [*CONTENDERS, _ALL]
    parser.add_argument("--data", type=Path, help="folder of local files; OpenML otherwise")
    parser.add_argument("--sets", nargs="+", choices=list(DATASETS), default=bundled)
    parser.add_argument("--methods", nargs="+", choices=methods, default=list(_COMPARED))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--k", type=int, default=50, help="half of the inputs if there are fewer")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.k < 1:
        parser.error("--seeds and --k must be at least 1")
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "real_data.json"
    console = Console()
    results: list[Row] = []
    with Progress(console=console, transient=True) as progress:
        total = len(options.sets) * options.seeds * len(options.methods)
        task = progress.add_task("", total=total)
        for name in options.sets:
            data = load(name, options.data)
            p = data.X.shape[1]
            k = options.k if options.k < p else p // 2
            for seed, rows in enumerate(splits(data, options.seeds)):
                for method in options.methods:
                    progress.update(task, description=f"{name}, {method}", advance=1)
                    results.append(compare(data, name, method, k, seed, rows))
                    target.write_text(json.dumps(results, indent=1))
    show(console, results)
    draw(results, target.with_suffix(".png"))
    console.print(f"wrote {target} and {target.with_suffix('.png')}")


if __name__ == "__main__":
    main()
