"""The steps that training is made of: runs, when they end, and how they are taken up."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import bcd_implicit.trainer as module
import bcd_implicit.training as training
from bcd_implicit.exceptions import DataLostError
from bcd_implicit.monitor import Monitor
from bcd_implicit.trainer import Run, Trainer


@pytest.fixture
def make_trainer():
    """Make a trainer, with other rows if they are given, and forget all states."""

    def make(data, problem, held_out=None, **settings):
        options = {"many": False, "window": 3} | settings
        data.start_states(problem.n_states)
        return Trainer(data, problem, 0.0, Monitor(), held_out, **options)

    return make


@pytest.fixture
def check_states(states_of):
    """Check that the accepted states of data are those of parameters."""

    def check(data, problem, parameters):
        found = np.concatenate([block.X for block in data.blocks])
        np.testing.assert_allclose(found, states_of(problem, parameters, data.U), atol=1e-9)

    return check


def ended(tol=1e-3, residual=1.0, **settings):
    """Return whether a run has converged that fell from 1 to 0.5 in steps of two."""
    settings = {"objectives": [1.0, 0.75, 0.5], "window": 2} | settings
    return Run(SimpleNamespace(residual=residual), None, None, **settings).converged(tol)


def test_a_run_ends_where_one_of_the_signs_says_so():
    assert not ended()
    assert ended(stalled=True)
    assert ended(residual=1e-4)
    assert not ended(residual=2e-4)
    assert ended(objectives=[1.0, 1.0, 0.9985])
    assert not ended(objectives=[1.0, 1.0, 0.997])
    assert not ended(objectives=[1.0, 1.0])  # too few to tell


def test_next_to_no_loss_may_fall_by_any_part_of_itself():
    """Separable classes lower the objective for ever."""
    assert ended(objectives=[2e-6, 1.5e-6, 1e-6])
    assert not ended(objectives=[3e-3, 2e-3, 1e-3])


@pytest.mark.parametrize(
    ("others", "ends"),
    [
        ([2.0, 1.9, 1.8, 1.7, 1.6], False),  # too few to tell
        ([2.0, 1.9, 1.8, 1.7, 1.6, 1.5], False),
        ([2.0, 1.59, 1.59, 1.59, 1.58, 1.5], False),
        ([1.59, 1.59, 1.59, 1.58, 1.52, 1.5], True),  # little beside what is ahead: 1.0
        ([2.0, 2.0, 1.9, 1.5, 1.5, 1.499], True),  # the last steps gained nothing
        ([0.46, 0.45, 0.44, 0.43, 0.42, 0.41], False),  # these are ahead themselves
    ],
)
def test_rows_that_are_held_out_end_a_run(others, ends):
    assert ended(held_out=others) is ends


def test_a_rival_out_of_reach_ends_a_run(make_trainer, make_data, make_problem):
    trainer = make_trainer(make_data(), make_problem(), rival=10.0)
    for objectives, steps, within in (
        ([11.9], 1, True),
        ([12.1], 1, False),
        ([12.5, 12.0], 4, True),
        ([12.5, 12.0], 3, False),
        ([9.5, 9.0], 1, True),
    ):
        assert trainer._in_reach(Run(None, None, None, objectives=objectives), steps) is within


def test_a_run_that_is_taken_up_is_as_it_was(
    make_trainer, make_data, make_problem, make_parameters, check_states
):
    problem, rows = make_problem("tanh"), make_data(m=400)
    parts = [[rows.sampled_rows(200, first) for first in (0, 1)] for _ in range(2)]
    whole, trainer = (make_trainer(part[0], problem, part[1]) for part in parts)
    run = whole.begin(make_parameters(problem, whole.data), 0.25)
    whole.advance(run, 8)
    assert run.stepper.eta != 1.0
    run.stepper.tolerance = 1e-6
    progress = run.progress()
    again = trainer.take_up(progress)
    for name in ("eta", "tolerance"):
        assert getattr(again.stepper, name) == getattr(run.stepper, name)
    assert again.began is run.began
    assert (again.n_iter, again.window) == (8, 3)
    assert again.decrease() == run.decrease() < np.inf
    assert again.held_out[-6:] == run.held_out[-6:]
    assert again.point.objective == run.point.objective
    np.testing.assert_allclose(again.point.gradient, run.point.gradient, atol=1e-9)
    for data in (trainer.data, trainer.held_out):
        check_states(data, problem, run.point.parameters)
    whole.advance(run, 4)
    trainer.advance(again, 4)
    assert again.n_iter == run.n_iter == 12
    np.testing.assert_allclose(again.objectives[-4:], run.objectives[-4:], rtol=1e-8)
    np.testing.assert_allclose(again.held_out[-4:], run.held_out[-4:], rtol=1e-8)


def test_a_run_begins_and_goes_on_with_its_own_states(
    make_trainer, make_data, make_problem, make_parameters, check_states
):
    problem, data = make_problem("tanh"), make_data()
    trainer = make_trainer(data, problem)
    runs = []
    for seed in range(2):
        runs.append(trainer.begin(make_parameters(problem, data, seed)))
        check_states(data, problem, runs[-1].point.parameters)
    for run in runs:
        before = run.point.objective
        trainer.resume(run)
        check_states(data, problem, run.point.parameters)
        assert run.point.objective <= before


def test_a_run_that_goes_on_keeps_a_better_point(
    make_trainer, make_data, make_problem, make_parameters, monkeypatch
):
    trainer = make_trainer(make_data(), make_problem())
    run = trainer.begin(make_parameters(trainer.problem, trainer.data))
    point, plain = run.point, module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a: replace(plain(*a), objective=np.inf))
    trainer.resume(run)
    assert run.point is point


def test_states_are_found_afresh_every_so_many_steps(
    make_trainer, make_data, make_problem, make_parameters, monkeypatch
):
    monkeypatch.setattr(module, "_AFRESH", 3)
    data, others = (make_data(m=400).sampled_rows(200, first) for first in (0, 1))
    trainer = make_trainer(data, make_problem("tanh"), others)
    run = trainer.begin(make_parameters(trainer.problem, data))
    found = []
    for name, rows in (("data", data), ("others", others)):
        monkeypatch.setattr(rows, "start_states", lambda _, name=name: found.append(name))
    steps = []
    trainer.advance(run, 7, lambda run: steps.append((run.n_iter, len(found))))
    assert steps == [(1, 0), (2, 0), (3, 2), (4, 2), (5, 2), (6, 4), (7, 4)]
    assert found == ["data", "others"] * 2


@pytest.mark.parametrize("phase", ["lifted", "exact"])
def test_data_that_are_lost_leave_the_best_iterate(phase, make_data, make_problem, objective_of):
    """Whether or not some inputs are excluded."""
    data = make_data()
    for weights in (np.ones(5), np.array([1.0, 1.0, np.inf, 1.0, np.inf])):
        problem, history = make_problem(group_weights=weights), []

        def callback(record, history=history):
            history.append(record)
            seen = [r["objective"] for r in history if r["phase"] == phase]
            if np.isfinite(seen).sum() == 3:
                raise DataLostError("gone")

        def train(data, problem, start, callback=callback):
            monitor = Monitor(callback=callback)
            rng = np.random.default_rng(0)
            return training.train(data, problem, start=start, rng=rng, monitor=monitor)

        with pytest.raises(DataLostError) as caught:
            training.on_allowed_inputs(data, problem, None, train)
        best = np.nanmin([r["objective"] for r in history if r["phase"] == phase])
        found = objective_of(problem, caught.value.parameters, data)
        assert found == pytest.approx(best, rel=1e-8)
