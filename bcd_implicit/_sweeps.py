"""Gauss-Seidel sweeps for piecewise linear maps: the form that is swept, and its error bounds.

With ``v = A x + z`` and any number c, ``x = phi(v)`` is the same as

    r = phi(v) - c (v - z),   v = z + K r,   K = A (I - c A)^-1,

since the second says ``(I - c A) (v - z) = A r``. The slopes of phi lie between two numbers; with c
their mean, those of ``phi - c`` are at most ``h``, half of what they differ by, in size. A relu has
``c = h = 1/2``: where row sums of ``|A|`` are at most f those of ``h |K|`` are at most
``f / (2 - f)``, and sweeps contract faster: by 12, 44 and 100 each instead of 6, 27 and 72 for 20,
100 and 500 states with row sums of 0.5 to 0.9. Control theory calls this a loop transformation.

Proof of the bound. Let ``r'`` bound ``h ||K||`` and ``g`` bound ``||K||`` in a weighted maximum
norm, and let a sweep in which every state is updated once move r by at most ``change``. Where a
state was updated, r deviated from the solution by at most ``E + change``, with E its deviation
after the sweep; hence ``E <= r' (E + change)``, that of v is at most ``g (E + change) = g change /
(1 - r')``, and that of phi(v) L times that. Errors ``e`` in v and ``e'`` in r add ``(e + g e') /
(1 - r')`` to the one of v.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._activation import Activation, Array, Kernel
from bcd_implicit.exceptions import IllPosedError
from bcd_implicit.solvers._kernels import sweep_tiles
from bcd_implicit.solvers.pieces import Pieces
from bcd_implicit.solvers.tiles import in_blocks
from bcd_implicit.wellposed import Contraction, contraction

__all__ = ["SweepForm"]

_UNIT = 2.0**-24  # of single precision
_TINY = 2.0**-125  # twice what an underflow in single precision loses, or the flush of one
_LARGE = 1e15  # entries and weights that are not left to single precision
_SINGLE = 1e-8  # of the start, to which sweeps in single precision are to take the error
_AHEAD = 2  # sweeps that the error is ahead of a power of the rate: they begin at phi(z)
_MOST_BLIND = 8
_PERIOD = 4  # one sweep of so many is in double precision


@dataclass(frozen=True)
class SweepForm:
    """The form of a state equation that `sweep_tiles` solves, made once for many rows.

    Attributes
    ----------
    centre : float
        ``c``; zero if sweeps are to begin elsewhere than at zero.
    K : ndarray
        ``A (I - c A)^-1``.
    contraction : Contraction
        Of r, with the weights of the norm.
    gain : float
        Bound of the norm of K.
    slip : float
        Error of v that K makes by not being ``A (I - c A)^-1`` exactly, for r of norm 1.
    pieces : Pieces
        The activation, as tiles want it.
    """

    centre: float
    K: Array
    contraction: Contraction
    gain: float
    slip: float
    pieces: Pieces

    @classmethod
    def plain(
        cls, activation: Activation, kernel: Kernel, A: Array, found: Contraction
    ) -> "SweepForm":
        """Return the equation as it is, ``c = 0``, with a contraction that is known."""
        gain = found.factor / activation.lipschitz
        return cls(0.0, A, found, gain, 0.0, Pieces.of(kernel[1]))

    @classmethod
    def centred(
        cls, activation: Activation, kernel: Kernel, A: Array, found: Contraction
    ) -> "SweepForm":
        """Return the form that contracts fastest, for sweeps from zero."""
        least = _least_slope(kernel)
        c, half = (1.0 + least) / 2.0, (1.0 - least) / 2.0
        wide = A.astype(np.float64)
        try:
            K = np.linalg.solve(np.eye(len(A)) - c * wide.T, wide.T).T
        except np.linalg.LinAlgError:  # its entries differ too much in size for a pivot to be left
            return cls.plain(activation, kernel, A, found)
        with np.errstate(all="ignore"):  # what is not finite is refused below
            K = K.astype(A.dtype)
            exact = K.astype(np.float64)
            F = np.abs(wide + c * (wide @ exact) - exact)  # and rounding:
            sums = np.abs(wide) + np.abs(exact)
            # what A without self-loops was rounded by, too
            eps = (len(A) + 4) * np.finfo(np.float64).eps + np.finfo(A.dtype).eps
        if not np.all(np.isfinite(F)):
            return cls.plain(activation, kernel, A, found)
        try:
            flat = contraction(exact, half)
        except IllPosedError:  # within rounding errors of it
            return cls.plain(activation, kernel, A, found)
        s = flat.scale
        gain = float((np.abs(exact) @ s / s).max(initial=0.0)) * (1.0 + eps)
        F = F @ s + eps * (sums @ s + c * (np.abs(wide) @ (np.abs(exact) @ s)))
        slip = 1.01 * (1.0 + c * gain) * float((F / s).max(initial=0.0))
        if not slip < 1e-3 * (1.0 - flat.factor):
            return cls.plain(activation, kernel, A, found)
        # the exact K, which the proof is about, may be larger than this one
        return cls(
            c, K, Contraction(flat.factor + slip, s), gain + slip, slip, Pieces.of(kernel[1])
        )

    def solve(
        self,
        activation: Activation,
        Zin: Array,
        X: Array,
        tol: float,
        sweeps: int,
        error: NDArray[np.float64],
        left: NDArray[np.bool_],
        *,
        from_zero: bool,
    ) -> tuple[int, int]:
        """Sweep in place; return the worst code and the most sweeps, and say which rows are left.

        Only a plain form begins at ``X``; ``from_zero`` does not look at what that is.
        """
        suits, single, unit, tiny = self._single
        return sweep_tiles(
            *self.pieces,
            float(activation.lipschitz),
            self.centre,
            self._blocks,
            single,
            self._weight,
            self.contraction.factor,
            self.gain,
            self.slip,
            *self._rounding,
            unit,
            tiny,
            self._blind if suits and from_zero else 0,
            _PERIOD if suits else 1,
            tol,
            sweeps,
            not from_zero,
            Zin,
            X,
            error,
            left,
        )

    @cached_property
    def _blocks(self) -> Array:
        """K as the kernel wants it."""
        return in_blocks(self.K)

    @cached_property
    def _weight(self) -> NDArray[np.float64]:
        """Of the states in the norm, at least one."""
        s = self.contraction.scale
        weight: NDArray[np.float64] = s.max(initial=0.0) / s
        return weight

    @cached_property
    def _rounding(self) -> tuple[float, float]:
        """Relative error of v by rounding, and what steps are negligible."""
        eps = float(np.finfo(self.K.dtype).eps)
        # of a product (in double precision of sums of four) and z; of phi(v) - c (v - z); of the
        # step, and of phi(v) at the end; of phi or, where it only cuts off, of the inputs and the
        # matrix without self-loops
        n = len(self.K)
        product = n + 1 if self.K.dtype == np.float32 else -(-n // 4) + 4
        rounding = 0.5 * eps * (product + (2 if self.centre else 0) + 6 + 5 * self.gain)
        quiet = min(rounding, max(8.0 * eps, (1.0 - self.contraction.factor) * rounding))
        return rounding, quiet

    @cached_property
    def _single(self) -> tuple[bool, Array, float, float]:
        """Whether K suits single precision, K in it, and the errors of its products."""
        largest = float(np.abs(self.K).max(initial=0.0))
        most = float(self._weight.max(initial=1.0))
        suits = self.K.dtype == np.float64 and largest < _LARGE and most < _LARGE
        # of K, of the step (which is exact), of the product
        unit = 1.01 * _UNIT * (len(self.K) + 5) * self.gain
        tiny = most * len(self.K) * max(1.0, largest) * _TINY
        with np.errstate(over="ignore"):
            return bool(suits), self._blocks.astype(np.float32), unit, tiny

    @cached_property
    def _blind(self) -> int:
        """Count the sweeps that single precision is good for, if the signs of K are mixed.

        Within 4 % of the fastest number for 20 to 500 states and tolerances of 1e-8 and 1e-10.
        """
        half = self.contraction.factor / max(self.gain, 1e-300)
        rate = half * float(np.linalg.norm(self.K)) / max(len(self.K), 1) ** 0.5
        if not rate < 1.0:
            return _MOST_BLIND
        sweeps = int(log(_SINGLE) / log(max(rate, 1e-3))) - _AHEAD
        return min(max(sweeps, 2), _MOST_BLIND)


def _least_slope(kernel: Kernel) -> float:
    """Return the least slope of a piecewise linear map; the largest is 1."""
    threshold, slope, low, high = kernel[1]
    flat = threshold > 0.0 or low > -np.inf or high < np.inf
    return 0.0 if flat else slope
