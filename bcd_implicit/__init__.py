"""Sparse, certified implicit models trained by block-coordinate descent."""

from bcd_implicit.estimators import ImplicitClassifier, ImplicitRegressor
from bcd_implicit.exceptions import IllPosedError, InterruptedFitWarning
from bcd_implicit.model import ImplicitModel

__version__ = "0.1.0"

__all__ = [
    "IllPosedError",
    "ImplicitClassifier",
    "ImplicitModel",
    "ImplicitRegressor",
    "InterruptedFitWarning",
    "__version__",
]
