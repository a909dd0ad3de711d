"""The working set: excluded inputs, and ties."""

import numpy as np
import pytest

from bcd_implicit import lifted, linear, stepper
from bcd_implicit import working_set as module
from bcd_implicit.training import train
from bcd_implicit.working_set import working_set


def test_an_excluded_input_is_never_worked_on(make_problem):
    weights = np.array([1.0, np.inf, np.inf, 2.0, 0.5])
    for groups in (None, np.array([0, 1, 1, 2, 3])):
        problem = make_problem(group_weights=weights, groups=groups)
        gradient = np.array([[0.0, 9.0, 9.0, 1.0, 1.0]])
        assert working_set(problem, np.zeros((1, 5)), gradient, 1000).tolist() == [0, 3, 4]


@pytest.mark.parametrize("most", [3, 4])
def test_excluded_inputs_do_not_fill_up_the_working_set(most, make_problem, monkeypatch):
    monkeypatch.setattr(module, "_MOST_COLUMNS", most)
    problem = make_problem(group_weights=np.array([1.0, np.inf, 1.0, np.inf, 1.0]))
    gradient = np.array([[0.0, 9.0, 1.0, 9.0, 1.0]])
    assert working_set(problem, np.zeros((1, 5)), gradient, 1000).tolist() == [0, 2, 4]


def test_of_equal_violations_the_first_are_worked_on(make_problem, monkeypatch):
    monkeypatch.setattr(module, "_MOST_COLUMNS", 2)
    problem, zero = make_problem(alpha=1.0), np.zeros((1, 5))
    assert working_set(problem, zero, np.full((1, 5), 2.0), 1000).tolist() == [0, 1]


def test_violations_are_what_gradients_exceed_thresholds_by(make_problem, monkeypatch):
    monkeypatch.setattr(module, "_MOST_COLUMNS", 1)
    problem = make_problem(alpha=1.0, group_weights=np.array([10.0, 1.0]))
    gradient = np.array([[10.5, 2.0]])
    assert working_set(problem, np.zeros((1, 2)), gradient, 1000).tolist() == [1]


@pytest.mark.parametrize(
    ("inputs", "rows", "size"), [(6, 9, 6), (7, 9, 4), (8, 513, 8), (9, 513, 8)]
)
def test_of_few_rows_few_inputs_are_worked_on_whole(inputs, rows, size, make_problem, monkeypatch):
    monkeypatch.setattr(module, "_MOST_COLUMNS", 8)
    problem, zero = make_problem(n_inputs=inputs), np.zeros((1, inputs))
    assert len(working_set(problem, zero, zero + 2.0, rows)) == size


@pytest.mark.parametrize("rows", [512, 513])
def test_updates_tell_how_many_rows_there_are(rows, make_problem, make_data, monkeypatch):
    data, problem, told = make_data(m=rows), make_problem(), []

    def spy(*arguments):
        told.append(arguments[-1])
        return working_set(*arguments)

    for user in (lifted, linear, stepper):
        monkeypatch.setattr(user, "working_set", spy)
    train(data, problem, max_iter=1, rng=np.random.default_rng(0))
    assert set(told) == {rows}
    told.clear()
    linear.LinearFitter(data, problem).fit(problem, None)
    assert set(told) == {rows}
