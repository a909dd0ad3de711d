"""The scale of the states, which the prediction does not feel but the penalties do."""

import math

import numpy as np
from scipy.optimize import brentq

from bcd_implicit.problem import Parameters, TrainingProblem

__all__ = ["balance"]

_BALANCED = 1e-6  # logarithm of a scale that is left alone
_MOST = 3.0  # of it: a factor of 20 in one go is enough


def balance(problem: TrainingProblem, parameters: Parameters) -> float:
    """Return the best scale ``s`` of the states: the prediction stays, the penalties do not rise.

    B and b are multiplied by it, C is divided. It minimises
    ``sum_g t_g sqrt(s^2 ||B_g||^2 + ||D_g||^2) + l2 ||C||^2 / (2 s^2)``, which is unimodal in
    ``s``. Only for positively homogeneous activations.
    """
    if not problem.activation.positively_homogeneous:
        return 1.0
    t, sizes = problem.group_levels()
    first = np.cumsum(sizes) - sizes
    b2, d2 = (
        np.add.reduceat(np.einsum("ij,ij->j", block, block), first)
        for block in (parameters.B, parameters.D)
    )
    t, b2, d2 = t[b2 > 0.0], b2[b2 > 0.0], d2[b2 > 0.0]
    c2 = problem.l2 * float(np.vdot(parameters.C, parameters.C))
    if not (c2 > 0.0 and (t > 0.0).any()):
        return 1.0

    def slope(log_s: float) -> float:
        s2 = math.exp(2.0 * log_s)
        return float(np.dot(t, s2 * b2 / np.sqrt(s2 * b2 + d2))) - c2 / s2

    if not d2.any():
        pull = max(float(np.dot(t, np.sqrt(b2))), 1e-300)
        log_s = min(max((math.log(c2) - math.log(pull)) / 3.0, -_MOST), _MOST)
    elif slope(-_MOST) >= 0.0 or slope(_MOST) <= 0.0:
        log_s = -_MOST if slope(-_MOST) >= 0.0 else _MOST
    else:
        log_s = float(brentq(slope, -_MOST, _MOST, xtol=1e-10))
    # a smaller gain could be a rounding error, by which equal fits would differ
    return math.exp(log_s) if abs(log_s) > _BALANCED else 1.0
