"""The two scikit-learn estimators, in one place for those who import them from here."""

from bcd_implicit.classifier import ImplicitClassifier
from bcd_implicit.regressor import ImplicitRegressor

__all__ = ["ImplicitClassifier", "ImplicitRegressor"]
