"""Tables that are read part by part: what holds the rows, and what runs a function over them.

A part is a range of rows that fits in memory. Functions see the raw inputs, targets and weights of
one part and return small results; which process they run in is the table's business.
"""

import mmap
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config

from bcd_implicit._threads import in_order, single_threaded_blas
from bcd_implicit._typing import IntArray
from bcd_implicit.cuts import aligned_rows
from bcd_implicit.sums import added

__all__ = ["READS", "StoredTable", "Table", "View", "attempted", "is_stored"]

READS = 3  # attempts at reading a part
_PAUSE = 0.1  # seconds before the second, and twice as long before the third
_SHARE = 16  # of the working memory that a part takes
_PARTS = 16  # at least, for the threads
_ROWS = (64, 8192)  # a part has no fewer, and need not have fewer for the sake of the threads

PartData: TypeAlias = tuple[Any, ...]  # inputs, targets and weights of a part


class Table(ABC):
    """Rows of inputs (m, p), targets and weights in parts.

    Attributes
    ----------
    shape : (int, int)
    sizes : tuple of int
        Rows of the parts.
    weighted : bool
        Whether there are weights.
    state_entries : int
        Numbers that may be remembered between passes, over all parts.
    overwrites : bool
        Whether what was remembered may be overwritten in place.
    """

    shape: tuple[int, int]
    sizes: tuple[int, ...]
    weighted: bool
    state_entries: int
    overwrites: bool

    @property
    def starts(self) -> list[int]:
        """First row of every part."""
        return [int(start) for start in np.cumsum((0, *self.sizes))[:-1]]

    @abstractmethod
    def map(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, inputs: bool
    ) -> list[Any]:
        """Return ``function(U, y, w, *arguments[i])`` of every part, in order.

        ``w`` is None without weights, and ``U`` without ``inputs``.
        """

    @abstractmethod
    def total(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        job: Any,
        memories: list[Any] | None,
        *,
        remembers: bool,
    ) -> tuple[Any, list[Any] | None]:
        """Add up ``function(U, y, w, *arguments[i], memory_i, job)`` over the parts, by `added`.

        With ``remembers`` the function returns what is to be added and a memory. Memories stay
        where the parts are; they are passed on by handing the returned list to the next call.
        """

    @abstractmethod
    def running(self, n_threads: int) -> Any:
        """Return a context for passes on so many threads."""


def attempted(read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns, which may fail twice before."""
    for attempt in range(1, READS):
        with suppress(OSError):
            return read()
        time.sleep(_PAUSE * 2 ** (attempt - 1))
    return read()


def is_stored(X: Any) -> bool:
    """Whether an array lies in a file: a memory map, or an array in chunks such as Zarr's."""
    if isinstance(X, np.memmap):
        return True
    known = all(hasattr(X, name) for name in ("shape", "dtype", "chunks", "__getitem__"))
    return known and not hasattr(X, "dask")


class View:
    """Some rows or columns of a stored array, read when they are asked for.

    Parameters
    ----------
    array : array-like of shape (m, p)
    rows, columns : ndarray of int, optional
        All by default.
    """

    chunks = None  # a stored array itself

    def __init__(self, array: Any, rows: IntArray | None, columns: IntArray | None) -> None:
        self._array, self._rows, self._columns = array, rows, columns
        m, p = array.shape
        self.shape = (m if rows is None else len(rows), p if columns is None else len(columns))
        self.dtype, self.ndim = array.dtype, 2

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read a range of rows."""
        part = _read_rows(self._array, rows if self._rows is None else self._rows[rows])
        return part if self._columns is None else part[:, self._columns]


class StoredTable(Table):
    """Arrays in files, of which a few parts at a time are read by the threads of this process.

    Parameters
    ----------
    U, y : array-like with slices, of shape (m, p), and (m,) or (m, q)
    weights : the same, of shape (m,), optional

    Notes
    -----
    A part takes a sixteenth of scikit-learn's ``working_memory``. Reading is tried three times.
    """

    def __init__(self, U: Any, y: Any, weights: Any = None) -> None:
        m, p = U.shape
        self._U, self._y, self._weights = U, y, weights
        self.shape, self.weighted = (m, p), weights is not None
        memory = int(get_config()["working_memory"] * 2**20)
        self.state_entries, self.overwrites = memory // 2 // 8, True
        size = max(memory // _SHARE // (8 * max(p, 1)), _ROWS[0])
        size = min(size, max(-(-m // _PARTS), _ROWS[1]))
        size -= size % aligned_rows(p) if size >= aligned_rows(p) else 0
        self.sizes = tuple(min(size, m - start) for start in range(0, m, size))
        self._pool: ThreadPoolExecutor | None = None
        self._n_threads = 1

    def map(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, inputs: bool
    ) -> list[Any]:
        """Return what the function makes of every part."""

        def work(i: int) -> Any:
            return function(*self._read(i, inputs), *arguments[i])

        return list(in_order(self._pool, work, range(len(self.sizes)), 2 * self._n_threads))

    def total(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        job: Any,
        memories: list[Any] | None,
        *,
        remembers: bool,
    ) -> tuple[Any, list[Any] | None]:
        """Add up what the function makes of the parts."""

        def work(i: int) -> Any:
            memory = None if memories is None else memories[i]
            return function(*self._read(i, inputs=True), *arguments[i], memory, job)

        total: Any = None
        kept: list[Any] = []
        results = in_order(self._pool, work, range(len(self.sizes)), 2 * self._n_threads)
        with closing(results):
            for result in results:
                sums, memory = result if remembers else (result, None)
                total = added(total, sums)
                kept.append(memory)
        return total, kept if remembers else None

    @contextmanager
    def running(self, n_threads: int) -> Iterator[None]:
        """Keep threads, and BLAS on one thread each, while the context lasts."""
        with single_threaded_blas():
            if n_threads == 1 or self._pool is not None:
                yield
                return
            with ThreadPoolExecutor(n_threads - 1) as pool:
                self._pool, self._n_threads = pool, n_threads
                try:
                    yield
                finally:
                    self._pool, self._n_threads = None, 1

    def inputs(self) -> Iterator[NDArray[Any]]:
        """Return the inputs of one part after the other."""
        for start, size in zip(self.starts, self.sizes, strict=True):
            yield _copy(self._U, slice(start, start + size))

    def _read(self, i: int, inputs: bool) -> PartData:
        """Return copies of the rows of a part."""
        start = self.starts[i]
        rows = slice(start, start + self.sizes[i])
        U = _copy(self._U, rows) if inputs else None
        if U is not None and U.dtype.kind == "f" and U.dtype not in (np.float32, np.float64):
            U = U.astype(np.float64)  # other floats, as scikit-learn has those in memory
        return (
            U,
            _copy(self._y, rows),
            None if self._weights is None else _copy(self._weights, rows),
        )


def _copy(array: Any, rows: slice) -> NDArray[Any]:
    """Return some rows in memory, and let go of the pages of the file that they were read from."""
    part: NDArray[Any] = attempted(lambda: np.array(array[rows]))
    _forget_pages(array)
    return part


def _read_rows(array: Any, rows: slice | IntArray) -> NDArray[Any]:
    """Return some rows of a stored array; of one in chunks those from the first to the last."""
    if isinstance(rows, slice) or isinstance(array, np.memmap):
        return np.asarray(array[rows])
    if not len(rows):
        return np.asarray(array[:0])
    low, high = int(rows.min()), int(rows.max()) + 1
    return np.asarray(array[low:high])[rows - low]


def _forget_pages(array: Any) -> None:
    """Give the pages of a shared memory map back: they count as memory of the process otherwise.

    Not those of a private map, which may hold changes that are nowhere else, nor those of a map
    that does not say what it is.
    """
    base, mode = array, None
    while isinstance(base, View):
        base = base._array
    while isinstance(base, np.ndarray):
        mode = getattr(base, "mode", mode)
        base = base.base
    shared = isinstance(base, mmap.mmap) and mode in ("r", "r+", "w+")
    if shared and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
