"""A progress bar for fits, as a callback."""

import math
from types import TracebackType
from typing import Any

from bcd_implicit.monitor import Record

__all__ = ["ProgressBar"]


class ProgressBar:
    """One line that follows a fit: passes, rows, objective, residual and active inputs.

    Use it as a context, and as ``callback`` of an estimator inside. Needs rich.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where the line is written; standard output by default.

    Raises
    ------
    ImportError
        On entry, if rich is not installed.
    RuntimeError
        If it is called outside its context.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from rich.console import Console
    >>> from bcd_implicit import ImplicitRegressor
    >>> X = np.random.default_rng(0).standard_normal((100, 3))
    >>> with ProgressBar(Console(file=io.StringIO())) as bar:
    ...     model = ImplicitRegressor(2, alpha=0.01, callback=bar).fit(X, X[:, 0])
    >>> bar.updates == len(model.history_)
    True
    """

    def __init__(self, console: Any = None) -> None:
        self.updates = 0
        self._console = console
        self._progress: Any = None

    def __enter__(self) -> "ProgressBar":
        """Show the line."""
        # an extra: only those who want a bar need it
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.updates, self._shown = 0, ""
        columns = SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        self._progress = Progress(*columns, console=self._console)
        self._line = self._progress.add_task("", total=None)
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the line as it is."""
        self._progress.stop()
        self._progress = None

    def __call__(self, record: Record) -> None:
        """Take notice of an update."""
        if self._progress is None:
            raise RuntimeError("ProgressBar must be used as a context: with ProgressBar() as bar")
        self.updates += 1
        if not math.isnan(record["objective"]):  # in between, the last one stays
            self._shown = (
                f"objective {record['objective']:.6g}, "
                f"residual {record['equilibrium_residual']:.1g}, "
            )
        self._progress.update(
            self._line,
            description=f"{record['stage']}: pass {record['passes']}, rows {record['rows']:,}, "
            f"{self._shown}active inputs {record['active_inputs']}",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "ProgressBar":
        """Return itself: clones of an estimator report to the same line."""
        del memo  # nothing is copied
        return self
