"""The pages about networks run, say what they found, and write their figures."""

import gzip
import math

import numpy as np
import pytest
from scipy.stats import norm

from bcd_implicit import ImplicitModel
from experiments.networks import connections, gallery, layers, lenet, literature, teachers
from experiments.networks.images import fashion


def is_png(path):
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [(layers, ["--seeds", "0"]), (literature, ["--draws", "0"]), (lenet, ["--repeats", "0"])],
)
def test_bad_arguments_are_refused(module, arguments):
    with pytest.raises(SystemExit):
        module.main(arguments)


def test_the_gallery_is_exact(tmp_path):
    networks = gallery.entries(0)
    assert len(networks) == 16
    for entry in networks:
        U = np.random.default_rng(1).standard_normal((20, entry.model.n_inputs))
        np.testing.assert_allclose(entry.model.predict(U), entry.original(U), rtol=0, atol=1e-10)
    gallery.main(["--out", str(tmp_path)])
    assert is_png(tmp_path / "gallery.png")


def test_lenet(tmp_path, capsys):
    lenet.main(["--out", str(tmp_path), "--repeats", "1"])
    assert is_png(tmp_path / "lenet.png")
    assert "12812 states" in capsys.readouterr().out


def test_connections(tmp_path, capsys):
    connections.main(["--out", str(tmp_path)])
    assert is_png(tmp_path / "connections.png")
    assert "certified up to a gain of" in capsys.readouterr().out


def write_images(folder, rows=30):
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        for kind, header, shape in (("images-idx3", 16, (rows, 784)), ("labels-idx1", 8, (rows,))):
            values = rng.integers(0, 10 if header == 8 else 256, shape, dtype=np.uint8)
            with gzip.open(folder / f"{part}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.tobytes())


def test_images_are_read_from_a_folder(tmp_path):
    write_images(tmp_path)
    images = fashion(tmp_path, 20)
    assert (images.U.shape, images.U_test.shape) == ((20, 784), (30, 784))
    assert 0.0 <= images.U.min() < images.U.max() <= 1.0
    assert set(images.y) <= set(range(10))
    part = images.part(1, 8)
    np.testing.assert_array_equal(part.U, images.U[8:16])
    assert len(part.y) == 8
    assert part.U_test is images.U_test


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte\.gz"):
        fashion(tmp_path, 20)


def test_layers(tmp_path, capsys, monkeypatch):
    write_images(tmp_path, 200)
    monkeypatch.setattr(layers, "_SHAPES", ((12, 8), (8, 6, 4)))
    layers.main(
        [
            "--seeds",
            "1",
            "--steps",
            "3",
            "--out",
            str(tmp_path),
            "--fashion",
            "--data",
            str(tmp_path),
        ]
    )
    assert is_png(tmp_path / "layers.png")
    assert "what freeing the zeros of A gained" in capsys.readouterr().out


def split(numbers, *shapes):
    """Cut a vector into matrices and vectors of these shapes."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    assert ends[-1] == len(numbers)
    parts = np.split(numbers, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@pytest.mark.parametrize("uniform", [False, True])
def test_a_teacher_is_an_implicit_model(uniform):
    numbers, U, y = teachers.draw(teachers.Kind(network=False, uniform=uniform), 3)
    weights = 2.0 * norm.cdf(numbers) - 1.0 if uniform else numbers
    intercepts = ((10,), (2,)) if uniform else ()
    A, B, C, D, *bd = split(weights, (10, 10), (10, 5), (2, 10), (2, 5), *intercepts)
    A = A * (0.5 / np.abs(A).sum(axis=1).max())
    np.testing.assert_array_equal(ImplicitModel(A, B, C, D, *bd).predict(U).argmax(axis=1) == 1, y)
    assert bool((np.abs(U) <= 1.0).all()) == uniform


@pytest.mark.parametrize("uniform", [False, True])
def test_a_teacher_is_a_network(uniform):
    numbers, U, y = teachers.draw(teachers.Kind(network=True, uniform=uniform), 3)
    weights = 2.0 * norm.cdf(numbers) - 1.0 if uniform else numbers
    intercepts = ((5,), (5,), (2,)) if uniform else ()
    first, second, last, *b = split(weights, (5, 5), (5, 5), (2, 5), *intercepts)
    a, b, c = b if uniform else (0.0, 0.0, 0.0)
    values = np.maximum(np.maximum(U @ first.T + a, 0.0) @ second.T + b, 0.0) @ last.T + c
    np.testing.assert_array_equal(values.argmax(axis=1) == 1, y)


@pytest.mark.parametrize("kind", teachers.KINDS.values(), ids=teachers.KINDS)
def test_all_teachers_that_vote_agree_with_the_labels(kind):
    numbers, U, y = teachers.draw(kind, 3)
    votes = teachers.agreeing_votes(*kind, numbers, U, y, 300, np.random.default_rng(0))
    np.testing.assert_array_equal(votes[:20], y[:20])
    assert votes[20:].max() > 0.0
    assert len(np.unique(votes[20:])) > 2  # they do not agree on all else
    again = teachers.agreeing_votes(*kind, numbers, U, y, 300, np.random.default_rng(0))
    np.testing.assert_array_equal(votes, again)
    assert teachers.best_possible(kind, 2, 100).shape == (2,)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_literature(tmp_path, capsys, monkeypatch):
    write_images(tmp_path, 200)
    monkeypatch.setattr(literature, "_STEPS", 2)
    monkeypatch.setattr(literature, "_STATES", 20)
    literature.main(
        [
            "--draws",
            "1",
            "--steps",
            "3",
            "--out",
            str(tmp_path),
            "--fashion",
            "--data",
            str(tmp_path),
        ]
    )
    assert is_png(tmp_path / "regression.png")
    printed = capsys.readouterr().out
    assert "implicit, 75 states: error" in printed
    assert "784-60-40-10" in printed
