"""Effects of absolute values: weights, units and the level that is clear."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bcd_implicit.even_effects import clear_level, even_effects
from bcd_implicit.forward import predict_block
from bcd_implicit.statistics import RowBlocks


@pytest.mark.usefixtures("small_blocks")
def test_even_effects_weigh_the_rows(make_problem, make_data, make_parameters):
    problem, data = make_problem(), make_data()  # weights between 0.5 and 1.5
    parameters, w = make_parameters(problem, data), data.weights[:, None]
    F = np.concatenate([predict_block(problem, parameters, block)[0] for block in data.blocks])
    gradient, size = w * (F - data.Y), np.abs(data.U)
    centred = size - (w * size).sum(axis=0)
    expected = np.linalg.norm(gradient.T @ centred, axis=0) / np.linalg.norm(gradient)
    expected /= np.sqrt((w * centred**2).sum(axis=0))
    assert_allclose(even_effects(data, problem, parameters), expected, rtol=1e-9)


def test_a_row_of_twice_the_weight_is_two_rows_but_for_the_unit(
    make_problem, make_data, make_parameters
):
    """Up to one factor for all inputs: twice one row scatters more than two rows."""
    problem, data = make_problem(), make_data()
    parameters, twice = make_parameters(problem, data), np.r_[np.arange(40), np.arange(10)]
    w = np.r_[np.full(10, 2.0), np.ones(30)] / 50
    units = np.zeros(5), np.ones(5)
    weighted = RowBlocks(data.U, data.Y, w, *units)
    repeated = RowBlocks(data.U[twice], data.Y[twice], np.full(50, 0.02), *units)
    one, two = (even_effects(rows, problem, parameters) for rows in (weighted, repeated))
    assert_allclose(one / one[0], two / two[0], rtol=1e-9)


def test_even_effects_have_no_units(make_problem, make_data, make_parameters):
    problem, data = make_problem(), make_data()
    nothing = make_parameters(problem, data).restricted(np.zeros(5, dtype=bool))
    one, *others = (
        even_effects(RowBlocks(unit * data.U, data.Y, data.weights, *rest), problem, nothing)
        for rest in [(np.zeros(5), np.ones(5))]
        for unit in (1.0, 1e-9, 1e9)
    )
    for other in others:
        assert_allclose(other, one, rtol=1e-9)


@pytest.mark.parametrize("count", [10, 1000, 100_000])
def test_a_clear_level_is_two_above_the_largest_of_so_many_without_an_effect(count):
    draws = (np.random.default_rng(seed).standard_normal(count) for seed in range(20))
    largest = np.mean([np.abs(draw).max() for draw in draws])
    assert clear_level(count) == pytest.approx(largest + 2.0, abs=0.5)
