"""Connected models: chains and sums are always well-posed, feedback up to a gain that is found.

The figure shows the Perron-Frobenius eigenvalue of a closed loop over its gain, the gain at which
the certificate ends, and the output. What this cannot do: certify a loop that is stable only
because of signs; the criterion sees absolute values.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from bcd_implicit import IllPosedError, ImplicitModel, algebra
from bcd_implicit.wellposed import perron_frobenius

Array = NDArray[np.float64]


def random_model(seed: int, n_states: int = 12, width: int = 3) -> ImplicitModel:
    """Draw a model with as many inputs as outputs and row sums of 0.5."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n_states, n_states))
    A *= 0.5 / np.abs(A).sum(axis=1, keepdims=True)
    B, C = rng.standard_normal((n_states, width)), rng.standard_normal((width, n_states))
    return ImplicitModel(A, B, C, np.zeros((width, width)))


def largest_gain(model: ImplicitModel, width: int = 3) -> float:
    """Return the largest gain g, to one part in a million, with feedback ``g I`` certified."""
    low, high = 0.0, 1.0
    while high - low > 1e-6 * high:
        middle = 0.5 * (low + high)
        try:
            algebra.feedback(model, middle * np.eye(width))
            low = middle
        except IllPosedError:
            high = middle
    return low


def main(arguments: list[str] | None = None) -> None:
    """Run the experiment from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure")
    options = parser.parse_args(arguments)
    model, other = random_model(options.seed), random_model(options.seed + 1)
    U = np.random.default_rng(2).standard_normal((1000, 3))
    chain = np.abs(algebra.cascade(model, other).predict(U) - other.predict(model.predict(U))).max()
    total = np.abs(algebra.add(model, other).predict(U) - model.predict(U) - other.predict(U)).max()
    limit = largest_gain(model)
    gains = np.linspace(0.0, 0.999 * limit, 60)
    closed = [algebra.feedback(model, gain * np.eye(3)) for gain in gains]
    radii = [perron_frobenius(loop.A.toarray()) for loop in closed]
    outputs = np.array([loop.predict(U[:1])[0] for loop in closed])
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(gains, radii, color="#1d3557")
    left.axvline(limit, color="#d1495b", ls="--")
    left.set(xlabel="gain", ylabel="eigenvalue of |A|", title="certified below the dashed gain")
    right.plot(gains, outputs)
    right.set(xlabel="gain", ylabel="output", title="outputs of one input")
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "connections.png", dpi=130)
    Console().print(
        f"chain and sum differ from their parts by {chain:.1e} and {total:.1e}; feedback is "
        f"certified up to a gain of {limit:.6f}\nwrote {options.out / 'connections.png'}"
    )


if __name__ == "__main__":
    main()
