"""The harness of the benchmarks: fair turns, nothing dropped silently, and what is written."""

import json
import sys
from subprocess import CompletedProcess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from rich.console import Console

from experiments.benchmarks import equilibrium, scaling, training
from experiments.benchmarks.__main__ import main
from experiments.benchmarks._torch_equilibria import torch_contenders
from experiments.benchmarks.group_lasso import _Tuned
from experiments.benchmarks.harness import Comparison, Contender, Curve, Row, compare
from experiments.benchmarks.problems import article
from experiments.benchmarks.recovery import (
    _on_one_thread,
    _path,
    _unexplained,
    _unexplained_by_lasso_net,
    _unexplained_by_path,
    _wrong,
)
from experiments.benchmarks.report import print_comparison, save, save_figures, save_tables
from experiments.teacher import draw


@pytest.fixture
def turns(monkeypatch):
    """Record who runs when; a run takes as many seconds as the clock is told."""
    ran = []
    now = [0.0]
    monkeypatch.setattr("experiments.benchmarks.harness.time.perf_counter", lambda: now[0])

    def make(name, seconds, error=None):
        def run():
            ran.append(name)
            now[0] += seconds
            if error and ran.count(name) == error:
                raise RuntimeError("no luck")
            return name

        return Contender(name, run, lambda result: len(result))

    return ran, make


def test_contenders_take_turns(turns):
    ran, make = turns
    found = compare("group", "work", "size", [make("ours", 1.0), make("other", 3.0)], repeats=5)
    assert ran == ["ours", "other"] * 6
    assert [row.seconds for row in found.rows] == [[1.0] * 5, [3.0] * 5]
    assert found.ratio(found.rows[1]) == 3.0
    assert found.rows[1].accuracy == 5.0


def test_what_fails_or_is_slow_is_reported(turns):
    ran, make = turns
    contenders = [make("ours", 1.0), make("bad", 1.0, error=2), make("slow", 9.0)]
    found = compare("group", "work", "size", contenders, repeats=3, patience=5.0)
    assert ran.count("slow") == 1
    assert ran.count("bad") == 2
    assert found.rows[1].error == "RuntimeError: no luck"
    assert found.rows[2].seconds == [9.0]


def test_ours_may_compile_for_longer_than_others_may_run(turns):
    ran, make = turns
    found = compare("group", "work", "size", [make("ours", 9.0)], repeats=3, patience=5.0)
    assert ran.count("ours") == 4
    assert found.rows[0].seconds == [9.0] * 3


def test_everything_is_written(turns, tmp_path):
    _, make = turns
    contenders = [make("ours", 0.5), make("other", 1.5), make("bad", 1.0, error=1)]
    found = compare("group", "work", "size", contenders, repeats=2, target=2.0, note="a note")
    console = Console(record=True, width=130)
    print_comparison(console, found)
    text = " ".join(console.export_text().split())
    assert "3 x" in text
    assert "a note" in text
    assert "RuntimeError" in text
    save_tables(tmp_path / "tables.md", [found])
    lines = (tmp_path / "tables.md").read_text().splitlines()
    assert "| work | ours | 4 | 0.5 s (0.5 to 0.5) |" in lines
    assert "|  | other | 5 | **3 x** (3 to 3) |" in lines
    assert any("failed: RuntimeError: no luck" in line for line in lines)
    curve = Curve("problem", "objective", {"bcd_implicit": [(0.1, 1.0), (1.0, 0.5)]})
    save(tmp_path / "all.json", [found], [curve])
    content = json.loads((tmp_path / "all.json").read_text())
    assert content["machine"]["cores"] >= 1
    assert content["comparisons"][0]["ratios"] == {"other": 3.0}
    assert content["comparisons"][0]["rows"][2]["accuracy"] is None
    (path,) = save_figures(tmp_path, [curve])
    assert path.stat().st_size > 1000
    assert save_figures(tmp_path, []) == []


def test_a_solver_that_never_reaches_the_gap_fails():
    solver = _Tuned(lambda tol: np.zeros(1), lambda C: 1e-3, 1e-4)
    with pytest.raises(RuntimeError, match=r"gap 1\.0e-03 at tolerance"):
        solver()


def test_what_ends_a_group_is_a_result(monkeypatch, tmp_path, capsys):
    def run(*, full):
        yield Curve("problem", "objective", {"ours": [(1.0, 0.5)]})
        yield Comparison("training", "work", "objective", [Row("ours", [], float(full))])
        raise RuntimeError("no memory")

    monkeypatch.setitem(sys.modules, "experiments.benchmarks.training", SimpleNamespace(run=run))
    monkeypatch.setitem(sys.modules, "experiments.benchmarks.scaling", None)
    monkeypatch.setattr(sys, "argv", ["x", "--only", "training", "scaling", "--out", str(tmp_path)])
    main()
    content = json.loads((tmp_path / "benchmarks.json").read_text())
    errors = [one["rows"][0]["error"] for one in content["comparisons"]]
    assert errors[:2] == ["", "RuntimeError: no memory"]
    assert "experiments.benchmarks.scaling" in errors[2]
    assert "no memory" in (tmp_path / "benchmarks.md").read_text()
    assert (tmp_path / "objective_against_time.png").exists()
    assert "no memory" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["torchdeq", "torchidl"])
def test_a_missing_opponent_fails_alone(monkeypatch, package):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "experiments.benchmarks.torchidl_training", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    problem = equilibrium.draw(3, 10, slow=False)
    found = equilibrium.compare("g", "w", "error", torch_contenders(problem, 1), repeats=1)
    failed = [row for row in found.rows if package in row.error]
    assert failed
    assert {row.name.split()[0] for row in failed} == {package}
    if package == "torchidl":
        assert package in training._torchidl(None, (1.0,), 1).error


def test_a_user_who_interrupts_ends_the_benchmark(monkeypatch):
    task = article(2)
    monkeypatch.setattr(training, "train", lambda *_, **__: SimpleNamespace(interrupted=True))
    with pytest.raises(KeyboardInterrupt):
        training.ours(task, 0, limit=60.0)
    monkeypatch.undo()
    ((seconds, objective),) = training.ours(task, 0, limit=60.0, level=1.0)
    assert seconds < 60.0
    assert objective < 1.0


def test_a_plain_iteration_is_a_product(monkeypatch):
    products, matmul = [], np.matmul
    problem = equilibrium.draw(3, 10, slow=False)
    monkeypatch.setattr(np, "matmul", lambda *a, **k: products.append(1) or matmul(*a, **k))
    equilibrium.picard_whole(problem)
    assert problem.picard_iterations == len(products)


def test_a_size_that_fails_leaves_the_others(monkeypatch):
    def fit(words, **_):
        m = int(words[3])
        failed = CompletedProcess(words, -9, "", "")
        return failed if m == 1000 else CompletedProcess(words, 0, f"{m**0.5} 1.0 0 7", "")

    monkeypatch.setattr("subprocess.run", fit)
    fits = [(m, 5, 1, "0.01") for m in (10, 100, 1000)]
    found = scaling._growth("samples", fits, [10, 100, 1000], 1.0, repeats=2)
    assert "exponent 0.50" in found.work
    assert found.note == "10: 7 iterations, 0 wrong inputs; 100: 7 iterations, 0 wrong inputs"
    assert [row.error.strip() for row in found.rows] == ["", "", "exit status -9"]


def test_lassonet_has_one_thread():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert _on_one_thread(lambda *_: torch.get_num_threads(), None) == 1
    finally:
        torch.set_num_threads(before)


def test_errors_are_written_as_they_are(tmp_path):
    rows = [Row("ours", [1.0], 0.0), Row("bad", [], error="x[scs] [/x] |x|")]
    found = Comparison("group", "work", "size", rows)
    console = Console(record=True, width=130)
    print_comparison(console, found)
    assert "x[scs] [/x] |x|" in console.export_text()
    save_tables(tmp_path / "tables.md", [found])
    assert r"failed: x[scs] [/x] \|x\| |" in (tmp_path / "tables.md").read_text()


@pytest.fixture
def shrunken():
    """Return a sample, and what predicts a part of the deviations of its targets."""
    sample = draw(0, n_samples=2, n_inputs=4, n_true=2)
    mean = sample.Y_fresh.mean(axis=0)
    return sample, lambda part: mean + part * (sample.Y_fresh - mean)


def test_a_path_counts_where_it_has_the_true_inputs_and_predicts_best(shrunken):
    sample, predict = shrunken
    models = [(~sample.support, lambda _: sample.Y_fresh)]
    assert _unexplained(sample, models) == np.inf
    models += [(sample.support, lambda _, part=part: predict(part)) for part in (0.5, 0.9, 0.0)]
    assert_allclose(_unexplained(sample, models), 0.01)


def test_points_of_lassonet_predict_with_parameters_of_their_own(shrunken):
    sample, predict = shrunken
    loaded = []
    model = SimpleNamespace(load=loaded.append, predict=lambda _: predict(loaded[-1]))
    selected = torch.tensor(sample.support)
    points = [SimpleNamespace(selected=selected, state_dict=part) for part in (0.5, 0.9, 0.0)]
    assert_allclose(_unexplained_by_lasso_net(sample, (model, points)), 0.01)


def test_strengths_of_our_path_are_looked_through():
    sample = draw(0, noise=0.1)
    ours = _unexplained_by_path(sample, _path(sample, max_iter=0))
    assert 0.1 < ours < 0.2
    assert ours < _unexplained_by_path(sample, _path(sample, max_iter=0, alphas=[0.2, 0.3]))


def test_inputs_are_wrongly_in_or_out():
    truth = np.array([True, False, True, False])
    assert _wrong(truth, [True, False, False, True]) == 2.0
