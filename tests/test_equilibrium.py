"""Equilibrium and adjoint: the claimed error bounds against solutions in extended precision."""

import numpy as np
import pytest
from scipy.optimize import root

import bcd_implicit.equilibrium as module
from bcd_implicit import _acceleration
from bcd_implicit._acceleration import elimination_cost
from bcd_implicit._sweeps import SweepForm
from bcd_implicit.activations import (
    Activation,
    Clip,
    Identity,
    LeakyRelu,
    Relu,
    Sigmoid,
    SoftThreshold,
    Tanh,
)
from bcd_implicit.equilibrium import solve_adjoint, solve_equilibrium
from bcd_implicit.solvers._kernels import (
    PIECEWISE_LINEAR,
    adjoint_rows,
    picard_rows,
    row_changes,
)
from bcd_implicit.wellposed import contraction

ACTIVATIONS = [
    Relu(),
    Identity(),
    LeakyRelu(0.3),
    Tanh(),
    Sigmoid(),
    Clip(),
    Clip(0.5, 2.0),
    SoftThreshold(0.1),
]
every = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


class Arctan(Activation):
    """A user's own map; it ignores ``out``."""

    name = "arctan"

    def value(self, Z, out=None):
        return np.arctan(Z)

    def derivative(self, Z):
        return 1 / (1 + Z**2)


def solve_centred(activation, A, Z, found, *arguments, **options):
    """Solve with sweeps of the form that contracts fastest, where there are any."""
    kernel = activation.kernel
    if kernel is not None and kernel[0] == PIECEWISE_LINEAR:
        options["form"] = SweepForm.centred(activation, kernel, A, found)
    return module.solve_equilibrium(activation, A, Z, found, *arguments, **options)


@pytest.fixture(params=["centred", "tiles", "rows", "blocks"])
def path(request, monkeypatch):
    """Run a test with sweeps over tiles first, the loop over rows, and blocks through BLAS."""
    if request.param == "centred":
        monkeypatch.setitem(globals(), "solve_equilibrium", solve_centred)
    elif request.param != "tiles":
        monkeypatch.setattr(module, "_sweeps_pay", lambda *_: False)
    monkeypatch.setattr(module, "ROW_BY_ROW", 0 if request.param == "blocks" else 10**6)
    monkeypatch.setattr(module, "_FEWEST_ITERATIONS", 0.0)  # adjoints, too
    return request.param


def row_sum_matrix(n, factor, seed=0):
    A = np.random.default_rng(seed).normal(size=(n, n))
    return A * (factor * (1 - 1e-14) / np.abs(A).sum(axis=1, keepdims=True))


def hard_matrices():
    rng = np.random.default_rng(7)
    yield "0.5", row_sum_matrix(8, 0.5)
    yield "0.999", row_sum_matrix(8, 0.999)
    # no cancellation: convergence really is as slow as the factor says
    yield "positive 0.99", np.abs(row_sum_matrix(5, 0.99))
    yield "cycle 0.999", np.roll(0.999 * np.eye(5), 1, axis=0)
    A = np.abs(row_sum_matrix(6, 0.9))
    scale = 4.0 ** np.arange(6)
    yield "Perron only", A * scale[:, np.newaxis] / scale
    yield "triangular", np.tril(rng.normal(scale=1e3, size=(6, 6)), -1)
    yield "nearly triangular", np.triu(rng.normal(scale=30, size=(6, 6)), 1) + 0.9 * np.eye(6)
    yield "zero", np.zeros((4, 4))
    yield "one state", np.array([[-0.95]])


MATRICES = dict(hard_matrices())
matrices = pytest.mark.parametrize("name", MATRICES)


def extended(step, start):
    """Iterate in 80-bit arithmetic until only its rounding errors are left."""
    X = start.astype(np.longdouble)
    for _ in range(100_000):
        new = step(X)
        if np.abs(new - X).max() <= 1e-18 * np.abs(new).max():
            return new
        X = new
    return X


def exact_states(activation, A, Z):
    A = A.astype(np.longdouble)
    Z = Z.astype(np.longdouble)
    return extended(lambda X: activation.value(X @ A.T + Z), 0 * Z)


@matrices
@every
def test_bound_holds_and_meets_the_tolerance(activation, name, path):
    A = MATRICES[name]
    Z = np.random.default_rng(1).normal(scale=2, size=(3, len(A)))
    found = contraction(A, activation.lipschitz)
    exact = exact_states(activation, A, Z)
    for tol in (1e-3, 1e-8):
        result = solve_equilibrium(activation, A, Z, found, tol)
        error = np.abs(result.x - exact).max(axis=1)
        assert error.max() <= result.error
        size = np.maximum(1, np.abs(result.x).max(axis=1))
        if result.status == "converged":
            assert np.all(error <= tol * size)
        else:  # only rounding may come in between, and only for weights that span many orders
            assert result.status == "rounding"
            assert name in ("triangular", "nearly triangular")


@matrices
@pytest.mark.parametrize("activation", [Relu(), Tanh()], ids=repr)
def test_unreachable_tolerance_stops_at_the_rounding_floor(activation, name, path):
    A = MATRICES[name]
    Z = np.random.default_rng(1).normal(scale=2, size=(3, len(A)))
    result = solve_equilibrium(activation, A, Z, contraction(A), tol=0.0)
    exact = exact_states(activation, A, Z)
    assert result.status == "rounding"
    assert np.abs(result.x - exact).max() <= result.error
    assert result.error < np.inf
    # the floor that is reached is the one of the arithmetic, not a loose one
    again = activation.value(result.x @ A.T + Z)
    scale = np.abs(result.x) @ np.abs(A).T + np.abs(Z)
    assert np.all(np.abs(again - result.x) <= 100 * np.finfo(float).eps * scale.max(axis=0))


def test_tolerance_is_relative_for_large_states(path):
    A = row_sum_matrix(6, 0.9)
    Z = 1e9 * np.random.default_rng(0).normal(size=(4, 6))
    result = solve_equilibrium(Identity(), A, Z, contraction(A), tol=1e-10)
    assert result.status == "converged"
    assert result.error <= 1e-10 * np.abs(result.x).max()
    np.testing.assert_allclose(result.x, np.linalg.solve(np.eye(6) - A, Z.T).T, rtol=1e-9)


@pytest.mark.parametrize("activation", [Tanh(), Sigmoid(), Arctan()], ids=lambda a: a.name)
def test_against_a_root_finder(activation):
    A = row_sum_matrix(5, 0.9, seed=2)
    Z = np.random.default_rng(3).normal(size=(4, 5))
    result = solve_equilibrium(activation, A, Z, contraction(A, activation.lipschitz))
    assert result.status == "converged"
    for x, z in zip(result.x, Z, strict=True):
        found = root(lambda v, z=z: v - activation.value(A @ v + z), np.zeros(5), tol=1e-13)
        np.testing.assert_allclose(x, found.x, atol=1e-9)


def test_relu_against_enumeration_of_the_active_sets(path):
    A = row_sum_matrix(3, 0.9, seed=4)
    Z = np.random.default_rng(5).normal(size=(6, 3))
    states = solve_equilibrium(Relu(), A, Z, contraction(A), 1e-13).x
    for x, z in zip(states, Z, strict=True):
        solutions = []
        for active in np.ndindex(2, 2, 2):
            M = np.diag(active).astype(float)
            candidate = np.linalg.solve(np.eye(3) - M @ A, M @ z)
            if np.all(np.abs(candidate - np.maximum(A @ candidate + z, 0)) < 1e-12):
                solutions.append(candidate)
        assert len(solutions) == 1
        np.testing.assert_allclose(x, solutions[0], atol=1e-12)


@every
@pytest.mark.parametrize("n", [3, 70])
def test_float32(activation, n, path):
    A = row_sum_matrix(n, 0.9).astype(np.float32)
    Z = np.random.default_rng(0).normal(size=(5, n)).astype(np.float32)
    result = solve_equilibrium(activation, A, Z, contraction(A, activation.lipschitz))
    assert result.x.dtype == np.float32
    error = np.abs(result.x - exact_states(activation, A, Z)).max()
    assert error <= result.error <= 1e-2
    assert error <= 1e-5


@pytest.mark.parametrize("n", [5, 40])
def test_a_row_has_the_same_bits_in_every_block(n):
    A = row_sum_matrix(n, 0.99)
    Z = np.random.default_rng(0).normal(size=(50, n)) * np.logspace(-3, 3, 50)[:, np.newaxis]
    found = contraction(A)
    whole = solve_equilibrium(Relu(), A, Z, found).x
    M = (whole > 0).astype(float)
    adjoint = solve_adjoint(A, M, Z, found).x
    for rows in (slice(0, 1), slice(3, 20), slice(20, 50)):
        np.testing.assert_array_equal(solve_equilibrium(Relu(), A, Z[rows], found).x, whole[rows])
        np.testing.assert_array_equal(solve_adjoint(A, M[rows], Z[rows], found).x, adjoint[rows])


def test_warm_start_and_out(path):
    A = row_sum_matrix(6, 0.99)
    Z = np.random.default_rng(0).normal(size=(7, 6))
    found = contraction(A)
    cold = solve_equilibrium(Relu(), A, Z, found, 1e-12)
    buffer = cold.x * (1.0 + 1e-9)  # on the same pieces
    warm = solve_equilibrium(Relu(), A, Z, found, 1e-12, X0=buffer, out=buffer)
    assert warm.x is buffer
    assert warm.n_iter < cold.n_iter or cold.n_iter == 1  # row by row the start is direct
    np.testing.assert_allclose(warm.x, cold.x, atol=2e-12)
    start = cold.x.copy()
    other = solve_equilibrium(Relu(), A, Z, found, 1e-12, X0=start, out=np.empty_like(Z))
    np.testing.assert_array_equal(start, cold.x)
    assert other.n_iter <= 3


def test_read_only_and_strided_inputs(path):
    A, Z = row_sum_matrix(6, 0.9), np.random.default_rng(0).normal(size=(6, 14))
    strided = Z[:, ::2].T
    expected = solve_equilibrium(Relu(), A, np.ascontiguousarray(strided), contraction(A)).x
    for array in (A, Z):
        array.setflags(write=False)
    result = solve_equilibrium(Relu(), A, Z[:, ::2].T, contraction(A))
    np.testing.assert_allclose(result.x, expected, atol=1e-14)


@pytest.mark.parametrize("activation", [Relu(), Tanh()], ids=repr)
def test_too_few_iterations_are_admitted(activation, path):
    A = np.roll(0.999 * np.eye(4), 1, axis=0)
    Z = np.full((2, 4), 0.1)
    result = solve_equilibrium(activation, A, Z, contraction(A), max_iter=1)
    assert (result.status, result.n_iter) == ("max_iter", 1)
    exact = exact_states(activation, A, Z)
    assert np.abs(result.x - exact).max() <= result.error


def test_overflow_is_admitted(path):
    A = np.array([[0.9, 0.0], [0.0, 0.1]])
    Z = np.array([[1.0, 1.0], [1.7e308, 1.0]])
    with np.errstate(over="ignore", invalid="ignore"):
        result = solve_equilibrium(Relu(), A, Z, contraction(A))
    assert result.status == "max_iter"
    assert result.error == np.inf
    np.testing.assert_allclose(result.x[0], [10, 1 / 0.9], atol=1e-8)


@pytest.mark.parametrize("activation", [Relu(), Clip()], ids=repr)
def test_inputs_that_overflowed_are_admitted(activation, path):
    A = np.array([[0.5, 0.1], [0.1, 0.0]])
    Z = np.array([[-np.inf, 1.0], [1.0, 1.0]])  # nobody knows what the sum would have been
    with np.errstate(invalid="ignore"):
        result = solve_equilibrium(activation, A, Z, contraction(A))
    assert (result.status, result.error) == ("max_iter", np.inf)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)], ids=["rows", "states"])
def test_no_rows_or_no_states(shape, path):
    A = np.zeros((shape[1], shape[1]))
    empty = np.empty(shape)
    for result in (
        solve_equilibrium(Relu(), A, empty, contraction(A)),
        solve_equilibrium(Tanh(), A, empty, contraction(A)),
        solve_adjoint(A, empty, empty, contraction(A)),
    ):
        assert result.x.shape == shape
        assert (result.error, result.n_iter, result.status) == (0, 0, "converged")


def test_many_rows_of_different_difficulty(path):
    A = np.diag([0.999, 0.1, 0.5])
    Z = np.zeros((3000, 3))
    Z[::7, 0] = 1.0
    Z[:, 1:] = np.random.default_rng(0).normal(size=(3000, 2))
    result = solve_equilibrium(Relu(), A, Z, contraction(A), 1e-9)
    exact = np.maximum(Z, 0) / (1 - np.diag(A))
    assert result.status == "converged"
    assert np.abs(result.x - exact).max() <= result.error
    assert np.all(np.abs(result.x - exact) <= 1e-9 * np.maximum(1, exact.max(axis=1))[:, None])


# ---------------------------------------------------------------- adjoint


def exact_adjoint(A, M, R):
    A, M, R = (array.astype(np.longdouble) for array in (A, M, R))
    return extended(lambda V: M * (V @ A + R), 0 * R)


@matrices
def test_adjoint_bound_holds(name, path):
    A = MATRICES[name]
    rng = np.random.default_rng(2)
    M = rng.choice([0.0, 1.0, 0.5], size=(4, len(A)), p=[0.2, 0.6, 0.2])
    R = rng.normal(size=M.shape) * np.array([[1e-6], [1], [1e6], [0]])
    exact = exact_adjoint(A, M, R)
    result = solve_adjoint(A, M, R, contraction(A), 1e-7)
    error = np.abs(result.x - exact).max(axis=1)
    assert error.max() <= result.error
    assert not result.x[3].any()
    if result.status == "converged":
        assert np.all(error <= 1e-7 * np.abs(R).max(axis=1))
    else:
        assert result.status == "rounding"
        assert name in ("triangular", "nearly triangular")


def test_adjoint_against_dense_solves(path):
    n = 9
    A = row_sum_matrix(n, 0.95)
    rng = np.random.default_rng(0)
    M, R = rng.uniform(size=(5, n)), rng.normal(size=(5, n))
    V = solve_adjoint(A, M, R, contraction(A), 1e-13).x
    for v, m, r in zip(V, M, R, strict=True):
        np.testing.assert_allclose(v, np.linalg.solve(np.eye(n) - m[:, None] * A.T, m * r))


@pytest.mark.parametrize("max_iter", [None, 5, 6])
def test_slow_adjoints_are_solved_directly(monkeypatch, max_iter):
    monkeypatch.setattr(module, "_FEWEST_ITERATIONS", 0.0)
    rng = np.random.default_rng(5)
    A = np.abs(row_sum_matrix(80, 0.99))  # a thousand iterations
    M, R = (rng.uniform(size=(2, 7, 80)) > 0.3).astype(np.float64)
    R[0] = 0.0
    R[1] *= 1e-300
    result = solve_adjoint(A, M, R, contraction(A), 1e-9, max_iter=max_iter)
    assert result.status == "converged"
    assert result.n_iter <= 6
    np.testing.assert_allclose(result.x, exact_adjoint(A, M, R), rtol=1e-9)


@pytest.mark.parametrize(
    ("factor", "begins"), [(0.3, False), (0.7, False), (0.9, True), (0.99, True)]
)
def test_adjoints_are_solved_directly_where_iterations_take_longer(monkeypatch, factor, begins):
    direct = []
    monkeypatch.setattr(module, "_FEWEST_ITERATIONS", 0.0)
    monkeypatch.setattr(_acceleration, "adjoint_rows", lambda *a: direct.append(adjoint_rows(*a)))
    A = np.abs(row_sum_matrix(80, factor))
    M = np.zeros((40, 80))
    M[:, :60] = 1.0  # as long as 38 iterations
    result = solve_adjoint(A, M, np.ones((40, 80)), contraction(A), 1e-8)
    assert result.status == "converged"
    assert len(direct) == begins
    assert pytest.approx(elimination_cost(M)) == 4.0 + 60**3 / 80**2


def test_iterations_ahead():
    before = np.array([1.0, 1.0, 0.5, 1.0, np.inf])
    change = np.array([0.1, 0.1, 0.5, 0.1, np.inf])
    excess = np.log([100.0, 0.1, 100.0, 1e300, 100.0])
    far = _acceleration._FAR_AHEAD
    ahead = _acceleration.iterations_ahead(before, change, excess)
    np.testing.assert_allclose(ahead, [2.0, 0.0, far, 300.0, far])


def test_adjoint_without_active_states(path):
    A = row_sum_matrix(4, 0.9)
    M, R = np.zeros((2, 4)), np.ones((2, 4))
    result = solve_adjoint(A, M, R, contraction(A), V0=np.ones((2, 4)))
    assert not result.x.any()
    assert (result.error, result.status) == (0, "converged")


def test_adjoint_warm_start_and_float32(path):
    A = row_sum_matrix(5, 0.99)
    rng = np.random.default_rng(0)
    M, R = rng.uniform(0.8, 1, size=(3, 5)), rng.normal(size=(3, 5))
    cold = solve_adjoint(A, M, R, contraction(A))
    warm = solve_adjoint(A, M, R, contraction(A), V0=cold.x, out=cold.x)
    assert warm.n_iter < cold.n_iter or cold.n_iter == 1  # row by row the start is direct
    single = [array.astype(np.float32) for array in (A, M, R)]
    result = solve_adjoint(*single, contraction(single[0]))
    assert result.x.dtype == np.float32
    assert np.abs(result.x - exact_adjoint(*single)).max() <= min(result.error, 1e-4)


@pytest.mark.parametrize("activation", [Tanh(), Sigmoid(), LeakyRelu(0.3)], ids=repr)
def test_adjoint_is_the_gradient_through_the_equilibrium(activation):
    n = 6
    A = row_sum_matrix(n, 0.9)
    rng = np.random.default_rng(1)
    Z, R = rng.normal(size=(1, n)), rng.normal(size=(1, n))
    found = contraction(A, activation.lipschitz)

    def objective(Zin, matrix):
        return float(np.sum(R * solve_equilibrium(activation, matrix, Zin, found, 1e-14).x))

    X = solve_equilibrium(activation, A, Z, found, 1e-14).x
    V = solve_adjoint(A, activation.derivative(X @ A.T + Z), R, found, 1e-12).x
    e = 1e-6
    slopes = [(objective(Z + s, A) - objective(Z - s, A)) / (2 * e) for s in e * np.eye(n)]
    np.testing.assert_allclose(V[0], slopes, atol=1e-7)
    change = rng.normal(size=(n, n))
    slope = (objective(Z, A + e * change) - objective(Z, A - e * change)) / (2 * e)
    assert np.sum((V.T @ X) * change) == pytest.approx(slope, abs=1e-6)


# ---------------------------------------------------------------- kernels and errors


@pytest.mark.parametrize("activation", [Relu(), LeakyRelu(), Clip(), SoftThreshold()], ids=repr)
def test_compiled_rows_equal_python(activation):
    A = row_sum_matrix(4, 0.8)
    Z = np.random.default_rng(0).normal(size=(3, 4))
    results = []
    for function in (picard_rows, picard_rows.py_func):
        X, error = np.zeros_like(Z), np.zeros(3)
        _, par = activation.kernel
        fixed = (np.ones(4), 0.8, 1.0, 1e-15, 1e-15, 1e-9, 1000)
        code = function(par, A.T.copy(), Z, X, *fixed, error)
        results.append((code, X, error))
    assert results[0][0] == results[1][0]
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-14)
    np.testing.assert_allclose(results[0][2], results[1][2], rtol=1e-6)


def test_compiled_adjoint_and_changes_equal_python():
    A = row_sum_matrix(4, 0.8)
    rng = np.random.default_rng(0)
    M, R = rng.uniform(size=(3, 4)), rng.normal(size=(3, 4))
    results = []
    for function in (adjoint_rows, adjoint_rows.py_func):
        V, error = np.zeros_like(R), np.zeros(3)
        code = function(A, M, R, V, np.ones(4), 0.8, 1e-15, 1e-15, 1e-9, 1000, error)
        results.append((code, V, error))
    assert results[0][0] == results[1][0]
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-14)
    for function in (row_changes, row_changes.py_func):
        change, norm, size = np.empty((3, 3))
        function(R, M, np.arange(4.0), change, norm, size)
        np.testing.assert_array_equal(change, (np.arange(4.0) * np.abs(R - M)).max(axis=1))
        np.testing.assert_array_equal(norm, (np.arange(4.0) * np.abs(R)).max(axis=1))
        np.testing.assert_array_equal(size, np.maximum(1, np.abs(R).max(axis=1)))


def test_errors():
    A = row_sum_matrix(3, 0.9)
    Z = np.zeros((2, 3))
    found = contraction(A)
    for call, message in (
        (lambda: solve_equilibrium(Relu(), A[:2], Z, found), "A must be square"),
        (lambda: solve_equilibrium(Relu(), A, Z, contraction([[0.5]])), "made for it"),
        (lambda: solve_equilibrium(Relu(), A, Z[0], found), r"Zin must have shape \(m, 3\)"),
        (lambda: solve_equilibrium(Relu(), A, Z.astype(np.float32), found), "dtype of A"),
        (lambda: solve_equilibrium(Relu(), A, Z, found, X0=Z[:1]), "start must have shape"),
        (lambda: solve_equilibrium(Relu(), A, Z, found, out=Z.astype(int)), "out must have"),
        (lambda: solve_adjoint(A, Z, Z[:, :2], found), "R must have shape"),
        (lambda: solve_adjoint(A, Z[:1], Z, found), "M must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("max_iter", [0, 1, None])
@pytest.mark.parametrize("n", [5, 65])
def test_adjoints_from_zero_do_not_look_at_what_was_there(n, max_iter):
    A = np.full((n, n), 0.5 / n)
    M, R, found = np.ones((1, n)), np.ones((1, n)), contraction(A.T)
    fresh = solve_adjoint(A, M, R, found, max_iter=max_iter)
    over = solve_adjoint(A, M, R, found, max_iter=max_iter, out=np.full_like(R, np.nan))
    np.testing.assert_array_equal(over.x, fresh.x)
    assert (over.error, over.status) == (fresh.error, fresh.status)


def test_newton_settles_a_slow_contraction_in_few_iterations():
    rng = np.random.default_rng(0)
    A = np.abs(rng.standard_normal((8, 8)))
    A *= 0.9999 / A.sum(axis=1, keepdims=True)
    result = solve_equilibrium(Relu(), A, rng.standard_normal((200, 8)), contraction(A))
    assert result.status == "converged"
    assert result.n_iter <= 100  # the contraction alone needs more than 100,000


@pytest.mark.parametrize("activation", [Relu(), LeakyRelu(0.3), Tanh()], ids=repr)
def test_anderson_settles_a_slow_contraction_in_few_iterations(activation):
    rng = np.random.default_rng(0)
    A = rng.exponential(size=(80, 80))
    A *= 0.999 / A.sum(axis=1, keepdims=True)
    Z = rng.standard_normal((100, 80))
    found = contraction(A)
    result = solve_equilibrium(activation, A, Z, found, 1e-9)
    assert result.status == "converged"
    assert result.n_iter <= 200  # the contraction alone needs more than 20,000
    tight = solve_equilibrium(activation, A, Z, found, 1e-12).x
    assert np.abs(result.x - tight).max() <= result.error


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e-6, 1.0, 1e6, 1e30, 1e200])
@pytest.mark.parametrize("n", [20, 100])
def test_products_in_single_precision_keep_the_bound(n, size):
    A = row_sum_matrix(n, 0.9)
    Z = size * np.random.default_rng(0).normal(size=(300, n))
    for tol in (1e-4, 1e-8, 1e-11):
        result = solve_equilibrium(Relu(), A, Z, contraction(A), tol)
        assert result.status == "converged"
        exact = exact_states(Relu(), A, Z)
        assert np.abs(result.x - exact).max() <= result.error
        assert result.error <= tol * max(1.0, np.abs(exact).max())


@pytest.mark.parametrize("n", [1, 4, 5, 20, 64])
@pytest.mark.parametrize("factor", [0.7, 0.99])
def test_a_row_in_a_tile_has_the_bits_of_the_row_alone(factor, n):
    A = row_sum_matrix(n, factor)
    Z = np.random.default_rng(n).normal(size=(173, n))
    found = contraction(A)
    whole = solve_equilibrium(Relu(), A, Z, found).x
    for i in (0, 31, 63, 64, 128, 172):
        alone = solve_equilibrium(Relu(), A, Z[i : i + 1], found).x
        assert alone.tobytes() == whole[i : i + 1].tobytes()


def test_sweeps_stop_at_rounding_errors(monkeypatch):
    monkeypatch.setattr(module, "picard_rows", None)  # no row is left for it
    A = row_sum_matrix(12, 0.97)
    Z = np.random.default_rng(0).normal(size=(200, 12))
    result = solve_equilibrium(Relu(), A, Z, contraction(A), 1e-16)
    exact = exact_states(Relu(), A, Z)
    assert result.status == "rounding"
    assert np.abs(result.x - exact).max() <= result.error
    assert np.abs(result.x - exact).max() <= 1e-15 * np.abs(exact).max()


def test_a_row_that_is_not_a_number_does_not_disturb_the_others():
    for n in (20, 100):
        A = row_sum_matrix(n, 0.7)
        Z = np.random.default_rng(0).normal(size=(40, n))
        whole = solve_equilibrium(Relu(), A, Z, contraction(A)).x
        Z[7, 3] = np.nan
        with np.errstate(invalid="ignore"):
            result = solve_equilibrium(Relu(), A, Z, contraction(A))
        assert result.status == "max_iter"
        assert result.error == np.inf
        others = np.arange(40) != 7
        np.testing.assert_allclose(result.x[others], whole[others], atol=1e-9)


def test_a_matrix_beyond_single_precision():
    A = np.array([[0.5, 1e100], [0.0, 0.5]])
    Z = np.array([[1.0, 1e-100], [-1.0, 2.0], [3.0, -1.0]])
    result = solve_equilibrium(Relu(), A, Z, contraction(A))
    second = 2 * np.maximum(Z[:, 1], 0)
    first = 2 * np.maximum(Z[:, 0] + 1e100 * second, 0)
    np.testing.assert_allclose(result.x, np.stack([first, second], axis=1), rtol=1e-9)


def test_a_pivot_that_rounding_made_zero():
    # times each other these are one, in single precision
    A = np.array([[0.0, 0.8184808492660522, 0.0], [0.0, 0.0, 2.0], [0.6108878254890442, 0.0, 0.0]])
    A, ones = A.astype(np.float32), np.ones((1, 3), np.float32)
    found = contraction(A)
    states = solve_equilibrium(Relu(), A, ones, found, X0=ones, max_iter=3)
    for result in (states, solve_adjoint(A, ones, ones, found, max_iter=3)):
        assert result.status == "max_iter"
        assert np.isfinite(result.x).all()
