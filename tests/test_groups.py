"""Groups of inputs enter and leave as one, from the labels to the last column."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bcd_implicit import ImplicitClassifier, ImplicitRegressor, input_groups
from bcd_implicit import working_set as working_set_module
from bcd_implicit.group_sizes import largest_groups, noise_of_column, norms_and_columns
from bcd_implicit.groups import group_codes
from bcd_implicit.problem import Parameters, group_norms
from bcd_implicit.training import train
from bcd_implicit.working_set import working_set

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "colour": rng.choice(["red", "green", "blue"], 30),
            "size": rng.normal(size=30),
            "shape": rng.choice(["round", "square", "long"], 30),
            "age": rng.normal(size=30),
        }
    )


@pytest.mark.parametrize(
    "labels",
    [
        [1.0, np.nan, np.nan, 1.0],
        np.array([1.0, np.nan, 2.0, 1.0]),
        ["a", None, None, "a"],
        pd.array(["a", None, "b", "a"], dtype="string"),
    ],
)
def test_missing_labels_are_refused(labels):
    """Of a list one NaN is the same label twice; of an array each is another."""
    with pytest.raises(ValueError, match="none missing"):
        group_codes(labels, 4)


def test_labels_of_transformers(table):
    encoder = OneHotEncoder(drop="first").fit(table[["colour", "shape"]])
    assert input_groups(encoder).tolist() == ["colour"] * 2 + ["shape"] * 2
    assert encoder.feature_name_combiner == "concat"
    nested = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["size"]),
            ("none", OneHotEncoder(), []),
            (
                "categories",
                make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
                ["colour", "shape"],
            ),
        ],
        remainder="passthrough",
    ).fit(table)
    labels = ["numbers__size", *["categories__colour"] * 3, *["categories__shape"] * 3]
    assert input_groups(nested).tolist() == [*labels, "remainder__age"]
    for around in (FrozenEstimator(nested), make_pipeline(nested)):
        assert input_groups(around).tolist() == input_groups(nested).tolist()
    scaled = make_pipeline(OneHotEncoder(sparse_output=False), StandardScaler())
    assert input_groups(scaled.fit(table[["colour"]])).tolist() == ["colour"] * 3


def test_bad_groups(table):
    with pytest.raises(NotFittedError):
        input_groups(OneHotEncoder())
    with pytest.raises(ValueError, match=r"groups must hold one label for each of the 3.*got 2"):
        group_codes([0, 1], 3)
    for bad in ([[0], [1]], {"a": 0, "b": 0}, {0, 1}):
        with pytest.raises(ValueError, match="groups must hold one label"):
            group_codes(bad, 2)
    X = np.random.default_rng(0).normal(size=(30, 4))
    with pytest.raises(ValueError, match="groups must hold one label for each of the 4"):
        ImplicitRegressor(groups=[1, 2]).fit(X, X[:, 0])


def test_groups_of_a_problem_must_be_sorted(make_problem):
    for groups in ([1, 0, 0, 0, 0], [0, 0]):
        with pytest.raises(ValueError, match="groups must hold 5 labels"):
            make_problem(groups=np.array(groups))


def test_penalty_counts_each_group_once(make_problem):
    problem = make_problem(groups=np.array([0, 0, 1, 2, 2]), alpha=2.0, l2=0.0)
    B, D = np.random.default_rng(0).normal(size=(2, 4, 5))
    model = Parameters(np.zeros((4, 4)), B, np.zeros(4), np.zeros((4, 4)), D, np.zeros(4))
    parts = [np.linalg.norm(np.vstack([B, D])[:, part]) for part in ([0, 1], [2], [3, 4])]
    assert problem.penalty(model) == pytest.approx(2.0 * sum(parts))
    assert_allclose(group_norms(B, D, problem.groups), np.repeat(parts, [2, 1, 2]))
    order = np.argsort(parts)[::-1]
    for kept in range(4):
        inside = largest_groups(problem, model, kept)
        assert_array_equal(inside, np.isin(problem.groups, order[:kept]))


def test_columns_of_noise_do_not_make_a_group_large(make_problem):
    """Four columns of noise have a larger norm than one that matters a little."""
    problem = make_problem(n_inputs=8, groups=np.repeat([0, 1, 2, 3, 4], [4, 1, 1, 1, 1]))
    B = np.array([[0.5, 0.5, 0.5, 0.5, 0.8, 0.0, 0.4, 0.5]])
    zero = np.zeros((1, 1))
    model = Parameters(zero, B, np.zeros(1), zero, np.zeros((1, 8)), np.zeros(1))
    norms, columns = norms_and_columns(problem, model)
    assert_allclose(norms, [1.0, 0.8, 0.0, 0.4, 0.5])
    assert_array_equal(columns, [4, 1, 1, 1, 1])
    noise = noise_of_column(norms[norms > 0], columns[norms > 0])
    assert noise == pytest.approx(0.16 + 0.75 * 0.09)
    assert_array_equal(largest_groups(problem, model, 1), np.arange(8) < 4)
    assert_array_equal(largest_groups(problem, model, 1, noise), np.arange(8) == 4)
    assert_array_equal(largest_groups(problem, model, 4, noise), np.arange(8) != 5)


def test_the_working_set_holds_whole_groups(make_problem, monkeypatch):
    monkeypatch.setattr(working_set_module, "_MOST_COLUMNS", 3)
    problem = make_problem(groups=np.array([0, 0, 1, 2, 2]), alpha=1.0)
    gradient = np.array([[3.0, 0.0, 2.5, 1.5, 1.5]])  # violations 2, 1.5 and 1.1
    assert working_set(problem, np.zeros((1, 5)), gradient, 1000).tolist() == [0, 1, 2]
    monkeypatch.setattr(working_set_module, "_MOST_COLUMNS", 1)
    assert working_set(problem, np.zeros((1, 5)), gradient, 1000).tolist() == [0, 1]


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_training_ends_at_the_optimality_conditions(make_problem, make_data, loss):
    groups = np.array([0, 0, 1, 2, 2])
    problem = make_problem("tanh", loss, alpha=0.05, groups=groups)
    data = make_data(loss, m=80)
    fit = train(data, problem, max_iter=3000, tol=1e-10, rng=np.random.default_rng(0))
    gradient, columns = fit.point.gradient[:, 4:-1], fit.point.parameters.groups
    assert fit.point.parameters.active.any()
    for label in range(3):
        part = groups == label
        norm = np.linalg.norm(columns[:, part])
        if norm == 0.0:
            assert np.linalg.norm(gradient[:, part]) <= 0.05 + 1e-4
        else:
            assert_allclose(gradient[:, part], -0.05 * columns[:, part] / norm, atol=2e-4)


def categorical(m=600, seed=0):
    rng = np.random.default_rng(seed)
    useful, useless = rng.integers(0, 4, m), rng.integers(0, 3, m)
    X = np.column_stack([np.eye(3)[useless], rng.normal(size=(m, 4)), np.eye(4)[useful]])
    y = np.array([0.0, 1.0, -1.0, 2.0])[useful] * X[:, 3] + np.abs(X[:, 4])
    return X, y + 0.05 * rng.normal(size=m), np.array([0] * 3 + [1, 2, 3, 4] + [5] * 4)


@pytest.mark.parametrize("alpha", ["auto", 0.05])
def test_a_categorical_variable_enters_or_leaves_as_one(alpha):
    X, y, labels = categorical()
    model = ImplicitRegressor(10, alpha=alpha, groups=labels, random_state=0).fit(X, y)
    for label in range(6):
        part = labels == label
        assert len(set(model.support_[part])) == 1
        assert len(set(model.feature_importances_[part])) == 1
        assert model.model_.active_inputs[part].all() == model.support_[part].all()
    norms = np.linalg.norm(np.vstack([model.B_, model.D_ / y.std()]) * X.std(axis=0), axis=0)
    assert_allclose(model.feature_importances_[-1], np.linalg.norm(norms[-4:]), rtol=1e-8)
    if alpha == "auto":
        assert_array_equal(np.flatnonzero(model.support_), [3, 4, 7, 8, 9, 10])
        assert {point.n_groups for point in model.path_} >= {0, 1, 2, 3, 4}


def test_a_constant_input_belongs_to_the_support_of_its_group():
    X = np.random.default_rng(0).standard_normal((100, 3))
    X[:, 1] = 2.0
    model = ImplicitRegressor(2, alpha=0.1, groups=[0, 0, 1], max_iter=20, random_state=0)
    model.fit(X, X[:, 0])
    assert_array_equal(model.model_.active_inputs, [True, False, False])
    assert_array_equal(model.support_, [True, True, False])


def test_groups_need_not_stand_side_by_side():
    X, y, labels = categorical()
    shuffled = np.random.default_rng(2).permutation(len(labels))
    X, labels = X[:, shuffled], labels[shuffled]
    model = ImplicitRegressor(10, groups=labels, random_state=0).fit(X, y)
    assert_array_equal(model.support_, np.isin(labels, [1, 2, 5]))
    assert_array_equal(np.isinf(model.group_weights_), ~model.support_)
    assert_array_equal(model.path_[-1].support | model.support_, model.support_)
    assert model.score(X, y) > 0.98
    before = model.objective_
    assert model.set_params(warm_start=True).fit(X, y).objective_ <= before * (1 + 1e-10)


def test_a_warm_start_with_other_groups_takes_whole_ones():
    X, y, labels = categorical()
    model = ImplicitRegressor(10, groups=labels, random_state=0, max_iter=5).fit(X, y)
    first = np.unique(labels, return_index=True)[1]
    others = np.where(np.isin(np.arange(len(labels)), first), 0, labels)  # of all groups, one each
    before = np.isfinite(model.group_weights_)
    weights = model.set_params(warm_start=True, groups=others).fit(X, y).group_weights_
    for label in np.unique(others):
        inside = others == label
        expected = np.sqrt(inside.sum()) if before[inside].any() else np.inf
        assert_array_equal(weights[inside], expected)


def test_groups_of_one_are_no_groups():
    X, y, _ = categorical()
    plain = ImplicitRegressor(4, alpha=0.02, random_state=0, max_iter=20).fit(X, y)
    alone = clone(plain).set_params(groups=list("abcdefghijk")).fit(X, y)
    assert_array_equal(alone.B_, plain.B_)


def test_straight_from_the_encoder():
    X, y, _ = categorical(200)
    frame = pd.DataFrame(X[:, 3:7]).assign(kind=X[:, 7:].argmax(axis=1))
    frame.columns = frame.columns.astype(str)
    columns = ColumnTransformer([("kind", OneHotEncoder(), ["kind"])], remainder="passthrough")
    made = columns.fit_transform(frame)
    model = ImplicitClassifier(4, alpha=0.03, groups=FrozenEstimator(columns), random_state=0)
    model = clone(model).fit(made, y > 1)
    assert model.groups_.tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert len(set(model.support_[:4])) == 1


def test_labels_in_a_series():
    assert_array_equal(group_codes(pd.Series(["b", "a", "b"]), 3), [0, 1, 0])
