"""The experiments run, say what they found, and write their files."""

import json
import re

import numpy as np
import pytest

from experiments import scale_out
from experiments.sparsity_recovery import main
from experiments.teacher import draw


def test_a_seed_of_the_recovery(tmp_path, capsys):
    main(["--seeds", "1", "--out", str(tmp_path)])
    (outcomes,) = json.loads((tmp_path / "sparsity_recovery.json").read_text()).values()
    (outcome,) = outcomes
    assert outcome["exact"]
    assert outcome["true_r2"] > 0.8
    assert (tmp_path / "sparsity_recovery.png").read_bytes().startswith(b"\x89PNG")
    assert "exact support 1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--noise", "-1"], ["--seeds", "x"]])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(SystemExit):
        main(arguments)


def test_the_teacher_is_the_article_s():
    sample = draw(0, noise=0.1, n_fresh=10)
    assert sample.U.shape == (400, 50)
    assert sample.Y.shape == (400, 100)
    assert sample.B.shape == (20, 50)
    np.testing.assert_array_equal(sample.support, (sample.B != 0.0).any(axis=0))
    assert sample.support.sum() == 10
    assert draw(0).Y.std() < sample.Y.std()


@pytest.mark.parametrize("held_in", ["memory", "memmap", "threads"])
def test_scale_out(held_in, tmp_path, capsys):
    where = ["--held-in", held_in, "--folder", str(tmp_path)]
    scale_out.main(["--rows", "6000", "--max-iter", "3", "--chunk-rows", "1000", *where])
    printed = capsys.readouterr().out
    assert "us a row" in printed
    assert "peak memory" in printed


def test_scale_out_on_a_cluster(capsys):
    options = ["--rows", "6000", "--chunk-rows", "2500", "--max-iter", "3", "--workers", "1", "2"]
    scale_out.main(options)
    printed = capsys.readouterr().out
    assert "sent by workers a pass" in printed
    assert re.search(r"speed-up\W+1\.00\W+\d\.\d\d", printed)
    with pytest.raises(SystemExit):
        scale_out.main(["--held-in", "memmap"])


@pytest.mark.parametrize("number", [("--rows", "0"), ("--workers", "0"), ("--inputs", "9")])
def test_a_scale_of_nothing_is_refused(number, tmp_path):
    with pytest.raises(SystemExit):
        scale_out.main(["--held-in", "memory", "--folder", str(tmp_path), *number])
