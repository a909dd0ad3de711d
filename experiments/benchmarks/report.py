"""The table on the terminal, the JSON file, the same as Markdown, and the figures."""

import json
import math
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from joblib import effective_n_jobs
from llvmlite.binding import get_host_cpu_name
from rich.console import Console
from rich.markup import escape  # errors may hold brackets, which are markup
from rich.table import Table

from experiments.benchmarks.harness import Comparison, Curve, Row

__all__ = ["print_comparison", "save", "save_figures", "save_tables"]

_PACKAGES = (
    "numpy scipy numba scikit-learn cvxpy clarabel scs osqp skglm torch torchdeq torchidl lassonet"
)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print one comparison as a table."""
    target = "" if math.isnan(comparison.target) else f"   target {comparison.target:g} x"
    table = Table(
        title=f"{comparison.group}: {comparison.work}{target}", title_justify="left", width=110
    )
    for name in ("contender", "median s", "least", "most", "runs", comparison.measure, "ratio"):
        table.add_column(name, justify="left" if name == "contender" else "right")
    for row in comparison.rows:
        table.add_row(*map(escape, _cells(comparison, row)))
    console.print(table)
    if comparison.note:
        console.print(comparison.note)


def _cells(comparison: Comparison, row: Row) -> list[str]:
    if row.error:
        return [row.name, "failed", "", "", "", "", row.error]
    if not row.seconds:
        return [row.name, "", "", "", "", f"{row.accuracy:.6g}", ""]
    times = [row.median, min(row.seconds), max(row.seconds)]
    ratio = "" if row is comparison.rows[0] else f"{comparison.ratio(row):.3g} x"
    figures = [*(f"{t:.3g}" for t in times), str(len(row.seconds)), f"{row.accuracy:.3g}"]
    return [row.name, *figures, ratio]


def save(path: Path, comparisons: list[Comparison], curves: list[Curve]) -> None:
    """Write everything as one JSON file, with the versions that made it."""
    content = {
        "machine": {
            "processor": f"{platform.machine()} {get_host_cpu_name()}",
            "cores": effective_n_jobs(-1),
            "python": platform.python_version(),
        },
        "versions": {name: _version(name) for name in _PACKAGES.split()},
        "comparisons": [
            asdict(one)
            | {"ratios": {row.name: one.ratio(row) for row in one.rows[1:] if not row.error}}
            for one in comparisons
        ],
        "curves": [asdict(curve) for curve in curves],
    }
    path.write_text(json.dumps(_plain(content), indent=1), encoding="utf-8")


def save_tables(path: Path, comparisons: list[Comparison]) -> None:
    """Write one Markdown table for each group: times of ours, ratios of the others."""
    lines: list[str] = []
    for group in dict.fromkeys(one.group for one in comparisons):
        chosen = [one for one in comparisons if one.group == group]
        lines += [f"**{group}**", "", f"| work | contender | {chosen[0].measure} | time |"]
        lines += ["|---|---|---|---|"]
        for one in chosen:
            lines += [_line(one, row) for row in one.rows]
        lines += [""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _line(comparison: Comparison, row: Row) -> str:
    first = row is comparison.rows[0]
    head = f"| {comparison.work if first else ''} | {row.name} |"
    if row.error:
        error = row.error.replace("|", r"\|")
        return f"{head} | failed: {error} |"
    head += f" {row.accuracy:.3g} |"
    if not row.seconds:
        return f"{head} |"
    least, most = min(row.seconds), max(row.seconds)
    if first:
        return f"{head} {row.median:.2g} s ({least:.2g} to {most:.2g}) |"
    ours = comparison.rows[0].median
    return f"{head} **{row.median / ours:.3g} x** ({least / ours:.3g} to {most / ours:.3g}) |"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def save_figures(folder: Path, curves: list[Curve]) -> list[Path]:
    """Draw the curves, objective against seconds on log axes, one panel for each problem."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    if not curves:
        return []
    columns = min(len(curves), 2)
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.2 * columns, 3.8 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(curves) :]:
        ax.set_visible(False)
    for ax, curve in zip(axes.flat, curves, strict=False):
        for name, points in curve.lines.items():
            ours = name.startswith("bcd_implicit")
            ax.plot(
                *zip(*points, strict=True),
                label=name,
                lw=2.2 if ours else 1.2,
                color="black" if ours else None,
                zorder=3 if ours else 2,
            )
        ax.set_title(curve.problem, fontsize=10)
        ax.set(xscale="log", yscale="log")
        ax.set(xlabel="seconds", ylabel=curve.measure)
        ax.grid(visible=True, which="major", alpha=0.3)
        ax.legend(fontsize=7)
    path = folder / "objective_against_time.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return [path]
