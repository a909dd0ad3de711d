"""One network of each kind as an implicit model: exactness on 1,000 inputs, and where A is zero.

The last panel is LeNet-5, of which `experiments.networks.lenet` draws the picture of the article.
What this cannot do: networks whose graph depends on the data, attention and layer normalisation (no
states with a Lipschitz constant), and recurrent networks without a fixed number of steps.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.sparse import csr_array
from scipy.special import expit, softmax
from sklearn.neural_network import MLPRegressor
from torch import nn

from bcd_implicit import ImplicitModel, convert
from bcd_implicit.convert import VectorField, from_torch
from experiments.networks.lenet import lenet
from experiments.networks.patterns import show_pattern

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Entry:
    """A network, the model that it became, and the original as a function of rows."""

    name: str
    model: ImplicitModel
    original: Callable[[Array], Array]


class Residual(nn.Module):  # type: ignore[misc]  # PyTorch has no types here
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``relu(x + second(relu(norm(first(x)))))``."""
        return torch.relu(x + self.second(torch.relu(self.norm(self.first(x)))))


def _torch(name: str, net: nn.Module, shape: tuple[int, ...]) -> Entry:
    net = net.double().eval()

    def original(U: Array) -> Array:
        with torch.no_grad():
            out = net(torch.from_numpy(U).reshape(len(U), *shape))
        return np.asarray(out.reshape(len(U), -1).numpy())

    return Entry(name, from_torch(net, input_shape=shape), original)


def _iterated(step: Callable[[Array, Array], Array], n: int, times: int) -> Callable[..., Array]:
    def original(U: Array) -> Array:
        x = np.zeros((len(U), n))
        for _ in range(times):
            x = step(x, U)
        return x

    return original


def _soft(Z: Array, threshold: float) -> Array:
    return np.sign(Z) * np.maximum(np.abs(Z) - threshold, 0.0)


def entries(seed: int) -> list[Entry]:
    """Draw one network of each kind."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    draw = rng.standard_normal
    X = draw((200, 12))
    mlp = MLPRegressor(hidden_layer_sizes=(30, 20, 10), tol=0.1, random_state=seed).fit(X, X[:, 0])
    W, V, b = 0.3 * draw((12, 12)), draw((12, 4)), draw(12)
    loop = 0.9 * W / np.abs(W).sum(axis=1).max()
    rnn = nn.RNN(4, 12, batch_first=True).double()
    lstm = nn.LSTM(4, 6, batch_first=True).double()
    field = VectorField.of(0.4 * draw((4, 12)), 0.4 * draw((12, 4)), None, b)
    gate = (draw((12, 4)), W)
    D = 0.3 * draw((4, 12))
    L = float(np.linalg.norm(D, 2) ** 2)
    centres = draw((5, 4))
    atoms = np.linalg.qr(draw((16, 12)))[0] + 0.02 * draw((16, 12))  # incoherent
    largest = float(np.linalg.norm(atoms, 2) ** 2)
    filters, mutual = draw((12, 4)), 0.3 * draw((12, 12))

    def recurrent(net: nn.Module) -> Callable[[Array], Array]:
        def original(U: Array) -> Array:
            with torch.no_grad():
                out = net(torch.from_numpy(U).reshape(len(U), 6, 4))[0]
            return np.asarray(out.reshape(len(U), -1).numpy())

        return original

    def weights(net: nn.Module) -> tuple[Array, Array, Array]:
        hh, ih, b_hh, b_ih = (
            getattr(net, f"{name}_l0").detach().numpy()
            for name in ("weight_hh", "weight_ih", "bias_hh", "bias_ih")
        )
        return hh, ih, b_hh + b_ih

    def slope(x: Array) -> Array:
        return np.asarray(np.tanh(x @ field.W.T + field.b) @ field.V.T)

    def euler(U: Array) -> Array:
        x = U
        for _ in range(8):
            x = x + slope(x) / 8
        return x

    def kutta(U: Array) -> Array:
        x, h = U, 1 / 4
        for _ in range(4):
            k = [slope(x)]
            for part in (0.5, 0.5, 1.0):
                k.append(slope(x + part * h * k[-1]))
            x = x + h / 6 * (k[0] + 2 * k[1] + 2 * k[2] + k[3])
        return x

    def implicit(U: Array) -> Array:
        x = U
        for _ in range(8):
            start = x
            for _ in range(100):
                x = start + slope(x) / 8
        return x

    def cell(U: Array) -> Array:
        h, out = np.zeros((len(U), 12)), []
        for t in range(6):
            before = h
            for _ in range(400):
                h = np.maximum((h + before) @ loop.T + U[:, 4 * t : 4 * t + 4] @ V.T + b, 0.0)
            out.append(h)
        return np.hstack(out)

    def gated(U: Array) -> Array:
        x = c = np.zeros((len(U), 12))
        for _ in range(5):
            opening = expit(U @ gate[0].T + x @ gate[1].T)
            c = opening * c + opening * (U @ V.T + x @ W.T)
            x = _soft(c, 0.3)
        return x

    residual = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        Residual(3),
        Residual(3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    deep = convert.deep_equilibrium(loop, V, b, np.eye(12), np.zeros(12))
    return [
        Entry("MLP (scikit-learn)", convert.from_sklearn(mlp), lambda U: mlp.predict(U)[:, None]),
        _torch("residual block", Residual(3), (3, 8, 8)),
        _torch("residual network", residual, (1, 8, 8)),
        Entry("recurrent, 6 steps", convert.rnn(*weights(rnn), 6), recurrent(rnn)),
        Entry("LSTM, 6 steps", convert.lstm(*weights(lstm), 6), recurrent(lstm)),
        Entry("equilibrium cell, 6 steps", convert.equilibrium_rnn(loop, V, b, 6), cell),
        Entry(
            "deep equilibrium",
            deep,
            _iterated(lambda x, U: np.maximum(x @ loop.T + U @ V.T + b, 0.0), 12, 1000),
        ),
        Entry("ODE, explicit Euler", convert.explicit_euler(field, 1.0, 8), euler),
        Entry("ODE, Runge-Kutta 4", convert.runge_kutta(field, 1.0, 4), kutta),
        Entry("ODE, implicit Euler", convert.implicit_euler(field, 1.0, 8), implicit),
        Entry(
            "ISTA, 5 iterations",
            convert.ista(D, 0.1, 5),
            _iterated(lambda x, U: _soft(x - (x @ D.T - U) @ D / L, 0.1 / L), 12, 5),
        ),
        Entry(
            "sparse code, optimum",
            convert.sparse_code(atoms, 0.1),
            _iterated(
                lambda x, U: _soft(x - (x @ atoms.T - U) @ atoms / largest, 0.1 / largest), 12, 500
            ),
        ),
        Entry(
            "LISTA, 5 iterations",
            convert.lista(filters, mutual, 0.3, 5),
            _iterated(lambda x, U: _soft(U @ filters.T + x @ mutual.T, 0.3), 12, 5),
        ),
        Entry("adaptive ISTA", convert.adaptive_ista(V, W, gate, gate, 0.3, 5), gated),
        Entry(
            "k-means assignment",
            convert.kmeans_assignment(centres),
            lambda U: softmax(-((U[:, None] - centres) ** 2).sum(axis=2), axis=1),
        ),
        _torch("LeNet-5", lenet(), (1, 28, 28)),
    ]


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figures")
    options = parser.parse_args(arguments)
    table = Table(box=SIMPLE_HEAD, title="largest difference from the original, 1,000 inputs")
    for name in ("network", "states", "nonzeros of A", "levels", "difference", "predict, ms"):
        table.add_column(name, justify="left" if name == "network" else "right")
    figure = Figure(figsize=(10, 11), layout="constrained")
    networks = entries(options.seed)
    for index, entry in enumerate(networks):
        model = entry.model
        U = np.random.default_rng(1).standard_normal((1000, model.n_inputs))
        model.predict(U[:2])  # loads or compiles kernels
        began = perf_counter()
        prediction = model.predict(U)
        milliseconds = 1e3 * (perf_counter() - began)
        difference = float(np.abs(prediction - entry.original(U)).max())
        show_pattern(model, figure, (4, 4, index + 1))
        figure.axes[-1].set_title(f"{entry.name}\n{model.n_states} states", fontsize=9)
        levels = getattr(model.contraction, "levels", 1)
        table.add_row(
            entry.name,
            str(model.n_states),
            str(csr_array(model.A).nnz),
            str(levels),
            f"{difference:.1e}",
            f"{milliseconds:.0f}",
        )
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "gallery.png", dpi=130)
    console = Console()
    console.print(table)
    console.print(f"wrote {options.out / 'gallery.png'}")


if __name__ == "__main__":
    main()
