"""Standardised units and the way back."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from bcd_implicit.activations import Relu
from bcd_implicit.moments import Moments
from bcd_implicit.problem import Parameters
from bcd_implicit.scaling import Scaling


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    U = rng.standard_normal((40, 3)) * [1.0, 1e150, 1e-150] + [5.0, 0.0, 1e-150]
    return U, rng.random(40) / 20


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_moments(inputs, kind):
    U, weights = inputs
    weights = weights / weights.sum()
    scaling = Scaling.of_inputs(kind(U), weights, np.arange(40), 2, centred=True)
    standard = (U - scaling.centre) / scaling.scale
    assert_allclose(weights @ standard, 0.0, atol=1e-14)
    assert_allclose(weights @ standard**2, 1.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_units_have_the_same_bits_however_rows_are_shared_out(weighted):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 5)) * [1.0, 10.0, 1e-3, 1e5, 0.0] + [0.0, 3.3, 1.0, 1e6, 3.3]
    weights = rng.random(3000) if weighted else np.ones(3000)
    expected = Scaling.of_inputs(X, weights, np.arange(3000), 1, centred=True)
    deviation = np.sqrt(np.average((X - X.mean(axis=0)) ** 2, axis=0))
    assert expected.scale[4] == np.inf  # constant
    assert_allclose(expected.scale[:4], deviation[:4], rtol=0.1 if weighted else 1e-10)
    for parts in (2, 7, 300):
        order = np.array_split(rng.permutation(3000), parts)
        moments = Moments.total([Moments.of(X[rows], weights[rows]) for rows in order])
        found = Scaling.of_moments(moments, 1, centred=True)
        assert_array_equal(found.centre, expected.centre)
        assert_array_equal(found.scale, expected.scale)


def test_a_mean_far_above_the_deviation_costs_no_accuracy():
    U = np.random.default_rng(0).standard_normal((1000, 1)) + 1e11
    scaling = Scaling.of_inputs(U, np.full(1000, 1e-3), np.arange(1000), 1, centred=True)
    assert_allclose(scaling.scale, U.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize(("size", "deviation"), [(0.1, 0.0), (1e5, 0.0), (1e5, 1e-9)])
def test_targets_that_differ_by_rounding_alone_are_zero(size, deviation):
    rng = np.random.default_rng(0)
    Y = size + deviation * rng.standard_normal((40, 2))
    scaling = Scaling(np.zeros(1), np.ones(1), np.zeros(2), 1.0)
    scaling = scaling.with_targets(Y, rng.random(40), np.arange(40), centred=True)
    assert (scaling.targets(Y) == 0.0).all()
    zeros = [np.zeros(shape) for shape in ((1, 1), (1, 1), 1, (2, 1), (2, 1), 2)]
    model = scaling.fold(Parameters(*zeros), Relu())
    assert_allclose(model.d, size, rtol=1e-13)
    assert all((block == 0.0).all() for block in vars(scaling.unfold(model)).values())


def test_one_unit_is_the_power_of_two_next_to_the_median():
    scaling = Scaling(np.ones(4), np.array([0.9, 3.1, 100.0, np.inf]), np.zeros(1), 1.0)
    raw = scaling.in_one_unit()
    assert raw.unit == 4.0
    assert_array_equal(raw.scale, 4.0)
    assert_array_equal(raw.centre, 0.0)


def test_without_a_centre_the_mean_stays():
    U = np.array([[1.0], [3.0]])
    scaling = Scaling.of_inputs(U, np.full(2, 0.5), np.arange(2), 1, centred=False)
    assert scaling.centre[0] == 0.0
    assert scaling.scale[0] == pytest.approx(np.sqrt(5.0))


@pytest.mark.parametrize("size", [2.0, 200.0])
def test_targets_have_unit_total_deviation(size):
    Y = np.random.default_rng(0).standard_normal((50, 3)) * [1.0, size, 0.0] + 7.0
    scaling = Scaling(np.zeros(2), np.ones(2), np.zeros(3), 1.0).with_targets(
        Y, np.full(50, 0.02), np.arange(50), centred=True
    )
    standard = scaling.targets(Y)
    assert_allclose(standard.mean(axis=0), 0.0, atol=1e-14)
    assert (standard**2).sum(axis=1).mean() == pytest.approx(1.0)


def parameters(size=1.0):
    rng = np.random.default_rng(0)
    A = 0.2 * np.eye(2)
    B, C, D = (rng.standard_normal(shape) * size for shape in ((2, 3), (1, 2), (1, 3)))
    return Parameters(A, B, rng.standard_normal(2), C, D, np.ones(1))


def test_folding_and_back():
    U = np.random.default_rng(1).standard_normal((30, 3)) * [1.0, 10.0, 0.1] + 3.0
    Y = np.random.default_rng(2).standard_normal((30, 1)) + 5.0
    weights, rows = np.full(30, 1 / 30), np.arange(30)
    scaling = Scaling.of_inputs(U, weights, rows, 1, centred=True)
    scaling = scaling.with_targets(Y, weights, rows, centred=True)
    before = parameters()
    model = scaling.fold(before, Relu())
    standard = Scaling(np.zeros(3), np.ones(3), np.zeros(1), 1.0).fold(before, Relu())
    plain = standard.predict((U - scaling.centre) / scaling.scale)
    assert_allclose(scaling.targets(np.asarray(model.predict(U))), plain, atol=1e-9)
    after = scaling.unfold(model)
    for name in ("A", "B", "b", "C", "D", "d"):
        assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-9, atol=1e-12)


def test_a_constant_input_is_exactly_zero_and_stays_out():
    U = np.full((4, 3), 1e150 / 3)
    scaling = Scaling.of_inputs(U, np.full(4, 0.25), np.arange(4), 1, centred=True)
    assert_array_equal((U - scaling.centre) / scaling.scale, 0.0)
    model = scaling.fold(parameters(), Relu())
    assert_array_equal(model.B, 0.0)
    assert np.isfinite(scaling.unfold(model).B).all()


@pytest.mark.parametrize(
    ("centre", "scale", "target_scale"),
    [(0.0, 1e-300, 1e300), (1e300, 1e-10, 1.0), (1e150, 1.0, 1e150)],  # of D, of b and d, of d
)
def test_an_overflow_is_refused(centre, scale, target_scale):
    scaling = Scaling(np.full(3, centre), np.full(3, scale), np.zeros(1), target_scale)
    with pytest.raises(ValueError, match="overflows: rescale"):
        scaling.fold(parameters(1e10), Relu())


def test_a_model_of_data_of_quite_another_size_is_refused():
    U, unit = (
        np.array([[-1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
        Scaling(np.zeros(3), np.ones(3), np.zeros(1), 1.0),
    )
    model = replace(unit, scale=np.full(3, 1e-200)).fold(parameters(), Relu())
    far = Scaling.of_inputs(1e200 * U, np.ones(2), np.arange(2), 1, centred=True)
    with pytest.raises(ValueError, match="without warm_start=True"):
        far.unfold(model)
