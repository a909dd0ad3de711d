"""The balance of C and the other blocks: its scale is the best one."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bcd_implicit.balance import balance


@pytest.mark.parametrize("feedthrough", [False, True])
def test_balance_counts_each_group_once(feedthrough, make_problem, make_data, make_parameters):
    problem = make_problem(
        alpha=0.05, l2=0.5, groups=np.array([0, 0, 0, 1, 1]), feedthrough=feedthrough
    )
    parameters = make_parameters(problem, make_data())
    best = minimize_scalar(
        lambda t: problem.penalty(parameters.scaled(np.exp(t))), bounds=(-3, 3), method="bounded"
    )
    s = balance(problem, parameters)
    assert abs(best.x) < 2.0
    assert s == pytest.approx(np.exp(best.x), rel=1e-4)


def test_balance_stays_within_a_factor_without_feedthrough(
    make_problem, make_data, make_parameters
):
    for alpha, l2, power in ((1e-9, 1.0, 3.0), (1e3, 1e-9, -3.0)):
        problem = make_problem(alpha=alpha, l2=l2, feedthrough=False)
        parameters = make_parameters(problem, make_data())
        assert balance(problem, parameters) == pytest.approx(np.exp(power))


@pytest.mark.parametrize("feedthrough", [False, True])
def test_balance_ignores_excluded_inputs(feedthrough, make_problem, make_data, make_parameters):
    """Their columns are zero and their weights infinite: zero times infinity is no number."""
    weights = np.array([1.0, np.inf, 0.5, 2.0, np.inf])
    problem = make_problem(alpha=0.05, l2=0.5, group_weights=weights, feedthrough=feedthrough)
    parameters = make_parameters(problem, make_data())
    some, inside = np.array([0, 2, 3]), np.isfinite(weights)
    assert not parameters.active[~inside].any()
    smaller = make_problem(
        alpha=0.05, l2=0.5, group_weights=weights[inside], n_inputs=3, feedthrough=feedthrough
    )
    assert balance(problem, parameters) == balance(smaller, parameters.only(some)) != 1.0


def test_a_scale_of_a_thousandth_is_not_left_alone(make_problem, make_data, make_parameters):
    problem = make_problem(alpha=0.1)
    parameters = make_parameters(problem, make_data())
    for _ in range(3):
        parameters = parameters.scaled(balance(problem, parameters))
    for shift in (-1e-4, 1e-4):
        s = balance(problem, parameters.scaled(1.0 + shift))
        assert s == pytest.approx(1.0 - shift, abs=1e-7)
