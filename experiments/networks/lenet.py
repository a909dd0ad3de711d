"""LeNet-5: seconds and megabytes of conversion, picture and a batch of predictions.

Also the speed of back-substitution against PyTorch on the original multi-layer perceptrons. What
this cannot do: a convolution is a sparse matrix here, with one entry for each use of a weight, so
that large images need memory that PyTorch does not.
"""

import argparse
import resource
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from threadpoolctl import threadpool_limits
from torch import nn

from bcd_implicit.convert import from_torch
from experiments.networks.patterns import show_pattern

_SHAPES = ((784, 60, 40, 10), (784, 256, 128, 10), (784, 1000, 1000, 10))


def lenet() -> nn.Sequential:
    """Return LeNet-5 for images of 28 x 28, with rectified units and maxima."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def megabytes() -> float:
    """Return the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed(sizes: tuple[int, ...], dtype: torch.dtype, repeats: int) -> float:
    """Return the median speed of a converted perceptron, that of PyTorch being 1, on one thread."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    net = nn.Sequential(*layers[:-1]).to(dtype).eval()
    model = from_torch(net, sizes[0])
    inputs_ = torch.randn(1000, sizes[0], dtype=dtype)
    U = inputs_.numpy()
    seconds = np.empty((2, repeats))
    torch.set_num_threads(1)
    with torch.no_grad(), threadpool_limits(1):
        for k in range(repeats):
            began = perf_counter()
            net(inputs_)
            middle = perf_counter()
            model.predict(U)
            seconds[:, k] = middle - began, perf_counter() - middle
    theirs, ours = np.median(seconds, axis=1)
    return float(theirs / ours)


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    console = Console()
    torch.manual_seed(0)
    net = lenet().double().eval()
    U = np.random.default_rng(0).random((1000, 784))
    options.out.mkdir(parents=True, exist_ok=True)
    before, began = megabytes(), perf_counter()
    model = from_torch(net, input_shape=(1, 28, 28))
    converted = perf_counter()
    picture = Figure(figsize=(7, 7), layout="constrained")
    show_pattern(model, picture, (1, 1, 1))
    picture.axes[0].set_title("A of LeNet-5: layers from last to first, as in the article")
    picture.savefig(options.out / "lenet.png", dpi=130)
    drawn = perf_counter()
    model.predict(U)
    ended = perf_counter()
    console.print(
        f"LeNet-5: {model.n_states} states, {model.A.nnz} nonzeros in A; conversion "
        f"{converted - began:.2f} s, picture {drawn - converted:.2f} s, 1,000 predictions "
        f"{ended - drawn:.2f} s; {megabytes():.0f} MB in all, of which {before:.0f} MB were "
        "PyTorch and matplotlib"
    )
    for sizes in _SHAPES:
        for dtype in (torch.float32, torch.float64):
            console.print(
                f"{'-'.join(map(str, sizes))}, {dtype}: {speed(sizes, dtype, options.repeats):.2f} "
                "of the speed of PyTorch, batch 1,000"
            )
    console.print(f"wrote {options.out / 'lenet.png'}")


if __name__ == "__main__":
    main()
