"""Inputs that act only in pairs and triples."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import rankdata

from bcd_implicit import ImplicitFeatureSelector, ImplicitRegressor
from bcd_implicit import interactions as module
from bcd_implicit.forward import predict_block
from bcd_implicit.interactions import interactions
from bcd_implicit.statistics import RowBlocks
from experiments.selection.problems import PROBLEMS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

GROUPS = [np.array([0, 4, 7, 7, 9, 9]), np.array([0, 0, 0, 1, 1, 1])]


def expected(problem, data, parameters, number):
    """Return the definition, product by product."""
    G = np.concatenate(
        [
            (predict_block(problem, parameters, block)[0] - data.targets(block)[0])
            * data.targets(block)[1][:, None]
            for block in data.blocks
        ]
    )
    U = np.concatenate([data.inputs(block) for block in data.blocks])
    S = np.where(np.median(U, axis=0) < U, 1.0, -1.0)
    S -= S.mean(axis=0)
    R = (rankdata(U, axis=0) - (len(U) + 1) / 2) * np.sqrt(12.0) / len(U)
    p = U.shape[1]
    pull = np.zeros(p)
    for order, scores in ((2, S), (2, R), (3, S)):
        number_of_products = comb(p, 3) if order == 3 else 2 * comb(p, 2)
        for inputs in combinations(range(p), order):
            level = 2.0 + np.sqrt(2.0 * np.log(number_of_products))
            if len(set(number[list(inputs)])) == order:
                product = scores[:, inputs].prod(axis=1)
                unit = np.linalg.norm(G)
                if scores is R:
                    unit = max(unit, np.linalg.norm(product[:, None] * G))
                found = np.linalg.norm(product @ G) / unit / level
                pull[list(inputs)] = np.maximum(pull[list(inputs)], found)
    return np.array([pull[number == one].max() for one in number])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("groups", [None, *GROUPS])
@pytest.mark.parametrize("at_a_time", [1, 2, 64])
def test_they_are_those_of_all_products(
    groups, at_a_time, monkeypatch, make_problem, make_data, make_parameters
):
    monkeypatch.setattr(module, "_AT_A_TIME", at_a_time)
    problem, data = make_problem(n_inputs=6, groups=groups), make_data(p=6)
    parameters = make_parameters(problem, data)
    number = np.arange(6) if groups is None else groups
    assert_allclose(
        interactions(data, problem, parameters),
        expected(problem, data, parameters, number),
        rtol=1e-5,
    )


def test_they_take_the_rows_that_there_is_time_for(
    monkeypatch, make_problem, make_data, make_parameters
):
    problem, data = make_problem(n_inputs=12), make_data(m=3000, p=12, q=1)
    parameters = make_parameters(problem, data)
    asked = []
    sampled_rows = data.sampled_rows
    monkeypatch.setattr(data, "sampled_rows", lambda size: asked.append(size) or sampled_rows(size))
    monkeypatch.setattr(module, "_MOST_WORK", 500 * comb(12, 3))
    interactions(data, problem, parameters)
    monkeypatch.setattr(module, "_MOST_WORK", 199 * comb(12, 3))  # too few for triples
    interactions(data, problem, parameters)
    assert asked == [500, 199 * comb(12, 3) // comb(12, 2)]
    monkeypatch.setattr(module, "_MOST_WORK", 199 * comb(12, 2))
    assert_array_equal(interactions(data, problem, parameters), np.zeros(12))
    assert len(asked) == 2


@pytest.mark.parametrize("p", [1, 2, 3])
def test_there_may_be_few_inputs_and_nothing_left_to_explain(
    p, make_problem, make_data, make_parameters
):
    problem, data = make_problem(n_inputs=p), make_data(p=max(p, 2), q=1).only(np.arange(p))
    parameters = make_parameters(problem, data)
    assert_allclose(
        interactions(data, problem, parameters),
        expected(problem, data, parameters, np.arange(p)),
        rtol=1e-5,
    )
    F = predict_block(problem, parameters, data.blocks[0])[0]
    X = data.inputs(data.blocks[0])
    exact = RowBlocks(X, F, np.full(len(X), 1 / len(X)), np.zeros(p), np.ones(p))
    assert_array_equal(interactions(exact, problem, parameters), np.zeros(p))


@pytest.mark.parametrize(
    ("draw", "centre"),
    [
        (lambda rng: np.exp(2.0 * rng.standard_normal((400, 5))), 1.0),
        (lambda rng: rng.standard_cauchy((400, 5)), 0.0),
        (lambda rng: (rng.random((400, 5)) < 0.3).astype(float), 0.5),
        (lambda rng: (rng.random((400, 5)) < 0.7).astype(float), 0.5),
        (lambda rng: rng.poisson(0.4, (400, 5)).astype(float), 0.5),
    ],
)
def test_inputs_of_any_distribution(draw, centre, make_problem, make_parameters):
    """About their means nearly all signs of the first two were equal."""
    U = draw(np.random.default_rng(0))
    high = U[:, [1, 3]] > centre
    Y = 20.0 * (high - high.mean(axis=0)).prod(axis=1)[:, None]
    data = RowBlocks(U, Y - Y.mean(), np.full(400, 1 / 400), np.zeros(5), np.ones(5))
    problem = make_problem(n_inputs=5)
    nothing = make_parameters(problem, data).restricted(np.zeros(5, dtype=bool))
    assert_array_equal(interactions(data, problem, nothing) > 1.0, [0, 1, 0, 1, 0])


def test_noise_and_rare_values_are_not_clear(make_problem, make_parameters):
    rng = np.random.default_rng(0)
    U = rng.standard_normal((400, 30))
    U[:, ::3] = rng.random((400, 10)) < 0.02
    problem = make_problem(n_inputs=30)
    for seed in range(20):
        Y = np.random.default_rng(seed).standard_normal((400, 1))
        data = RowBlocks(U, Y, np.full(400, 1 / 400), U.mean(axis=0), U.std(axis=0))
        parameters = make_parameters(problem, data).restricted(np.zeros(30, dtype=bool))
        assert interactions(data, problem, parameters).max() < 1.0


def found_pairs(effect, noise_of, make_problem, make_parameters):
    """In how many of 40 samples of 400 rows the first two of ten inputs are clear."""
    problem = make_problem(n_inputs=10)
    count = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        U, noise = rng.standard_normal((400, 10)), rng.standard_normal(400)
        product = U[:, 0] * U[:, 1]
        y = 20.0 * (effect * product + noise * noise_of(product))[:, None]
        data = RowBlocks(U, y, np.full(400, 1 / 400), U.mean(axis=0), U.std(axis=0))
        nothing = make_parameters(problem, data).restricted(np.zeros(10, dtype=bool))
        count += bool((interactions(data, problem, nothing)[:2] > 1.0).all())
    return count


def test_products_are_clear_that_signs_hardly_see(make_problem, make_parameters):
    """Signs show them in 12 of the 40."""
    assert found_pairs(0.38, np.ones_like, make_problem, make_parameters) > 25


def test_noise_that_grows_with_inputs_is_none_of_their_product(make_problem, make_parameters):
    assert found_pairs(0.0, np.square, make_problem, make_parameters) == 0


def test_a_selector_finds_the_sign_of_a_product_of_three():
    drawn = PROBLEMS["sign of a product of three"].draw(1)
    selector = ImplicitFeatureSelector(
        ImplicitRegressor(10, random_state=1), n_features_to_select=3
    ).fit(drawn.X, drawn.y)
    assert_array_equal(selector.get_support(), drawn.true)


def test_the_automatic_choice_finds_the_sign_of_a_product_of_three():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 20))
    y = np.sign(X[:, 3] * X[:, 7] * X[:, 11]) + 0.1 * rng.standard_normal(500)
    model = ImplicitRegressor(20, random_state=0).fit(X, y)
    assert_array_equal(np.flatnonzero(model.support_), [3, 7, 11])


class _AskedError(Exception):
    pass


class _Data:
    """Data that tell how many rows they are asked for."""

    def __init__(self, n_inputs, n_outputs):
        self.n_inputs, self.n_outputs = n_inputs, n_outputs

    def sampled_rows(self, size):
        raise _AskedError(size)


@pytest.mark.parametrize(
    ("p", "q", "rows"),
    [(40, 1, 4096), (630, 1, 207), (650, 1, 4096), (630, 2, 4096), (9200, 1, 202)],
)
def test_rows_of_many_inputs(p, q, rows, make_problem):
    with pytest.raises(_AskedError, match=f"^{rows}$"):
        interactions(_Data(p, q), make_problem(n_inputs=p), None)


@pytest.mark.parametrize(("p", "q"), [(9300, 1), (9200, 2)])
def test_no_pairs_of_too_many_inputs(p, q, make_problem):
    assert_array_equal(interactions(_Data(p, q), make_problem(n_inputs=p), None), np.zeros(p))


@pytest.mark.parametrize(
    "inputs", [(0, 1), (3, 5), (0, 3, 5), (2, 3, 4), (0, 1, 4), (0, 1, 2), (3, 4, 5)]
)
def test_inputs_of_a_group_are_not_multiplied(inputs, make_problem, make_parameters):
    U = np.random.default_rng(0).choice([-1.0, 1.0], (400, 6))
    Y = U[:, inputs].prod(axis=1, keepdims=True)
    data = RowBlocks(U, Y, np.full(400, 1 / 400), np.zeros(6), np.ones(6))
    for groups, clear in ((np.array([0, 0, 0, 1, 1, 1]), False), (None, True)):
        problem = make_problem(n_inputs=6, groups=groups)
        nothing = make_parameters(problem, data).restricted(np.zeros(6, dtype=bool))
        found = interactions(data, problem, nothing) > 1.0
        assert_array_equal(found, np.isin(np.arange(6), inputs) & clear)
