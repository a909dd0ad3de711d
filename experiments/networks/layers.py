"""Layered networks trained by block-coordinate descent, beside scikit-learn's at equal time.

Then the architecture is set free: from the trained network the zeros of A may be filled up, and the
picture shows which were. Ours fits one-hot targets with the squared loss, for which the outputs are
refitted in closed form: on the digits that is 0.01 more accurate than the multinomial loss.
Strengths and steps, of both, were chosen on other data than they are compared on: the splits 100 to
103 of the digits, and the last 10,000 training images of Fashion-MNIST.

What this cannot do: convolutions are not trained, since a pattern knows which entries are zero, not
which are equal; and layers are as large as an n x n matrix is small.
"""

import argparse
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from bcd_implicit import ImplicitRegressor, Pattern
from experiments.networks.images import Images, accuracy, digits, fashion, one_hot

_SHAPES = ((60, 40), (40, 30, 20))


@dataclass(frozen=True)
class Settings:
    """Sizes of the layers, strengths of the penalties, and steps with and without the pattern.

    ``mlp_alpha`` is the strength of the penalty of scikit-learn's network, ``held_out`` the share
    of its images that say which epoch is the best.
    """

    sizes: tuple[int, ...]
    alpha: float
    l2: float
    steps: int
    free_steps: int
    mlp_alpha: float
    held_out: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """A layered network, the same one freed, and scikit-learn's of the same shape.

    Attributes
    ----------
    layered, freed : ImplicitRegressor
    accuracies : ndarray of shape (3,)
        On the images to test on, of the two and of scikit-learn's.
    losses : ndarray of shape (2,)
        On the images to train on, without penalties, before and after the zeros were freed.
    seconds : float
        That the layered network took, and scikit-learn's was given.
    """

    layered: ImplicitRegressor
    freed: ImplicitRegressor
    accuracies: NDArray[np.float64]
    losses: NDArray[np.float64]
    seconds: float


def trained_for(
    seconds: float,
    images: Images,
    sizes: tuple[int, ...],
    seed: int,
    alpha: float,
    held_out: float = 0.0,
) -> MLPClassifier:
    """Train scikit-learn's network, epoch by epoch, for as long as ours took.

    Of the network after each epoch, the one that is best on the images held out; or the last.
    """
    mlp = MLPClassifier(hidden_layer_sizes=sizes, alpha=alpha, random_state=seed)
    last = len(images.U) - int(held_out * len(images.U))
    best, highest = mlp, -1.0
    began = perf_counter()
    while perf_counter() - began < seconds:
        mlp.partial_fit(images.U[:last], images.y[:last], classes=np.unique(images.y))
        if last < len(images.U):
            score = mlp.score(images.U[last:], images.y[last:])
            if score > highest:
                best, highest = deepcopy(mlp), score
    return best


def compare(images: Images, settings: Settings, seed: int) -> Outcome:
    """Train the layered network and its rival, then free the zeros of A."""
    pattern, Y = Pattern.layers(*settings.sizes), one_hot(images.y)
    layered, freed = (
        ImplicitRegressor(
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
        layered.set_params(max_iter=settings.steps).fit(images.U, Y)
        seconds = perf_counter() - began
        mlp = trained_for(
            seconds, images, settings.sizes, seed, settings.mlp_alpha, settings.held_out
        )
        freed.model_ = layered.model_
        freed.set_params(pattern=pattern.with_free_states(), max_iter=settings.free_steps)
        freed.fit(images.U, Y)
    scores = [accuracy(model, images) for model in (layered, freed)]
    scores.append(float(mlp.score(images.U_test, images.y_test)))
    losses = [
        0.5 * float(((model.predict(images.U) - Y) ** 2).sum(axis=1).mean())
        for model in (layered, freed)
    ]
    return Outcome(layered, freed, np.array(scores), np.array(losses), seconds)


def fashion_settings(sizes: tuple[int, ...], rows: int, steps: int) -> Settings:
    """Return what suits 10,000 images of Fashion-MNIST, weaker penalties for more of them.

    Each further layer bounds its row sums once more, and C has to make up for it.
    """
    weaker = (10_000 / rows) ** 0.5
    strengths = (3e-4 * weaker, (1e-3 if len(sizes) < 3 else 1e-4) * weaker)
    return Settings(sizes, *strengths, steps, steps // 6, mlp_alpha=1e-4, held_out=0.1)


def draw(outcomes: list[tuple[str, Outcome]], target: Path) -> None:
    """Draw ``|A|`` before and after the zeros were freed."""
    figure = Figure(figsize=(3.2 * len(outcomes), 6.4), layout="constrained")
    for index, (name, outcome) in enumerate(outcomes):
        for row, (model, title) in enumerate(
            ((outcome.layered, name), (outcome.freed, "zeros freed"))
        ):
            axis = figure.add_subplot(2, len(outcomes), row * len(outcomes) + index + 1)
            image = axis.imshow(
                np.abs(model.A_) ** 0.5, cmap="Blues", interpolation="nearest", vmin=0.0, vmax=1.0
            )
            axis.set(title=f"{title}\nobjective {model.objective_:.4f}", xticks=[], yticks=[])
    figure.colorbar(image, ax=figure.axes, label="square root of |A|")
    figure.savefig(target, dpi=130)


def report(console: Console, groups: dict[tuple[str, Settings], list[Outcome]]) -> None:
    """Print means over splits, parts and starts; the standard error of the differences."""
    table = Table(
        box=SIMPLE_HEAD,
        title="test accuracy, and what freeing the zeros of A gained",
        padding=(0, 1, 0, 0),
    )
    columns = ("data", "layers", "s", "layered", "MLP", "ahead", "freed", "objective", "loss")
    for column in (*columns, "filled"):
        table.add_column(column, justify="right", no_wrap=True)
    for (name, settings), outcomes in groups.items():
        scores = np.array([outcome.accuracies for outcome in outcomes])
        ahead = scores[:, 0] - scores[:, 2]
        error = ""
        if len(ahead) > 1:
            error = f"+-{ahead.std(ddof=1) / len(ahead) ** 0.5:.4f}"
        layered, freed, mlp = scores.mean(axis=0)
        before, after = np.mean([outcome.losses for outcome in outcomes], axis=0)
        old = np.mean([outcome.layered.objective_ for outcome in outcomes])
        new = np.mean([outcome.freed.objective_ for outcome in outcomes])
        closed = ~Pattern.layers(*settings.sizes).A
        table.add_row(
            name,
            "-".join(map(str, settings.sizes)),
            f"{np.mean([outcome.seconds for outcome in outcomes]):.1f}",
            f"{layered:.4f}",
            f"{mlp:.4f}",
            f"{ahead.mean():.4f}{error}",
            f"{freed:.4f}",
            f"{old:.3f}>{new:.3f}",
            f"{before:.3f}>{after:.3f}",
            f"{np.count_nonzero(outcomes[0].freed.A_[closed])}/{closed.sum()}",
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="splits of the digits")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--fashion", action="store_true", help="Fashion-MNIST too, some minutes")
    parser.add_argument(
        "--data", type=Path, help="folder of Fashion-MNIST, else Debian's or OpenML"
    )
    parser.add_argument("--rows", type=int, default=60_000, help="of Fashion-MNIST")
    parser.add_argument("--parts", type=int, default=1, help="of so many rows, of Fashion-MNIST")
    parser.add_argument("--starts", type=int, default=1, help="random ones, of each such part")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure")
    options = parser.parse_args(arguments)
    if min(options.steps, options.rows, options.parts, options.starts) < 1:
        parser.error("all numbers must be at least 1")
    if options.seeds < (0 if options.fashion else 1):
        parser.error("--seeds must be at least 1, or 0 with --fashion")
    tasks: list[tuple[Images, Settings, int]] = []
    for sizes in _SHAPES:
        few = Settings(sizes, 1e-4, 1e-3, options.steps, options.steps // 2, mlp_alpha=0.1)
        tasks += [(digits(seed), few, seed) for seed in range(options.seeds)]
    if options.fashion:
        images = fashion(options.data, options.rows * options.parts)
        for sizes in _SHAPES:
            many = fashion_settings(sizes, min(options.rows, len(images.U)), options.steps)
            for k in range(options.parts):
                part = images.part(k, options.rows)
                tasks += [(part, many, k + start) for start in range(options.starts)]
    groups: dict[tuple[str, Settings], list[Outcome]] = {}
    for images, settings, seed in track(tasks, description="networks", transient=True):
        groups.setdefault((images.name, settings), []).append(compare(images, settings, seed))
    options.out.mkdir(parents=True, exist_ok=True)
    firsts = [
        (f"{name}, {'-'.join(map(str, settings.sizes))}", outcomes[0])
        for (name, settings), outcomes in groups.items()
    ]
    draw(firsts, options.out / "layers.png")
    console = Console(width=max(Console().width, 110))
    report(console, groups)
    console.print(f"wrote {options.out / 'layers.png'}")


if __name__ == "__main__":
    main()
