"""A network while it is being written down: values that are affine in inputs and states.

Linear layers only multiply these values; an activation turns a value into new states. So pooling,
normalisation and skip connections need no states of their own, unless their matrices are worth
keeping apart: then states with the identity as activation stand in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from scipy.sparse import block_diag, eye_array, vstack

from bcd_implicit._activation import Array
from bcd_implicit._matrices import check_shape, csr
from bcd_implicit._typing import IntArray, Matrix
from bcd_implicit.model import ImplicitModel
from bcd_implicit.per_state import GroupMap, Map, get_map, merged

__all__ = ["Network", "Value"]

_MANY = 4  # nonzeros a row beyond which a value that is read several times gets its own states


@dataclass(frozen=True)
class Value:
    """``S x + T u + c``: rows of numbers that are affine in the states so far and the inputs."""

    S: Matrix
    T: Matrix
    c: Array

    def __len__(self) -> int:
        return len(self.c)

    @property
    def n_entries(self) -> int:
        """Number of nonzeros."""
        return int(self.S.nnz + self.T.nnz)

    def __getitem__(self, rows: slice | IntArray) -> "Value":
        return Value(self.S[rows], self.T[rows], self.c[rows])

    def __add__(self, other: "Value") -> "Value":
        n = max(self.S.shape[1], other.S.shape[1])
        S = _widened(self.S, n) + _widened(other.S, n)
        return Value(csr(S), csr(self.T + other.T), self.c + other.c)

    def __sub__(self, other: "Value") -> "Value":
        return self + other.scaled(np.full(len(other), -1.0, dtype=self.c.dtype))

    def scaled(self, factors: Array) -> "Value":
        """Multiply every row by a number."""
        column = factors[:, np.newaxis]
        return Value(csr(self.S * column), csr(self.T * column), self.c * factors)


class Network:
    """States added one layer at a time.

    Parameters
    ----------
    n_inputs : int
    dtype : dtype, default=float64

    Examples
    --------
    ``max(u_1, u_2) = u_2 + relu(u_1 - u_2)``, with one state:

    >>> network = Network(2)
    >>> first, second = network.inputs[:1], network.inputs[1:]
    >>> largest = second + network.activate(first - second, "relu")
    >>> network.model(largest).predict([[3.0, 4.0], [7.0, 4.0]])
    array([[4.],
           [7.]])
    """

    def __init__(self, n_inputs: int, dtype: DTypeLike = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self.n_inputs = n_inputs
        self.n_states = 0
        self._layers: list[tuple[Value, Map, int]] = []
        self._loops: list[tuple[int, Matrix]] = []

    @property
    def inputs(self) -> Value:
        """The inputs as a value."""
        n = self.n_inputs
        T = csr(eye_array(n, dtype=self.dtype))
        return Value(csr((n, 0), dtype=self.dtype), T, np.zeros(n, dtype=self.dtype))

    def constant(self, values: ArrayLike) -> Value:
        """Return a value that depends on nothing."""
        c: Array = np.asarray(values, dtype=self.dtype)
        empty = csr((len(c), 0), dtype=self.dtype)
        return Value(empty, csr((len(c), self.n_inputs), dtype=self.dtype), c)

    def linear(self, value: Value, W: Matrix, b: ArrayLike | None = None) -> Value:
        """Return ``W v + b``; identity states stand in between where that saves nonzeros."""
        W = csr(W, dtype=self.dtype)
        check_shape("W", W.shape, None, len(value))
        counts = np.diff(value.S.indptr) + np.diff(value.T.indptr)
        if int(counts[W.indices].sum()) > W.nnz + value.n_entries + len(value):
            value = self.activate(value, "identity")
        c = W @ value.c
        c = c if b is None else c + np.broadcast_to(np.asarray(b, dtype=self.dtype), c.shape)
        return Value(csr(W @ value.S), csr(W @ value.T), c)

    def settled(self, value: Value) -> Value:
        """Return a value that is cheap to read several times."""
        return value if value.n_entries <= _MANY * len(value) else self.activate(value, "identity")

    def activate(
        self,
        value: Value,
        activation: str | dict[str, Any] | Map,
        size: int = 1,
        loop: Matrix | None = None,
    ) -> Value:
        """Add the states ``phi(v)`` or, with a loop, the solution of ``x = phi(v + loop x)``.

        A group map takes ``size`` pre-activations, which follow one another, at a time.
        """
        phi = get_map(activation)
        n = len(value)
        if size < 1 or n % size:
            raise ValueError(f"size must divide the {n} pre-activations; got {size}")
        if loop is not None:
            loop = csr(loop, dtype=self.dtype)
            check_shape("loop", loop.shape, n, n)
            self._loops.append((self.n_states, loop))
        self._layers.append((value, phi, size))
        S = eye_array(n, self.n_states + n, k=self.n_states, dtype=self.dtype)
        self.n_states += n
        T = csr((n, self.n_inputs), dtype=self.dtype)
        return Value(csr(S), T, np.zeros(n, dtype=self.dtype))

    def product(self, value: Value, gate: Value) -> Value:
        """Return the products of two values, entry by entry: multiplicative units."""
        n = len(value)
        check_shape("gate", (len(gate),), n)
        pairs = self.concatenate([value, gate])[np.arange(2 * n).reshape(2, n).T.ravel()]
        return self.activate(pairs, "product", size=2)[::2]

    def concatenate(self, values: Sequence[Value]) -> Value:
        """Stack the rows of several values."""
        S = vstack([_widened(value.S, self.n_states) for value in values], format="csr")
        T = vstack([value.T for value in values], format="csr")
        return Value(csr(S), csr(T), np.concatenate([value.c for value in values]))

    def model(self, output: Value) -> ImplicitModel:
        """Return the network as a model, its states numbered from the last layer to the first."""
        if self.n_states == 0:
            output = self.activate(output, "identity")
        n = self.n_states
        starts = np.cumsum([0] + [len(value) for value, _, _ in self._layers])
        order = np.concatenate(
            [np.arange(*ends) for ends in zip(starts[-2::-1], starts[:0:-1], strict=True)]
        )
        place = np.empty(n, dtype=np.intp)
        place[order] = np.arange(n)
        everything = self.concatenate([value for value, _, _ in self._layers])
        blocks, end = [], 0  # all loops at once: each sum would copy A
        for start, loop in self._loops:
            blocks += [csr((start - end, start - end)), loop]
            end = start + loop.shape[0]
        A = everything.S + block_diag([*blocks, csr((n - end, n - end))], format="csr")
        parts = []
        for (value, phi, size), start in zip(self._layers, starts[:-1], strict=True):
            states = place[start : start + len(value)]
            parts.append((phi, states.reshape(-1, size) if isinstance(phi, GroupMap) else states))
        A, C = csr(A)[order][:, order], _widened(output.S, n)[:, order]
        return ImplicitModel(
            A.astype(self.dtype),
            everything.T[order],
            C,
            output.T,
            everything.c[order],
            output.c,
            merged(parts),
        )


def _widened(S: Matrix, n: int) -> Matrix:
    """Return S with zero columns for states that were added later."""
    return csr((S.data, S.indices, S.indptr), shape=(S.shape[0], n))
