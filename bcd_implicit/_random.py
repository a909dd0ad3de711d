"""Random numbers from the parameter ``random_state`` as scikit-learn has it."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

__all__ = ["drawn_seeds", "generator_of"]

_LARGEST_SEED = np.iinfo(np.int32).max


def generator_of(random_state: Any) -> np.random.Generator:
    """Return a generator; of the same seed the same one."""
    return np.random.default_rng(check_random_state(random_state).randint(_LARGEST_SEED))


def drawn_seeds(rng: np.random.Generator, count: int) -> list[int]:
    """Draw seeds of fits side by side."""
    return [int(seed) for seed in rng.integers(_LARGEST_SEED, size=count)]
