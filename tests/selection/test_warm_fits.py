"""Fits of a path from warm starts, and what they read."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bcd_implicit import ImplicitRegressor
from bcd_implicit.exact import attempt
from bcd_implicit.selection import _fits
from bcd_implicit.selection._fits import Start, _pruned
from bcd_implicit.selection._template import fitter_of

GROUPS = np.array([0, 0, 1, 1, 2])


@pytest.fixture
def make_fitter(make_problem, make_data, fitter_to):
    """Make a fitter of which every setting is another than by default."""

    def make(**changes):
        settings = {"max_iter": 6, "window": 4, "dense_iter": 5, "n_init": 2}
        return fitter_to(make_data(), make_problem(**changes), **settings)

    return make


@pytest.fixture(params=[0, 2**15], ids=["some are read", "all are read"])
def reads(request, monkeypatch):
    """Read the inputs in use alone, or all."""
    monkeypatch.setattr(_fits, "_FEW_ENTRIES", request.param)


def test_a_fitter_to_other_rows_has_the_same_budget(make_fitter, make_data):
    fitter, other = make_fitter(), make_data(m=30)
    assert vars(fitter.on(other)) == vars(fitter) | {"data": other}


def test_fits_have_the_budget_of_the_fitter(make_fitter, make_parameters, monkeypatch):
    plain, given = _fits.train, []
    monkeypatch.setattr(_fits, "train", lambda *a, **k: given.append(k) or plain(*a, **k))
    fitter, inside = make_fitter(), np.ones(5, dtype=bool)
    start = make_parameters(fitter.problem, fitter.data)
    fitter.dense(fitter.problem, inside)
    fitter.keep(fitter.problem, start, inside)
    fitter.keep(fitter.problem, start, inside, 3, rival=2.0)
    fitter.fit(fitter.problem, Start(start, np.inf, np.zeros(5)), 2)
    assert [one["max_iter"] for one in given] == [5, 6, 3, 2]
    assert [one["rival"] for one in given] == [np.inf, np.inf, 2.0, np.inf]
    assert {(one["tol"], one["window"], one["n_init"]) for one in given} == {(1e-3, 4, 2)}


def test_weights_count_where_some_inputs_are_left_out(
    make_fitter, make_parameters, objective_of, reads
):
    fitter = make_fitter(group_weights=np.array([3.0, 0.5, 2.0, 5.0, 1.0]))
    start, inside = make_parameters(fitter.problem, fitter.data), np.arange(5) < 3
    fit = fitter.keep(fitter.problem, start.restricted(inside), inside, 1)
    assert fit.point.parameters.active.any()
    expected = objective_of(fitter.problem, fit.point.parameters, fitter.data)
    assert fit.point.objective == pytest.approx(expected, rel=1e-8)


def test_whole_groups_are_read(make_fitter, make_parameters, reads):
    """Also where an input is always zero, and its columns with it."""
    fitter = make_fitter(groups=GROUPS)
    fitter.data.U[:, 0] = 0.0
    start = make_parameters(fitter.problem, fitter.data).restricted(np.arange(5) == 1)
    fit, norms = fitter.fit(fitter.problem, Start(start, np.inf, np.zeros(5)), 0)
    assert_array_equal(fit.point.parameters.active, np.arange(5) == 1)
    for found in (norms, fitter.gradient_norms(fitter.problem, fit.point.parameters)):
        assert_array_equal(found[[0, 2]], found[[1, 3]])
        assert (found > 0.0).all()


def test_an_input_that_wants_in_brings_its_group(make_fitter, make_parameters, reads):
    fitter = make_fitter(groups=GROUPS, alpha=1e-3)
    start = make_parameters(fitter.problem, fitter.data).restricted(np.arange(5) == 4)
    fit, _ = fitter.fit(fitter.problem, Start(start, np.inf, np.array([0.0, 1, 0, 0, 0])), 3)
    assert_array_equal(fit.point.parameters.active, [True, True, False, False, True])


def test_the_smallest_groups_go_if_the_objective_falls(make_problem, make_data, make_parameters):
    problem, data = make_problem("tanh", groups=GROUPS), make_data()
    parameters = make_parameters(problem, data)
    sizes = np.array([1.0, 0.003, 0.03, 0.03, 0.003])  # of groups that are kept, go and go first
    parameters = replace(parameters, B=parameters.B * sizes, D=parameters.D * sizes)

    def after(kept):
        data.start_states(problem.n_states)
        return attempt(data, problem, parameters.restricted(np.isin(GROUPS, kept))).objective

    few, more = after([0]), after([0, 1])
    between = [few + 1e-9, min(few, more) - 1e-9]
    for objective, kept in zip([np.inf, *between], ([0], [0], [0, 1, 2]), strict=True):
        found = _pruned(make_data(), problem, parameters, objective)
        expected = parameters.restricted(np.isin(GROUPS, kept))
        assert_array_equal(found.active, expected.active)
    assert found is parameters
    assert more < few
    found = _pruned(make_data(), problem, parameters, (few + more) / 2)
    assert_array_equal(found.active, parameters.restricted(GROUPS < 2).active)


@pytest.mark.parametrize("max_iter", [0, 1])
def test_tries_that_lose_before_any_step_take_no_derivatives(
    max_iter, make_fitter, make_parameters, monkeypatch
):
    fitter, kept = make_fitter(), []
    fitter.max_iter = max_iter
    start, everything = make_parameters(fitter.problem, fitter.data), np.ones(5, dtype=bool)
    fit = fitter.keep(fitter.problem, start, everything, 30)
    assert fit.point.parameters.active.all()
    monkeypatch.setattr(fitter, "keep", lambda *_, **__: kept.append(1) or fit)
    assert fitter.thinned(fitter.problem, fit, np.zeros(5))[0] is fit
    assert len(kept) == max_iter


@pytest.mark.parametrize("constant", [0, 1])
def test_groups_leave_together_whichever_of_their_inputs_is_constant(constant):
    """A group whose first input is zero in all rows was not counted, and none left."""
    rng = np.random.default_rng(0)
    X, varies = np.zeros((120, 32)), np.arange(32) % 2 != constant
    X[:, varies] = rng.standard_normal((120, 16))
    y = np.abs(X[:, :4]).sum(axis=1)
    model = ImplicitRegressor(6, groups=np.repeat(np.arange(16), 2), random_state=0)
    prepared = model._prepared(model._encode(X, y, None))
    fitter = fitter_of(model, prepared, max_iter=4, tol=1e-3)
    problem, true = replace(prepared.problem, alpha=0.02, l2=0.02), np.arange(32) < 4
    good = fitter.keep(problem, fitter.dense(problem, true).point.parameters, true, 30)
    noise = 1e-3 * (varies & ~true) * rng.standard_normal((6, 32))
    worse = replace(good.point.parameters, B=good.point.parameters.B + noise)
    fit = fitter.keep(problem, worse, np.ones(32, dtype=bool), 0)
    thin, _ = fitter.thinned(problem, fit, fitter.gradient_norms(problem, fit.point.parameters))
    assert_array_equal(thin.point.parameters.active, true & varies)
