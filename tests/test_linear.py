"""The model without states and its cross-validated path."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import MultiTaskLasso

from bcd_implicit.linear import NO_STATES, LinearFitter, largest_strength
from bcd_implicit.linear_curvature import LinearCurvature, linear_sample
from bcd_implicit.linear_path import linear_path
from bcd_implicit.monitor import Monitor
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.validation_rows import validation_losses, validation_weights


def violation(problem, data, parameters):
    """Return the distance from optimality in D and d, computed from raw arrays."""
    U = (data.U - data.centre) * data.inverse_scale
    F = U @ parameters.D.T + parameters.d
    if problem.loss.name == "squared":
        G = F - data.Y
    elif problem.loss.name == "logistic":
        G = 1 / (1 + np.exp(-F)) - data.Y
    else:
        G = np.exp(F) / np.exp(F).sum(axis=1, keepdims=True) - data.Y
    G = G * data.weights[:, None]
    worst = np.abs(G.sum(axis=0)).max() if problem.intercept else 0.0
    for j, strength in enumerate(problem.thresholds):
        column, g = parameters.D[:, j], G.T @ U[:, j]
        if column.any():
            worst = max(worst, np.linalg.norm(g + strength * column / np.linalg.norm(column)))
        else:
            worst = max(worst, np.linalg.norm(g) - strength)
    return worst


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_fit_is_optimal(make_problem, make_data, loss, alpha, intercept, small_blocks):
    data = make_data(loss.name)
    weights = np.array([1.0, np.inf, 0.5, 2.0, 1.0])
    problem = make_problem(loss=loss.name, alpha=alpha, intercept=intercept, group_weights=weights)
    if alpha == 0.0 and loss.name != "squared":
        problem = replace(problem, alpha=1e-3)  # separable classes have no minimiser
    fitted = LinearFitter(data, problem).fit(problem, None, tol=1e-8)
    assert violation(problem, data, fitted) <= 1.1e-8
    assert not fitted.D[:, 1].any()
    assert intercept or not fitted.d.any()
    for block in (fitted.A, fitted.B, fitted.b, fitted.C):
        assert not block.any()


@pytest.mark.parametrize("few", [0, 128])
def test_a_fit_is_optimal_by_the_curvature_of_some_rows(
    make_problem, make_data, loss, few, monkeypatch
):
    monkeypatch.setattr("bcd_implicit.linear_curvature._ROWS", 20)
    monkeypatch.setattr("bcd_implicit.linear._FEW_COLUMNS", few)
    data = make_data(loss.name, m=60)
    problem = make_problem(loss=loss.name, alpha=0.01)
    fitted = LinearFitter(data, problem).fit(problem, None, tol=1e-6)
    assert violation(problem, data, fitted) <= 1.1e-6


@pytest.mark.parametrize("few", [0, 128])
@pytest.mark.parametrize("intercept", [True, False])
def test_inputs_that_the_rows_of_the_curvature_do_not_tell_of(
    make_problem, make_data, loss, few, intercept, monkeypatch
):
    monkeypatch.setattr("bcd_implicit.linear_curvature._ROWS", 20)
    monkeypatch.setattr("bcd_implicit.linear._FEW_COLUMNS", few)
    data = make_data(loss.name, m=60)
    data.U[:, 2] = 0.0
    data.U[1::9, 2] = 3.0  # every third row is taken
    data.Y[1::9] = data.Y[1]
    problem = make_problem(loss=loss.name, alpha=0.01, intercept=intercept)
    fitted = LinearFitter(data, problem).fit(problem, None, tol=1e-4)
    assert fitted.D[:, 2].any()
    assert violation(problem, data, fitted) <= 1e-3


def test_large_means_of_inputs_cancel_nothing(make_problem, make_data):
    data = make_data("logistic")
    problem = make_problem(loss="logistic", alpha=0.01)
    near = LinearFitter(data, problem).fit(problem, None)
    far = RowBlocks(data.U + 1e6, data.Y, data.weights, data.centre, np.ones(5))
    fitted = LinearFitter(far, problem).fit(problem, None)
    near_value, far_value = (
        LinearFitter(rows, problem).loss(parameters) + problem.penalty(parameters)
        for rows, parameters in ((data, near), (far, fitted))
    )
    assert far_value == pytest.approx(near_value, rel=1e-3)


@pytest.mark.parametrize("intercept", [True, False])
def test_curvature_is_the_least_over_d(make_problem, make_data, loss, intercept, small_blocks):
    """Of the quadratic that the Hessians of the rows make; written out as a matrix."""
    data, problem = make_data(loss.name), make_problem(loss=loss.name)
    rng = np.random.default_rng(0)
    q, p, columns = data.n_outputs, data.n_inputs, np.array([0, 3])
    D, d, E = rng.standard_normal((q, p)), rng.standard_normal(q), rng.standard_normal((q, 2))
    U = (data.U - data.centre) * data.inverse_scale
    L = problem.loss.hessian(data.Y, U @ D.T + d) * data.weights[:, None, None]
    inverse = np.linalg.pinv(L.sum(axis=0)) * intercept
    curvature = LinearCurvature(
        linear_sample(data), problem.loss, D, d, columns, np.zeros(2), intercept=intercept
    )
    V = np.kron(np.column_stack([U[:, columns], np.ones(len(U))])[:, None], np.eye(q)[None])
    H = np.einsum("iqa,iqr,irb->ab", V, L, V)  # of D column by column, then d
    inner, mixed = H[: 2 * q, : 2 * q], H[: 2 * q, 2 * q :]
    least = (inner - mixed @ inverse @ mixed.T) @ E.T.ravel()
    np.testing.assert_allclose(curvature.product(E).T.ravel(), least, atol=1e-12)
    if q == 1:
        matrix = inner - mixed @ inverse @ mixed.T
        np.testing.assert_allclose(curvature.matrix(), matrix, atol=1e-12)
    change = -inverse @ mixed.T @ E.T.ravel()
    np.testing.assert_allclose(curvature.best_change(E), change, atol=1e-12)
    g = rng.standard_normal(q)
    np.testing.assert_allclose(curvature.shift(g).T.ravel(), mixed @ inverse @ g, atol=1e-12)


def test_nearly_separable_classes_take_few_steps(make_problem, monkeypatch):
    steps = []
    step = LinearFitter._step

    def counted(self, *arguments):
        steps.append(self)
        return step(self, *arguments)

    monkeypatch.setattr(LinearFitter, "_step", counted)
    X, y = load_digits(return_X_y=True)
    X, Y = X[:500, 10:30] / 16.0, np.eye(10)[y[:500]]
    data = RowBlocks(X, Y, np.full(500, 1 / 500), X.mean(axis=0), X.std(axis=0) + 0.1)
    problem = make_problem(loss="multinomial", alpha=1e-3, group_weights=np.ones(20))
    fitted = LinearFitter(data, problem).fit(problem, None)
    assert violation(problem, data, fitted) <= 1e-4
    assert len(steps) <= 12  # fifty are not enough in the mean metric


def test_equals_a_multi_task_lasso(make_problem, make_data):
    data = make_data(weights=np.full(40, 1 / 40))
    problem = make_problem(alpha=0.05)
    fitted = LinearFitter(data, problem).fit(problem, None, tol=1e-9)
    other = MultiTaskLasso(alpha=0.05, tol=1e-12, max_iter=10_000).fit(data.U, data.Y)
    np.testing.assert_allclose(fitted.D, other.coef_, atol=1e-7)
    np.testing.assert_allclose(fitted.d, other.intercept_, atol=1e-7)


def test_empty_gives_the_strength_from_which_nothing_is_left(make_problem, make_data, loss):
    data = make_data(loss.name)
    problem = make_problem(loss=loss.name, group_weights=np.array([1.0, np.inf, 0.5, 2.0, 3.0]))
    fitter = LinearFitter(data, problem)
    parameters, strongest, _ = fitter.empty()
    assert not parameters.active.any()
    for factor, active in ((1.01, 0), (0.99, 1)):
        fitted = fitter.fit(replace(problem, alpha=factor * strongest), None, tol=1e-9)
        assert np.count_nonzero(fitted.active) == active


def test_the_largest_strength_is_that_of_groups_with_a_positive_finite_weight(make_problem):
    problem = make_problem(group_weights=np.array([0.0, np.inf, 2.0, 1.0, 1.0]))
    assert largest_strength(problem, np.array([9.0, 9.0, 4.0, 1.0, 0.0])) == 2.0


def test_more_inputs_than_the_working_set_holds(make_problem, make_data, monkeypatch):
    monkeypatch.setattr("bcd_implicit.working_set._MOST_COLUMNS", 29)
    data = make_data(p=30)
    problem = make_problem(alpha=0.1, n_inputs=30)
    fitted = LinearFitter(data, problem).fit(problem, None, tol=1e-7)
    assert violation(problem, data, fitted) <= 1.1e-7
    assert np.count_nonzero(fitted.active) > 2


def test_losses_of_the_path_are_those_of_models_that_did_not_see_the_rows(
    make_problem, make_data, pick_rows, loss
):
    whole = make_data(loss.name, m=80)
    fold = np.arange(80) % 4
    folds = [(pick_rows(whole, fold != f), pick_rows(whole, fold == f)) for f in range(4)]
    problem = make_problem(loss=loss.name)
    monitor = Monitor()
    path, refits = linear_path(whole, folds, problem, monitor)
    assert path[0].n_inputs == 0
    assert path[-1].n_inputs >= 2
    assert min(point.loss for point in path + refits) < 0.8 * path[0].loss
    assert len(monitor.history) == len(path) + len(refits)
    assert {point.l2 for point in path + refits} == {NO_STATES}
    weights = validation_weights([validation for _, validation in folds])
    assert weights.sum() == pytest.approx(1.0)
    for point in path[2:8:2]:
        again = replace(problem, alpha=point.alpha)
        expected = [
            validation_losses(
                validation, again, LinearFitter(training, again).fit(again, None, 1e-8)
            )
            for training, validation in folds
        ]
        np.testing.assert_allclose(point.losses, np.concatenate(expected), atol=2e-2)
        assert point.loss == pytest.approx(weights @ point.losses)
    parents = np.repeat(path[-(len(refits) // 2) :], 2)
    for refit, parent in zip(refits, parents, strict=True):
        assert not (refit.support & ~parent.support).any()


def test_a_fifth_of_one_label_of_the_validation_rows_is_doubted(make_problem, make_data):
    data, problem = make_data("logistic"), make_problem(loss="logistic")
    fitted = LinearFitter(data, problem).fit(problem, None)
    F = data.U @ fitted.D.T + fitted.d
    right, wrong = (problem.loss.per_sample(Y, F) for Y in (data.Y, 1.0 - data.Y))
    expected = right + 0.2 / 40 * (wrong - right)
    np.testing.assert_allclose(validation_losses(data, problem, fitted), expected)


def test_refits_take_back_the_shrinkage_of_groups_whose_first_input_is_constant(
    make_problem, make_data, pick_rows
):
    whole = make_data(m=80)
    whole.U[:, [0, 1, 2]] = whole.U[:, [2, 0, 1]] * [0.0, 1.0, 1.0]
    rows = np.arange(80) % 2 == 0
    problem = make_problem(groups=np.array([0, 0, 0, 1, 1]))
    path, refits = linear_path(
        whole, [(pick_rows(whole, rows), pick_rows(whole, ~rows))], problem, Monitor()
    )
    first = next(i for i, point in enumerate(path) if point.n_groups)
    parent, refit = path[first], refits[-2 * (len(path) - first)]
    assert np.linalg.norm(refit.parameters.D) > 1.1 * np.linalg.norm(parent.parameters.D)
