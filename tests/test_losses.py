"""Losses: gradients, Hessians and curvature bounds against finite differences."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcd_implicit.losses import LogisticLoss, MultinomialLoss, SquaredLoss, get_loss

NAMES = ("squared", "logistic", "multinomial")
every = pytest.mark.parametrize("name", NAMES)


def example(name, m=12, scale=2.0, seed=0):
    """A loss with targets and predictions that fit it."""
    rng = np.random.default_rng(seed)
    if name == "squared":
        Y = rng.normal(size=(m, 3))
    elif name == "logistic":
        Y = rng.integers(0, 2, size=(m, 1)).astype(float)
        Y[:2, 0] = 0, 1
    else:
        Y = np.eye(4)[np.append(np.arange(4), rng.integers(0, 4, size=m - 4))]
    return get_loss(name), Y, rng.normal(scale=scale, size=Y.shape)


@every
def test_gradient(name):
    loss, Y, F = example(name)
    e = 1e-6
    for j in range(F.shape[1]):
        step = np.zeros_like(F)
        step[:, j] = e
        slope = (loss.per_sample(Y, F + step) - loss.per_sample(Y, F - step)) / (2 * e)
        np.testing.assert_allclose(loss.gradient(Y, F)[:, j], slope, atol=1e-8)


@every
def test_hessian(name):
    loss, Y, F = example(name)
    e = 1e-6
    H = loss.hessian(Y, F)
    assert H.shape == (*F.shape, F.shape[1])
    for j in range(F.shape[1]):
        step = np.zeros_like(F)
        step[:, j] = e
        slope = (loss.gradient(Y, F + step) - loss.gradient(Y, F - step)) / (2 * e)
        np.testing.assert_allclose(H[:, :, j], slope, atol=1e-8)
    change = np.random.default_rng(1).standard_normal(F.shape)
    product = loss.hessian_product(Y, F)(change)
    np.testing.assert_allclose(product, np.einsum("ijk,ik->ij", H, change), atol=1e-15)


@every
@pytest.mark.parametrize("scale", [0.0, 0.1, 2.0, 30.0])
def test_curvature_dominates_the_hessian(name, scale):
    loss, Y, F = example(name, m=200, scale=scale)
    slack = loss.curvature(F.shape[1]) - loss.hessian(Y, F)
    assert np.linalg.eigvalsh(slack).min() >= -1e-14


@every
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 20))
def test_quadratic_upper_bound(name, seed, scale):
    loss, Y, F = example(name, seed=seed, scale=scale)
    step = np.random.default_rng(seed + 1).normal(scale=scale, size=F.shape)
    bound = (
        loss.per_sample(Y, F)
        + np.sum(loss.gradient(Y, F) * step, axis=1)
        + 0.5 * np.einsum("ij,jk,ik->i", step, loss.curvature(F.shape[1]), step)
    )
    assert np.all(loss.per_sample(Y, F + step) <= bound + 1e-10 * (1 + np.abs(bound)))


@every
def test_value_is_the_weighted_sum(name):
    loss, Y, F = example(name)
    w = np.arange(len(Y), dtype=float)
    assert loss.value(Y, F) == pytest.approx(loss.per_sample(Y, F).sum(), rel=1e-14)
    assert loss.value(Y, F, w) == pytest.approx(loss.per_sample(Y, F) @ w, rel=1e-14)
    # a weight is a number of copies
    copies = np.repeat(np.arange(len(Y)), w.astype(int))
    assert loss.value(Y[copies], F[copies]) == pytest.approx(loss.value(Y, F, w), rel=1e-13)


@every
def test_sums_are_those_of_the_samples(name):
    loss, Y, F = example(name, scale=10.0)
    w = np.random.default_rng(1).uniform(0.1, 2, size=len(Y))
    value, gradient = loss.value_and_gradient(Y, F, w)
    assert value == pytest.approx(loss.value(Y, F, w), rel=1e-14)
    np.testing.assert_allclose(gradient, loss.gradient(Y, F) * w[:, None], rtol=1e-14)
    total = np.tensordot(w, loss.hessian(Y, F), 1)
    np.testing.assert_allclose(loss.total_hessian(Y, F, w), total, atol=1e-14)
    V = np.random.default_rng(2).standard_normal((len(Y), 3))
    total = np.einsum("i,iab,ij,ik->ajbk", w, loss.hessian(Y, F), V, V)
    found = loss.coefficient_hessian(Y, F, w, V)
    np.testing.assert_allclose(found, total, rtol=1e-12, atol=1e-13)


@every
def test_losses_of_doubted_targets_are_expected_ones(name):
    loss, Y, F = example(name)
    doubted = loss.per_sample(loss.doubted(Y, 0.1), F)
    if name == "squared":
        expected = loss.per_sample(Y, F)
    else:
        others = 1.0 - Y if name == "logistic" else np.stack([np.roll(Y, k, 1) for k in (1, 2, 3)])
        wrong = np.mean([loss.per_sample(one, F) for one in others.reshape(-1, *Y.shape)], axis=0)
        expected = 0.9 * loss.per_sample(Y, F) + 0.1 * wrong
    np.testing.assert_allclose(doubted, expected, rtol=1e-12)


def test_softmax_of_any_layout_leaves_its_argument():
    loss = MultinomialLoss()
    F = np.random.default_rng(0).normal(scale=5.0, size=(7, 4))
    exponentials = np.exp(F)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    for logits in (F, np.asfortranarray(F), np.repeat(F, 2, axis=1)[:, ::2]):
        logits.flags.writeable = False
        np.testing.assert_allclose(loss.probabilities(logits), expected, rtol=1e-14)
    assert np.isnan(loss.probabilities(np.array([[np.nan, 0.0], [0.0, np.nan]]))).all()


@every
def test_initial_intercept_is_stationary(name):
    loss, Y, _ = example(name)
    w = np.random.default_rng(1).uniform(0.1, 2, size=len(Y))
    F = np.tile(loss.initial_intercept(Y, w), (len(Y), 1))
    np.testing.assert_allclose(w @ loss.gradient(Y, F), 0, atol=1e-12)
    unweighted = loss.initial_intercept(Y)
    np.testing.assert_allclose(unweighted, loss.initial_intercept(Y, np.ones(len(Y))), atol=1e-14)
    if name == "multinomial":
        assert unweighted.sum() == pytest.approx(0.0, abs=1e-12)


def test_the_curvature_of_classes_told_apart_is_not_a_rounding_error():
    """It would not be positive semidefinite, and neither would be what is left of a metric."""
    loss, F = MultinomialLoss(), np.array([[40.0, 0.0, -3.0]])
    P = loss.probabilities(F)
    expected = np.array([P[0, 1] + P[0, 2], P[0, 1], P[0, 2]])
    one = np.ones(1)
    coefficients = loss.coefficient_hessian(F, F, one, np.ones((1, 1)))[:, 0, :, 0]
    for H in (loss.hessian(F, F)[0], loss.total_hessian(F, F, one), coefficients):
        np.testing.assert_allclose(np.diag(H), expected, rtol=1e-12)
        np.testing.assert_allclose(H.sum(axis=0), 0.0, atol=1e-30)


@pytest.mark.parametrize("name", ["logistic", "multinomial"])
def test_initial_intercept_without_a_class(name):
    loss, Y, _ = example(name)
    w = (Y[:, 0] == 1).astype(float)  # for one-hot targets: class 0 alone has weight
    intercept = loss.initial_intercept(Y, w)
    assert np.all(np.isfinite(intercept))
    P = loss.probabilities(np.tile(intercept, (len(Y), 1)))
    weighted = 1 if name == "logistic" else 0
    assert np.all(P[:, weighted] > 1 - 1e-7)


@pytest.mark.parametrize("name", ["logistic", "multinomial"])
@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_extreme_logits(name, logit):
    loss, Y, F = example(name)
    F = np.zeros_like(F)
    F[:, 0] = logit
    for array in (loss.per_sample(Y, F), loss.gradient(Y, F), loss.hessian(Y, F)):
        assert np.all(np.isfinite(array))
    assert np.all(loss.per_sample(Y, F) >= 0)
    P = loss.probabilities(F)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-14)


def test_logistic_keeps_small_gradients():
    loss = LogisticLoss()
    gradient = loss.gradient(np.array([[1.0]]), np.array([[50.0]]))
    assert gradient[0, 0] == pytest.approx(-np.exp(-50), rel=1e-12)
    assert loss.value(np.array([[1.0]]), np.array([[50.0]])) == pytest.approx(np.exp(-50))


def test_two_classes_agree_with_the_binary_loss():
    binary, Y, F = example("logistic")
    two, logits = np.hstack([1 - Y, Y]), np.hstack([0 * F, F])
    multinomial = MultinomialLoss()
    np.testing.assert_allclose(
        multinomial.per_sample(two, logits), binary.per_sample(Y, F), atol=1e-14
    )
    np.testing.assert_allclose(
        multinomial.probabilities(logits), binary.probabilities(F), atol=1e-15
    )


@every
def test_float32_is_kept(name):
    loss, Y, F = example(name)
    Y, F = Y.astype(np.float32), F.astype(np.float32)
    for array in (loss.per_sample(Y, F), loss.gradient(Y, F), loss.hessian(Y, F)):
        assert array.dtype == np.float32
    assert isinstance(loss.value(Y, F), float)


@every
def test_targets_are_checked(name):
    loss, Y, F = example(name)
    loss.check_targets(Y)
    with pytest.raises(ValueError, match="Y must have shape"):
        loss.check_targets(Y[:, 0])
    if name != "squared":
        with pytest.raises(ValueError, match="Y must have shape"):
            loss.check_targets(Y + 0.5)
    with pytest.raises(ValueError, match="Y and F must be"):
        loss.per_sample(Y, F[:-1])
    with pytest.raises(ValueError, match="Y and F must be"):
        loss.gradient(Y[:, 0], F[:, 0])


def test_multinomial_targets_have_one_class():
    with pytest.raises(ValueError, match="one-hot"):
        MultinomialLoss().check_targets(np.ones((2, 3)))


def test_probabilities_take_the_memory_of_one_copy():
    F = np.random.default_rng(0).standard_normal((20_000, 50))  # a copy of exponents beside: 2
    MultinomialLoss().probabilities(F[:1])  # may compile, which takes more
    tracemalloc.start()
    MultinomialLoss().probabilities(F)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * F.nbytes


@pytest.mark.parametrize("weights", [np.zeros(3), -np.ones(3), np.ones(2), np.full(3, np.inf)])
def test_weights_are_checked(weights):
    with pytest.raises(ValueError, match="weights must be 3 nonnegative"):
        SquaredLoss().initial_intercept(np.ones((3, 1)), weights)


def test_registry():
    assert [get_loss(name).name for name in NAMES] == list(NAMES)
    loss = LogisticLoss()
    assert get_loss(loss) is loss
    with pytest.raises(ValueError, match="loss must be one of 'squared'"):
        get_loss("hinge")
