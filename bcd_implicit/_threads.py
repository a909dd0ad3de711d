"""Work on several threads, with the same result for any number of them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from itertools import islice
from threading import Lock
from typing import Any, Generic, TypeVar

from joblib import effective_n_jobs
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_block(work: Callable[[slice], None], blocks: list[slice], n_jobs: int | None) -> None:
    """Call ``work`` for every block; raise what the first of them raised.

    With several blocks BLAS runs on one thread, whatever ``n_jobs``; a single block is left alone,
    because setting the threads takes longer than a small prediction.
    """
    # joblib looks for its settings: a fifth of the time of one prediction
    threads = 1 if n_jobs is None else min(effective_n_jobs(n_jobs), len(blocks))
    if len(blocks) < 2:
        for rows in blocks:
            work(rows)
        return
    with single_threaded_blas():
        if threads == 1:
            for rows in blocks:
                work(rows)
            return
        failure: Exception | None = None
        with ThreadPoolExecutor(threads - 1) as pool:
            futures = [pool.submit(work, rows) for rows in blocks]
            try:
                # this thread works as well, from the end, where a new one would first have to start
                for rows, future in zip(reversed(blocks), reversed(futures), strict=True):
                    if not future.cancel():
                        break
                    try:
                        work(rows)
                    except Exception as error:
                        failure = error
                for future in futures:
                    if not future.cancelled():
                        future.result()
            finally:
                for future in futures:
                    future.cancel()
        if failure is not None:
            raise failure


def in_order(
    pool: ThreadPoolExecutor | None,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    most: int,
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` in the order of the items; this thread and those of the pool work.

    No more than ``most`` are under way or waiting to be taken, and none is left running when the
    generator ends, is closed or raises.
    """
    if pool is None:
        yield from map(work, items)
        return
    left = iter(items)
    calls: deque[_Call[Any]] = deque()
    try:
        while True:
            for item in islice(left, most - len(calls)):
                calls.append(_Call(pool, work, item))
            if not calls:
                return
            # a thread that waits for every result takes turns with those that work on the next
            while not calls[0].done() and any(call.taken_over() for call in calls):
                pass
            result = calls[0].result()
            calls.popleft()
            yield result
    finally:
        for call in calls:
            call.future.cancel()
        wait([call.future for call in calls])


class _Call(Generic[Result]):
    """A call on a pool, which another thread may take over before it has begun."""

    def __init__(
        self, pool: ThreadPoolExecutor, work: Callable[[Item], Result], item: Item
    ) -> None:
        self.future: Future[Result] = pool.submit(work, item)
        self._own: tuple[Result] | None = None
        self._work = partial(work, item)

    def done(self) -> bool:
        return self._own is not None or self.future.done()

    def taken_over(self) -> bool:
        """Make the call on this thread unless it has begun; return whether it was made."""
        if self._own is not None or not self.future.cancel():
            return False
        self._own = (self._work(),)
        return True

    def result(self) -> Result:
        return self.future.result() if self._own is None else self._own[0]


class _Limit:
    """BLAS on one thread for as long as anyone asks: the first sets it, the last takes it back."""

    def __init__(self) -> None:
        self._lock, self._users = Lock(), 0
        self._limiter: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limiter = _libraries().limit(limits=1, user_api="blas")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limiter.restore_original_limits()


_LIMIT = _Limit()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS on one thread while any such context lasts, on whatever thread."""
    with _LIMIT:
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Find the BLAS libraries once: it reads the process's memory map, 2 ms a time."""
    return ThreadpoolController()
