"""Row blocks on several threads, with the same result for any number of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from joblib import effective_n_jobs
from threadpoolctl import threadpool_limits


def each_block(work: Callable[[slice], None], blocks: list[slice], n_jobs: int | None) -> None:
    """Call ``work`` for every block; raise what the first of them raised.

    With several blocks BLAS runs on one thread, whatever ``n_jobs``; a single block is left alone,
    because setting the threads takes longer than a small prediction.
    """
    threads = min(effective_n_jobs(n_jobs), len(blocks))
    if len(blocks) < 2:
        for rows in blocks:
            work(rows)
        return
    with threadpool_limits(1, user_api="blas"):
        if threads == 1:
            for rows in blocks:
                work(rows)
            return
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(work, rows) for rows in blocks]
            try:
                for future in futures:
                    future.result()
            finally:
                for future in futures:
                    future.cancel()
