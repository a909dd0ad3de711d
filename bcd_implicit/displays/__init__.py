"""Displays of fitted models and selections, as scikit-learn's: `from_estimator`, then `plot`."""

from bcd_implicit.displays.convergence import ConvergenceDisplay
from bcd_implicit.displays.curves import CrossValidationDisplay, PathDisplay
from bcd_implicit.displays.importances import (
    ImportancesDisplay,
    SelectionProbabilityDisplay,
    SensitivityDisplay,
)
from bcd_implicit.displays.sparsity import SparsityDisplay

__all__ = [
    "ConvergenceDisplay",
    "CrossValidationDisplay",
    "ImportancesDisplay",
    "PathDisplay",
    "SelectionProbabilityDisplay",
    "SensitivityDisplay",
    "SparsityDisplay",
]
