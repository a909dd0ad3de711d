"""The automatic choice of inputs and strengths."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import bcd_implicit.strength as module
from bcd_implicit import ImplicitRegressor
from bcd_implicit.strength import NO_STATES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit(X, y, **options):
    return ImplicitRegressor(4, random_state=0, **options).fit(X, y)


def test_the_path_goes_from_dense_to_empty_and_the_best_is_on_it():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 10))
    model = fit(X, np.abs(X[:, 0]) + np.abs(X[:, 1]))
    sizes = [point.n_inputs for point in model.path_]
    assert sizes[0] > 5
    assert 0 in sizes
    assert any(
        point.alpha == model.alpha_ and point.l2 == model.l2_ and point.n_inputs == 2
        for point in model.path_
    )
    losses = [point.loss for point in model.path_]
    for point in model.path_:
        assert point.loss == pytest.approx(point.losses.mean())
    assert min(losses) < 0.1 * max(losses)


def test_states_are_not_used_for_linear_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 10))
    model = fit(X, X[:, 3] - X[:, 4] + rng.standard_normal(300))
    assert model.l2_ >= NO_STATES / 100
    assert np.abs(model.C_).max() < 1e-3
    assert_array_equal(np.flatnonzero(model.support_), [3, 4])


def test_a_given_l2_stays_and_many_inputs_are_halved(monkeypatch):
    monkeypatch.setattr(module, "_MANY_INPUTS", 1)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 30))
    model = fit(X, np.abs(X[:, 7]) + X[:, 20], l2=0.02)
    assert {point.l2 for point in model.path_} == {0.02}
    first, second = model.path_[:2]
    assert first.n_inputs > 1
    assert second.n_inputs <= first.n_inputs // 2
    assert_array_equal(np.flatnonzero(model.support_), [7, 20])


def test_few_rows_get_a_linear_model():
    X = np.random.default_rng(0).standard_normal((12, 2))
    model = fit(X, 3 * X[:, 0] + 1)
    assert model.l2_ == NO_STATES
    assert model.path_ == []
    assert model.score(X, 3 * X[:, 0] + 1) > 0.95
    without = fit(X, 3 * X[:, 0] + 1, fit_feedthrough=False)
    assert without.l2_ < NO_STATES


def test_an_interrupt_before_there_is_a_model_comes_through(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "sample_losses", interrupted)
    X = np.random.default_rng(0).standard_normal((40, 2))
    model = ImplicitRegressor(2, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, X[:, 0])
    assert not hasattr(model, "model_")
