"""The curvature of single samples against brute force with dense Jacobians."""

import numpy as np
import pytest

import bcd_implicit.curvature as module
from bcd_implicit import metric
from bcd_implicit import stepper as stepper_module
from bcd_implicit.curvature import Curvature, curvature_sample
from bcd_implicit.exact import evaluate
from bcd_implicit.gram import InputGram
from bcd_implicit.lifted import random_parameters
from bcd_implicit.solvers.group_ball_model import refine_group_ball
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.stepper import Stepper
from tests.test_metric import hessians, jacobians


def least_curvature(problem, parameters, data, X, M, E, columns):
    """The curvature along E with the best change of C and d, by least squares."""
    V = np.column_stack([X, data.U[:, columns]])
    if problem.intercept:
        V = np.column_stack([V, np.ones(len(X))])
    F = X @ parameters.C.T + data.U @ parameters.D.T + parameters.d
    q, L = len(parameters.C), hessians(problem.loss, F)
    change = np.zeros((len(parameters.A) + q, V.shape[1]))
    change[: len(E)] = E
    moved, refitted = [], []
    read = np.append(problem.read, np.full(int(problem.intercept), True))
    S = np.column_stack([X, np.ones((len(X), int(problem.intercept)))])[:, read]
    for i, J in enumerate(jacobians(parameters, M)):
        values, vectors = np.linalg.eigh(0.5 * (L[i] + L[i].T))
        root = np.sqrt(data.weights[i] * np.maximum(values, 0.0))[:, None] * vectors.T
        moved.append(root @ J @ change @ V[i])
        refitted.append(root @ np.kron(np.eye(q), S[i]))
    moved, refitted = np.concatenate(moved), np.vstack(refitted)
    penalised = np.tile(np.append(np.ones(read[: len(X.T)].sum()), [0.0] * problem.intercept), q)
    ridge = np.sqrt(problem.l2) * np.diag(penalised)
    system = np.vstack([refitted, ridge])
    right = np.append(moved, np.zeros(len(ridge)))
    best = np.linalg.lstsq(system, right, rcond=1e-8)[0]
    return float(((right - system @ best) ** 2).sum())


@pytest.mark.parametrize("joint", [True, False], ids=["refitted", "too_many_to_refit"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feedthrough": False, "intercept": False},
        {"output_states": np.array([True, False, False, True])},
    ],
    ids=["all", "states", "layers"],
)
def test_the_curvature_is_the_least_over_the_outputs(
    make_problem,
    make_data,
    make_parameters,
    states_of,
    activation,
    loss,
    changes,
    joint,
    monkeypatch,
):
    problem = make_problem(activation, loss, kappa=0.9, **changes)
    data = make_data(loss, m=30)
    parameters = make_parameters(problem, data)
    X = states_of(problem, parameters, data.U)
    M = activation.derivative(X @ parameters.A.T + data.U @ parameters.B.T + parameters.b)
    columns = np.array([0, 2, 3])
    rng = np.random.default_rng(0)
    rows = 4 + data.n_outputs * problem.feedthrough
    E, other = rng.standard_normal((2, rows, 7 + problem.intercept))
    E[4:, :4] = E[4:, 7:] = other[4:, :4] = other[4:, 7:] = 0.0
    data.start_states(4)
    if not joint:
        monkeypatch.setattr(module, "_MOST_REFITTED", 1)
    product = Curvature(data, problem, parameters).product(columns)
    least = least_curvature(problem, parameters, data, X, M, E, columns)
    found = float(np.vdot(E, product(E)))
    if joint or problem.loss.quadratic or data.n_outputs == 1:
        assert found == pytest.approx(least, rel=1e-4)
    else:
        assert found > 1.01 * least
    assert np.vdot(other, product(E)) == pytest.approx(np.vdot(E, product(other)), rel=1e-6)


def test_a_sample_is_taken_only_if_it_pays(make_problem, make_data, monkeypatch):
    problem, data = make_problem(), make_data(m=100)
    assert curvature_sample(data, problem) is None
    monkeypatch.setattr(module, "_FEWEST_ROWS", 30)
    assert curvature_sample(data, problem).n_samples == 100
    monkeypatch.setattr(module, "_ROWS", 30)
    assert curvature_sample(data, problem).n_samples == 34
    limits = ("_MOST_WORK", 29 * 4**3), ("_MOST_ENTRIES", 29 * 4 * 2), ("are_few", lambda *_: False)
    for name, limit in limits:
        with monkeypatch.context() as patch:
            patch.setattr(module, name, limit)
            assert curvature_sample(data, problem) is None


def test_few_rows_do_not_suffice_for_many_unknowns(
    make_problem, make_data, make_parameters, monkeypatch
):
    problem, data = make_problem(n_inputs=30), make_data(m=40, p=30)
    curvature = Curvature(data, problem, make_parameters(problem, data))
    # 4 (4 + k + 1) + 2 k unknowns, 40 rows with 2 outputs each
    assert curvature.suffices(23)
    assert not curvature.suffices(24)
    monkeypatch.setattr(module, "_MOST_UNKNOWNS", 157)
    assert not curvature.suffices(23)


def test_steps_with_the_curvature_of_rows_go_further(make_problem):
    problem = make_problem(n_inputs=6, n_states=10, alpha=1e-3, l2=1e-3)
    reached = np.empty((4, 2))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        U = rng.standard_normal((400, 6))
        Y = (U[:, 0] * U[:, 1] + np.abs(U[:, 2]))[:, None]
        data = RowBlocks(U, Y, np.full(400, 1 / 400), np.zeros(6), np.ones(6))
        start = random_parameters(problem, 6, 1, rng)
        for which, sample in enumerate((None, data.sampled_rows(400))):
            data.start_states(10)
            point = evaluate(data, problem, start)
            data.accept_trial()
            stepper = Stepper(data, problem, InputGram(data), sample)
            for _ in range(15):
                point = stepper.step(point)
            reached[seed, which] = point.objective
    assert np.median(reached[:, 1] / reached[:, 0]) < 0.8


def test_states_are_uncoupled_where_rows_do_not_suffice(make_problem, monkeypatch):
    n_inputs, refinements = [], []

    def uncoupled(H, n):
        n_inputs.append(problem.group_weights.size)
        return metric.uncoupled(H, n)

    def refined(*arguments, **options):
        refinements.append(problem.group_weights.size)
        return refine_group_ball(*arguments, **options)

    monkeypatch.setattr(stepper_module, "uncoupled", uncoupled)
    monkeypatch.setattr(stepper_module, "refine_group_ball", refined)
    rng = np.random.default_rng(0)
    for p, many in ((6, False), (6, True), (100, False), (100, True)):
        problem = make_problem(n_inputs=p, n_states=10, alpha=1e-3, l2=1e-3)
        U = rng.standard_normal((400, p))
        Y = np.abs(U[:, :1])
        data = RowBlocks(U, Y, np.full(400, 1 / 400), np.zeros(p), np.ones(p))
        data.start_states(10)
        point = evaluate(data, problem, random_parameters(problem, p, 1, rng))
        data.accept_trial()
        sample = data.sampled_rows(400) if many else None
        stepper = Stepper(data, problem, InputGram(data), sample)
        assert stepper.step(point).objective < point.objective
    assert n_inputs == [100]
    assert refinements == [6]
