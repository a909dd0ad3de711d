"""What tells fits apart: a checkpoint is only taken up by the fit that wrote it."""

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from bcd_implicit.blocks import Block
from bcd_implicit.encoded import Encoded
from bcd_implicit.model import ImplicitModel
from bcd_implicit.prepared import Prepared
from bcd_implicit.training_data import TrainingData

__all__ = ["fit_identity"]

# parameters that the result does not depend on, or that `fit_identity` takes in another form
_NO_MATTER = (
    "callback",
    "checkpoint",
    "checkpoint_every",
    "groups",
    "n_jobs",
    "pattern",
    "random_state",
    "resume",
    "verbose",
    "warm_start",
)


def fit_identity(
    estimator: BaseEstimator, prepared: Prepared, data: Encoded, start: ImplicitModel | None
) -> dict[str, Any]:
    """Return what makes up the result of a fit: parameters, data, and the model it goes on from."""
    matrices = () if start is None else (start.A, start.B, start.C, start.D, start.b, start.d)
    parameters: dict[str, Any] = {
        name: _shown(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in _NO_MATTER
    }
    if isinstance(estimator.random_state, Integral | None):
        parameters["random_state"] = _shown(estimator.random_state)
    scaling, problem = prepared.scaling, prepared.problem
    return parameters | {
        "the loss": problem.loss.name,
        "the number of rows": prepared.n_rows,
        "the number of outputs": data.n_outputs,
        "the mean of X": scaling.centre,
        "the deviation of X": scaling.scale,
        "the mean of y": scaling.target_centre,
        "the deviation of y": np.array([scaling.target_scale]),
        "the weights of the groups": problem.group_weights,
        "groups": np.zeros(0) if prepared.groups is None else prepared.groups,
        "the pattern": np.concatenate([problem.mask.ravel(), problem.entry, problem.read]),
        "the model of the warm start": np.concatenate([np.zeros(0), *map(np.ravel, matrices)]),
        "the relation of X and y": _probed(prepared.blocks()),
    }


def _shown(value: Any) -> str:
    """Return a parameter as text, the same for a number of Python and of NumPy."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _probed(data: TrainingData) -> NDArray[np.float64]:
    """Return second moments of X and y along fixed directions: other rows or labels have others."""
    along_X, along_y = (np.cos(1.0 + np.arange(size)) for size in (data.n_inputs, data.n_outputs))

    def moments(block: Block) -> tuple[float, float]:
        Y, w = block.targets()
        u = 1.0 + block.inputs() @ along_X
        return float(w @ (u * (Y @ along_y))), float(w @ (u * u))

    with data.threads():
        return np.array(data.sum(moments))
