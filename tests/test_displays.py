"""Displays show what the estimators hold."""

import builtins

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcd_implicit import ImplicitModel, ImplicitRegressor, ImplicitRegressorCV, StabilitySelection
from bcd_implicit.displays import (
    ConvergenceDisplay,
    CrossValidationDisplay,
    ImportancesDisplay,
    PathDisplay,
    SelectionProbabilityDisplay,
    SensitivityDisplay,
    SparsityDisplay,
    importances,
)
from bcd_implicit.displays.importances import local_sensitivities

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
mpl.use("Agg")


@pytest.fixture(scope="module")
def data():
    X = np.random.default_rng(0).standard_normal((120, 4))
    return X, np.abs(X[:, 1]) + X[:, 2]


@pytest.fixture(scope="module")
def model(data):
    return ImplicitRegressor(4, alpha=0.05, random_state=0).fit(*data)


@pytest.fixture(scope="module")
def validated(data):
    options = {"n_alphas": 4, "path_iter": 2, "cv": 2, "max_iter": 5, "random_state": 0}
    return ImplicitRegressorCV(3, **options).fit(*data)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_importances(model):
    display = ImportancesDisplay.from_estimator(model, max_bars=3)
    assert len(display.bars_) == 3
    assert display.bars_[-1].get_width() == model.feature_importances_.max()
    assert display.ax_.get_yticklabels()[-1].get_text() == f"x{model.feature_importances_.argmax()}"
    assert display.figure_ is display.ax_.figure
    other = ImportancesDisplay.from_estimator(model, ax=display.ax_)
    assert other.ax_ is display.ax_


def test_bars_of_an_empty_model_say_so():
    shown = [ImportancesDisplay(values, ["a", "b"]).plot() for values in (np.zeros(2), np.ones(2))]
    assert [[text.get_text() for text in one.ax_.texts] for one in shown] == [
        ["zero for all inputs"],
        [],
    ]
    assert shown[0].ax_.get_xlim() == (0.0, 1.0)


def test_selection_probabilities(data):
    selector = StabilitySelection(
        ImplicitRegressor(3, random_state=0), n_pairs=1, n_features_per_half=2, random_state=0
    ).fit(*data)
    display = SelectionProbabilityDisplay.from_estimator(selector.set_params(threshold=0.99))
    assert display.ax_.lines[0].get_xdata()[0] == 0.75  # of the fit
    assert_array_equal(display.values, selector.selection_probabilities_)


def test_path_and_cross_validation(validated):
    display = PathDisplay.from_estimator(validated)
    assert len(display.lines_) == validated.path_.supports.any(axis=0).sum()
    assert validated.path_.plot(max_names=1).ax_.get_legend() is not None
    curve = CrossValidationDisplay.from_estimator(validated)
    assert_array_equal(curve.line_.get_ydata(), validated.cv_scores_.mean(axis=1))
    assert curve.choice_.get_xdata()[0] == validated.alphas_[validated.index_]


def test_path_of_a_refit_marks_the_strength_that_was_chosen(data):
    options = {"n_alphas": 4, "path_iter": 2, "max_iter": 5, "random_state": 0}
    model = ImplicitRegressorCV(3, criterion="bic", **options).fit(*data)
    chosen = model.alphas_[model.index_]
    assert model.alpha_ != chosen
    assert PathDisplay.from_estimator(model).ax_.lines[-1].get_xdata()[0] == chosen


@pytest.mark.parametrize(
    ("scores", "error"), [([[1.0, 3.0], [2.0, 2.0]], 1.0), ([[2.0], [2.0]], 0.0)]
)
def test_the_band_is_a_standard_error_of_the_folds(scores, error):
    band = CrossValidationDisplay(np.array([0.1, 1.0]), np.array(scores), 0.1).plot().band_
    heights = band.get_paths()[0].vertices[:, 1]
    assert_allclose([heights.min(), heights.max()], [2.0 - error, 2.0 + error])


def test_inputs_that_stay_longest_are_named():
    norms = np.array([[9.0, 1.0], [0.0, 1.0]])
    display = PathDisplay(np.array([0.1, 1.0]), norms, ["short", "long"]).plot(max_names=1)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["long"]


def test_names_are_drawn_as_they_are():
    """Dollars made a formula of a name, which failed; an underscore took it off the legend."""
    names = np.array(["US$_per_$", "_hidden"], dtype=object)
    displays = (
        PathDisplay(np.array([0.1, 1.0]), np.ones((2, 2)), names).plot(),
        ImportancesDisplay(np.ones(2), names).plot(),
        SparsityDisplay(np.eye(2), np.eye(2), names).plot(),
    )
    for display in displays:
        display.figure_.canvas.draw()
    texts = [text.get_text() for text in displays[0].ax_.get_legend().get_texts()]
    assert texts == [r"US\$_per_\$", "_hidden"]


def test_convergence(model):
    display = ConvergenceDisplay.from_estimator(model)
    assert len(display.ax_) == 2
    exact = [r["objective"] for r in model.history_ if r["phase"] == "exact"]
    assert_array_equal(
        display.lines_[-1].get_ydata(), exact[-len(display.lines_[-1].get_ydata()) :]
    )
    with pytest.raises(ValueError, match="ax must hold 2 axes"):
        ConvergenceDisplay.from_estimator(model, ax=display.ax_[0])
    with pytest.raises(ValueError, match="ax must be a matplotlib Axes; got array"):
        ImportancesDisplay.from_estimator(model, ax=display.ax_)


@pytest.mark.parametrize("output", [-1, 1, 0.0])
def test_sensitivities_of_an_output_that_is_not_there(model, data, output):
    with pytest.raises(
        ValueError, match=f"output must be a whole number from 0 to 0; got {output}"
    ):
        SensitivityDisplay.from_estimator(model, data[0], output=output)


def test_a_phase_without_updates_is_said_to_be_empty(model):
    display = ConvergenceDisplay([r for r in model.history_ if r["phase"] == "exact"]).plot()
    assert [part.texts[0].get_text() for part in display.ax_ if part.texts] == [
        "none in the final fit"
    ]


def test_sparsity(model):
    display = SparsityDisplay.from_estimator(model)
    shown = display.images_[1].get_array()
    assert_array_equal(np.ma.getmaskarray(shown) | np.isnan(shown.data), model.B_ == 0.0)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_sensitivities_are_derivatives(activation):
    rng = np.random.default_rng(0)
    B = rng.standard_normal((3, 4))
    D = rng.standard_normal((2, 4))
    B[:, 2] = D[:, 2] = 0.0
    A = 0.2 * rng.uniform(-1, 1, (3, 3))
    model = ImplicitModel(A, B, rng.standard_normal((2, 3)), D, activation=activation)
    U, h = rng.standard_normal((5, 4)), 1e-5
    slopes = local_sensitivities(model, U)
    for j in range(4):
        step = h * np.eye(4)[j]
        difference = (model.predict(U + step, tol=1e-14) - model.predict(U - step, tol=1e-14)) / 2
        assert_allclose(slopes[:, :, j], difference / h, atol=1e-8)
    assert not slopes[:, :, 2].any()


def test_sensitivity_display(model, data):
    display = SensitivityDisplay.from_estimator(model, data[0])
    assert display.values.argmax() in (1, 2)
    assert (display.values[~model.support_] == 0.0).all()
    slopes = local_sensitivities(model.model_, data[0])[:, 0] * data[0].std(axis=0)
    assert_allclose(display.values, np.sqrt((slopes**2).mean(axis=0)))


@pytest.mark.parametrize("unit", [1e-170, 1e170])
def test_sensitivities_have_no_units_and_are_summed_over_parts(unit, data, monkeypatch):
    X, y = data
    fits = [ImplicitRegressor(4, alpha=0.05, random_state=0).fit(c * X, y) for c in (1.0, unit)]
    expected = SensitivityDisplay.from_estimator(fits[0], X).values
    monkeypatch.setattr(importances, "_ENTRIES", 300)  # seven rows
    display = SensitivityDisplay.from_estimator(fits[1], unit * X)
    assert_allclose(display.values, expected, rtol=1e-6)


def test_sensitivities_of_many_states_are_taken_of_few_rows_at_a_time(monkeypatch):
    """A thousand rows of 300 states took 1.5 GB."""
    sizes = []

    def derivatives(model, U):
        sizes.append(len(U) * model.n_states**2)
        return local_sensitivities(model, U)

    monkeypatch.setattr(importances, "local_sensitivities", derivatives)
    X = np.random.default_rng(0).standard_normal((150, 2))
    model = ImplicitRegressor(200, alpha=0.1, max_iter=0, random_state=0).fit(X, X[:, 0])
    SensitivityDisplay.from_estimator(model, X)
    assert max(sizes) <= 2**21


def test_without_matplotlib(model, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError("no matplotlib")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"ImportancesDisplay.plot requires matplotlib"):
        ImportancesDisplay.from_estimator(model)


@pytest.mark.parametrize(
    ("display", "message"),
    [
        (PathDisplay, "must have alphas_, as ImplicitRegressorCV"),
        (CrossValidationDisplay, "must have cv_scores_, as ImplicitRegressorCV"),
        (SelectionProbabilityDisplay, "must have selection_probabilities_"),
    ],
)
def test_estimators_of_another_kind(display, message, model):
    with pytest.raises(ValueError, match=message):
        display.from_estimator(model)
    with pytest.raises(NotFittedError):
        display.from_estimator(ImplicitRegressor())


def test_a_pipeline_has_to_give_its_step(data):
    pipeline = make_pipeline(StandardScaler(), ImplicitRegressor(2, alpha=1.0)).fit(*data)
    with pytest.raises(ValueError, match="got Pipeline: draw one of its steps"):
        ImportancesDisplay.from_estimator(pipeline)


def test_sensitivities_of_data_as_estimators_take_them(data):
    X, y = data
    table = pd.DataFrame(X, columns=list("abcd"))
    model = ImplicitRegressor(4, alpha=0.05, random_state=0).fit(table, y)
    display = SensitivityDisplay.from_estimator(model, table)
    with pytest.raises(ValueError, match="same order"):
        SensitivityDisplay.from_estimator(model, table[["d", "c", "b", "a"]])
    plain = ImplicitRegressor(4, alpha=0.05, random_state=0).fit(X, y)
    other = SensitivityDisplay.from_estimator(plain, sparse.csr_array(X))
    assert_allclose(other.values, display.values)
