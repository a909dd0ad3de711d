"""Fits to more rows than fit in memory, or on several workers: rows a second, bytes and memory.

    python -m experiments.scale_out --rows 1_000_000 --workers 1 2

Rows are drawn from the article's teacher, chunk by chunk where they are used; nothing of the size
of the rows is in this process. ``--held-in memmap --folder DIR`` writes them to a file first and
streams them from there, ``memory`` reads that file into memory, and ``threads`` wraps it in a Dask
array for the threads of this process.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import numpy as np
from dask import array as da
from dask.delayed import delayed
from distributed import Client, LocalCluster, wait
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.exceptions import ConvergenceWarning

from bcd_implicit import ImplicitModel, ImplicitRegressor
from bcd_implicit.monitor import Record
from experiments.teacher import draw_teacher

__all__ = ["Progress", "chunk", "main", "measure"]

Array = NDArray[np.float32]

NOISE, CHUNK = 0.1, 250_000
# Dask's nannies have workers give every array back to the system and page in the next one anew: a
# pass takes 1.6 times as long.
_KEEP_MEMORY = {
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**28,
}


def chunk(teacher: ImplicitModel, noise: float, index: int, size: int) -> Array:
    """Return rows of inputs and, in the last column, targets."""
    rng = np.random.default_rng([1, index])
    rows = np.empty((size, teacher.n_inputs + 1), dtype=np.float32)
    rows[:, :-1] = rng.standard_normal((size, teacher.n_inputs), dtype=np.float32)
    rows[:, -1:] = teacher.predict(rows[:, :-1]) + noise * rng.standard_normal((size, 1))
    return rows


@dataclass
class Progress:
    """What the passes over all rows took: a callback of a fit.

    Attributes
    ----------
    rows : int
        The iterations on all rows count, those on parts of them do not.
    client : distributed.Client, optional
        Whose workers tell what they have sent.
    seconds, passes, sent : list
        At the end of every iteration.
    """

    rows: int
    client: Any = None
    seconds: list[float] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def __call__(self, record: Record) -> None:
        """Take notice of an iteration."""
        if record["rows"] == self.rows and record["phase"] == "exact":
            self.seconds.append(record["seconds"])
            self.passes.append(record["passes"])
            if self.client is not None:
                self.sent.append(sum(self.client.run(_sent).values()))

    def seconds_an_iteration(self) -> float:
        """Return the median."""
        return float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else float("nan")

    def passes_an_iteration(self) -> float:
        """Return the mean."""
        return float(np.mean(np.diff(self.passes))) if len(self.passes) > 1 else float("nan")

    def bytes_a_pass(self) -> float:
        """Return what the workers have sent in iterations of the fewest passes, the median."""
        if len(self.sent) < 2:
            return 0.0
        sent, passes = np.diff(self.sent), np.diff(self.passes)
        fewest = passes.min()  # others try a step again, which sends less than the sums
        return float(np.median(sent[passes == fewest]) / fewest)


def main(arguments: list[str] | None = None) -> None:
    """Fit, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--inputs", type=int, default=50)
    parser.add_argument("--states", type=int, default=20, help="of the model that is fitted")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[2],
        help="single-threaded processes, or threads of this one; the fits of several are compared",
    )
    parser.add_argument("--chunk-rows", type=int, default=CHUNK)
    parser.add_argument(
        "--held-in", choices=["cluster", "memmap", "memory", "threads"], default="cluster"
    )
    parser.add_argument("--folder", type=Path, help="where the file is, or is written")
    parser.add_argument("--max-iter", type=int, default=500)
    options = parser.parse_args(arguments)
    if options.held_in != "cluster" and options.folder is None:
        parser.error(f"--held-in {options.held_in} needs --folder")
    least = min(options.rows, options.states, options.chunk_rows, options.max_iter)
    if min(least, *options.workers) < 1 or options.inputs < 10:
        parser.error("numbers must be at least 1, and --inputs 10, as many as matter")
    warnings.simplefilter("ignore", ConvergenceWarning)
    size = f"{options.rows:,} rows x {options.inputs} inputs, {options.states} states"
    table = Table(title=f"{size}, {options.held_in}")
    table.add_column("workers or threads")
    found, seconds = [], []
    for workers in options.workers:
        table.add_column(str(workers))
        measured, each = measure(options, workers)
        found.append(measured)
        seconds.append(each)
    for name in found[0]:
        table.add_row(name, *(measured[name] for measured in found))
    table.add_row("speed-up", *(f"{seconds[0] / each:.2f}" for each in seconds))
    Console().print(table)


def measure(options: argparse.Namespace, workers: int) -> tuple[dict[str, str], float]:
    """Fit as the options say; return what is to be printed, and the seconds of an iteration."""
    teacher, support = draw_teacher(np.random.default_rng(0), options.inputs, 1)
    noise = NOISE * float(np.std(teacher.predict(chunk(teacher, 0.0, 0, 10_000)[:, :-1])))
    model = ImplicitRegressor(
        options.states,
        alpha=0.003,
        fit_feedthrough=False,
        max_iter=options.max_iter,
        random_state=0,
        n_jobs=workers,
    )
    _warm_up(model, options.inputs)
    before = _memory("VmRSS")
    with _data(options, workers, teacher, noise) as (X, y, client):
        progress = Progress(options.rows, client)
        began = time.perf_counter()
        model.set_params(callback=progress).fit(X, y)
        seconds = time.perf_counter() - began
        peaks = client.run(lambda: _memory("VmHWM")) if client is not None else {}
    each = progress.seconds_an_iteration()
    found = {
        "whole fit": f"{seconds:.1f} s, {model.n_iter_} iterations, {len(progress.seconds)} on all",
        "an iteration": f"{each:.3f} s, {1e6 * each / options.rows:.3f} us a row, "
        f"{progress.passes_an_iteration():.2f} passes",
        "rows a second": f"{options.rows / each:,.0f}",
        "peak memory, this process above import": f"{_memory('VmHWM') - before:.0f} MB",
        "wrong inputs": str(int((model.support_ != support).sum())),
        "objective": f"{model.objective_:.9f}",
    }
    if peaks:
        found["peak memory of a worker"] = f"{max(peaks.values()):.0f} MB"
        found["sent by workers a pass"] = f"{progress.bytes_a_pass():,.0f} bytes"
    return found, each


@contextmanager
def _data(
    options: argparse.Namespace, workers: int, teacher: ImplicitModel, noise: float
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield inputs, targets and the client of a cluster if there is one."""
    if options.held_in != "cluster":
        X, y = _stored(options.folder, options.rows, teacher, noise)
        if options.held_in == "memory":
            X, y = np.array(X), np.array(y)
        if options.held_in == "threads":
            X = da.from_array(X, chunks=(options.chunk_rows, options.inputs))
        with dask.config.set(num_workers=workers):
            yield X, y, None
        return
    sizes = [options.chunk_rows] * (options.rows // options.chunk_rows)
    if left := options.rows - sum(sizes):
        sizes.append(left)
    with (
        dask.config.set(_KEEP_MEMORY),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        shares = np.array_split(np.arange(len(sizes)), workers)
        addresses = sorted(client.scheduler_info(n_workers=-1)["workers"])
        parts = []
        for share, worker in zip(shares, addresses, strict=True):
            rows = da.concatenate(
                [
                    da.from_delayed(
                        delayed(chunk)(teacher, noise, int(index), sizes[index]),
                        (sizes[index], options.inputs + 1),
                        np.float32,
                    )
                    for index in share
                ]
            )
            parts.append(client.persist([rows[:, :-1], rows[:, -1]], workers=[worker]))
        wait(parts)
        X, y = (da.concatenate(blocks) for blocks in zip(*parts, strict=True))
        yield X, y, client


def _stored(
    folder: Path, rows: int, teacher: ImplicitModel, noise: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return maps of files of inputs and targets, which are written unless they are there."""
    p = teacher.n_inputs
    paths = folder / f"inputs_{rows}_{p}.dat", folder / f"targets_{rows}_{p}.dat"
    if not all(path.exists() for path in paths):
        with paths[0].open("wb") as inputs, paths[1].open("wb") as targets:
            for index, start in enumerate(range(0, rows, CHUNK)):
                part = chunk(teacher, noise, index, min(CHUNK, rows - start))
                part[:, :-1].tofile(inputs)
                part[:, -1].tofile(targets)
    return (
        np.memmap(paths[0], np.float32, "r", shape=(rows, p)),
        np.memmap(paths[1], np.float32, "r", shape=(rows,)),
    )


def _warm_up(model: ImplicitRegressor, n_inputs: int) -> None:
    """Compile, so that neither its time nor its memory counts."""
    rng = np.random.default_rng(0)
    few = ImplicitRegressor(**(model.get_params() | {"max_iter": 2}))
    few.fit(rng.standard_normal((300, n_inputs)), rng.standard_normal(300))


def _sent(dask_worker: Any) -> int:
    return int(dask_worker.transfer_outgoing_bytes_total)


def _memory(what: str) -> float:
    """Return the resident memory of this process in MB: now (VmRSS), or at most (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) / 1024
    return float("nan")


if __name__ == "__main__":
    main()
