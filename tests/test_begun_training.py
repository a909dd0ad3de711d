"""Training that is begun with another problem, or with a part of the rows."""

from dataclasses import replace

import numpy as np
import pytest

import bcd_implicit.training as module
from bcd_implicit import ImplicitRegressor
from bcd_implicit.monitor import Monitor
from bcd_implicit.training import train


def fit(data, problem, callback=None, **settings):
    """Train and return the fit and its history."""
    monitor = Monitor(callback=callback)
    result = train(data, problem, rng=np.random.default_rng(0), monitor=monitor, **settings)
    return result, monitor.history


def phases(history):
    """Return the phases in their order, each with its start, once."""
    seen = [(record["phase"], record["start"]) for record in history]
    return [one for one, before in zip(seen, [None, *seen], strict=False) if one != before]


@pytest.fixture
def problems(make_problem):
    """What is to be solved, and a stronger one to begin with."""
    return make_problem(alpha=1e-4, l2=1e-4), make_problem(alpha=0.02, l2=0.02)


@pytest.fixture
def calls(monkeypatch):
    """Collect data, problem and settings of the calls of training that training makes."""
    plain, made = module.train, []

    def spy(data, problem, **settings):
        made.append((data, problem, settings))
        return plain(data, problem, **settings)

    monkeypatch.setattr(module, "train", spy)
    return made


def test_half_of_the_steps_are_for_the_first_problem(problems, make_data, objective_of):
    problem, first = problems
    data = make_data()
    result, history = fit(data, problem, first=first, max_iter=9, tol=0.0)
    exact = [record["block"] for record in history if record["phase"] == "exact"]
    assert exact == ["C"] + ["ABD"] * 4 + ["C"] + ["ABD"] * 5
    assert result.n_iter == 9
    assert phases(history) == [("lifted", 0), ("exact", 0)]
    expected = objective_of(problem, result.point.parameters, data)
    assert result.point.objective == pytest.approx(expected, rel=1e-8)


def test_all_starts_are_for_the_first_problem(problems, make_data):
    problem, first = problems
    _, history = fit(make_data(), problem, first=first, n_init=2, max_iter=4)
    starts = [start for phase, start in phases(history) if phase == "lifted"]
    assert starts == [0, 1]


def test_a_first_problem_that_leaves_nothing_is_not_gone_on_from(make_problem, make_data):
    problem, data = make_problem(alpha=1e-3, l2=1e-3), make_data()
    result, history = fit(data, problem, first=make_problem(alpha=10.0), max_iter=8)
    assert phases(history) == 2 * [("lifted", 0), ("exact", 0)]
    assert result.point.parameters.active.any()
    assert result.n_iter <= 8


def test_starts_that_follow_the_first_problem_take_the_steps_that_are_left(make_problem, make_data):
    problem, first, data = make_problem(alpha=1e-4), make_problem(alpha=10.0), make_data()
    assert fit(data, first, n_init=2, max_iter=4, tol=0.0)[0].n_iter > 0
    result, history = fit(data, problem, first=first, n_init=2, max_iter=8, tol=0.0)
    assert [phase for phase, _ in phases(history)].count("lifted") == 4
    assert result.n_iter <= 8


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)])
@pytest.mark.parametrize("through", ["states", "feedthrough", "both"])
def test_signs_do_not_hide_how_far_an_output_moves(
    signs, through, make_problem, make_data, make_parameters
):
    random = make_parameters(make_problem("identity"), make_data())
    A, B, C, D = (np.abs(block) for block in (random.A, random.B, random.C, random.D))
    B, D = B * (through != "feedthrough"), D * (through != "states")
    expected = (C @ np.linalg.inv(np.eye(len(A)) - A) @ B + D).max()
    one, two, three = signs
    parameters = replace(random, A=one * A, B=two * B, C=C, D=three * D)
    assert module._largest_effect(parameters) == pytest.approx(expected)


@pytest.mark.parametrize("least", [0.0, np.inf])
def test_an_interrupt_of_the_first_problem_keeps_what_it_found(
    least, problems, make_data, objective_of, monkeypatch
):
    monkeypatch.setattr(module, "_NOTHING", least)
    problem, first = problems
    seen = []

    def callback(record):
        seen.append(record["phase"])
        if seen.count("exact") == 3:
            raise KeyboardInterrupt

    data = make_data()
    result, _ = fit(data, problem, callback, first=first)
    assert result.interrupted
    assert not result.converged
    assert seen[seen.index("exact") :] == ["exact"] * 4  # and that of the problem itself
    expected = objective_of(problem, result.point.parameters, data)
    assert result.point.objective == pytest.approx(expected, rel=1e-8)


def test_a_part_of_the_rows_is_trained_as_all_would_be(problems, make_data, calls, monkeypatch):
    monkeypatch.setattr(module, "_MANY_ROWS", 100)
    problem, first = problems
    settings = {"n_init": 2, "max_iter": 3, "tol": 1e-3, "window": 3}
    fit(make_data(m=400), problem, first=first, **settings)
    (few, of_few, given), (same, begun_with, passed) = calls
    assert of_few is problem
    assert given["first"] is begun_with is first
    assert few.n_samples == given["held_out"].n_samples == 50
    assert not {row.tobytes() for row in few.U} & {row.tobytes() for row in given["held_out"].U}
    assert {name: given[name] for name in settings} == settings
    assert same is few
    assert passed["held_out"] is given["held_out"]
    assert {name: passed[name] for name in settings} == settings | {"max_iter": 1}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [2, 3, 6])
def test_states_that_die_without_feedthrough_are_begun_again(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((300, 150))
    y = np.abs(X[:, :3]).sum(axis=1) + 0.3 * rng.standard_normal(300)
    options = {"alpha": 0.02, "fit_feedthrough": False, "max_iter": 3, "random_state": seed}
    assert ImplicitRegressor(2, **options).fit(X, y).support_.any()
