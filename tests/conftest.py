"""Teacher data, the grid of training problems, and an independent evaluation of the model."""

import math

import numpy as np
import pytest
from hypothesis import settings

import bcd_implicit.cuts as cuts
from bcd_implicit.activations import get_activation
from bcd_implicit.losses import get_loss
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")  # a failure must not depend on the day

ACTIVATIONS = {
    "relu": "relu",
    "leaky_relu": {"name": "leaky_relu", "slope": 0.3},
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "identity": "identity",
    "clip": {"name": "clip", "low": -0.7, "high": 0.9},
    "soft_threshold": {"name": "soft_threshold", "threshold": 0.2},
}
VARIANTS = {
    "plain": {},
    "bare": {"feedthrough": False, "intercept": False},
    "l1": {"l1": 0.01},
    "triangular": {"pattern": np.tri(4, k=-1, dtype=bool)},
    "large_kappa": {"kappa": 0.95},
    "excluded": {"group_weights": np.array([1.0, np.inf, 0.5, 2.0, np.inf])},
}


@pytest.fixture(params=ACTIVATIONS)
def activation(request):
    """Every activation."""
    return get_activation(ACTIVATIONS[request.param])


@pytest.fixture(params=["squared", "logistic", "multinomial"])
def loss(request):
    """Every loss."""
    return get_loss(request.param)


@pytest.fixture(params=VARIANTS)
def variant(request):
    """Changes to the problem of four states and five inputs."""
    return VARIANTS[request.param]


@pytest.fixture
def make_problem():
    """Make a small problem: four states, five inputs."""

    def make(activation="relu", loss="squared", **changes):
        n_inputs = changes.pop("n_inputs", 5)
        defaults = {
            "loss": get_loss(loss),
            "activation": get_activation(activation),
            "n_states": 4,
            "alpha": 0.01,
            "l2": 0.01,
            "kappa": 0.7,
            "group_weights": np.ones(n_inputs),
        }
        return TrainingProblem(**(defaults | changes))

    return make


@pytest.fixture
def make_data():
    """Make inputs and targets, of which two inputs matter, as RowBlocks."""

    def make(loss="squared", m=40, p=5, q=2, seed=0, **changes):
        rng = np.random.default_rng(seed)
        U = rng.standard_normal((m, p))
        signal = np.maximum(U[:, :1] - 0.5 * U[:, 1:2], 0.0) @ rng.standard_normal((1, q))
        signal += 0.5 * U[:, 1:2] + 0.1 * rng.standard_normal((m, q))
        name = get_loss(loss).name
        if name == "logistic":
            Y = (signal[:, :1] > np.median(signal[:, 0])).astype(float)
        elif name == "multinomial":
            Y = np.eye(3)[np.digitize(signal[:, 0], np.quantile(signal[:, 0], [0.3, 0.7]))]
        else:
            Y = signal
        weights = rng.uniform(0.5, 1.5, m)
        options = {
            "weights": weights / weights.sum(),
            "centre": np.zeros(p),
            "scale": np.ones(p),
        } | changes
        return RowBlocks(U, Y, **options)

    return make


@pytest.fixture
def small_blocks(monkeypatch):
    """Cut small data into several blocks."""
    monkeypatch.setattr(cuts, "_BLOCK_ROWS", (16, 16))


@pytest.fixture
def make_parameters():
    """Make random feasible parameters with row sums of |A| close to kappa."""

    def make(problem, data, seed=0):
        rng = np.random.default_rng(seed)
        n, p, q = problem.n_states, data.n_inputs, data.n_outputs
        A = rng.standard_normal((n, n)) + np.ones((n, n))
        A *= problem.kappa / np.abs(A).sum(axis=1, keepdims=True)
        return problem.feasible(
            Parameters(
                A=A,
                B=rng.standard_normal((n, p)),
                b=0.3 * rng.standard_normal(n),
                C=rng.standard_normal((q, n)),
                D=0.3 * rng.standard_normal((q, p)),
                d=rng.standard_normal(q),
            )
        )

    return make


def _states(problem, parameters, U):
    """Plain fixed-point iteration, to rounding errors."""
    Zin = U @ parameters.B.T + parameters.b
    X = np.zeros_like(Zin)
    for _ in range(3000):
        new = problem.activation.value(X @ parameters.A.T + Zin)
        change = np.abs(new - X).max()
        X = new
        if change < 1e-15:
            break
    return X


@pytest.fixture
def states_of():
    """Compute the states of raw inputs by plain iteration."""
    return _states


@pytest.fixture
def loss_of():
    """Compute the weighted loss at the equilibrium, independently of the package's passes."""

    def loss(problem, parameters, data):
        U = (np.asarray(data.U, dtype=float) - data.centre) * data.inverse_scale
        X = _states(problem, parameters, U)
        F = X @ parameters.C.T + U @ parameters.D.T + parameters.d
        if problem.loss.name == "squared":
            losses = 0.5 * ((data.Y - F) ** 2).sum(axis=1)
        elif problem.loss.name == "logistic":
            losses = (np.logaddexp(0.0, F) - data.Y * F).sum(axis=1)
        else:
            losses = np.logaddexp.reduce(F, axis=1) - (data.Y * F).sum(axis=1)
        return float(np.dot(data.weights, losses))

    return loss


@pytest.fixture
def objective_of(loss_of):
    """Compute the objective, likewise."""

    def objective(problem, parameters, data):
        value = loss_of(problem, parameters, data)
        groups = np.linalg.norm(np.vstack([parameters.B, parameters.D]), axis=0)
        for weight, norm in zip(problem.group_weights, groups, strict=True):
            if norm > 0.0:
                value += problem.alpha * weight * norm
        value += 0.5 * problem.l2 * (parameters.C**2).sum()
        return value + problem.l1 * np.abs(parameters.A).sum()

    return objective


@pytest.fixture
def check_feasible():
    """Check all constraints, exactly."""

    def check(problem, parameters):
        for row in np.abs(parameters.A):
            assert math.fsum(row) <= problem.kappa
        assert np.all(np.abs(parameters.A).sum(axis=1) <= problem.kappa)
        assert np.all(np.abs(parameters.A).sum(axis=1, keepdims=True)[:, 0] <= problem.kappa)
        assert not parameters.A[~problem.mask].any()
        excluded = np.isinf(problem.group_weights)
        assert not parameters.B[:, excluded].any()
        assert not parameters.D[:, excluded].any()
        if not problem.feedthrough:
            assert not parameters.D.any()
        if not problem.intercept:
            assert not parameters.b.any()
            assert not parameters.d.any()
        for block in vars(parameters).values():
            assert np.isfinite(block).all()

    return check


@pytest.fixture
def pick_rows():
    """Return rows of a problem's data picked by a mask, with weights that sum to one."""

    def pick(data, rows):
        weights = data.weights[rows] / data.weights[rows].sum()
        return RowBlocks(
            np.asarray(data.U)[rows], data.Y[rows], weights, data.centre, 1.0 / data.inverse_scale
        )

    return pick
