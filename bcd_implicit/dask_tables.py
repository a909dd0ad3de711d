"""Tables whose parts are the chunks of Dask collections: every pass runs where the chunks lie.

A pass is one graph: a task for each chunk, named after what it computes, and a tree of additions in
a fixed order. What is remembered of the states is a result like any other, which Dask keeps on the
workers. Lost chunks, states and sums are Dask's to compute again.

Chunks need not end where blocks of rows do (`bcd_implicit.cuts`). The rows about the end of one and
the beginning of the next that share a block are then a part of their own, which is kept. Short
chunks are joined into runs first, in each pass anew.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial, reduce
from itertools import count, groupby
from operator import itemgetter
from typing import Any
from uuid import uuid4

import numpy as np
from dask import array as da
from dask.base import compute, is_dask_collection, persist
from dask.delayed import delayed
from numpy.typing import NDArray
from sklearn import get_config

from bcd_implicit._threads import single_threaded_blas
from bcd_implicit.cuts import Cut, aligned_rows, chunk_runs, part_cuts
from bcd_implicit.dask_placement import Homes, current_client
from bcd_implicit.exceptions import DataLostError
from bcd_implicit.sums import added
from bcd_implicit.tables import READS, Table, attempted

__all__ = ["DaskTable", "chunks_by_rows"]

_FAN_IN = 4  # of the tree of additions: 2 would take more rounds, 8 more bytes
_CANCELLED = (CancelledError, asyncio.CancelledError)


class DaskTable(Table):
    """Chunks of rows of Dask arrays.

    Parameters
    ----------
    U : dask.array.Array of shape (m, p)
        In chunks of whole rows, see `chunks_by_rows`.
    y, weights : dask.array.Array or array-like, of shape (m,) or (m, q), and (m,), optional

    Raises
    ------
    ValueError
        If the numbers of rows differ.
    """

    def __init__(self, U: Any, y: Any, weights: Any = None) -> None:
        self.shape, self.weighted = U.shape, weights is not None
        data = [U, _aligned(y, U, "y")]
        if weights is not None:
            data.append(_aligned(weights, U, "sample_weight"))
        size, lengths = aligned_rows(U.shape[1]), U.chunks[0]
        runs = chunk_runs(lengths, size)
        cuts = part_cuts([sum(lengths[run]) for run in runs], size)
        self.sizes = tuple(cut.stop - cut.start for cut in cuts)
        self.state_entries, self.overwrites = _memory() // 8, False
        self._on_cluster = current_client() is not None  # its status changes when it is lost
        self._homes = Homes(U, runs, [cut.run for cut in cuts])
        self._parts = self._delayed(data, runs, cuts)

    def map(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, inputs: bool
    ) -> list[Any]:
        """Return what the function makes of every chunk."""
        task = delayed(partial(_on_rows, function), pure=False)
        name, token = _name(function), uuid4().hex
        results = [
            task(
                *self._data(i, inputs),
                *(delayed(argument, traverse=False) for argument in arguments[i]),
                dask_key_name=f"{name}-{token}-{i}",
            )
            for i in self._homes
        ]
        return list(self._run(compute, *results))

    def total(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        job: Any,
        memories: list[Any] | None,
        *,
        remembers: bool,
    ) -> tuple[Any, list[Any] | None]:
        """Add up what the function makes of the chunks."""
        name, token = _name(job.function), uuid4().hex
        task = delayed(_on_chunk, pure=False)
        # a node of its own, which is sent to each worker once
        constant = delayed((function, job), traverse=False, name=f"constant-{token}")
        sums, kept = [], []
        for i in self._homes:
            result = task(
                constant,
                arguments[i],
                None if memories is None else memories[i],
                *self._data(i, inputs=True),
                dask_key_name=f"{name}-{token}-{i}",
            )
            if remembers:
                kept.append(result)
                result = delayed(_sums, pure=False)(result, dask_key_name=f"part-{token}-{i}")
            sums.append(result)
        total = self._tree(sums, token)
        if not remembers:
            return self._run(compute, total)[0], None
        total, *kept = self._run(persist, total, *kept)
        return self._run(_gathered if self._on_cluster else compute, total)[0], kept

    def _delayed(
        self, data: list[Any], runs: list[slice], cuts: list[Cut]
    ) -> list[tuple[Any, ...]]:
        """Return for every part which rows of a run it is, and inputs, targets and weights."""
        take, join = (delayed(function, pure=False) for function in (_take, _joined))
        chunks = [_delayed_chunks(values) for values in data]
        firsts = np.cumsum((0, *(sum(data[0].chunks[0][run]) for run in runs))).tolist()
        parts: list[tuple[slice, list[Any]]] = []
        shared: list[list[Any]] = []  # of parts that lie in several runs
        for i in self._homes:
            run, start, stop = cuts[i]
            first, end = firsts[run : run + 2]
            rows = slice(start - first, stop - first)
            own = [values[runs[run]] for values in chunks]
            if stop > end:
                # each taken where it lies: a chunk that had been moved would be moved in every pass
                with self._homes.beside(run):
                    tails = [take(values, slice(start - first, None)) for values in own]
                with self._homes.beside(run + 1):
                    after = [values[runs[run + 1]] for values in chunks]
                    heads = [take(values, slice(stop - end)) for values in after]
                rows = slice(None)
                own = [[join([*both])] for both in zip(tails, heads, strict=True)]
                shared.append(own)
            parts.append((rows, own))
        if shared:
            kept = iter(self._run(persist, *(node for own in shared for [node] in own)))
            for own in shared:
                own[:] = [[next(kept)] for _ in own]
        nothing = [] if self.weighted else [None]
        return [(rows, *own, *nothing) for rows, own in parts]

    def _tree(self, sums: list[Any], token: str) -> Any:
        """Add up the parts of each run, then runs four by four; one in the middle adds."""
        task = delayed(_added, pure=False)
        terms = [(self._homes.run(i), result) for i, result in enumerate(sums)]
        groups = [list(own) for _, own in groupby(terms, key=itemgetter(0))]
        for round_ in count():
            terms = []
            for i, group in enumerate(groups):
                run, total = group[len(group) // 2]
                if len(group) > 1:
                    with self._homes.beside(run):
                        results = (result for _, result in group)
                        total = task(*results, dask_key_name=f"add-{token}-{round_}-{i}")
                terms.append((run, total))
            if len(terms) == 1:
                break
            groups = [terms[i : i + _FAN_IN] for i in range(0, len(terms), _FAN_IN)]
        return terms[0][1]

    def _data(self, i: int, inputs: bool) -> tuple[Any, ...]:
        rows, U, *others = self._parts[i]
        return (rows, U if inputs else None, *others)

    def _run(self, how: Callable[..., Any], *nodes: Any) -> tuple[Any, ...]:
        return _run(how, nodes, on_cluster=self._on_cluster)

    @contextmanager
    def running(self, n_threads: int) -> Iterator[None]:
        """Keep BLAS on one thread in this process; the workers see to themselves."""
        del n_threads  # the scheduler's business
        with single_threaded_blas():
            yield


def chunks_by_rows(X: Any) -> Any:
    """Return a Dask array of known size in chunks of whole rows, from an array or a data frame.

    The lengths of the partitions of a data frame are counted, which reads it once.
    """
    others = {*X.dtypes} - {np.dtype("f4"), np.dtype("f8")} if hasattr(X, "iterrows") else set()
    if others and all(dtype.kind in "fiub" for dtype in others):
        X = X.astype(np.float64)  # mixed with booleans, or nullable, they would be objects
    X = _sized(X)
    if X.ndim != 2:
        raise ValueError(f"X must be two-dimensional; got shape {X.shape}")
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X must hold real numbers; got dtype {X.dtype}")
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def _sized(values: Any) -> Any:
    """Return an array whose size is known."""
    if hasattr(values, "to_dask_array"):
        values = attempted(partial(values.to_dask_array, lengths=True))
    if any(np.isnan(size) for size in values.shape):
        values = values.copy()
        attempted(values.compute_chunk_sizes)
    return values


def _aligned(values: Any, U: Any, name: str) -> Any:
    """Return targets or weights in the row chunks of the inputs."""
    values = _sized(values) if is_dask_collection(values) else np.asarray(values)
    if values.shape[:1] != U.shape[:1]:
        raise ValueError(f"{name} must have {U.shape[0]} rows, as X has; got shape {values.shape}")
    whole = tuple(-1 for _ in values.shape[1:])
    if isinstance(values, np.ndarray):
        chunks = (U.chunks[0], *whole)
        return da.from_array(values, chunks=chunks)
    return values.rechunk((U.chunks[0], *whole))


def _delayed_chunks(X: Any) -> list[Any]:
    return list(X.to_delayed().ravel())


def _joined(chunks: list[NDArray[Any]]) -> NDArray[Any]:
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def _take(chunks: list[NDArray[Any]], rows: slice) -> NDArray[Any]:
    return _joined(chunks)[rows].copy()


def _on_rows(function: Callable[..., Any], rows: slice, *arguments: Any) -> Any:
    """Call a function with some of the rows of a run."""
    data, rest = arguments[:3], arguments[3:]
    parts = (None if chunks is None else _joined(chunks)[rows] for chunks in data)
    return function(*parts, *rest)


def _on_chunk(
    task: tuple[Callable[..., Any], Any],
    arguments: tuple[Any, ...],
    memory: tuple[Any, ...] | None,
    *data: Any,
) -> Any:
    """Call the function; what is remembered comes as what it returned with its sums."""
    function, job = task
    if memory is not None:
        memory = tuple(None if result is None else result[1] for result in memory)
    return _on_rows(function, *data, *arguments, memory, job)


def _sums(result: tuple[Any, Any]) -> Any:
    return result[0]


def _added(*results: Any) -> Any:
    return reduce(added, results)


def _gathered(node: Any, **_: Any) -> tuple[Any, ...]:
    """Fetch what has been persisted, without another graph for the scheduler."""
    from distributed import default_client, futures_of

    return tuple(default_client().gather(futures_of(node)))


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "pass")).strip("_<>")


def _memory() -> int:
    """Bytes that states may take where the chunks lie: a quarter of all, or half of ours."""
    client = current_client()
    if client is None:
        return int(get_config()["working_memory"] * 2**20) // 2
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(worker["memory_limit"] for worker in workers) // 4 or 2**30


def _run(how: Callable[..., Any], nodes: Sequence[Any], *, on_cluster: bool) -> tuple[Any, ...]:
    """Compute with a few attempts at what fails; say so if the cluster is gone."""
    if on_cluster:
        from distributed.client import ClosedClientError
        from distributed.comm.core import CommClosedError

        try:
            return tuple(how(*nodes, optimize_graph=False, retries=READS - 1))
        except (ClosedClientError, CommClosedError, *_CANCELLED, TimeoutError) as error:
            message = f"the Dask scheduler that holds the data is gone: {error}"
            raise DataLostError(message) from error
    return tuple(attempted(lambda: how(*nodes, optimize_graph=False)))
