"""Checkpoints: the accepted iterate of a fit on disk, and the fit that is taken up from it.

A fit is a sequence of calls of `bcd_implicit.training.train`, some of them inside others. Of those
that have ended the outcome is kept, of the one that is running the accepted iterate of every few
steps, and with each the state of the random numbers. A fit that is taken up runs from the beginning
again, but what had ended is not computed again, and what was running goes on from its last iterate.

The file is in NumPy's npz format, without pickles, whose every array carries a checksum. It is
written under another name, flushed to the disk and renamed; the one before it is kept beside it.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._known_calls import fit_of, known_of_fit, known_of_progress, progress_of
from bcd_implicit._storage import DAMAGES, open_arrays, write_arrays
from bcd_implicit.exceptions import CheckpointWarning
from bcd_implicit.fits import Fit
from bcd_implicit.journal import Entry, Journal
from bcd_implicit.monitor import Monitor
from bcd_implicit.trainer import Progress

__all__ = ["Checkpoint", "previous"]

_FORMAT = "bcd_implicit.checkpoint"
# 2: records count passes; 3: calls know the rows of their records; 4: and the next step; 5: data
# are told apart by more than means and deviations; 6: also by patterns of B and C, and
# by the warm start
_VERSION = 6
_SAME = 1e-9  # relative difference of moments that other chunks of the same data may make


class Checkpoint(Journal):
    """A journal in a file.

    Parameters
    ----------
    path : path-like
    every : int
        Accepted steps between two writes.
    monitor : Monitor
        Its history is kept too.
    rng : numpy.random.Generator
        The random numbers of the fit; they become those of the fit that is taken up.
    identity : dict
        What must be the same in the fit that is taken up: strings, numbers and arrays.
    resume : bool
        Whether to take up what the file holds, if there is one.

    Raises
    ------
    ValueError
        If ``path`` names no file; if there is none that can be read although there are some, or it
        is of another fit.

    Warns
    -----
    CheckpointWarning
        If the file is damaged and the one before it is used; once, if it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int,
        monitor: Monitor,
        rng: np.random.Generator,
        identity: dict[str, Any],
        *,
        resume: bool,
    ) -> None:
        self._path, self._every, self._monitor = Path(path), every, monitor
        if not self._path.name or self._path.is_dir():  # a folder would be renamed
            raise ValueError(f"checkpoint must name a file; got {path!r}")
        self._identity = identity
        self._entries: dict[str, dict[str, Any]] = {}
        self._place: list[int] = [0]
        self._failed = False
        self._kept: Path | None = previous(self._path)  # where a file goes when another is written
        self._start = rng.bit_generator.state
        unique = "?" * 32  # not more: a fit whose checkpoint has a longer name may be writing
        for left_over in self._path.parent.glob(f".{escape(self._path.name)}.{unique}.tmp"):
            with suppress(OSError):
                left_over.unlink()  # of a process that was killed while it wrote
        if resume:
            self._load(rng)

    @contextmanager
    def entry(self) -> Iterator[Entry]:
        """Enter the next call, inside the one that is running."""
        key = ".".join(map(str, self._place))
        self._place.append(0)
        try:
            yield _KeptEntry(self, key)
        finally:
            self._place.pop()
            self._place[-1] += 1

    def known(self, key: str) -> dict[str, Any] | None:
        """Return what is known of a call."""
        return self._entries.get(key)

    def put(self, key: str, known: dict[str, Any], rng: np.random.Generator) -> None:
        """Keep what is known of a call, and forget those inside it."""
        monitor = self._monitor
        known |= {"rng": rng.bit_generator.state, "place": monitor.place}
        known |= {"start": monitor.start, "rows": monitor.rows}
        inside = f"{key}."
        kept = {k: v for k, v in self._entries.items() if not k.startswith(inside)}
        self._entries = {**kept, key: known}
        self._write()

    def restore(self, known: dict[str, Any], rng: np.random.Generator) -> None:
        """Go on with random numbers and history where they were."""
        rng.bit_generator.state = known["rng"]
        self._monitor.skip(known["place"])
        self._monitor.start, self._monitor.rows = known["start"], known["rows"]

    @property
    def every(self) -> int:
        """Accepted steps between two writes."""
        return self._every

    def _write(self) -> None:
        header: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "start": self._start,
            "history": self._monitor.history,
            "identity": _plain(self._identity),
            "entries": {key: _plain(known) for key, known in self._entries.items()},
        }
        arrays = _arrays("identity", self._identity)
        for key, known in self._entries.items():
            arrays |= _arrays(f"entry {key}", known)
        try:
            # where it renames twice, only the previous one is there, and is found by `_load`
            write_arrays(self._path, header, arrays, self._kept)
            self._kept = previous(self._path)
        except OSError as error:
            if not self._failed:
                warnings.warn(
                    f"checkpoint {self._path} could not be written, the fit goes on without: "
                    f"{error}. It will be tried again",
                    CheckpointWarning,
                    stacklevel=2,
                )
            self._failed = True

    def _load(self, rng: np.random.Generator) -> None:
        candidates = [p for p in (self._path, previous(self._path)) if p.exists()]
        faults = []
        for path in candidates:
            try:
                header, arrays = _read(path)
            except ValueError as error:
                faults.append(str(error))
                self._kept = None  # what is damaged must not take the place of what is not
                continue
            if faults:
                warnings.warn(
                    f"{faults[0]}; the fit is taken up from {path}",
                    CheckpointWarning,
                    stacklevel=2,
                )
            self._check_identity(path, header, arrays)
            self._entries = {
                key: plain | _under(f"entry {key}", arrays)
                for key, plain in header["entries"].items()
            }
            self._start = rng.bit_generator.state = header["start"]
            self._monitor.go_on(header["history"])
            return
        if faults:
            raise ValueError("; ".join(faults) + ": fit without resume=True to start again")

    def _check_identity(self, path: Path, header: dict[str, Any], arrays: dict[str, Any]) -> None:
        """Raise ValueError unless settings and data are those of the checkpoint."""
        theirs = header["identity"] | _under("identity", arrays)
        for name, ours in self._identity.items():
            other = theirs.get(name)
            if isinstance(ours, np.ndarray):
                same = other is not None and np.shape(other) == ours.shape
                same = same and np.allclose(other, ours, rtol=_SAME, atol=0.0, equal_nan=True)
            else:
                same = other == ours
            if not same:
                shown = "" if isinstance(ours, np.ndarray) else f": {other!r} there, {ours!r} here"
                raise ValueError(
                    f"checkpoint {path} is of another fit; {name} differs{shown}. Fit with the "
                    "same data and parameters, or without resume=True"
                )


class _KeptEntry(Entry):
    """One call, kept in a checkpoint."""

    def __init__(self, owner: Checkpoint, key: str) -> None:
        self._owner, self._key = owner, key
        self._steps = 0

    def finished(self, rng: np.random.Generator) -> Fit | None:
        """Return the outcome, if the call has been made already."""
        known = self._owner.known(self._key)
        if known is None or not known["finished"]:
            return None
        self._owner.restore(known, rng)
        return fit_of(known)

    def begun(self, rng: np.random.Generator) -> Progress | None:
        """Return how far the call had got, if anything is known."""
        known = self._owner.known(self._key)
        if known is None:
            return None
        self._owner.restore(known, rng)
        return progress_of(known)

    def step(self, progress: Progress, rng: np.random.Generator) -> None:
        """Keep every so manieth iterate."""
        self._steps += 1
        if self._steps % self._owner.every:
            return
        self._owner.put(self._key, known_of_progress(progress), rng)

    def finish(self, fit: Fit, rng: np.random.Generator) -> None:
        """Keep the outcome."""
        self._owner.put(self._key, known_of_fit(fit), rng)


def previous(path: Path) -> Path:
    """Return where the checkpoint before the last one is."""
    return path.with_name(f"{path.name}.previous")


def _plain(known: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if not isinstance(value, np.ndarray)}


def _arrays(prefix: str, known: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {f"{prefix} {k}": v for k, v in known.items() if isinstance(v, np.ndarray)}


def _under(prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Undo `_arrays`."""
    start = f"{prefix} "
    return {name[len(start) :]: v for name, v in arrays.items() if name.startswith(start)}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return header and arrays of a file, all of it checked, or raise ValueError."""
    try:
        with open_arrays(path) as (header, file):
            arrays = {name: file[name] for name in file.files if name != "header"}
        kind, version = header["format"], header["version"]
    except DAMAGES as error:
        raise ValueError(f"checkpoint {path} is damaged: {error}") from error
    if (kind, version) != (_FORMAT, _VERSION):
        raise ValueError(
            f"checkpoint {path} is not one: expected {_FORMAT!r} version {_VERSION}; got {kind!r} "
            f"version {version!r}"
        )
    return header, arrays
