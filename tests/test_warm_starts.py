"""Warm starts: when they are followed by random ones, and what interrupts leave of them."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bcd_implicit import ImplicitRegressor, InterruptedFitWarning, fitting
from bcd_implicit.exceptions import DataLostError
from bcd_implicit.fits import Fit
from bcd_implicit.fitting import _leads_nowhere
from bcd_implicit.linear import NO_STATES, LinearFitter
from bcd_implicit.training import train


@pytest.fixture
def fit_of(make_data, make_problem, make_parameters):
    """Make data, a problem, parameters, and a fit to a given part of what no states reach."""

    def make(part, **changes):
        data, problem = make_data(), make_problem(**changes)
        linear = LinearFitter(data, problem)
        rival = linear.fit(problem, None) if problem.feedthrough else linear.constant()
        objective = linear.loss(rival) + problem.penalty(rival)
        parameters = make_parameters(problem, data)
        found = train(data, problem, start=parameters, max_iter=0, rng=np.random.default_rng(0))
        found = replace(found, point=replace(found.point, objective=part * objective))
        return data, problem, parameters, found

    return make


@pytest.mark.parametrize("feedthrough", [False, True])
@pytest.mark.parametrize(("part", "nowhere"), [(0.985, False), (0.995, True), (1e6, True)])
def test_a_hundredth_must_be_gained_on_a_model_without_states(part, nowhere, feedthrough, fit_of):
    assert _leads_nowhere(*fit_of(part, feedthrough=feedthrough)) == nowhere


@pytest.mark.parametrize(("part", "nowhere"), [(1.005, False), (1.02, True)])
def test_without_states_a_model_must_be_as_good(part, nowhere, fit_of):
    assert _leads_nowhere(*fit_of(part, l2=NO_STATES)) == nowhere


@pytest.mark.parametrize("block", ["B", "C"])
def test_states_that_are_not_used_lead_nowhere(block, fit_of):
    data, problem, parameters, found = fit_of(0.1)
    unused = replace(parameters, **{block: 0.0 * getattr(parameters, block)})
    assert _leads_nowhere(data, problem, unused, found)
    assert not _leads_nowhere(data, replace(problem, l2=NO_STATES), unused, found)


def test_what_needs_no_other_start(fit_of):
    data, problem, parameters, found = fit_of(1.0)
    perfect = replace(found, point=replace(found.point, objective=1e-7))
    unused = replace(parameters, C=0.0 * parameters.C)
    assert not _leads_nowhere(data, problem, unused, perfect)
    none = replace(problem, group_weights=np.full(5, np.inf))
    assert not _leads_nowhere(data, none, parameters, found)


def test_a_linear_model_of_inputs_in_another_unit_is_left():
    """The automatic choice penalises C away: R2 was -1e13 after 501 steps."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 3))
    y = 3.0 * X[:, 0] + 0.1 * rng.standard_normal(100)
    model = ImplicitRegressor(random_state=0, warm_start=True).fit(X, y)
    assert model.l2_ == NO_STATES
    assert model.fit(1e10 * X, y).score(1e10 * X, y) > 0.99


@pytest.fixture
def stopped(monkeypatch):
    """Fit from a warm start to twice the targets; the question whether it leads anywhere fails."""

    def stop(error):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((100, 3))
        y = np.abs(X[:, 0])
        model = ImplicitRegressor(3, alpha=0.05, random_state=0, warm_start=True).fit(X, y)

        def fail(*_):
            raise error

        monkeypatch.setattr(LinearFitter, "fit", fail)
        return model, X, 2.0 * y + X[:, 1]

    return stop


def test_an_interrupt_of_the_question_keeps_the_fit(stopped):
    model, X, y = stopped(KeyboardInterrupt)
    with pytest.warns(InterruptedFitWarning):
        model.fit(X, y)
    assert model.score(X, y) > 0.9


@pytest.fixture
def second_start(monkeypatch):
    """Choose, and fit from what was chosen; the random start that follows ends as it begins."""

    def end(error):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((100, 3))
        fits = []

        def first(*args, start, **options):
            if start is None:
                raise error
            fits.append(train(*args, start=start, **options))
            return fits[-1]

        monkeypatch.setattr(fitting, "train", first)
        return ImplicitRegressor(3, n_init=2, random_state=0), X, np.abs(X[:, 0]), fits

    return end


def test_an_interrupt_of_a_second_start_keeps_the_first(second_start):
    model, X, y, fits = second_start(KeyboardInterrupt)
    with pytest.warns(InterruptedFitWarning):
        model.fit(X, y)
    assert model.objective_ == fits[0].point.objective


@pytest.mark.parametrize("begun", [False, True])
def test_data_lost_by_a_second_start_leave_the_first(begun, second_start, make_data, make_problem):
    error = DataLostError("gone")
    if begun:
        error.parameters = LinearFitter(make_data(), make_problem()).constant()
    model, X, y, fits = second_start(error)
    with pytest.raises(DataLostError) as caught:
        model.fit(X, y)
    assert_array_equal(caught.value.parameters.A, fits[0].point.parameters.A)
    assert caught.value.model.n_states == 3


def test_data_that_are_lost_then_leave_the_fit(fit_of, monkeypatch):
    data, problem, parameters, found = fit_of(1.0)

    def lose(*_):
        raise DataLostError("gone")

    monkeypatch.setattr(LinearFitter, "fit", lose)
    with pytest.raises(DataLostError) as caught:
        _leads_nowhere(data, problem, parameters, found)
    assert isinstance(found, Fit)
    assert_array_equal(caught.value.parameters.B, found.point.parameters.B)
