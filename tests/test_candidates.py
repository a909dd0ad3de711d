"""Choosing among candidates."""

import pickle

import numpy as np
import pytest

from bcd_implicit.candidates import (
    PathPoint,
    clipped_gain,
    gain_in_errors,
    honest_losses,
    is_refined,
    smallest_good,
    standard_error,
    trimmed_gain,
)
from bcd_implicit.problem import Parameters


def point(losses, n_inputs):
    """Make a candidate of equally weighted rows with some of five inputs."""
    D = np.zeros((1, 5))
    D[0, :n_inputs] = 1.0
    zero = np.zeros((1, 1))
    parameters = Parameters(zero, np.zeros((1, 5)), np.zeros(1), zero, D, np.zeros(1))
    losses = np.asarray(losses, dtype=float)
    return PathPoint.of(0.1, 0.1, parameters, losses, float(losses.mean()))


def test_standard_error_is_that_of_the_mean_difference():
    rng = np.random.default_rng(0)
    a, b = rng.random(200), rng.random(200)
    expected = np.std(a - b) / np.sqrt(200)
    assert standard_error(a, b, np.full(200, 1 / 200)) == pytest.approx(expected)


@pytest.mark.parametrize("unit", [1e-15, 1.0])
def test_gains_are_counted_in_standard_errors_of_any_unit(unit):
    rng = np.random.default_rng(0)
    losses, better = unit * rng.random(50), unit * rng.random(50) - unit
    weights = np.full(50, 1 / 50)
    gain = (losses - better).mean() / standard_error(losses, better, weights)
    assert gain_in_errors(losses, better, weights) == pytest.approx(gain)
    assert gain_in_errors(losses, losses, weights) == 0.0
    assert gain_in_errors(losses, losses - unit, weights) > 1e6  # of every row the same


def test_trimmed_gains_are_those_of_the_other_rows():
    rng = np.random.default_rng(0)
    losses, better = rng.random(50) + 0.1, rng.random(50)
    weights = rng.random(50)
    weights /= weights.sum()
    better[7], losses[30] = better[7] + 40.0, losses[30] + 50.0 * weights[7] / weights[30]
    kept = np.delete(np.arange(50), [7, 30])
    expected = gain_in_errors(losses[kept], better[kept], weights[kept] / weights[kept].sum())
    assert trimmed_gain(losses, better, weights, 2) == pytest.approx(expected, rel=1e-12)
    assert trimmed_gain(losses, better, weights, 0) == gain_in_errors(losses, better, weights)
    assert trimmed_gain(losses, better, weights, 1) < 0.0 < expected  # the 31st row alone
    assert trimmed_gain(losses, better, weights, 50) == 0.0
    light = weights.copy()
    light[7] = 0.0
    light /= light.sum()  # whatever its losses, it counts for nothing: one row is left out, not two
    better[7] += 1e6
    assert trimmed_gain(losses, better, light, 1) == pytest.approx(expected, rel=0.05)


def test_in_clipped_gains_a_few_rows_count_as_the_next():
    rng = np.random.default_rng(0)
    losses, better, weights = rng.random(50), rng.random(50), rng.random(50)
    weights /= weights.sum()
    better[[7, 30]] += [40.0, -50.0]
    counted = weights * (losses - better)
    most = np.sort(np.abs(counted))[-3]
    nearer = losses - np.clip(counted, -most, most) / weights
    expected = gain_in_errors(losses, nearer, weights)
    assert clipped_gain(losses, better, weights, 2) == pytest.approx(expected, rel=1e-12)
    whole = gain_in_errors(losses, better, weights)
    assert clipped_gain(losses, better, weights, 0) == pytest.approx(whole, rel=1e-12)
    assert clipped_gain(losses, losses, weights, 2) == 0.0
    assert clipped_gain(losses, losses - 1.0, np.full(50, 0.02), 99) > 1e6  # of every row the same


@pytest.mark.parametrize(
    ("gain", "refined"),
    [
        ([0.1, -0.02], True),
        ([0.1, -0.09], False),  # a third of a standard error
        ([5e-5, 5e-5], False),  # next to nothing
        ([20.0] + 19 * [0.001], True),
        ([20.0] + 19 * [-0.001], False),  # 0.999 standard errors, but by a single row
    ],
)
def test_refinements_are_better_beyond_luck_and_a_single_row(gain, refined):
    gain = np.resize(gain, 20)
    before, weights = np.full(20, 30.0), np.full(20, 1 / 20)
    assert is_refined(point(before, 1), point(before - gain, 1), weights, 1.0) == refined


def test_honest_losses_leave_each_row_out():
    rng = np.random.default_rng(0)
    path = [point(rng.random(9), 1) for _ in range(4)]
    weights = rng.random(9)
    weights /= weights.sum()
    for row, honest in enumerate(honest_losses(np.stack([p.losses for p in path]), weights)):
        rest = np.arange(9) != row
        best = min(path, key=lambda p: np.average(p.losses[rest], weights=weights[rest]))
        assert honest == best.losses[row]


def test_pure_chance_does_not_look_like_a_gain():
    rng = np.random.default_rng(0)
    weights = np.full(20, 1 / 20)
    honest, least = [], []
    for _ in range(200):
        path = [point(rng.exponential(size=20), 1) for _ in range(30)]
        honest.append(weights @ honest_losses(np.stack([p.losses for p in path]), weights))
        least.append(min(p.loss for p in path))
    assert np.mean(least) < 0.65  # thirty candidates of mean loss one
    assert np.mean(honest) == pytest.approx(1.0, abs=0.05)


def test_the_smallest_good_support_wins():
    weights = np.full(4, 0.25)
    same = np.array([1.0, -1.0, 1.0, -1.0])

    def chosen(*sizes_and_losses, noise=0.0):
        path = [point(loss + noise * k * same, k) for k, loss in sizes_and_losses]
        return smallest_good(path, weights, 10.0).n_inputs

    assert chosen((5, 1.0), (3, 1.015), (2, 1.03)) == 3  # 2 % of the best loss
    assert chosen((5, 1.0), (2, 1.045), noise=0.1) == 2  # within half a standard error
    assert chosen((5, 1.0), (2, 1.024), noise=1 / 30) == 2
    assert chosen((5, 1.0), (2, 1.04), noise=1 / 30) == 5  # within one, not half of one
    assert chosen((5, 1.0), (2, 1.06), noise=1.0) == 5  # never more than 5 %
    assert chosen((5, 9.0), (2, 9.015), (1, 9.03)) == 2  # of the gain, where that is smaller
    assert chosen((5, 9.0), (2, 9.06), noise=1.0) == 5
    assert chosen((5, 11.0), (2, 11.01)) == 5  # all are worse than nothing


@pytest.mark.parametrize(
    ("gain", "errors", "loss", "inputs"),
    [
        (10.0, 2.9, 0.029, 2),
        (10.0, 3.1, 0.029, 5),
        (10.0, 2.9, 0.031, 5),
        (0.5, 2.9, 0.029, 5),  # more than 2 % of the gain
    ],
)
def test_three_thousandths_of_the_empty_model_are_not_worth_an_input(gain, errors, loss, inputs):
    """Unless they are certain: beside a large effect a small one may be far above the noise."""
    noise = np.resize([1.0, -1.0], 400) * loss * np.sqrt(400) / errors
    path = [point(np.full(400, 10.0 - gain), 5), point(10.0 - gain + loss + noise, 2)]
    assert smallest_good(path, np.full(400, 1 / 400), 10.0).n_inputs == inputs


def test_of_as_few_groups_the_better_wins():
    groups = np.array([0, 0, 0, 1, 2])
    two, wide = used([0.0, 0.0, 0.0, 1.0, 1.0], groups), used([1.0, 1.0, 1.0, 0.0, 0.0], groups)
    assert smallest_good([two, wide], np.ones(1), 10.0) is wide  # of one group
    worse, better = point([1.01], 2), point([1.0], 2)
    assert smallest_good([worse, better, point([1.0], 3)], np.ones(1), 10.0) is better


def used(norms, groups=None):
    D = np.asarray(norms, dtype=float)[np.newaxis]
    zero = np.zeros((1, 1))
    parameters = Parameters(zero, np.zeros_like(D), np.zeros(1), zero, D, np.zeros(1))
    return PathPoint.of(0.1, 0.1, parameters, np.ones(1), 1.0, groups)


def test_inputs_above_the_widest_gap_are_clearly_used():
    assert used([0.01, 3.0, 0.0, 1.0, 0.02]).clearly_used(5.0) == 2
    assert used([0.1, 3.0, 0.0, 1.0, 0.02]).clearly_used(5.0) == 2  # of two gaps the wider one
    assert used([0.3, 1.0, 0.0, 4.0]).clearly_used(5.0) == 3
    assert used([0.0, 2.0]).clearly_used(5.0) == 1
    assert used([0.0, 0.0]).clearly_used(5.0) == 0
    groups = np.array([0, 0, 1, 1, 2])
    assert used([3.0, 1.0, 0.01, 0.0, 1.0], groups).clearly_used(5.0) == 2


def test_inputs_of_a_group_are_used_together():
    groups = np.array([0, 0, 1, 1, 2])
    support = used([3.0, 0.0, 0.0, 0.0, 1.0], groups).support
    np.testing.assert_array_equal(support, [True, True, False, False, True])


def test_candidates_hold_the_inputs_in_use_alone():
    """Those of a search in 20,000 inputs took a hundred megabytes."""
    parameters = used([0.0, 2.0] + 9998 * [0.0]).parameters
    found = PathPoint.of(0.1, 0.1, parameters, np.ones(1), 1.0)
    assert len(pickle.dumps(found)) < 5000
    for kept, given in zip(vars(found.parameters).values(), vars(parameters).values(), strict=True):
        np.testing.assert_array_equal(kept, given)
