"""Fits of a path from warm starts, and what they read."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bcd_implicit import ImplicitRegressor
from bcd_implicit.selection._template import fitter_of


@pytest.mark.parametrize("constant", [0, 1])
def test_groups_leave_together_whichever_of_their_inputs_is_constant(constant):
    """A group whose first input is zero in all rows was not counted, and none left."""
    rng = np.random.default_rng(0)
    X, varies = np.zeros((120, 32)), np.arange(32) % 2 != constant
    X[:, varies] = rng.standard_normal((120, 16))
    y = np.abs(X[:, :4]).sum(axis=1)
    model = ImplicitRegressor(6, groups=np.repeat(np.arange(16), 2), random_state=0)
    prepared = model._prepared(model._encode(X, y, None))
    fitter = fitter_of(model, prepared, max_iter=4, tol=1e-3)
    problem, true = replace(prepared.problem, alpha=0.02, l2=0.02), np.arange(32) < 4
    good = fitter.keep(problem, fitter.dense(problem, true).point.parameters, true, 30)
    noise = 1e-3 * (varies & ~true) * rng.standard_normal((6, 32))
    worse = replace(good.point.parameters, B=good.point.parameters.B + noise)
    fit = fitter.keep(problem, worse, np.ones(32, dtype=bool), 0)
    thin, _ = fitter.thinned(problem, fit, fitter.gradient_norms(problem, fit.point.parameters))
    assert_array_equal(thin.point.parameters.active, true & varies)
