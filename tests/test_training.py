"""The whole of training: restarts, stopping, history, interruption."""

from itertools import pairwise

import numpy as np
import pytest

import bcd_implicit.trainer as trainer_module
import bcd_implicit.training as module
from bcd_implicit.activations import Activation
from bcd_implicit.fits import Outcome
from bcd_implicit.lifted import LiftedDescent
from bcd_implicit.monitor import Monitor, Record
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import train


def fit(data, problem, *, seed=0, callback=None, **settings):
    """Train and return the fit and its history."""
    monitor = Monitor(callback=callback)
    result = train(data, problem, rng=np.random.default_rng(seed), monitor=monitor, **settings)
    return result, monitor.history


def exact_objectives(history, start=0):
    return [
        record["objective"]
        for record in history
        if record["phase"] == "exact" and record["start"] == start
    ]


def same_bits(one, other):
    return all(
        np.array_equal(block, getattr(other.point.parameters, name))
        for name, block in vars(one.point.parameters).items()
    )


class Arctan(Activation):
    """A user's own map, without Fenchel terms or a compiled branch."""

    name = "arctan"

    def value(self, Z, out=None):
        return np.arctan(Z, out=out)

    def derivative(self, Z):
        return 1 / (1 + Z**2)


def test_history_and_result(
    activation, loss, make_problem, make_data, objective_of, check_feasible, small_blocks
):
    problem, data = make_problem(activation, loss), make_data(loss)
    result, history = fit(data, problem, max_iter=6)
    assert all(set(record) == set(Record.__annotations__) for record in history)
    lifted = [record for record in history if record["phase"] == "lifted"]
    exact = [record for record in history if record["phase"] == "exact"]
    assert history == lifted + exact
    assert [record["block"] for record in lifted] == ["X", "C", "ABD"] * 3
    assert [record["block"] for record in exact] == ["C"] + ["ABD"] * result.n_iter
    values = np.array([record["lifted_objective"] for record in lifted])
    assert np.all(np.diff(values) <= 1e-12 * values[0])
    assert np.isfinite([record["objective"] for record in lifted[2::3]]).all()
    objectives = exact_objectives(history)
    assert np.all(np.diff(objectives) < 0.0)
    assert objectives[-1] == result.point.objective
    assert result.point.objective == pytest.approx(
        objective_of(problem, result.point.parameters, data), rel=1e-8
    )
    check_feasible(problem, result.point.parameters)
    assert exact[-1]["active_inputs"] == result.point.parameters.active.sum()
    assert all(record["step"] > 0.0 for record in exact)
    assert all(0.0 <= record["equilibrium_residual"] < 1e-6 for record in exact)
    assert np.all(np.diff([record["seconds"] for record in history]) >= 0.0)
    assert not result.interrupted


def test_the_true_objective_is_recorded_in_the_lifted_phase(
    make_problem, make_data, objective_of, monkeypatch
):
    problem, data = make_problem("tanh"), make_data()
    seen = []
    plain = trainer_module.true_objective

    def spy(data, problem, parameters, *tol):
        seen.append(objective_of(problem, parameters, data))
        return plain(data, problem, parameters, *tol)

    monkeypatch.setattr(trainer_module, "true_objective", spy)
    _, history = fit(data, problem, max_iter=0)
    recorded = [record["objective"] for record in history[2:-1:3]]
    np.testing.assert_allclose(recorded, seen, rtol=1e-8)


def test_training_finds_the_inputs_that_matter(make_problem, make_data):
    data = make_data(m=400)
    result, _ = fit(data, make_problem(alpha=0.05, l2=1e-3))
    assert result.point.parameters.active.tolist() == [True, True, False, False, False]
    assert result.converged


def test_the_seed_decides(make_problem, make_data):
    problem, data = make_problem(), make_data()
    first, _ = fit(data, problem, max_iter=3)
    again, _ = fit(data, problem, max_iter=3)  # the states of the first are still in the blocks
    other, _ = fit(data, problem, max_iter=3, seed=1)
    assert same_bits(first, again)
    assert first.point.objective == again.point.objective
    assert not same_bits(first, other)


@pytest.mark.parametrize("n_init", [2, 3, 5])
def test_the_best_of_several_starts_is_kept(n_init, make_problem, make_data, small_blocks):
    problem, data = make_problem("relu", alpha=1e-3, l2=1e-3), make_data()
    result, history = fit(data, problem, n_init=n_init, max_iter=60)
    starts = [exact_objectives(history, start) for start in range(n_init)]
    for values in starts:
        assert np.all(np.diff(values) < 0.0)
        assert len(values) - 1 <= 60
    assert result.point.objective <= min(map(min, starts)) * (1 + 1e-12)
    assert result.n_iter == max(map(len, starts)) - 1
    dropped = [len(values) - 1 for values in starts if len(values) - 1 <= 10]
    assert len(dropped) >= n_init // 2
    single, _ = fit(data, problem, max_iter=60)
    assert len(exact_objectives(history, 0)) - 1 <= max(single.n_iter, 10)


@pytest.mark.parametrize("steps", [[10, 10, 30, 40], [10, 30, 40]])
def test_halving_doubles_the_steps(steps, make_problem, make_data):
    problem, data = make_problem("relu", alpha=1e-4, l2=1e-4), make_data()
    _, history = fit(data, problem, n_init=len(steps), max_iter=40, tol=1e-12)
    counts = sorted(len(exact_objectives(history, start)) - 1 for start in range(len(steps)))
    assert counts == steps


@pytest.mark.parametrize("n_init", [1, 3])
def test_no_exact_step_at_all(n_init, make_problem, make_data, check_feasible):
    problem = make_problem()
    result, history = fit(make_data(), problem, max_iter=0, n_init=n_init)
    assert result.n_iter == 0
    assert not result.converged
    assert result.decrease == np.inf
    firsts = [exact_objectives(history, start) for start in range(n_init)]
    assert [len(values) for values in firsts] == [1] * n_init
    assert result.point.objective <= min(map(min, firsts))
    check_feasible(problem, result.point.parameters)


def test_the_tolerance_decides(make_problem, make_data):
    problem, data = make_problem("tanh"), make_data()
    loose, _ = fit(data, problem, tol=1e-2)
    tight, history = fit(data, problem, tol=1e-5, max_iter=400)
    assert loose.converged
    assert tight.converged
    assert tight.n_iter > loose.n_iter
    values = exact_objectives(history)
    expected = (values[-11] - values[-1]) / 10 / values[-1]
    assert tight.decrease == pytest.approx(expected)
    assert tight.outcome() == Outcome(tight.point.residual, tight.decrease, True, False)
    short, _ = fit(data, problem, tol=1e-8, max_iter=3)
    assert not short.converged


def test_the_window_says_over_how_many_steps(make_problem, make_data):
    problem, data = make_problem("tanh"), make_data()
    result, history = fit(data, problem, tol=1e-3, window=2)
    values = np.array(exact_objectives(history))
    decreases = (values[:-2] - values[2:]) / 2 / values[2:]
    assert result.converged
    assert result.decrease == pytest.approx(decreases[-1])
    assert decreases[-1] <= 1e-3 < decreases[:-1].min()
    assert result.n_iter < fit(data, problem, tol=1e-3)[0].n_iter


def test_training_ends_where_no_step_helps(make_problem, make_data, monkeypatch):
    monkeypatch.setattr(trainer_module.Stepper, "step", lambda *_: None)
    result, history = fit(make_data(), make_problem(), n_init=3)
    assert result.converged
    assert result.n_iter == 0
    firsts = [exact_objectives(history, start) for start in range(3)]
    assert result.point.objective <= min(map(min, firsts))


def test_a_warm_start_never_gets_worse(activation, loss, make_problem, make_data, objective_of):
    data = make_data(loss)
    first, _ = fit(data, make_problem(activation, loss, alpha=0.02), max_iter=5)
    problem = make_problem(activation, loss, alpha=0.01)
    start = first.point.parameters
    result, history = fit(data, problem, start=start, max_iter=3, n_init=7)
    before = objective_of(problem, start, data)
    assert exact_objectives(history)[0] <= before * (1 + 1e-9)
    assert result.point.objective <= before * (1 + 1e-9)
    assert all(record["phase"] == "exact" for record in history)


def test_a_warm_start_from_another_problem_is_made_feasible(
    make_problem, make_data, make_parameters, check_feasible
):
    data = make_data()
    start = make_parameters(make_problem(kappa=0.95), data)
    problem = make_problem(
        kappa=0.3,
        group_weights=np.array([1.0, np.inf, 1.0, 1.0, 1.0]),
        pattern=np.tri(4, k=-1, dtype=bool),
        feedthrough=False,
        intercept=False,
    )
    result, _ = fit(data, problem, start=start, max_iter=2)
    check_feasible(problem, result.point.parameters)
    assert np.isfinite(result.point.objective)


def test_a_warm_start_of_another_size_is_refused(make_problem, make_data, make_parameters):
    data = make_data()
    start = make_parameters(make_problem(n_states=3), data)
    with pytest.raises(ValueError, match="A must have shape"):
        fit(data, make_problem(), start=start)


MOMENTS = {
    "first_record": lambda history: True,
    "lifted": lambda history: len(history) == 5,
    "last_lifted": lambda history: len(history) == 9,
    "first_exact": lambda history: len(history) == 10,
    "every_exact": lambda history: history[-1]["phase"] == "exact",
    "later": lambda history: len(history) == 13,
    "second_start": lambda history: history[-1]["start"] == 1,
    "second_start_exact": lambda history: (
        (history[-1]["start"], history[-1]["phase"]) == (1, "exact")
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_interruption(
    moment, n_threads, make_problem, make_data, objective_of, check_feasible, small_blocks
):
    problem, data = make_problem(), make_data(n_threads=n_threads)
    history = []

    def callback(record):
        history.append(record)
        if MOMENTS[moment](history):
            raise KeyboardInterrupt

    n_init = 2 if moment.startswith("second") else 1
    result, recorded = fit(data, problem, callback=callback, n_init=n_init)
    assert result.interrupted
    assert not result.converged
    assert recorded == history
    check_feasible(problem, result.point.parameters)
    expected = objective_of(problem, result.point.parameters, data)
    assert result.point.objective == pytest.approx(expected, rel=1e-8)
    accepted = [record["objective"] for record in history if record["phase"] == "exact"]
    if accepted:
        assert result.point.objective == min(accepted)
    else:  # no worse than the best iterate of phase one
        seen = [record["objective"] for record in history]
        assert result.point.objective <= np.nanmin([np.inf, *seen])


def test_an_interrupted_fit_has_not_converged(make_problem, make_data):
    def callback(record):
        if record["phase"] == "exact":
            raise KeyboardInterrupt

    settings = {"tol": 1e9, "max_iter": 1}
    assert fit(make_data(), make_problem(), **settings)[0].converged
    assert not fit(make_data(), make_problem(), callback=callback, **settings)[0].converged


@pytest.fixture
def evaluated(monkeypatch):
    """Collect the parameters that are evaluated; the first evaluation can be interrupted."""
    plain, seen = trainer_module.evaluate, []

    def spy(data, problem, parameters, *tol):
        seen.append(parameters)
        if spy.interrupted and len(seen) == 1:
            raise KeyboardInterrupt
        return plain(data, problem, parameters, *tol)

    spy.interrupted = False
    monkeypatch.setattr(trainer_module, "evaluate", spy)
    return spy, seen


def test_interruption_of_the_first_pass_of_a_warm_start(
    make_problem, make_data, make_parameters, evaluated
):
    spy, seen = evaluated
    spy.interrupted = True
    problem, data = make_problem(), make_data()
    start = make_parameters(problem, data)
    result, history = fit(data, problem, start=start)
    assert result.interrupted
    assert history == []
    assert len(seen) == 2
    for name, block in vars(start).items():
        np.testing.assert_array_equal(getattr(seen[1], name), block)


def test_interruption_falls_back_on_the_best_lifted_iterate(
    make_problem, make_data, evaluated, monkeypatch
):
    _, seen = evaluated
    iterates = []

    def rising(data, problem, parameters):
        iterates.append(parameters)
        return abs(len(iterates) - 2.0), 0.0

    def callback(record):
        if len(iterates) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer_module, "true_objective", rising)
    assert fit(make_data(), make_problem(), callback=callback)[0].interrupted
    assert seen[0] is iterates[1]


@pytest.mark.parametrize("count", [1, 10, 12])
def test_other_errors_of_a_callback_propagate(count, make_problem, make_data):
    history = []

    def callback(record):
        history.append(record)
        if len(history) == count:
            raise LookupError("stop here")

    with pytest.raises(LookupError, match="stop here"):
        fit(make_data(), make_problem(), callback=callback)
    assert len(history) == count


def test_a_users_activation_trains_in_the_exact_phase(
    loss, make_problem, make_data, objective_of, check_feasible
):
    problem, data = make_problem(Arctan(), loss), make_data(loss)
    result, history = fit(data, problem, max_iter=15)
    assert all(record["phase"] == "exact" for record in history)
    values = exact_objectives(history)
    assert values[-1] < 0.9 * values[0]
    check_feasible(problem, result.point.parameters)
    expected = objective_of(problem, result.point.parameters, data)
    assert result.point.objective == pytest.approx(expected, rel=1e-8)


def test_integer_weights_train_like_repetitions(make_problem, make_data, loss):
    """With so few rows the metric samples all of them: only rounding errors differ.

    L-BFGS, which stops short of the minimum of the readout, amplifies them.
    """
    data = make_data(loss)
    count = np.random.default_rng(3).integers(0, 4, 40)
    weighted = RowBlocks(data.U, data.Y, count / count.sum(), data.centre, np.ones(5))
    U, Y = np.repeat(data.U, count, axis=0), np.repeat(data.Y, count, axis=0)
    repeated = RowBlocks(U, Y, np.full(len(U), 1 / len(U)), data.centre, np.ones(5))
    one, other = (
        fit(rows, make_problem("tanh", loss), max_iter=4)[0] for rows in (weighted, repeated)
    )
    accuracy = 1e-8 if loss.quadratic else 1e-6
    assert one.point.objective == pytest.approx(other.point.objective, rel=accuracy)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_fewer_samples_than_states(m, loss, make_problem, make_data, check_feasible):
    problem = make_problem("relu", loss)
    result, _ = fit(make_data(loss, m=m), problem, max_iter=5)
    assert np.isfinite(result.point.objective)
    check_feasible(problem, result.point.parameters)


def test_one_state_and_one_input(activation, make_problem, make_data, check_feasible):
    problem = make_problem(activation, n_states=1, n_inputs=1)
    whole = make_data()
    data = RowBlocks(whole.U[:, :1], whole.Y, whole.weights, np.zeros(1), np.ones(1))
    result, _ = fit(data, problem, max_iter=5)
    check_feasible(problem, result.point.parameters)


@pytest.mark.parametrize("loss", ["squared", "logistic"], indirect=True)
def test_constant_targets_need_no_input(loss, make_problem, make_data):
    data = make_data(loss)
    data.Y[:] = 1.0
    result, _ = fit(data, make_problem("relu", loss), max_iter=20)
    assert not result.point.parameters.active.any()
    assert result.point.objective == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.01])
def test_an_input_that_is_always_zero_gets_no_weight(alpha, make_problem, make_data, small_blocks):
    data = make_data()
    data.U[:, 3] = 0.0
    data.U[:20, 4] = 0.0
    result, _ = fit(data, make_problem(alpha=alpha), max_iter=3)
    parameters = result.point.parameters
    assert not parameters.active[3]
    assert alpha or parameters.active[[0, 1, 2, 4]].all()


def test_no_input_is_allowed(loss, make_problem, make_data):
    problem = make_problem("relu", loss, group_weights=np.full(5, np.inf))
    data = make_data(loss)
    result, _ = fit(data, problem, max_iter=5)
    assert not result.point.parameters.active.any()
    constant = loss.initial_intercept(data.Y, data.weights)
    F = np.broadcast_to(constant, data.Y.shape)
    assert result.point.objective == pytest.approx(loss.value(data.Y, F, data.weights), rel=1e-6)


def test_verbose_writes_lines(capsys):
    for verbose, lines in ((0, 0), (1, 3), (2, 21)):
        monitor = Monitor(verbose)
        for _ in range(21):
            monitor.record("exact", "ABD", objective=1.25, active_inputs=3)
        out = capsys.readouterr().out
        assert len(out.splitlines()) == lines
        assert out.count("objective 1.25") == lines


def test_passes_and_seconds_go_on_with_a_fit_that_is_taken_up():
    before, after = Monitor(), Monitor()
    before.record("exact", "ABD", active_inputs=1, passes=7)
    before.history[0]["seconds"] = 1e6
    after.go_on(before.history)
    after.record("exact", "ABD", active_inputs=1)  # is in the history already
    after.record("exact", "ABD", active_inputs=1, passes=2)
    assert [record["passes"] for record in after.history] == [7, 9]
    assert after.history[1]["seconds"] >= 1e6


def test_a_record_is_complete():
    monitor = Monitor()
    monitor.start = 4
    monitor.record("lifted", "X", lifted_objective=2.0, active_inputs=1)
    (record,) = monitor.history
    assert (record["start"], record["lifted_objective"], record["active_inputs"]) == (4, 2.0, 1)
    assert np.isnan([record["objective"], record["step"], record["equilibrium_residual"]]).all()


@pytest.mark.parametrize("n_init", [1, 2])
def test_many_rows_are_begun_with_few(
    make_problem, make_data, objective_of, check_feasible, monkeypatch, n_init
):
    problem, data = make_problem(), make_data(m=400, seed=2)
    plain, _ = fit(data, problem, tol=1e-6)
    monkeypatch.setattr(module, "_MANY_ROWS", 40)
    nested, history = fit(data, problem, tol=1e-6, n_init=n_init)
    rows = [record["rows"] for record in history]
    assert sorted(set(rows)) == [7, 50, 400]
    assert rows == sorted(rows)
    assert {record["rows"] for record in history if record["phase"] == "lifted"} == {7}
    for size in (7, 50, 400):
        values = [r["objective"] for r in history if r["phase"] == "exact" and r["rows"] == size]
        if n_init == 1 or size > 7:
            assert np.all(np.diff(values) < 0.0)
    if n_init == 1:
        lengths = [[r["step"] for r in history if r["rows"] == size] for size in (7, 50, 400)]
        for few, more in pairwise(lengths):  # as long as the next step of the few would be
            assert more[0] in (2.0**k for k in range(-4, 1))
            assert 0.7 < more[0] / min(max(few[-1], 1.0 / 16.0), 1.0) < 1.42
    check_feasible(problem, nested.point.parameters)
    assert nested.converged
    assert nested.point.objective == pytest.approx(
        objective_of(problem, nested.point.parameters, data)
    )
    assert nested.point.objective < 1.05 * plain.point.objective
    assert same_bits(nested, fit(data, problem, tol=1e-6, n_init=n_init)[0])


@pytest.mark.parametrize("size", [7, 50, 400])
def test_an_interrupt_among_few_rows_leaves_a_model_of_all(
    make_problem, make_data, objective_of, monkeypatch, size
):
    monkeypatch.setattr(module, "_MANY_ROWS", 40)
    problem, data = make_problem(), make_data(m=400)

    def callback(record):
        if record["rows"] == size and record["phase"] == "exact" and record["block"] == "ABD":
            raise KeyboardInterrupt

    found, _ = fit(data, problem, callback=callback)
    assert found.interrupted
    assert not found.converged
    assert found.point.objective == pytest.approx(
        objective_of(problem, found.point.parameters, data)
    )


@pytest.mark.parametrize("many", [100, 1000])
def test_the_curvature_of_rows_is_for_many_rows(make_problem, make_data, monkeypatch, many):
    monkeypatch.setattr(module, "_MANY_ROWS", many)
    taken = []

    def sample(data, problem):
        taken.append(data.n_samples)

    monkeypatch.setattr(trainer_module, "curvature_sample", sample)
    fit(make_data(m=400), make_problem(), max_iter=2)
    assert taken == ([50, 400] if many == 100 else [])  # a part, and all


def test_an_interrupt_while_rows_are_sampled_keeps_what_few_rows_gave(
    make_problem, make_data, monkeypatch
):
    monkeypatch.setattr(module, "_MANY_ROWS", 40)
    problem, data = make_problem(), make_data(m=400)
    asked = []

    def sample(some, _):
        asked.append(some.n_samples)
        if asked == [7, 50, 400]:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer_module, "curvature_sample", sample)
    found, history = fit(data, problem)
    few = [record["objective"] for record in history if record["rows"] == 50]
    assert found.interrupted
    assert asked == [7, 50, 400, 400]
    assert found.point.objective < 2.0 * few[-1]
    assert found.point.objective < 0.5 * fit(data, problem, max_iter=0)[0].point.objective


def test_rows_that_were_held_out_end_what_others_do_not_confirm(make_problem, make_data):
    problem, data = make_problem("tanh", alpha=1e-4, l2=1e-4), make_data(m=40)
    data.Y[:] = np.random.default_rng(1).standard_normal(data.Y.shape)  # nothing to be learnt
    free, _ = fit(data, problem, max_iter=100)
    bound, _ = fit(data, problem, max_iter=100, held_out=make_data(m=40, seed=1))
    assert free.n_iter > 2 * bound.n_iter
    assert bound.n_iter <= 6  # the first look is after five steps


def test_a_fit_ends_where_it_will_not_beat_its_rival(
    make_problem, make_data, make_parameters, monkeypatch
):
    problem, data = make_problem(), make_data()
    begun, _ = fit(data, problem, start=make_parameters(problem, data), max_iter=5)
    settings = {"start": begun.point.parameters, "max_iter": 20}
    free, history = fit(data, problem, **settings)
    values = exact_objectives(history)
    assert len(values) > 10
    same, _ = fit(data, problem, **settings, rival=values[0])
    assert same.point.objective == free.point.objective
    far, _ = fit(data, problem, **settings, rival=values[0] / 1.3)
    assert far.n_iter == 0
    monkeypatch.setattr(trainer_module, "_FAR", np.inf)
    late, short = fit(data, problem, **settings, rival=values[-1] - (values[-2] - values[-1]))
    assert 0 < late.n_iter < free.n_iter
    *_, before, last = exact_objectives(short)
    missing = last - values[-1] + (values[-2] - values[-1])
    assert missing > (20 - late.n_iter) * (before - last)


def test_rows_that_were_held_out_and_agree_change_nothing(make_problem, make_data):
    problem, data = make_problem("tanh"), make_data(m=200)
    free, _ = fit(data, problem, max_iter=8)
    bound, _ = fit(data, problem, max_iter=8, held_out=make_data(m=200))  # the same rows
    assert bound.n_iter == free.n_iter == 8


def test_a_monitor_that_nobody_hears(make_problem, make_data, monkeypatch):
    """It keeps nothing, and the lifted objective, a pass of its own, is not evaluated for it."""
    monkeypatch.setattr(LiftedDescent, "objective", None)
    monitor = Monitor(keep=False)
    settings = {"rng": np.random.default_rng(0), "max_iter": 2}
    silent = train(make_data(), make_problem(), monitor=monitor, **settings)
    assert monitor.history == []
    monkeypatch.undo()
    settings["rng"] = np.random.default_rng(0)
    assert silent.point.objective == train(make_data(), make_problem(), **settings).point.objective
