"""The lifted phase: no update raises its objective, and every iterate is feasible."""

from dataclasses import replace

import numpy as np
import pytest

import bcd_implicit.lifted as module
from bcd_implicit.activations import Activation
from bcd_implicit.gram import InputGram
from bcd_implicit.lifted import LiftedDescent, random_parameters
from bcd_implicit.solvers.state_qp import is_jointly_convex
from bcd_implicit.statistics import RowBlocks


def begin(data, problem, seed=0):
    rng = np.random.default_rng(seed)
    start = random_parameters(problem, data.n_inputs, data.n_outputs, rng)
    return LiftedDescent.start(data, problem, InputGram(data), start)


def run(lifted, check, iterations=3):
    """Update all blocks in turn and check each; return the objectives."""
    values = [lifted.objective()]
    for _ in range(iterations):
        for update in (lifted.update_states, lifted.update_readout, lifted.update_matrices):
            update()
            values.append(lifted.objective())
            # the second term: the rounding of a loss that is almost zero
            assert values[-1] <= values[-2] + 1e-12 * abs(values[-2]) + 1e-16
            check(lifted.problem, lifted.parameters)
    return np.array(values)


@pytest.fixture(autouse=True)
def _one_majorised_step(monkeypatch):
    monkeypatch.setattr(module, "_MATRIX_STEPS", 1)


def test_no_update_raises_the_objective(
    activation, loss, variant, make_problem, make_data, check_feasible, small_blocks
):
    problem = make_problem(activation, loss, **variant)
    values = run(begin(make_data(loss), problem), check_feasible)
    assert values[-1] < 0.999 * values[0]
    assert np.all(np.diff(values)[:3] < 0.0)  # every kind of block helps


@pytest.mark.parametrize("feedthrough", [True, False])
def test_steps_in_few_of_the_inputs(
    feedthrough, make_problem, make_data, check_feasible, monkeypatch
):
    monkeypatch.setattr("bcd_implicit.working_set._MOST_COLUMNS", 3)
    values = run(begin(make_data(), make_problem(feedthrough=feedthrough)), check_feasible)
    assert values[-1] < 0.999 * values[0]


def test_no_update_raises_the_objective_where_states_are_not_convex(
    activation, loss, make_problem, make_data, make_parameters, check_feasible
):
    problem, data = make_problem(activation, loss, kappa=0.95), make_data(loss)
    lifted = begin(data, problem)
    A = make_parameters(problem, data).A
    if activation.lipschitz < 1.0:
        A = A / activation.lipschitz * 0.999  # as far as well-posedness goes
        problem = replace(problem, kappa=0.95 / activation.lipschitz)
        lifted.problem = problem
    lifted.parameters = problem.feasible(replace(lifted.parameters, A=A))
    Q = lifted.parameters.C.T @ loss.curvature(data.n_outputs) @ lifted.parameters.C
    assert not is_jointly_convex(
        lifted.parameters.A, lifted.multipliers, 0 * Q, lipschitz=activation.lipschitz
    )
    run(lifted, check_feasible)


def test_the_objective_is_the_sum_of_its_terms(
    activation, loss, variant, make_problem, make_data, small_blocks
):
    problem, data = make_problem(activation, loss, **variant), make_data(loss)
    lifted = begin(data, problem)
    for _ in range(2):
        lifted.update_states()
        lifted.update_readout()
        lifted.update_matrices()
    new = lifted.parameters
    X = np.concatenate([block.X for block in data.blocks])
    Z = X @ new.A.T + data.U @ new.B.T + new.b
    F = X @ new.C.T + data.U @ new.D.T + new.d
    divergence = activation.potential(X) + activation.conjugate(Z) - X * Z
    value = loss.value(data.Y, F, data.weights) + problem.penalty(new)
    value += data.weights @ divergence @ lifted.multipliers
    assert lifted.objective() == pytest.approx(value, rel=1e-9)


def test_the_start_is_on_the_activation_and_prices_the_loss(make_problem, make_data):
    problem, data = make_problem("tanh"), make_data()
    lifted = begin(data, problem)
    new = lifted.parameters
    (block,) = data.blocks
    np.testing.assert_allclose(block.X, np.tanh(data.U @ new.B.T + new.b), rtol=1e-14)
    np.testing.assert_allclose(lifted.multipliers, 10.0 * (new.C**2).sum() / 4)


def test_the_objective_does_not_depend_on_the_blocks(make_problem, make_data, monkeypatch):
    problem = make_problem("tanh", "multinomial")
    values = []
    for rows in (16, 256):
        monkeypatch.setattr("bcd_implicit.cuts._BLOCK_ROWS", (rows, rows))
        values.append(run(begin(make_data("multinomial"), problem), lambda *_: None))
    # L-BFGS stops short of the readout's minimum, and amplifies rounding errors on its way
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


def test_many_more_steps_reach_a_stationary_point_of_the_matrices(make_problem, make_data):
    lifted = begin(make_data(), make_problem("tanh"))
    for _ in range(1000):
        lifted.update_matrices()
    before = lifted.objective()
    lifted.update_matrices()
    assert before - lifted.objective() <= 1e-6 * before


def test_constant_targets(make_problem, make_data, check_feasible):
    data = make_data()
    data.Y[:] = 3.0
    lifted = begin(data, make_problem())
    values = run(lifted, check_feasible)
    assert np.all(lifted.multipliers > 0.0)
    assert np.isfinite(values).all()


def test_one_state_one_input_one_sample(activation, loss, make_problem, make_data, check_feasible):
    problem = make_problem(activation, loss, n_states=1, n_inputs=1)
    data = make_data(loss, m=1, p=2)
    data = type(data)(data.U[:, :1], data.Y, np.ones(1), np.zeros(1), np.ones(1))
    run(begin(data, problem), check_feasible)


def test_no_input_at_all(make_problem, make_data, check_feasible):
    problem = make_problem(group_weights=np.full(5, np.inf))
    run(begin(make_data(), problem), check_feasible)


@pytest.mark.parametrize(
    ("activation", "intercept", "random"),
    [
        ("tanh", True, True),
        ("sigmoid", True, True),
        ("tanh", False, False),
        ("relu", True, False),
    ],
)
def test_odd_activations_start_with_random_intercepts(activation, intercept, random, make_problem):
    problem = make_problem(activation, intercept=intercept)
    start = random_parameters(problem, 5, 2, np.random.default_rng(0))
    assert start.b.all() if random else not start.b.any()


def test_random_parameters_leave_excluded_inputs_alone(make_problem):
    problem = make_problem(group_weights=np.array([1.0, np.inf, 1.0]), n_states=200)
    start = random_parameters(problem, 3, 2, np.random.default_rng(0))
    assert start.active.tolist() == [True, False, True]
    assert start.B.std(ddof=0) == pytest.approx(np.sqrt(1 / 3), rel=0.1)  # unit variance of z
    assert not start.A.any()
    assert not start.C.any()


def test_an_activation_without_a_kernel_is_refused(make_problem, make_data):
    class Sine(Activation):
        name = "sine"

        def value(self, Z, out=None):
            return np.sin(Z, out=out)

        def derivative(self, Z):
            return np.cos(Z)

    lifted = begin(make_data(), make_problem(Sine()))
    with pytest.raises(ValueError, match="no compiled kernel"):
        lifted.update_states()


def test_states_that_explain_nothing_get_a_price_all_the_same(make_problem):
    # an even target of states that are odd: C is rounding errors
    U = np.linspace(-3.0, 3.0, 101)[:, None]
    Y = (U**2 - np.mean(U**2)) / np.std(U**2)
    data = RowBlocks(U, Y, np.full(101, 1.0), np.zeros(1), np.ones(1))
    lifted = begin(data, make_problem("tanh", n_inputs=1, intercept=False))
    assert (lifted.multipliers > 1e-3).all()
    run(lifted, lambda *_: None)
