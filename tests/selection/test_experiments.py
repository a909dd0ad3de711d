"""The comparisons of selections run, say what they found, and write their files."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from experiments.selection import (
    choices,
    false_discoveries,
    nonlinear,
    phase_transition,
    real_data,
)
from experiments.selection.contenders import CONTENDERS
from experiments.selection.datasets import Dataset, load, splits
from experiments.selection.problems import LINEAR, PROBLEMS
from experiments.selection.running import f1, rank_inputs, worst_rank


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


def test_f1_and_rank():
    true = np.array([True, False, True, False])
    assert f1(np.array([0, 1, 2, 3]), true) == 0.5
    assert worst_rank(np.array([0, 1, 2, 3]), true) == 3
    assert f1(np.array([2, 0, 1, 3]), true) == 1.0


@pytest.mark.parametrize("name", [*PROBLEMS, *LINEAR])
def test_a_problem_has_its_true_inputs_and_correlations(name):
    problem = (PROBLEMS | LINEAR)[name]
    drawn = problem.draw(0, 3000)
    assert drawn.true.sum() == problem.n_true
    assert np.corrcoef(drawn.X[:, 0], drawn.X[:, 1])[0, 1] == pytest.approx(problem.rho, abs=0.06)


@pytest.mark.parametrize("name", ["random forest", "mutual information", "Fisher score"])
@pytest.mark.parametrize("classes", [False, True])
def test_a_contender_ranks(name, classes):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 6))
    y = X[:, 4] + 0.1 * rng.standard_normal(200)
    target = (y > 0.0).astype(np.intp) if classes else y
    ranking = rank_inputs(name, X, target, 1, 0)
    assert ranking.error == ""
    assert ranking.order[0] == 4
    assert sorted(ranking.order) == list(range(6))


def test_ties_are_broken_at_random(monkeypatch):
    monkeypatch.setitem(CONTENDERS, "constant", lambda X, y, k, seed: np.zeros(X.shape[1]))
    X = np.zeros((3, 50))
    assert rank_inputs("constant", X, X[:, 0], 1, 0).order[0] != 0


def test_a_failure_is_shown(tmp_path, monkeypatch, capsys):
    def fail(X, y, k, seed):
        raise RuntimeError("no luck")

    monkeypatch.setitem(CONTENDERS, "fails", fail)
    monkeypatch.setattr(nonlinear, "_COMPARED", ("fails", "mutual information"))
    problems = ["--problems", "products", "--seeds", "1", "--samples", "100"]
    nonlinear.main([*problems, "--out", str(tmp_path)])
    first, second = json.loads((tmp_path / "nonlinear.json").read_text())
    assert first["error"] == "RuntimeError: no luck"
    assert 0.0 <= second["f1"] <= 1.0
    assert is_png(tmp_path / "nonlinear.png")
    assert "no luck" in capsys.readouterr().out


def test_phase_transition(tmp_path):
    setting = ["--samples", "200", "--true", "2", "--noise", "0.1", "--seeds", "1"]
    methods = ["--methods", "10 states", "random forest", "MultiTaskLassoCV"]
    phase_transition.main([*setting, *methods, "--out", str(tmp_path)])
    first, *others = json.loads((tmp_path / "phase_transition.json").read_text())
    assert first["exact"] == 1.0
    assert len(others) == 2
    assert is_png(tmp_path / "phase_transition.png")
    more = ["--samples", "50", "200", *setting[2:], "--methods", "MultiTaskLassoCV"]
    phase_transition.main([*more, "--out", str(tmp_path)])
    again = json.loads((tmp_path / "phase_transition.json").read_text())
    assert [row["samples"] for row in again] == [200, 200, 50, 200]
    assert again[0] == first


def test_real_data(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (60, 12))
    savemat(tmp_path / "colon.mat", {"X": X, "Y": np.where(X[:, 3] > 4, 1, -1)})
    setting = ["--data", str(tmp_path), *["--sets", "colon", "--seeds", "1", "--k", "3"]]
    methods = ["--methods", "Fisher score", "all inputs"]
    real_data.main([*setting, *methods, "--out", str(tmp_path)])
    first, second = json.loads((tmp_path / "real_data.json").read_text())
    assert (first["n"], second["n"]) == (3, 12)
    assert first["trees"] > 0.7
    assert is_png(tmp_path / "real_data.png")
    assert "± nan" in capsys.readouterr().out  # the deviation of one split is not zero


def test_equal_inputs_have_equal_accuracies_whatever_their_order(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 9))
    data = Dataset(X, (X[:, 1] * X[:, 4] + X[:, 6] > 0.0).astype(np.intp))
    rows = np.arange(50), np.arange(50, 80)
    found = []
    for name, scores in (("Fisher score", [3, 2, 1]), ("random forest", [1, 2, 3])):
        ranks = np.zeros(9)
        ranks[[6, 4, 1]] = scores
        monkeypatch.setitem(CONTENDERS, name, lambda *_, ranks=ranks: ranks)
        found.append(real_data.compare(data, "", name, 3, 0, rows))
    assert found[0]["inputs"] == found[1]["inputs"]
    assert found[0]["trees"] == found[1]["trees"]
    assert found[0]["ours"] == found[1]["ours"]


def test_false_discoveries(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        false_discoveries.METHODS, "bcd_implicit", lambda drawn, fdr, seed: drawn.true
    )
    setting = ["--seeds", "1", "--samples", "100"]
    false_discoveries.main([*setting, "--out", str(tmp_path)])
    shares = json.loads((tmp_path / "false_discoveries.json").read_text())
    assert shares["bcd_implicit"] == [[0.0, 1.0]]
    assert is_png(tmp_path / "false_discoveries.png")
    assert "rate 0.000 (standard error unknown)" in capsys.readouterr().out


def test_rows_of_a_group_stay_together():
    groups = np.repeat(np.arange(10), 6)
    data = Dataset(np.zeros((60, 1)), np.tile([0, 1], 30), groups)
    for train, test in splits(data, 3):
        assert not set(groups[train]) & set(groups[test])


def test_a_file_that_is_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"COIL20.mat .* --data"):
        load("COIL-20", tmp_path)


@pytest.mark.parametrize("module", [false_discoveries, nonlinear, phase_transition, real_data])
@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--nothing", "0"]])
def test_bad_arguments_are_refused(module, arguments):
    with pytest.raises(SystemExit):
        module.main(arguments)


def test_more_true_inputs_than_inputs_are_refused():
    with pytest.raises(SystemExit):
        phase_transition.main(["--true", "51"])


def test_ways_of_choosing(tmp_path, capsys):
    few = ["--samples", "200", "--seeds", "1", "--targets", "five linear, as much noise"]
    choices.main([*few, "--ways", 'alpha="auto"', "BIC", "--out", str(tmp_path)])
    auto, bic = json.loads((tmp_path / "choices.json").read_text())
    assert auto["missed"] == bic["missed"] == 0
    assert max(auto["false"], bic["false"]) < 10  # of 45
    assert min(auto["r2"], bic["r2"]) > 0.35  # half of the variance is noise
    assert is_png(tmp_path / "choices.png")
    assert "BIC" in capsys.readouterr().out
