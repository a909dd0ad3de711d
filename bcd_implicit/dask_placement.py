"""Where tasks on chunks run: each chunk, and what is kept beside it, stays on one worker.

Left to itself, Dask moves chunks and states to whichever worker is idle first, again and again.
Here every worker gets a fair share of the chunks, those that it holds already before others, and
tasks are restricted to it; sums of several chunks are added where one in the middle lies. A task
whose worker is gone would wait for ever: a plugin of the scheduler lifts the restriction as soon as
no worker can run the task.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
from dask.base import annotate, get_scheduler

__all__ = ["Homes", "current_client", "placed"]

_PLUGIN = "bcd_implicit-homes"
_MARK = "bcd_implicit_home"  # an annotation of the tasks that the plugin looks after


def current_client() -> Any:
    """Return the client that computations go to, or None."""
    try:
        from distributed import default_client
    except ImportError:
        return None
    try:
        client = default_client()
    except ValueError:
        return None
    # a setting may send computations elsewhere while a client is there
    goes_there = getattr(get_scheduler(), "__self__", None) is client
    return client if goes_there and client.status == "running" else None


class Homes:
    """The workers of runs of chunks of an array, and of parts of the rows.

    Parameters
    ----------
    U : dask.array.Array of shape (m, p)
    runs : list of slice
        Of chunks.
    parts : list of int
        The run of each part.
    """

    def __init__(self, U: Any, runs: list[slice], parts: list[int]) -> None:
        self._homes: list[str | None] = [None] * len(runs)
        self._parts = parts
        client = current_client()
        self._kept = client is not None and _looked_after(client)
        if self._kept:
            where = {str(key): held for key, held in client.who_has(client.futures_of(U)).items()}
            needed = U.__dask_graph__().get_all_dependencies()
            holders = [_holder(row[0], needed, where) for row in U.__dask_keys__()]
            self._homes = [_mostly(holders[run]) for run in runs]

    def __iter__(self) -> Iterator[int]:
        """Count the parts; what is made in each turn runs on the worker of their run."""
        client = current_client() if self._kept else None
        threads: dict[str, int] = {}
        if client is not None:
            workers = client.scheduler_info(n_workers=-1)["workers"]
            threads = {address: workers[address]["nthreads"] for address in sorted(workers)}
        if not threads:
            self._homes = [None] * len(self._homes)
            yield from range(len(self._parts))
            return
        self._homes = [*placed(self._homes, threads)]
        for i, run in enumerate(self._parts):
            with self.beside(run):
                yield i

    def run(self, i: int) -> int:
        """Return the run of part ``i``."""
        return self._parts[i]

    def beside(self, run: int) -> AbstractContextManager[Any]:
        """Return a context whose tasks run on the worker of a run, if it has one."""
        home = self._homes[run]
        if home is None:
            return nullcontext()
        restricted = {"workers": [home], "allow_other_workers": False, _MARK: True}
        return cast(AbstractContextManager[Any], annotate(**restricted))


def _holder(
    key: Any, needed: Mapping[Any, Set[Any]], where: dict[str, Sequence[str]]
) -> str | None:
    """Return who holds a chunk, or the first that is found of what it is made of."""
    left, seen = [key], {key}
    while left:
        key = left.pop()
        if where.get(str(key)):
            return where[str(key)][0]
        new = needed.get(key, set()) - seen  # a chunk that is persisted depends on itself
        seen |= new
        left += sorted(new, key=str)
    return None


def _mostly(holders: list[str | None]) -> str | None:
    """Return who holds most chunks of a run."""
    return max(dict.fromkeys(holders), key=holders.count)


def placed(homes: list[str | None], threads: dict[str, int]) -> list[str]:
    """Return a worker for every run of chunks, as they were as far as that is fair.

    Parameters
    ----------
    homes : list of str or None
        Where the runs are; a worker that is not there any more counts as nowhere.
    threads : dict
        Number of threads of every worker, by which runs are shared out.

    Examples
    --------
    >>> placed(["a", None, "gone", "a", "a"], {"a": 1, "b": 1})
    ['a', 'b', 'b', 'a', 'a']
    >>> placed([None] * 7, {"a": 1, "b": 1, "c": 1})
    ['a', 'a', 'b', 'b', 'b', 'c', 'c']
    """
    shares = np.cumsum(list(threads.values())) / sum(threads.values())
    bounds = np.round(shares * len(homes)).astype(int)
    room = dict(zip(threads, np.diff(bounds, prepend=0).tolist(), strict=True))
    spare = int(len(homes) % len(threads) > 0)  # a chunk more is no reason to move one
    result: list[str | None] = []
    for home in homes:
        stays = home is not None and room.get(home, -spare) > -spare
        result.append(home if stays else None)
        if home is not None and stays:
            room[home] -= 1
    free = (name for name, left in room.items() for _ in range(left))
    return [next(free) if home is None else home for home in result]


def _looked_after(client: Any) -> bool:
    """Register the plugin, if the scheduler accepts any."""
    try:
        client.register_plugin(_lifting_plugin(), name=_PLUGIN)
    except ValueError:  # unpickling is forbidden there
        return False
    return True


def _lifting_plugin() -> Any:
    """Return the plugin; its class is local so that the scheduler need not have this package."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    mark, cause = _MARK, _PLUGIN

    class Lifting(SchedulerPlugin):
        """Let a task that no worker can run take any worker."""

        idempotent = True

        async def start(self, scheduler: Any) -> None:
            """Remember the scheduler."""
            self.scheduler = scheduler

        def transition(self, key: Any, start: Any, finish: Any, *_: Any, **__: Any) -> None:
            """Lift the restriction of a task of ours that no worker can meet."""
            del start  # only where it ends matters
            if finish == "no-worker":
                task = self.scheduler.tasks[key]
                if mark in (task.annotations or {}):
                    task.worker_restrictions = None
                    self.scheduler.loop.add_callback(self.run_again, key)

        def run_again(self, key: Any) -> None:
            """Let the task run, unless it waits for the first worker to come."""
            task = self.scheduler.tasks.get(key)
            if task is not None and task.state == "no-worker" and self.scheduler.running:
                self.scheduler.transitions({key: "waiting"}, cause)

    return Lifting()
