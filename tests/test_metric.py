"""The Gauss-Newton metric against brute force with dense Jacobians."""

import tracemalloc

import numpy as np
import pytest

import bcd_implicit.metric as module
from bcd_implicit.metric import (
    MetricSums,
    column_metrics,
    metric_sums,
    row_metrics,
    uncoupled,
)
from bcd_implicit.solvers._kernels import output_sensitivities, sensitivities


@pytest.fixture(params=[2, 4])  # no more states than outputs, or more
def sample(request, make_problem, make_data, make_parameters, states_of, activation, loss):
    """Problem, parameters, data, and M and F at the equilibrium."""
    problem = make_problem(activation, loss, kappa=0.9, n_states=request.param)
    data = make_data(loss, m=12)
    parameters = make_parameters(problem, data)
    X = states_of(problem, parameters, data.U)
    Z = X @ parameters.A.T + data.U @ parameters.B.T + parameters.b
    F = X @ parameters.C.T + data.U @ parameters.D.T + parameters.d
    return problem, parameters, data, X, activation.derivative(Z), F


def jacobians(parameters, M):
    """``[C T, I]`` of every sample, with an inverse."""
    n, q = len(parameters.A), len(parameters.C)
    for m in M:
        T = np.linalg.inv(np.eye(n) - m[:, np.newaxis] * parameters.A) @ np.diag(m)
        yield np.hstack([parameters.C @ T, np.eye(q)])


def hessians(loss, F):
    """Hessians by differences of the gradient."""
    q, step = F.shape[1], 1e-5
    Y = np.zeros_like(F)
    columns = [
        (loss.gradient(Y, F + step * e) - loss.gradient(Y, F - step * e)) / (2 * step)
        for e in np.eye(q)
    ]
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("entries", [1, 2**21], ids=["one_by_one", "all"])
def test_sums_are_those_of_the_definition(sample, entries, monkeypatch):
    monkeypatch.setattr(module, "_MOST_ENTRIES", entries)
    problem, parameters, data, _, M, F = sample
    w = data.weights
    sums = metric_sums(problem, parameters, M, data.Y, F, w)
    J = list(jacobians(parameters, M))
    Ls = hessians(problem.loss, F)
    H = sum(w[i] * J[i].T @ Ls[i] @ J[i] for i in range(len(w)))
    N = sum(w[i] * Ls[i] @ J[i] for i in range(len(w)))
    L = sum(w[i] * Ls[i] for i in range(len(w)))
    for found, expected in ((sums.H, H), (sums.N, N), (sums.L, L)):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8 * np.abs(H).max())
    assert sums.weight == pytest.approx(1.0)


@pytest.mark.parametrize("outputs", [10, 30])
def test_sensitivities_are_held_for_few_samples_at_a_time(
    make_problem, make_data, make_parameters, monkeypatch, outputs
):
    problem, data = make_problem(n_states=30), make_data(m=200, q=outputs)
    parameters = make_parameters(problem, data)
    arguments = np.ones((200, 30)), data.Y, np.zeros((200, outputs)), data.weights
    monkeypatch.setattr(module, "_MOST_ENTRIES", 30 * outputs * 10)
    metric_sums(problem, parameters, *arguments)
    tracemalloc.start()
    metric_sums(problem, parameters, *arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 8 * 200 * 30 * outputs


def test_jacobians_are_the_derivatives_of_the_prediction(sample, states_of):
    """What `metric_sums` calls J, against differences through the equilibrium."""
    problem, parameters, data, X, M, _ = sample
    V = np.column_stack([X, data.U, np.ones(len(X))])
    n, q = len(parameters.A), len(parameters.C)
    p, step = data.n_inputs, 1e-6
    E = np.random.default_rng(1).standard_normal((n + q, n + p + 1))
    E[n:, :n] = E[n:, -1] = 0.0
    predictions = []
    for sign in (step, -step):
        new = type(parameters)(
            parameters.A + sign * E[:n, :n],
            parameters.B + sign * E[:n, n:-1],
            parameters.b + sign * E[:n, -1],
            parameters.C,
            parameters.D + sign * E[n:, n:-1],
            parameters.d,
        )
        states = states_of(problem, new, data.U)
        predictions.append(states @ new.C.T + data.U @ new.D.T + new.d)
    expected = (predictions[0] - predictions[1]) / (2 * step)
    found = np.array([J @ E @ v for J, v in zip(jacobians(parameters, M), V, strict=True)])
    near = np.abs(found - expected).max(axis=1) < 1e-4  # all rows but those at a kink
    assert near.mean() > 0.8


def test_row_metrics_split_the_metric(sample):
    problem, parameters, data, _, M, F = sample
    sums = metric_sums(problem, parameters, M, data.Y, F, 5.0 * data.weights)
    n = problem.n_states
    H1, H2 = row_metrics(problem, sums)
    N, L = sums.N / 5.0, sums.L / 5.0
    np.testing.assert_allclose(H2, N.T @ np.linalg.pinv(L, rcond=1e-8) @ N, atol=1e-7)
    damping = H1 + H2 - sums.H / 5.0
    np.testing.assert_allclose(damping, np.diag(np.diag(damping)), atol=1e-12)
    np.testing.assert_allclose(np.diag(damping)[:n], 1e-3 * np.trace(sums.H[:n, :n]) / 5 / n)
    np.testing.assert_allclose(np.diag(damping)[n:], 1e-3 * np.trace(L) / len(L))
    for H in (H1, H2):
        np.testing.assert_array_equal(H, H.T)
        values = np.linalg.eigvalsh(H)
        assert values[0] >= -1e-9 * values[-1]
    assert np.linalg.eigvalsh(H1)[0] > 0.0


def test_layers_are_damped_state_by_state(make_problem):
    root = np.random.default_rng(0).standard_normal((10, 6))
    root[:, 0] *= 1e-3  # a state that hardly matters
    H = root.T @ root
    read = np.array([True, True, False, False])
    H1, H2 = row_metrics(make_problem(output_states=read), MetricSums(H, H[4:], H[4:, 4:], 1.0))
    curvature = np.diag(H)[:4]
    expected = 0.1 * np.maximum(curvature, 0.01 * curvature.mean())
    np.testing.assert_allclose(np.diag(H1 + H2 - H)[:4], expected, rtol=1e-9)


def test_without_feedthrough_only_the_states_are_left(make_problem):
    rng = np.random.default_rng(0)
    root = rng.standard_normal((10, 6))
    H = root.T @ root
    sums = MetricSums(H, H[4:], H[4:, 4:], 2.0)
    whole = row_metrics(make_problem("relu", "multinomial"), sums)
    states = row_metrics(make_problem("relu", "multinomial", feedthrough=False), sums)
    for one, other in zip(whole, states, strict=True):
        np.testing.assert_allclose(one[:4, :4], other, rtol=1e-12)
        assert other.shape == (4, 4)


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1e-20, 1e20])
def test_row_metrics_survive_extremes(scale, make_problem):
    """C = 0, or predictions so certain that the curvature vanishes."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((10, 6))
    H = scale * root.T @ root
    for metric in row_metrics(
        make_problem("relu", "multinomial"), MetricSums(H, H[4:], H[4:, 4:], 1.0)
    ):
        assert np.isfinite(metric).all()
        assert np.linalg.eigvalsh(metric)[0] >= -1e-9 * scale


def test_a_class_without_a_sample(make_problem, make_data, make_parameters):
    """Its probability is zero, so its row and column of L are."""
    problem, data = make_problem("relu", "multinomial"), make_data("multinomial", m=12)
    parameters = make_parameters(problem, data)
    F = np.column_stack([np.zeros((12, 2)), np.full(12, -1e3)])
    sums = metric_sums(problem, parameters, np.ones((12, 4)), data.Y, F, data.weights)
    H1, H2 = row_metrics(problem, sums)
    assert np.isfinite(H2).all()
    assert np.linalg.eigvalsh(H1)[0] > 0.0
    np.testing.assert_allclose(
        H2, sums.N.T @ np.linalg.pinv(sums.L, rcond=1e-8) @ sums.N, atol=1e-7
    )


def test_no_sample_adds_nothing(make_problem, make_data, make_parameters, loss):
    problem, data = make_problem("relu", loss), make_data(loss, m=12)
    none = np.zeros((0, data.n_outputs))
    sums = metric_sums(
        problem, make_parameters(problem, data), np.zeros((0, 4)), none, none, np.zeros(0)
    )
    assert not any(np.any(value) for value in sums)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("read", [None, np.array([True, False, False, True])])
def test_column_metrics(intercept, read):
    rng = np.random.default_rng(0)
    w = rng.uniform(0.5, 1.5, 30)
    X, U = rng.standard_normal((30, 4)), rng.standard_normal((30, 5)) + 0.5
    X[:, 2] = X[:, 0] - X[:, 1]  # rank-deficient
    X[:, 3] = 0.0  # a dead state
    U[:, 4] = 2.0 * X[:, 0]  # spanned by the states
    one = np.ones((30, 1))
    V = np.hstack([X, one])
    wV = V * w[:, np.newaxis]
    UU = U.T @ (U * w[:, np.newaxis])
    W, K = column_metrics(V.T @ wV, wV.T @ U, UU, intercept=intercept, read=read)
    seen = np.arange(4) if read is None else np.flatnonzero(read)
    free = np.hstack([X[:, seen], one]) if intercept else X[:, seen]
    columns = np.hstack([X, U, one]) if intercept else np.hstack([X, U])
    root = np.sqrt(w)[:, np.newaxis]
    np.testing.assert_allclose(W, (root * columns).T @ (root * columns), rtol=1e-12)
    fitted = np.linalg.lstsq(root * free, root * columns, rcond=1e-10)[0]
    rest = root * (columns - free @ fitted)
    W2 = W - K @ K.T
    np.testing.assert_allclose(W2, rest.T @ rest, atol=1e-6)  # of traces of 150
    assert np.linalg.eigvalsh(W2)[0] >= -1e-9
    assert np.abs(W2[seen]).max() <= 1e-6


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("n", [1, 4, 9])
def test_sensitivities_against_an_inverse(compiled, n):
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n))
    A *= 0.99 / np.abs(A).sum(axis=1, keepdims=True)
    M = rng.uniform(size=(6, n))
    M[rng.uniform(size=M.shape) < 0.3] = 0.0
    M[0], M[1] = 1.0, 0.0
    T, J = np.zeros((6, n, n)), np.zeros((6, 2, n))
    C = rng.standard_normal((2, n))
    functions = (sensitivities, output_sensitivities)
    of_states, of_outputs = (f if compiled else f.py_func for f in functions)
    of_states(A, M, T)
    of_outputs(np.ascontiguousarray(A.T), M, C, J)
    expected = [np.linalg.inv(np.eye(n) - np.diag(m) @ A) @ np.diag(m) for m in M]
    np.testing.assert_allclose(T, expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(J, C @ expected, rtol=1e-10, atol=1e-12)


def test_states_are_uncoupled_and_the_outputs_left_alone():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((4, 7))
    H = J.T @ J  # singular
    looser = uncoupled(H, 5)
    states, outputs = slice(0, 5), slice(5, 7)
    np.testing.assert_array_equal(looser[outputs, outputs], H[outputs, outputs])
    np.testing.assert_allclose(np.diag(looser)[states], 1.5 * np.diag(H)[states])
    coupling = np.where(np.eye(5, dtype=bool), 0.0, H[states, states])
    np.testing.assert_allclose(
        looser[states, states] - np.diag(np.diag(looser)[states]), 0.75 * coupling
    )
    np.testing.assert_array_equal(looser, looser.T)
    assert np.linalg.eigvalsh(looser)[0] > -1e-12 * np.trace(H)
    assert H[0, 0] == (J.T @ J)[0, 0]  # it works on a copy
