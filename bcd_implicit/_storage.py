"""Model files: NumPy's npz format without pickles, written completely or not at all.

A sparse matrix is stored as the three arrays of its CSR form and its shape, and an activation that
differs between states as its parts with one array of places each.
"""

import errno
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from bcd_implicit._activation import Activation, Array
from bcd_implicit._matrices import csr, is_sparse
from bcd_implicit.activations import BUILT_IN, get_activation
from bcd_implicit.per_state import GROUP_MAPS, PerState

_FORMAT = "bcd_implicit.ImplicitModel"
_VERSION = 1


# what reading a damaged file raises: zipfile also takes it for encrypted, or of another method
DAMAGES = (ValueError, LookupError, TypeError, OSError, EOFError, RuntimeError, zipfile.BadZipFile)
_CSR = ("data", "indices", "indptr", "shape")


def write_model(
    path: str | os.PathLike[str], activation: Activation, matrices: dict[str, Any]
) -> None:
    """Write a model; see `write_arrays`."""
    known: dict[str, type] = {**BUILT_IN, **GROUP_MAPS}
    parts = activation.parts if isinstance(activation, PerState) else [(activation, None)]
    for phi, _ in parts:
        if known.get(phi.name) is not type(phi):
            raise ValueError(f"only built-in activations can be saved; got {phi!r}")
    header = {"format": _FORMAT, "version": _VERSION, "activation": activation.to_dict()}
    arrays: dict[str, Array] = {
        f"phi.{index}": states for index, (_, states) in enumerate(parts) if states is not None
    }
    for name, matrix in matrices.items():
        if is_sparse(matrix):
            arrays |= {f"{name}.{part}": np.asarray(getattr(matrix, part)) for part in _CSR}
        else:
            arrays[name] = matrix
    write_arrays(path, header, arrays)


def write_arrays(
    path: str | os.PathLike[str],
    header: dict[str, Any],
    arrays: dict[str, Any],
    kept: Path | None = None,
) -> None:
    """Write under a temporary name in the same folder, then rename: no reader sees half a file.

    A file that was there before is kept under another name, if that is given.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)
            file.flush()
            os.fsync(file.fileno())
        if kept is not None and target.exists():
            os.replace(target, kept)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def open_arrays(path: str | os.PathLike[str]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Open a file of `write_arrays`: its header, and its arrays, read when they are asked for."""
    # opened here because np.load leaves a damaged file open
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        yield json.loads(str(file["header"])), file


def read_model(
    path: str | os.PathLike[str], names: Sequence[str]
) -> tuple[Activation, dict[str, Any]]:
    """Return the activation and the named matrices, or raise ValueError."""
    try:
        with open_arrays(path) as (header, file):
            kind, version = header["format"], header["version"]
            if (kind, version) != (_FORMAT, _VERSION):
                raise ValueError(
                    f"expected {_FORMAT!r} version {_VERSION}; got {kind!r} version {version!r}"
                )
            matrices = {name: _matrix(file, name) for name in names}
            activation = header["activation"]
            parts = activation.get("parts", ()) if isinstance(activation, dict) else ()
            places = [file[f"phi.{index}"] for index in range(len(parts))]
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (*DAMAGES, AttributeError) as e:
        raise ValueError(f"{os.fspath(path)} is not a model that can be read: {e}") from e
    if places:
        return PerState(list(zip(parts, places, strict=True))), matrices
    return get_activation(activation), matrices


def _matrix(file: Any, name: str) -> Any:
    """Return a dense array or a checked sparse one."""
    if name in file or f"{name}.data" not in file:
        return file[name]
    data, indices, indptr, shape = (file[f"{name}.{part}"] for part in _CSR)
    matrix = csr((data, indices, indptr), shape=tuple(int(size) for size in shape))
    matrix.check_format(full_check=True)
    return matrix
