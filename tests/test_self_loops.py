"""Equations without self-loops, against the equations that they come from."""

import numpy as np
import pytest

from bcd_implicit import ImplicitModel
from bcd_implicit._self_loops import adjoint_without_self_loops, without_self_loops
from bcd_implicit.activations import Clip, Identity, LeakyRelu, Relu, SoftThreshold, Tanh
from bcd_implicit.equilibrium import solve_adjoint, solve_equilibrium
from bcd_implicit.wellposed import contraction

CUTTING = [Relu(), Identity(), Clip(-1.0, 1.0), Clip(0.5, 2.0)]
cutting = pytest.mark.parametrize("activation", CUTTING, ids=repr)


def matrix(n, seed=0, factor=0.95):
    """Row sums of ``factor``; states feed themselves with up to all of it, of either sign."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    np.fill_diagonal(A, 0.0)
    own = rng.uniform(-1.0, 1.0, n) * factor
    own[-1], own[0] = 0.0, factor
    rest = np.abs(A).sum(axis=1)
    A *= ((factor - np.abs(own)) / np.where(rest > 0.0, rest, 1.0))[:, None]
    np.fill_diagonal(A, own)
    return A


def exact(activation, A, z):
    """Iterate the equation itself in extended precision."""
    A, z = A.astype(np.longdouble), z.astype(np.longdouble)
    x = np.zeros_like(z)
    low, high = activation.kernel[1][2:]
    if isinstance(activation, Relu):
        low = 0.0
    for _ in range(800):
        x = np.clip(x @ A.T + z, low, high)
    return x


@cutting
@pytest.mark.parametrize("n", [1, 2, 9])
def test_it_has_the_same_solution(activation, n):
    A = matrix(n)
    z = np.random.default_rng(1).standard_normal((20, n))
    loopless = without_self_loops(activation, A, contraction(A))
    assert not loopless.A.diagonal().any()
    x = exact(activation, A, z)
    np.testing.assert_allclose(
        exact(activation, loopless.A, z * loopless.gain).astype(float), x.astype(float), rtol=1e-13
    )


@cutting
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_contraction_is_one_and_no_slower(activation, dtype):
    A = matrix(9).astype(dtype)
    found = contraction(A)
    loopless = without_self_loops(activation, A, found)
    wide = A.astype(np.longdouble)
    other = np.abs(wide - np.diag(wide.diagonal())) / (1.0 - wide.diagonal())[:, None]
    s, factor = loopless.contraction.scale, loopless.contraction.factor
    assert np.all(other @ s <= factor * s)
    assert factor <= found.factor * (1.0 + 30 * np.finfo(dtype).eps)
    np.testing.assert_allclose(loopless.A, other * np.sign(A), rtol=2 * np.finfo(dtype).eps)


@cutting
@pytest.mark.parametrize("n", [2, 9, 66])
@pytest.mark.parametrize("warm", [False, True])
def test_the_bound_holds_for_the_equation_itself(activation, n, warm):
    A = matrix(n, seed=3)
    z = np.random.default_rng(4).standard_normal((40, n)) * 3.0
    start = np.abs(z) if warm else None
    found = solve_equilibrium(activation, A, z, contraction(A), 1e-10, X0=start)
    assert found.status == "converged"
    wrong = np.abs(found.x - exact(activation, A, z)).max()
    assert wrong <= found.error <= 1e-10 * max(1.0, float(np.abs(found.x).max()))


def test_states_that_only_feed_themselves_take_next_to_nothing():
    A = np.diag([0.999, 0.9, -0.9])
    z = np.random.default_rng(0).standard_normal((70, 3))
    found = solve_equilibrium(Relu(), A, z, contraction(A), 1e-10)
    assert found.n_iter <= 4
    np.testing.assert_allclose(found.x, np.maximum(z, 0.0) / (1.0 - A.diagonal()), rtol=1e-13)


@pytest.mark.parametrize("activation", [LeakyRelu(0.5), SoftThreshold(), Tanh()], ids=repr)
def test_others_keep_their_loops(activation):
    A = matrix(4, factor=0.9)
    assert without_self_loops(activation, A, contraction(A)) is None


def test_nothing_is_done_without_loops():
    A = matrix(4) * (1.0 - np.eye(4))
    assert without_self_loops(Relu(), A, contraction(A)) is None


@cutting
def test_models_predict_the_same(activation):
    n, rng = 9, np.random.default_rng(5)
    A, B, C, D = matrix(n), rng.standard_normal((n, 3)), np.eye(n), np.zeros((n, 3))
    b, U = rng.standard_normal(n), rng.standard_normal((50, 3))
    model = ImplicitModel(A, B, C, D, b, activation=activation)
    np.testing.assert_allclose(
        model.predict(U), exact(activation, A, U @ B.T + b).astype(float), rtol=1e-9, atol=1e-10
    )
    assert model.contraction.factor == contraction(A).factor  # of A itself


def test_models_in_single_precision_contract_as_without_rounding():
    """Near one, what 1 - r is off by is a share of the bound."""
    for seed in (22, 83, 667):
        A = np.abs(matrix(3, seed, factor=1.0 - 1e-3)).astype(np.float32)
        ones = np.ones((3, 1), dtype=np.float32)
        solver = ImplicitModel(A, ones, ones.T, ones[:1])._solver
        wide = A.astype(np.longdouble)
        own = np.diag(wide.diagonal())
        other = (wide - own) / (1.0 - wide.diagonal())[:, None]
        s, factor = solver.contraction.scale, solver.contraction.factor
        assert np.all(other @ s <= factor * s)
        form = solver.for_rows(100).form
        assert form.centre == 0.5
        s, factor = form.contraction.scale, form.contraction.factor
        K = sum(np.linalg.matrix_power(other / 2.0, k) for k in range(1, 60))  # other (2 - ...)^-1
        assert np.all(K @ s <= factor * s)


@pytest.mark.parametrize("largest", [0.25, 1.0])
@pytest.mark.parametrize("n", [9, 66])
def test_the_adjoint_has_the_same_solution_and_a_bound(largest, n):
    A = matrix(n, seed=6)
    rng = np.random.default_rng(7)
    M, R = largest * rng.random((20, n)), rng.standard_normal((20, n))
    M[0], M[1] = 0.0, largest
    found = contraction(A, largest)
    result = solve_adjoint(A, M, R, found, 1e-9)
    wide = [np.eye(n) - m[:, None] * A.T for m in M]
    exact_v = np.stack([np.linalg.solve(K, m * r) for K, m, r in zip(wide, M, R, strict=True)])
    wrong = np.abs(result.x - exact_v).max()
    assert result.status == "converged"
    assert wrong <= result.error + 1e-13 * np.abs(exact_v).max()
    assert result.error <= 1e-9 * np.abs(R).max()


def test_the_adjoint_contracts_as_its_norm_says():
    n = 9
    A = matrix(n, seed=8)
    M = np.random.default_rng(9).random((50, n))
    found = contraction(A)
    loopless = adjoint_without_self_loops(A, M, found)
    weight, factor = loopless.contraction.scale, loopless.contraction.factor
    assert factor < found.factor
    for row in loopless.M:
        # weighted column sums of diag(N) (A - diag(A))', the map of one row
        assert np.all(weight @ np.abs(row[:, None] * loopless.A.T) <= factor * weight * (1 + 1e-12))
    np.testing.assert_allclose(loopless.M, M / (1.0 - M * A.diagonal()), rtol=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_the_adjoint_of_small_slopes_contracts_in_single_precision(seed):
    """The last state has no loop: its sum is all that the factor allows."""
    A, M = matrix(9, seed).astype(np.float32), np.full((1, 9), 0.3, dtype=np.float32)
    loopless = adjoint_without_self_loops(A, M, contraction(A, 0.3))
    weight, factor = loopless.contraction.scale.astype(np.longdouble), loopless.contraction.factor
    columns = np.abs(loopless.M[0].astype(np.longdouble)[:, None] * loopless.A.T)
    assert np.all(weight @ columns <= factor * weight)


def test_an_adjoint_of_loops_alone_takes_next_to_nothing():
    A = np.diag(np.linspace(-0.99, 0.99, 70))
    M, R = np.ones((5, 70)), np.random.default_rng(0).standard_normal((5, 70))
    result = solve_adjoint(A, M, R, contraction(A), 1e-10)
    assert result.n_iter <= 3
    np.testing.assert_allclose(result.x, R / (1.0 - A.diagonal()), rtol=1e-12)


@pytest.mark.parametrize("A", [np.zeros((2, 2)), matrix(2)], ids=["no loops", "no slopes"])
def test_an_adjoint_without_loops_or_slopes_stays(A):
    M = np.full((1, 2), 0.0 if A.any() else 1.0)
    assert adjoint_without_self_loops(A, M, contraction(A)) is None
