"""The experiment of the article: a model with the wrong number of states finds the right inputs.

400 points come from an implicit model with 20 states, 50 inputs, 100 outputs and 10 nonzero columns
of B. A model with 10 states, whose strength is chosen by the program, is to find exactly these
columns. With ``--full`` the other settings are run too (no noise, and 20 states without noise), and
the first moments are timed: importing, and the first fit.
"""

import argparse
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import precision_score, r2_score, recall_score

from bcd_implicit import ImplicitRegressor
from experiments import startup
from experiments.recovery_figure import write_figure
from experiments.teacher import Sample, draw

_COLUMNS = ("seed", "exact", "k", "prec", "recall", "corr", "margin", "true R2", "s", "alpha")


@dataclass(frozen=True)
class Outcome:
    """What one fit recovered; ``true_r2`` is over fresh points without noise, all outputs pooled.

    ``margin`` is the smallest norm of a true input over the largest of a false one in the dense fit
    that the selection started from; in the final model false inputs are exactly zero.
    """

    seed: int
    exact: bool
    n_selected: int
    precision: float
    recall: float
    correlation: float
    margin: float
    true_r2: float
    seconds: float
    alpha: float


def recover(sample: Sample, seed: int, n_states: int, n_init: int) -> ImplicitRegressor:
    """Fit with automatic strength; the truth is not looked at."""
    model = ImplicitRegressor(
        n_states, fit_feedthrough=False, n_init=n_init, random_state=seed, max_iter=400
    )
    with warnings.catch_warnings():
        # the table shows the accuracy that was reached; a little more to gain is no news
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(sample.U, sample.Y)


def measure(sample: Sample, model: ImplicitRegressor, seed: int, seconds: float) -> Outcome:
    """Compare a fitted model with the truth."""
    norms = model.feature_importances_
    dense = np.linalg.norm(model.path_[0].parameters.B, axis=0)
    true_norms = np.linalg.norm(sample.B, axis=0)
    false_top = dense[~sample.support].max()
    prediction = model.predict(sample.U_fresh)
    return Outcome(
        seed=seed,
        exact=bool((model.support_ == sample.support).all()),
        n_selected=int(model.support_.sum()),
        precision=float(precision_score(sample.support, model.support_, zero_division=0.0)),
        recall=float(recall_score(sample.support, model.support_)),
        correlation=float(np.corrcoef(norms, true_norms)[0, 1]),
        margin=float(dense[sample.support].min() / false_top) if false_top > 0.0 else np.inf,
        true_r2=float(r2_score(sample.Y_fresh, prediction, multioutput="variance_weighted")),
        seconds=seconds,
        alpha=float(model.alpha_),
    )


def run(
    console: Console, title: str, seeds: int, noise: float, n_states: int, n_init: int
) -> tuple[list[Outcome], tuple[Sample, ImplicitRegressor]]:
    """Run all seeds of a setting; also return the first sample with its model, for the figure."""
    outcomes: list[Outcome] = []
    first: tuple[Sample, ImplicitRegressor] | None = None
    for seed in track(range(seeds), description=title, console=console, transient=True):
        sample = draw(seed, noise=noise)
        began = perf_counter()
        model = recover(sample, seed, n_states, n_init)
        outcomes.append(measure(sample, model, seed, perf_counter() - began))
        first = first or (sample, model)
    if first is None:
        raise ValueError(f"seeds must be at least 1; got {seeds}")
    return outcomes, first


def show(console: Console, title: str, outcomes: list[Outcome]) -> None:
    """Print a row for every seed, and what holds for all."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for o in outcomes:
        table.add_row(
            str(o.seed),
            "yes" if o.exact else "NO",
            str(o.n_selected),
            f"{o.precision:.2f}",
            f"{o.recall:.2f}",
            f"{o.correlation:.3f}",
            f"{o.margin:.1f}",
            f"{o.true_r2:.5f}",
            f"{o.seconds:.2f}",
            f"{o.alpha:.0e}",
        )
    console.print(table)
    seconds = [o.seconds for o in outcomes]
    r2 = [o.true_r2 for o in outcomes]
    console.print(
        f" exact support {sum(o.exact for o in outcomes)} of {len(outcomes)}, "
        f"precision >= {min(o.precision for o in outcomes):.2f}, "
        f"recall >= {min(o.recall for o in outcomes):.2f}, "
        f"margin >= {min(o.margin for o in outcomes):.1f}\n"
        f" true R2 median {np.median(r2):.5f}, least {min(r2):.5f}; "
        f"seconds median {np.median(seconds):.2f}, most {max(seconds):.2f}\n",
        highlight=False,
    )


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="seeds 0 .. SEEDS - 1")
    parser.add_argument("--noise", type=float, default=0.1, help="relative deviation of the noise")
    parser.add_argument("--full", action="store_true", help="all settings of the README's table")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for figure and JSON")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.noise < 0.0:
        parser.error("--seeds must be at least 1 and --noise not negative")

    console = Console()
    draw_and_fit_once()
    settings = [(f"10 states, {options.noise:.0%} noise", options.seeds, options.noise, 10, 1)]
    if options.full:
        settings.append(("10 states, no noise", options.seeds, 0.0, 10, 1))
        settings.append(("20 states, no noise", min(options.seeds, 10), 0.0, 20, 4))
    results: dict[str, list[Outcome]] = {}
    figure: tuple[Sample, ImplicitRegressor] | None = None
    for title, *setting in settings:
        results[title], first = run(console, title, *setting)
        figure = figure or first
        show(console, title, results[title])

    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "sparsity_recovery.json"
    target.write_text(json.dumps({k: [asdict(o) for o in v] for k, v in results.items()}, indent=1))
    if options.full:
        for name, value in startup.measure().items():
            console.print(f" {name}: {value:.2f} s", highlight=False)
    if figure is not None:
        write_figure(*figure, options.out / "sparsity_recovery.png")
    console.print(f"wrote {target} and {target.with_suffix('.png')}")


def draw_and_fit_once() -> None:
    """Load or compile the kernels, so that the seconds in the table are those of fitting."""
    sample = draw(0, n_samples=50, n_outputs=3)
    recover(sample, 0, 3, 1)


if __name__ == "__main__":
    main()
