"""What a fit says while it runs: the history, the lines of ``verbose``, and the callback."""

import sys
import time
from collections.abc import Callable
from typing import TypedDict

from bcd_implicit.journal import Journal

__all__ = ["Callback", "Monitor", "Record"]


class Record(TypedDict):
    """One entry of the history.

    ``stage`` is "search" while strengths are tried and "final" after; ``rows`` the number of rows
    that the objective is taken over: many rows are begun with a few of them. ``objective`` is the
    true objective at the true equilibrium; ``lifted_objective`` that of phase one. What was not
    evaluated at an update is NaN. ``equilibrium_residual`` is the proven bound of the error of the
    states; ``step`` the length of a Gauss-Newton step. ``passes`` counts those over the rows since
    the fit began; a fit that is taken up again counts what it repeats once more.
    """

    stage: str
    start: int
    rows: int
    phase: str
    block: str
    objective: float
    lifted_objective: float
    equilibrium_residual: float
    active_inputs: int
    step: float
    passes: int
    seconds: float


Callback = Callable[[Record], object]

_NAN = float("nan")


class Monitor:
    """Collect the history of a fit and pass each record on.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 writes a line for every tenth update, 2 for every one, to ``sys.stdout``.
    callback : callable, optional
        Called with each record. What it raises ends the fit.
    keep : bool
        Whether the history is read later. Otherwise nothing is evaluated for records alone, and
        none are kept, unless there is someone else to hear them.

    Attributes
    ----------
    heard : bool
        Whether anyone is told: what only records need is not evaluated otherwise.

    Examples
    --------
    >>> monitor = Monitor()
    >>> monitor.record("exact", "ABD", objective=0.5, active_inputs=3)
    >>> [record["phase"] for record in monitor.history]
    ['exact']
    """

    def __init__(
        self, verbose: int = 0, callback: Callback | None = None, *, keep: bool = True
    ) -> None:
        self.history: list[Record] = []
        self.stage, self.start, self.rows = "final", 0, 0
        self.journal = Journal()
        self.passes = 0
        self._place = 0  # in the history, where a fit that is taken up again has got to
        self._verbose, self._callback = int(verbose), callback
        self.heard = keep or self._verbose > 0 or callback is not None
        self._began = time.perf_counter()

    def record(
        self,
        phase: str,
        block: str,
        *,
        active_inputs: int,
        objective: float = _NAN,
        lifted_objective: float = _NAN,
        equilibrium_residual: float = _NAN,
        step: float = _NAN,
        passes: int = 0,
    ) -> None:
        """Append a record of the current start, if it is heard and not in the history already.

        ``passes`` are those since the record before.
        """
        self._place += 1
        self.passes += passes
        if not self.heard or self._place <= len(self.history):
            return
        record = Record(
            stage=self.stage,
            start=self.start,
            rows=self.rows,
            phase=phase,
            block=block,
            objective=objective,
            lifted_objective=lifted_objective,
            equilibrium_residual=equilibrium_residual,
            active_inputs=active_inputs,
            step=step,
            passes=self.passes,
            seconds=time.perf_counter() - self._began,
        )
        self.history.append(record)
        if self._verbose > 1 or (self._verbose == 1 and len(self.history) % 10 == 1):
            sys.stdout.write(
                f"{record['seconds']:8.2f} s  update {len(self.history)}  {self.stage} "
                f"{self.start}  rows {self.rows}  {phase:6s} {block:3s}  "
                f"objective {objective:.6g}  lifted {lifted_objective:.6g}  "
                f"residual {equilibrium_residual:.2g}  active {active_inputs}  "
                f"passes {self.passes}\n"
            )
        if self._callback is not None:
            self._callback(record)

    @property
    def place(self) -> int:
        """Number of records made, those that were in the history already included."""
        return self._place

    def go_on(self, history: list[Record]) -> None:
        """Take over the history of a fit that is taken up again; the clock goes on."""
        self.history, self._place = history, 0
        if history:
            self.passes = history[-1]["passes"]
            self._began = time.perf_counter() - history[-1]["seconds"]

    def skip(self, place: int) -> None:
        """Go on after a part of the history that need not be made again."""
        self._place = max(self._place, place)
