"""Model files: NumPy's npz format without pickles, written completely or not at all."""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from bcd_implicit._activation import Array

_FORMAT = "bcd_implicit.ImplicitModel"
_VERSION = 1


def write_arrays(
    path: str | os.PathLike[str], activation: dict[str, Any], arrays: dict[str, Array]
) -> None:
    """Write under a temporary name in the same folder, then rename: no reader sees half a file."""
    header = {"format": _FORMAT, "version": _VERSION, "activation": activation}
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(
    path: str | os.PathLike[str], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the activation's dictionary and the named arrays, or raise ValueError."""
    try:
        # opened here because np.load leaves a damaged file open
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            kind, version = header["format"], header["version"]
            if (kind, version) != (_FORMAT, _VERSION):
                raise ValueError(
                    f"expected {_FORMAT!r} version {_VERSION}; got {kind!r} version {version!r}"
                )
            return header["activation"], {name: file[name] for name in names}
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as e:
        raise ValueError(f"{os.fspath(path)} is not a model that can be read: {e}") from e
