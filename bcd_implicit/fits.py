"""What training returns."""

from dataclasses import dataclass, replace

from bcd_implicit._typing import IntArray
from bcd_implicit.exact import Point
from bcd_implicit.problem import Parameters

__all__ = ["Fit", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How a fit ended: what remains of a `Fit` without its arrays."""

    residual: float
    decrease: float
    converged: bool
    interrupted: bool


@dataclass
class Fit:
    """Outcome of `train`.

    Attributes
    ----------
    point : Point
        The best accepted iterate.
    began : Parameters
        Where the exact phase of the start that won began.
    n_iter : int
        Exact steps of the start that won.
    decrease : float
        Mean relative decrease of the objective over the last steps.
    eta : float
        Length of the step that would have come next.
    converged, interrupted : bool
    """

    point: Point
    began: Parameters
    n_iter: int
    decrease: float
    eta: float
    converged: bool
    interrupted: bool

    def among(self, columns: IntArray, p: int) -> "Fit":
        """Return the fit to some of ``p`` inputs as one to all, of which the others are unused."""
        point = replace(self.point, parameters=self.point.parameters.among(columns, p))
        return replace(self, point=point, began=self.began.among(columns, p))

    def outcome(self) -> Outcome:
        """Return how it ended."""
        return Outcome(self.point.residual, self.decrease, self.converged, self.interrupted)
