"""The (C, d) block against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from bcd_implicit._newton import newton
from bcd_implicit.readout import StateSums, feedthrough, fit_readout, state_sums


@pytest.fixture(autouse=True, params=["newton", "bfgs", "l-bfgs"])
def solver(request, monkeypatch):
    """Take few coefficients for many, so that each solver fits them."""
    if request.param == "bfgs":
        monkeypatch.setattr("bcd_implicit._newton._DEAR", 0)
    if request.param == "l-bfgs":
        monkeypatch.setattr("bcd_implicit.readout._NEWTON", 0)


@pytest.fixture
def states(make_data, loss, small_blocks):
    """Data of which the states are random."""

    def make(*, m=40, n=4):
        data = make_data(loss, m=m)
        data.start_states(n)
        rng = np.random.default_rng(7)
        for block in data.blocks:
            block.X[:] = rng.standard_normal(block.X.shape) * [1.0, 3.0, 0.2, 1.0][:n] + 1.0
        return data

    return make


def fit(data, problem, parameters):
    def states(block):
        return block.X, feedthrough(block, parameters)

    sums = data.sum(lambda block: state_sums(block, *states(block)))
    C, d, loss = fit_readout(data, problem, parameters, sums, states)
    penalty = 0.5 * problem.l2 * (C**2).sum()
    assert loss + penalty == pytest.approx(value(data, problem, parameters, C, d), rel=1e-9)
    return C, d


def value(data, problem, parameters, C, d):
    X = np.concatenate([block.X for block in data.blocks])
    F = X @ C.T + d + data.U @ parameters.D.T
    return problem.loss.value(data.Y, F, data.weights) + 0.5 * problem.l2 * (C**2).sum()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("l2", [1e-3, 0.1])
def test_against_scikit_learn(loss, intercept, l2, states, make_problem, make_parameters):
    data = states()
    problem = make_problem("relu", loss, intercept=intercept, l2=l2)
    parameters = make_parameters(problem, data)
    if not loss.quadratic:  # scikit-learn knows no offset
        parameters = replace(parameters, D=0 * parameters.D)
    C, d = fit(data, problem, parameters)
    X = np.concatenate([block.X for block in data.blocks])
    if loss.quadratic:
        judge = Ridge(alpha=l2, fit_intercept=intercept, solver="cholesky")
        judge.fit(X, data.Y - data.U @ parameters.D.T, sample_weight=data.weights)
    else:
        judge = LogisticRegression(C=1 / l2, fit_intercept=intercept, tol=1e-10, max_iter=10000)
        labels = data.Y[:, 0] if data.n_outputs == 1 else data.Y.argmax(axis=1)
        judge.fit(X, labels, sample_weight=data.weights)
    shift = d.mean() - np.mean(judge.intercept_) if data.n_outputs == 3 else 0.0  # is free
    size = np.abs(judge.coef_).max()
    np.testing.assert_allclose(C, judge.coef_, atol=1e-5 * size)
    np.testing.assert_allclose(d - shift, np.zeros_like(d) + judge.intercept_, atol=1e-5 * size)
    assert d.any() == intercept


def test_the_value_never_rises(loss, variant, states, make_problem, make_parameters):
    data = states()
    problem = make_problem("relu", loss, **variant)
    parameters = make_parameters(problem, data)
    values = [value(data, problem, parameters, parameters.C, parameters.d)]
    for _ in range(4):
        C, d = fit(data, problem, parameters)
        values.append(value(data, problem, parameters, C, d))
        parameters = replace(parameters, C=C, d=d)
    assert np.all(np.diff(values) <= 1e-14 * values[0])
    assert values[1] < values[0]


@pytest.mark.parametrize("loss", ["logistic", "multinomial"], indirect=True)
def test_a_solution_is_kept_as_it_is(states, make_problem, make_parameters, loss):
    """Where nothing is gained, not even rounding errors are added."""
    data = states()
    problem = make_problem("relu", loss)
    parameters = make_parameters(problem, data)
    for _ in range(30):
        C, d = fit(data, problem, parameters)
        same = np.array_equal(C, parameters.C) and np.array_equal(d, parameters.d)
        parameters = replace(parameters, C=C, d=d)
        if same:
            break
    assert same


@pytest.mark.parametrize("loss", ["multinomial"], indirect=True)
def test_a_shift_of_all_classes_is_taken_away(states, make_problem, make_parameters, loss):
    data, problem = states(), make_problem("relu", loss)
    parameters = make_parameters(problem, data)
    shifted = replace(parameters, C=parameters.C + 5.0, d=parameters.d - 7.0)
    for block in fit(data, problem, shifted):
        np.testing.assert_allclose(block.sum(axis=0), 0.0, atol=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_dead_and_repeated_states(loss, intercept, l2, states, make_problem, make_parameters):
    data = states()
    for block in data.blocks:
        block.X[:, 1] = 0.0
        block.X[:, 2] = block.X[:, 0]
    problem = make_problem("relu", loss, intercept=intercept, l2=l2)
    parameters = make_parameters(problem, data)
    C, d = fit(data, problem, parameters)
    before = value(data, problem, parameters, parameters.C, parameters.d)
    assert value(data, problem, parameters, C, d) < before
    if l2:
        np.testing.assert_allclose(C[:, 1], 0.0, atol=1e-5)
        np.testing.assert_allclose(C[:, 2], C[:, 0], atol=1e-4)


@pytest.mark.parametrize("intercept", [True, False])
def test_no_living_state(loss, intercept, states, make_problem, make_parameters):
    data = states()
    data.start_states(4)
    problem = make_problem("relu", loss, intercept=intercept, l2=0.0)
    parameters = make_parameters(problem, data)
    C, d = fit(data, problem, parameters)
    assert np.isfinite(C).all()
    offset = data.U @ parameters.D.T
    G = problem.loss.gradient(data.Y, offset + d)
    if intercept:
        np.testing.assert_allclose(data.weights @ G, 0.0, atol=1e-6)


def test_classes_that_are_clearly_mistaken(loss, states, make_problem, make_parameters):
    """As a warm start on other targets begins: Newton steps are far too long."""
    data, problem = states(), make_problem(loss=loss, l2=1e-5)
    parameters = make_parameters(problem, data)
    parameters = replace(parameters, D=0.0 * parameters.D)
    C, d = fit(data, problem, parameters)
    mistaken = replace(parameters, C=-3000.0 * C, d=-3000.0 * d)
    before = value(data, problem, mistaken, mistaken.C, mistaken.d)
    assert value(data, problem, mistaken, *fit(data, problem, mistaken)) < 0.01 * before


def test_steps_that_overshoot_are_halved():
    def objective(x):
        root = np.sqrt(1.0 + (x - 10.0) ** 2)
        return float(root.sum()), (x - 10.0) / root

    def expansion(x):  # a Newton step from 12 ends at 2, which is worse, and zero is no way out
        return *objective(x), np.diag((1.0 + (x - 10.0) ** 2) ** -1.5)

    value, x = newton(objective, expansion, np.array([12.0, 9.0]), 1e-12)
    assert value == pytest.approx(2.0)
    np.testing.assert_allclose(x, 10.0, atol=1e-5)


def test_targets_of_one_class(make_data, make_problem, make_parameters):
    data = make_data("logistic")
    data.Y[:] = 1.0
    data.start_states(4)
    problem = make_problem("relu", "logistic")
    C, d = fit(data, problem, make_parameters(problem, data))
    assert np.isfinite(C).all()
    assert 5.0 < d[0] < 1e3


def test_sums_of_a_block(make_data, small_blocks):
    data = make_data()
    block = data.blocks[1]
    X = np.random.default_rng(0).standard_normal((16, 3))
    offset = np.full((16, 2), 0.5)
    V = np.column_stack([X, np.ones(16)])
    W = np.diag(data.weights[16:32])
    found = state_sums(block, X, offset)
    assert isinstance(found, StateSums)
    np.testing.assert_allclose(found.VV, V.T @ W @ V)
    np.testing.assert_allclose(found.RV, (data.Y[16:32] - offset).T @ W @ V)


def test_feedthrough(make_data, make_problem, make_parameters, small_blocks):
    data = make_data()
    parameters = make_parameters(make_problem(), data)
    parameters.D[:, 2] = 0.0
    expected = data.U[16:32] @ parameters.D.T
    np.testing.assert_allclose(feedthrough(data.blocks[1], parameters), expected)
    none = replace(parameters, D=0 * parameters.D)
    assert feedthrough(data.blocks[1], none) == 0.0


@pytest.mark.parametrize("size", [0.0, 1e7])
def test_the_squared_loss_of_offsets_of_large_mean(size, make_data, make_problem, make_parameters):
    """Sums of 1e14 told it to a hundredth."""
    data, problem = make_data(), make_problem()
    data.start_states(problem.n_states)
    parameters = make_parameters(problem, data)

    def states(block):
        return block.X, feedthrough(block, parameters) + size

    sums = data.sum(lambda block: state_sums(block, *states(block)))
    C, d, loss = fit_readout(data, problem, parameters, sums, states)
    assert loss == pytest.approx(value(data, problem, parameters, C, d + size), rel=1e-7)
