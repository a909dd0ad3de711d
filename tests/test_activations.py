"""Activations: Fenchel terms against brute force, and the compiled formulas against NumPy's."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bcd_implicit.activations import (
    Activation,
    Clip,
    Identity,
    LeakyRelu,
    Relu,
    Sigmoid,
    SoftThreshold,
    Tanh,
    get_activation,
)
from bcd_implicit.solvers._kernels import phi, prox_potential

ALL = [
    Relu(),
    Identity(),
    LeakyRelu(),
    LeakyRelu(0.3),
    Tanh(),
    Sigmoid(),
    Clip(),
    Clip(0.5, 2.0),
    SoftThreshold(),
    SoftThreshold(0.0),
]
every = pytest.mark.parametrize("activation", ALL, ids=repr)
GRID = np.linspace(-6, 6, 241)


class Cube(Activation):
    """A user's own map, without Fenchel terms or a compiled branch."""

    name = "cube"

    def value(self, Z, out=None):
        return np.power(np.clip(Z, -0.5, 0.5), 3, out=out)

    def derivative(self, Z):
        return 3 * np.clip(Z, -0.5, 0.5) ** 2


def inside(activation, reach=40.0, number=400_001):
    """A fine grid on the domain of h."""
    low, high = activation.domain
    return np.linspace(max(low, -reach), min(high, reach), number)


@every
def test_conjugate_is_the_brute_force_maximum(activation):
    X = inside(activation)
    H = activation.potential(X)
    for z in np.linspace(-4, 4, 17):
        best = np.max(X * z - H)
        value = float(activation.conjugate(np.array([z]))[0])
        assert best <= value + 1e-12
        assert value == pytest.approx(best, abs=1e-6)


@every
def test_potential_is_infinite_outside_the_domain_only(activation):
    low, high = activation.domain
    ends = np.array([end for end in (low, high) if np.isfinite(end)])
    assert np.all(np.isfinite(activation.potential(ends)))
    outside = np.array([low - 1e-9, high + 1e-9])
    outside = outside[np.isfinite(outside)]
    assert np.all(np.isposinf(activation.potential(outside)))
    assert np.all(np.isposinf(activation.divergence(outside, 0 * outside)))


@every
def test_divergence_is_the_sum_of_its_terms(activation):
    X, Z = np.meshgrid(inside(activation, 5.0, 101), GRID)
    terms = activation.potential(X) + activation.conjugate(Z) - X * Z
    np.testing.assert_allclose(activation.divergence(X, Z), terms, rtol=1e-10, atol=1e-12)


@every
def test_divergence_dominates_the_squared_distance(activation):
    X, Z = np.meshgrid(inside(activation, 5.0, 101), GRID)
    distance = (X - activation.value(Z)) ** 2 / (2 * activation.lipschitz)
    assert np.all(activation.divergence(X, Z) >= distance * (1 - 1e-9))


@every
@settings(max_examples=60, deadline=None)
@given(u=st.floats(0, 1), z=st.floats(-1e6, 1e6))
@example(u=0.5, z=4e-45)
@example(u=0.5, z=3e-9)
def test_divergence_bound_anywhere(activation, u, z):
    low, high = max(activation.domain[0], -1e6), min(activation.domain[1], 1e6)
    X = np.array([min(low + u * (high - low), high)])
    Z = np.array([z])
    distance = (X - activation.value(Z)) ** 2 / (2 * activation.lipschitz)
    divergence = activation.divergence(X, Z)
    assert np.all(divergence >= distance * (1 - 1e-9) - 1e-300)
    assert np.all(np.isfinite(divergence))


@every
def test_divergence_vanishes_at_the_activation(activation):
    P = activation.value(GRID)
    F = activation.divergence(P, GRID)
    assert np.all(F >= 0)
    assert np.all(1e-14 * (1 + np.abs(GRID)) >= F)
    # without cancellation: the exact second-order term where x is very near phi(z)
    smooth = (activation.derivative(GRID) > 1e-3) & (np.abs(GRID) > 1e-3)
    step = 1e-7 * activation.derivative(GRID)[smooth]
    X = P[smooth] + step
    expected = (X - P[smooth]) ** 2 / (2 * activation.derivative(GRID)[smooth])
    kept = (activation.domain[0] < X) & (activation.domain[1] > X)
    F = activation.divergence(X, GRID[smooth])
    np.testing.assert_allclose(F[kept], expected[kept], rtol=1e-5)


@every
def test_gradient_of_the_divergence(activation):
    X, Z = np.meshgrid(inside(activation, 3.0, 13), np.linspace(-3.03, 3.03, 30))
    e = 1e-5
    slope = (activation.divergence(X, Z + e) - activation.divergence(X, Z - e)) / (2 * e)
    np.testing.assert_allclose(slope, activation.value(Z) - X, atol=1e-5)


@every
def test_derivative(activation):
    Z = np.linspace(-3.03, 3.03, 60)
    e = 1e-6
    slope = (activation.value(Z + e) - activation.value(Z - e)) / (2 * e)
    np.testing.assert_allclose(activation.derivative(Z), slope, atol=1e-8)
    D = activation.derivative(GRID)
    assert np.all((D >= 0) & (activation.lipschitz >= D))


@every
def test_derivative_at_a_value(activation):
    kinks = np.array([0.0, 1.0, -1.0, 0.5, -0.5, 5e-324, -5e-324])
    for Z in (GRID, kinks):
        D = activation.derivative_at_value(activation.value(Z))
        np.testing.assert_allclose(D, activation.derivative(Z), rtol=0, atol=1e-15)


def test_derivative_at_kinks_is_the_smaller_one_sided_one():
    assert Relu().derivative(np.zeros(1)) == 0
    assert LeakyRelu(0.3).derivative(np.zeros(1)) == 0.3
    assert np.all(Clip().derivative(np.array([-1.0, 1.0])) == 0)
    assert SoftThreshold(1.0).derivative(np.ones(1)) == 0


@every
def test_non_expansive(activation):
    rng = np.random.default_rng(0)
    S, T = rng.normal(scale=3, size=(2, 2000))
    change = np.abs(activation.value(S) - activation.value(T))
    assert np.all(change <= activation.lipschitz * np.abs(S - T) + 1e-15)


@every
def test_positive_homogeneity_is_declared_truthfully(activation):
    same = np.allclose(activation.value(3.7 * GRID), 3.7 * activation.value(GRID), atol=1e-14)
    # soft thresholding at 0 is the identity, which its class does not know
    assert same == (activation.positively_homogeneous or activation == SoftThreshold(0.0))


@every
@pytest.mark.parametrize("function", [phi, phi.py_func], ids=["compiled", "python"])
def test_compiled_value(activation, function):
    kind, par = activation.kernel
    values = [function(kind, par, z) for z in GRID]
    np.testing.assert_allclose(values, activation.value(GRID), rtol=4e-15, atol=0)


@every
@pytest.mark.parametrize("tau", [1e-3, 0.7, 50.0])
def test_prox_minimises(activation, tau):
    kind, par = activation.kernel
    X = inside(activation, 10.0, 20_001)
    H = activation.potential(X)
    for v in np.linspace(-5, 5, 21):
        x = prox_potential(kind, par, v, tau)
        assert x == pytest.approx(prox_potential.py_func(kind, par, v, tau), rel=1e-13, abs=1e-300)
        value = tau * activation.potential(np.array([x]))[0] + (x - v) ** 2 / 2
        assert value <= np.min(tau * H + (X - v) ** 2 / 2) + 1e-12


@pytest.mark.parametrize("kind", [1, 2], ids=["tanh", "sigmoid"])
@pytest.mark.parametrize("tau", [0.0, 1e-320, 1e-28])
def test_prox_of_next_to_no_step_clips(kind, tau):
    V = [-3.0, 0.0, 0.25, 1.0, 2.0, 1e200]
    X = [prox_potential(kind, (0.0, 0.0, 0.0, 0.0), v, tau) for v in V]
    np.testing.assert_allclose(X, np.clip(V, -1.0 if kind == 1 else 0.0, 1.0), atol=1e-15)


@every
def test_prox_with_step_one_is_half_way_to_the_activation(activation):
    # argmin h(x) + (x - v)^2 / 2 solves F's optimality with phi: x = phi(v - x)
    kind, par = activation.kernel
    V = np.linspace(-5, 5, 41)
    X = np.array([prox_potential(kind, par, v, 1.0) for v in V])
    np.testing.assert_allclose(X, activation.value(V - X), atol=1e-13)


@every
def test_large_arguments_do_not_overflow(activation):
    Z = np.array([-1e4, -745.0, 745.0, 1e4])
    P = activation.value(Z)
    for array in (P, activation.derivative(Z), activation.conjugate(Z)):
        assert np.all(np.isfinite(array))
    assert np.all(activation.divergence(P, Z) <= 1e-8)
    assert np.all(np.isfinite(activation.divergence(P[::-1].copy(), Z)))


def test_known_values():
    assert Tanh().conjugate(np.array([1e-9]))[0] == pytest.approx(5e-19, rel=1e-12)
    assert Tanh().potential(np.array([1.0]))[0] == pytest.approx(np.log(2))
    assert Sigmoid().potential(np.array([0.0, 0.5])) == pytest.approx([0, -np.log(2)])
    assert Sigmoid().value(np.array([-700.0]))[0] == pytest.approx(np.exp(-700), rel=1e-12)
    X = np.array([0.3])
    assert Tanh().potential(X) == pytest.approx(X * np.arctanh(X) + np.log(1 - X**2) / 2)


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(activation, dtype):
    Z = GRID.astype(dtype)
    X = activation.value(Z)
    results = [X, activation.derivative(Z), activation.derivative_at_value(X)]
    results += [activation.conjugate(Z)]
    results += [activation.potential(X), activation.divergence(X, Z)]
    assert all(result.dtype == dtype for result in results)


@pytest.mark.parametrize("kind", [LeakyRelu, SoftThreshold, partial(Clip, high=1)])
@pytest.mark.parametrize("number", [np.float64, np.float32, np.array])
def test_parameters_may_be_scalars_of_numpy(kind, number):
    activation = kind(number(0.5))
    assert activation.value(GRID.astype(np.float32)).dtype == np.float32
    assert get_activation(json.loads(json.dumps(activation.to_dict()))) == activation


@every
def test_out(activation):
    Z = GRID.copy()
    expected = activation.value(Z)
    out = np.empty_like(Z)
    assert activation.value(Z, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert activation.value(Z, out=Z) is Z
    np.testing.assert_array_equal(Z, expected)


@every
def test_nan_stays_nan(activation):
    Z = np.array([np.nan])
    assert np.isnan(activation.value(Z)[0])
    kind, par = activation.kernel
    assert np.isnan(phi(kind, par, np.nan))


@every
def test_registry_round_trip(activation):
    assert get_activation(activation) is activation
    assert get_activation(activation.to_dict()) == activation


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "tanh", "sigmoid", "identity", "clip", "soft_threshold"]
)
def test_registry_names(name):
    assert get_activation(name).name == name


@pytest.mark.parametrize("wrong", ["gelu", None, 3, {}, {"name": ["relu"]}])
def test_unknown_names_are_refused(wrong):
    with pytest.raises(ValueError, match="activation must be one of 'relu'"):
        get_activation(wrong)


def test_unknown_parameters_are_refused():
    with pytest.raises(ValueError, match="'relu' does not accept"):
        get_activation({"name": "relu", "slope": 1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeakyRelu(1.5), "slope must be"),
        (lambda: LeakyRelu(0.0), "slope must be"),
        (lambda: Clip(1.0, 1.0), "low must be"),
        (lambda: SoftThreshold(-1.0), "threshold must be"),
        (lambda: SoftThreshold(np.nan), "threshold must be"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_own_activation_needs_no_fenchel_terms():
    cube = Cube()
    assert cube.kernel is None
    for call in (cube.potential, cube.conjugate, lambda Z: cube.divergence(Z, Z)):
        with pytest.raises(NotImplementedError, match="Cube has no Fenchel terms"):
            call(GRID)
