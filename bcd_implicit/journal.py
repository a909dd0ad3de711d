"""What a fit has got to: kept nowhere, unless someone asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bcd_implicit.fits import Fit
    from bcd_implicit.trainer import Progress

__all__ = ["Entry", "Journal"]


class Entry:
    """One call of `bcd_implicit.training.train`, of which nothing is kept."""

    def finished(self, rng: np.random.Generator) -> "Fit | None":
        """Return the outcome, if the call has been made already; ``rng`` is where it ended."""
        del rng
        return None

    def begun(self, rng: np.random.Generator) -> "Progress | None":
        """Return how far the call had got, if anything is known."""
        del rng
        return None

    def step(self, progress: "Progress", rng: np.random.Generator) -> None:
        """Take notice of an accepted iterate."""

    def finish(self, fit: "Fit", rng: np.random.Generator) -> None:
        """Take notice of the outcome."""


class Journal:
    """The calls of `bcd_implicit.training.train` that a fit is made of, in their order."""

    @contextmanager
    def entry(self) -> Iterator[Entry]:
        """Enter the next call, inside the one that is running."""
        yield Entry()
