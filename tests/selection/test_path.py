"""The regularisation path, and what is chosen on it."""

from dataclasses import replace
from math import comb
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.metrics import get_scorer, hinge_loss, make_scorer, max_error, r2_score
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, cross_val_score

from bcd_implicit import (
    ImplicitClassifier,
    ImplicitClassifierCV,
    ImplicitRegressor,
    ImplicitRegressorCV,
    InterruptedFitWarning,
    implicit_path,
)
from bcd_implicit.linear import LinearFitter
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters
from bcd_implicit.selection import _fits, _path_fits
from bcd_implicit.selection._eliminated_path import eliminated_steps
from bcd_implicit.selection._fits import Start, WarmFitter, _wanted
from bcd_implicit.selection._folds import _takes_weights
from bcd_implicit.selection._grid import Grid
from bcd_implicit.selection._path_estimator import _sizes
from bcd_implicit.selection._path_fits import PathStep, _Path
from bcd_implicit.selection._path_models import PathModels
from bcd_implicit.selection._shrinking import shrinking
from bcd_implicit.selection._support_refits import refit_other, refit_supports
from bcd_implicit.selection._template import fitter_of, search_fitter
from bcd_implicit.selection.criteria import degrees_of_freedom, information_criterion, path_criteria
from experiments.teacher import draw

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = ImplicitRegressor(5, random_state=0)


def interaction(m=300, p=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, p))
    return X, X[:, 1] * X[:, 4] + np.abs(X[:, 6]) + 0.1 * rng.standard_normal(m)


@pytest.fixture(scope="module")
def path():
    X, y = interaction()
    frame = pd.DataFrame(X, columns=[f"u{j}" for j in range(8)])
    return implicit_path(frame, y, estimator=SMALL, n_alphas=10), frame, y


def test_the_path_is_what_its_arrays_say(path):
    path, X, y = path
    assert_array_equal(np.argsort(path.alphas), np.arange(len(path)))
    assert (np.diff(path.objectives) >= -1e-12).all()
    assert path.supports[0].sum() > path.supports[-2].sum()
    for index in (0, len(path) // 2, len(path) - 1):
        model = path.estimator(index)
        assert_array_equal(model.support_, path.supports[index])
        assert_array_equal(model.feature_importances_, path.importances[index])
        assert model.score(X, y) == path.scores[index]
        error = ((y - model.predict(X)) ** 2).mean() / y.var() / 2
        assert error == pytest.approx(path.losses[index], rel=1e-6)
        penalty = path.alphas[index] * path.importances[index].sum()
        penalty += path.l2s[index] * (model.C_ / y.std() ** 1) ** 2 @ np.ones((5, 1)) / 2
        assert error + float(penalty.ravel()[0]) == pytest.approx(path.objectives[index], rel=1e-6)
    assert len(list(path.models)) == len(path)
    for beyond in (len(path), -len(path) - 1):
        with pytest.raises(IndexError, match=rf"one of {len(path)} strengths; got {beyond}"):
            path.model(beyond)


def test_without_steps_states_lose_inputs_and_C_is_refitted():
    sample = draw(0, noise=0.1, n_fresh=1)
    model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0)
    path = implicit_path(sample.U, sample.Y, estimator=model, max_iter=0)
    assert not path.n_iters.any()
    assert (np.diff(path.objectives) >= -1e-12).all()
    assert (path.supports == sample.support).all(axis=1).any()
    dense, *models, empty = path.models
    assert not empty.active_inputs.any()
    for sparse in models:
        inside = sparse.active_inputs
        assert_allclose(sparse.A, dense.A, rtol=1e-9)
        scale = np.linalg.norm(sparse.B[:, inside]) / np.linalg.norm(dense.B[:, inside])
        assert_allclose(sparse.B[:, inside], scale * dense.B[:, inside], rtol=1e-9)


def test_the_last_strength_is_the_smallest_that_empties_the_path(path):
    path, X, y = path
    assert path.alpha_max == path.alphas[-1]
    assert not path.supports[-1].any()
    assert path.supports[-2].any()
    Z = (X - X.mean()) / X.std(ddof=0)
    gradient = np.abs(Z.T @ (y - y.mean())) / len(y) / y.std()
    assert path.alpha_max >= gradient.max() * (1 - 1e-6)  # the empty model is stationary
    below = implicit_path(X, y, estimator=SMALL, alphas=[*path.alphas[:-1], 0.9 * path.alpha_max])
    assert below.supports[-1].any()
    assert np.isnan(below.alpha_max)


def test_a_sparse_start_loses_interactions():
    X, y = interaction()
    y = y - np.abs(X[:, 6])
    path = implicit_path(X, y, estimator=SMALL, n_alphas=10)
    assert path.supports[:, [1, 4]].all(axis=1)[:-2].all()
    # from the sparse end the empty model is stationary wherever noise alone is left
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    assert path.alpha_max > 2 * np.abs(Z.T @ (y - y.mean())).max() / len(y) / y.std()


def test_frame_of_a_path(path):
    table = path[0].to_frame()
    assert table.columns[-8:].tolist() == [f"u{j}" for j in range(8)]
    assert_array_equal(table["n_inputs"], path[0].supports.sum(axis=1))
    assert_array_equal(table["u4"], path[0].importances[:, 4])


def test_frame_of_inputs_named_as_what_is_said_of_a_model():
    X = np.random.default_rng(0).standard_normal((40, 2))
    table = pd.DataFrame(X, columns=["score", "alpha"])
    path = implicit_path(table, X[:, 0], estimator=SMALL, n_alphas=3, max_iter=2)
    frame = path.to_frame()
    assert_array_equal(frame["score"], path.scores)
    assert_array_equal(frame["input alpha"], path.importances[:, 1])
    table.columns = ["score", "input score"]
    frame = implicit_path(table, X[:, 0], estimator=SMALL, n_alphas=3, max_iter=2).to_frame()
    assert frame.columns[-2:].tolist() == ["input input score", "input score"]


def test_a_path_is_shown_in_one_line_and_equals_itself_alone(path):
    path, X, y = path
    assert repr(path).startswith(f"<ImplicitPath: alphas {path.alphas[0]:.3g} to ")
    assert repr(path).endswith(f" ({len(path)}), 8 to 0 of 8 inputs>")
    other = implicit_path(X, y, estimator=SMALL, n_alphas=3, max_iter=1)
    assert path == path
    assert path != other
    assert len({path, other}) == 2


def test_more_inputs_than_the_working_set_holds():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 1500))
    y = 2 * X[:, 3] + X[:, 1000]
    path = implicit_path(X, y, estimator=SMALL, n_alphas=6, eps=0.1, max_iter=3)
    assert np.isfinite(path.objectives).all()
    assert path.supports[-2].sum() < 10
    assert path.importances[-2].argmax() in (3, 1000)


def test_constant_targets_have_an_empty_path():
    X, _ = interaction(40)
    path = implicit_path(X, np.ones(40), estimator=SMALL, n_alphas=4)
    assert not path.supports[-1].any()


def test_classes_and_groups_on_a_path():
    X, y = interaction(200)
    labels = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    model = ImplicitClassifier(4, groups=[0, 1, 1, 2, 2, 3, 4, 5], random_state=0)
    path = implicit_path(X, labels, estimator=model, n_alphas=5, max_iter=3)
    assert_array_equal(path.supports[:, 1], path.supports[:, 2])
    assert_array_equal(path.estimator(0).classes_, [0, 1, 2])
    assert_array_equal(path.groups, [0, 1, 1, 2, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_alphas": 1}, "n_alphas"),
        ({"eps": 2.0}, "eps"),
        ({"alphas": [0.0, 1.0]}, "alphas must be positive"),
        ({"alphas": []}, r"alphas must be positive numbers in one dimension; got \[\]"),
        ({"alphas": 0.1}, "alphas must be positive numbers in one dimension; got 0.1"),
        ({"alphas": [0.1, np.nan]}, "Input alphas contains NaN"),
        ({"estimator": 3}, "estimator must be"),
        ({"estimator": ImplicitRegressorCV()}, "estimator must be"),
        ({"n_alphas": 2.5}, "n_alphas must be a whole number"),
        ({"eps": "a"}, "eps between 0 and 1"),
    ],
)
def test_bad_options(options, message):
    X, y = interaction(30)
    with pytest.raises((ValueError, TypeError), match=message):
        implicit_path(X, y, **options)


def test_an_interrupt_ends_a_path():
    X, y = interaction(60)
    left = [60]

    def callback(_):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        implicit_path(X, y, estimator=ImplicitRegressor(3, random_state=0, callback=callback))
    assert left[0] == 0


def test_the_smallest_empty_strength_below_the_grid():
    """Of a target of noise already the first strength may leave nothing."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((400, 4)), rng.standard_normal(400)
    high = implicit_path(X, y, estimator=SMALL, n_alphas=4, eps=0.9)
    low = implicit_path(X, y, estimator=SMALL, n_alphas=12, eps=1e-3)
    assert len(high) == 1
    Z, v = ((data - data.mean(axis=0)) / data.std(axis=0) for data in (X, y))
    stationary = np.abs(Z.T @ v).max() / 400
    assert stationary * (1 - 1e-6) <= high.alpha_max <= 1.02 * low.alpha_max  # what is known of it


def test_strengths_close_to_each_other_end_in_an_empty_model():
    X, _ = interaction(100)
    y = np.abs(X[:, 1]) + X[:, 4]
    path = implicit_path(X, y, estimator=SMALL, n_alphas=2, eps=0.999, max_iter=2)
    assert path.alpha_max == path.alphas[-1] > 1.2
    assert not path.supports[-1].any()


@pytest.mark.parametrize("unit", [1e-3, 1e2])
def test_strengths_have_the_units_of_inputs_that_are_not_standardised(unit):
    """With deviations of 0.001 the first strength left no input."""
    X, y = interaction(100)
    model = ImplicitRegressor(3, standardize=False, random_state=0)
    path = implicit_path(unit * X, y, estimator=model, n_alphas=4, max_iter=2)
    assert path.supports[0, [1, 4, 6]].all()
    assert 0.5 < path.alphas[0] / (0.01 * unit) < 2.0
    assert path.alpha_max == path.alphas[-1]
    assert 0.5 < path.l2s[0] / 0.01 < 2.0  # C does not have the unit of inputs: |u| was missed
    assert_allclose(path.l2s / path.l2s[0], path.alphas / path.alphas[0])
    given = implicit_path(unit * X, y, estimator=model, alphas=path.alphas, max_iter=2)
    assert_array_equal(given.alphas, path.alphas)
    assert_array_equal(given.l2s, path.l2s)
    first = path.estimator(0)
    assert first.alpha == first.alpha_ == path.alphas[0]
    assert first.l2 == first.l2_ == path.l2s[0]
    norms = np.hypot(np.linalg.norm(first.B_, axis=0), np.abs(first.D_[0]) / y.std())
    assert_allclose(path.importances[0], norms, rtol=1e-9)


def test_states_that_are_constants_stay_in_the_empty_model():
    """Without intercepts they are of use, and a model of zeros was no stationary point."""
    X, y = interaction(60)
    options = {"activation": "sigmoid", "fit_intercept": False, "random_state": 0}
    path = implicit_path(X, y + 2.0, estimator=ImplicitRegressor(3, **options), n_alphas=4)
    assert (np.diff(path.objectives) >= -1e-12).all()
    assert not path.supports[-1].any()
    assert path.residuals[-1] < 1e-6
    plain = ImplicitRegressor(3, alpha=path.alpha_max, **options).fit(X, y + 2.0)
    assert path.objectives[-1] == pytest.approx(plain.objective_, rel=1e-6)
    strengths = path.alpha_max * np.array([1.5, 2.0])
    model = ImplicitRegressorCV(3, alphas=strengths, cv=2, **options).fit(X, y + 2.0)
    assert not model.support_.any()
    zero = cross_val_score(DummyRegressor(strategy="constant", constant=0.0), X, y + 2.0, cv=2)
    assert (model.cv_scores_ > zero + 0.5).all()


def test_a_path_that_does_not_end_in_an_empty_model_has_no_last_strength(monkeypatch):
    monkeypatch.setattr(_path_fits, "_MOST_BEYOND", 0)
    X, _ = interaction(100)
    path = implicit_path(X, np.abs(X[:, 1]) + X[:, 4], estimator=SMALL, n_alphas=2, max_iter=2)
    assert path.supports[-1].any()
    assert path.alpha_max == np.inf


@pytest.fixture
def make_fitter(make_problem, make_data, fitter_to):
    """Make a fitter to data of which two inputs matter."""

    def make(activation="relu", **monitor):
        settings = {"max_iter": 4, "tol": 1e-4, "monitor": Monitor(**monitor)}
        return fitter_to(make_data(), make_problem(activation), **settings)

    return make


def test_the_objective_at_another_strength(make_fitter, objective_of):
    """With the penalties of both, the way back took over nothing."""
    fitter = make_fitter()
    path = _Path(fitter, lambda alpha: 0.5 * alpha)
    step = path.at(0.02, path.dense(0.01))
    for alpha in (0.02, 0.2):
        expected = objective_of(path.problem(alpha), step.full(5), fitter.data)
        assert path.value(step, alpha) == pytest.approx(expected)


def test_the_worst_inputs_enter_first(make_problem):
    """Not those that hardly want in, nor any within rounding of its threshold."""
    problem = make_problem(alpha=1.0, n_inputs=100)
    inside = np.arange(100) == 99
    norms = np.r_[1.005, np.linspace(1.1, 2.0, 98), 3.0]
    assert_array_equal(np.flatnonzero(_wanted(problem, norms, inside)), np.arange(35, 99))


def test_fits_that_read_all_inputs_know_the_same_of_them(make_fitter, make_parameters, monkeypatch):
    """As fits that gather some, and take the gradients of the others afterwards."""
    found = {}
    for most in (0, 2**15):
        monkeypatch.setattr(_fits, "_FEW_ENTRIES", most)
        fitter, inside = make_fitter("tanh"), np.arange(5) > 1  # without those that matter
        parameters = make_parameters(fitter.problem, fitter.data).restricted(inside)
        start = Start(parameters, np.inf, np.zeros(5))
        found[most] = fitter.fit(fitter.problem, start, 0)
    (fit, norms), (one, one_norms) = found.values()
    assert_allclose(one_norms, norms, rtol=1e-9)
    assert one_norms[:2].min() > 0.0
    assert one.point.residual == pytest.approx(fit.point.residual)
    assert not one.point.parameters.active[:2].any()


def test_half_of_the_inputs_leave_together_as_long_as_it_pays():
    """The gradients of all inputs are known afterwards."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 16))
    model = ImplicitRegressor(6, random_state=0)
    data = model._encode(X, np.abs(X[:, :2]).sum(axis=1), None)
    prepared = model._prepared(data)
    fitter = fitter_of(model, prepared, max_iter=4, tol=1e-3)
    problem, true = replace(prepared.problem, alpha=0.02, l2=0.02), np.arange(16) < 2
    good = fitter.keep(problem, fitter.dense(problem, true).point.parameters, true, 30)
    B = good.point.parameters.B + 1e-3 * ~true * rng.standard_normal((6, 16))
    worse = replace(good.point.parameters, B=B)
    fit = fitter.keep(problem, worse, np.ones(16, dtype=bool), 0)
    assert fit.point.objective > good.point.objective
    norms = fitter.gradient_norms(problem, fit.point.parameters)
    thin, thin_norms = fitter.thinned(problem, fit, norms)
    assert_array_equal(thin.point.parameters.active, true)
    assert thin.n_iter >= 3  # for three times half of the inputs
    assert thin.point.objective < 1.001 * good.point.objective
    expected = fitter.gradient_norms(problem, thin.point.parameters)
    assert_allclose(thin_norms[~true], expected[~true], rtol=0.05)
    again, again_norms = fitter.thinned(problem, thin, thin_norms)
    assert again is thin
    assert again_norms is thin_norms


def clipped():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((200, 20))
    return X, rng.standard_normal(200), ImplicitRegressor(10, activation="clip", random_state=0)


def without_feedthrough(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((200, 12))
    y = np.abs(X[:, 1]) + X[:, 0] * X[:, 2] + 0.3 * rng.standard_normal(200)
    options = {"activation": "sigmoid", "fit_feedthrough": False, "random_state": 0}
    return X, y, ImplicitRegressor(5, **options)


@pytest.mark.parametrize("case", [clipped, without_feedthrough])
def test_only_the_last_model_of_a_path_is_empty(case):
    """Also where half of the inputs die, or no input has a gradient in an empty model."""
    X, y, model = case()
    path = implicit_path(X, y, estimator=model, n_alphas=6)
    assert_array_equal(path.supports.any(axis=1), np.arange(len(path)) < len(path) - 1)
    assert path.residuals[-1] <= 1e-8


def test_a_path_begins_at_a_weaker_strength_where_nothing_is_left():
    X, y, model = without_feedthrough(2)
    path = implicit_path(X, y, estimator=model, n_alphas=10)
    assert path.supports[0].any()
    assert path.objectives[0] < 0.45


@pytest.mark.parametrize("seed", range(3))
def test_a_dense_start_that_dies_is_made_again(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((150, 20))
    y = np.abs(X[:, :3]).sum(axis=1) + 0.3 * rng.standard_normal(150)
    model = ImplicitRegressor(2, fit_feedthrough=False, random_state=seed)
    assert implicit_path(X, y, estimator=model, n_alphas=3, max_iter=2).supports[0].any()


def test_groups_whose_first_input_is_constant_leave_by_halves(monkeypatch):
    tries = []
    keep = WarmFitter.keep

    def counted(self, *arguments, **options):
        tries.append(len(arguments))
        return keep(self, *arguments, **options)

    monkeypatch.setattr(WarmFitter, "keep", counted)
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((150, 6))
    X = np.stack([np.zeros_like(Z), Z], axis=2).reshape(150, 12)
    model = ImplicitRegressor(4, groups=np.repeat(np.arange(6), 2), random_state=0)
    implicit_path(X, np.abs(Z[:, 0]) + Z[:, 1], estimator=model, n_alphas=4)
    assert len(tries) >= 4


def test_an_interrupt_ends_every_fit_but_the_last(make_fitter, make_parameters):
    def callback(record):
        if record["block"] == "ABD":
            raise KeyboardInterrupt

    fitter, inside = make_fitter(callback=callback), np.ones(5, dtype=bool)
    problem = fitter.problem
    parameters = make_parameters(problem, fitter.data)
    start = Start(parameters, np.inf, np.zeros(5))
    for fit in (
        lambda: fitter.dense(problem, inside),
        lambda: fitter.fit(problem, start, 4),
        lambda: fitter.keep(problem, parameters, inside),
    ):
        with pytest.raises(KeyboardInterrupt):
            fit()
    assert fitter.settle(problem, parameters, inside).interrupted


# cross-validation


@pytest.mark.parametrize(("n_states", "seed"), [(10, 2), (5, 1)])
def test_the_model_is_as_good_as_its_score(n_states, seed):
    """The path of all rows had lost an input, or its use, at a strength at which folds had it.

    The models had R2 of 0.63 and 0.58 on fresh rows.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((300, 12))
    y = np.abs(X[:, 0]) + X[:, 1] * X[:, 2] + 0.3 * rng.standard_normal(300)
    model = ImplicitRegressorCV(n_states, random_state=0).fit(X, y)
    assert model.support_[:3].all()
    assert model.score(X, y) > model.cv_scores_[model.index_].mean()


@pytest.fixture(scope="module")
def two_paths():
    """The models of a path, the same without one of two inputs, and the data."""
    X, y = interaction(120)
    template = ImplicitRegressor(4, alpha=1.0, random_state=0)
    prepared = template._prepared(template._encode(X, y, None))
    whole = PathModels.of(template, prepared, Grid(np.array([0.01, 0.05, 0.1])))
    fitter = fitter_of(template, prepared, max_iter=20, tol=1e-4)
    step = whole.steps[1]
    assert 1 in step.columns
    inside = np.isin(np.arange(X.shape[1]), step.columns[step.columns != 1])
    problem = replace(prepared.problem, alpha=step.alpha, l2=step.l2)
    fit = fitter.keep(problem, step.full(X.shape[1]).restricted(inside), inside)
    less = PathStep.of(fit, fitter.gradient_norms(problem, fit.point.parameters), problem)
    assert less.objective > 1.1 * step.objective
    return whole, replace(whole, steps=[whole.steps[0], less, whole.steps[2]]), prepared


def test_a_better_model_of_another_path_takes_the_place_of_one(two_paths):
    whole, lost, prepared = two_paths
    found = lost.rivalled(1, prepared, [lost, whole])
    for index in (0, 2):
        assert found.steps[index] is lost.steps[index]
    step = found.steps[1]
    assert step.objective <= whole.steps[1].objective * (1.0 + 1e-9)
    assert 1 in step.columns
    assert np.isfinite(step.gradient_norms).all()
    assert found.steps[1].objective < 0.95 * lost.steps[1].objective


def test_its_refit_takes_the_place_of_a_worse_one_alone(two_paths):
    whole, lost, prepared = two_paths
    refits = lost.candidates(prepared)["refit"]
    found = lost.rivalled(1, prepared, [whole], refits)
    assert 1 in found.steps[1].columns
    assert found.steps[1].objective < refits.steps[1].objective
    assert found.steps[1].alpha == refits.steps[1].alpha
    for index in (0, 2):
        assert found.steps[index] is refits.steps[index]
    best = replace(refits, steps=[replace(step, objective=0.0) for step in refits.steps])
    assert lost.rivalled(1, prepared, [whole], best) is best


def test_eliminated_models_are_the_best_of_each_size_and_then_at_each_strength():
    """Of every size; an elimination from twelve inputs passes over 11, 10, 8 and 7."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 12))
    y = X[:, 0] * X[:, 1] + 0.5 * X[:, 2:10].sum(axis=1) + 0.2 * rng.standard_normal(100)
    template = ImplicitRegressor(3, alpha=1.0, random_state=0)
    prepared = template._prepared(template._encode(X, y, None))
    path = PathModels.of(template, prepared, Grid(np.geomspace(0.02, 0.3, 6), max_iter=1))
    fitter = search_fitter(template, prepared)
    weak = replace(prepared.problem, alpha=0.01, l2=0.01)
    by_size = {}
    for strength in (0.01, 0.03):
        fits = {}
        for parameters, order, left in shrinking(fitter, 1, strength, np.ones(12, dtype=bool)):
            fits |= {size: (parameters, order[:size]) for size in range(left, 0, -1)}
        for size, (parameters, kept) in fits.items():
            inside = np.isin(np.arange(12), kept)
            fit = fitter.keep(weak, parameters.restricted(inside), inside, 0)
            step = PathStep.of(fit, np.full(12, np.nan), weak)
            by_size[size] = min(by_size.get(size, step), step, key=lambda one: one.objective)
    assert set(by_size) == set(range(1, 13))
    found = eliminated_steps(search_fitter(template, prepared), path.steps)
    for step, of_path in zip(found, path.steps, strict=True):
        problem = replace(prepared.problem, alpha=of_path.alpha, l2=of_path.l2)
        assert (step.alpha, step.l2) == (of_path.alpha, of_path.l2)
        assert step.value(problem) == min(one.value(problem) for one in by_size.values())
    assert {9, 10, 12} <= {len(step.columns) for step in found}
    refits = path.candidates(prepared)["eliminated"].steps
    for refit, step in zip(refits, found, strict=True):
        assert_array_equal(refit.columns, step.columns)
        assert refit.alpha == max(0.1 * step.alpha, path.steps[0].alpha)


def test_where_a_path_is_empty_no_elimination_leaves_anything(two_paths):
    whole, _, prepared = two_paths
    empty = replace(whole.steps[1], columns=np.zeros(0, dtype=int), objective=1e9)
    fitter = search_fitter(whole.template, prepared)
    found = eliminated_steps(fitter, [empty, *whole.steps[1:]])
    assert found[0] is empty
    assert all(len(step.columns) for step in found[1:])
    assert eliminated_steps(fitter, [empty, empty]) == [empty, empty]


def test_linear_models_are_refits_of_what_models_without_states_use(two_paths):
    whole, _, prepared = two_paths
    strong = replace(whole.steps[2], alpha=0.7, l2=0.7)
    empty = replace(strong, columns=np.zeros(0, dtype=int))
    path = [*whole.steps, strong, empty]
    steps = replace(whole, steps=path).candidates(prepared)["linear"].steps
    fitter = LinearFitter(prepared.blocks(), prepared.problem)
    for step, of_path in zip(steps[:-1], path[:-1], strict=True):
        found = fitter.fit(replace(prepared.problem, alpha=of_path.alpha), None, 1e-3)
        assert_array_equal(step.columns, np.flatnonzero(found.active))
        assert not step.parameters.C.any()
        if found.active.any():
            weaker = replace(prepared.problem, alpha=max(0.1 * of_path.alpha, path[0].alpha))
            assert step.alpha == weaker.alpha
            assert step.objective <= fitter.loss(found) + weaker.penalty(found) + 1e-9
    assert [len(step.columns) > 0 for step in steps] == [True, True, True, False, False]
    assert steps[-1] is empty


def test_few_rows_that_a_path_follows_too_far():
    """With all inputs it follows the noise until it loses them: now and then the true ones, too."""
    X = np.random.default_rng(3).standard_normal((150, 30))
    y = np.abs(X[:, :3]).sum(axis=1)
    model = ImplicitRegressorCV(6, criterion="bic", random_state=0).fit(X, y)
    assert model.kinds_[model.index_] == "eliminated"
    assert_array_equal(np.flatnonzero(model.support_), [0, 1, 2])


def test_eliminated_models_compete_with_those_of_the_folds(monkeypatch):
    """Where the chosen one is worse on its own rows than on those kept back."""
    seen = []
    rivalled = PathModels.rivalled

    def spied(self, index, prepared, others, refits=None):
        seen.append((self, others, refits))
        return rivalled(self, index, prepared, others, refits)

    monkeypatch.setattr(PathModels, "rivalled", spied)
    monkeypatch.setattr(ImplicitRegressorCV, "_falls_short", lambda *_: True)
    X = np.random.default_rng(0).standard_normal((150, 20))
    y = np.abs(X[:, :3]).sum(axis=1)
    model = ImplicitRegressorCV(6, cv=2, random_state=0).fit(X, y)
    assert model.kinds_[model.index_] == "eliminated"
    ((own, others, refits),) = seen
    assert refits is None
    assert len(others) == 2
    strength = max(0.1 * model.alphas_[model.index_], model.alphas_[0])
    for models in (own, *others):
        assert models.alphas[model.index_] == pytest.approx(strength)


def test_no_model_takes_the_place_of_one_that_is_as_good(two_paths, monkeypatch):
    whole, _, prepared = two_paths
    empty = replace(whole.steps[1], columns=np.zeros(0, dtype=int))
    empty = replace(empty, parameters=whole.steps[1].parameters.only(empty.columns))
    nothing = replace(whole, steps=3 * [empty])
    perfect = replace(whole, steps=[replace(step, objective=0.0) for step in whole.steps])
    assert perfect.rivalled(1, prepared, [whole]).steps == perfect.steps
    assert perfect.rivalled(1, prepared, [whole], whole) is whole
    monkeypatch.setattr(WarmFitter, "keep", None)  # nor is an empty model worth a fit
    assert whole.rivalled(1, prepared, [nothing]).steps == whole.steps


def test_models_of_other_paths_have_the_order_of_the_inputs_and_their_penalties(monkeypatch):
    """Columns of a group stand side by side in fits alone."""
    X, y = interaction(120)
    groups = [0, 1, 0, 2, 3, 4, 5, 0]
    template = ImplicitRegressor(4, alpha=1.0, l2=0.02, groups=groups, random_state=0)
    prepared = template._prepared(template._encode(X, y, None))
    assert prepared.order is not None
    path = PathModels.of(template, prepared, Grid(np.array([0.01, 0.05])))
    worse = replace(path, steps=[replace(step, objective=9.0) for step in path.steps])
    plain, begun = WarmFitter.keep, []

    def keep(self, problem, start, *rest, **options):
        begun.append(start)
        return plain(self, problem, start, *rest, **options)

    monkeypatch.setattr(WarmFitter, "keep", keep)
    found = worse.rivalled(1, prepared, [path])
    assert_allclose(begun[0].B, path.steps[1].full(8).B, atol=1e-12)
    assert found.steps[1].objective <= path.steps[1].objective * (1.0 + 1e-9)
    assert (found.steps[1].alpha, found.steps[1].l2) == (path.steps[1].alpha, 0.02)


@pytest.mark.parametrize("classes", [2, 4])
def test_folds_without_a_class_are_no_rivals(classes, monkeypatch):
    monkeypatch.setattr(ImplicitClassifierCV, "_falls_short", lambda *_: True)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 4))
    y = np.digitize(np.abs(X[:, 0]), [0.3, 0.8, 1.5][: classes - 1])
    y[0] = 9
    model = ImplicitClassifierCV(4, n_alphas=5, cv=KFold(3), random_state=0).fit(X, y)
    assert len(model.classes_) == classes + 1
    assert model.kinds_[model.index_] != "linear"


@pytest.mark.parametrize(("own", "rivals"), [(0.2, 1), (0.9, 0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_model_that_does_worse_on_its_own_rows_has_rivals(own, rivals, weighted, monkeypatch):
    """Folds score 0.5; rows without weight are scored by neither."""
    X, y = interaction(60)
    y = np.abs(X[:, 1]) * np.sign(X[:, 4])
    weights = np.where(np.arange(60) % 6 == 0, 0.0, 1.0) if weighted else None
    sizes, made = [], []

    def scoring(model, X, y, sample_weight=None):
        sizes.append(len(y))
        linear = not model.model_.C.any()
        return own if len(y) > 40 else 0.1 if linear else 0.5

    def rivalled(self, *_):
        made.append(self)
        return self

    monkeypatch.setattr(PathModels, "rivalled", rivalled)
    model = ImplicitRegressorCV(**QUICK, scoring=scoring).fit(X, y, weights)
    assert model.kinds_[model.index_] != "linear"
    assert sizes[-1] == (50 if weighted else 60)
    assert len(made) == rivals


def test_a_data_frame_is_scored_without_its_names():
    """In the folds rows have no names, so that the model that is held against them has none."""
    X, y = interaction(60)
    frame = pd.DataFrame(X, columns=[f"input {j}" for j in range(X.shape[1])])
    plain, named = (ImplicitRegressorCV(**QUICK).fit(inputs, y) for inputs in (X, frame))
    assert named.kinds_[named.index_] != "linear"  # a linear model is not held against them
    assert_array_equal(named.feature_names_in_, frame.columns)
    assert_allclose(named.cv_scores_, plain.cv_scores_, atol=1e-12)
    assert_allclose(named.predict(frame), plain.predict(X), atol=1e-12)


def test_a_linear_choice_and_that_of_a_criterion_have_no_rivals(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 4))
    y = X[:, 0] + 0.5 * rng.standard_normal(80)
    monkeypatch.setattr(PathModels, "rivalled", None)
    monkeypatch.setattr(ImplicitRegressorCV, "_falls_short", lambda *_: True)
    model = ImplicitRegressorCV(**QUICK).fit(X, y)
    assert model.kinds_[model.index_] == "linear"
    ImplicitRegressorCV(**QUICK, criterion="bic").fit(X, np.abs(X[:, 1]))


def test_folds_have_the_penalties_of_the_path():
    """A fold whose inputs vary less has another unit, half of that of the path."""
    X, y = interaction(60)
    X[:30] *= 0.5
    model = ImplicitRegressor(3, standardize=False)
    folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    units = [model._prepared(model._encode(X[r], y[r], None)).scaling.unit for r, _ in folds]
    assert units[0] < units[1]
    ratios = []

    def scoring(model, X, y):
        if model.l2_ < 1e6:  # with states
            ratios.append(model.l2_ / model.alpha_)
        return model.score(X, y)

    options = {"n_alphas": 3, "path_iter": 1, "max_iter": 2, "random_state": 0}
    model = ImplicitRegressorCV(3, standardize=False, cv=folds, scoring=scoring, **options)
    path = model.fit(X, y).path_
    assert_allclose(ratios, path.l2s[0] / path.alphas[0])


QUICK = {"n_states": 4, "n_alphas": 6, "path_iter": 3, "cv": 3, "random_state": 0}


@pytest.fixture(scope="module")
def validated():
    X, y = interaction(200)
    return ImplicitRegressorCV(**QUICK, max_iter=50).fit(X, y), X, y


def test_the_choice_is_the_best_mean(validated):
    model, X, y = validated
    means = model.cv_scores_.mean(axis=1)
    assert model.cv_scores_.shape == (len(model.alphas_), 3)
    assert means[model.index_] == means.max()
    assert_array_equal(model.alphas_, model.path_.alphas)
    part = 1.0 if model.kinds_[model.index_] == "path" else 0.1  # of refits
    assert model.alpha_ == max(part * model.alphas_[model.index_], model.alphas_[0])
    assert model.path_.losses[model.index_] > 0.5 * ((model.predict(X) - y) ** 2).mean() / y.var()
    assert model.score(X, y) > 0.6


def test_one_standard_error(validated):
    model, X, y = validated
    simple = ImplicitRegressorCV(**QUICK, max_iter=50, rule="1se").fit(X, y)
    rest = np.arange(len(model.alphas_)) != simple.index_  # there the rule may take another kind
    assert_array_equal(simple.cv_scores_[rest], model.cv_scores_[rest])
    means = model.cv_scores_.mean(axis=1)
    error = model.cv_scores_[model.index_].std(ddof=1) / np.sqrt(3)
    assert simple.cv_scores_[simple.index_].mean() >= means.max() - error
    assert_array_equal(np.isinf(simple.group_weights_), ~simple.support_)
    assert 0 < simple.support_.sum() < X.shape[1]
    assert simple.support_.sum() <= model.support_.sum()


def test_the_standard_error_is_that_of_a_sample_of_folds():
    scores = np.array([[1.0, 3.0], [1.0, 1.2]])[:, :, None]  # one below 2 is allowed, not 0.7
    index, _ = ImplicitRegressorCV(rule="1se")._chosen(scores, np.array([[2.0], [1.0]]))
    assert index == 1


@pytest.mark.parametrize("rule", ["min", "1se"])
def test_the_largest_of_equally_good_strengths_is_chosen(rule):
    index, kinds = ImplicitRegressorCV(rule=rule)._chosen(np.ones((3, 2, 2)), np.ones((3, 2)))
    assert index == 2
    assert_array_equal(kinds, 0)


def test_one_standard_error_takes_the_fewest_inputs():
    """Whatever the kind of model, and the strength; the best two are not worse by 0.5."""
    means = np.array([[3.0, 1.0], [2.9, 2.6], [2.0, 2.8], [2.7, 2.9], [2.0, 2.0]])
    sizes = np.array([[9.0, 1.0], [4.0, 3.0], [1.0, 4.0], [3.0, 5.0], [1.0, 1.0]])
    scores = means[:, None] + np.array([0.5, -0.5])[:, None]
    index, kinds = ImplicitRegressorCV(rule="1se")._chosen(scores, sizes)
    assert index == 3
    assert_array_equal(kinds, [0, 0, 1, 0, 0])
    index, kinds = ImplicitRegressorCV()._chosen(scores, sizes)
    assert index == 0
    assert_array_equal(kinds, [0, 0, 1, 1, 0])


def test_sizes_are_those_of_all_rows_or_of_the_folds_if_these_are_larger():
    def models(*sizes):
        return SimpleNamespace(steps=[SimpleNamespace(columns=range(size)) for size in sizes])

    one = {"path": models(1, 2), "refit": models(5, 1)}
    two = {"path": models(2, 4), "refit": models(4, 1)}
    rows = {"refit": models(2, 2), "path": models(3, 1)}
    assert_array_equal(_sizes(rows, [one, two]), [[4.5, 3.0], [2.0, 3.0]])
    assert_array_equal(_sizes({"refit": models(2, 1)}, []), [[2.0], [1.0]])


def test_the_number_of_jobs_changes_nothing(validated):
    model, X, y = validated
    other = ImplicitRegressorCV(**QUICK, max_iter=50, n_jobs=2).fit(X, y)
    assert_array_equal(other.cv_scores_, model.cv_scores_)
    assert_array_equal(other.B_, model.B_)


def test_weights_are_repetitions():
    X, y = interaction(40)
    weights = np.random.default_rng(0).integers(1, 4, 40)
    rows = np.repeat(np.arange(40), weights)
    folds = [(np.arange(0, 20), np.arange(20, 40)), (np.arange(20, 40), np.arange(0, 20))]
    repeated = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in folds]
    options = QUICK | {"max_iter": 10}
    one = ImplicitRegressorCV(**options | {"cv": folds}).fit(X, y, sample_weight=weights)
    two = ImplicitRegressorCV(**options | {"cv": repeated}).fit(X[rows], y[rows])
    assert_allclose(one.predict(X), two.predict(X), rtol=1e-6)
    by_criterion = [
        ImplicitRegressorCV(**options, criterion="bic").fit(*data, sample_weight=weight)
        for data, weight in (((X, y), weights), ((X[rows], y[rows]), None))
    ]
    assert_allclose(by_criterion[0].predict(X), by_criterion[1].predict(X), rtol=1e-6)


@pytest.mark.parametrize("options", [{"cv": 2}, {"criterion": "bic"}])
def test_one_weight_is_that_of_all_rows(options):
    X, y = interaction(40)
    options = QUICK | {"n_alphas": 3, "path_iter": 1, "max_iter": 2} | options
    one, all_rows = (
        ImplicitRegressorCV(**options).fit(X, y, sample_weight=weights)
        for weights in (2.0, np.full(40, 2.0))
    )
    assert_array_equal(one.path_.scores, all_rows.path_.scores)
    assert_array_equal(one.predict(X), all_rows.predict(X))
    path = implicit_path(X, y, estimator=SMALL, n_alphas=2, max_iter=1, sample_weight=2.0)
    assert np.isfinite(path.scores).all()


def test_scores_of_a_path_are_weighted():
    X, y = interaction(40)
    weights = np.random.default_rng(0).uniform(0.1, 3.0, 40)
    path = implicit_path(X, y, estimator=SMALL, n_alphas=2, max_iter=1, sample_weight=weights)
    expected = [path.estimator(k).score(X, y, weights) for k in range(len(path))]
    assert_array_equal(path.scores, expected)


def test_metadata_reaches_the_splitter():
    X, y = interaction(60)
    groups = np.arange(60) % 3
    with sklearn.config_context(enable_metadata_routing=True):
        model = ImplicitRegressorCV(**QUICK | {"cv": GroupKFold(3), "max_iter": 5})
        model.fit(X, y, groups=groups)
        by_hand = ImplicitRegressorCV(
            **QUICK | {"cv": list(GroupKFold(3).split(X, y, groups)), "max_iter": 5}
        ).fit(X, y)
    assert_array_equal(model.cv_scores_, by_hand.cv_scores_)
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        model.fit(X, y, groups=groups)


def test_folds_of_a_generator_are_read_once():
    X, y = interaction(60)
    folds = KFold(2).split(X)
    with sklearn.config_context(enable_metadata_routing=True):
        model = ImplicitRegressorCV(**QUICK | {"cv": folds}).fit(X, y)
    assert model.cv_scores_.shape[1] == 2
    with pytest.raises(ValueError, match="cv has no folds"):
        model.fit(X, y)


def test_a_criterion_needs_a_sum_of_weights():
    X, y = interaction(40)
    model = ImplicitRegressorCV(**QUICK, criterion="bic")
    finite = pytest.raises(ValueError, match="sample_weight must have a finite sum")
    with finite, np.errstate(over="ignore"):
        model.fit(X, y, np.full(40, 1e308))


def test_any_scorer():
    X, y = interaction(90)
    labels = np.where(y > np.median(y), "high", "low")
    model = ImplicitClassifierCV(
        **QUICK | {"cv": KFold(2), "max_iter": 5}, scoring="neg_log_loss", class_weight="balanced"
    )
    model.fit(X, labels)
    assert (model.cv_scores_ < 0.0).all()
    assert set(model.predict(X)) <= {"high", "low"}


@pytest.mark.parametrize("criterion", ["aic", "bic", "ebic"])
def test_criteria(criterion):
    X, y = interaction(200)
    model = ImplicitRegressorCV(**QUICK | {"max_iter": 20}, criterion=criterion).fit(X, y)
    assert model.criterion_values_[model.index_] == model.criterion_values_.min()
    assert not hasattr(model, "cv_scores_")


@pytest.mark.parametrize("options", [{"criterion": "bic"}, {"cv": 3}])
def test_refits_are_judged(options):
    """By the losses of the path itself all inputs would be kept, for the sake of less shrinkage."""
    sample = draw(0, noise=0.1, n_samples=200, n_inputs=20, n_outputs=30, n_true=5)
    budget = {"fit_feedthrough": False, "max_iter": 20, "random_state": 0}
    model = ImplicitRegressorCV(8, **budget, **options).fit(sample.U, sample.Y)
    assert_array_equal(model.support_, sample.support)
    assert model.kinds_[model.index_] in ("refit", "eliminated")
    assert "linear" not in model.kinds_
    assert model.alpha_ == max(0.1 * model.alphas_[model.index_], model.alphas_[0])
    assert model.path_.scores[model.index_] < model.score(sample.U, sample.Y)


@pytest.mark.parametrize("options", [{"criterion": "bic"}, {"cv": 3}])
def test_states_are_left_out_where_they_are_of_no_use(options):
    """With ten states there are as many parameters as rows; a criterion would choose none."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 12))
    y = X[:, :8] @ rng.uniform(1.0, 2.0, 8) + rng.standard_normal(100)
    model = ImplicitRegressorCV(10, n_alphas=8, random_state=0, **options).fit(X, y)
    assert model.kinds_[model.index_] == "linear"
    assert model.support_[:8].all()
    assert not model.C_.any()
    assert model.score(X, y) > 0.9


def test_parts_are_empty_where_all_rows_select_nothing():
    X, y = interaction(200)
    y = y + X[:, 2]
    path = implicit_path(X, y, estimator=SMALL, n_alphas=4)
    options = QUICK | {"n_states": 5, "path_iter": 4}
    alphas = np.append(path.alphas[:-1], path.alpha_max * np.array([2.0, 4.0]))
    model = ImplicitRegressorCV(**options, alphas=alphas).fit(X, y)
    constant = cross_val_score(DummyRegressor(), X, y, cv=3)
    empty = ~model.path_.supports.any(axis=1)
    assert empty.sum() == 2
    assert model.support_.any()
    assert_allclose(model.cv_scores_[empty], [constant, constant], rtol=1e-9)
    nothing = ImplicitRegressorCV(**options, alphas=path.alpha_max * np.array([2.0, 4.0])).fit(X, y)
    assert not nothing.support_.any()
    assert_allclose(nothing.cv_scores_, [constant, constant], rtol=1e-9)
    assert (nothing.kinds_ == "path").all()


def test_groups_are_counted_wherever_their_columns_stand():
    X, y = interaction()
    groups = np.array([0, 1, 2, 0, 1, 2, 3, 3])
    model = ImplicitRegressor(5, groups=groups, random_state=0)
    path = implicit_path(X, y, estimator=model, n_alphas=6)
    data = model._encode(X, y, None)
    bic, ebic = (path_criteria(name, path._models, data) for name in ("bic", "ebic"))
    counts = [len(np.unique(groups[support])) for support in path.supports]
    assert len(set(counts)) > 2
    assert_allclose(ebic - bic, [2 * np.log(comb(4, count)) for count in counts], atol=1e-9)


def test_criteria_count_weights_as_repetitions():
    X, y = interaction(40)
    model = ImplicitRegressor(2, random_state=0)
    path = implicit_path(X, y, estimator=model, n_alphas=2, max_iter=1)
    weighted = model._encode(X, y, np.full(40, 3.0))
    repeated = model._encode(np.repeat(X, 3, axis=0), np.repeat(y, 3), None)
    assert_allclose(*(path_criteria("bic", path._models, data) for data in (weighted, repeated)))


def test_no_variance_is_left_where_parameters_are_as_many_as_equations():
    few, many = (
        information_criterion("bic", 1e-6, df, 50.0, 2, 10, 2, quadratic=True) for df in (99, 100)
    )
    assert few < many == np.inf
    assert information_criterion("bic", 1e-6, 100, 50.0, 2, 10, 2, quadratic=False) < np.inf


def test_degrees_of_freedom_leave_out_dead_states():
    A = np.array([[0.5, 0.1, 0.0], [0.0, 0.0, 0.0], [0.2, 0.0, 0.0]])
    B = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    C, D = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 4.0]])
    model = Parameters(A, B, np.ones(3), C, D, np.ones(1))
    # the third state reaches no output: 2 of A, 2 of B, 2 of b, 1 each of C, D and d
    assert degrees_of_freedom(model, homogeneous=False, intercept=True) == 9
    assert degrees_of_freedom(model, homogeneous=True, intercept=True) == 7
    assert degrees_of_freedom(model, homogeneous=True, intercept=False) == 6
    B[1] = 0.0  # nothing drives the second state: 1 of each
    assert degrees_of_freedom(model, homogeneous=False, intercept=True) == 6
    assert degrees_of_freedom(model, homogeneous=True, intercept=True) == 5
    # without intercepts the second is an offset of the first, as the first would be of the output
    assert degrees_of_freedom(model, homogeneous=False, intercept=False, constants=True) == 6
    B[0] = 0.0
    assert degrees_of_freedom(model, homogeneous=False, intercept=False, constants=True) == 2
    # the last state drives the first, which outputs read, by way of the second
    A[:], B[:] = np.diag([0.5, 0.5], 1), np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert degrees_of_freedom(model, homogeneous=False, intercept=True) == 9


def test_the_intercept_of_the_empty_model_is_counted():
    """Of centred targets it is exactly zero there alone: to be empty was free of its price."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 2))
    y = np.sqrt(0.039) * X[:, 0] + np.sqrt(0.961) * rng.standard_normal(200)
    options = {"n_alphas": 4, "criterion": "bic", "path_iter": 2, "random_state": 0}
    model = ImplicitRegressorCV(2, **options).fit(X, y)
    assert not model.path_.supports[-1].any()
    assert model.criterion_values_[-1] == pytest.approx(np.log(200))


def test_constants_in_place_of_intercepts_are_counted():
    """They were free in the empty model alone, and an input that acts on all outputs was left."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300, 3))
    Y = 2.0 + 0.15 * X[:, :1] + rng.standard_normal((300, 20))
    options = {"activation": "sigmoid", "fit_intercept": False, "random_state": 0}
    model = ImplicitRegressorCV(2, n_alphas=4, criterion="bic", **options).fit(X, Y)
    assert model.support_[0]


def test_criteria_of_known_models():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(50)
    deviance = 50 * np.log(2 * np.pi * y.var()) + 50  # -2 log likelihood of the Gaussian
    args = (0.5 * y.var(), 3, 50.0, 1, 10, 2)
    constant = 50 * np.log(2 * np.pi) + 50
    values = {
        name: information_criterion(name, *args, quadratic=True) + constant
        for name in ("aic", "bic", "ebic")
    }
    assert values["aic"] == pytest.approx(deviance + 6)
    assert values["bic"] == pytest.approx(deviance + 3 * np.log(50))
    assert values["ebic"] == pytest.approx(values["bic"] + 2 * np.log(45))
    assert information_criterion("aic", 0.3, 1, 10.0, 1, 2, 1, quadratic=False) == 8.0


def test_scores_that_are_no_numbers():
    X = np.random.default_rng(0).standard_normal((12, 2))
    model = ImplicitRegressorCV(**(QUICK | {"cv": 2, "scoring": lambda model, X, y: np.nan}))
    with pytest.raises(ValueError, match="scoring must give a number for every fold"):
        model.fit(X, 3.0 * X[:, 0])
    scores = np.array([[1.0, np.nan], [1.0, 0.5], [np.nan, np.nan]])[:, :, None]
    for rule in ("min", "1se"):
        assert model.set_params(rule=rule)._chosen(scores, np.ones((3, 1)))[0] == 1


def test_rounding_is_no_target():
    """Inputs followed it at any strength: a path had 206 strengths, up to 1e66, and kept one."""
    X, _ = interaction(120)
    y = 0.3 + np.random.default_rng(0).choice([0.0, 5.6e-17], 120)
    path = implicit_path(X, y, estimator=ImplicitRegressor(5, random_state=0), n_alphas=6)
    assert len(path.alphas) == 1
    assert not path.supports.any()


@pytest.mark.filterwarnings("error")
def test_an_empty_choice_has_converged():
    X = np.random.default_rng(0).standard_normal((60, 3))
    model = ImplicitRegressorCV(**QUICK).fit(X, np.ones(60))
    assert not model.support_.any()


def test_only_what_the_last_fit_chose_by_is_kept(validated):
    model, X, y = validated
    again = clone(model).fit(X, y)
    again.set_params(criterion="bic").fit(X, y)
    assert not hasattr(again, "cv_scores_")
    again.set_params(criterion=None).fit(X, y)
    assert not hasattr(again, "criterion_values_")


@pytest.mark.parametrize("weights", [None, np.repeat([1.0, 0.0, 1.0], 10)])
def test_a_fold_of_one_class_is_named(weights):
    X, y = np.arange(60.0).reshape(30, 2), np.repeat([0, 1], [10, 20])
    model = ImplicitClassifierCV(2, cv=KFold(3))
    with pytest.raises(ValueError, match=r"fold 0, as it may .* use StratifiedKFold"):
        model.fit(X, y, weights)


@pytest.mark.parametrize(("zeros", "use"), [(slice(30), "score"), (slice(30, 90), "train on")])
def test_a_fold_without_weight_is_named(zeros, use):
    weights = np.ones(90)
    weights[zeros] = 0.0
    model = ImplicitRegressorCV(4, cv=KFold(3))
    with pytest.raises(ValueError, match=f"positive weight to {use} in fold 0"):
        model.fit(np.random.default_rng(0).standard_normal((90, 3)), np.arange(90.0), weights)


@pytest.mark.parametrize("scoring", ["f1_macro", "neg_log_loss"])
def test_rows_without_weight_are_not_scored(scoring):
    """Their class is not among those of the model: log losses failed, and means were too small."""
    X, y = interaction(90)
    labels = np.where(y > np.median(y), "high", "low").astype(object)
    weights = np.repeat([1.0, 1.0, 0.0], 30)
    labels[60:] = "none"
    options = QUICK | {"n_alphas": 3, "max_iter": 5, "scoring": scoring}
    folds = [(np.arange(90) % 2 == part, np.arange(90) % 2 != part) for part in range(2)]
    model = ImplicitClassifierCV(**options | {"cv": folds}).fit(X, labels, weights)
    less = [(train[:60], test[:60]) for train, test in folds]
    other = ImplicitClassifierCV(**options | {"cv": less}).fit(X[:60], labels[:60])
    assert_allclose(model.cv_scores_, other.cv_scores_, rtol=1e-6)


@pytest.mark.parametrize(
    "scoring", ["neg_max_error", make_scorer(max_error), lambda model, X, y: model.score(X, y)]
)
def test_scores_that_take_no_weights_are_refused_before_the_path(scoring, monkeypatch):
    X, y = interaction(30)
    monkeypatch.setattr("bcd_implicit.selection._path_estimator.fit_path", None)
    with pytest.raises(ValueError, match="scoring must take sample_weight"):
        ImplicitRegressorCV(3, cv=2, scoring=scoring).fit(X, y, np.ones(30))


@pytest.mark.parametrize("score", [{"r2": 0.5}, np.array([0.5, 0.2]), "0.5", None])
def test_scores_that_are_no_single_number_are_refused(score):
    X, y = interaction(30)
    options = QUICK | {"cv": 2, "n_alphas": 2, "path_iter": 1, "max_iter": 1}
    with pytest.raises(ValueError, match="scoring must return a number; got"):
        ImplicitRegressorCV(**options, scoring=lambda *_: score).fit(X, y)


def test_scores_that_ignore_weights_or_take_anything():
    X, y = interaction(30)
    options = QUICK | {"cv": 2, "n_alphas": 2, "path_iter": 1, "max_iter": 1}
    for scoring in (
        lambda model, X, y, sample_weight=None: model.score(X, y),
        lambda model, X, y, **weights: model.score(X, y, **weights),
    ):
        model = ImplicitRegressorCV(**options, scoring=scoring).fit(X, y, np.ones(30))
        assert np.isfinite(model.cv_scores_).all()
    assert _takes_weights(max)  # which has no signature


def test_a_fold_without_weight_may_be_scored_without_weights():
    X = np.random.default_rng(0).standard_normal((60, 3))
    scorer = make_scorer(r2_score)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer.set_score_request(sample_weight=False)
        model = ImplicitRegressorCV(2, cv=KFold(3), scoring=scorer, n_alphas=3, max_iter=5)
        model.set_fit_request(sample_weight=True)
        model.fit(X, X[:, 0], sample_weight=np.repeat([0.0, 1.0], [20, 40]))
    assert np.isfinite(model.cv_scores_).all()


def test_folds_are_cut_before_the_path(monkeypatch):
    X, y = interaction(30)
    monkeypatch.setattr("bcd_implicit.selection._path_estimator.fit_path", None)
    with pytest.raises(ValueError, match="n_splits=40"):
        ImplicitRegressorCV(cv=40).fit(X, y)
    half, none = np.arange(15), np.arange(0)
    for fold, use in (((none, half), "train on"), ((half, none), "score")):
        with pytest.raises(ValueError, match=f"cv leaves no sample to {use} in fold 1"):
            ImplicitRegressorCV(cv=[(half, half), fold]).fit(X, y)
    with pytest.raises(IndexError, match="index 30 is out of bounds"):
        ImplicitRegressorCV(cv=[(half, half + 16)]).fit(X, y)
    for scoring in (None, "r2"):
        with pytest.raises(ValueError, match="R2 is not defined for a single row"):
            ImplicitRegressorCV(cv=LeaveOneOut(), scoring=scoring).fit(X, y)
    with pytest.raises(ValueError, match="R2 is not defined for a single row"):
        ImplicitRegressorCV(cv=KFold(15)).fit(X, y, np.arange(30.0))  # of two rows one is scored


@pytest.mark.parametrize(
    ("scoring", "rare", "folds", "weight"),
    [
        ("neg_log_loss", "c", [1, 2], None),  # in the test rows of the first fold alone
        (get_scorer("roc_auc_ovr"), "c", [1, 2], None),
        ("neg_log_loss", "c", [0], None),  # no training rows
        ("roc_auc", "b", [1], None),  # not a number
        ("neg_log_loss", "c", [0], 0.0),
    ],
)
def test_scores_that_need_all_classes_are_refused_before_the_path(
    scoring, rare, folds, weight, monkeypatch
):
    X, _ = interaction(60)
    labels = np.where(X[:, 0] > 0.0, "a", "b") if rare == "c" else np.full(60, "a")
    few = [0, 1] if weight is None else [0, 1, 20]
    labels[few] = rare
    weights = None if weight is None else np.where(np.isin(np.arange(60), few[:2]), weight, 1.0)
    every = list(KFold(3).split(X))
    monkeypatch.setattr("bcd_implicit.selection._path_estimator.fit_path", None)
    with pytest.raises(ValueError, match=rf"rows of classes \['{rare}'\]") as error:
        ImplicitClassifierCV(cv=[every[k] for k in folds], scoring=scoring).fit(X, labels, weights)
    assert "[]" not in str(error.value)


@pytest.mark.parametrize(("n_classes", "reason"), [(2, "pos_label=1"), (3, "multiclass")])
def test_scores_that_cannot_read_the_labels_are_refused_before_the_path(
    n_classes, reason, monkeypatch
):
    X, _ = interaction(60)
    monkeypatch.setattr("bcd_implicit.selection._path_estimator.fit_path", None)
    with pytest.raises(ValueError, match=f"take another scoring: .*{reason}"):
        ImplicitClassifierCV(scoring="f1").fit(X, np.array(list("abc"))[np.arange(60) % n_classes])


def test_scores_by_decisions_are_taken():
    X, _ = interaction(60)
    by_decision = make_scorer(
        hinge_loss, greater_is_better=False, response_method="decision_function"
    )
    options = QUICK | {"scoring": by_decision, "cv": 2}
    model = ImplicitClassifierCV(**options).fit(X, np.where(X[:, 0] > 0.0, "a", "b"))
    assert model.support_[0]


def test_strong_alphas_do_not_spoil_the_models_of_weak_ones():
    """The random start began at a hundredth of the strongest, and found nothing to go on from."""
    X, y = interaction(200)
    model = ImplicitRegressor(6, random_state=0)
    path = implicit_path(X, y, estimator=model, alphas=[1e-3, 1e-2, 1e-1, 1e2, 1e4])
    assert path.supports[:3][:, [1, 4, 6]].all()
    assert path.scores[:3].min() > 0.8
    assert not path.supports[3:].any()


def test_an_interrupt_of_the_last_fit_keeps_what_was_chosen(monkeypatch):
    plain = Monitor.record

    def record(self, *where, **what):
        plain(self, *where, **what)
        if self.heard and where == ("exact", "ABD"):  # no other fit keeps its history
            raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "record", record)
    X, _ = interaction(100)
    options = {"alphas": [0.01, 0.02], "criterion": "bic", "random_state": 0}
    with pytest.warns(InterruptedFitWarning):
        model = ImplicitRegressorCV(4, **options).fit(X, np.abs(X[:, 1]))
    assert model.n_iter_ == len(model.history_) == 2
    assert model.support_[1]


@pytest.mark.parametrize("l2", [None, 0.5])
def test_refits_start_from_the_denser_one_that_they_are_a_part_of(
    l2, make_fitter, make_parameters, monkeypatch
):
    fitter, begun, plain = make_fitter(), [], WarmFitter.keep

    def keep(self, problem, start, inside, *steps):
        begun.append((problem, start))
        return plain(self, problem, start, inside, *steps)

    monkeypatch.setattr(WarmFitter, "keep", keep)
    parameters = make_parameters(fitter.problem, fitter.data)
    steps = []
    for alpha, columns in ((0.01, [0, 1, 2]), (0.05, [0, 1]), (0.2, [1, 3])):
        some = parameters.only(np.array(columns))
        steps.append(PathStep(alpha, 2 * alpha, np.array(columns), some, 0.0, 0.0, 0.0, None, 0))
    refits = refit_supports(fitter, steps, l2)
    assert len(begun) == 3
    alphas = np.array([0.01, 0.01, 0.02])  # a tenth, but no weaker than the first of the path
    assert_allclose([problem.alpha for problem, _ in begun], alphas)
    assert_allclose([problem.l2 for problem, _ in begun], 2 * alphas if l2 is None else 3 * [l2])
    before = [steps[0], refits[0], steps[2]]
    for step, one, (_, start) in zip(steps, before, begun, strict=True):
        assert_array_equal(start.B[:, step.columns], one.full(5).B[:, step.columns])


def test_the_refit_of_another_path_is_the_better_of_two(make_fitter, make_parameters, monkeypatch):
    fitter, plain, tried = make_fitter(), WarmFitter.keep, []
    parameters = make_parameters(fitter.problem, fitter.data).only(np.arange(3))
    step = PathStep(0.05, 0.05, np.arange(3), parameters, 0.0, 0.0, 0.0, None, 0)
    before = replace(step, alpha=0.01, parameters=replace(parameters, B=0.1 * parameters.B))

    def keep(self, problem, start, inside, *rest):
        fit = plain(self, problem, start, inside, *rest)
        tried.append((problem.alpha, fit.point.objective))
        return fit

    monkeypatch.setattr(WarmFitter, "keep", keep)
    for one, other in ((step, before), (before, replace(step, alpha=0.01))):
        tried.clear()
        refit = refit_other(fitter, one, other, 0.002, None)
        assert len(tried) == 2
        assert tried[0][1] != tried[1][1]
        assert refit.objective == min(objective for _, objective in tried)
        assert {alpha for alpha, _ in tried} == {max(0.1 * one.alpha, 0.002)}
