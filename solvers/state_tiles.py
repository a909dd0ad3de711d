"""Tiles of samples side by side for the state block, where phi is piecewise linear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._kernels import state_tiles
from .certificates import StateMatrices
from .pieces import Pieces
from .tiles import whole_blocks

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
        Curvature of the model, in whole blocks, and its diagonal.
    A, AW : ndarray
        ``A`` and ``A' diag(lam)``, in whole blocks.
    curvature : float
        Of ``h*`` in the model.
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

    LEAST_ITERATIONS = _BLIND + _TILED

    @classmethod
    def of(
        cls, par: Array, lam: Array, A: Array, matrices: StateMatrices, lipschitz: float
    ) -> "StateTiles":
        """Build the model."""
        curvature = _SHARE * lipschitz
        AW = matrices.WA.T
        H = matrices.S + curvature * (AW @ A)
        return cls(
            par,
            Pieces.of(par),
            lam,
            matrices.M,
            whole_blocks(0.5 * (H + H.T)),
            np.maximum(np.diag(H), 1e-3 * lam),
            whole_blocks(A),
            whole_blocks(AW),
            curvature,
        )

    def solve(self, c: Array, zeta: Array, tol: float, X: Array, residual: Array) -> int:
        """Write states to ``X`` and their certificates; return the most iterations of a sample."""
        n_iter = self._tiles(c, zeta, tol, _BLIND, 1, X, residual)
        left = ~(residual <= tol)
        if left.any():
            rest, gap = X[left], residual[left]
            n_iter += self._tiles(c[left], zeta[left], tol, 0, _TILED - 1, rest, gap)
            X[left], residual[left] = rest, gap
        return n_iter

    def _tiles(
        self, c: Array, zeta: Array, tol: float, blind: int, most: int, X: Array, residual: Array
    ) -> int:
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
                tol,
                blind,
                most,
                X,
                residual,
            )
        )
