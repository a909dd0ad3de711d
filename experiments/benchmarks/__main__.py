"""Run the comparisons: ``python -m experiments.benchmarks --help``."""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console

from experiments.benchmarks.harness import Comparison, Curve
from experiments.benchmarks.report import print_comparison, save, save_figures, save_tables

NAMES = ("subproblems", "equilibrium", "training", "recovery", "prediction", "scaling")


class _Module(Protocol):
    def run(self, *, full: bool) -> Iterator[Comparison | Curve]: ...


def main() -> None:
    """Run what was asked for; results are saved after each, so that nothing is lost."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks",
        description="Compare with other programs on the same data, in turns.",
    )
    parser.add_argument("--full", action="store_true", help="all sizes and the full time limits")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--out", type=Path, default=Path("out/benchmarks"), metavar="DIR")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=max(Console().width, 118))
    comparisons: list[Comparison] = []
    curves: list[Curve] = []
    for name in arguments.only:
        module = cast(_Module, importlib.import_module(f"experiments.benchmarks.{name}"))
        for result in module.run(full=arguments.full):
            if isinstance(result, Curve):
                curves.append(result)
            else:
                comparisons.append(result)
                print_comparison(console, result)
            save(arguments.out / "benchmarks.json", comparisons, curves)
    for path in save_figures(arguments.out, curves):
        console.print(f"wrote {path}")
    save_tables(arguments.out / "benchmarks.md", comparisons)
    console.print(f"wrote {arguments.out / 'benchmarks.json'} and benchmarks.md")


if __name__ == "__main__":
    main()
