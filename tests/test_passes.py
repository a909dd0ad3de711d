"""Passes over the rows are counted, and what they return does not grow with the rows."""

import dask.array as da
import numpy as np
import pytest

import bcd_implicit.cuts as cuts
import bcd_implicit.statistics as statistics
from bcd_implicit.training_data import PassCounter
from tests.fits import samples, set_limits, small_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def passes(model):
    return [record["passes"] for record in model.history_]


def test_a_counter_gives_the_sums_since_it_was_asked(make_data):
    data = make_data()
    count = PassCounter(data)
    data.sum(lambda block: (block.inputs().sum(),))
    data.sum(lambda block: (block.inputs().sum(),))
    assert count() == 2
    assert count() == 0


def test_every_step_makes_a_pass_or_more(monkeypatch):
    X, y = samples(300, 4)
    in_memory = passes(small_model().fit(X, y))
    assert (np.diff(in_memory) >= 0).all()
    assert in_memory[-1] > len(small_model().fit(X, y).history_)
    chosen = small_model(alpha="auto").fit(X, y)
    assert (np.diff(passes(chosen)) >= 0).all()
    linear = [r["passes"] for r in chosen.history_ if r["phase"] == "linear"]
    assert linear[-1] > linear[0] > 0
    set_limits(monkeypatch, many=10**6, gathered=100, merged=100)
    parted = small_model(max_iter=3).fit(da.from_array(X, chunks=(100, 4)), y)
    exact = [r["passes"] for r in parted.history_ if r["phase"] == "exact"]
    assert (np.diff(exact) >= 2).all()


def test_sums_do_not_grow_with_the_rows(monkeypatch):
    monkeypatch.setattr(cuts, "_BLOCK_ROWS", (16, 16))
    plain = statistics.RowBlocks.sum

    def entries(m):
        most = [0]

        def sized(self, function, *, solves=False):
            sums = plain(self, function, solves=solves)
            most[0] = max(most[0], sum(np.size(values) for values in sums))
            return sums

        monkeypatch.setattr(statistics.RowBlocks, "sum", sized)
        small_model().fit(*samples(m, 4))
        return most[0]

    assert entries(1600) == entries(160)
