"""Bad input: a clear error or a sensible answer, and an estimator that stays as it was."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import OneHotEncoder

from bcd_implicit import ImplicitClassifier, ImplicitRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
Y = np.abs(X[:, 0])


def quick(**changes):
    return ImplicitRegressor(**{"n_states": 3, "alpha": 0.02, "random_state": 0, **changes})


def spoiled(array, value):
    copy = array.astype(float).copy()
    copy.flat[3] = value
    return copy


def refuses(estimator, message, *data, error=ValueError, **options):
    """Fitting raises, and neither a fresh nor a fitted estimator is changed by it."""
    before = estimator.__dict__.copy()
    with pytest.raises(error, match=message):
        estimator.fit(*data, **options)
    assert estimator.__dict__.keys() == before.keys()
    assert all(estimator.__dict__[name] is before[name] for name in before)


@pytest.fixture(params=["fresh", "fitted"])
def state(request):
    def prepare(estimator, data=(X, Y)):
        if request.param == "fresh":
            return estimator
        parameters = estimator.get_params()
        safe = {"n_states": 3, "alpha": 0.05, "kappa": 0.9, "l2": "auto", "n_init": 1}
        safe |= {"activation": "relu", "tol": 1e-4, "max_iter": 20, "callback": None, "verbose": 0}
        return estimator.set_params(**safe).fit(*data).set_params(**parameters)

    return prepare


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((spoiled(X, np.nan), Y), "Input X contains NaN"),
        ((spoiled(X, np.inf), Y), "Input X contains infinity"),
        ((X, spoiled(Y, np.nan)), "Input y contains NaN"),
        ((X, spoiled(Y, -np.inf)), "Input y contains infinity"),
        ((X[:50], Y), "inconsistent numbers of samples: .*50, 60"),
        ((X[:, 0], Y), "Expected 2D array, got 1D"),
        ((X[None], Y), "dim 3"),
        ((X[:0], Y[:0]), "0 sample"),
        ((X[:, :0], Y), "0 feature"),
        ((np.full((60, 2), "a"), Y), "could not convert string"),
        ((X + 1j, Y), "Complex data not supported"),
        ((X, sparse.csr_array(np.stack([Y, Y], axis=1))), "y must be a dense array; got a sparse"),
        (([[1.0, 2.0], [3.0]], [1.0, 2.0]), "inhomogeneous|sequence"),
    ],
)
def test_data_out_of_range(state, data, message):
    refuses(state(quick()), message, *data)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(60), "must not be zero everywhere|at least one non-zero"),
        (-np.ones(60), "Negative values in data passed to `sample_weight`"),
        (np.ones(59), "sample_weight.shape == .59"),
        (spoiled(np.ones(60), np.nan), "sample_weight contains NaN"),
        (np.nan, "sample_weight must be finite"),
    ],
)
def test_weights_out_of_range(state, weights, message):
    refuses(state(quick()), message, X, Y, sample_weight=weights)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kappa", (0.0, 1.0, -0.5, np.nan, "a")),
        ("alpha", (-1.0, np.nan, "automatic")),
        ("l2", (-1e-9, "none")),
        ("n_states", (0, -1, 2.5)),
        ("activation", (3,)),
        ("max_iter", (-1, 1.5)),
        ("tol", (-1.0,)),
        ("n_init", (0,)),
        ("callback", (1,)),
    ],
)
def test_parameters_out_of_range(state, name, values):
    for value in values:
        refuses(state(quick(**{name: value})), f"'{name}' parameter .* Got", X, Y)


def test_an_unknown_activation(state):
    refuses(state(quick(activation="gelu")), "activation.*relu.*gelu", X, Y)


def test_one_class(state):
    labels = X[:, 0] > 0
    estimator = state(ImplicitClassifier(3, alpha=0.05), (X, labels))
    refuses(estimator, "at least two classes.*1 class: 1.0$", X, np.ones(60))
    refuses(estimator, "at least two classes", X, labels, sample_weight=labels.astype(float))
    refuses(estimator, "Unknown label type", X, Y)


def test_what_a_callback_raises_comes_through(state):
    def fail(record):
        raise OSError("callback")

    for alpha in (0.02, "auto"):
        refuses(state(quick(alpha=alpha, callback=fail)), "callback", X, Y, error=OSError)


def test_a_stream_that_raises_comes_through(state, monkeypatch):
    class Broken:
        def write(self, text):
            raise BrokenPipeError("stream")

        def flush(self):
            pass

    estimator = state(quick(verbose=1))
    monkeypatch.setattr(sys, "stdout", Broken())
    refuses(estimator, "stream", X, Y, error=BrokenPipeError)


def test_predicting_before_fitting_and_with_another_width():
    with pytest.raises(NotFittedError):
        quick().predict(X)
    model = quick().fit(X, Y)
    with pytest.raises(ValueError, match=r"X has 3 features.* expecting 4"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(spoiled(X, np.nan))


@pytest.mark.parametrize("alpha", [0.02, "auto"])
def test_a_constant_target_is_predicted(alpha):
    for value in (0.0, 3.5, -1e150):
        model = quick(alpha=alpha).fit(X, np.full(60, value))
        assert_allclose(model.predict(X), value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.02, "auto"])
@pytest.mark.parametrize("constant", [0.0, 7.0, 1e8 / 3, -1e150])
def test_a_constant_column_has_no_importance(alpha, constant):
    data = np.column_stack([X, np.full(60, constant)])
    model = quick(alpha=alpha).fit(data, Y)
    assert model.feature_importances_[-1] == 0.0
    assert np.isfinite(model.predict(data)).all()


@pytest.mark.parametrize("alpha", [0.02, "auto"])
@pytest.mark.parametrize("rows", [1, 2, 5, 17])
def test_fewer_samples_than_states(alpha, rows):
    model = quick(alpha=alpha, n_states=20).fit(X[:rows], Y[:rows])
    assert np.isfinite(model.predict(X)).all()


def test_duplicated_columns():
    model = quick().fit(np.column_stack([X, X]), Y)
    assert model.score(np.column_stack([X, X]), Y) > 0.8


@pytest.mark.parametrize("inputs", [1e-150, 1.0, 1e150])
@pytest.mark.parametrize("targets", [1e-150, 1.0, 1e150])
def test_sizes(inputs, targets):
    plain = quick(max_iter=20).fit(X, Y)
    try:
        model = quick(max_iter=20).fit(inputs * X, targets * Y)
    except ValueError as error:
        assert "rescale" in str(error)  # noqa: PT017  # the ratio 1e300 may be refused
        return
    prediction = model.predict(inputs * X)
    assert_allclose(prediction / targets, plain.predict(X), rtol=1e-6, atol=1e-8)


def test_no_iterations():
    model = quick(max_iter=0).fit(X, Y)
    assert model.n_iter_ == 1
    assert np.isfinite(model.predict(X)).all()


def test_integers_and_objects():
    counts = RNG.integers(0, 5, (60, 4))
    expected = quick().fit(counts.astype(float), Y).predict(counts)
    assert_array_equal(quick().fit(counts, Y).predict(counts), expected)
    assert_array_equal(quick().fit(counts.astype(object), Y).predict(counts), expected)


def frame(**columns):
    return pd.DataFrame(X, columns=list("abcd")).assign(**columns)


@pytest.mark.parametrize(
    ("estimator", "data", "note"),
    [
        (ImplicitRegressor, (X, np.full(60, "stay")), "y holds text or objects: .*Classifier"),
        (ImplicitRegressor, (X, pd.Series(["stay", "go"] * 30)), "y holds text or objects"),
        (ImplicitRegressor, (frame(city="x"), Y), r"text, .* encoded .*: \['city'\]"),
        (ImplicitRegressor, (frame(day=pd.Timestamp("2020-01-01"), city="x"), Y), "'day', 'city'"),
        (ImplicitClassifier, (frame(day=pd.Timestamp("2020-01-01")), Y > 1.0), r"\['day'\]"),
        (ImplicitRegressor, (frame(e=pd.array([True, None] * 30)), Y), r"NaN or infinity: \['e'\]"),
        (ImplicitRegressor, (pl.DataFrame({"a": X[:, 0], "b": np.nan}), Y), r"infinity: \['b'\]"),
        (ImplicitRegressor, (frame(e=np.nan, f=pd.array([1, None] * 30)), Y), "NaN .*: .'e', 'f'"),
        (ImplicitRegressor, (spoiled(X, np.inf), Y), r"NaN or infinity: \[3\]"),
        (ImplicitRegressor, (np.full((60, 8), np.nan), Y), r"\[0, 1, 2, 3, 4\] and 3 more"),
        (ImplicitRegressor, ([[1, "a"], [2, "b"]], [0, 1]), r"encoded .*: \[1\]"),
    ],
)
def test_notes_name_what_is_at_fault(estimator, data, note):
    with pytest.raises((TypeError, ValueError), match=note):
        estimator(3, alpha=0.02).fit(*data)


@pytest.mark.parametrize(
    "data", [([[1.0, 2.0], [3.0]], [1, 2]), (X[:, 0], Y), (X, spoiled(Y, np.nan))]
)
def test_nothing_is_noted_of_other_faults(data):
    with pytest.raises(ValueError, match=r"\w") as caught:
        quick().fit(*data)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_missing_labels_are_named(missing):
    labels = np.array(["go", "stay"] * 30, dtype=object)
    labels[[7, 9]] = missing
    with pytest.raises(ValueError, match="y must be given; it is not in rows 7, 9"):
        ImplicitClassifier(3, alpha=0.02).fit(X, labels)


def test_an_encoder_that_is_not_fitted_says_what_to_give():
    with pytest.raises(NotFittedError, match=r"give input_groups\(encoder\) or FrozenEstimator"):
        quick(groups=OneHotEncoder()).fit(X, Y)
