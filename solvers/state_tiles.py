"""Tiles of samples side by side for the state block, where phi is piecewise linear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._kernels import state_tiles
from .certificates import StateMatrices
from .pieces import Pieces
from .tiles import in_blocks

__all__ = ["StateTiles"]

Array = NDArray[np.float64]

_SHARE = 0.5  # of the Lipschitz constant, as the curvature of h* in the model
_BLIND = 6  # iterations in single precision
_TILED = 12  # further ones in double precision, before Newton steps are better


@dataclass(frozen=True)
class StateTiles:
    """What `state_tiles` needs beside the samples, made once for all of them.

    Attributes
    ----------
    par : ndarray of shape (4,)
        The piecewise linear activation, as the kernels want it.
    pieces : Pieces
        The same, as tiles want it.
    lam, M : ndarray of shape (n,)
        Multipliers; curvatures that the certificate is measured with.
    H, D : ndarray
        Curvature of the model, in blocks, and its diagonal.
    A, AW : ndarray
        ``A`` and ``A' diag(lam)``, in blocks.
    curvature : float
        Of ``h*`` in the model.
    noise : float
        Error of a step of the certificate against the sum of the changes of states, where what the
        change does to the gradient is computed in single precision.
    """

    par: Array
    pieces: Pieces
    lam: Array
    M: Array
    H: Array
    D: Array
    A: Array
    AW: Array
    curvature: float
    noise: float

    LEAST_ITERATIONS = _BLIND + _TILED

    @classmethod
    def of(
        cls, par: Array, lam: Array, A: Array, matrices: StateMatrices, lipschitz: float
    ) -> "StateTiles":
        """Build the model."""
        n = len(lam)
        curvature = _SHARE * lipschitz
        AW = matrices.WA.T
        H = matrices.S + curvature * (AW @ A)
        # n + 1 roundings of each product in single precision, two of its arguments, which may lose
        # all of their digits below the least number
        eps, least = np.finfo(np.float32).eps, np.finfo(np.float32).tiny
        slack = float(least / eps)
        change = (lipschitz + curvature) * ((np.abs(AW) + slack) @ (np.abs(A) + slack))
        change += np.abs(H) + slack
        steepest = float((change.max(axis=1) / (matrices.M + lam)).max())  # the prox shrinks, too
        noise = (n + 3) * float(eps) * steepest
        return cls(
            par,
            Pieces.of(par),
            lam,
            matrices.M,
            in_blocks(0.5 * (H + H.T)),
            np.maximum(np.diag(H), 1e-3 * lam),
            in_blocks(A),
            in_blocks(AW),
            curvature,
            noise,
        )

    def solve(self, c: Array, zeta: Array, tol: float, X: Array, residual: Array) -> int:
        """Write states to ``X`` and their certificates; return the most iterations of a sample."""
        return int(
            state_tiles(
                *self.pieces,
                self.par,
                c,
                zeta,
                self.lam,
                self.H,
                self.D,
                self.M,
                self.A,
                self.AW,
                self.curvature,
                self.noise,
                tol,
                _BLIND,
                _TILED,
                X,
                residual,
            )
        )
