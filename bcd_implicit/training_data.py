"""The one way in which training sees the data: sums over row blocks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from bcd_implicit._typing import IntArray
from bcd_implicit.sums import Sums

if TYPE_CHECKING:
    from bcd_implicit.statistics import RowBlocks

__all__ = ["PassCounter", "TrainingData"]


class TrainingData(ABC):
    """What training asks of the rows of a data set, wherever they are.

    Attributes
    ----------
    n_samples, n_inputs, n_outputs : int
    n_threads : int
    passes : int
        Number of sums over all rows that were taken.
    """

    n_samples: int
    n_inputs: int
    n_outputs: int
    n_threads: int
    passes: int = 0

    @abstractmethod
    def only(self, columns: IntArray) -> "TrainingData":
        """Return the same rows with some of the inputs; only a few rows are copied."""

    @abstractmethod
    def sampled_rows(self, size: int, first: int = 0, *, compact: bool = False) -> "TrainingData":
        """Return about ``size`` of the rows, spread evenly, with weights that sum to one again.

        Another ``first``, below the number of rows over ``size``, gives other rows. With
        ``compact`` they take little memory, and are good for objectives.
        """

    @abstractmethod
    def in_memory(self) -> "RowBlocks":
        """Return the same rows in memory."""

    @abstractmethod
    def threads(self) -> AbstractContextManager[None]:
        """Keep the threads, and BLAS on one thread each, while the context lasts."""

    @abstractmethod
    def sum(self, function: Callable[[Any], Sums], *, solves: bool = False) -> Sums:
        """Add what ``function`` returns for the blocks, entry by entry of its tuple.

        Parameters
        ----------
        function : callable
            Takes a `Block` and knows nothing else of the data: it may run in another process.
        solves : bool
            Whether it calls `Block.solve_trial`.
        """

    @abstractmethod
    def start_states(self, n: int) -> None:
        """Forget all states."""

    @abstractmethod
    def scale_trial(self, s: float) -> None:
        """Multiply the states of the trial."""

    @abstractmethod
    def accept_trial(self) -> None:
        """Make the states of the trial the accepted ones."""


class PassCounter:
    """Count the passes over some data since it was asked before."""

    def __init__(self, *data: TrainingData) -> None:
        self._data = data
        self._before = self._total()

    def __call__(self) -> int:
        """Return their number."""
        before, self._before = self._before, self._total()
        return self._before - before

    def _total(self) -> int:
        return sum(some.passes for some in self._data)
