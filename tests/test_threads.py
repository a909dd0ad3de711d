"""Blocks of rows on several threads."""

import threading

import pytest

from bcd_implicit._threads import each_block

BLOCKS = [slice(i, i + 1) for i in range(20)]


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 50])
def test_every_block_is_worked_on_once(n_jobs):
    seen = []
    each_block(lambda rows: seen.append(rows.start), BLOCKS, n_jobs)
    assert sorted(seen) == list(range(20))


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_the_first_failure_is_raised(n_jobs):
    def work(rows):
        if rows.start in (3, 17):
            raise ValueError(f"block {rows.start}")

    with pytest.raises(ValueError, match="block 3"):
        each_block(work, BLOCKS, n_jobs)


def test_a_failure_in_the_calling_thread_is_raised():
    called = threading.Event()

    def work(rows):
        if threading.current_thread() is threading.main_thread():
            called.set()
            raise ValueError(f"block {rows.start}")
        assert called.wait(60)

    with pytest.raises(ValueError, match="block"):
        each_block(work, BLOCKS, 2)


def test_an_interrupt_leaves_blocks_undone():
    interrupted = threading.Event()
    seen = []

    def work(rows):
        if threading.current_thread() is threading.main_thread():
            interrupted.set()
            raise KeyboardInterrupt
        assert interrupted.wait(60)
        seen.append(rows.start)

    with pytest.raises(KeyboardInterrupt):
        each_block(work, BLOCKS, 2)
    assert len(seen) < 19
