"""The strengths of a path, given or to be found from the data."""

from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

__all__ = ["Grid"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Strengths, and how many steps are made at each; see `bcd_implicit.implicit_path`.

    Attributes
    ----------
    alphas : ndarray, optional
        Rising; if there are any, ``n_alphas`` and ``eps`` do not matter.
    n_alphas : int
    eps : float
    max_iter : int
        Most steps at every strength.
    """

    alphas: Array | None
    n_alphas: int = 16
    eps: float = 1e-2
    max_iter: int = 4

    @classmethod
    def checked(cls, alphas: ArrayLike | None, n_alphas: int, eps: float, max_iter: int) -> Self:
        """Return what a user gave; raise ValueError for what cannot be used."""
        counts = isinstance(n_alphas, Integral) and isinstance(max_iter, Integral)
        if (
            not (counts and isinstance(eps, Real))
            or n_alphas < 2
            or not 0.0 < eps < 1.0
            or max_iter < 0
        ):
            raise ValueError(
                "n_alphas must be a whole number, at least 2, eps between 0 and 1 and max_iter a "
                "whole number that is not negative; got "
                f"{n_alphas!r}, {eps!r} and {max_iter!r}"
            )
        given = None if alphas is None else _given(alphas)
        return cls(given, int(n_alphas), float(eps), int(max_iter))

    def over(self, unit: float) -> Self:
        """Return it in another unit of the inputs."""
        return self if self.alphas is None else replace(self, alphas=self.alphas / unit)

    def up_to(self, top: float) -> Array:
        """Return rising strengths, the last of which is ``top``."""
        places = np.arange(self.n_alphas) / (self.n_alphas - 1)
        strengths: Array = top * self.eps ** (1.0 - places)
        return strengths


def _given(alphas: ArrayLike) -> Array:
    """Return strengths, rising."""
    if np.ndim(alphas) != 1 or not np.size(alphas):
        raise ValueError(f"alphas must be positive numbers in one dimension; got {alphas!r}")
    options = {"ensure_2d": False, "dtype": np.float64, "input_name": "alphas"}
    given: Array = np.sort(check_array(alphas, copy=True, **options))
    if not (given > 0.0).all():
        raise ValueError(f"alphas must be positive; got {alphas!r}")
    return given
