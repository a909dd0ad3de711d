"""What rows that `alpha="auto"` keeps back say of a model: their weights and losses."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.forward import sample_losses
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks

__all__ = ["validation_losses", "validation_weights"]

Array = NDArray[np.float64]

# Of one row, that is taken to have another label. In 60 rows there may be none of a hundredth of
# wrong labels, and the strength then fell to nothing: with 0, 0.1, 0.3 and 1 log losses of fresh
# rows were 0.19, 0.14, 0.13, 0.14 with such labels, 0.25, 0.20, 0.20, 0.21 with a rare class, and
# 0.033, 0.029, 0.040, 0.070 without any noise (ten samples each).
_DOUBT = 0.2


def validation_weights(parts: list[RowBlocks]) -> Array:
    """Return the weights of the rows of all parts, one after the other; they sum to one."""
    weights = [part.targets(block)[1] for part in parts for block in part.blocks]
    return np.concatenate(weights) / len(parts)


def validation_losses(data: RowBlocks, problem: TrainingProblem, parameters: Parameters) -> Array:
    """Return the unpenalised loss of every row, in the order of ``data``.

    Of classes it is the expected one where labels are wrong in a fifth of one of so many distinct
    rows.
    """
    return sample_losses(data, problem, parameters, _DOUBT / data.n_samples)
