"""The scikit-learn face: validation and naming only; the work is done in `fitting`."""

from bcd_implicit.classifier import ImplicitClassifier
from bcd_implicit.regressor import ImplicitRegressor

__all__ = ["ImplicitClassifier", "ImplicitRegressor"]
