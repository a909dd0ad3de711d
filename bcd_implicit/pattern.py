"""Sparsity patterns for training: a network of layers is a pattern of A, B and C."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from bcd_implicit._typing import BoolArray

__all__ = ["Pattern"]


@dataclass(frozen=True, eq=False)
class Pattern:
    """Which blocks of a model may be nonzero; for the parameter ``pattern`` of the estimators.

    Attributes
    ----------
    A : ndarray of bool, shape (n, n)
        Entries of A that may be nonzero.
    input_states : ndarray of bool, shape (n,)
        States that inputs may enter: the other rows of B are zero.
    output_states : ndarray of bool, shape (n,)
        States that outputs may read: the other columns of C are zero.

    Raises
    ------
    ValueError
        If the shapes do not fit, or no state is entered or read.

    Examples
    --------
    >>> pattern = Pattern.layers(2, 1)  # states 1 and 2 are the first layer, 0 is the second
    >>> pattern.A.astype(int)
    array([[0, 1, 1],
           [0, 0, 0],
           [0, 0, 0]])
    >>> pattern.input_states, pattern.output_states
    (array([False,  True,  True]), array([ True, False, False]))
    """

    A: BoolArray
    input_states: BoolArray
    output_states: BoolArray

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        n = len(np.atleast_1d(self.A))
        for name, shape in (("A", (n, n)), ("input_states", (n,)), ("output_states", (n,))):
            mask = np.array(getattr(self, name))
            if mask.shape != shape or mask.dtype != np.bool_:
                raise ValueError(
                    f"{name} must hold booleans in shape {shape}; got {mask.dtype} in {mask.shape}"
                )
            if not mask.any() and name != "A":
                raise ValueError(f"{name} must allow a state at least; got none")
            mask.setflags(write=False)
            object.__setattr__(self, name, mask)

    def __reduce__(self) -> tuple[type["Pattern"], tuple[BoolArray, BoolArray, BoolArray]]:
        # copies, as those of sklearn.base.clone, and pickles are read-only again
        return type(self), (self.A, self.input_states, self.output_states)

    @property
    def n_states(self) -> int:
        """Number of states n."""
        return len(self.A)

    @classmethod
    def free(cls, n_states: int) -> "Pattern":
        """Everything may be nonzero: what is trained without a pattern."""
        every = np.ones(n_states, dtype=np.bool_)
        return cls(np.ones((n_states, n_states), dtype=np.bool_), every, every)

    @classmethod
    def layers(cls, *sizes: int) -> "Pattern":
        """Return the pattern of a feedforward network: each layer reads the one before it.

        States are numbered from the last layer to the first, as `bcd_implicit.convert` does, so
        that A is strictly block upper triangular. Inputs enter the first layer only, outputs read
        the last; fit without feedthrough, or the outputs read the inputs as well.
        """
        if not sizes or not all(isinstance(size, Integral) and size > 0 for size in sizes):
            raise ValueError(f"sizes must be positive whole numbers of states; got {sizes}")
        layer = np.repeat(np.arange(len(sizes)), sizes)[::-1]
        return cls(layer[:, None] == layer + 1, layer == 0, layer == len(sizes) - 1)

    def with_free_states(self) -> "Pattern":
        """Free A, and let inputs and outputs where they are: the zeros may be filled up."""
        return Pattern(np.ones_like(self.A), self.input_states, self.output_states)
