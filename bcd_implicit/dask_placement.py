"""Where tasks on chunks run: beside the chunks, as long as the workers live.

Without a preference Dask moves chunks, and the states beside them, to whichever worker is idle
first. With one, a task that finds no worker at all is never run again (Dask 2026.8), not even on
workers that come later: a plugin of the scheduler lets such tasks forget their preference.
"""

from collections.abc import Iterator
from typing import Any

from dask.base import annotate

__all__ = ["Homes", "current_client"]

_PLUGIN = "bcd_implicit-homes"


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
    return client if client.status == "running" else None


class Homes:
    """The workers that the chunks of an array are on, or where those that are read shall be.

    Parameters
    ----------
    U : dask.array.Array of shape (m, p)
    """

    def __init__(self, U: Any) -> None:
        self._homes: list[str | None] = [None] * U.numblocks[0]
        client = current_client()
        if client is not None:
            client.register_plugin(_forgetting_plugin(), name=_PLUGIN)
            where = {
                str(key): list(workers)
                for key, workers in client.who_has(client.futures_of(U)).items()
            }
            keys = [str(row[0]) for row in U.__dask_keys__()]
            self._homes = [next(iter(where.get(key, ())), None) for key in keys]

    def __iter__(self) -> Iterator[int]:
        """Count the chunks; what is made in each turn prefers the worker where the chunk is."""
        client = current_client()
        alive = [] if client is None else sorted(client.scheduler_info(n_workers=-1)["workers"])
        for i, home in enumerate(self._homes):
            if not alive:
                yield i
                continue
            if home not in alive:
                self._homes[i] = home = alive[i * len(alive) // len(self._homes)]
            with annotate(workers=[home], allow_other_workers=True):
                yield i


def _forgetting_plugin() -> Any:
    """Return the plugin; its class is local so that the scheduler need not have this package."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Forgetting(SchedulerPlugin):
        """Let a task that no worker can run take any worker that comes."""

        idempotent = True

        async def start(self, scheduler: Any) -> None:
            """Remember the scheduler."""
            self.scheduler = scheduler

        def transition(self, key: Any, start: Any, finish: Any, *_: Any, **__: Any) -> None:
            """Drop a preference that cannot be met."""
            del start  # only where it ends matters
            if finish == "no-worker":
                task = self.scheduler.tasks[key]
                if task.loose_restrictions:
                    task.worker_restrictions = None

    return Forgetting()
