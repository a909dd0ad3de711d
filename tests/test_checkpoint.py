"""A fit that is taken up ends where the undisturbed one does."""

import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

import bcd_implicit.checkpoint as module
import bcd_implicit.trainer as trainer_module
from bcd_implicit import ImplicitClassifier, InterruptedFitWarning, Pattern
from bcd_implicit.activations import Activation
from bcd_implicit.checkpoint import Checkpoint, previous
from bcd_implicit.exceptions import CheckpointWarning
from bcd_implicit.monitor import Monitor
from tests.fits import assert_same_blocks, samples, set_limits, small_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Killed(BaseException):
    """What ends a fit as a kill would: nothing catches it."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make few rows count as many."""
    set_limits(monkeypatch, many=60)


def data():
    return samples(240, 4)


def model(path=None, **settings):
    if path is not None:
        settings |= {"checkpoint": path, "checkpoint_every": 2}
    return small_model(**settings)


def same(one, other):
    assert_same_blocks(one, other)
    assert one.n_iter_ == other.n_iter_
    assert len(one.history_) == len(other.history_)
    for first, second in zip(one.history_, other.history_, strict=True):
        assert [first[k] for k in ("stage", "start", "rows", "phase", "block")] == [
            second[k] for k in ("stage", "start", "rows", "phase", "block")
        ]
        np.testing.assert_allclose(first["objective"], second["objective"], rtol=1e-8)


def kill_after(records):
    left = [records]

    def callback(_):
        left[0] -= 1
        if left[0] <= 0:
            raise Killed

    return callback


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_init": 3},
        {"alpha": "auto", "max_iter": 3},
        {"random_state": None},
        {"kind": ImplicitClassifier},
        {"groups": [0, 1, 0, 2], "activation": "tanh"},
    ],
    ids=str,
)
def test_killed_anywhere_and_taken_up(settings, tmp_path):
    X, y = data()
    if "kind" in settings:
        y = y > np.median(y)
    path = tmp_path / "fit.npz"
    if "random_state" in settings:  # the first start decides
        with pytest.raises(Killed):
            model(path, **settings, callback=kill_after(10)).fit(X, y)
        whole = model(path, **settings, resume=True).fit(X, y)
        assert whole.history_[-1]["seconds"] > 0.0
        return
    whole = model(**settings).fit(X, y)
    records = len(whole.history_)
    for place in np.linspace(1, records, 6).astype(int):
        path.unlink(missing_ok=True)
        previous(path).unlink(missing_ok=True)
        with pytest.raises(Killed):
            model(path, **settings, callback=kill_after(place)).fit(X, y)
        with suppress(Killed):  # twice
            model(path, **settings, callback=kill_after(5), resume=True).fit(X, y)
        same(whole, model(path, **settings, resume=True).fit(X, y))
    seconds = [r["seconds"] for r in model(path, **settings, resume=True).fit(X, y).history_]
    assert seconds == sorted(seconds)


def test_a_fit_that_is_taken_up_twice_keeps_its_first_random_numbers(tmp_path):
    first = np.random.default_rng(0).bit_generator.state
    for seed in range(3):
        rng = np.random.default_rng(seed)
        file = Checkpoint(tmp_path / "fit.npz", 1, Monitor(), rng, {}, resume=seed > 0)
        assert rng.bit_generator.state == first
        file.put(str(seed), {}, rng)


def test_what_had_ended_is_not_computed_again(tmp_path):
    X, y = data()
    seen = []
    path = tmp_path / "fit.npz"
    whole = model(path).fit(X, y)
    again = model(path, resume=True, callback=seen.append).fit(X, y)
    same(whole, again)
    assert seen == []


def test_a_fit_without_resume_starts_again(tmp_path):
    X, y = data()
    path, seen = tmp_path / "fit.npz", []
    whole = model(path).fit(X, y)
    model(path, callback=seen.append).fit(X, y)
    assert len(seen) == len(whole.history_)


@pytest.mark.parametrize("how", ["truncated", "altered", "empty", "missing", "another file"])
def test_a_damaged_checkpoint_is_passed_over(how, tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    whole = model().fit(X, y)
    with pytest.raises(Killed):
        model(path, callback=kill_after(len(whole.history_) - 1)).fit(X, y)
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "altered":
        at = content.index(b"NUMPY", len(content) // 3) + 150
        path.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    elif how == "another file":
        np.savez(path, header=np.array('{"format": "x", "version": 1}'))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()  # killed between the two renames
    if how == "missing":
        same(whole, model(path, resume=True).fit(X, y))
        return
    with pytest.warns(CheckpointWarning, match=r"(damaged|not one).*taken up from .*previous"):
        same(whole, model(path, resume=True).fit(X, y))


def test_two_damaged_checkpoints_are_refused(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    fitted = model(path).fit(X, y)
    before = fitted.A_
    for damaged in (path, previous(path)):
        damaged.write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"is damaged.*is damaged.*fit without"):
        fitted.set_params(resume=True).fit(X, y)
    assert fitted.A_ is before


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_VERSION", 1)
        model(path).fit(X, y)
    with pytest.raises(ValueError, match=r"version 6; got .* version 1"):
        model(path, resume=True).fit(X, y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"kappa": 0.5}, "kappa differs: '0.95' there"), ({"random_state": 1}, "random_state")],
)
def test_another_fit_is_refused(changes, message, tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    model(path).fit(X, y)
    with pytest.raises(ValueError, match=message):
        model(path, resume=True, **changes).fit(X, y)
    with pytest.raises(ValueError, match="the mean of X differs"):
        model(path, resume=True).fit(X + 0.1, y)
    with pytest.raises(ValueError, match="resume=True needs"):
        model(resume=True).fit(X, y)


def test_a_checkpoint_needs_a_name(tmp_path):
    X, y = data()
    for path in ("", tmp_path):
        with pytest.raises(ValueError, match="checkpoint must name a file"):
            model(path).fit(X, y)
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("name", "theirs", "goes"),
    [("fit", "fit", True), ("fit[1]", "fit[1]", True), ("fit", "fit.npz", False)],
)
def test_what_a_killed_process_left_over_goes(name, theirs, goes, tmp_path):
    X, y = data()
    left_over = tmp_path / f".{theirs}.{uuid4().hex}.tmp"
    left_over.touch()
    model(tmp_path / name).fit(X, y)
    assert left_over.exists() is not goes


def test_left_overs_that_cannot_be_removed_stay(tmp_path, monkeypatch):
    X, y = data()
    (tmp_path / f".fit.{uuid4().hex}.tmp").touch()

    def read_only(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr(Path, "open", read_only)
    with pytest.warns(CheckpointWarning, match="could not be written"):
        model(tmp_path / "fit").fit(X, y)


def test_other_labels_are_refused(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    settings = {"kind": ImplicitClassifier, "resume": True}
    model(path, **settings).fit(X, y > 1.0)
    with pytest.raises(ValueError, match="the relation of X and y differs"):
        model(path, **settings).fit(X, X[:, 2] > 0.0)


def test_other_rows_are_refused(tmp_path):
    """Standardised in no way, all inputs have the same mean and deviation."""
    X, y = data()
    path = tmp_path / "fit.npz"
    model(path, standardize=False).fit(X, y)
    with pytest.raises(ValueError, match="the relation of X and y differs"):
        model(path, standardize=False, resume=True).fit(X[:, ::-1], y)
    model(path, standardize=False, resume=True).fit(X[::-1], y[::-1])


@pytest.mark.parametrize(
    ("X_unit", "y_unit", "y_shift", "message"),
    [
        (2.0, 1.0, 0.0, "the deviation of X"),
        (1.0, 2.0, 0.0, "the deviation of y"),
        (1.0, 1.0, 1.0, "the mean of y"),
    ],
)
def test_other_units_are_refused(X_unit, y_unit, y_shift, message, tmp_path):
    """Standardised, the data are the same."""
    X, y = data()
    X, y = np.concatenate([X, -X]), np.concatenate([y, -y])  # means of exactly zero
    path = tmp_path / "fit.npz"
    model(path).fit(X, y)
    with pytest.raises(ValueError, match=f"{message} differs"):
        model(path, resume=True).fit(X_unit * X, y_unit * y + y_shift)


def test_the_type_of_a_number_and_the_threads_make_no_other_fit(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    expected = model(path, alpha=0.01, n_states=3).fit(X, y)
    changes = {"alpha": np.float64(0.01), "n_states": np.int64(3), "fit_intercept": np.True_}
    changes |= {"random_state": np.int64(0), "n_jobs": 2}
    same(expected, model(path, resume=True, **changes).fit(X, y))


class Arctan(Activation):
    """A user's own map."""

    name = "arctan"

    def __init__(self, slope):
        self.slope = slope

    def value(self, Z, out=None):
        return np.arctan(self.slope * Z, out=out)

    def derivative(self, Z):
        return self.slope / (1 + (self.slope * Z) ** 2)


def test_an_activation_is_known_by_its_parameters(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    expected = model(path, max_iter=2, activation=Arctan(1.0)).fit(X, y)
    same(expected, model(path, max_iter=2, activation=Arctan(1.0), resume=True).fit(X, y))
    with pytest.raises(ValueError, match=r"Arctan\(slope=1.0\)' there, .*slope=0.5"):
        model(path, max_iter=2, activation=Arctan(0.5), resume=True).fit(X, y)


@pytest.mark.parametrize("kind", ["input_states", "output_states"])
def test_other_patterns_are_refused(kind, tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    whole = Pattern(np.ones((3, 3), bool), np.ones(3, bool), np.ones(3, bool))
    model(path).fit(X, y)
    model(path, pattern=whole, resume=True).fit(X, y)
    other = replace(whole, **{kind: np.array([True, False, True])})
    with pytest.raises(ValueError, match="the pattern differs"):
        model(path, pattern=other, resume=True).fit(X, y)


def test_other_warm_starts_are_refused(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    going_on = model(path, resume=True, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="the model of the warm start differs"):
        going_on.fit(X, y)


def test_other_groups_are_refused(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    model(path, groups=[0, 0, 1, 1]).fit(X, y)
    with pytest.raises(ValueError, match="groups differs"):
        model(path, groups=[0, 1, 1, 0], resume=True).fit(X, y)


@pytest.mark.parametrize("records", [40, 80, 120])
def test_an_interrupted_search_is_taken_up(records, tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    left = [records]

    def callback(_):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    with pytest.warns(InterruptedFitWarning):
        model(path, alpha="auto", callback=callback).fit(X, y)
    # the states of the fit that was under way are found again, to 1e-13
    assert_same_blocks(
        model(path, alpha="auto", resume=True).fit(X, y), model(alpha="auto").fit(X, y)
    )


def test_an_interrupt_while_a_fit_is_taken_up(tmp_path, monkeypatch):
    X, y = data()
    path = tmp_path / "fit.npz"
    with suppress(Killed):
        model(path, callback=kill_after(18)).fit(X, y)
    plain, interrupted = trainer_module.revisit, []

    def once(*arguments):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(trainer_module, "revisit", once)
    with pytest.warns(InterruptedFitWarning):
        again = model(path, resume=True).fit(X, y)
    assert interrupted
    assert again.score(X, y) > 0.9


def test_a_damaged_file_does_not_take_the_place_of_the_good_one(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    model(path).fit(X, y)
    good = previous(path).read_bytes()
    path.write_bytes(b"PK nothing")
    seen = []
    plain = module.write_arrays

    def spy(*arguments):
        plain(*arguments)
        seen.append(previous(path).read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_arrays", spy)
        with pytest.warns(CheckpointWarning, match="is damaged"):
            model(path, resume=True).fit(X, y)
    assert seen[0] == good


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_takes_nothing(fault, tmp_path, monkeypatch):
    X, y = data()
    folder = tmp_path / "folder"
    folder.mkdir()
    if fault == "full":

        def full(file, **arrays):
            file.write(b"half of it")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("bcd_implicit._storage.np.savez", full)
    else:

        def read_only(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", read_only)
    whole = model().fit(X, y)
    with pytest.warns(CheckpointWarning, match="could not be written") as caught:
        found = model(folder / "fit.npz").fit(X, y)
    assert sum(issubclass(w.category, CheckpointWarning) for w in caught) == 1
    same(whole, found)
    assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_later_leaves_the_last_good_one(tmp_path, monkeypatch):
    X, y = data()
    path = tmp_path / "fit.npz"
    whole = model().fit(X, y)
    plain, writes = module.write_arrays, []

    def full(*args):
        writes.append(1)
        if len(writes) > 4:
            raise OSError(28, "No space left on device")
        plain(*args)

    monkeypatch.setattr(module, "write_arrays", full)
    with pytest.warns(CheckpointWarning), pytest.raises(Killed):
        model(path, callback=kill_after(len(whole.history_) - 1)).fit(X, y)
    monkeypatch.setattr(module, "write_arrays", plain)
    same(whole, model(path, resume=True).fit(X, y))


def test_killed_by_the_system_at_a_hundred_moments(tmp_path):
    X, y = data()
    settings = {"max_iter": 12, "tol": 0.0}
    whole = model(**settings).fit(X, y)
    path = tmp_path / "fit.npz"
    process = get_context("fork").Process
    began = time.perf_counter()
    fit = process(target=model(path, **settings).fit, args=(X, y))
    fit.start()
    fit.join()
    seconds = time.perf_counter() - began  # a large process may need longer to fork than to fit
    assert fit.exitcode == 0
    same(whole, model(path, **settings, resume=True).fit(X, y))
    path.unlink()
    previous(path).unlink()
    rng = np.random.default_rng(1)
    killed = ended = 0
    while killed < 100:
        fit = process(target=model(path, **settings, resume=True).fit, args=(X, y))
        fit.start()
        fit.join(float(rng.uniform(0.0, seconds)))
        if fit.is_alive():
            fit.kill()
            fit.join()
        if fit.exitcode == 0:
            ended += 1
            same(whole, model(path, **settings, resume=True).fit(X, y))
            path.unlink()
            previous(path).unlink()
        killed += fit.exitcode == -signal.SIGKILL
    same(whole, model(path, **settings, resume=True).fit(X, y))
    assert ended > 3
    assert {p.name for p in tmp_path.iterdir()} == {"fit.npz", "fit.npz.previous"}


def test_the_file_opens_without_pickles(tmp_path):
    X, y = data()
    path = tmp_path / "fit.npz"
    model(path).fit(X, y)
    shutil.copy(path, tmp_path / "copy.npz")
    with np.load(tmp_path / "copy.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    header, _ = module._read(path)
    assert list(header["entries"]) == ["0"]  # calls inside one that has ended are forgotten
