"""Training inside a pattern: the kernels, both phases, and the estimators keep every zero."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from bcd_implicit import ImplicitClassifier, ImplicitModel, ImplicitRegressor, Pattern
from bcd_implicit.exact import attempt, differentiate, evaluate
from bcd_implicit.gram import InputGram
from bcd_implicit.lifted import LiftedDescent, random_parameters
from bcd_implicit.metric import column_metrics
from bcd_implicit.readout import fit_readout, state_sums
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.solvers.reference import group_ball as reference
from bcd_implicit.stepper import Stepper

LAYERS = Pattern.layers(2, 1, 1)


def masks(pattern=LAYERS):
    return {
        "pattern": pattern.A,
        "input_states": pattern.input_states,
        "output_states": pattern.output_states,
    }


def inside(parameters, pattern=LAYERS):
    """Whether A, B and C are zero where the pattern says so."""
    return not (
        parameters.A[~pattern.A].any()
        or parameters.B[~pattern.input_states].any()
        or parameters.C[:, ~pattern.output_states].any()
    )


@pytest.mark.parametrize("seed", range(6))
def test_the_block_with_closed_rows_is_minimised(seed):
    rng = np.random.default_rng(seed)
    r, n, p = 5, 3, 4
    H, W, H2 = (
        M @ M.T / len(M) + 0.1 * np.eye(len(M))
        for M in (rng.standard_normal((k, k)) for k in (r, n + p + 1, r))
    )
    second = {"H2": H2, "K": 0.7 * np.linalg.cholesky(W)[:, :3]} if seed % 2 else {}
    entry = np.array([True, False, seed % 3 > 0, True, True])
    problem = GroupBallProblem.of(
        rng.standard_normal((r, n + p + 1)), H, W, n, np.full(p, 0.2), 0.9, entry=entry, **second
    )
    found = solve_group_ball(problem, Theta0=rng.standard_normal((r, n + p + 1)), tol=1e-9)
    assert found.status == "optimal"
    assert not found.x[~entry, n : n + p].any()
    expected = reference(problem)
    assert problem.objective(found.x) <= problem.objective(expected) + 1e-6
    np.testing.assert_allclose(found.x, expected, atol=2e-4)


@pytest.mark.parametrize("intercept", [True, False])
def test_the_second_metric_is_what_the_read_states_do_not_explain(intercept):
    rng = np.random.default_rng(0)
    X, U = rng.standard_normal((50, 3)), rng.standard_normal((50, 2))
    X[:, 2] += X[:, 0] + 1.0
    V, read = np.column_stack([X, np.ones(50)]), np.array([True, False, True])
    W, K = column_metrics(V.T @ V, V.T @ U, U.T @ U, intercept=intercept, read=read)
    columns = np.column_stack([X, U, np.ones(50)][: 3 if intercept else 2])
    span = V[:, np.append(read, intercept)]
    rest = columns - span @ np.linalg.lstsq(span, columns)[0]
    np.testing.assert_allclose(W, columns.T @ columns, atol=1e-10)
    np.testing.assert_allclose(W - K @ K.T, rest.T @ rest, atol=1e-6)


def test_the_readout_reads_its_states_only(make_problem, make_data, loss):
    data, problem = make_data(loss), make_problem(loss=loss, **masks())
    data.start_states(4)
    rng = np.random.default_rng(0)
    for block in data.blocks:
        block.X[...] = rng.standard_normal(block.X.shape)
    start = random_parameters(problem, 5, data.n_outputs, rng)
    sums = data.sum(lambda block: state_sums(block, block.X, 0.0))
    C, d, _ = fit_readout(data, problem, start, sums, lambda block: (block.X, 0.0))
    assert not C[:, 1:].any()

    def value(C, d):
        def loss(block):
            Y, w = data.targets(block)
            return (problem.loss.value(Y, block.X @ C.T + d, w),)

        return data.sum(loss)[0] + problem.penalty(replace(start, C=C, d=d))

    best = value(C, d)
    for _ in range(20):
        move = 1e-3 * rng.standard_normal(C.shape) * LAYERS.output_states
        assert value(C + move, d + 1e-3 * rng.standard_normal(d.shape)) >= best - 1e-9


def test_random_layers_are_alive(make_problem):
    problem = make_problem(**masks())
    start = random_parameters(problem, 5, 2, np.random.default_rng(0))
    assert inside(start)
    assert (np.abs(start.A).sum(axis=1)[:2] > 0.99 * problem.kappa).all()
    assert (np.abs(start.A).sum(axis=1) <= problem.kappa).all()
    free = random_parameters(make_problem(), 5, 2, np.random.default_rng(0))
    assert not free.A.any()


def test_the_lifted_phase_keeps_the_pattern_and_descends(make_problem, make_data, loss, activation):
    data, problem = make_data(loss), make_problem(activation=activation, loss=loss, **masks())
    start = random_parameters(problem, 5, data.n_outputs, np.random.default_rng(0))
    lifted = LiftedDescent.start(data, problem, InputGram(data), start)
    before = lifted.objective()
    for _ in range(3):
        for update in (lifted.update_states, lifted.update_readout, lifted.update_matrices):
            update()
            after = lifted.objective()
            assert after <= before + 1e-9 * abs(before)
            assert inside(lifted.parameters)
            before = after


def test_the_exact_phase_keeps_the_pattern_and_descends(make_problem, make_data, loss):
    data, problem = make_data(loss), make_problem(loss=loss, **masks())
    start = random_parameters(problem, 5, data.n_outputs, np.random.default_rng(0))
    data.start_states(4)
    point = evaluate(data, problem, start)
    data.accept_trial()
    stepper = Stepper(data, problem, InputGram(data))
    first = point.objective
    for _ in range(8):
        new = stepper.step(point)
        if new is None:
            break
        assert new.objective < point.objective
        assert inside(new.parameters)
        point = new
    assert point.objective < first


def test_the_gradient_ignores_closed_entries(make_problem, make_data):
    data, problem = make_data(), make_problem("tanh", **masks())
    start = random_parameters(problem, 5, 2, np.random.default_rng(0))
    data.start_states(4)
    point = differentiate(data, problem, attempt(data, problem, start))
    assert not point.gradient[:2, 4:-1].any()
    assert point.gradient[2:4, 4:-1].any()


def test_what_is_feasible(make_problem, make_data, make_parameters):
    problem = make_problem(**masks())
    free = make_parameters(make_problem(), make_data())
    assert not inside(free)
    assert inside(problem.feasible(free))
    again = problem.feasible(problem.feasible(free))
    np.testing.assert_array_equal(again.C, problem.feasible(free).C)


def samples(m=120, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, 6))
    return X, np.abs(X[:, 0]) + np.maximum(X[:, 1] - X[:, 0], 0.0)


@pytest.mark.parametrize("alpha", [1e-3, "auto"])
def test_estimators_train_layers(alpha):
    X, y = samples()
    pattern = Pattern.layers(4, 3)
    model = ImplicitRegressor(
        7, pattern=pattern, fit_feedthrough=False, alpha=alpha, max_iter=20, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
    assert not model.A_[~pattern.A].any()
    assert not model.B_[:3].any()
    assert not model.C_[:, 3:].any()
    assert model.score(X, y) > 0.7
    assert model.contraction_factor_ == 0.0  # found by substitution
    assert clone(model).pattern.A.tolist() == pattern.A.tolist()


def test_a_layered_network_is_freed_and_the_objective_falls():
    X, y = samples()
    layered = ImplicitClassifier(
        6,
        pattern=Pattern.layers(4, 2),
        fit_feedthrough=False,
        alpha=1e-3,
        max_iter=10,
        random_state=0,
        warm_start=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        layered.fit(X, y > 1.0)
        before, filled = layered.objective_, np.count_nonzero(layered.A_)
        free = layered.pattern.with_free_states()
        layered.set_params(pattern=free).fit(X, y > 1.0)
    assert layered.objective_ < before
    assert np.count_nonzero(layered.A_) > filled
    assert not layered.B_[:2].any()
    assert isinstance(layered.model_, ImplicitModel)


def test_patterns_are_checked():
    with pytest.raises(ValueError, match="sizes must be positive"):
        Pattern.layers(3, 0)
    with pytest.raises(ValueError, match="sizes must be positive"):
        Pattern.layers(2.5, 1)
    with pytest.raises(ValueError, match="A must hold booleans in shape"):
        Pattern(np.ones((2, 3), dtype=bool), np.ones(2, dtype=bool), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="input_states must hold booleans"):
        Pattern(np.ones((2, 2), dtype=bool), np.ones(2), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="output_states must allow a state"):
        Pattern(np.ones((2, 2), dtype=bool), np.ones(2, dtype=bool), np.zeros(2, dtype=bool))
    with pytest.raises(ValueError, match="pattern must be of n_states=3 states; got 4"):
        ImplicitRegressor(3, pattern=LAYERS).fit(*samples())
    assert Pattern.free(3).A.all()
    with pytest.raises(ValueError, match="read-only"):
        LAYERS.A[0, 0] = True


@pytest.mark.parametrize("copied", [clone, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_patterns_are_equal_and_read_only(copied):
    copy = copied(ImplicitRegressor(4, pattern=LAYERS)).pattern
    for mask, expected in zip(masks(copy).values(), masks().values(), strict=True):
        np.testing.assert_array_equal(mask, expected)
        assert not mask.flags.writeable
