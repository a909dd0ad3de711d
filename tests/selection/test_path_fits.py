"""The way up and down a path, and the strength that empties it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bcd_implicit.selection import _path_fits
from bcd_implicit.selection._grid import Grid
from bcd_implicit.selection._path_fits import PathStep, _Path, follow_path


@pytest.fixture
def make_path(make_problem, make_data, fitter_to):
    """Make a path of few steps to data of which two inputs matter."""

    def make(**changes):
        fitter = fitter_to(make_data(), make_problem(**changes), max_iter=5, tol=1e-4)
        return _Path(fitter, lambda alpha: 0.5 * alpha)

    return make


@pytest.fixture
def simple(make_path, monkeypatch):
    """Make a path without fits, whose models are empty from a strength on; and collect them."""

    def make(emptied, stationary=0.0):
        path, made = make_path(), []
        empty = path.empty_at(0.1)

        def at(alpha, *_, **options):
            made.append((alpha, options))
            columns = np.arange(0 if alpha >= emptied else 1)
            return replace(empty, alpha=alpha, columns=columns, objective=0.0)

        monkeypatch.setattr(path, "at", at)
        monkeypatch.setattr(path, "dense", at)
        monkeypatch.setattr(path, "stationary", lambda _: stationary)
        return path, made

    return make


def test_the_way_up_takes_half_of_the_steps_and_tries_fewer_inputs(make_path, monkeypatch):
    path = make_path(n_inputs=5)
    fit, thinned, calls = path.fitter.fit, path.fitter.thinned, []
    monkeypatch.setattr(path.fitter, "fit", lambda *a: calls.extend(a[1:]) or fit(*a))
    monkeypatch.setattr(path.fitter, "thinned", lambda *a: calls.append("thin") or thinned(*a))
    dense = path.dense(0.01)
    step = path.at(0.02, dense)
    assert calls[1:3] == [3, "thin"]
    assert calls[0].objective == path.value(dense, 0.02) > dense.objective
    calls.clear()
    path.at(0.01, step, back=True)
    assert calls[1:] == [5]
    assert calls[0].objective == path.value(step, 0.01)


def test_a_path_ends_at_an_empty_model_that_nothing_beats(make_path):
    path = make_path()
    dense = path.dense(0.01)
    empty = path.empty_at(1.0)
    least = path.stationary(empty)
    assert_allclose(least, path.pull.max())
    high = replace(dense, alpha=1.01 * least)
    low = replace(dense, alpha=0.99 * least)
    for step, objective, ends in (
        (high, empty.objective + 1e-6, True),
        (high, empty.objective - 1e-6, False),
        (low, empty.objective + 1e-6, False),
        (replace(empty, alpha=least), empty.objective - 1e-6, True),
    ):
        assert path.ends(replace(step, objective=objective)) is ends


@pytest.mark.parametrize(("ratio", "taken"), [(1.2, 1.2), (1.001, 1.05)])
def test_a_path_goes_on_until_it_is_empty(ratio, taken, simple):
    path, made = simple(0.9)
    grid = 0.5 * np.array([1.0, ratio])
    steps = path.upwards(grid, until_empty=True)
    alphas = [step.alpha for step in steps]
    assert_allclose(alphas[:2], grid[: len(alphas)])
    assert_allclose(np.divide(alphas[2:], alphas[1:-1]), taken)
    assert alphas[-1] >= 0.9 > alphas[-2]
    assert made[0] == (0.5, {})
    given = [step.alpha for step in path.upwards(np.array([0.5, 1.0, 2.0]), until_empty=False)]
    assert given == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(("last", "begun"), [(0.5, 0.005), (100.0, 0.02)])
def test_a_path_begins_not_too_far_below_its_end(last, begun, simple):
    """Nor above what the data ask for, however strong the grid becomes."""
    path, made = simple(10.0)
    path.size = 2.0
    path.upwards(np.array([1e-6, 1e-3, last]), until_empty=False)
    assert made[0][0] == begun
    assert made[1][0] == 1e-6


def test_a_path_that_never_empties_ends(simple, monkeypatch):
    monkeypatch.setattr(_path_fits, "_MOST_BEYOND", 3)
    path, _ = simple(np.inf)
    assert len(path.upwards(np.array([0.1, 0.2]), until_empty=True)) == 5


@pytest.mark.parametrize(
    ("alphas", "emptied", "stationary", "least"),
    [
        ([0.1, 0.2, 0.8], 0.37, 0.0, 0.37),
        ([0.8], 0.37, 0.2, 0.37),  # the grid begins where it is empty already
        ([0.8], 0.1, 0.2, 0.2),
        ([0.8], 0.1, 0.0, 0.8),
        ([0.8], 0.1, 0.9, 0.8),
    ],
)
def test_the_smallest_strength_that_empties_a_path(alphas, emptied, stationary, least, simple):
    path, made = simple(emptied, stationary)
    steps = [path.at(alpha) for alpha in alphas]
    made.clear()
    found = path.smallest_empty(steps)
    assert not len(found.columns)
    if least == emptied:
        assert least <= found.alpha <= 1.02 * least
    else:
        assert found.alpha == least
        assert len(made) <= 1


def test_the_way_down_takes_over_what_is_better(make_path, monkeypatch):
    path, made = make_path(), []
    empty = path.empty_at(0.1)

    def at(alpha, before, *, back=False):
        made.append((alpha, back))
        return replace(before, alpha=alpha)

    monkeypatch.setattr(path, "at", at)
    monkeypatch.setattr(path, "value", lambda step, alpha: step.objective + alpha)
    steps = [
        replace(empty, alpha=alpha, objective=objective)
        for alpha, objective in ((0.1, 5.0), (0.2, 3.0), (0.3, 4.0), (0.4, 1.0), (0.5, 1.5))
    ]
    path.downwards(steps)
    assert [step.objective for step in steps] == [1.0, 1.0, 1.0, 1.0, 1.5]
    assert made == [(0.3, True), (0.2, True), (0.1, True)]


def test_the_empty_model_and_how_steep_it_is(make_path):
    path = make_path()
    data = path.fitter.data
    residuals = data.Y - data.weights @ data.Y
    square = data.weights @ (residuals**2).sum(axis=1)
    assert_allclose((path.empty_loss, path.size), (0.5 * square, np.sqrt(square)))
    step, problem = path.empty_at(0.3), path.problem(0.3)
    assert (step.alpha, step.l2, step.objective, step.loss) == (0.3, 0.15, *2 * [path.empty_loss])
    expected = path.fitter.gradient_norms(problem, step.full(5))
    assert_allclose(step.gradient_norms, expected, rtol=1e-6)


def test_constants_leave_an_empty_model_with_its_gradients(make_path):
    path = make_path(activation="sigmoid", intercept=False)
    assert path.constants
    step, problem = path.empty_at(0.3), path.problem(0.3)
    assert step.objective < path.empty_loss
    assert step.residual == pytest.approx(step.gradient_norms.max() - 0.3, rel=1e-6)
    expected = path.fitter.gradient_norms(problem, step.full(5))
    assert_allclose(step.gradient_norms, expected, rtol=0.01)


def test_a_step_says_what_its_model_has(make_path, loss_of, objective_of):
    path = make_path()
    step, problem = path.at(0.02, path.dense(0.01)), path.problem(0.02)
    assert (step.alpha, step.l2) == (0.02, 0.01)
    full, data = step.full(5), path.fitter.data
    assert_allclose(step.loss, loss_of(problem, full, data))
    assert_allclose(step.objective, objective_of(problem, full, data))
    assert_allclose(step.gradient_norms, path.fitter.gradient_norms(problem, full), rtol=0.01)
    assert step.n_iter > 0
    fit = path.fitter.dense(problem, np.ones(5, dtype=bool))
    assert PathStep.of(fit, np.zeros(5), problem).residual == fit.point.residual > 0.0


def test_strengths_at_which_the_model_is_to_be_empty(make_path):
    path = make_path()
    alphas, empty = np.array([0.01, 0.02, 0.03]), np.array([False, True, False])
    steps, last = follow_path(path.fitter, Grid(alphas), path.penalty, empty)
    assert_array_equal([step.alpha for step in steps], alphas)
    assert_array_equal([not len(step.columns) for step in steps], empty)
    assert np.isnan(last)


@pytest.mark.parametrize("given", [True, False])
def test_every_path_goes_both_ways(given, make_path, monkeypatch):
    path, upwards, downwards, seen = make_path(), _Path.upwards, _Path.downwards, []

    def up(self, grid, **options):
        seen.append(grid)
        return upwards(self, grid, **options)

    def down(self, steps):
        seen.append([step.alpha for step in steps])
        downwards(self, steps)

    monkeypatch.setattr(_Path, "upwards", up)
    monkeypatch.setattr(_Path, "downwards", down)
    alphas = np.array([0.1, 0.2]) if given else None
    steps, last = follow_path(path.fitter, Grid(alphas, 4, 0.2), path.penalty)
    (grid, back) = seen
    assert [step.alpha for step in steps] == back
    if given:
        assert_array_equal(grid, alphas)
    else:
        assert_allclose(grid, path.size * 0.2 ** (np.arange(3, -1, -1) / 3))
        assert last == back[-1]
