"""Standardised units: in which training works, and the way back to raw inputs and targets."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._matrices import dense
from bcd_implicit._typing import IntArray
from bcd_implicit.activations import Activation
from bcd_implicit.model import ImplicitModel
from bcd_implicit.moments import Moments
from bcd_implicit.problem import Parameters

__all__ = ["Scaling"]

Array = NDArray[np.float64]

_ROWS = 4096
_CONSTANT = 1e-13  # a deviation below this part of the largest entry is rounding


@dataclass(frozen=True)
class Scaling:
    """Inputs ``(U - centre) / scale`` and targets ``(Y - target_centre) / target_scale``.

    Attributes
    ----------
    centre, scale : ndarray of shape (p,)
    target_centre : ndarray of shape (q,)
    target_scale : float
        One for all outputs: their relative sizes are part of the problem. Infinite for constant
        ones, which become exactly zero.
    unit : float
        Of inputs that are not standardised: strengths of their penalty are divided by it.
    """

    centre: Array
    scale: Array
    target_centre: Array
    target_scale: float
    unit: float = 1.0

    @classmethod
    def of_inputs(
        cls, U: Any, weights: Array, rows: IntArray, q: int, *, centred: bool
    ) -> "Scaling":
        """Weighted mean and deviation of every input over some rows; targets are left alone.

        A constant input has an infinite scale and becomes exactly zero. Columns are measured
        relative to their largest entry, so that no square overflows or vanishes.
        """
        parts = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
        moments = Moments.total(
            [Moments.of(np.asarray(dense(U[part]), np.float64), weights[part]) for part in parts]
        )
        return cls.of_moments(moments, q, centred=centred)

    @classmethod
    def of_moments(cls, moments: Moments, q: int, *, centred: bool) -> "Scaling":
        """As `of_inputs`, of the moments of the inputs."""
        unit = moments.unit
        mean, deviation = _mean_and_deviation(moments, centred)
        deviation[deviation <= _CONSTANT] = 0.0
        scale = np.where(deviation > 0.0, np.maximum(deviation * unit, 1e-300), np.inf)
        return cls(mean * unit, scale, np.zeros(q), 1.0)

    def in_one_unit(self) -> "Scaling":
        """Return raw inputs, in one unit for all: the power of two next to the median deviation.

        Strengths, starts and stops are made for inputs of about unit size; a power of two rounds
        nothing. Lost: the largest deviation. Beside one income all else was too small to be found.
        """
        deviations = self.scale[np.isfinite(self.scale)]
        unit = 1.0
        if len(deviations):
            unit = float(2.0 ** np.round(np.log2(np.median(deviations))))
        zero = np.zeros_like(self.centre)
        return replace(self, centre=zero, scale=np.full(len(zero), unit), unit=unit)

    def with_targets(self, Y: Array, weights: Array, rows: IntArray, *, centred: bool) -> "Scaling":
        """Add mean and total deviation of the targets, infinite for constant ones."""
        return self.with_target_moments(Moments.of(Y[rows], weights[rows]), centred=centred)

    def with_target_moments(self, moments: Moments, *, centred: bool) -> "Scaling":
        """As `with_targets`, of the moments of the targets."""
        unit = float(moments.unit[np.argmax(moments.top)])
        mean, deviation = _mean_and_deviation(moments, centred)
        ratios = moments.unit / unit
        total = float(np.linalg.norm(deviation * ratios))
        # rounding that is taken for a target follows no strength: a path had 206 of them
        scale = max(total * unit, 1e-300) if total > _CONSTANT else np.inf
        return replace(self, target_centre=mean * ratios * unit, target_scale=scale)

    def targets(self, Y: Array) -> Array:
        """Return standardised targets."""
        return (Y - self.target_centre) / self.target_scale

    def reported(self, parameters: Parameters) -> Parameters:
        """Return parameters of standardised inputs as they are, and others for raw inputs."""
        if self.unit == 1.0:
            return parameters
        return replace(parameters, B=parameters.B / self.unit, D=parameters.D / self.unit)

    def fold(self, parameters: Parameters, activation: Activation) -> ImplicitModel:
        """Return the model in raw units.

        Raises
        ------
        ValueError
            If inputs and targets differ so much in size that a coefficient overflows.
        """
        size = self.target_scale if np.isfinite(self.target_scale) else 1.0
        with np.errstate(over="ignore", invalid="ignore"):
            B = parameters.B / self.scale
            D = parameters.D / self.scale * size
            b = parameters.b - B @ self.centre
            C = parameters.C * size
            shift = parameters.D @ (self.centre / self.scale)
            d = (parameters.d - shift) * size + self.target_centre
        if not all(np.isfinite(block).all() for block in (B, D, b, C, d)):
            raise ValueError(
                "X and y must be of sizes whose ratio is representable; got inputs and targets so "
                "far apart that a coefficient overflows: rescale one of them"
            )
        return ImplicitModel(parameters.A, B, C, D, b, d, activation)

    def unfold(self, model: ImplicitModel) -> Parameters:
        """Return the parameters of a model in standardised units; inverse of `fold`.

        Raises
        ------
        ValueError
            If a coefficient overflows in these units.
        """
        A, B, C, D, b, d = (
            np.array(block, dtype=np.float64)
            for block in (model.A, model.B, model.C, model.D, model.b, model.d)
        )
        scale = np.where(np.isinf(self.scale), 0.0, self.scale)
        with np.errstate(over="ignore", invalid="ignore"):
            found = Parameters(
                A=A,
                B=B * scale,
                b=b + B @ self.centre,
                C=C / self.target_scale,
                D=D * (scale / self.target_scale),
                d=(d + D @ self.centre - self.target_centre) / self.target_scale,
            )
        if not all(np.isfinite(block).all() for block in vars(found).values()):
            raise ValueError(
                "X and y must be of about the sizes that the model was fitted to; got sizes so far "
                "from them that a coefficient overflows: fit without warm_start=True"
            )
        return found


def _mean_and_deviation(moments: Moments, centred: bool) -> tuple[Array, Array]:
    """Return both in the units of the moments; about zero unless ``centred``."""
    mean, square = moments.mean_and_square()
    if centred:
        return mean, np.sqrt(square)
    return np.zeros_like(mean), np.sqrt(square + mean**2)
