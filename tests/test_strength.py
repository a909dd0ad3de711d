"""The automatic choice of inputs and strengths."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import RidgeCV
from sklearn.metrics import log_loss

import bcd_implicit.state_search as module
from bcd_implicit import (
    ImplicitClassifier,
    ImplicitRegressor,
    InterruptedFitWarning,
    candidate_fits,
    fitting,
)
from bcd_implicit.linear import NO_STATES
from bcd_implicit.monitor import Monitor
from bcd_implicit.strength import _better
from experiments.teacher import draw

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fit(X, y, **options):
    return ImplicitRegressor(4, random_state=0, **options).fit(X, y)


def test_the_path_goes_from_dense_to_empty_and_the_best_is_on_it():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 10))
    model = fit(X, np.abs(X[:, 0]) + np.abs(X[:, 1]) + 0.2 * rng.standard_normal(300))
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
    assert min(losses) < 0.2 * max(losses)


def test_states_are_not_used_for_linear_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 10))
    model = fit(X, X[:, 3] - X[:, 4] + rng.standard_normal(300))
    assert model.l2_ >= NO_STATES / 100
    assert np.abs(model.C_).max() < 1e-3
    assert_array_equal(np.flatnonzero(model.support_), [3, 4])
    assert any(point.l2 < NO_STATES / 100 for point in model.path_)  # what was tried is shown


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


def test_a_given_l2_keeps_states_for_linear_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    model = fit(X, X[:, 1] + rng.standard_normal(60), l2=0.02)
    assert {model.l2_, *(point.l2 for point in model.path_)} == {0.02}


@pytest.mark.parametrize("seed", [6, 10])
def test_even_effects_that_no_dense_fit_finds(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((400, 50))
    y = np.abs(X[:, :3]).sum(axis=1) + 0.1 * rng.standard_normal(400)
    model = ImplicitRegressor(6, random_state=seed).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [0, 1, 2])


def test_a_fold_on_which_nothing_was_found_is_not_chosen():
    rival = np.array([0.5, 0.4, 0.6, 0.5, 0.4])  # of five rows, in folds of three and two
    states = [rival[:3] + 0.001, np.array([0.1, 0.1])]
    assert _better(states, rival, np.full(5, 0.2)) == [1]
    weights = np.array([0.1, 0.1, 0.1, 0.7, 0.0])
    assert _better([rival[:3] - 0.1, np.array([0.6, 0.0])], rival, weights) == [0]


@pytest.mark.parametrize("seed", [14, 29])
def test_a_wave_is_found_by_another_start(seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (240, 5))
    y = np.cos(2 * np.pi * X[:, 0]) + 0.15 * rng.standard_normal(240)
    model = ImplicitRegressor(random_state=0).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [0])


def quadrants(seed):
    """Whether two of twelve inputs have the same sign, with 5 % of random labels."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4200, 12))
    y = X[:, 0] * X[:, 1] > 0.0
    wrong = rng.random(4200) < 0.05
    y[wrong] = rng.integers(0, 2, wrong.sum())
    return X, y


@pytest.mark.parametrize("seed", [0, 11])
def test_classes_that_no_start_with_all_inputs_tells_apart(seed):
    """One elimination goes on from the best of them: three of four quadrants were found before."""
    X, y = quadrants(seed)
    model = ImplicitClassifier(random_state=0).fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > 0.9


def test_all_folds_have_to_confirm_a_strength():
    """One of 50 rows liked a strength by which log losses of other rows were 0.35."""
    X, y = quadrants(1)
    model = ImplicitClassifier(random_state=0).fit(X[:200], y[:200])
    assert log_loss(y[200:], model.predict_proba(X[200:])) < 0.3


@pytest.mark.parametrize("seed", [0, 1])
def test_a_clear_effect_beside_a_large_one_is_kept(seed):
    """Of one input, t is about 70."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((300, 10))
    y = 10.0 * X[:, 0] + 0.4 * X[:, 1] + 0.4 * X[:, 2] + 0.1 * rng.standard_normal(300)
    model = ImplicitRegressor(random_state=0).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [0, 1, 2])


@pytest.mark.parametrize(
    ("m", "p", "true", "noise"), [(70, 20, 20, 1.0), (50, 5, 5, 1.0), (100, 30, 4, 0.5)]
)
def test_not_worse_than_a_linear_model_by_more_than_noise(m, p, true, noise):
    """On few linear rows, where a single split of them would choose anything."""
    excess = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, w = rng.standard_normal((m + 1000, p)), np.zeros(p)
        w[:true] = rng.standard_normal(true)
        y = X @ w / np.linalg.norm(w) + noise * rng.standard_normal(m + 1000)
        model = fit(X[:m], y[:m])
        ridge = RidgeCV(np.logspace(-3, 4, 15)).fit(X[:m], y[:m])
        excess.append(model.score(X[m:], y[m:]) - ridge.score(X[m:], y[m:]))
    # R2 itself varies by 0.07 to 0.1 between samples of this size
    assert np.mean(excess) > -0.05
    assert np.min(excess) > -0.15


def test_one_fold_decides_where_states_are_clearly_better():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 6))
    model = fit(X, np.abs(X[:, 0]))
    starts = [r for r in model.history_ if r["stage"] == "search" and r["block"] == "C"]
    searches = [r for r in starts if r["phase"] == "lifted"]
    assert len(searches) == 3 * module._STARTS


@pytest.mark.parametrize("seed", [1, 4])
def test_states_that_are_far_better_need_not_be_certain(seed):
    """A few large products gain most and make most of the error: 2.7 and 2.8 errors decided not."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((100, 5))
    y = X[:, 0] * X[:, 1]
    fitted = ImplicitRegressor(random_state=0).fit(X, y + 0.5 * rng.standard_normal(100))
    assert fitted.support_.tolist() == [True, True, False, False, False]
    assert fitted.score(X, y) > 0.7


def test_few_rows_get_a_linear_model():
    X = np.random.default_rng(0).standard_normal((12, 2))
    model = fit(X, 3 * X[:, 0] + 1)
    assert model.l2_ == NO_STATES
    assert all(point.l2 == NO_STATES for point in model.path_)
    assert model.score(X, 3 * X[:, 0] + 1) > 0.99
    three = fit(X[:3], 3 * X[:3, 0] + 1)
    assert three.l2_ == NO_STATES
    assert three.path_ == []
    without = fit(X, 3 * X[:, 0] + 1, fit_feedthrough=False)
    assert without.l2_ < NO_STATES


@pytest.mark.parametrize("seed", [52, 55])
def test_a_few_wrong_labels_leave_probabilities_that_are_not_certain(seed):
    """The quarter of the rows that strengths are refined on may hold none: losses were 0.37."""
    rng = np.random.default_rng(seed)

    def draw(m):
        X = rng.standard_normal((m, 5))
        return X, ((np.abs(X[:, 0]) > 0.7) ^ (rng.random(m) < 0.01)).astype(int)

    fitted = ImplicitClassifier(random_state=2).fit(*draw(250))
    X, y = draw(5000)
    assert log_loss(y, fitted.predict_proba(X)) < 0.22


def test_linear_classes_need_no_states():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6))
    logits = 3 * X[:, 1] - 2 * X[:, 4]
    y = (logits + rng.logistic(size=400) > 0).astype(int)
    model = ImplicitClassifier(4, random_state=0).fit(X, y)
    assert model.l2_ == NO_STATES
    assert {1, 4} <= set(np.flatnonzero(model.support_))
    assert model.score(X, y) > 0.8


def test_an_interrupt_before_there_is_a_model_comes_through(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(candidate_fits, "validation_losses", interrupted)
    X = np.random.default_rng(0).standard_normal((40, 2))
    model = ImplicitRegressor(2, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, X[:, 0])
    assert not hasattr(model, "model_")


def test_inputs_that_a_settled_fit_hardly_uses_are_dropped():
    """The elimination keeps two inputs too many, which settle at a twentieth of the least other."""
    sample = draw(82, noise=0.0)
    model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0).fit(sample.U, sample.Y)
    assert_array_equal(model.support_, sample.support)


def test_the_inputs_are_those_of_what_settles_best(monkeypatch, make_problem, make_data):
    """Not those that were chosen before: the last fit would use them again."""
    rng, data = np.random.default_rng(0), make_data()
    search = module.StateSearch(data, data, data, make_problem(), rng, Monitor(), False)
    search.eliminate()

    def size(point):
        return point.n_groups

    monkeypatch.setattr(candidate_fits, "smallest_good", lambda points, *_: points[0])
    monkeypatch.setattr(module, "smallest_good", lambda points, *_: min(points, key=size))
    search._settle()
    allowed = np.isfinite(search.chosen_weights)
    assert size(search.best) <= allowed.sum() < size(search.path[0])
    assert allowed[search.best.support].all()


def tracked(monkeypatch):
    """Collect the losses of all candidates of the searches."""
    plain, losses = module.StateSearch.fit, []

    def fit(self, *arguments):
        point = plain(self, *arguments)
        losses.append(point.loss)
        return point

    monkeypatch.setattr(module.StateSearch, "fit", fit)
    return losses


@pytest.mark.parametrize("fits", [2, 3, 6])
def test_an_interrupted_search_has_its_best_candidate(fits, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 6))
    y = np.abs(X[:, 1]) + X[:, 4] + 0.3 * rng.standard_normal(200)
    losses = tracked(monkeypatch)
    chosen = []
    plain = fitting.choose_strength

    def spy(*arguments, **options):
        chosen.append(plain(*arguments, **options))
        return chosen[0]

    monkeypatch.setattr(fitting, "choose_strength", spy)

    def callback(_):
        if len(losses) == fits:
            raise KeyboardInterrupt

    with pytest.warns(InterruptedFitWarning):
        ImplicitRegressor(4, random_state=0, callback=callback).fit(X, y)
    assert chosen[0].interrupted
    assert chosen[0].best.loss <= min(losses) * (1 + 1e-12)


def test_an_interrupt_of_the_refinement_keeps_the_search_that_is_refined(monkeypatch):
    refined = []

    def refine(self, pool):
        refined.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(module.StateSearch, "refine", refine)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 4))
    y = np.abs(X[:, 1]) + X[:, 2] + 0.3 * rng.standard_normal(60)
    with pytest.warns(InterruptedFitWarning):
        model = ImplicitRegressor(4, random_state=0).fit(X, y)
    assert model.alpha_ == refined[0].best.alpha
    assert [point.loss for point in model.path_] == [point.loss for point in refined[0].path]
    steps = [r for r in model.history_ if r["stage"] == "final" and r["block"] == "ABD"]
    assert steps == []  # one interrupt is enough


@pytest.mark.parametrize("n_init", [1, 2])
def test_several_starts_are_also_tried_with_what_was_chosen(n_init):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    model = fit(X, np.abs(X[:, 1]), n_init=n_init, max_iter=5)
    final = [r for r in model.history_ if r["stage"] == "final" and r["phase"] == "lifted"]
    assert {r["start"] for r in final} == ({0, 1} if n_init > 1 else set())
