"""Run the comparisons: ``python -m experiments.benchmarks --help``."""

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from rich.console import Console

from experiments.benchmarks.harness import Comparison, Curve, Row, in_a_line
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
        for result in _results(name, full=arguments.full):
            if isinstance(result, Curve):
                curves.append(result)
                save_figures(arguments.out, curves)
            else:
                comparisons.append(result)
                print_comparison(console, result)
                save_tables(arguments.out / "benchmarks.md", comparisons)
            save(arguments.out / "benchmarks.json", comparisons, curves)
    console.print(f"wrote benchmarks.json, benchmarks.md and figures to {arguments.out}")


def _results(name: str, *, full: bool) -> Iterator[Comparison | Curve]:
    """Yield the results of a module; what ends it is one, and others still run."""
    try:
        module = cast(_Module, importlib.import_module(f"experiments.benchmarks.{name}"))
        yield from module.run(full=full)
    except Exception as error:
        rows = [Row("what is left", [], error=in_a_line(error))]
        yield Comparison(name, "ended early", "", rows)


if __name__ == "__main__":
    main()
