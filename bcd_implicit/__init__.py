"""Sparse, certified implicit models trained by block-coordinate descent.

Names are loaded when they are first used: importing the package does not import scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcd_implicit.estimators import ImplicitClassifier, ImplicitRegressor
    from bcd_implicit.exceptions import IllPosedError, InterruptedFitWarning
    from bcd_implicit.groups import input_groups
    from bcd_implicit.model import ImplicitModel
    from bcd_implicit.pattern import Pattern
    from bcd_implicit.progress import ProgressBar
    from bcd_implicit.selection.cross_validation import ImplicitClassifierCV, ImplicitRegressorCV
    from bcd_implicit.selection.knockoffs import KnockoffSelector
    from bcd_implicit.selection.path import ImplicitPath, implicit_path
    from bcd_implicit.selection.selector import ImplicitFeatureSelector
    from bcd_implicit.selection.stability import StabilitySelection

__version__ = "0.1.0"

__all__ = [
    "IllPosedError",
    "ImplicitClassifier",
    "ImplicitClassifierCV",
    "ImplicitFeatureSelector",
    "ImplicitModel",
    "ImplicitPath",
    "ImplicitRegressor",
    "ImplicitRegressorCV",
    "InterruptedFitWarning",
    "KnockoffSelector",
    "Pattern",
    "ProgressBar",
    "StabilitySelection",
    "__version__",
    "implicit_path",
    "input_groups",
]

_HOME = {
    "IllPosedError": "exceptions",
    "ImplicitClassifier": "estimators",
    "ImplicitClassifierCV": "selection.cross_validation",
    "ImplicitFeatureSelector": "selection.selector",
    "ImplicitModel": "model",
    "ImplicitPath": "selection.path",
    "ImplicitRegressor": "estimators",
    "ImplicitRegressorCV": "selection.cross_validation",
    "InterruptedFitWarning": "exceptions",
    "KnockoffSelector": "selection.knockoffs",
    "StabilitySelection": "selection.stability",
    "implicit_path": "selection.path",
    "input_groups": "groups",
    "Pattern": "pattern",
    "ProgressBar": "progress",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
