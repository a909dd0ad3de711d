"""Selectors: the number that was asked for, bounds, false discoveries, groups."""

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from dask import array as da
from dask import dataframe as dd
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits, make_friedman1
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.utils.parallel import delayed

from bcd_implicit import (
    ImplicitClassifier,
    ImplicitFeatureSelector,
    ImplicitRegressor,
    ImplicitRegressorCV,
    KnockoffSelector,
    StabilitySelection,
    implicit_path,
    unseen_inputs,
)
from bcd_implicit.even_effects import clear_level, even_effects
from bcd_implicit.forward import predict_block
from bcd_implicit.problem import Parameters
from bcd_implicit.selection import _answers, _unseen, _votes, elimination
from bcd_implicit.selection._judging import JudgedSupport, SupportJudge
from bcd_implicit.selection._meta import Sample
from bcd_implicit.selection._progress import collect, reporting
from bcd_implicit.selection._shrinking import left_groups
from bcd_implicit.selection.error_bounds import _tail, error_bounds
from bcd_implicit.selection.knockoffs import gaussian_knockoffs, knockoff_threshold
from bcd_implicit.selection.stability import _halves
from bcd_implicit.statistics import RowBlocks
from experiments.selection.problems import LINEAR, PROBLEMS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MODEL = ImplicitRegressor(6, random_state=0, max_iter=50)


def product(m=300, p=10, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, p))
    return X, X[:, 2] * X[:, min(7, p - 1)] + 0.1 * rng.standard_normal(m)


@pytest.fixture(scope="module")
def selected():
    X, y = product()
    frame = pd.DataFrame(X, columns=[f"u{j}" for j in range(10)])
    return ImplicitFeatureSelector(MODEL, n_features_to_select=2).fit(frame, y), frame, y


def test_a_selector_of_scikit_learn(selected):
    selector, X, y = selected
    assert selector.get_support(indices=True).tolist() == [2, 7]
    assert selector.get_feature_names_out().tolist() == ["u2", "u7"]
    assert_array_equal(selector.transform(X), X[["u2", "u7"]])
    assert selector.set_output(transform="pandas").transform(X).columns.tolist() == ["u2", "u7"]
    back = selector.inverse_transform(X[["u2", "u7"]])
    assert_array_equal(np.asarray(back)[:, 7], X["u7"])
    assert sorted(selector.ranking_) == [1, 1, *range(2, 10)]
    assert make_pipeline(selector, MODEL).fit(X, y).score(X, y) > 0.9


def test_the_refit_takes_back_the_shrinkage(selected):
    selector, X, y = selected
    inputs = X[["u2", "u7"]].to_numpy()
    shrunk = ImplicitRegressor(6, alpha=0.1, random_state=0).fit(inputs, y)
    assert selector.estimator_.alpha_ < 0.1
    assert selector.estimator_.score(inputs, y) > shrunk.score(inputs, y)


def test_the_refit_is_of_inputs_of_any_unit():
    """With deviations of 1e-6 it was empty: its strength was of raw units."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((100, 4))
    X, y = 1e-6 * Z, Z[:, 1] + 0.1 * rng.standard_normal(100)
    model = ImplicitRegressor(3, standardize=False, max_iter=20, random_state=0)
    selector = ImplicitFeatureSelector(model, n_features_to_select=1, refit_alpha=1e-3).fit(X, y)
    assert_array_equal(selector.get_support(indices=True), [1])
    assert selector.estimator_.score(X[:, [1]], y) > 0.9
    assert selector.estimator_.alpha_ == pytest.approx(1e-9, rel=0.5)


@pytest.mark.parametrize("classes", [False, True])
def test_the_refit_follows_no_noise(classes):
    """With few rows a refit at a weak strength is far worse than what the data suggest."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1100, 8))
    y = X[:, 0] + X[:, 1] + rng.standard_normal(1100)
    model = ImplicitRegressor(6, random_state=0)
    if classes:
        y, model = y > 0.0, ImplicitClassifier(6, random_state=0)
    selector = ImplicitFeatureSelector(model, n_features_to_select=4)
    error = []
    for alpha in ("auto", 1e-3):
        selector.set_params(refit_alpha=alpha).fit(X[:100], y[:100])
        fresh = selector.transform(X[100:])
        if classes:
            error.append(log_loss(y[100:], selector.estimator_.predict_proba(fresh)))
        else:
            error.append(1.0 - selector.estimator_.score(fresh, y[100:]))
    assert error[0] < 0.7 * error[1]


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("data", ["useless", "copies", "constant", "classes"])
def test_exactly_k_whatever_the_data(k, data):
    X, y = product(60, 6)
    model = ImplicitRegressor(3, random_state=0, max_iter=5)
    if data == "useless":
        y = np.random.default_rng(1).standard_normal(60)
    elif data == "copies":
        X[:, 1:4] = X[:, :1]
    elif data == "constant":
        X[:, :5], y = 1.0, np.ones(60)
    else:
        model = ImplicitClassifier(3, random_state=0, max_iter=5)
        y = np.digitize(X[:, 0], [-0.5, 0.5])
    selector = ImplicitFeatureSelector(model, n_features_to_select=k).fit(X, y)
    assert selector.support_.sum() == k
    assert selector.transform(X).shape == (60, k)
    assert_array_equal(selector.ranking_ == 1, selector.support_)


def test_a_group_is_selected_as_one():
    X, y = product(200, 8)
    groups = [0, 1, 2, 3, 3, 4, 5, 2]
    model = ImplicitRegressor(6, groups=groups, random_state=0, max_iter=20)
    selector = ImplicitFeatureSelector(model, n_features_to_select=1).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [2, 7]
    assert_array_equal(selector.estimator_.groups_, [0, 0])
    with pytest.raises(ValueError, match=r"n_features_to_select must be at most.*6; got 7"):
        ImplicitFeatureSelector(model, n_features_to_select=7).fit(X, y)


@pytest.mark.parametrize(("levels", "seed"), [(40, 2), (8, 0)])
def test_many_levels_of_noise_do_not_count_for_more(levels, seed):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(1000, 10))
    share = 1.0 / np.arange(1, levels + 1) ** 1.3
    noise = np.eye(levels)[rng.choice(levels, 1000, p=share / share.sum())]
    y = 0.35 * (u[:, 0] + u[:, 1]) + 0.25 * u[:, 2] * (u[:, 2] + u[:, 3])
    y += 0.8 * rng.normal(size=1000)
    model = ImplicitRegressor(groups=[*range(10), *levels * [10]], random_state=0)
    selector = ImplicitFeatureSelector(model, n_features_to_select=4, refit_alpha=1e-3)
    support = selector.fit(np.hstack([u, noise]), y).get_support()
    assert_array_equal(np.flatnonzero(support), range(4))


def test_more_inputs_than_are_of_use():
    """Those that say the same as others come before noise that happens to fit."""
    found = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        hidden, X = rng.standard_normal((200, 2)), rng.standard_normal((200, 50))
        X[:, :8] = hidden @ rng.standard_normal((2, 8)) + 0.1 * X[:, :8]
        y = hidden[:, 0] * hidden[:, 1] + 0.3 * rng.standard_normal(200)
        model = ImplicitRegressor(4, random_state=0, max_iter=20)
        selector = ImplicitFeatureSelector(model, n_features_to_select=20).fit(X, y)
        found += int(selector.support_[:8].sum())
    assert found == 32  # the support of least objective has 5 of the 8 of the first


def test_inputs_that_are_not_used_are_ranked_by_their_gradients(make_problem):
    zero, D = np.zeros((1, 1)), np.array([[0.0, 0.0, 0.0, 1.0, 0.0]])
    fit = Parameters(zero, np.zeros((1, 5)), np.zeros(1), zero, D, np.zeros(1))
    fitter = SimpleNamespace(
        problem=make_problem(),
        refit=lambda *_: fit,
        gradient_norms=lambda *_: np.array([1.0, 3.0, 0.0, 0.0, 2.0]),
    )
    assert_array_equal(left_groups(fitter, 5, 0.01)[1], [3, 1, 4, 0, 2])


def test_parts_do_not_vote_where_all_inputs_are_of_use(monkeypatch):
    def explained_shares(*arguments):
        raise AssertionError("parts have voted")

    asked = []

    def vote_of(fitter, *rest):
        asked.append(fitter)
        return _votes.vote_of(fitter, *rest)

    monkeypatch.setattr(elimination, "explained_shares", explained_shares)
    monkeypatch.setattr(_answers, "vote_of", vote_of)
    X, y = load_digits(return_X_y=True)
    model = ImplicitClassifier(4, random_state=0, max_iter=5)
    ImplicitFeatureSelector(model, n_features_to_select=20).fit(X[:400], y[:400])
    assert asked


def first_inputs_are_found(k, seed, X, y):
    model = ImplicitRegressor(10, random_state=seed)
    selector = ImplicitFeatureSelector(model, n_features_to_select=k).fit(X, y)
    return selector.support_[:k].all()


def test_the_linear_model_ranks_what_it_sees_as_well():
    """With states alone, two or three of five are found."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((100, 50))
    y = X[:, :5] @ [1.0, -1.0, 0.7, 0.7, 0.5] + 0.8 * rng.standard_normal(100)
    assert first_inputs_are_found(5, 1, X, y)


def test_the_linear_model_ranks_what_states_do_not_clearly_show():
    """Fewer than five are clearly of use; the next that states chose are noise."""
    drawn = LINEAR["five linear, as much noise"].draw(0, 100)
    model = ImplicitRegressor(10, random_state=0)
    selector = ImplicitFeatureSelector(model, n_features_to_select=5).fit(drawn.X, drawn.y)
    assert_array_equal(selector.support_, drawn.true)


@pytest.mark.parametrize(
    ("supports", "objectives", "sure"),
    [("ABB", [1.0, 2.0, 3.0], False), ("BAA", [3.0, 1.0, 2.0], True), ("AA", [1.0, 2.0], True)],
)
def test_dense_fits_agree_on_the_best_support_alone(
    supports, objectives, sure, monkeypatch, make_problem, make_data, fitter_to
):
    found = iter([*zip(supports, objectives, strict=True), *[("Z", 9.0)] * 9])

    def eliminate(*_):
        name, objective = next(found)
        groups = frozenset([ord(name)])
        return JudgedSupport(0.01, None, objective, groups, np.arange(4))

    monkeypatch.setattr(elimination, "_eliminate", eliminate)
    monkeypatch.setattr(elimination, "with_unseen", lambda *_: [(None, 0.01)])
    monkeypatch.setattr(elimination, "wavy", lambda *_: [])
    fitter = fitter_to(make_data(), make_problem(feedthrough=False))
    judge = SupportJudge(fitter, [])
    assert elimination._eliminations(fitter, judge, None, 1)[1] == sure


def test_dense_fits_do_not_agree_on_what_leaves_a_wave(
    monkeypatch, make_problem, make_data, fitter_to
):
    tried = []

    def eliminate(fitter, judge, k, strength, inside=None):
        tried.append(inside)
        return JudgedSupport(strength, None, 1.0 + len(tried), frozenset([0]), np.arange(4))

    monkeypatch.setattr(elimination, "_eliminate", eliminate)
    monkeypatch.setattr(elimination, "with_unseen", lambda *_: [("unseen", 1e-3)])
    fitter = fitter_to(make_data(), make_problem(feedthrough=False))
    for waves in ([], [3]):
        monkeypatch.setattr(elimination, "wavy", lambda *_, waves=waves: waves)
        tried.clear()
        elimination._eliminations(fitter, SupportJudge(fitter, []), None, 1)
        assert ("unseen" in [some for some in tried if isinstance(some, str)]) == (waves == [3])


@pytest.mark.parametrize("seed", [0, 3])
def test_a_category_of_noise_does_not_win_by_its_columns(seed):
    """By the objective on all rows eight levels of noise, as much noise in y, are among three."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((300, 12))
    levels = np.eye(8)[rng.integers(8, size=300)]
    y = Z[:, 0] ** 2 + (Z[:, 1] > 0) + 0.5 * Z[:, 2]
    y += y.std() * rng.standard_normal(300)
    model = ImplicitRegressor(10, groups=np.r_[np.arange(12), np.full(8, 12)], random_state=0)
    selector = ImplicitFeatureSelector(model, n_features_to_select=3, refit_alpha=1e-2)
    assert_array_equal(selector.fit(np.hstack([Z, levels]), y).support_, np.arange(20) < 3)


def test_supports_are_judged_by_rows_that_fits_have_not_seen(make_problem, fitter_to):
    """The objective prefers thirty columns of noise, and so does a judge without folds."""
    rng = np.random.default_rng(0)
    U = rng.standard_normal((120, 31))
    Y = 0.3 * U[:, :1] + rng.standard_normal((120, 1))
    units = np.zeros(31), np.ones(31)

    def rows(some):
        return RowBlocks(U[some], Y[some], np.full(len(some), 1.0 / len(some)), *units)

    problem = make_problem(n_inputs=31, groups=np.r_[0, np.ones(30, dtype=int)])
    fitter = fitter_to(rows(np.arange(120)), problem, max_iter=30)
    everything = np.arange(120)
    folds = [(rows(everything[everything % 3 != k]), rows(everything[k::3])) for k in range(3)]
    found = []
    for group in (0, 1):
        inside = (np.arange(31) < 1) == (group == 0)
        start = fitter.dense(problem, inside).point.parameters
        order = np.array([group, 1 - group])
        found.append(SupportJudge(fitter, []).judged(1, 0.01, start, order))
    assert found[0].objective > found[1].objective
    assert SupportJudge(fitter, []).best(found) is found[1]
    judge = SupportJudge(fitter, folds)
    assert judge.best(found) is found[0]
    assert judge.loss(found[0]) < judge.loss(found[1])


def test_dense_fits_to_noise_do_not_outvote_the_linear_model():
    """Half of the target is noise: eliminations from the same inputs agreed on wrong ones."""
    drawn = LINEAR["five linear, as much noise"].draw(3, 1000)
    model = ImplicitRegressor(10, random_state=3)
    selector = ImplicitFeatureSelector(model, n_features_to_select=5).fit(drawn.X, drawn.y)
    assert_array_equal(selector.get_support(), drawn.true)


def test_states_rank_where_the_linear_model_explains_nothing():
    """On other rows it is better even so: both are worse than a constant."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((100, 50))
    y = np.abs(X[:, :5]).sum(axis=1) + 0.1 * rng.standard_normal(100)
    assert first_inputs_are_found(5, 2, X, y)


def test_states_rank_what_the_linear_model_does_not_see():
    """It is better on other rows, by the two inputs that it sees; the others are a product."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 50))
    y = X[:, 0] + X[:, 1] + X[:, 2] * X[:, 3]
    y += 0.5 * y.std() * rng.standard_normal(200)
    assert first_inputs_are_found(4, 1, X, y)


def test_no_linear_model_ranks_without_a_linear_part(monkeypatch):
    def trial(*arguments):
        raise AssertionError("the linear model was tried")

    monkeypatch.setattr(_answers, "HeldOutElimination", trial)
    monkeypatch.setattr(elimination, "_plain", trial)
    X, y = linear()
    model = ImplicitRegressor(4, fit_feedthrough=False, random_state=0, max_iter=10)
    selector = ImplicitFeatureSelector(model, n_features_to_select=3).fit(X, y)
    assert selector.support_.sum() == 3
    with pytest.raises(AssertionError, match="was tried"):
        ImplicitFeatureSelector(
            clone(model).set_params(fit_feedthrough=True), n_features_to_select=3
        ).fit(X, y)


def test_automatic():
    X, y = product()
    selector = ImplicitFeatureSelector(MODEL).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [2, 7]
    one, other = selector.estimator_, clone(MODEL).fit(X, y)
    assert (one.alpha_, one.l2_) == (other.alpha_, other.l2_)  # not chosen anew


def test_automatic_can_be_resumed(tmp_path):
    X, y = product(60, 4)
    model = ImplicitRegressor(2, checkpoint=tmp_path / "fit.npz", resume=True, random_state=0)
    first, again = (ImplicitFeatureSelector(model).fit(X, y) for _ in range(2))
    assert_array_equal(first.support_, again.support_)
    assert first.support_.any()


@pytest.mark.parametrize("size", [1.0, 1e6, 1e300])
def test_unselected_inputs_are_irrelevant(size):
    X, y = product(100, 5)
    selector = ImplicitFeatureSelector(MODEL, n_features_to_select=2).fit(X, y)
    model = ImplicitRegressor(4, random_state=0).fit(X, y)
    noise = size * np.random.default_rng(1).uniform(-1.0, 1.0, X.shape)
    before = selector.estimator_.predict(selector.transform(X))
    changed = np.where(selector.support_, X, noise)
    assert_array_equal(selector.estimator_.predict(selector.transform(changed)), before)
    changed = np.where(model.support_, X, noise)
    assert not model.support_.all()
    assert_array_equal(model.predict(changed), model.predict(X))


def linear(m=60, p=8):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((m, p))
    return X, X[:, :3].sum(axis=1) + rng.standard_normal(m)


@pytest.mark.parametrize("sample", [product, linear])
@pytest.mark.parametrize("k", [2, 5, "auto"])
def test_weights_are_repetitions(k, sample):
    X, y = sample(90, 8)
    weights = np.random.default_rng(0).integers(0, 4, 90)
    rows = np.repeat(np.arange(90), weights)
    selector = ImplicitFeatureSelector(MODEL, n_features_to_select=k)
    one = selector.fit(X, y, sample_weight=weights)
    prediction, ranking = one.estimator_.predict(one.transform(X)), one.ranking_
    two = selector.fit(X[rows], y[rows])
    assert_array_equal(two.ranking_, ranking)
    assert_allclose(two.estimator_.predict(two.transform(X)), prediction, rtol=1e-6)


def test_bad_estimators():
    X, y = product(30)
    inside = "got Pipeline: make the selection a step of the pipeline"
    for estimator, message in ((make_pipeline(MODEL), inside), (3, "'estimator' parameter")):
        with pytest.raises(ValueError, match=message):
            ImplicitFeatureSelector(estimator).fit(X, y)


# stability selection


@pytest.mark.parametrize(
    "selector",
    [
        ImplicitFeatureSelector(MODEL, n_features_to_select=2),
        StabilitySelection(MODEL, n_pairs=2, n_features_per_half=2, random_state=0),
        KnockoffSelector(MODEL, n_fits=2, random_state=0),
    ],
)
def test_an_interrupt_ends_a_selection(selector):
    X, y = product(60, 5)
    left = [30]

    def callback(_):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    selector = clone(selector).set_params(estimator__callback=callback)
    with pytest.raises(KeyboardInterrupt):
        selector.fit(X, y)
    assert left[0] == 0
    assert not hasattr(selector, "support_")


def test_names_of_dask_frames_are_checked():
    X, y = product(60, 4)
    table = pd.DataFrame(X, columns=list("abcd"))
    frame = dd.from_pandas(table, npartitions=2)
    selector = ImplicitFeatureSelector(MODEL, n_features_to_select=2).fit(table, y)
    names = selector.get_feature_names_out().tolist()
    assert list(selector.transform(frame).columns) == names
    with pytest.raises(ValueError, match="same order"):
        selector.transform(frame[["d", "c", "b", "a"]])


def test_stability_selection_is_reproducible():
    X, y = product(200, 12)
    options = {"n_pairs": 2, "random_state": 0, "n_features_per_half": 3}
    one = StabilitySelection(MODEL, **options).fit(X, y)
    two = StabilitySelection(MODEL, **options, n_jobs=2).fit(X, y)
    assert_array_equal(one.selection_probabilities_, two.selection_probabilities_)
    assert one.get_support(indices=True).tolist() == [2, 7]
    assert one.selection_probabilities_.sum() == pytest.approx(3.0)
    assert one.error_bounds_ == error_bounds(3, 12, 0.75, 2)


def test_the_number_a_half_follows_from_the_bound():
    selector = StabilitySelection(MODEL, false_selections=0.5)
    count = selector._count(100)
    assert error_bounds(count, 100, 0.75, 25)["r_concave"] <= 0.5
    assert error_bounds(count + 1, 100, 0.75, 25)["r_concave"] > 0.5
    assert StabilitySelection(MODEL, false_selections=1e-9)._count(100) == 1


def test_an_input_is_selected_from_the_threshold_on():
    X, _ = product(60, 3)
    selector = StabilitySelection(
        ImplicitRegressor(2), threshold=1.0, n_pairs=1, n_features_per_half=1, random_state=0
    ).fit(X, X[:, 1])
    assert_array_equal(selector.selection_probabilities_, [0.0, 1.0, 0.0])
    assert_array_equal(selector.support_, [False, True, False])


def test_every_class_is_in_both_halves():
    X, _ = product(80, 5)
    labels = np.repeat(["a", "b", "c"], [38, 38, 4])
    model = ImplicitClassifier(3, random_state=0)
    selector = StabilitySelection(model, n_pairs=2, n_features_per_half=1, random_state=0)
    assert selector.fit(X, labels).selection_probabilities_.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", [(38, 39, 2), (2, 38, 39), (99, 2, 2), (3, 3, 3)])
def test_no_class_is_missing_from_a_half(sizes):
    X, _ = product(sum(sizes), 5)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    data = ImplicitClassifier(3)._encode(X, labels, None)
    sample = Sample(ImplicitClassifier(3), data, labels, None, np.arange(5))
    halves = _halves(sample, np.random.default_rng(0))
    assert len(np.union1d(*halves)) == 2 * (sum(sizes) // 2)
    for half in halves:
        assert len(half) == sum(sizes) // 2
        counts = np.bincount(labels[half], minlength=len(sizes))
        assert (counts >= np.array(sizes) // 2 - 1).all()
        assert (counts > 0).all()


def test_a_half_with_one_target_selects_nothing():
    X, _ = product(40, 5)
    y = np.zeros(40)
    selector = StabilitySelection(MODEL, n_pairs=2, n_features_per_half=2, random_state=0)
    assert_array_equal(selector.fit(X, y).selection_probabilities_, np.zeros(5))


@pytest.mark.parametrize("feedthrough", [False, True])
def test_constants_are_never_selected(feedthrough):
    X = np.ones((60, 5))
    X[:, 3:] = np.random.default_rng(0).standard_normal((60, 2))
    model = ImplicitRegressor(2, fit_feedthrough=feedthrough)
    selector = StabilitySelection(model, n_pairs=2, n_features_per_half=4, random_state=0)
    probabilities = selector.fit(X, X[:, 3] + X[:, 4]).selection_probabilities_
    np.testing.assert_array_equal(probabilities, [0.0, 0.0, 0.0, 1.0, 1.0])


def test_no_bound_is_below_what_chance_selects():
    """Where no r-concave distribution is short enough to tell, the bound is all inputs."""
    assert _tail(0.5, 19, 20, -0.25) > 0.0
    assert error_bounds(5, 10, 0.9, 2)["r_concave"] == 10.0
    for threshold in (0.75, 0.9, 0.95, 1.0):
        for pairs in (2, 5, 25):
            counts = range(1, 10)
            bounds = [error_bounds(k, 10, threshold, pairs)["r_concave"] for k in counts]
            assert (np.diff(bounds) >= -1e-9).all()


def test_bounds_between_the_thresholds_of_the_papers():
    above = error_bounds(10, 100, 0.78, 50)["unimodal"]
    assert above == pytest.approx(100 * 4 * (1 - 0.78 + 0.01) / 1.02 * 0.1**2)
    # 55 of 100 fits reach both, though 0.55 times 100 is rounded up
    exact, rounded = (error_bounds(5, 100, t, 50)["r_concave"] for t in (0.545, 0.55))
    assert rounded == exact


@pytest.mark.parametrize(("selected", "threshold"), [(10, 0.9), (20, 0.7), (2, 0.6)])
def test_the_r_concave_bound_is_the_better_of_two(selected, threshold):
    """Of the halves that agree in pairs, and of all of them."""
    least, theta = round(100 * threshold), selected / 100
    pairs, halves = _tail(theta**2, least - 50, 50, -0.5), _tail(theta, least, 100, -0.25)
    found = error_bounds(selected, 100, threshold, 50)["r_concave"]
    assert found == pytest.approx(100 * min(pairs, halves))


@pytest.mark.parametrize(
    ("selected", "threshold"),
    [(58, 0.9), (50, 0.69), (50, 0.505), (100, 0.51)],
    ids=["too many", "too low for so many", "too low for the pairs", "all"],
)
def test_no_bound_is_claimed_where_its_theorem_says_nothing(selected, threshold):
    bounds = error_bounds(selected, 100, threshold, 50)
    assert bounds["unimodal"] == 100.0
    assert max(bounds.values()) <= 100.0


def test_bounds_of_the_papers():
    bounds = error_bounds(10, 100, 0.9, 50)
    assert bounds["meinshausen_buehlmann"] == pytest.approx(10**2 / (100 * 0.8))
    theta = 0.1
    unimodal = 4 * (1 - 0.9 + 1 / 100) / (1 + 1 / 50) * theta**2 * 100
    assert bounds["unimodal"] == pytest.approx(unimodal)
    low = error_bounds(10, 100, 0.7, 50)
    assert low["unimodal"] == pytest.approx(100 * theta**2 / (2 * (2 * 0.7 - 1 - 1 / 100)))
    assert bounds["r_concave"] < bounds["unimodal"] < bounds["meinshausen_buehlmann"]
    assert error_bounds(90, 100, 0.6, 2)["unimodal"] == 100.0
    # of few among very many, as theta^2 for each feature
    few = [error_bounds(1, p, 0.75, 25)["r_concave"] * p for p in (10**5, 10**9, 10**15)]
    assert_allclose(few, few[0], rtol=1e-3)  # was zero where it is below the rounding of one


@pytest.mark.parametrize(
    "numbers", [(0, 10, 0.75, 5), (20, 10, 0.75, 5), (3, 10, 0.5, 5), (3, 10, 1.2, 5)]
)
def test_bounds_of_no_selection_are_refused(numbers):
    """The unimodal bound was negative for a threshold above one."""
    with pytest.raises(ValueError, match="n_selected must be from 1 to n_features, threshold"):
        error_bounds(*numbers)


@pytest.mark.parametrize("r", [-0.5, -0.25])
def test_no_r_concave_distribution_exceeds_the_bound(r):
    rng = np.random.default_rng(0)
    n, worst = 20, 0.0
    for _ in range(500):
        # masses whose r-th power is convex: r-concave; the mean is what it is
        slope = np.sort(rng.exponential(size=n)) * rng.choice([1.0, 5.0, 50.0])
        masses = (1e-3 + rng.exponential() + np.cumsum(np.append(0.0, slope))) ** (1.0 / r)
        stop = rng.integers(2, n + 2)
        masses[stop:] = 0.0
        masses /= masses.sum()
        mean, least = float(masses @ np.arange(n + 1)) / n, int(rng.integers(8, n))
        bound = _tail(mean, least, n, r)
        assert masses[least:].sum() <= bound * (1 + 1e-6)
        worst = max(worst, masses[least:].sum() / bound)
    assert worst > 0.5  # the bound is not far


# knockoffs


def test_knockoffs_have_the_covariance_of_the_inputs():
    rng = np.random.default_rng(0)
    L = np.linalg.cholesky(0.6 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    X = rng.standard_normal((40_000, 4)) @ L.T * [1.0, 10.0, 1.0, 0.1] + 5.0
    X = np.column_stack([X, np.full(len(X), 3.0)])
    copies = gaussian_knockoffs(X, rng)
    assert_array_equal(copies[:, 4], 3.0)
    both = np.cov(X[:, :4].T, copies[:, :4].T) / np.outer(*2 * [np.tile(X[:, :4].std(axis=0), 2)])
    assert_allclose(both[4:, 4:], both[:4, :4], atol=0.03)
    off = ~np.eye(4, dtype=bool)
    assert_allclose(both[:4, 4:][off], both[:4, :4][off], atol=0.03)
    free, given_others = 1.0 - np.diag(both[:4, 4:]), 1.0 / np.diag(np.linalg.inv(both[:4, :4]))
    assert (free > 0.3).all()
    assert_allclose(free / free.max(), given_others / given_others.max(), atol=0.03)


@pytest.mark.parametrize("unit", [2.0**-600, 2.0**600])
def test_knockoffs_have_the_units_of_the_inputs(unit):
    X = np.random.default_rng(0).standard_normal((40, 3))
    plain = gaussian_knockoffs(X, np.random.default_rng(1))
    assert_array_equal(gaussian_knockoffs(unit * X, np.random.default_rng(1)), unit * plain)


def test_constants_are_their_own_knockoffs():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.full(50, 0.1), rng.standard_normal(50)])
    np.testing.assert_array_equal(gaussian_knockoffs(X, rng)[:, 0], X[:, 0])
    np.testing.assert_array_equal(gaussian_knockoffs(X[:, :1], rng), X[:, :1])


def test_threshold_of_knockoffs():
    W = np.array([9.0, 8.0, 7.0, 6.0, -5.0, 4.0, 0.0])
    assert knockoff_threshold(W, 0.25) == 6.0
    assert knockoff_threshold(W, 0.4) == 4.0
    assert knockoff_threshold(-W, 0.5) == np.inf
    ties = np.append(np.arange(1.0, 10.0), 0.0)
    assert knockoff_threshold(ties, 0.25) == 1.0  # zero does not beat its knockoff


def test_false_discoveries_are_rare():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 30))
    y = X[:, :8].sum(axis=1) + np.abs(X[:, 8:12]).sum(axis=1) + 0.5 * rng.standard_normal(500)
    options = {"fdr": 0.2, "n_fits": 2, "random_state": 0}
    one = KnockoffSelector(MODEL, **options).fit(X, y)
    assert one.support_[:12].sum() >= 10
    assert one.support_[12:].sum() <= 3
    assert_array_equal(one.support_, one.statistics_ >= one.threshold_)
    two = KnockoffSelector(MODEL, **options, n_jobs=2).fit(X, y)
    assert_array_equal(one.statistics_, two.statistics_)


def test_nothing_to_discover():
    X, _ = product(100, 8)
    y = np.random.default_rng(1).standard_normal(100)
    selector = KnockoffSelector(MODEL, n_fits=1, random_state=0).fit(X, y)
    assert selector.threshold_ == np.inf
    assert not selector.support_.any()


# progress


class Recorder:
    """Counts what scikit-learn's callbacks tell."""

    def __init__(self):
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context, **rest):
        self.events.append(context.task_name)

    def on_fit_task_end(self, estimator, context, **rest):
        self.events.append("end")

    def teardown(self, estimator, context):
        self.events.append("teardown")


def needs_callbacks():
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from 1.9 on")


def selectors():
    quick = ImplicitRegressor(2, max_iter=2, random_state=0)
    return [
        StabilitySelection(quick, n_pairs=1, n_features_per_half=1, random_state=0),
        KnockoffSelector(quick, n_fits=2, random_state=0),
        ImplicitRegressorCV(2, n_alphas=2, path_iter=1, max_iter=2, cv=2, random_state=0),
    ]


@pytest.mark.parametrize("selector", selectors())
def test_callbacks_hear_of_every_fit(selector):
    needs_callbacks()
    X, y = product(60, 4)
    recorder = Recorder()
    selector.set_callbacks(recorder).fit(X, y)
    assert recorder.events == ["setup", "fit", *2 * ["fit", "end"], "end", "teardown"]


@pytest.mark.parametrize("selector", selectors())
def test_callbacks_end_when_a_fit_fails(selector, monkeypatch):
    needs_callbacks()

    def fail(*arguments, **options):
        raise RuntimeError("no luck")

    for place in ("stability._selected", "knockoffs._ranked_groups", "_folds._one_fold"):
        monkeypatch.setattr(f"bcd_implicit.selection.{place}", fail)
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="no luck"):
        selector.set_callbacks(recorder).fit(*product(60, 4))
    assert recorder.events == ["setup", "fit", "teardown"]


@pytest.mark.parametrize("selector", selectors())
def test_verbose_writes_lines(selector, capfd):
    selector.set_params(verbose=1).fit(*product(60, 4))
    assert "Done   2 out of   2" in "".join(capfd.readouterr())


# effects that no gradient shows


@pytest.mark.usefixtures("small_blocks")
def test_even_effects_are_those_of_absolute_values(make_problem, make_data, make_parameters):
    weights = np.full(40, 1 / 40)
    problem, data = make_problem(), make_data(weights=weights)
    parameters = make_parameters(problem, data)
    blocks = data.blocks
    F = np.concatenate([predict_block(problem, parameters, block)[0] for block in blocks])
    Y = np.concatenate([data.targets(block)[0] for block in blocks])
    size = np.abs(np.concatenate([data.inputs(block) for block in blocks]))
    expected = np.linalg.norm((F - Y).T @ (size - size.mean(axis=0)), axis=0) / size.std(axis=0)
    expected /= np.linalg.norm(F - Y)
    assert_allclose(even_effects(data, problem, parameters), expected, rtol=1e-9)
    grouped = replace(problem, groups=np.array([0, 0, 1, 2, 2]))
    pair = np.hypot(*expected[:2]) / np.sqrt(2)
    assert_allclose(even_effects(data, grouped, parameters)[:2], pair, rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))  # the sign of the rounding varies
def test_an_input_of_two_balanced_values_has_no_even_effect(seed, make_problem, make_parameters):
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((40, 5))
    U[:, 0] = rng.permutation(np.repeat([-0.1, 0.7], 20))
    weights, scale = rng.dirichlet(np.ones(40)), np.array([0.4, 1.0, 1.0, 1.0, 1.0])
    centre = np.array([0.3, 0.0, 0.0, 0.0, 0.0])
    data, problem = (
        RowBlocks(U, rng.standard_normal((40, 2)), weights, centre, scale),
        make_problem(),
    )
    pull = even_effects(data, problem, make_parameters(problem, data))
    assert pull[0] == 0.0
    assert pull[1:].min() > 0.0


def test_an_even_effect_is_found_among_many_inputs():
    X, y = make_friedman1(600, 300, noise=0.5, random_state=0)
    selector = ImplicitFeatureSelector(
        ImplicitRegressor(10, random_state=0), n_features_to_select=5
    ).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["interactions", "binned_effects"])
def test_what_is_clear_is_tried_without_noise(how, monkeypatch, make_problem, make_data, fitter_to):
    """With the best inputs for company, which may be noise, a fit can end in a poor minimum."""
    problem, data = make_problem(n_inputs=12), make_data(p=12)
    clear = np.isin(np.arange(12), [3, 5, 8])
    level = 1.0 if how == "interactions" else clear_level(12)
    nothing = dict.fromkeys(["even_effects", "interactions", "binned_effects"], np.zeros(12))
    for name, values in (nothing | {how: level * np.where(clear, 1.1, 0.9)}).items():
        monkeypatch.setattr(_unseen, name, lambda *_, values=values: values.copy())
    fitter = fitter_to(data, problem)
    best = JudgedSupport(0.03, None, 1.0, frozenset(), np.arange(12))
    sets = _unseen.with_unseen(fitter, problem, best, 3)
    tries = [0.01, 0.03] if how == "interactions" else [1e-3, 1e-3]
    assert [strength for _, strength in sets] == [0.01, 0.03, *np.repeat(tries, 2)]
    for with_best, alone in zip(sets[2::2], sets[3::2], strict=True):
        assert_array_equal(np.flatnonzero(with_best[0]), [0, 1, 2, 3, 5, 8])
        assert_array_equal(alone[0], clear)
    too_few = _unseen.with_unseen(fitter, problem, best, 4)
    assert not any(np.array_equal(some, clear) for some, _ in too_few)


@pytest.mark.parametrize("how", ["interactions", "binned_effects"])
def test_few_of_many_clear_inputs_are_tried(how, monkeypatch, make_problem, make_data, fitter_to):
    """Ten more than k, or twice as many, the clearest."""
    problem, data = make_problem(n_inputs=40), make_data(p=40)
    for name in ("even_effects", "interactions", "binned_effects"):
        values = np.linspace(20.0, 10.0, 40) if name == how else np.zeros(40)
        monkeypatch.setattr(_unseen, name, lambda *_, values=values: values.copy())
    best = JudgedSupport(0.03, None, 1.0, frozenset(), np.arange(40)[::-1])
    sets = _unseen.with_unseen(fitter_to(data, problem), problem, best, 3)
    assert_array_equal(np.flatnonzero(sets[2][0]), [*range(10), 37, 38, 39])
    assert_array_equal(np.flatnonzero(sets[3][0]), np.arange(13))


def test_the_refit_keeps_a_given_penalty_of_C():
    X, y = product(100, 4)
    model = clone(MODEL).set_params(l2=0.1)
    selector = ImplicitFeatureSelector(model, n_features_to_select=2)
    assert selector.fit(X, y).estimator_.l2_ == 0.1
    assert selector.set_params(refit_alpha=0.01).fit(X, y).estimator_.l2_ == 0.01


@pytest.mark.parametrize("others", ["linear", "absolute"])
def test_waves_are_selected(others):
    """Dense fits find the linear inputs and one of noise; a forest sees what is left."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((1000, 50))
    rest = X[:, 1] if others == "linear" else np.abs(X[:, 1])
    y = np.sin(4.0 * X[:, 0]) + rest + X[:, 2] + 0.1 * rng.standard_normal(1000)
    model = ImplicitRegressor(10, random_state=0)
    selector = ImplicitFeatureSelector(model, n_features_to_select=3, refit_alpha=1e-3).fit(X, y)
    assert selector.get_support(indices=True).tolist() == [0, 1, 2]


def test_waves_of_a_linear_model_come_after_its_inputs(
    monkeypatch, make_problem, make_data, fitter_to
):
    fitter = fitter_to(make_data(p=12), make_problem(n_inputs=12))
    for module, name in ((unseen_inputs, "even_effects"), (_unseen, "interactions")):
        monkeypatch.setattr(module, name, lambda *_: np.zeros(12))
    waves = clear_level(12) * np.linspace(0.0, 1.21, 12)
    monkeypatch.setattr(unseen_inputs, "binned_effects", lambda *_: waves)
    order = np.arange(12)[::-1]
    assert_array_equal(_unseen.not_linear(fitter, None, order), [11, 10, 9, 8])


def test_even_effects_are_found_when_fits_do_not_agree():
    drawn = PROBLEMS["|u|"].draw(7)  # of five true inputs dense fits keep 2, 0 and 0
    selector = ImplicitFeatureSelector(
        ImplicitRegressor(10, random_state=7), n_features_to_select=5
    ).fit(drawn.X, drawn.y)
    assert_array_equal(selector.get_support(), drawn.true)


@pytest.mark.parametrize("callbacks", [[], [Recorder()]])
def test_fits_are_made_when_their_turn_comes(callbacks):
    if callbacks:
        needs_callbacks()
    made = []

    def fits():
        for index in range(5):
            made.append(index)
            yield delayed(lambda: len(made))()

    owner = StabilitySelection(MODEL)
    if callbacks:
        owner.set_callbacks(*callbacks)
    assert reporting(lambda self: collect(self, fits(), 5, 1, None, None))(owner) == [1, 2, 3, 4, 5]


def test_fits_to_dask_collections_stay_in_this_process():
    """Another one would not know the client of the cluster that holds the rows."""
    X = da.zeros((4, 2))
    fits = (delayed(os.getpid)() for _ in range(2))
    owner = StabilitySelection(ImplicitRegressor(2))
    assert collect(owner, fits, 2, 2, X, None) == [os.getpid(), os.getpid()]


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_inputs_that_are_read_part_by_part(how, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 5))
    y = np.abs(X[:, 1]) + X[:, 4] + 0.1 * rng.standard_normal(200)
    stored = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape)
    stored[:] = X
    if how == "dask":
        stored = da.from_array(X, chunks=(60, 3))
    model = ImplicitRegressor(3, random_state=0, max_iter=20)
    for selector in (
        ImplicitFeatureSelector(model, n_features_to_select=2),
        ImplicitFeatureSelector(model),
        StabilitySelection(model, n_pairs=2, n_features_per_half=2, random_state=0),
    ):
        expected = clone(selector).fit(X, y)
        found = clone(selector).fit(stored, pd.Series(y, rng.permutation(200)))
        np.testing.assert_array_equal(found.support_, expected.support_)
        np.testing.assert_array_equal(found.transform(stored), expected.transform(X))
    assert found.transform(stored).shape == (200, found.support_.sum())
    if how == "dask":
        assert isinstance(found.transform(stored), da.Array)
        with pytest.raises(ValueError, match="X must be in memory"):
            KnockoffSelector(model).fit(stored, y)
    else:
        knockoffs = KnockoffSelector(model, n_fits=1, random_state=0)
        expected = clone(knockoffs).fit(X, y).statistics_
        np.testing.assert_array_equal(knockoffs.fit(stored, y).statistics_, expected)
    path = implicit_path(stored, y, estimator=model, n_alphas=4)
    np.testing.assert_allclose(
        path.objectives, implicit_path(X, y, estimator=model, n_alphas=4).objectives, rtol=1e-5
    )
    chosen = ImplicitRegressorCV(3, n_alphas=4, cv=2, random_state=0, max_iter=20)
    np.testing.assert_array_equal(
        clone(chosen).fit(stored, y).support_, clone(chosen).fit(X, y).support_
    )


def test_halves_select_linear_effects_in_noise():
    """By states alone, halves do not agree on these."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 40))
    y = X[:, :4].sum(axis=1) + 2.0 * rng.standard_normal(400)
    selector = StabilitySelection(
        ImplicitRegressor(10, random_state=0), n_pairs=4, n_features_per_half=6, random_state=0
    ).fit(X, y)
    assert selector.selection_probabilities_[:4].min() >= 0.75
    assert selector.selection_probabilities_[4:].max() < 0.75
