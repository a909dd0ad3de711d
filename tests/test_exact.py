"""The exact phase: the true objective falls, gradients are those of the equilibrium."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

import bcd_implicit.forward as forward
import bcd_implicit.stepper as module
import bcd_implicit.working_set as working_set_module
from bcd_implicit.balance import balance
from bcd_implicit.curvature import Curvature
from bcd_implicit.exact import evaluate
from bcd_implicit.forward import true_objective
from bcd_implicit.gram import InputGram
from bcd_implicit.problem import Parameters
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.stepper import Stepper
from bcd_implicit.working_set import most_sweeps, working_set

KINKS = {"relu": [0.0], "leaky_relu": [0.0], "clip": [-0.7, 0.9], "soft_threshold": [-0.2, 0.2]}


def first_point(data, problem, parameters):
    data.start_states(problem.n_states)
    point = evaluate(data, problem, parameters)
    data.accept_trial()
    return point


def steps(data, problem, point, number):
    """Make steps from a point; return all points."""
    stepper = Stepper(data, problem, InputGram(data))
    points = [point]
    for _ in range(number):
        new = stepper.step(points[-1])
        if new is None:
            break
        points.append(new)
    return points


def test_every_step_lowers_the_true_objective(
    activation,
    loss,
    variant,
    make_problem,
    make_data,
    make_parameters,
    states_of,
    objective_of,
    check_feasible,
    small_blocks,
):
    problem, data = make_problem(activation, loss, **variant), make_data(loss)
    start = make_parameters(problem, data)
    points = steps(data, problem, first_point(data, problem, start), 6)
    values = np.array([point.objective for point in points])
    assert len(points) >= 4
    assert np.all(np.diff(values) < 0.0)
    assert values[-1] < 0.99 * values[0]
    for point in points:
        check_feasible(problem, point.parameters)
        expected = objective_of(problem, point.parameters, data)
        assert point.objective == pytest.approx(expected, rel=1e-8)
        assert 0.0 <= point.error <= 1e-7
    X = np.concatenate([block.X for block in data.blocks])
    np.testing.assert_allclose(
        X, states_of(problem, points[-1].parameters, data.U), atol=points[-1].error + 1e-13
    )
    value, error = true_objective(data, problem, points[-1].parameters)
    assert value == pytest.approx(values[-1], rel=1e-9)
    assert error <= 1e-7


def test_large_kappa(activation, loss, make_problem, make_data, make_parameters, check_feasible):
    """As far as well-posedness goes: the sigmoid admits row sums up to 4."""
    problem = make_problem(activation, loss, kappa=0.95 / activation.lipschitz)
    data = make_data(loss)
    points = steps(data, problem, first_point(data, problem, make_parameters(problem, data)), 4)
    assert np.all(np.diff([point.objective for point in points]) < 0.0)
    assert len(points) >= 3
    for point in points:
        check_feasible(problem, point.parameters)


@pytest.mark.parametrize("flags", [(True, True), (True, False), (False, True)], ids=str)
def test_gradients_against_differences_through_the_equilibrium(
    activation, loss, flags, make_problem, make_data, make_parameters, states_of, loss_of, pick_rows
):
    feedthrough, intercept = flags
    problem = make_problem(
        activation, loss, n_states=3, feedthrough=feedthrough, intercept=intercept, kappa=0.9
    )
    data = make_data(loss, m=16)
    parameters = make_parameters(problem, data, seed=1)
    X = states_of(problem, parameters, data.U)
    Z = X @ parameters.A.T + data.U @ parameters.B.T + parameters.b
    kinks = np.array(KINKS.get(activation.name, [np.inf]))
    far = (np.abs(Z[:, :, np.newaxis] - kinks) > 0.02).all(axis=(1, 2))
    assert far.sum() >= 6
    data = pick_rows(data, far)
    point = first_point(data, problem, parameters)
    base, step = point.parameters, 1e-5
    n, p = base.B.shape
    expected = np.zeros_like(point.gradient)
    free = {"A": (0, 0), "B": (0, n), "b": (0, n + p), "D": (n, n)}
    if not intercept:
        del free["b"]
    if not feedthrough:
        del free["D"]
    for name, (row, column) in free.items():
        block = getattr(base, name)
        for place in np.ndindex(block.shape):
            values = []
            for sign in (1.0, -1.0):
                moved = block.copy()
                moved[place] += sign * step
                values.append(loss_of(problem, replace(base, **{name: moved}), data))
            where = (row + place[0], column + (place[1] if len(place) == 2 else 0))
            expected[where] = (values[0] - values[1]) / (2.0 * step)
    size = np.abs(expected).max()
    np.testing.assert_allclose(point.gradient, expected, rtol=1e-6, atol=1e-6 * size)
    assert size > 1e-3


def test_the_readout_is_stationary(
    activation, loss, make_problem, make_data, make_parameters, objective_of
):
    """Without a group penalty no balance follows the readout."""
    problem, data = make_problem(activation, loss, alpha=0.0), make_data(loss)
    point = first_point(data, problem, make_parameters(problem, data))
    for name in ("C", "d"):
        block = getattr(point.parameters, name)
        for place in np.ndindex(block.shape):
            values = []
            for sign in (1.0, -1.0):
                moved = block.copy()
                moved[place] += sign * 1e-4
                values.append(
                    objective_of(problem, replace(point.parameters, **{name: moved}), data)
                )
            assert values[0] - values[1] == pytest.approx(0.0, abs=2e-4 * 1e-5)


def test_sums_of_a_point(make_problem, make_data, make_parameters, states_of, small_blocks):
    problem, data = make_problem(), make_data()
    point = first_point(data, problem, make_parameters(problem, data))
    V = np.column_stack([states_of(problem, point.parameters, data.U), np.ones(40)])
    w = data.weights[:, np.newaxis]
    np.testing.assert_allclose(point.XX, V.T @ (w * V), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(point.XU, V.T @ (w * data.U), rtol=1e-8, atol=1e-9)
    assert point.metric.weight == pytest.approx(1.0)


def test_the_bound_of_the_error_holds(
    make_problem, make_data, make_parameters, states_of, monkeypatch
):
    monkeypatch.setattr(forward, "STATE_TOLERANCE", 1e-2)
    problem, data = make_problem("tanh", kappa=0.95), make_data()
    point = first_point(data, problem, make_parameters(problem, data))
    error = np.abs(data.blocks[0].X - states_of(problem, point.parameters, data.U)).max()
    assert 1e-6 < error <= point.error < 0.02


def test_balance_scales_the_bound_of_the_error(make_problem, make_data, make_parameters):
    data = make_data()
    start = make_parameters(make_problem(), data)
    balanced, plain = (
        first_point(data, make_problem(alpha=alpha, l2=1.0), start) for alpha in (1e-9, 0.0)
    )
    assert balanced.error == pytest.approx(np.exp(3.0) * plain.error, abs=0.0)
    assert plain.error > 0.0


@pytest.mark.parametrize("feedthrough", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_balance_finds_the_best_scale(seed, feedthrough, make_problem, make_data, make_parameters):
    problem = make_problem(
        alpha=[0.3, 1e-3, 0.1, 0.02][seed],
        l2=[1e-3, 0.5, 0.1, 0.02][seed],
        feedthrough=feedthrough,
    )
    parameters = make_parameters(problem, make_data(), seed)
    s = balance(problem, parameters)
    best = minimize_scalar(
        lambda t: problem.penalty(parameters.scaled(np.exp(t))), bounds=(-3, 3), method="bounded"
    )
    assert problem.penalty(parameters.scaled(s)) <= best.fun * (1 + 1e-5)
    assert problem.penalty(parameters.scaled(s)) < problem.penalty(parameters)


def test_balance_stays_within_a_factor(make_problem, make_data, make_parameters):
    problem = make_problem(alpha=1e-9, l2=1.0)
    parameters = make_parameters(problem, make_data())
    assert balance(problem, parameters) == pytest.approx(np.exp(3.0))
    problem = make_problem(alpha=1e3, l2=1e-9)
    assert balance(problem, parameters) == pytest.approx(np.exp(-3.0))


def test_balance_never_raises_the_penalty_near_its_optimum(
    make_problem, make_data, make_parameters
):
    problem = make_problem(alpha=0.1)
    parameters = make_parameters(problem, make_data())
    for _ in range(3):
        parameters = parameters.scaled(balance(problem, parameters))
    for shift in np.linspace(-2e-3, 2e-3, 21):
        near = parameters.scaled(1.0 + shift)
        s = balance(problem, near)
        assert problem.penalty(near.scaled(s)) <= problem.penalty(near)
    assert balance(problem, parameters.scaled(1.0 + 1e-9)) == 1.0  # rounding is let alone


@pytest.mark.parametrize("changes", [{"activation": "tanh"}, {"alpha": 0.0}, {"l2": 0.0}], ids=str)
def test_no_balance(changes, make_problem, make_data, make_parameters):
    problem = make_problem(**changes)
    assert balance(problem, make_parameters(problem, make_data())) == 1.0


def test_too_long_a_step_is_taken_back(make_problem, make_data, make_parameters):
    problem, data = make_problem("tanh", "logistic", alpha=0.0, l2=1e-4), make_data("logistic")
    point = first_point(data, problem, make_parameters(problem, data))
    stepper = Stepper(data, problem, InputGram(data))
    stepper.eta = 1e3
    new = stepper.step(point)
    assert new.objective < point.objective
    assert stepper.eta < 1e3


def test_no_step_without_a_fall(make_problem, make_data, make_parameters, monkeypatch):
    problem, data = make_problem(), make_data()
    point = first_point(data, problem, make_parameters(problem, data))
    X = data.blocks[0].X.copy()
    rounded = point.objective * (1.0 - 1e-13)
    for objective, factor in ((point.objective, 0.4), (rounded, 0.4), (np.nan, 0.1)):
        monkeypatch.setattr(
            module, "attempt", lambda *_, value=objective: replace(point, objective=value)
        )
        stepper = Stepper(data, problem, InputGram(data))
        assert stepper.step(point) is None
        assert stepper.eta == pytest.approx(factor**12)
    np.testing.assert_array_equal(data.blocks[0].X, X)


def test_smooth_problems_reach_stationarity(make_problem, make_data, make_parameters):
    problem, data = make_problem("tanh", alpha=0.02), make_data()
    points = steps(data, problem, first_point(data, problem, make_parameters(problem, data)), 1500)
    assert points[-1].residual < 1e-4 * points[0].residual


DEGENERATE = {
    "constant_targets": {"Y": lambda Y: 0 * Y + Y[:1]},
    "constant_input": {"U": lambda U: U * [1, 0, 1, 0, 1]},
    "repeated_inputs": {"U": lambda U: U[:, [0, 0, 1, 1, 1]]},
    "few_samples": {"m": 3},
    "one_sample": {"m": 1},
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("l2", [0.01, 0.0])
def test_degenerate_data(
    case, l2, loss, make_problem, make_data, make_parameters, objective_of, check_feasible
):
    settings = DEGENERATE[case]
    data = make_data(loss, m=settings.get("m", 40))
    data.U = settings.get("U", np.asarray)(data.U)
    data.Y = settings.get("Y", np.asarray)(data.Y)
    problem = make_problem("relu", loss, l2=l2)
    points = steps(data, problem, first_point(data, problem, make_parameters(problem, data)), 6)
    assert np.all(np.diff([point.objective for point in points]) < 0.0)
    for point in points:
        check_feasible(problem, point.parameters)
        expected = objective_of(problem, point.parameters, data)
        assert point.objective == pytest.approx(expected, rel=1e-7, abs=1e-12)
    if case == "constant_input":
        assert not points[-1].parameters.active[[1, 3]].any()


@pytest.mark.parametrize("intercept", [True, False])
def test_nothing_to_start_from(intercept, loss, make_problem, make_data, check_feasible):
    """All parameters zero: C = 0 and no gradient in A and B, only in D."""
    problem = make_problem("relu", loss, intercept=intercept, l2=0.0)
    data = make_data(loss)
    q = data.n_outputs
    zero = Parameters(*(np.zeros(s) for s in ((4, 4), (4, 5), 4, (q, 4), (q, 5), q)))
    points = steps(data, problem, first_point(data, problem, zero), 3)
    assert points[-1].objective < points[0].objective
    check_feasible(problem, points[-1].parameters)


def test_a_class_that_the_sample_of_the_metric_misses(make_problem, make_data, make_parameters):
    data = make_data("multinomial", m=600)
    data.Y[:] = np.eye(3)[np.arange(600) % 2]
    data.Y[[301, 304]] = np.eye(3)[2]
    assert not data.Y[data.sampled(data.blocks[0]), 2].any()
    problem = make_problem("relu", "multinomial")
    points = steps(data, problem, first_point(data, problem, make_parameters(problem, data)), 5)
    assert len(points) == 6


def test_weights_of_zero_do_not_starve_the_metric(make_problem, make_data, make_parameters):
    data = make_data(m=600)
    data = RowBlocks(data.U, data.Y, np.arange(600) % 3 / 600, data.centre, np.ones(5))
    problem = make_problem()
    points = steps(data, problem, first_point(data, problem, make_parameters(problem, data)), 3)
    assert len(points) == 4


def test_rows_of_weight_zero_are_as_good_as_absent(make_problem, make_data, make_parameters):
    few = make_data(m=300)
    rng = np.random.default_rng(5)
    place = np.sort(rng.permutation(700)[:300])
    U, Y, w = rng.standard_normal((700, 5)), rng.standard_normal((700, 2)), np.zeros(700)
    U[place], Y[place], w[place] = few.U, few.Y, few.weights
    many = RowBlocks(U, Y, w, few.centre, np.ones(5))
    problem = make_problem("tanh")
    start = make_parameters(problem, few)
    one, other = (first_point(data, problem, start) for data in (few, many))
    for field in one.metric._fields:
        np.testing.assert_allclose(
            getattr(one.metric, field), getattr(other.metric, field), rtol=1e-7, atol=1e-10
        )
    assert one.objective == pytest.approx(other.objective, rel=1e-12)
    np.testing.assert_allclose(one.gradient, other.gradient, atol=1e-9)


def test_integer_weights_are_repetitions(make_problem, make_data, make_parameters, loss):
    """At a point; the paths may differ, since the rows that the metric samples differ."""
    data = make_data(loss)
    count = np.random.default_rng(3).integers(1, 4, 40)
    weighted = RowBlocks(data.U, data.Y, count / count.sum(), data.centre, np.ones(5))
    U, Y = np.repeat(data.U, count, axis=0), np.repeat(data.Y, count, axis=0)
    repeated = RowBlocks(U, Y, np.full(len(U), 1 / len(U)), data.centre, np.ones(5))
    problem = make_problem("tanh", loss)
    start = make_parameters(problem, data)
    one, other = (first_point(data, problem, start) for data in (weighted, repeated))
    assert one.objective == pytest.approx(other.objective, rel=1e-8)
    np.testing.assert_allclose(one.gradient, other.gradient, atol=1e-7)


def test_inputs_beyond_the_working_set_can_enter(make_problem, make_data, monkeypatch):
    monkeypatch.setattr(working_set_module, "_MOST_COLUMNS", 6)  # halved: the rows are few
    problem = make_problem("tanh", n_inputs=12, alpha=1e-3)
    data = make_data(p=12, m=60)
    rng = np.random.default_rng(1)
    B, C = np.zeros((4, 12)), rng.standard_normal((2, 4))
    B[:, [9, 10, 11]] = rng.standard_normal((4, 3))  # the false ones
    start = Parameters(np.zeros((4, 4)), B, np.zeros(4), C, np.zeros((2, 12)), np.zeros(2))
    points = steps(data, problem, first_point(data, problem, start), 12)
    assert np.all(np.diff([point.objective for point in points]) < 0.0)
    assert points[-1].parameters.active[:2].all()
    first = working_set(problem, points[0].parameters.groups, points[0].gradient[:, 4:-1], 60)
    assert len(first) == 3
    assert np.flatnonzero(points[-1].parameters.active).size > 3


def test_the_working_set_holds_the_worst_violations(make_problem, monkeypatch):
    monkeypatch.setattr(working_set_module, "_MOST_COLUMNS", 2)
    problem = make_problem(
        n_states=1, alpha=1.0, group_weights=np.array([1.0, 1.0, np.inf, 1.0, 1.0])
    )
    B = np.array([[0.0, 2.0, 0.0, 0.0, -1.0]])
    one = np.zeros((1, 1))
    parameters = Parameters(one, B, one[0], one, np.zeros((1, 5)), one[0])
    gradient = np.zeros((2, 7))
    gradient[0, 1:6] = [1.5, -1.0, 9.0, 3.0, 0.4]  # violations 0.5, 0, excluded, 2, 0.6
    few_rows, more_rows = (
        working_set(problem, parameters.groups, gradient[:, 1:-1], m).tolist() for m in (512, 513)
    )
    assert (few_rows, more_rows) == ([3], [3, 4])


def test_no_matrix_of_inputs_by_inputs(make_problem, make_data):
    p = 6000
    problem = make_problem("relu", n_inputs=p, alpha=0.02, n_states=2)
    data = make_data(p=p, m=120)
    rng = np.random.default_rng(0)
    start = Parameters(
        np.zeros((2, 2)),
        rng.standard_normal((2, p)) / 50,
        np.zeros(2),
        np.zeros((2, 2)),
        np.zeros((2, p)),
        np.zeros(2),
    )
    tracemalloc.start()
    points = steps(data, problem, first_point(data, problem, start), 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(points) == 3
    assert peak < 0.6 * 8 * p * p


def test_many_inputs_get_fewer_sweeps():
    assert most_sweeps(np.arange(10), 20) == 20
    assert most_sweeps(np.arange(784), 20) == 5


@pytest.mark.parametrize("many", [False, True])
def test_a_step_promises_what_its_model_falls_by(many, make_problem, make_data, make_parameters):
    weights = np.array([1.0, 1e3, 1.0, 1.0, 1.0])  # an input that the step drops
    problem, data = make_problem(alpha=0.01, group_weights=weights), make_data(m=100)
    point = first_point(data, problem, make_parameters(problem, data))
    stepper = Stepper(data, problem, InputGram(data))
    stepper.eta, columns = 0.5, np.arange(5)
    curvature = Curvature(data, problem, point.parameters) if many else None
    unit = stepper._model(point, columns, curvature)
    found, promised = stepper._propose(point, columns, unit, curvature)
    assert not found.active[1]
    model, E = unit.at(0.5), found.stacked() - unit.start
    curved = curvature.product(columns)(E) / 0.5 if many else model.curved(E)
    fall = model.penalty(unit.start) - model.penalty(found.stacked())
    fall -= float(np.vdot(unit.gradient, E) + 0.5 * np.vdot(curved, E))
    assert promised == pytest.approx(fall, rel=1e-6)


def test_the_readout_is_as_accurate_as_the_last_step_was_long(
    make_problem, make_data, make_parameters
):
    problem, data = make_problem(loss="logistic"), make_data("logistic")
    point = first_point(data, problem, make_parameters(problem, data))
    stepper = Stepper(data, problem, InputGram(data))
    gained = 1.0
    while gained >= 0.005:
        new = stepper.step(point)
        gained = (point.objective - new.objective) / point.objective
        assert stepper.tolerance == pytest.approx(min(0.01 * gained, 1e-4))
        point = new


@pytest.mark.parametrize(
    ("gained", "factor"),
    [(0.6, 1.0), (0.7, 4.0 / 3.0), (1.5, 2.0), (0.05, 1.0), (0.0, 0.4), (-1.0, 0.2), (-99.0, 0.1)],
)
def test_the_length_follows_what_was_gained_of_the_promise(
    gained, factor, make_problem, make_data, make_parameters
):
    """An accepted step never shortens the next; one that was refused at least halves it."""
    problem, data = make_problem(), make_data()
    stepper = Stepper(data, problem, InputGram(data))
    stepper._adapt(10.0 * gained, 10.0)
    assert stepper.eta == pytest.approx(factor)
    stepper.eta = 3.0
    stepper._adapt(10.0, 10.0)
    assert stepper.eta == 4.0
    stepper._adapt(np.nan, 10.0)
    assert stepper.eta == pytest.approx(0.4)
