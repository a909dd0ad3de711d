"""Tiles of samples side by side for the state block, where phi is piecewise linear."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._kernels import state_tiles
from .certificates import StateMatrices
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
    bend : tuple of float, or None
        Its threshold and its slope below it, unless it is the identity on its range.
    domain : tuple of float
        Its range.
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
    bend: tuple[float, float] | None
    domain: tuple[float, float]
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
        threshold, slope, low, high = map(float, par)
        curvature = _SHARE * lipschitz
        AW = matrices.WA.T
        H = matrices.S + curvature * (AW @ A)
        return cls(
            par,
            None if threshold == 0.0 and slope in (0.0, 1.0) else (threshold, slope),
            (max(low, 0.0) if slope == 0.0 else low, high),
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
        bend = self.bend
        single = None if bend is None else (np.float32(bend[0]), np.float32(bend[1]))
        return int(
            state_tiles(
                bend,
                single,
                self.domain,
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
