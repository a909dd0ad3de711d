"""The compiled kernels do what their Python source says; these runs are also their coverage."""

import sys

import numba
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numpy.testing import assert_array_equal

from bcd_implicit.activations import Clip, Identity, LeakyRelu, Relu, Sigmoid, SoftThreshold, Tanh
from bcd_implicit.equilibrium import solve_adjoint, solve_equilibrium
from bcd_implicit.losses import get_loss
from bcd_implicit.moments import Moments
from bcd_implicit.solvers._kernels import _LANE_COUNTS, _LANES, _add_block
from bcd_implicit.solvers.group_lasso import solve_group_lasso
from bcd_implicit.solvers.projections import project_l1_rows
from bcd_implicit.solvers.proximal import group_prox_metric, group_soft_threshold
from bcd_implicit.solvers.state_qp import solve_states
from bcd_implicit.solvers.tiles import in_blocks
from bcd_implicit.wellposed import contraction

ACTIVATIONS = [Relu(), Identity(), LeakyRelu(0.3), Clip(-0.4, 0.6), SoftThreshold(0.1), Tanh()]
every = pytest.mark.parametrize("activation", [*ACTIVATIONS, Sigmoid()], ids=repr)


@pytest.fixture
def interpreted(monkeypatch):
    """Return a function after which every kernel runs as Python, also those called by others."""

    def switch():
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == "bcd_implicit":
                for key, value in list(vars(module).items()):
                    if isinstance(value, Dispatcher):
                        monkeypatch.setattr(module, key, value.py_func)

    return switch


def twice(interpreted, run):
    compiled = run()
    interpreted()
    return compiled, run()


def matrix(n, factor, seed=0, sign=1):
    A = np.random.default_rng(seed).normal(size=(n, n))
    A = np.abs(A) if sign > 0 else A
    return A * (factor / np.abs(A).sum(axis=1, keepdims=True))


# slow and fast contractions, a loop over rows, tiles with lanes left over, increments, Anderson
@every
@pytest.mark.parametrize(
    ("n", "m", "factor", "tol"),
    [(7, 43, 0.6, 1e-10), (4, 5, 0.97, 1e-10), (95, 20, 0.5, 1e-8), (95, 4, 0.97, 1e-9)],
)
def test_states(activation, n, m, factor, tol, interpreted):
    A = matrix(n, factor, sign=-1 if m == 43 else 1)
    Z = np.random.default_rng(1).normal(size=(m, n))
    found = contraction(A)

    def run():
        with np.errstate(over="ignore"):
            return solve_equilibrium(activation, A, Z, found, tol)

    one, two = twice(interpreted, run)
    assert one.status == two.status == "converged"
    np.testing.assert_allclose(one.x, two.x, rtol=0, atol=one.error + two.error)


@pytest.mark.parametrize("max_iter", [1000, 3])
@pytest.mark.parametrize("fill", [1.0, 0.0, np.inf])
def test_states_from_a_start_and_adjoint(max_iter, fill, interpreted):
    A = matrix(5, 0.9)
    rng = np.random.default_rng(2)
    Z, R = rng.normal(size=(2, 6, 5))
    Z[0], R[0], M = fill, fill, (rng.random((6, 5)) < 0.7) * 1.0
    found, start = contraction(A), rng.normal(size=(6, 5))

    def run():
        with np.errstate(invalid="ignore"):
            return (
                solve_equilibrium(Relu(), A, Z, found, 1e-18, X0=start, max_iter=max_iter),
                solve_adjoint(A, M, R, found, 1e-18, max_iter=max_iter),
            )

    for one, two in zip(*twice(interpreted, run), strict=True):
        assert (one.status, one.n_iter) == (two.status, two.n_iter)
        np.testing.assert_allclose(one.x, two.x, rtol=1e-12, atol=1e-14)


@every
@pytest.mark.parametrize("max_iter", [200, 0])
def test_state_block(activation, max_iter, interpreted):
    kind, par = activation.kernel
    rng = np.random.default_rng(3)
    A, lam = matrix(5, 0.6, sign=-1), rng.uniform(0.5, 2.0, 5)
    C = rng.normal(size=(3, 5))
    c, zeta = rng.normal(size=(2, 8, 5))

    def run():
        return solve_states(
            C.T @ C + np.eye(5), c, zeta, lam, A, kind, par, tol=1e-12, max_iter=max_iter
        )

    one, two = twice(interpreted, run)
    assert one.status == two.status
    assert abs(one.n_iter - two.n_iter) <= 1  # products are not rounded alike
    np.testing.assert_allclose(one.x, two.x, rtol=1e-9, atol=1e-11)


def test_softmax(interpreted):
    rng = np.random.default_rng(6)
    F, Y = rng.normal(scale=5.0, size=(9, 4)), np.eye(4)[rng.integers(0, 4, size=9)]
    one, two = twice(interpreted, lambda: get_loss("multinomial").per_sample(Y, F))
    np.testing.assert_allclose(one, two, rtol=1e-14)


def test_moments(interpreted):
    rng = np.random.default_rng(5)
    rows, weights = rng.normal(size=(9, 3)), rng.random(9)
    one, two = twice(interpreted, lambda: Moments.of(rows, weights))
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.sums, two.sums)


def test_group_lasso(interpreted):
    rng = np.random.default_rng(4)
    U = rng.normal(size=(50, 45)) + 2.0 * rng.normal(size=(50, 1))
    U[:, 3] = 0.0
    Y = U[:, :4] @ rng.normal(size=(4, 2)) + rng.normal(size=(50, 2))

    def run():
        return solve_group_lasso(U, Y, np.full(45, 0.05), tol=1e-10)

    one, two = twice(interpreted, run)
    assert one.status == two.status == "optimal"
    np.testing.assert_allclose(one.x, two.x, rtol=0, atol=1e-7)


def test_projection_and_group_prox(interpreted):
    V = np.random.default_rng(5).normal(size=(20, 6))
    V[0], V[1], V[2] = 0.0, 1.0, [3.0, 3.0, 0.0, 0.0, -3.0, 1e-300]

    def run():
        projected = [project_l1_rows(V, radius).x for radius in (0.0, 0.3, 1.0, 50.0)]
        shrunk = group_prox_metric(V[3], np.linspace(0.1, 2.0, 6), 0.5).x
        return [*projected, group_soft_threshold(V, 1.0).x, shrunk]

    for one, two in zip(*twice(interpreted, run), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-13, atol=1e-15)


def test_products_with_tiles_may_use_the_longest_vectors():
    """They do not on most of Intel's processors, unless they are told."""
    product = numba.njit(lambda A, x, total: _add_block(A, 0, x, _LANES, 4, total))
    x, total = np.arange(4.0 * _LANES), np.zeros(4 * _LANES)
    product(np.eye(4).ravel(), x, total)
    assert_array_equal(total, x)
    (code,) = product.inspect_llvm().values()
    assert '"prefer-vector-width"="512"' in code


@pytest.mark.parametrize("lanes", _LANE_COUNTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [4, 20, 60])
def test_products_with_tiles(n, dtype, lanes):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, n)).astype(dtype)
    x, total = (rng.standard_normal((size, _LANES)).astype(dtype) for size in (n, 4))
    first = n - 4  # the last rows
    expected = total.copy()
    expected[:, :lanes] += A[first:] @ x[:, :lanes]

    def add(blocks, x, total):
        _add_block(blocks, first, x, lanes, n, total)

    for function in (add, numba.njit(add)):
        found = total.copy()
        function(in_blocks(A), x.ravel(), found.ravel())
        np.testing.assert_allclose(found, expected, atol=100.0 * np.finfo(dtype).eps)
        assert_array_equal(found[:, lanes:], total[:, lanes:])
