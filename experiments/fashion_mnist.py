"""Fashion-MNIST: from a folder, from where Debian's package puts it, or from OpenML."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml

__all__ = ["FashionMnist", "fashion_mnist"]

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
_TRAINING = 60_000


class FashionMnist(NamedTuple):
    """Pixels in [0, 1] and labels, to train on and to test on."""

    U: NDArray[np.float64]
    y: NDArray[np.int64]
    U_test: NDArray[np.float64]
    y_test: NDArray[np.int64]


def fashion_mnist(folder: Path | None = None, rows: int = _TRAINING) -> FashionMnist:
    """Return the first images to train on, and all of the 10,000 to test on.

    Parameters
    ----------
    folder : Path, optional
        Holds ``train-images-idx3-ubyte.gz`` and the other three files.
    rows : int
        How many of the 60,000 images to train on.

    Raises
    ------
    OSError
        If a folder is given without the files, or there are none and no download is possible.
    """
    place = _DEBIAN if folder is None else folder
    if folder is not None or place.exists():
        return FashionMnist(*_images(place, "train", rows), *_images(place, "t10k", None))
    X, labels = fetch_openml("Fashion-MNIST", version=1, as_frame=False, return_X_y=True)
    y = labels.astype(np.int64)
    train, test = slice(rows), slice(_TRAINING, None)
    return FashionMnist(X[train] / 255.0, y[train], X[test] / 255.0, y[test])


def _images(
    folder: Path, part: str, rows: int | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    pixels = _entries(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:rows]
    return pixels / 255.0, _entries(folder / f"{part}-labels-idx1-ubyte.gz", 8)[:rows].astype(
        np.int64
    )


def _entries(file: Path, header: int) -> NDArray[np.uint8]:
    with gzip.open(file) as opened:
        return np.frombuffer(opened.read(), dtype=np.uint8, offset=header)
