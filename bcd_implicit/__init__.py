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

__version__ = "0.1.0"

__all__ = [
    "IllPosedError",
    "ImplicitClassifier",
    "ImplicitModel",
    "ImplicitRegressor",
    "InterruptedFitWarning",
    "__version__",
    "input_groups",
]

_HOME = {
    "IllPosedError": "exceptions",
    "ImplicitClassifier": "estimators",
    "ImplicitModel": "model",
    "ImplicitRegressor": "estimators",
    "InterruptedFitWarning": "exceptions",
    "input_groups": "groups",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
