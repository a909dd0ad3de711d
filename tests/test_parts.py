"""Training data in the parts of a table: which rows they are, and what they remember."""

import numpy as np
import pytest

from bcd_implicit.blocks import CompactBlock, PassBlock
from bcd_implicit.coding import Coding
from bcd_implicit.forward import StateSolver
from bcd_implicit.streamed import StreamedData
from bcd_implicit.tables import StoredTable
from tests.fits import set_limits

ROWS = 500


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make parts, blocks and the sample of the metric small."""
    set_limits(monkeypatch, gathered=2, merged=100)
    monkeypatch.setattr("bcd_implicit.tables._ROWS", (16, 48))
    monkeypatch.setattr("bcd_implicit.cuts._BLOCK_ROWS", (16, 16))
    monkeypatch.setattr("bcd_implicit.statistics._SAMPLE", 40)


@pytest.fixture
def make_parted(make_data, make_problem):
    """Make rows in a table, some without weight and some alike, and return them as arrays too."""

    def make(**changes):
        arrays = make_data(m=ROWS)
        weights = np.random.default_rng(1).integers(0, 3, ROWS).astype(float)
        weights[100:180] = 0.0  # parts without any row in use
        arrays.U[300:320], arrays.Y[300:320] = arrays.U[:20], arrays.Y[:20]
        table = StoredTable(arrays.U, arrays.Y, weights)
        vars(table).update(changes)
        problem = make_problem("tanh")
        data = StreamedData.of(table, Coding(2), problem, standardize=False).blocks()
        return data, problem, arrays.U, weights

    return make


def sums(data):
    """Return the number of rows, their weight, and sums over them and over the sample."""

    def some(block):
        U, (_, w), sampled = block.inputs(), block.targets(), block.sampled()
        return len(U), w.sum(), w @ U, U[sampled].sum(axis=0), len(sampled)

    return data.sum(some)


def assert_same_sums(one, other):
    for found, expected in zip(sums(one), sums(other), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("merged", [100, 10_000])
def test_rows_are_those_that_would_be_gathered(merged, make_parted, monkeypatch):
    set_limits(monkeypatch, merged=merged)
    data, *_ = make_parted()
    part = data.sampled_rows(100, 1)
    for some in (data, part):
        assert_same_sums(some, some.in_memory())
        assert sums(some)[:2] == (some.n_samples, pytest.approx(1.0))
    assert len(range(1, data.n_samples, data.n_samples // 100)) == part.n_samples
    few = data.only(np.array([4, 1, 2])).only(np.array([2, 0]))
    assert few.n_inputs == 2
    assert_same_sums(few, few.in_memory())
    np.testing.assert_allclose(sums(few)[2], sums(data)[2][[2, 4]])


@pytest.mark.parametrize("first", [0, 1, 2])
def test_parts_of_the_rows_are_spread_evenly(first, make_parted):
    data, _, U, weights = make_parted()
    used, centre, scale = np.flatnonzero(weights), data._rows.centre, data._rows.scale
    for one, ranks in (
        (data.sampled_rows(len(used) // 3, first), np.arange(len(used))[first::3]),
        (
            data.sampled_rows(len(used) // 4, first).sampled_rows(len(used) // 8, 1),
            np.arange(len(used))[first::4][1::2],
        ),
    ):
        rows = used[ranks]
        n, weight, mean, _, sampled = sums(one)
        assert n == one.n_samples == len(rows)
        assert weight == pytest.approx(1.0)
        expected = np.average((U - centre)[rows], axis=0, weights=weights[rows]) / scale
        np.testing.assert_allclose(mean, expected, rtol=1e-9)
        assert sampled == len(range(0, len(rows), -(-len(rows) // 40)))
        assert_same_sums(one, one.in_memory())


def test_other_rows_remember_as_little_as_they_are_asked_to(make_parted):
    data, *_ = make_parted()
    assert data._block is PassBlock
    assert data.sampled_rows(100)._block is PassBlock
    assert data.sampled_rows(100, compact=True)._block is CompactBlock


@pytest.mark.parametrize("share", [1.0, 0.99])
def test_states_are_remembered_where_they_fit_twice(share, make_parted):
    rows = make_parted()[0].n_samples
    data, *_ = make_parted(state_entries=int(share * 2 * rows * 4))
    assert data._block is (PassBlock if share == 1.0 else CompactBlock)


@pytest.mark.parametrize("overwrites", [True, False])
def test_states_are_those_that_were_accepted_and_tried(
    overwrites, make_parted, make_parameters, monkeypatch
):
    data, problem, *_ = make_parted(overwrites=overwrites)
    kept = PassBlock._kept

    def read_only(block, X):
        X = kept(block, X)
        X.flags.writeable = overwrites
        return X

    monkeypatch.setattr(PassBlock, "_kept", read_only)
    models = [make_parameters(problem, data, seed) for seed in range(5)]
    rows = data.in_memory()

    def squares(of):
        """Return sums over the states of a model, found anew."""

        def found(block):
            X, _ = StateSolver(problem, models[of], block).states(None, None)
            return (X.T @ X,)

        return rows.sum(found)[0]

    def check(accepted, tried, of, *, solves=False):
        def found(block):
            solver = StateSolver(problem, models[of], block)
            start = block.start()
            start = np.zeros((len(block), 4)) if start is None else start.copy()
            X = (block.solve_trial if solves else block.at_trial)(solver).X
            return start.T @ start, X.T @ X

        for one, expected in zip(data.sum(found, solves=solves), (accepted, tried), strict=True):
            np.testing.assert_allclose(one, expected, atol=1e-9)

    nothing = np.zeros((4, 4))
    check(nothing, squares(0), 0, solves=True)
    data.scale_trial(2.0)
    data.scale_trial(1.5)
    check(nothing, 9.0 * squares(0), 0)
    data.accept_trial()
    check(9.0 * squares(0), 9.0 * squares(0), 0)
    check(9.0 * squares(0), squares(1), 1, solves=True)
    data.scale_trial(5.0)
    check(9.0 * squares(0), squares(2), 2, solves=True)  # the one before was not accepted
    check(9.0 * squares(0), squares(2), 2)
    data.scale_trial(2.0)
    data.accept_trial()
    check(4.0 * squares(2), squares(3), 3, solves=True)
    check(4.0 * squares(2), squares(4), 4, solves=True)
    data.accept_trial()
    check(squares(4), squares(1), 1, solves=True)
    data.scale_trial(3.0)
    data.start_states(4)
    check(nothing, squares(2), 2)  # found again
    check(nothing, squares(2), 2, solves=True)
    check(nothing, squares(2), 2)
