"""The form of the state equation that sweeps solve, against its definition."""

from dataclasses import replace

import numba
import numpy as np
import pytest

import bcd_implicit._sweeps as module
from bcd_implicit import ImplicitModel
from bcd_implicit._sweeps import SweepForm
from bcd_implicit.activations import Clip, Identity, LeakyRelu, Relu, SoftThreshold
from bcd_implicit.equilibrium import solve_equilibrium
from bcd_implicit.exceptions import IllPosedError
from bcd_implicit.solvers import tiles
from bcd_implicit.solvers._kernels import _LANES, _add_block
from bcd_implicit.wellposed import contraction

ACTIVATIONS = [Relu(), LeakyRelu(0.3), Identity(), Clip(0.5, 2.0), SoftThreshold()]
every = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def matrix(n, factor, seed=0):
    A = np.random.default_rng(seed).standard_normal((n, n))
    return A * (factor / np.abs(A).sum(axis=1, keepdims=True))


def centred(activation, A):
    return SweepForm.centred(activation, activation.kernel, A, contraction(A, activation.lipschitz))


@every
@pytest.mark.parametrize("n", [1, 6, 13])
def test_the_form_is_the_equation(activation, n):
    A = matrix(n, 0.9 / activation.lipschitz)
    form = centred(activation, A)
    c, K = form.centre, form.K
    np.testing.assert_allclose(K, A @ np.linalg.inv(np.eye(n) - c * A), atol=1e-14)
    z = np.random.default_rng(1).standard_normal((1, n))
    x = solve_equilibrium(activation, A, z, contraction(A, activation.lipschitz), tol=1e-14).x
    v = x @ A.T + z
    r = activation.value(v) - c * (v - z)
    np.testing.assert_allclose(z + r @ K.T, v, atol=1e-13)


@every
def test_the_centre_halves_what_slopes_differ_by(activation):
    A = matrix(8, 0.9 / activation.lipschitz)
    form = centred(activation, A)
    Z = np.linspace(-5.0, 5.0, 100_001)
    slopes = np.diff(activation.value(Z)) / np.diff(Z)
    assert form.centre == pytest.approx((slopes.min() + slopes.max()) / 2.0, abs=1e-6)
    half = (slopes.max() - slopes.min()) / 2.0
    s = form.contraction.scale
    assert np.all(half * np.abs(form.K) @ s <= form.contraction.factor * s + 1e-6)
    assert np.all(np.abs(form.K) @ s <= form.gain * s)
    assert form.contraction.factor <= contraction(A, activation.lipschitz).factor


@pytest.mark.parametrize("factor", [0.3, 0.9, 0.999])
def test_a_relu_contracts_faster(factor):
    A = matrix(20, factor)
    plain = contraction(A).factor
    assert centred(Relu(), A).contraction.factor <= plain / (2.0 - plain) * (1.0 + 1e-9)
    A = np.abs(A)  # nothing cancels: the bound is sharp
    assert centred(Relu(), A).contraction.factor == pytest.approx(factor / (2.0 - factor))


def test_an_error_of_the_form_is_part_of_its_bound():
    A = matrix(9, 0.9).astype(np.float32)
    form = centred(Relu(), A)
    wide = A.astype(np.float64)
    exact = wide @ np.linalg.inv(np.eye(9) - form.centre * wide)
    slips = np.abs(form.K - exact) @ form.contraction.scale / form.contraction.scale
    assert 1e-9 < slips.max() <= form.slip < 1e-5  # K is rounded to single precision
    Z = np.random.default_rng(0).standard_normal((50, 9)).astype(np.float32)
    found = contraction(A)
    errors = [
        solve_equilibrium(Relu(), A, Z, found, 0.0, form=replace(form, slip=slip)).error
        for slip in (0.0, 1e-3)
    ]
    r = np.abs(Z @ exact.T).max()
    assert errors[1] - errors[0] >= 1e-3 * r / 10.0


def test_errors_of_steps_in_single_precision_are_part_of_the_bound():
    n = 70
    A, rng = matrix(n, 1e-3), np.random.default_rng(0)
    Z, X0 = rng.standard_normal((2, 100, n))
    found = contraction(A)
    exact = solve_equilibrium(Relu(), A, Z, found, 1e-15).x
    for tol in 10.0 ** np.arange(-13, -6):  # the steps after the first hide its rounding errors
        result = solve_equilibrium(Relu(), A, Z, found, tol, X0=X0)
        assert np.abs(result.x - exact).max() <= result.error + 1e-15


@pytest.mark.parametrize("scale", [1e10, 1e200])
def test_huge_entries(scale):
    A = np.array([[0.5, scale], [0.0, 0.5]])  # well-posed: it is triangular
    form = centred(Relu(), A)
    Z = np.array([[1.0, 1.0 / scale], [-1.0, -1.0]])
    result = solve_equilibrium(Relu(), A, Z, contraction(A), 1e-9, form=form)
    second = 2.0 * np.maximum(Z[:, 1], 0.0)
    first = 2.0 * np.maximum(Z[:, 0] + scale * second, 0.0)
    np.testing.assert_allclose(result.x, np.stack([first, second], axis=1), atol=1e-8)


def test_sweeps_that_begin_elsewhere_leave_the_equation_as_it_is():
    A, Z = matrix(70, 0.9), np.random.default_rng(0).standard_normal((80, 70))
    found = contraction(A)
    cold = solve_equilibrium(Relu(), A, Z, found, 1e-12)
    warm = solve_equilibrium(Relu(), A, Z, found, 1e-12, X0=cold.x + 1e-6, form=centred(Relu(), A))
    assert warm.n_iter < cold.n_iter
    np.testing.assert_allclose(warm.x, cold.x, atol=4e-12)


@pytest.mark.parametrize("n", [5, 70])
def test_sweeps_begin_where_they_are_told(n):
    A, Z = matrix(n, 0.9), np.random.default_rng(0).standard_normal((80, n))
    found = contraction(A)
    x = solve_equilibrium(Relu(), A, Z, found, 1e-12).x
    assert solve_equilibrium(Relu(), A, Z, found, 1e-10, X0=x).n_iter <= 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 70])
def test_sweeps_from_zero_do_not_look_at_what_was_there(n, dtype):
    A, Z = matrix(n, 0.9).astype(dtype), np.ones((3, n), dtype)
    fresh = solve_equilibrium(Relu(), A, Z, contraction(A), 1e-6)
    for there in (1e6, np.nan):
        over = solve_equilibrium(Relu(), A, Z, contraction(A), 1e-6, out=np.full_like(Z, there))
        np.testing.assert_array_equal(over.x, fresh.x)
        assert (over.error, over.n_iter) == (fresh.error, fresh.n_iter)


def roundings(dtype, n):
    """Count those of a product that all go in one direction, in units of half an epsilon."""
    half = np.finfo(dtype).eps / 2
    A, x = np.zeros((n, n), dtype), np.ones((n, _LANES), dtype)
    A[0] = 1.01 * half  # added to one it is rounded up to two halves
    A[0, 0] = 1.0
    if dtype == np.float64:  # sums of four, of which all but the first are one such number
        A[0, 4:] *= np.arange(4, n) % 4 == 0
    total = np.zeros((4, _LANES), dtype)
    numba.njit(_product)(tiles.in_blocks(A), x.ravel(), n, total.ravel())
    exact = A[0].astype(np.longdouble).sum()
    return float((total[0, 0] - exact) / half)


def _product(A, x, n, total):
    _add_block(A, 0, x, _LANES, n, total)


@pytest.mark.parametrize("n", [4, 20, 100])
def test_proven_errors_count_the_roundings_of_a_product(n):
    A = matrix(n, 0.9)
    for dtype in (np.float32, np.float64):
        form = SweepForm.plain(Relu(), Relu().kernel, A.astype(dtype), contraction(A))
        others = 6 + 5 * form.gain
        allowed = form._rounding[0] / (np.finfo(dtype).eps / 2) - others
        assert 0.5 * allowed - 2 < roundings(dtype, n) <= allowed
    assert roundings(np.float32, n) * 2.0**-24 * form.gain <= form._single[2]


@pytest.mark.parametrize("n", [3, 64, 200])
def test_the_centred_form_takes_fewer_sweeps(n):
    A, Z = matrix(n, 0.9), np.random.default_rng(0).standard_normal((200, n))
    found = contraction(A)
    plain = solve_equilibrium(Relu(), A, Z, found, 1e-9)
    fast = solve_equilibrium(Relu(), A, Z, found, 1e-9, form=centred(Relu(), A))
    assert fast.n_iter < plain.n_iter
    assert np.abs(fast.x - plain.x).max() <= fast.error + plain.error


def test_a_form_whose_contraction_cannot_be_verified_is_not_used(monkeypatch):
    def refuse(*_):
        raise IllPosedError("too close")

    A = matrix(5, 0.9)
    found = contraction(A)
    monkeypatch.setattr(module, "contraction", refuse)
    form = SweepForm.centred(Relu(), Relu().kernel, A, found)
    assert (form.centre, form.contraction) == (0.0, found)


@pytest.mark.parametrize("n", [20, 100])
def test_predictions_put_a_matrix_in_blocks_once(n, monkeypatch):
    calls = []

    def in_blocks(A):
        calls.append(len(A))
        return tiles.in_blocks(A)

    monkeypatch.setattr(module, "in_blocks", in_blocks)
    model = ImplicitModel(matrix(n, 0.9), np.ones((n, 1)), np.ones((1, n)), np.ones((1, 1)))
    for rows in (1, 3, 1):
        model.predict(np.ones((rows, 1)))
    assert calls == [n]


def test_no_pivot_is_left():
    """Elimination takes the matrix of the centred form for singular; it is triangular."""
    A = np.array([[-0.5, -1e9, 1e10], [0.0, 0.5, -1e17], [0.0, 0.0, 0.5]])
    eye = np.eye(3)
    phi = {"name": "leaky_relu", "slope": 0.5}
    model = ImplicitModel(A, eye, eye, 0.0 * eye, activation=phi)
    X = model.states(np.full((1, 3), 1e-3))
    third = 1e-3 / 0.5
    second = 0.5 * (1e-3 - 1e17 * third) / (1.0 - 0.5 * 0.5)
    np.testing.assert_allclose(X[0, 1:], [second, third], rtol=1e-10)


def test_the_exact_form_may_be_larger_than_the_rounded_one():
    A, z = np.array([[0.9999]], np.float32), np.array([[1e-30]], np.float32)
    solution = solve_equilibrium(Relu(), A, z, contraction(A), 1e-6, form=centred(Relu(), A))
    exact = float(z[0, 0]) / (1.0 - float(A[0, 0]))
    assert abs(exact - float(solution.x[0, 0])) <= solution.error
