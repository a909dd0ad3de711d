"""The Gram matrix of the inputs that training works on."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block
from bcd_implicit.training_data import TrainingData

__all__ = ["InputGram"]

Array = NDArray[np.float64]

_MOST_KNOWN = 2048  # inputs whose Gram matrix, 32 MB, is kept


class InputGram:
    """Gram matrix ``sum_i w_i u_i u_i'`` of a working set of inputs, computed when asked for.

    Examples
    --------
    >>> from bcd_implicit.statistics import RowBlocks
    >>> data = RowBlocks(np.eye(2), np.ones((2, 1)), np.full(2, 0.5), np.zeros(2), np.ones(2))
    >>> InputGram(data).of(np.array([1]))
    array([[0.5]])
    """

    def __init__(self, data: TrainingData) -> None:
        self._data = data
        self._columns = np.empty(0, dtype=np.intp)
        self._gram = np.empty((0, 0))

    def of(self, columns: IntArray) -> Array:
        """Return the Gram matrix of sorted ``columns``; a pass only for those that are new."""
        if not np.isin(columns, self._columns, assume_unique=True).all():
            known = np.union1d(self._columns, columns)
            self._extend(known if len(known) <= _MOST_KNOWN else columns)
        if len(columns) == len(self._columns):
            return self._gram
        where = np.searchsorted(self._columns, columns)
        return self._gram[np.ix_(where, where)]

    def _extend(self, columns: IntArray) -> None:
        """Add the products of new columns, and forget what is not in ``columns``."""
        kept, at, where = np.intersect1d(
            columns, self._columns, assume_unique=True, return_indices=True
        )
        is_new = ~np.isin(columns, kept, assume_unique=True)
        new = np.flatnonzero(is_new)

        every = len(columns) == self._data.n_inputs

        def products(block: Block) -> tuple[Array]:
            _, w = block.targets()
            U = block.inputs(slice(None) if every else columns)
            if is_new.all():  # of a matrix with itself BLAS computes a half
                U = U * np.sqrt(w)[:, None]
                return (U.T @ U,)
            return ((U[:, new] * w[:, None]).T @ U,)

        gram = np.empty((len(columns), len(columns)))
        gram[np.ix_(at, at)] = self._gram[np.ix_(where, where)]
        (gram[new],) = self._data.sum(products)
        gram[:, new] = gram[new].T
        self._columns, self._gram = columns, gram
