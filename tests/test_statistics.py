"""Sums over row blocks: right, the same bits for any threads, and without a copy of the data."""

import threading
import time
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_info, threadpool_limits

from bcd_implicit.exact import evaluate
from bcd_implicit.gram import InputGram
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import train


class Pair(NamedTuple):
    total: np.ndarray
    names: list


def standard(U, Y=None, **settings):
    m, p = U.shape
    Y = np.zeros((m, 1)) if Y is None else Y
    settings = {"weights": np.full(m, 1 / m), "centre": np.zeros(p), "scale": np.ones(p)} | settings
    return RowBlocks(U, Y, **settings)


def same_bits(one, other):
    for name, block in vars(one.point.parameters).items():
        np.testing.assert_array_equal(block, getattr(other.point.parameters, name))
    assert one.point.objective == other.point.objective
    assert one.n_iter == other.n_iter


@pytest.mark.parametrize(("p", "rows"), [(1, 8192), (100, 2048), (5000, 256)])
def test_the_size_of_a_block(p, rows):
    data = standard(np.zeros((9000, p), dtype=np.int8))
    assert [block.rows.start for block in data.blocks] == list(range(0, 9000, rows))
    assert data.blocks[-1].rows.stop == 9000


def test_sums_add_up_in_order(make_data, small_blocks):
    data = make_data(m=40)
    assert len(data.blocks) == 3
    found = data.sum(lambda block: Pair(data.inputs(block).sum(axis=0), [block.rows.start]))
    assert isinstance(found, Pair)
    np.testing.assert_allclose(found.total, data.U.sum(axis=0))
    assert found.names == [0, 16, 32]
    with data.threads():
        assert data.map(lambda block: (block.rows.stop,)) == [(16,), (32,), (40,)]


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.bool_, "csr"])
@pytest.mark.parametrize("columns", [slice(None), np.array([1, 3]), np.array([], dtype=np.intp)])
def test_inputs_are_standardised(kind, columns, small_blocks):
    raw = np.random.default_rng(0).integers(0, 2, (40, 4)).astype(float)
    U = sparse.csr_matrix(raw) if kind == "csr" else raw.astype(kind)
    centre, scale = np.arange(4.0), np.array([1.0, 2.0, 4.0, 0.5])
    data = standard(U, centre=centre, scale=scale)
    expected = ((raw - centre) / scale)[:, columns]
    found = np.concatenate([data.inputs(block, columns) for block in data.blocks])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected)


def test_some_rows_in_another_order(make_data, small_blocks):
    whole = make_data(m=60)
    order = np.random.default_rng(1).permutation(60)[:40]
    part = standard(whole.U, whole.Y, weights=whole.weights, order=order)
    assert part.n_samples == 40
    assert len(part.blocks) == 3
    found = [(part.inputs(block), *part.targets(block)) for block in part.blocks]
    U, Y, weights = (np.concatenate(values) for values in zip(*found, strict=True))
    np.testing.assert_array_equal(U, whole.U[order])
    np.testing.assert_array_equal(Y, whole.Y[order])
    expected = whole.weights[order]
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-14)


@pytest.mark.parametrize("reordered", [False, True])
@pytest.mark.parametrize("m", [1, 255, 256, 257, 700, 5000])
def test_the_sample_is_spread_over_rows_of_positive_weight(m, reordered):
    rng = np.random.default_rng(m)
    weights = rng.uniform(size=m) * (rng.uniform(size=m) < 0.6)
    weights[0] = 1.0
    order = rng.permutation(m) if reordered else np.arange(m)
    data = standard(np.zeros((m, 2000)), weights=weights, order=order if reordered else None)
    rows = np.concatenate([block.rows.start + data.sampled(block) for block in data.blocks])
    present = np.flatnonzero(weights[order])
    stride = -(-len(present) // 256)
    np.testing.assert_array_equal(rows, present[::stride])
    assert len(rows) <= 256


def test_the_same_bits_for_any_number_of_threads(make_problem, make_data):
    problem = make_problem("relu", n_inputs=600)
    fits = []
    for n_threads in (1, 2, 4):
        data = make_data(m=2500, p=600, n_threads=n_threads)
        assert len(data.blocks) >= 3
        fits.append(train(data, problem, rng=np.random.default_rng(0), max_iter=3))
    for other in fits[1:]:
        same_bits(fits[0], other)


@pytest.mark.parametrize(
    ("activation", "loss"), [("relu", "squared"), ("tanh", "logistic"), ("relu", "multinomial")]
)
def test_the_same_bits_for_small_blocks(activation, loss, make_problem, make_data, small_blocks):
    problem = make_problem(activation, loss)
    fits = [
        train(
            make_data(loss, m=64, n_threads=n_threads),
            problem,
            rng=np.random.default_rng(0),
            max_iter=4,
        )
        for n_threads in (1, 2, 4)
    ]
    for other in fits[1:]:
        same_bits(fits[0], other)


def test_sparse_inputs_train_like_dense_ones(make_problem, make_data, small_blocks):
    dense = make_data(m=60)
    U = np.where(np.abs(dense.U) > 0.7, dense.U, 0.0)
    settings = {"centre": U.mean(axis=0), "scale": U.std(axis=0), "weights": dense.weights}
    problem = make_problem()
    one, other = (
        train(
            standard(inputs, dense.Y, **settings),
            problem,
            rng=np.random.default_rng(0),
            max_iter=10,
        )
        for inputs in (U, sparse.csr_array(U))
    )
    assert one.point.objective == pytest.approx(other.point.objective, rel=1e-10)
    for name, block in vars(one.point.parameters).items():
        np.testing.assert_allclose(block, getattr(other.point.parameters, name), atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8])
def test_other_dtypes_train_like_float64(dtype, make_problem, make_data):
    data = make_data(m=60)
    U = np.round(3 * data.U).astype(dtype)
    problem = make_problem()
    fits = [
        train(standard(inputs, data.Y), problem, rng=np.random.default_rng(0), max_iter=5)
        for inputs in (U, U.astype(float))
    ]
    same_bits(*fits)


@pytest.mark.parametrize("kind", ["dense", "float32", "csr"])
def test_no_pass_copies_the_data(kind, make_problem, make_parameters):
    m, p = 16000, 400
    rng = np.random.default_rng(0)
    U = rng.standard_normal((m, p), dtype=np.float32 if kind == "float32" else np.float64)
    if kind == "csr":
        U[np.abs(U) < 1.0] = 0.0
        U = sparse.csr_array(U)
    data = standard(U, rng.standard_normal((m, 1)))
    assert data.U is U
    assert np.shares_memory(data.targets(data.blocks[1])[0], data.Y)
    problem = make_problem("relu", n_states=2, n_inputs=p)
    data.start_states(2)
    start = make_parameters(problem, data)
    tracemalloc.start()
    evaluate(data, problem, start)
    InputGram(data).of(np.arange(p))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * 8 * m * p  # temporaries of a block, 3 MB each, and some p x p


def test_blas_has_one_thread_in_a_block(make_data, small_blocks):
    def counts():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        for n_threads in (1, 2):
            data = make_data(n_threads=n_threads)
            before = counts()
            with data.threads():
                assert data.map(lambda block: (counts(),)) == [({1},)] * 3
            assert counts() == before


def test_nothing_runs_on_after_an_error(make_data, small_blocks):
    data = make_data(m=64, n_threads=4)
    running, release = threading.Event(), threading.Event()
    done = []

    def work(block):
        if block.rows.start == 0:
            running.wait(10.0)
            release.set()
            raise KeyboardInterrupt
        if block.rows.start == 16:
            running.set()
            release.wait(10.0)
            time.sleep(0.05)
        done.append(block.rows.start)
        return (0.0,)

    with data.threads():
        with pytest.raises(KeyboardInterrupt):
            data.sum(work)
        assert 16 in done
        before = len(done)
        assert data.sum(lambda block: (1,)) == (4,)
        assert len(done) == before


def test_few_results_wait_for_a_slow_block(make_data, small_blocks, monkeypatch):
    data = make_data(m=320, n_threads=2)
    others = threading.Semaphore(0)
    submitted = []

    def work(block):
        if block.rows.start:
            others.release()
        else:
            for _ in range(3):
                others.acquire()
            assert len(submitted) <= 4
        return (1,)

    with data.threads():
        plain = data._pool.submit
        monkeypatch.setattr(
            data._pool, "submit", lambda *arguments: submitted.append(1) or plain(*arguments)
        )
        assert data.sum(work) == (20,)
    assert len(submitted) == 20


def test_the_thread_that_waits_works_as_well(make_data, small_blocks):
    data = make_data(m=320, n_threads=2)
    both, names = threading.Barrier(2, timeout=10.0), set()

    def work(block):
        if block.rows.start < 32:
            both.wait()  # two blocks are under way at a time
        names.add(threading.get_ident())
        return (1,)

    with data.threads():
        assert data.sum(work) == (20,)
    assert len(names) == 2
    assert threading.get_ident() in names


def test_dense_standard_rows_are_not_copied(small_blocks):
    U = np.random.default_rng(0).standard_normal((40, 4))
    block = standard(U).blocks[1]
    assert np.shares_memory(block.inputs(), U)
    for other in (standard(np.asfortranarray(U)), standard(U, scale=np.full(4, 2.0))):
        found = other.blocks[1].inputs()
        assert found.flags.c_contiguous
        assert not np.shares_memory(found, other.U)


def test_large_rows_are_shared_between_two_threads():
    few = standard(np.zeros((700, 784), dtype=np.int8))
    assert [len(block) for block in few.blocks] == [350, 350]
    assert len(standard(np.zeros((600, 784), dtype=np.int8)).blocks) == 1


def test_states_are_swapped(make_data, small_blocks):
    data = make_data(m=40)
    data.start_states(3)
    for block in data.blocks:
        assert block.X.shape == block.trial.shape == (len(block), 3)
        block.trial[:] = 1.0
    data.accept_trial()
    assert all((block.X == 1.0).all() and (block.trial == 0.0).all() for block in data.blocks)
    assert sum(len(block) for block in data.blocks) == 40


@pytest.mark.parametrize("m", [40, 200])
def test_the_gram_matrix_is_computed_once(m, make_data, small_blocks, monkeypatch):
    """Of few rows what is forgotten for others is computed again."""
    data = make_data(m=m, p=6)
    passes = []
    plain = data.sum
    monkeypatch.setattr(data, "sum", lambda function: passes.append(1) or plain(function))
    gram = InputGram(data)
    expected = data.U.T @ (data.U * data.weights[:, np.newaxis])
    for columns, count in (
        ([0, 2, 5], 1),
        ([0, 2, 5], 1),
        ([2, 5], 1),
        ([], 1),
        ([1, 2], 2),
        ([0, 2], 2 if m > 128 else 3),
        (range(6), 3 if m > 128 else 4),
        ([3], 3 if m > 128 else 4),
    ):
        chosen = np.array(columns, dtype=np.intp)
        np.testing.assert_allclose(gram.of(chosen), expected[np.ix_(chosen, chosen)], rtol=1e-12)
        assert len(passes) == count


def test_the_gram_matrix_forgets_what_is_too_much(make_data, monkeypatch):
    monkeypatch.setattr("bcd_implicit.gram._MOST_KNOWN", 4)
    data = make_data(m=200, p=8)
    expected = data.U.T @ (data.U * data.weights[:, np.newaxis])
    gram = InputGram(data)
    for columns in ([1, 6], [0, 6], [3], [0, 2, 5], [4], range(8), [2, 7], [0, 1, 2, 3, 7]):
        chosen = np.array(columns, dtype=np.intp)
        np.testing.assert_allclose(gram.of(chosen), expected[np.ix_(chosen, chosen)], rtol=1e-12)


@pytest.mark.parametrize("m", [40, 200])
def test_an_interrupted_pass_leaves_the_gram_matrix_valid(m, make_data, monkeypatch):
    data = make_data(m=m, p=6)
    gram = InputGram(data)
    first = gram.of(np.array([0, 1]))

    def interrupted(function):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(data, "sum", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gram.of(np.array([2, 3]))
    assert not np.array_equal(gram.of(np.array([2, 3])), first)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("kept", [0, 2**20], ids=["many", "few"])
def test_some_inputs_of_the_same_rows(kind, kept, monkeypatch):
    monkeypatch.setattr("bcd_implicit.statistics._KEPT_ENTRIES", kept)
    rng = np.random.default_rng(0)
    U = rng.standard_normal((30, 6))
    U[U < 0.0] = 0.0
    order = rng.permutation(30)[:20]
    data = RowBlocks(
        U if kind == "dense" else sparse.csr_array(U),
        np.ones((30, 1)),
        np.full(30, 1 / 30),
        rng.standard_normal(6),
        rng.uniform(0.5, 2.0, 6),
        order=order,
    )
    whole = data.inputs(data.blocks[0])
    part = data.only(np.array([1, 3, 4]))
    assert part.n_inputs == 3
    np.testing.assert_array_equal(part.inputs(part.blocks[0]), whole[:, [1, 3, 4]])
    again = part.only(np.array([0, 2]))
    np.testing.assert_array_equal(again.inputs(again.blocks[0]), whole[:, [1, 4]])
    np.testing.assert_array_equal(part.inputs(part.blocks[0], np.array([2])), whole[:, [4]])


def test_some_rows_keep_their_weights_in_proportion():
    rng = np.random.default_rng(0)
    weights = rng.random(40)
    weights[::5] = 0.0
    weights /= weights.sum()
    order = rng.permutation(40)
    data = RowBlocks(
        rng.standard_normal((40, 2)), np.ones((40, 1)), weights, np.zeros(2), np.ones(2), 1, order
    )
    few = data.sampled_rows(8)
    rows, kept = few.targets(few.blocks[0])
    assert len(rows) == 8
    assert kept.sum() == pytest.approx(1.0)
    chosen = order[weights[order] > 0.0][::4]
    np.testing.assert_allclose(kept, weights[chosen] / weights[chosen].sum())
    np.testing.assert_array_equal(few.inputs(few.blocks[0]), data.U[chosen])
    assert np.shares_memory(few.inputs(few.blocks[0]), few.U)  # gathered once
    others = data.sampled_rows(8, first=1)
    other = order[weights[order] > 0.0][1::4]
    assert not set(other) & set(chosen)
    np.testing.assert_array_equal(others.inputs(others.blocks[0]), data.U[other])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_few_rows_are_kept_as_they_are_used(kind, monkeypatch):
    rng = np.random.default_rng(0)
    U = rng.standard_normal((30, 4)).clip(0.0)
    given = U if kind == "dense" else sparse.csr_array(U)
    weights = rng.random(30)
    Y, order = rng.standard_normal((30, 2)), rng.permutation(30)[:20]
    data = RowBlocks(given, Y, weights, U.mean(axis=0), U.std(axis=0), order=order)
    kept = data.kept()
    block, other = data.blocks[0], kept.blocks[0]
    np.testing.assert_array_equal(kept.inputs(other), data.inputs(block))
    for one, two in zip(kept.targets(other), data.targets(block), strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.shares_memory(kept.inputs(other), kept.inputs(other))
    monkeypatch.setattr("bcd_implicit.statistics._KEPT_ENTRIES", 20 * 6 - 1)
    assert data.kept() is data


def test_threads_last_until_the_outermost_context_ends(make_data, small_blocks):
    data = make_data(n_threads=2)
    with data.threads():
        pool = data._pool
        assert pool is not None
        with data.threads():
            assert data._pool is pool
        assert data._pool is pool
    assert data._pool is None
