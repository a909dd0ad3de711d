"""scikit-learn's checks of every estimator that selects or is chosen on a path."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from bcd_implicit import (
    ImplicitClassifierCV,
    ImplicitFeatureSelector,
    ImplicitRegressor,
    ImplicitRegressorCV,
    KnockoffSelector,
    StabilitySelection,
)

REGRESSOR = ImplicitRegressor(2, max_iter=5, random_state=0)  # the checks seed the outer one only
QUICK = {"n_states": 2, "n_alphas": 3, "path_iter": 2, "max_iter": 20, "cv": 2}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """Fit badly but fast: the checks look at conventions alone."""
    monkeypatch.setattr("bcd_implicit.trainer._LIFTED_ITERATIONS", 1)
    monkeypatch.setattr("bcd_implicit.selection._template._STEPS", 1)
    monkeypatch.setattr("bcd_implicit.selection._template._DENSE_STEPS", 1)
    monkeypatch.setattr("bcd_implicit.selection._judging._STEPS", 1)


@parametrize_with_checks(
    [
        ImplicitRegressorCV(**QUICK),
        ImplicitClassifierCV(**QUICK),
        ImplicitFeatureSelector(REGRESSOR, n_features_to_select=1),
        StabilitySelection(REGRESSOR, n_pairs=1, n_features_per_half=1),
        KnockoffSelector(REGRESSOR, n_fits=1),
    ]
)
@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
def test_scikit_learn_conventions(estimator, check):
    check(estimator)
