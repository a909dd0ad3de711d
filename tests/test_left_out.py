"""Linear effects on what a model leaves unexplained, beside the inputs that it uses."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bcd_implicit import ImplicitRegressor, state_search
from bcd_implicit.even_effects import clear_level
from bcd_implicit.forward import predict_block
from bcd_implicit.left_out import left_out, linear_effects
from bcd_implicit.problem import Parameters
from bcd_implicit.statistics import RowBlocks

FIRST = np.arange(5) < 1  # the inputs that are used


def nothing(problem, q):
    n, p = problem.n_states, len(problem.group_weights)
    shapes = (n, n), (n, p), n, (q, n), (q, p), q
    return Parameters(*map(np.zeros, shapes))


def residual(data, problem, parameters):
    F = np.concatenate([predict_block(problem, parameters, block)[0] for block in data.blocks])
    return F - data.Y


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("groups", [None, np.array([0, 1, 1, 2, 2])])
def test_effects_are_beside_the_used_inputs_and_weighted(
    make_problem, make_data, make_parameters, groups
):
    problem, data = make_problem(groups=groups), make_data()
    parameters, w = make_parameters(problem, data), data.weights[:, None]
    G = w * residual(data, problem, parameters)
    known = np.column_stack([np.ones(40), data.U[:, 0]])
    V = data.U - known @ np.linalg.solve(known.T @ (w * known), known.T @ (w * data.U))
    V[:, 0] = 0.0
    chi2 = 2 * ((G.T @ V) ** 2).sum(axis=0)[1:] / (G**2).sum() / (w * V**2).sum(axis=0)[1:]
    of_groups = [chi2] if groups is None else [chi2[:2].sum(), chi2[2:].sum()]
    freedom = 2 if groups is None else 4
    expected = np.sqrt(2 * np.concatenate([np.ravel(of_groups)])) - np.sqrt(2 * freedom - 1)
    effects = linear_effects(data, problem, parameters, FIRST)
    assert effects[0] == 0.0
    assert_allclose(effects[1:] if groups is None else effects[[1, 3]], expected, rtol=1e-9)
    if groups is not None:
        assert_array_equal(effects[[1, 3]], effects[[2, 4]])


def test_effects_of_noise_are_about_standard_normal(make_problem):
    rng = np.random.default_rng(0)
    U, Y = rng.standard_normal((400, 400)), rng.standard_normal((400, 2))
    data = RowBlocks(U, Y, np.full(400, 1 / 400), np.zeros(400), np.ones(400))
    for columns in (1, 4):
        problem = make_problem(n_inputs=400, groups=np.arange(400) // columns)
        effects = linear_effects(data, problem, nothing(problem, 2), np.zeros(400, dtype=bool))
        effects = effects[::columns]
        assert abs(effects.mean()) < 0.2
        assert 0.85 < effects.std() < 1.1
        assert effects.max() < clear_level(len(effects))


def test_what_the_used_inputs_explain_is_no_effect(make_problem):
    """Of copies, of what is correlated with them, and of constants."""
    rng = np.random.default_rng(1)
    u = rng.standard_normal(300)
    near = u + 0.3 * rng.standard_normal(300)
    other = rng.standard_normal(300)
    U = np.column_stack([u, 2.0 * u, near, np.ones(300), other])
    y = (0.5 * u + 0.5 * other + 0.3 * rng.standard_normal(300))[:, None]
    data = RowBlocks(U, y, np.full(300, 1 / 300), np.zeros(5), np.ones(5))
    problem = make_problem()
    missing = left_out(data, problem, nothing(problem, 1), FIRST)
    assert_array_equal(missing, [False, False, False, False, True])
    assert left_out(data, problem, nothing(problem, 1), np.zeros(5, dtype=bool))[:3].all()
    excluded = replace(problem, group_weights=np.r_[np.ones(4), np.inf])
    assert not left_out(data, excluded, nothing(problem, 1), FIRST).any()


def test_what_matters_to_all_rows_is_taken_back(monkeypatch):
    """A quarter of the rows does not tell a weak effect from noise."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((800, 12))
    y = np.abs(X[:, 0]) + X[:, 1] * X[:, 2] + 0.2 * X[:, 3] + rng.standard_normal(800)
    chosen = []
    for off in (False, True):
        if off:
            monkeypatch.setattr(state_search, "left_out", lambda *_: np.zeros(12, dtype=bool))
        chosen.append(ImplicitRegressor(8, random_state=0).fit(X, y).support_)
    assert_array_equal(chosen[0], np.arange(12) < 4)
    assert_array_equal(chosen[1], np.arange(12) < 3)
