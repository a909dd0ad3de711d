"""What the passes before training find, and the rows that they name."""

import numpy as np
import pytest

from bcd_implicit.coding import Coding
from bcd_implicit.survey import look_at_rows, survey_targets
from bcd_implicit.tables import StoredTable


@pytest.fixture
def parts_of_four(monkeypatch):
    """Read four rows at a time."""
    monkeypatch.setattr("bcd_implicit.tables._ROWS", (4, 4))
    monkeypatch.setattr("bcd_implicit.tables._PARTS", 1000)


def table(y, weights=None):
    return StoredTable(np.zeros((len(y), 1)), y, weights)


@pytest.mark.parametrize("kind", [float, int, str, bool])
def test_a_part_whose_rows_all_lack_weight(kind, parts_of_four):
    y = np.array([0, 1, 0, 1, 1, 1, 0, 1]).astype(kind)
    for labels in (y, y[:, None]):
        found = survey_targets(table(labels, np.repeat([0.0, 2.0], 4)), labels=True)
        np.testing.assert_array_equal(found.labels, np.unique(y))
        assert [some.value() for some in found.label_weights] == [2.0, 6.0]


def test_labels_and_weights_of_all_parts(parts_of_four):
    y = np.array([2.0, 5.0, 2.0, 2.0, 1.0, 1.0, 5.0, 5.0, 3.0])
    weights = np.array([1.0, 1.0, 1.0, 0.0, 9.0, 1.0, 1.0, 1.0, 0.0])
    found = survey_targets(table(y, weights), labels=True)
    assert found.labels.tolist() == [1.0, 2.0, 5.0]
    assert [some.value() for some in found.label_weights] == [10.0, 2.0, 3.0]
    assert (found.unit, found.weight, found.n_outputs) == (8.0, 15.0, 1)


def test_labels_that_no_classifier_takes(parts_of_four):
    with pytest.raises(ValueError, match="Unknown label type"):
        survey_targets(table(np.linspace(0.0, 1.0, 8)), labels=True)


def test_as_many_faults_as_are_worth_reading(parts_of_four):
    y = np.zeros(8)
    y[5:] = np.nan
    with pytest.raises(ValueError, match=r"it is not in rows 5, 6, 7$"):
        survey_targets(table(y), labels=False)
    X, coding = np.full((7, 2), np.inf), Coding(1)
    with pytest.raises(ValueError, match=r"it is not in rows 30, 31, 32, 33, 34 and 2 more nearby"):
        look_at_rows(X, np.zeros(7), None, 30, coding, False)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0])
def test_weights_that_are_none(weight, parts_of_four):
    weights = np.ones(8)
    weights[6] = weight
    with pytest.raises(
        ValueError, match=r"sample_weight must be nonnegative; it is not in rows 6$"
    ):
        survey_targets(table(np.zeros(8), weights), labels=False)


def test_moments_of_a_part_of_many_rows():
    rng = np.random.default_rng(0)
    U, y, w = rng.standard_normal((10_000, 2)), rng.standard_normal(10_000), rng.random(10_000)
    w[::3] = 0.0
    found = look_at_rows(U, y, w, 0, Coding(1), False)
    for moments, values in ((found.inputs, U), (found.targets, y[:, None])):
        mean, square = moments.mean_and_square()
        expected = np.average(values, axis=0, weights=w)
        np.testing.assert_allclose(mean * moments.unit, expected)
        spread = np.average((values - expected) ** 2, axis=0, weights=w)
        np.testing.assert_allclose(square * moments.unit**2, spread)
    assert (found.largest, found.n_used) == (w.max(), np.count_nonzero(w))
