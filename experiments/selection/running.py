"""What the comparisons of this package share: a timed ranking, and how good it is."""

import warnings
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from experiments.selection.contenders import CONTENDERS

__all__ = ["Ranking", "f1", "rank_inputs", "worst_rank"]


@dataclass(frozen=True)
class Ranking:
    """Order of the inputs, most important first, and how long it took; or what went wrong."""

    order: IntArray
    seconds: float
    error: str = ""


def rank_inputs(name: str, X: Any, y: Any, k: int, seed: int) -> Ranking:
    """Let a contender rank the inputs; ties are broken at random, so that no position helps."""
    began = perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = CONTENDERS[name](X, y, k, seed)
    except Exception as error:  # a contender that fails is shown as such
        return Ranking(np.array([], dtype=np.intp), np.nan, f"{type(error).__name__}: {error}")
    seconds = perf_counter() - began
    ties = np.random.default_rng(seed).permutation(len(scores))
    return Ranking(np.lexsort((ties, -scores)), seconds)


def f1(order: IntArray, true: NDArray[np.bool_]) -> float:
    """Return the F1 of as many first inputs as there are true ones."""
    k = int(np.count_nonzero(true))
    return float(np.count_nonzero(true[order[:k]]) / k)


def worst_rank(order: IntArray, true: NDArray[np.bool_]) -> int:
    """Return the place of the last true input, from 1."""
    return int(np.flatnonzero(true[order])[-1]) + 1
