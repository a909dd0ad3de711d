"""Layered networks trained by block-coordinate descent, beside scikit-learn's at equal time.

Then the architecture is set free: from the trained network the zeros of A may be filled up, and the
picture shows which were. What this cannot do: convolutions are not trained, since a pattern knows
which entries are zero, not which are equal; and layers are as large as an n x n matrix is small.
"""

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from bcd_implicit import ImplicitClassifier, Pattern
from experiments.networks.images import Images, digits, fashion

_SHAPES = ((60, 40), (40, 30, 20))


@dataclass(frozen=True)
class Settings:
    """Sizes of the layers, strengths of the penalties, and steps with and without the pattern."""

    sizes: tuple[int, ...]
    alpha: float
    l2: float
    steps: int
    free_steps: int


@dataclass(frozen=True)
class Outcome:
    """A layered network, the same one freed, and scikit-learn's of the same shape."""

    layered: ImplicitClassifier
    freed: ImplicitClassifier
    mlp: MLPClassifier
    accuracies: tuple[float, float, float]
    losses: tuple[float, float, float]
    seconds: tuple[float, float]


def trained_for(seconds: float, images: Images, sizes: tuple[int, ...], seed: int) -> MLPClassifier:
    """Train scikit-learn's network, epoch by epoch, for as long as ours took."""
    mlp = MLPClassifier(hidden_layer_sizes=sizes, random_state=seed)
    began = perf_counter()
    while perf_counter() - began < seconds:
        mlp.partial_fit(images.U, images.y, classes=np.unique(images.y))
    return mlp


def compare(images: Images, settings: Settings, seed: int) -> Outcome:
    """Train the layered network and its rival, then free the zeros of A."""
    pattern = Pattern.layers(*settings.sizes)
    layered, freed = (
        ImplicitClassifier(
            sum(settings.sizes),
            pattern=pattern,
            alpha=settings.alpha,
            l2=settings.l2,
            fit_feedthrough=False,
            standardize=False,
            warm_start=True,
            random_state=seed,
        )
        for _ in range(2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a number of steps is what was asked
        began = perf_counter()
        layered.set_params(max_iter=settings.steps).fit(images.U, images.y)
        ours = perf_counter() - began
        mlp = trained_for(ours, images, settings.sizes, seed)
        freed.model_ = layered.model_
        freed.set_params(pattern=pattern.with_free_states(), max_iter=settings.free_steps)
        began = perf_counter()
        freed.fit(images.U, images.y)
        extra = perf_counter() - began
    models = (layered, freed, mlp)
    a, b, c = (float(model.score(images.U_test, images.y_test)) for model in models)
    x, y, z = (float(log_loss(images.y, model.predict_proba(images.U))) for model in models)
    return Outcome(layered, freed, mlp, (a, b, c), (x, y, z), (ours, extra))


def draw(outcomes: list[tuple[str, Settings, Outcome]], target: Path) -> None:
    """Draw ``|A|`` before and after the zeros were freed."""
    figure = Figure(figsize=(3.2 * len(outcomes), 6.4), layout="constrained")
    for index, (name, settings, outcome) in enumerate(outcomes):
        shape = "-".join(map(str, settings.sizes))
        for row, (model, title) in enumerate(
            ((outcome.layered, f"{name}, {shape}"), (outcome.freed, "zeros freed"))
        ):
            axis = figure.add_subplot(2, len(outcomes), row * len(outcomes) + index + 1)
            axis.imshow(np.abs(model.A_) ** 0.5, cmap="Blues", interpolation="nearest")
            axis.set(title=f"{title}\nobjective {model.objective_:.4f}", xticks=[], yticks=[])
    figure.savefig(target, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="splits of the digits")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--fashion", action="store_true", help="Fashion-MNIST too, some minutes")
    parser.add_argument("--data", type=Path, help="folder of Fashion-MNIST; OpenML by default")
    parser.add_argument("--rows", type=int, default=60_000, help="of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure")
    options = parser.parse_args(arguments)
    tasks: list[tuple[Images, Settings, int]] = []
    for sizes in _SHAPES:
        few = Settings(sizes, 3e-4, 3e-3, options.steps, options.steps)
        tasks += [(digits(seed), few, seed) for seed in range(options.seeds)]
    if options.fashion:
        images = fashion(options.data, options.rows)
        for sizes in _SHAPES:
            tasks.append(
                (images, Settings(sizes, 4e-4, 4e-4, options.steps, options.steps // 3), 0)
            )
    table = Table(
        box=SIMPLE_HEAD,
        title="test accuracy, and what freeing the zeros of A gained",
        padding=(0, 1, 0, 0),
    )
    for column in ("data", "layers", "s", "layered", "MLP", "freed", "objective", "loss", "filled"):
        table.add_column(column, justify="right", no_wrap=True)
    console = Console(width=max(Console().width, 100))
    first: dict[tuple[str, tuple[int, ...]], tuple[str, Settings, Outcome]] = {}
    for images, settings, seed in tasks:
        outcome = compare(images, settings, seed)
        first.setdefault((images.name, settings.sizes), (images.name, settings, outcome))
        a, b, c = outcome.accuracies
        closed = ~Pattern.layers(*settings.sizes).A
        table.add_row(
            images.name,
            "-".join(map(str, settings.sizes)),
            f"{outcome.seconds[0]:.1f}",
            f"{a:.4f}",
            f"{c:.4f}",
            f"{b:.4f}",
            f"{outcome.layered.objective_:.3f}>{outcome.freed.objective_:.3f}",
            f"{outcome.losses[0]:.3f}>{outcome.losses[1]:.3f}",
            f"{np.count_nonzero(outcome.freed.A_[closed])}/{closed.sum()}",
        )
    options.out.mkdir(parents=True, exist_ok=True)
    draw(list(first.values()), options.out / "layers.png")
    console.print(table)
    console.print(f"wrote {options.out / 'layers.png'}")


if __name__ == "__main__":
    main()
