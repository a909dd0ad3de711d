"""The teacher of the article: an implicit model with a column-sparse B, and data drawn from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcd_implicit import ImplicitModel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Training data, fresh noiseless test data, and the truth.

    Attributes
    ----------
    U, Y : ndarray of shape (m, p) and (m, q)
    U_fresh, Y_fresh : ndarray
        Points that were not trained on, without noise.
    B : ndarray of shape (n, p)
        The generating matrix.
    support : ndarray of bool, shape (p,)
        Its nonzero columns.
    """

    U: Array
    Y: Array
    U_fresh: Array
    Y_fresh: Array
    B: Array
    support: NDArray[np.bool_]


def draw(
    seed: int,
    *,
    noise: float = 0.0,
    n_samples: int = 400,
    n_inputs: int = 50,
    n_outputs: int = 100,
    n_states: int = 20,
    n_true: int = 10,
    kappa: float = 0.5,
    n_fresh: int = 2000,
) -> Sample:
    """Draw a teacher and its data.

    Entries of A, C and of the true columns of B are standard normal; the rows of A are scaled to
    row sums ``kappa``, and D = 0. Inputs are standard normal, ``noise`` is the deviation of the
    noise relative to that of the outputs.
    """
    rng = np.random.default_rng(seed)
    teacher, support = draw_teacher(rng, n_inputs, n_outputs, n_states, n_true, kappa)
    U = rng.standard_normal((n_samples, n_inputs))
    Y = np.asarray(teacher.predict(U))
    Y = Y + noise * Y.std() * rng.standard_normal(Y.shape)
    U_fresh = rng.standard_normal((n_fresh, n_inputs))
    return Sample(U, Y, U_fresh, np.asarray(teacher.predict(U_fresh)), np.array(teacher.B), support)


def draw_teacher(
    rng: np.random.Generator,
    n_inputs: int = 50,
    n_outputs: int = 100,
    n_states: int = 20,
    n_true: int = 10,
    kappa: float = 0.5,
) -> tuple[ImplicitModel, NDArray[np.bool_]]:
    """Draw the teacher alone, and the inputs that it uses; see `draw`."""
    A = rng.standard_normal((n_states, n_states))
    A *= kappa / np.abs(A).sum(axis=1, keepdims=True)
    support = np.zeros(n_inputs, dtype=np.bool_)
    support[rng.choice(n_inputs, n_true, replace=False)] = True
    B = np.zeros((n_states, n_inputs))
    B[:, support] = rng.standard_normal((n_states, n_true))
    C = rng.standard_normal((n_outputs, n_states))
    return ImplicitModel(A, B, C, np.zeros((n_outputs, n_inputs))), support
