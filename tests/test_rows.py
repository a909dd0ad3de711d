"""Rows: merging, order, and the split into training and validation."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse

import bcd_implicit.rows as module
from bcd_implicit import ImplicitRegressor
from bcd_implicit.rows import FOLDS, canonical_rows, fold_rows
from tests.fits import assert_same_bits, samples, small_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(seed=0):
    rng = np.random.default_rng(seed)
    U = rng.integers(0, 3, (30, 2)).astype(float)
    return U, rng.integers(0, 2, (30, 1)).astype(float), rng.integers(0, 3, 30).astype(float)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_rows_are_distinct_and_keep_the_weight(kind):
    U, Y, weights = data()
    rows, merged = canonical_rows(kind(U), Y, weights)
    table = np.column_stack([U, Y])
    assert len(np.unique(table[rows], axis=0)) == len(rows)
    for row in rows:
        same = (table == table[row]).all(axis=1)
        assert merged[row] == weights[same].sum()
    assert merged.sum() == weights.sum()
    assert (merged[np.setdiff1d(np.arange(30), rows)] == 0.0).all()


def test_the_order_of_the_rows_does_not_matter():
    U, Y, weights = data()
    shuffle = np.random.default_rng(1).permutation(30)
    rows, merged = canonical_rows(U, Y, weights)
    again, again_merged = canonical_rows(U[shuffle], Y[shuffle], weights[shuffle])
    assert_array_equal(U[rows], U[shuffle][again])
    assert_array_equal(merged[rows], again_merged[again])


@pytest.mark.parametrize("unit", [1024.0, 1e-3, 1e9])
def test_the_unit_of_the_targets_does_not_matter_for_the_order(unit):
    U, Y, weights = data()  # rows of equal inputs have several targets
    Y = np.column_stack([Y - 0.5, Y])
    expected = canonical_rows(U, Y, weights)
    for found, right in zip(canonical_rows(U, unit * Y, weights), expected, strict=True):
        assert_array_equal(found, right)


def test_rows_of_equal_inputs_have_the_order_of_their_targets():
    Y = np.array([3.0, -2.0, 0.0, -1e-320, 1e300, -np.pi, 1e-320])[:, None]
    rows, _ = canonical_rows(np.ones((7, 1)), Y, np.ones(7))
    assert_array_equal(Y[rows], np.sort(Y, axis=0))


def test_signs_of_zero_and_stored_zeros_are_the_same_row():
    Y = np.zeros((2, 1))
    rows, _ = canonical_rows(np.array([[0.0, 1.0], [-0.0, 1.0]]), Y, np.ones(2))
    assert len(rows) == 1
    rows, _ = canonical_rows(np.ones((2, 2)), np.array([[0.0], [-0.0]]), np.ones(2))
    assert len(rows) == 1
    thin = sparse.csr_array((np.array([0.0, 1.0, 1.0]), [0, 1, 1], [0, 2, 3]), shape=(2, 2))
    rows, merged = canonical_rows(thin, Y, np.ones(2))
    assert merged[rows].tolist() == [2.0]


def test_entries_in_two_terms_are_the_same_row():
    X, y = samples(40, 3)
    terms = sparse.csr_array(
        (np.repeat(X / 2, 2), np.tile([2, 2, 0, 0, 1, 1], 40), 6 * np.arange(41))
    )
    before = terms.copy()
    settings = {"n_states": 2, "max_iter": 2}
    found = small_model(**settings).fit(terms, y)
    assert_same_bits(small_model(**settings).fit(sparse.csr_array(X[:, [1, 2, 0]]), y), found)
    assert_array_equal(terms.data, before.data)
    assert_array_equal(terms.indices, before.indices)


def test_many_rows_are_taken_as_they_come(monkeypatch):
    monkeypatch.setattr(module, "MERGED_ROWS", 5)
    U, Y, weights = data()
    rows, merged = canonical_rows(U, Y, weights)
    assert_array_equal(rows, np.flatnonzero(weights))
    assert merged is weights


def test_folds_are_disjoint_stratified_and_bounded():
    rows = np.arange(100, 200)
    labels = np.repeat([0, 1], [160, 40])
    folds = fold_rows(None, rows, labels, np.random.default_rng(0), 1000)
    assert len(folds) == FOLDS
    for training, validation in folds:
        assert not np.intersect1d(training, validation).size
        assert_array_equal(np.union1d(training, validation), rows)
        assert labels[validation].sum() == 10
        assert len(validation) == 25
    assert_array_equal(np.sort(np.concatenate([part for _, part in folds])), rows)
    for training, validation in fold_rows(
        np.arange(2000.0)[:, None], rows, None, np.random.default_rng(0), 40
    ):
        assert (len(training), len(validation)) == (30, 10)


def test_a_class_with_one_row_is_always_trained_on():
    labels = np.array([0] * 22 + [1])
    folds = fold_rows(None, np.arange(23), labels, np.random.default_rng(0), 100)
    assert_array_equal(np.sort(np.concatenate([part for _, part in folds])), np.arange(22))
    for training, validation in folds:
        assert 22 in training
        assert len(validation) in (5, 6)
    assert fold_rows(None, np.arange(3), np.arange(3), np.random.default_rng(0), 100) == []


def test_classes_with_two_rows_are_validated_too():
    labels = np.repeat(np.arange(8), 2)
    for training, validation in fold_rows(
        None, np.arange(16), labels, np.random.default_rng(0), 100
    ):
        assert len(validation) == 4
        assert len(np.unique(labels[training])) == 8


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_array])
def test_repeated_measurements_stay_together(stored):
    """Equal inputs with different targets tell about each other."""
    U = np.repeat(np.random.default_rng(0).standard_normal((60, 3)), 5, axis=0)
    numbers = np.repeat(np.arange(60), 5)
    folds = fold_rows(stored(U), np.arange(300), None, np.random.default_rng(0), 1000)
    for training, validation in folds:
        assert len(validation) == 75
        assert not np.isin(numbers[training], numbers[validation]).any()
    assert_array_equal(np.sort(np.concatenate([part for _, part in folds])), np.arange(300))


def test_parts_are_even_whatever_the_repeats():
    """Rows without any input are no repeated measurement, and may be most of the rows."""
    rng = np.random.default_rng(0)
    visits = rng.integers(1, 9, size=60)
    numbers = np.repeat(np.arange(60), visits)
    U = np.vstack([rng.standard_normal((60, 3))[numbers], np.zeros((200, 3))])
    folds = fold_rows(U, np.arange(len(U)), None, np.random.default_rng(0), 1000)
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    zeros = [int((validation >= len(numbers)).sum()) for _, validation in folds]
    assert min(zeros) > 40
    for training, validation in folds:
        measured = [numbers[part[part < len(numbers)]] for part in (training, validation)]
        assert not np.isin(*measured).any()


@pytest.mark.parametrize(("distinct", "together"), [(39, False), (40, True)])
def test_few_distinct_inputs_are_in_all_parts(distinct, together):
    U = np.resize(np.arange(float(distinct)), 400)[:, None]
    training, validation = fold_rows(U, np.arange(400), None, np.random.default_rng(0), 1000)[0]
    assert np.isin(U[validation], U[training]).any() != together


def test_distinct_inputs_are_dealt_as_they_were():
    """Row by row, as the rows of classes are."""
    U, one_class = np.random.default_rng(0).standard_normal((90, 2)), np.zeros(90, dtype=int)
    by_inputs, by_rows = (
        fold_rows(U, np.arange(90), labels, np.random.default_rng(0), 80)
        for labels in (None, one_class)
    )
    for found, expected in zip(by_inputs, by_rows, strict=True):
        assert_array_equal(found[0], expected[0])
        assert_array_equal(found[1], expected[1])


def test_repeated_measurements_bring_no_false_inputs():
    """They share an error; by rows dealt one by one, nine of ten inputs were kept."""
    rng = np.random.default_rng(3)
    X = np.repeat(rng.standard_normal((60, 10)), 5, axis=0)
    shared = np.repeat(0.3 * rng.standard_normal(60), 5)
    y = np.abs(X[:, 0]) + X[:, 1] + shared + 0.3 * rng.standard_normal(300)
    model = ImplicitRegressor(random_state=1).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [0, 1])
