"""A cluster of real processes: the same fit, whatever happens to the workers."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import dask
import distributed
import numpy as np
import pytest
from dask import array as da

from bcd_implicit.dask_placement import _holder
from bcd_implicit.exceptions import DataLostError
from tests.fits import assert_same_bits, assert_same_blocks, samples, set_limits, small_model

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # a worker that is killed leaves sockets behind
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROWS = 3000


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make few rows count as many, in chunks that are not short; the workers need not know."""
    set_limits(monkeypatch, many=300, gathered=100, merged=100)
    monkeypatch.setattr("bcd_implicit.cuts._BLOCK_ROWS", (64, 64))


@pytest.fixture(scope="module")
def calm():
    """Two workers, processes of their own, that nothing happens to."""
    with start() as cluster:
        yield cluster


@pytest.fixture
def cluster():
    """Two workers, processes of their own."""
    with start() as cluster:
        yield cluster


@contextmanager
def start():
    settings = {
        "distributed.scheduler.allowed-failures": 20,
        "distributed.comm.timeouts.connect": "5s",
        "distributed.comm.retry.count": 0,
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


def data():
    return samples(ROWS, 5)


def model(**settings):
    """Make an estimator that is fitted in few passes, for each takes a tenth of a second."""
    return small_model(**{"max_iter": 4} | settings)


def chunks(X, y, rows=600):
    return da.from_array(X, chunks=(rows, 5)), da.from_array(y, chunks=rows)


def at(place, action):
    """Call ``action`` in the middle of the pass after a record of all rows."""
    left = [place]

    def callback(record):
        if record["rows"] == ROWS:
            left[0] -= 1
            if left[0] == 0:
                threading.Timer(0.02, action).start()

    return callback


def test_the_fit_is_that_in_memory(calm):
    X, y = data()
    expected = model().fit(X, y)
    U, v = chunks(X, y)
    found = model().fit(U, v)
    assert_same_blocks(expected, found)
    again = model().fit(U, v)
    assert_same_bits(found, again)
    np.testing.assert_allclose(found.predict(U).compute(), expected.predict(X), atol=1e-7)


def test_a_setting_that_sends_computations_elsewhere(calm):
    X, y = data()
    with dask.config.set(scheduler="threads"):
        assert_same_blocks(model().fit(X, y), model().fit(*chunks(X, y)))


def test_many_rows_give_the_bits_of_arrays(calm, monkeypatch):
    monkeypatch.undo()  # blocks are to be those of the workers
    set_limits(monkeypatch, many=20_000)
    X, y = samples(80_000, 3)
    client = distributed.default_client()
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    U, v = [], []  # of which the first chunk is not where it would be put, and the others are short
    for rows, worker in ((slice(41_000), workers[1]), (slice(41_000, None), workers[0])):
        length = 41_000 if worker == workers[1] else 15_000
        for values, parts in ((X, U), (y, v)):
            chunks = da.from_array(values[rows], chunks=(length, *values.shape[1:]))
            parts.append(client.persist(chunks, workers=[worker]))
    distributed.wait(U + v)
    before = client.run(_sent)
    found = model().fit(da.concatenate(U), da.concatenate(v))
    assert_same_bits(model().fit(X, y), found)
    after = client.run(_sent)
    sent = [size for worker in workers for size in after[worker][len(before[worker]) :]]
    assert max(sent) < 10_000 * 3 * 8  # samples, and what blocks share: no chunk, once or in passes


def _sent(dask_worker):
    """Return the bytes of what a worker has sent, one by one."""
    log = dask_worker.transfer_outgoing_log
    return [size for entry in log for size in entry["keys"].values()]


@pytest.mark.parametrize("place", [1, 4])
@pytest.mark.parametrize("which", ["one", "all"])
def test_workers_are_killed(cluster, which, place):
    X, y = data()
    expected = model().fit(X, y)
    killed = []

    def kill():
        workers = list(cluster.workers.values())
        for worker in workers[: 1 if which == "one" else 2]:
            os.kill(worker.process.pid, signal.SIGKILL)
            killed.append(1)

    found = model(callback=at(place, kill)).fit(*chunks(X, y))
    assert len(killed) == (1 if which == "one" else 2)
    assert_same_blocks(expected, found)
    assert found.n_iter_ == expected.n_iter_


def test_a_worker_is_killed_while_the_data_are_looked_at(cluster):
    X, y = data()

    def slow(block):
        time.sleep(0.03)
        return block

    U, v = chunks(X, y)
    threading.Timer(
        0.1, lambda: os.kill(next(iter(cluster.workers.values())).process.pid, signal.SIGKILL)
    ).start()
    assert_same_blocks(model().fit(X, y), model().fit(U.map_blocks(slow, dtype=float), v))


def test_a_read_that_fails_twice_and_then_works(calm, tmp_path):
    X, y = data()

    def flaky(block, block_info=None):
        place = tmp_path / str(block_info[0]["chunk-location"][0])
        tries = len(list(tmp_path.glob(f"{place.name}-*")))
        if tries < 2 and block_info[0]["chunk-location"][0] == 3:
            (tmp_path / f"{place.name}-{tries}").touch()
            raise OSError("no luck")
        return block

    U, v = chunks(X, y)
    assert_same_blocks(model().fit(X, y), model().fit(U.map_blocks(flaky, dtype=float), v))
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_rows_are_named(calm):
    X, y = data()
    X[1234, 2] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite.* rows 1234"):
        model().fit(*chunks(X, y))


def test_the_scheduler_is_gone(cluster, tmp_path):
    X, y = data()
    expected = model().fit(X, y)
    path = tmp_path / "fit.npz"
    stop = at(2, lambda: cluster.loop.add_callback(cluster.scheduler.close))
    settings = {"checkpoint": path, "checkpoint_every": 1}
    began = time.perf_counter()
    with pytest.raises(DataLostError, match="scheduler") as caught:
        model(callback=stop, **settings).fit(*chunks(X, y))
    assert time.perf_counter() - began < 60.0  # seconds: a minute is what is promised
    assert caught.value.model.n_inputs == 5
    with dask.config.set(scheduler="threads"):
        assert_same_blocks(expected, model(resume=True, **settings).fit(*chunks(X, y)))


def test_tasks_have_names(calm):
    model(max_iter=2).fit(*chunks(*data()))
    assert {"equilibrium", "sums", "objective"} <= set(calm.scheduler.task_prefixes)


def test_who_holds_a_chunk():
    """Of a chunk that is persisted, the graph says that it depends on itself."""
    needed = {"a": {"a"}, "b": {"a", "c"}, "c": set()}
    assert _holder("a", needed, {}) is None
    assert _holder("b", needed, {"c": ["somewhere"]}) == "somewhere"
