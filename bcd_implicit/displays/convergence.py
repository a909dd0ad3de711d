"""How the objective fell in the two phases."""

from typing import Any

import numpy as np

from bcd_implicit.displays._axes import FITTED, Display, attribute_of
from bcd_implicit.monitor import Record

__all__ = ["ConvergenceDisplay"]


class ConvergenceDisplay(Display):
    """The lifted objective of phase one and the true objective of phase two, side by side.

    Parameters
    ----------
    history : list of Record
        ``history_`` of a fitted estimator; its final stage is drawn.
    """

    def __init__(self, history: list[Record]) -> None:
        self.history = history

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, **options: Any
    ) -> "ConvergenceDisplay":
        """Draw the history of a fitted estimator; options are those of `plot`."""
        display = cls(attribute_of(estimator, "history_", FITTED))
        display.plot(ax, **options)
        return display

    def plot(self, ax: Any = None, **line_options: Any) -> Any:
        """Draw one line for each random start and number of rows.

        Parameters
        ----------
        ax : two matplotlib Axes, optional
        **line_options : dict
            Passed to ``ax.plot``.

        Returns
        -------
        object
            The display.
        """
        axes = self._axes(ax, count=2, figsize=(9.0, 3.6))
        titles = {"lifted": "phase one: lifted objective", "exact": "phase two: true objective"}
        self.lines_ = []
        for (phase, title), part in zip(titles.items(), axes, strict=True):
            key = "lifted_objective" if phase == "lifted" else "objective"
            for start, rows in self._runs(phase):
                values = [
                    record[key]  # type: ignore[literal-required]
                    for record in self.history
                    if (record["stage"], record["phase"]) == ("final", phase)
                    and (record["start"], record["rows"]) == (start, rows)
                ]
                options = {"marker": ".", "label": f"start {start}, {rows} rows"} | line_options
                self.lines_ += part.plot(np.arange(len(values)), values, **options)
            part.set(xlabel="update", title=title)
            if self._runs(phase):
                part.set_yscale("log")
                part.legend(fontsize="small", frameon=False)
            else:  # as of alpha="auto", whose final fit goes on from the best candidate
                part.text(0.5, 0.5, "none in the final fit", ha="center", transform=part.transAxes)
                part.set(xticks=[], yticks=[])
        return self

    def _runs(self, phase: str) -> list[tuple[int, int]]:
        """Return starts and numbers of rows of a phase, in the order in which they came."""
        found = {
            (record["start"], record["rows"]): None
            for record in self.history
            if (record["stage"], record["phase"]) == ("final", phase)
        }
        return list(found)
