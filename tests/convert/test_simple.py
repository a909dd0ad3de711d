"""Conversions that need no PyTorch, each against its original on 1,000 random inputs."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import expit, softmax
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor

from bcd_implicit import IllPosedError, convert
from bcd_implicit.convert import VectorField, network, ode
from bcd_implicit.per_state import PerState

TWO = convert.Network(2)
EXACT = {"rtol": 0.0, "atol": 1e-10}


def draws(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def soft(Z, threshold):
    return np.sign(Z) * np.maximum(np.abs(Z) - threshold, 0.0)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn(activation, classes):
    X = draws(1000, 6)
    options = {"hidden_layer_sizes": (9, 7), "activation": activation, "max_iter": 5}
    if classes:
        y = np.digitize(X[:, 0], np.linspace(-0.5, 0.5, classes - 1))
        mlp = MLPClassifier(random_state=0, **options).fit(X, y)
        expected = mlp.predict_proba(X)
        expected = expected[:, 1:] if classes == 2 else expected
    else:
        mlp = MLPRegressor(random_state=0, **options).fit(X, X[:, :2])
        expected = mlp.predict(X)
    model = convert.from_sklearn(mlp)
    np.testing.assert_allclose(model.predict(X), expected, **EXACT)
    assert model.n_states == 16 + (classes if classes > 2 else classes // 2)
    assert model.contraction_factor == 0.0
    assert (np.tril(model.A.toarray()) == 0).all()


def test_scikit_learn_refuses():
    with pytest.raises(TypeError, match="got LinearRegression"):
        convert.from_sklearn(LinearRegression())
    with pytest.raises(NotFittedError):
        convert.from_sklearn(MLPRegressor())
    X = draws(30, 2)
    with pytest.warns(ConvergenceWarning):
        poisson = MLPRegressor(loss="poisson", max_iter=1).fit(X, X[:, 0] ** 2)
    with pytest.raises(ValueError, match="the output 'exp'"):
        convert.from_sklearn(poisson)


def test_deep_equilibrium():
    W, V, b, C, d = 0.1 * draws(8, 8), draws(8, 3), draws(8), draws(2, 8), draws(2)
    U = draws(1000, 3, seed=1)
    z = np.zeros((1000, 8))
    for _ in range(500):
        z = np.tanh(z @ W.T + U @ V.T + b)
    model = convert.deep_equilibrium(W, V, b, C, d, "tanh")
    np.testing.assert_allclose(model.predict(U), z @ C.T + d, **EXACT)
    assert 0.0 < model.contraction_factor < 1.0
    with pytest.raises(IllPosedError, match="the loop of 8 states"):
        convert.deep_equilibrium(100 * W, V, b, C, d)


def test_equilibrium_rnn():
    W, V, b = 0.1 * draws(5, 5), draws(5, 2), draws(5)
    U = draws(1000, 8, seed=1)
    h, expected = np.zeros((1000, 5)), []
    for t in range(4):
        before = h
        for _ in range(300):
            h = np.maximum((h + before) @ W.T + U[:, 2 * t : 2 * t + 2] @ V.T + b, 0.0)
        expected.append(h)
    model = convert.equilibrium_rnn(W, V, b, 4)
    np.testing.assert_allclose(model.predict(U), np.hstack(expected), **EXACT)
    assert model.contraction.levels == 4


def test_loops_are_added_at_once(monkeypatch):
    calls = []
    add = network.block_diag
    monkeypatch.setattr(network, "block_diag", lambda *a, **o: calls.append(0) or add(*a, **o))
    convert.equilibrium_rnn([[0.5]], [[1.0]], [0.0], 5)
    assert len(calls) == 1  # one for each loop copied A as often


@pytest.mark.parametrize("with_input", [False, True])
def test_differential_equations(with_input):
    W, V, b = 0.5 * draws(7, 3), 0.5 * draws(3, 7), draws(7)
    E = draws(7, 2) if with_input else np.zeros((7, 0))
    field = VectorField.of(V, W, E if with_input else None, b)
    U = draws(1000, 3 + E.shape[1], seed=1)
    start, offset = U[:, :3], U[:, 3:] @ E.T + b

    def f(x):
        return np.tanh(x @ W.T + offset) @ V.T

    h, euler, rk, implicit = 0.1, start, start, start
    for _ in range(10):
        euler = euler + h * f(euler)
        k1 = f(rk)
        k2 = f(rk + h / 2 * k1)
        k3 = f(rk + h / 2 * k2)
        k4 = f(rk + h * k3)
        rk = rk + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        x = implicit
        for _ in range(200):
            x = implicit + h * f(x)
        implicit = x
    np.testing.assert_allclose(convert.explicit_euler(field, 1.0, 10).predict(U), euler, **EXACT)
    np.testing.assert_allclose(convert.runge_kutta(field, 1.0, 10).predict(U), rk, **EXACT)
    model = convert.implicit_euler(field, 1.0, 10)
    np.testing.assert_allclose(model.predict(U), implicit, **EXACT)
    assert 0.0 < model.contraction_factor < 1.0
    assert h < convert.largest_implicit_step(field)


def test_steps_are_chosen_by_halving(monkeypatch):
    field = VectorField.of(0.5 * draws(3, 7), 0.5 * draws(7, 3), None, draws(7))
    U = draws(5, 3, seed=1)
    exact = np.array(
        [
            solve_ivp(
                lambda t, x: field.V @ np.tanh(field.W @ x + field.b),
                (0, 2),
                u,
                rtol=1e-12,
                atol=1e-12,
            ).y[:, -1]
            for u in U
        ]
    )
    for method, tol in (
        (convert.explicit_euler, 1e-2),
        (convert.runge_kutta, 1e-6),
        (convert.implicit_euler, 1e-2),
    ):
        steps = convert.choose_steps(method, field, 2.0, U, tol)
        error = np.abs(method(field, 2.0, steps).predict(U) - exact).max()
        assert error <= 3.0 * tol  # a step of order one halves its error at worst
    monkeypatch.setattr(ode, "_MOST_STEPS", 32)
    with pytest.raises(ValueError, match="more than 32 steps"):
        convert.choose_steps(convert.explicit_euler, field, 1.0, U[:1], 0.0)


def test_steps_of_stiff_equations(monkeypatch):
    decay = VectorField.of([[1.0]], [[-40.0]], activation="identity")  # eight steps overflow
    assert convert.choose_steps(convert.explicit_euler, decay, 1.0, [[1e304]], 1e290) == 32
    monkeypatch.setattr(ode, "_MOST_STEPS", 64)
    # 0.7 + 0.2 + 0.1 is below 1 by rounding alone: a single step is not certified
    edge = VectorField.of([[0.7, 0.2, 0.1]], np.ones((3, 1)))
    assert convert.choose_steps(convert.implicit_euler, edge, 1.0, [[0.1]], 1.0) == 2
    with pytest.raises(ValueError, match="needs 41 steps over time 1 to be certified"):
        convert.choose_steps(convert.implicit_euler, decay, 1.0, [[1.0]], 1e-3)


def test_implicit_steps_are_certified_or_refused():
    for activation in ("identity", "sigmoid"):  # of slopes up to 1 and 1/4
        field = VectorField.of([[1.0]], [[-4.0]], activation=activation)
        convert.implicit_euler(field, 0.99 * convert.largest_implicit_step(field), 1)
        with pytest.raises(IllPosedError):
            convert.implicit_euler(field, 1.01 * convert.largest_implicit_step(field), 1)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        convert.runge_kutta(field, 1.0, 0)
    with pytest.raises(ValueError, match="V must have shape"):
        VectorField.of([[1.0, 2.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"U must have shape \(1, 'any'\)"):
        VectorField.of([[1.0]], [[1.0]], [1.0])
    assert convert.largest_implicit_step(VectorField.of([[0.0]], [[1.0]])) == np.inf


def test_sparse_coding():
    D = draws(40, 12) / 7
    U = draws(1000, 40, seed=1)
    L, x = np.linalg.norm(D, 2) ** 2, np.zeros((1000, 12))
    for _ in range(6):
        x = soft(x - (x @ D.T - U) @ D / L, 0.2 / L)
    np.testing.assert_allclose(convert.ista(D, 0.2, 6).predict(U), x, **EXACT)
    for _ in range(3000):
        x = soft(x - (x @ D.T - U) @ D / L, 0.2 / L)
    D = np.eye(40, 12) + 0.02 * D
    x = np.zeros((1000, 12))
    for _ in range(500):
        x = soft(x - (x @ D.T - U) @ D / 1.5, 0.2 / 1.5)
    code = convert.sparse_code(D, 0.2)
    np.testing.assert_allclose(code.predict(U, tol=1e-12), x, **EXACT)
    lasso = Lasso(alpha=0.2 / 40, fit_intercept=False, tol=1e-12).fit(D, U[0])
    np.testing.assert_allclose(code.predict(U[:1])[0], lasso.coef_, atol=1e-8)
    with pytest.raises(IllPosedError):
        convert.sparse_code(draws(5, 12), 0.2)
    with pytest.raises(ValueError, match="without zero columns"):
        convert.ista(np.zeros((3, 2)), 0.1, 2)


def test_learned_sparse_coding():
    W, S = draws(9, 6), 0.3 * draws(9, 9)
    gates = [(draws(9, 6, seed=s), 0.3 * draws(9, 9, seed=s + 2)) for s in (1, 2)]
    U = draws(1000, 6, seed=5)
    x = np.zeros((1000, 9))
    for _ in range(4):
        x = soft(U @ W.T + x @ S.T, 0.4)
    np.testing.assert_allclose(convert.lista(W, S, 0.4, 4).predict(U), x, **EXACT)
    x = c = np.zeros((1000, 9))
    for _ in range(4):
        i, f = (expit(U @ P.T + x @ Q.T) for P, Q in gates)
        c = f * c + i * (U @ W.T + x @ S.T)
        x = soft(c, 0.4)
    model = convert.adaptive_ista(W, S, *gates, 0.4, 4)
    np.testing.assert_allclose(model.predict(U), x, **EXACT)


def test_k_means():
    U = draws(1000, 4)
    means = KMeans(5, n_init=1, random_state=0).fit(U)
    model = convert.kmeans_assignment(means.cluster_centers_, 3.0)
    expected = softmax(-3.0 * means.transform(U) ** 2, axis=1)
    np.testing.assert_allclose(model.predict(U), expected, **EXACT)
    np.testing.assert_array_equal(model.predict(U).argmax(axis=1), means.labels_)
    far = convert.kmeans_assignment(means.cluster_centers_ + 1e6, 3.0)
    np.testing.assert_allclose(far.predict(U + 1e6), expected, atol=1e-7)  # inputs round to 1e-10
    with pytest.raises(ValueError, match="sharpness positive"):
        convert.kmeans_assignment(means.cluster_centers_, 0.0)
    np.testing.assert_array_equal(convert.kmeans_assignment([[2.0]]).predict([[1.0]]), [[1.0]])


def test_steps_of_units_with_different_activations():
    mixed = PerState([("relu", [1]), ("tanh", [0])])
    W, U = draws(2, 2), draws(100, 4, seed=1)
    h = np.zeros((100, 2))
    for u in (U[:, :2], U[:, 2:]):
        z = h @ W.T + u
        h = np.column_stack([np.tanh(z[:, 0]), np.maximum(z[:, 1], 0.0)])
    model = convert.rnn(W, np.eye(2), np.zeros(2), 2, mixed)
    np.testing.assert_allclose(model.predict(U)[:, 2:], h, **EXACT)


def test_recurrent_shapes_are_checked():
    with pytest.raises(ValueError, match=r"W must have shape \(4 h, h\)"):
        convert.lstm(np.zeros((3, 3)), np.zeros((3, 1)), np.zeros(3), 2)
    with pytest.raises(ValueError, match="V and b must have 3 rows"):
        convert.rnn(np.zeros((3, 3)), np.zeros((2, 1)), np.zeros(3), 2)
    with pytest.raises(AttributeError, match="no attribute 'gan'"):
        convert.gan  # noqa: B018


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: convert.rnn([[0.5]], [[1.0]], [0.0], 0), "steps must be at least 1"),
        (lambda: convert.rnn([[0.5]], [[1.0]], [0.0], 1.5), "steps must be at least 1, and whole"),
        (lambda: convert.lstm(np.ones((4, 1)), np.ones((4, 1)), np.ones(4), 0), "steps must be"),
        (lambda: convert.ista(np.eye(2), 1.0, -1), "depth must be at least 0"),
        (lambda: convert.lista([[1.0]], np.eye(2), 1.0, 1), r"S must have shape \(1, 1\)"),
        (
            lambda: convert.adaptive_ista(np.eye(2), np.eye(2), *2 * [([[0.0]], [[0.0]])], 0.5, 1),
            r"W and P must have shape \(2, 2\)",
        ),
        (lambda: convert.kmeans_assignment(np.zeros((0, 2))), "a matrix with rows"),
        (lambda: TWO.linear(TWO.inputs, np.ones((2, 3))), r"W must have shape \('any', 2\)"),
        (lambda: TWO.linear(TWO.inputs, np.ones((1, 2)), np.ones(3)), "could not be broadcast"),
        (lambda: TWO.activate(TWO.inputs, "relu", loop=np.eye(3) / 2), r"loop must have shape \(2"),
        (lambda: TWO.activate(TWO.inputs, "softmax", size=3), "size must divide the 2 pre-act"),
        (lambda: TWO.activate(TWO.inputs, "softmax", size=0), "size must divide the 2 pre-act"),
        (lambda: TWO.product(TWO.inputs[:1], TWO.inputs), r"gate must have shape \(1,\)"),
        (
            lambda: convert.deep_equilibrium(np.eye(2), [[1.0]], [0.0], [[1.0]], [3.0]),
            r"W must have shape \(1, 1\)",
        ),
        (
            lambda: convert.deep_equilibrium([[0.5]], [1.0], [0.0], [[1.0]], [3.0]),
            r"V must have shape \('any', 'any'\)",
        ),
    ],
)
def test_shapes_and_numbers_of_layers_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
