"""What every solver returns."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["optimal", "max_iter"]


@dataclass(frozen=True)
class Result:
    """Solution of a convex subproblem with the evidence that it is one.

    Attributes
    ----------
    x : ndarray
        The solution, in the shape of the problem's unknown.
    gap : float
        The optimality certificate of the solver that made the result (its docstring says
        which: a duality gap or a scaled residual of the optimality conditions). Nonnegative,
        zero only at a solution, and infinite when it was never evaluated.
    n_iter : int
        Iterations (sweeps) made.
    status : {"optimal", "max_iter"}
        ``"optimal"`` if and only if ``gap`` is at most the tolerance that was asked for.
    """

    x: NDArray[np.float64]
    gap: float
    n_iter: int
    status: Status

    @property
    def converged(self) -> bool:
        """Whether the certificate met the tolerance."""
        return self.status == "optimal"
