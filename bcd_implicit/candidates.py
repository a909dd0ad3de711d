"""What the automatic choice tries, and what it chooses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import BoolArray
from bcd_implicit.problem import Parameters

__all__ = ["PathPoint", "Strength"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PathPoint:
    """Strengths, the model that they gave on the training part, and how it did.

    Attributes
    ----------
    alpha, l2 : float
        Strengths of the group penalty and of the penalty of C.
    parameters : Parameters
        The model, in standardised units.
    losses : ndarray
        Losses of the validation rows.
    loss : float
        Their weighted mean.
    """

    alpha: float
    l2: float
    parameters: Parameters
    losses: Array
    loss: float

    @property
    def family(self) -> tuple[float, float]:
        """The strengths: candidates of one elimination share them."""
        return self.alpha, self.l2

    @property
    def support(self) -> BoolArray:
        """Inputs that the model uses."""
        return self.parameters.active

    @property
    def n_inputs(self) -> int:
        """Number of inputs that the model uses."""
        return int(np.count_nonzero(self.support))


@dataclass(frozen=True)
class Strength:
    """What `choose_strength` chose.

    Attributes
    ----------
    best : PathPoint
        Strengths, and a warm start.
    group_weights : ndarray of shape (p,)
        ``omega``: infinite for the inputs that were not chosen.
    path : list of PathPoint
        The candidates of steps 2 and 3, in the order of their fits.
    interrupted : bool
        Whether the user stopped the search; ``best`` is then the best so far.
    """

    best: PathPoint
    group_weights: Array
    path: list[PathPoint]
    interrupted: bool = False
