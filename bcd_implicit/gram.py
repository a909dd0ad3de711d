"""The Gram matrix of the inputs that training works on."""

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._typing import IntArray
from bcd_implicit.blocks import Block
from bcd_implicit.training_data import TrainingData

__all__ = ["InputGram"]

Array = NDArray[np.float64]

_MOST_KNOWN = 2048  # inputs whose Gram matrix, 32 MB, is kept
# Whose products take no longer than to look them up: with 3,000 inputs of 60 rows looking them up
# took a third of a fit.
_FEW_ROWS = 128


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
        self._columns = np.empty(0, dtype=np.intp)  # in the order of the matrix
        self._gram = np.empty((0, 0))  # with room for more

    def of(self, columns: IntArray) -> Array:
        """Return the Gram matrix of sorted ``columns``; a pass only if some are new."""
        if np.array_equal(columns, self._columns):
            return self._gram[: len(columns), : len(columns)]
        new = np.setdiff1d(columns, self._columns, assume_unique=True)
        if len(new) and self._data.n_samples <= _FEW_ROWS:
            self._columns, new = self._columns[:0], columns
        if len(new):
            self._extend(columns, new)
            return self.of(columns)
        order = np.argsort(self._columns)
        where = order[np.searchsorted(self._columns, columns, sorter=order)]
        return self._gram[np.ix_(where, where)]

    def _extend(self, columns: IntArray, new: IntArray) -> None:
        """Add the products of new columns; where they are too many, forget those not asked for."""
        if len(self._columns) + len(new) > _MOST_KNOWN:
            kept = np.flatnonzero(np.isin(self._columns, columns, assume_unique=True))
            self._columns, self._gram = self._columns[kept], self._gram[np.ix_(kept, kept)]
        known = len(self._columns)
        wanted = np.concatenate([self._columns, new])
        every = known == 0 and len(new) == self._data.n_inputs

        def products(block: Block) -> tuple[Array]:
            _, w = block.targets()
            U = block.inputs(slice(None) if every else wanted)
            if known == 0:  # of a matrix with itself BLAS computes a half
                U = U * np.sqrt(w)[:, None]
                return (U.T @ U,)
            return ((U[:, known:] * w[:, None]).T @ U,)

        (rows,) = self._data.sum(products)
        size = len(wanted)
        if known == 0:
            self._gram = rows
        else:
            if size > len(self._gram):
                # for twice as many, so that it is not copied for every new column
                room = max(min(2 * size, _MOST_KNOWN), size)
                grown = np.empty((room, room))
                grown[:known, :known] = self._gram[:known, :known]
                self._gram = grown
            self._gram[known:size, :size] = rows
            self._gram[:known, known:size] = rows[:, :known].T
        self._columns = wanted
