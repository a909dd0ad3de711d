"""Time contenders in turn, and keep what they reached.

pyperf, pytest-benchmark and asv time one function after the other; on a machine whose speed drifts
ratios need contenders that alternate, so the loop is here.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["Comparison", "Contender", "Curve", "Row", "compare", "in_a_line"]

_SHORTEST = 0.1  # seconds, as with pyperf: shorter runs are repeated inside one timing


@dataclass(frozen=True)
class Contender:
    """A way to do the work.

    Attributes
    ----------
    name : str
    run : callable
        Does the work; timed. What it raises is reported.
    accuracy : callable
        Takes what ``run`` returned, gives the figure that has to be equal or better; less is
        better.
    """

    name: str
    run: Callable[[], Any]
    accuracy: Callable[[Any], float]


@dataclass(frozen=True)
class Row:
    """What one contender did: seconds of its repeats, the accuracy it reached, or its error."""

    name: str
    seconds: list[float]
    accuracy: float = float("nan")
    error: str = ""

    @property
    def median(self) -> float:
        """Median seconds of a run."""
        return median(self.seconds) if self.seconds else float("nan")


@dataclass(frozen=True)
class Comparison:
    """One piece of work done by all contenders; the first row is ours.

    Attributes
    ----------
    group, work : str
        What is compared, and on what.
    measure : str
        What ``Row.accuracy`` is.
    rows : list of Row
    target : float
        Least ratio, their time over ours, that is asked for; NaN if none is.
    note : str
    """

    group: str
    work: str
    measure: str
    rows: list[Row]
    target: float = float("nan")
    note: str = ""

    def ratio(self, row: Row) -> float:
        """Return their median time over ours."""
        return row.median / self.rows[0].median


@dataclass(frozen=True)
class Curve:
    """Objective against seconds, of several contenders on one problem."""

    problem: str
    measure: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def compare(
    group: str,
    work: str,
    measure: str,
    contenders: Sequence[Contender],
    *,
    target: float = float("nan"),
    repeats: int = 5,
    patience: float | None = None,
    note: str = "",
) -> Comparison:
    """Run all contenders once to warm up, then in turn ``repeats`` times; ours comes first.

    A contender that raises is reported with its error and left out of the following turns. So is
    one after ours whose first run took more than ``patience`` seconds, with the time of that run.
    """
    errors: dict[str, str] = {}
    reached: dict[str, float] = {}
    seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
    loops: dict[str, int] = {}
    slow: set[str] = set()
    for turn in range(repeats + 1):
        for one in contenders:
            if one.name in errors or one.name in slow:
                continue
            try:
                taken, result = _time(one.run, loops.get(one.name, 1))
                if turn == 0:
                    reached[one.name] = float(one.accuracy(result))
                    if taken < 1.0:  # the first run may have loaded compiled code
                        taken, _ = _time(one.run, 1)
                    loops[one.name] = max(1, round(_SHORTEST / max(taken, 1e-7)))
                    # ours may have compiled for longer than that
                    if patience is not None and taken > patience and one is not contenders[0]:
                        slow.add(one.name)
                        seconds[one.name].append(taken)
                else:
                    seconds[one.name].append(taken)
            except Exception as error:
                errors[one.name] = in_a_line(error)
    rows = [
        Row(
            one.name,
            seconds[one.name],
            reached.get(one.name, float("nan")),
            errors.get(one.name, ""),
        )
        for one in contenders
    ]
    return Comparison(group, work, measure, rows, target, note)


def in_a_line(error: Exception) -> str:
    """Return the type of an error and how its message begins."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _time(run: Callable[[], Any], loops: int) -> tuple[float, Any]:
    """Return seconds of one run, the mean over ``loops``, and the last result."""
    gc.collect()
    gc.disable()
    try:
        began = time.perf_counter()
        for _ in range(loops):
            result = run()
        return (time.perf_counter() - began) / loops, result
    finally:
        gc.enable()
