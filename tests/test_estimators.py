"""scikit-learn's conventions, and what the estimators promise beyond them."""

import pickle

import dask.array
import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from bcd_implicit import ImplicitClassifier, ImplicitRegressor, InterruptedFitWarning
from bcd_implicit.rows import canonical_rows
from tests.fits import assert_same_bits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# What a choice of the strength could break. All checks by default take six minutes, for each fits
# some dozen rows in a few seconds and many do so for every format, type or label.
OF_THE_CHOICE = {
    "check_class_weight_classifiers",
    "check_classifiers_one_label",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_no_attributes_set_in_init",
    "check_non_transformer_estimators_n_iter",
    "check_parameters_default_constructible",
    "check_regressors_train",
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}


@parametrize_with_checks(
    [ImplicitRegressor(alpha=0.05, max_iter=20), ImplicitClassifier(alpha=0.05, max_iter=20)]
)
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(estimator, check, id=f"{type(estimator).__name__}-{check.func.__name__}")
        for default in (ImplicitRegressor(), ImplicitClassifier())
        for estimator, check in estimator_checks_generator(default)
        if check.func.__name__ in OF_THE_CHOICE
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_conventions_by_default(estimator, check):
    check(estimator)


def nonlinear(m=400, p=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, p))
    return X, np.abs(X[:, 2]) + X[:, 5] + 0.05 * rng.standard_normal(m)


def quick(**changes):
    return ImplicitRegressor(4, random_state=0, **{"alpha": 0.02, **changes})


@pytest.fixture(scope="module")
def fitted():
    X, y = nonlinear()
    return ImplicitRegressor(4, random_state=0).fit(X, y), X, y


def test_attributes(fitted):
    model, X, y = fitted
    assert model.A_.shape == (4, 4)
    assert model.B_.shape == (4, 8)
    assert model.C_.shape == (1, 4)
    assert model.D_.shape == (1, 8)
    assert model.state_intercept_.shape == (4,)
    assert model.intercept_.shape == (1,)
    assert model.n_features_in_ == 8
    assert model.n_iter_ >= 1
    assert 0.0 < model.objective_ < 0.5
    assert model.contraction_factor_ <= 0.95
    assert model.alpha_ > 0.0
    assert model.l2_ > 0.0
    assert len(model.path_) > 5
    assert_array_equal(np.flatnonzero(model.support_), [2, 5])
    assert_array_equal(np.isinf(model.group_weights_), ~model.support_)
    assert {"stage", "phase", "block", "objective", "seconds"} <= set(model.history_[0])
    assert {record["stage"] for record in model.history_} == {"search", "final"}
    assert model.score(X, y) > 0.97


def test_predictions_are_those_of_the_equations(fitted):
    model, X, _ = fitted
    states = np.zeros((len(X), 4))
    for _ in range(2000):
        states = np.maximum(states @ model.A_.T + X @ model.B_.T + model.state_intercept_, 0.0)
    expected = states @ model.C_.T + X @ model.D_.T + model.intercept_
    assert_allclose(model.predict(X), expected[:, 0], atol=1e-8)


def test_importances_are_group_norms_in_standardised_units(fitted):
    model, X, y = fitted
    groups = np.vstack([model.B_, model.D_ / y.std()]) * X.std(axis=0)
    assert_allclose(model.feature_importances_, np.linalg.norm(groups, axis=0), rtol=1e-8)


@pytest.mark.parametrize("size", [1.0, 1e6, 1e200])
def test_unselected_inputs_do_not_change_one_bit(fitted, size):
    model, X, _ = fitted
    changed = np.where(model.support_, X, size * np.random.default_rng(1).standard_normal(X.shape))
    assert_array_equal(model.predict(changed), model.predict(X))


def test_same_seed_same_bits_whatever_the_threads():
    X, y = nonlinear(m=9000)
    models = [quick(n_jobs=jobs, max_iter=3).fit(X, y) for jobs in (1, 2, 1)]
    for other in models[1:]:
        assert_same_bits(models[0], other)


def test_multi_output():
    X, y = nonlinear()
    Y = np.column_stack([y, X[:, 5], np.abs(X[:, 2])])
    model = quick().fit(X, Y)
    assert model.predict(X).shape == (400, 3)
    assert model.score(X, Y) > 0.9
    assert quick().fit(X, y[:, None]).predict(X).shape == (400, 1)


@pytest.mark.parametrize("estimator", [quick(), quick(alpha="auto")], ids=["fixed", "auto"])
def test_weights_are_repetitions(estimator):
    X, y = nonlinear(m=60)
    weights = np.random.default_rng(0).integers(0, 4, 60)
    weighted = clone(estimator).fit(X, y, sample_weight=weights)
    repeated = clone(estimator).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_array_equal(weighted.predict(X), repeated.predict(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_classification(classes):
    X, y = nonlinear()
    labels = np.array(["a", "b", "c"])[np.digitize(y, np.quantile(y, [0.4, 0.7][: classes - 1]))]
    model = ImplicitClassifier(4, alpha=0.02, random_state=0).fit(X, labels)
    assert_array_equal(model.classes_, ["a", "b", "c"][:classes])
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (400, classes)
    assert_allclose(probabilities.sum(axis=1), 1.0)
    assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(X))
    assert model.decision_function(X).shape == ((400,) if classes == 2 else (400, 3))
    assert model.score(X, labels) > 0.9


def test_class_weight_multiplies_sample_weight():
    X, y = nonlinear(m=80)
    labels = y > np.quantile(y, 0.8)
    by_class = ImplicitClassifier(3, alpha=0.05, class_weight={True: 3.0, False: 1.0})
    by_sample = ImplicitClassifier(3, alpha=0.05)
    by_class.set_params(random_state=0).fit(X, labels)
    by_sample.set_params(random_state=0).fit(X, labels, sample_weight=np.where(labels, 3.0, 1.0))
    assert_array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    balanced = ImplicitClassifier(3, alpha=0.05, class_weight="balanced", random_state=0)
    probability = balanced.fit(X, labels).predict_proba(X)[:, 1]
    means = [probability[labels].mean(), probability[~labels].mean()]
    assert np.mean(means) == pytest.approx(0.5, abs=1e-3)  # what fitting the intercept implies


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_data_frames(frame):
    X, y = nonlinear(m=100)
    names = [f"input {j}" for j in range(8)]
    table = frame(dict(zip(names, X.T, strict=True)))
    model = quick().fit(table, y)
    assert_array_equal(model.feature_names_in_, names)
    assert_allclose(model.predict(table), quick().fit(X, y).predict(X), rtol=1e-10)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame(dict(zip(names[::-1], X.T, strict=True))))


def test_sparse_input_equals_dense():
    X, y = nonlinear(m=150)
    X[np.abs(X) < 0.5] = 0.0
    dense, thin = quick(max_iter=20).fit(X, y), quick(max_iter=20).fit(sparse.csr_array(X), y)
    assert_allclose(thin.predict(sparse.csr_array(X)), dense.predict(X), rtol=1e-6)


def test_the_unit_of_the_target_does_not_matter():
    """mg instead of g changed the rows kept back, and by them the inputs of 7 samples of 8."""
    X, y = nonlinear(m=80)
    model = ImplicitRegressor(5, max_iter=20, random_state=0)
    expected = model.fit(X, y).predict(X)
    assert_array_equal(model.fit(X, 1024.0 * y).predict(X), 1024.0 * expected)
    assert_allclose(model.fit(X, 1000.0 * y).predict(X), 1000.0 * expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_of_fewer_rows_than_folds_nothing_is_known(m):
    """Of two rows nine of ten inputs were kept."""
    X = np.random.default_rng(0).standard_normal((m, 10))
    model = ImplicitRegressor(random_state=0).fit(X, X[:, 0])
    assert not model.support_.any()
    assert_allclose(model.predict(X), X[:, 0].mean())
    if m > 1:
        classifier = ImplicitClassifier(random_state=0).fit(X, ["a", "b", "b"][:m])
        assert not classifier.support_.any()
        assert_allclose(classifier.predict_proba(X)[:, 0], 1 / m, atol=1e-6)


def test_float32_and_integers():
    X, y = nonlinear(m=100)
    assert quick().fit(X.astype(np.float32), y.astype(np.float32)).score(X, y) > 0.9
    single = X.astype(np.float32)
    for kind in (np.asarray, sparse.csr_array):  # folds are drawn in this order
        both = (kind(single), kind(single.astype(float)))
        assert_array_equal(*(canonical_rows(U, y[:, None], np.ones(100))[0] for U in both))
    counts = np.random.default_rng(0).integers(0, 9, (100, 4))
    assert quick().fit(counts, counts[:, 0] - counts[:, 1]).score(counts, counts[:, 0]) < 1.0


def test_warm_start_goes_on():
    X, y = nonlinear()
    model = quick(max_iter=5, n_init=2, warm_start=True).fit(X, y)
    first = model.objective_
    for _ in range(3):
        before = model.objective_
        model.fit(X, y)
        assert model.objective_ <= before * (1 + 1e-10)
    assert model.objective_ < first
    assert {record["phase"] for record in model.history_} == {"exact"}  # from there alone
    with pytest.raises(ValueError, match="n_states=5"):
        model.set_params(n_states=5).fit(X, y)


def test_a_warm_start_that_leads_nowhere_is_left():
    """Of inputs in another unit its objective stayed above that of a constant by far."""
    X, y = nonlinear(m=100)
    model = quick(max_iter=20, warm_start=True).fit(X, y)
    assert model.fit(1e10 * X, y).score(1e10 * X, y) > 0.5


@pytest.mark.parametrize(("strong", "linear"), [(2.0, 0.0), (2.0, 1.0), (0.3, 0.0)])
def test_a_warm_start_from_a_model_without_states_is_left(strong, linear):
    """From alpha=2 the objective of `abs(u)` stayed at 0.49 instead of 0.02, without a warning."""
    X, _ = nonlinear(m=300)
    y = linear * X[:, 1] + np.abs(X[:, 0])
    model = quick(alpha=strong, warm_start=True).fit(X, y)
    model.set_params(alpha=0.01).fit(X, y)
    assert model.objective_ <= quick(alpha=0.01).fit(X, y).objective_ * (1 + 1e-6)


def test_warm_start_with_other_classes_is_refused():
    X, y = nonlinear(m=100)
    labels = np.where(y > 0.0, "b", "c")
    model = ImplicitClassifier(2, alpha=0.05, max_iter=3, warm_start=True).fit(X, labels)
    before = model.model_
    with pytest.raises(ValueError, match="the classes of the last fit"):
        model.fit(X, np.where(y > 0.0, "b", "a"))
    assert model.classes_.tolist() == ["b", "c"]
    assert model.fit(X, labels).model_ is not before


def test_warm_start_after_automatic_keeps_its_choice(fitted):
    model, X, y = fitted
    again = pickle.loads(pickle.dumps(model)).set_params(warm_start=True)
    alpha, objective = again.alpha_, again.objective_
    again.fit(X, y)
    assert again.alpha_ == alpha
    assert again.objective_ <= objective * (1 + 1e-10)
    again.set_params(l2=0.5).fit(X, y)
    assert (again.alpha_, again.l2_) == (alpha, 0.5)


def test_tools_of_scikit_learn(tmp_path):
    X, y = nonlinear(m=150)
    selector = SelectFromModel(quick(alpha=0.5), threshold=1e-12)
    pipeline = make_pipeline(selector, LinearRegression()).fit(X, y)
    support = quick(alpha=0.5).fit(X, y).support_
    assert support[[2, 5]].all()
    assert not support.all()
    assert_array_equal(pipeline[0].get_support(), support)
    search = GridSearchCV(quick(max_iter=20), {"alpha": [0.01, 1.0]}, cv=2).fit(X, y)
    assert search.best_params_ == {"alpha": 0.01}
    model = search.best_estimator_
    joblib.dump(model, tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model")):
        assert_array_equal(copy.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "activation", ["relu", "leaky_relu", "tanh", "sigmoid", "identity", "clip", "soft_threshold"]
)
def test_every_activation(activation):
    X, y = nonlinear(m=200)
    regressor = quick(activation=activation, alpha=0.005).fit(X, y)
    assert regressor.score(X, y) > 0.5
    assert (np.abs(regressor.A_).sum(axis=1) <= 0.95).all()
    classifier = ImplicitClassifier(4, alpha=0.005, activation=activation, random_state=0)
    assert classifier.fit(X, X[:, 5] > 0).score(X, X[:, 5] > 0) > 0.9


def test_options():
    X, y = nonlinear(m=200)
    plain = quick(fit_intercept=False, standardize=False).fit(X, y)
    assert_array_equal(plain.intercept_, 0.0)
    assert_array_equal(plain.state_intercept_, 0.0)
    assert plain.predict(np.zeros((1, 8)))[0] == 0.0
    no_feedthrough = quick(fit_feedthrough=False).fit(X, y)
    assert_array_equal(no_feedthrough.D_, 0.0)
    starts = quick(n_init=3).fit(X, y)
    assert {record["start"] for record in starts.history_} == {0, 1, 2}
    fixed = quick(alpha="auto", l2=0.05).fit(X, y)
    assert fixed.l2_ == 0.05


@pytest.mark.parametrize("unit", [1e-6, 1e-2, 1e3])
@pytest.mark.parametrize("stored", [False, True])
def test_penalties_are_of_raw_inputs_that_are_not_standardised(unit, stored):
    """With deviations of 1e-6 every residual was small enough, and the first point was the last."""
    X, y = nonlinear(m=200)
    X = unit * X
    table = dask.array.from_array(X, chunks=(100, 8)) if stored else X
    model = quick(alpha=0.005 * unit, l2=0.01, standardize=False).fit(table, y)
    assert model.score(X, y) > 0.8
    A, B, C, D, q = model.A_, model.B_, model.C_ / y.std(), model.D_ / y.std(), model.predict(X)
    norms = np.linalg.norm(np.vstack([B, D]), axis=0)
    assert_allclose(model.feature_importances_, norms, rtol=1e-9)
    objective = np.mean((y - q) ** 2) / (2.0 * y.var()) + 0.005 * (C**2).sum()
    objective += model.alpha_ * norms.sum()
    assert model.alpha_ == 0.005 * unit
    assert model.objective_ == pytest.approx(objective, rel=1e-6)
    assert np.abs(A).sum(axis=1).max() <= 0.95


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_importances_neither_overflow_nor_vanish(unit):
    X, y = nonlinear(m=100)
    X = unit * X
    model = quick(alpha=0.005 * unit, l2=0.01, standardize=False, max_iter=5).fit(X, y)
    norms = np.linalg.norm(unit * np.vstack([model.B_, model.D_ / y.std()]), axis=0)
    assert norms.max() > 0.0
    assert_allclose(unit * model.feature_importances_, norms, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e3])
def test_strengths_are_chosen_for_inputs_of_any_unit(unit):
    """Of deviations of 1e-4 no input was found."""
    rng = np.random.default_rng(0)
    X = unit * rng.standard_normal((100, 4))
    y = X[:, 1] / unit + 0.1 * rng.standard_normal(100)
    model = ImplicitRegressor(3, standardize=False, random_state=0).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [1])
    assert model.score(X, y) > 0.9
    assert all(point.alpha < 10.0 * unit for point in model.path_)
    assert all(np.abs(point.parameters.D).max() < 10.0 / unit for point in model.path_)


@pytest.mark.parametrize("alpha", ["auto", 1e-4])
def test_one_large_input_that_is_not_standardised_does_not_hide_the_others(alpha):
    """In its unit all else was too small for starts and stops: R2 was 0."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((200, 4))
    X, y = Z * [5e4, 10.0, 0.1, 1.0], Z[:, 2] + 0.1 * rng.standard_normal(200)
    model = ImplicitRegressor(3, alpha=alpha, standardize=False, max_iter=50, random_state=0)
    assert model.fit(X, y).score(X, y) > 0.9


def test_a_larger_alpha_keeps_fewer_inputs():
    X, y = nonlinear(m=200)
    counts = [quick(alpha=alpha).fit(X, y).support_.sum() for alpha in (1e-4, 0.1, 50.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("effect", ["absolute", "product"])
def test_effects_without_a_linear_part_are_found(effect, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((800, 20))
    pair = np.abs(X[:, :2]).sum(axis=1) if effect == "absolute" else X[:, 0] * X[:, 1]
    y = pair + 0.1 * rng.standard_normal(800)
    model = ImplicitRegressor(10, random_state=seed).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [0, 1])
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_linear_data_lose_nothing(seed):
    rng = np.random.default_rng(seed)
    X, X_new = rng.standard_normal((2, 400, 10))
    slope = rng.standard_normal(10)
    y = X @ slope + 2.0 * rng.standard_normal(400)
    ours = ImplicitRegressor(random_state=seed).fit(X, y).score(X_new, X_new @ slope)
    ridge = RidgeCV().fit(X, y).score(X_new, X_new @ slope)
    assert ours > ridge - 0.05


@pytest.mark.parametrize("stage", ["search", "final"])
def test_an_interrupt_leaves_a_fitted_estimator(stage):
    X, y = nonlinear(m=100)
    seen = []

    def interrupt(record):
        if record["stage"] == stage:
            seen.append(record)
            if len(seen) == 12:
                raise KeyboardInterrupt

    model = ImplicitRegressor(3, random_state=0, tol=0.0, callback=interrupt)
    with pytest.warns(InterruptedFitWarning, match="interrupted") as caught:
        model.fit(X, y)
    assert len(caught) == 1
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize(("steps", "fell"), [(1, "too few to tell"), (40, r"fell by [\d.e-]+ of")])
def test_what_did_not_converge_is_said_once(steps, fell):
    X, y = nonlinear(m=100)
    message = rf"residual of .*{fell}.* tol=0.* Increase"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        quick(max_iter=steps, tol=0.0).fit(X, y)
    assert len(caught) == 1


def test_verbose_writes_lines(capsys):
    X, y = nonlinear(m=60)
    quick(verbose=1, max_iter=5).fit(X, y)
    some = capsys.readouterr().out
    quick(verbose=2, max_iter=5).fit(X, y)
    assert "objective" in some
    assert len(capsys.readouterr().out) > 5 * len(some)


@pytest.mark.parametrize(
    ("activation", "frequency", "noise", "seed"),
    [("relu", 2, 0.3, 0), ("relu", 2, 0.3, 5), ("tanh", 3, 0.0, 1)],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_waves_are_not_lost_at_the_start(activation, frequency, noise, seed):
    """Where the strength that fits begin with empties the model, no gradient leads out of it."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (200, 1))
    y = np.cos(frequency * np.pi * X[:, 0]) + noise * rng.standard_normal(200)
    model = ImplicitRegressor(
        10, alpha=1e-4, activation=activation, max_iter=40, random_state=seed
    ).fit(X, y)
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize("class_weight", ["balanced", {"a": 2.0}])
def test_weights_of_the_user_stay_as_they_are(class_weight):
    X = np.random.default_rng(0).standard_normal((40, 2))
    weights = np.ones(40)
    model = ImplicitClassifier(2, alpha=0.05, class_weight=class_weight, random_state=0)
    model.fit(X, np.where(X[:, 0] > 0.5, "a", "b"), weights)
    np.testing.assert_array_equal(weights, np.ones(40))


def test_balanced_classes_count_weights_as_repetitions():
    rng = np.random.default_rng(0)
    X, counts = rng.standard_normal((60, 2)), rng.integers(0, 3, 60)
    labels = np.where(X[:, 0] > 0.5, "a", "b")
    model = ImplicitClassifier(2, alpha=0.05, class_weight="balanced", random_state=0)
    weighted = clone(model).fit(X, labels, counts.astype(float))
    repeated = clone(model).fit(np.repeat(X, counts, axis=0), np.repeat(labels, counts))
    assert_same_bits(weighted, repeated)


def test_balanced_classes_may_have_huge_weights():
    X = np.random.default_rng(0).standard_normal((60, 2))
    model = ImplicitClassifier(2, alpha=0.05, class_weight="balanced", max_iter=3, random_state=0)
    plain, huge = (
        clone(model).fit(X, X[:, 0] > 0.5, np.full(60, weight)) for weight in (1.0, 2.0**1023)
    )
    assert_same_bits(plain, huge)


def test_class_weights_must_be_of_classes():
    """But where all classes have one, a class may be without rows, as in a fold."""
    X = np.random.default_rng(0).standard_normal((20, 2))
    labels = np.where(X[:, 0] > 0.5, "a", "b")
    model = ImplicitClassifier(2, alpha=0.05, class_weight={"A": 2.0, "b": 1.0})
    with pytest.raises(ValueError, match=r"class_weight must have classes as keys.*\['A'\]"):
        model.fit(X, labels)
    model.set_params(class_weight={"a": 2.0, "b": 1.0, "c": 3.0}).fit(X, labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.0])
def test_class_weights_must_be_positive(value):
    X = np.random.default_rng(0).standard_normal((20, 2))
    model = ImplicitClassifier(2, alpha=0.05, class_weight={True: value})
    with pytest.raises(ValueError, match="class_weight must hold positive numbers"):
        model.fit(X, X[:, 0] > 0.0)
