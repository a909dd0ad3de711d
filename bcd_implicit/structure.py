"""The structure of A: an order of the states in which A is block-triangular.

State k depends on state l where ``A_kl != 0``. The strongly connected sets of states are the
diagonal blocks of A in a suitable order, and A is well-posed if and only if these blocks are (see
`bcd_implicit.wellposed`). States outside of every loop follow by substitution, all of a level at
once: no norm is needed for them, and no iteration. A feedforward network has no loop at all.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bcd_implicit._activation import Activation, Array
from bcd_implicit._matrices import csr, is_sparse
from bcd_implicit._typing import IntArray, Matrix
from bcd_implicit.exceptions import IllPosedError
from bcd_implicit.per_state import GroupMap, Map, PerState
from bcd_implicit.wellposed import Contraction, contraction, perron_frobenius, row_sums

__all__ = ["BlockTriangular", "Stage", "block_triangular", "substitution_order"]

_FEW_LEVELS = 8  # of a dense A: with more, the compiled iteration is as fast as substitution


@dataclass(frozen=True)
class Stage:
    """States that are found together, in one step or, in a loop, by iteration.

    Attributes
    ----------
    states : ndarray of int
    phi : Activation or GroupMap
    loop : Contraction or None
        The certificate of the diagonal block of a loop.
    size : int
        Length of the groups of a group map, which follow one another in ``states``.
    """

    states: IntArray
    phi: Map
    loop: Contraction | None = None
    size: int = 1


@dataclass(frozen=True)
class BlockTriangular:
    """Evidence that the state equation has one solution: it can be found by block substitution.

    Attributes
    ----------
    factor : float
        Largest contraction factor of a loop; 0 if there is none.
    levels : int
        Length of the longest chain of states (or loops), each reading the one before.
    stages : tuple of Stage
        What is found in which order; a stage reads earlier stages and, if it is a loop, itself.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> found = block_triangular(np.array([[0.0, 9.0], [0.0, 0.5]]), Relu())
    >>> found.factor, [stage.states.tolist() for stage in found.stages]
    (0.5..., [[1], [0]])
    """

    factor: float
    levels: int
    stages: tuple[Stage, ...] = field(repr=False)

    @property
    def order(self) -> IntArray:
        """The states in the order of substitution."""
        return np.concatenate([stage.states for stage in self.stages])


def block_triangular(A: Array, activation: Activation) -> BlockTriangular:
    """Order the states and certify every loop.

    Parameters
    ----------
    A : ndarray or csr_array of shape (n, n)
    activation : Activation
        Of all states, or `PerState`.

    Raises
    ------
    IllPosedError
        If a loop is no contraction, or holds a group map.
    """
    edges = coo_array(A)
    reader, source = edges.row[edges.data != 0], edges.col[edges.data != 0]
    n = edges.shape[0]
    part, place = _parts(activation, n)
    pairs = [(reader, source), *_ties(activation)]
    rows, columns = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    graph = csr((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(n, n))
    _, label = connected_components(graph, directed=True, connection="strong")
    inner = label[reader] == label[source]
    looping = np.zeros(label.max(initial=0) + 1, dtype=bool)
    looping[label[reader[inner]]] = True
    level = _levels(label[rows], label[columns], len(looping))[label]

    # a stage: a loop, or the states of a level with one activation outside of loops
    in_loop = looping[label]
    kind = np.where(in_loop, label + part.max(initial=0) + 1, part)
    order = np.lexsort((np.where(in_loop, np.arange(n), place), kind, level))
    cuts = np.flatnonzero(np.diff(level[order]) | np.diff(kind[order])) + 1
    parts: list[tuple[Map, int]] = (
        [(phi, states.shape[-1]) for phi, states in activation.parts]
        if isinstance(activation, PerState)
        else [(activation, 1)]
    )
    L = activation.constants() if isinstance(activation, PerState) else None
    stages, factor = [], 0.0
    rows_of = csr(A)
    for states in np.split(order, cuts):
        if not in_loop[states[0]]:
            own, size = parts[part[states[0]]]
            stages.append(Stage(states, own, size=size))
            continue
        phi, certificate = _loop(rows_of, states, activation, L)
        factor = max(factor, certificate.factor)
        stages.append(Stage(states, phi, certificate))
    return BlockTriangular(factor, int(level.max(initial=-1)) + 1, tuple(stages))


def substitution_order(A: Matrix, activation: Activation) -> BlockTriangular | None:
    """Return how to find the states by substitution, if that is better than iterating over all.

    It is for a sparse A, for activations that differ between states, and for a dense A that is that
    of a network of a few layers.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> substitution_order(np.eye(2) / 2, Relu()) is None
    True
    """
    if is_sparse(A) or isinstance(activation, PerState):
        return block_triangular(A, activation)
    # more than a strictly triangular matrix holds, or where it has none
    if 2 * np.count_nonzero(A) > A.size or np.diagonal(A).any():
        return None
    found = block_triangular(A, activation)
    return found if found.factor == 0.0 and found.levels <= _FEW_LEVELS else None


def _loop(
    A: Matrix, states: IntArray, activation: Activation, L: Array | None
) -> tuple[Activation, Contraction]:
    """Return the activation of a loop and its certificate."""
    block = A[states][:, states].toarray()
    phi = activation
    if isinstance(activation, PerState):
        for map_, own in activation.parts:
            if isinstance(map_, GroupMap) and np.isin(own, states).any():
                raise IllPosedError(
                    f"{map_!r} stands in a feedback loop of {len(states)} states, among them "
                    f"{states[:10].tolist()}: it is not componentwise, and no norm of A certifies "
                    "it there. Cut the loop, or unroll it."
                )
        phi = activation.restricted(states)
    weights = np.full(len(states), phi.lipschitz) if L is None else L[states]
    try:
        return phi, contraction(weights[:, None] * block)
    except IllPosedError:
        weighted = weights[:, None] * block
        radius = perron_frobenius(weighted)
        raise IllPosedError(
            f"the loop of {len(states)} states {states[:10].tolist()}"
            f"{' and more' if len(states) > 10 else ''} is not well-posed: the largest row sum of "
            f"|A| in it, times the Lipschitz constants, is {row_sums(weighted).max():.6g} and its "
            f"Perron-Frobenius eigenvalue {radius:.6g}; one of the two must be below 1. Scale its "
            f"part of A by a factor below {1.0 / radius:.6g}."
        ) from None


def _parts(activation: Activation, n: int) -> tuple[IntArray, IntArray]:
    """Return the part of every state, and its place there: groups stay together."""
    part, place = np.zeros(n, dtype=np.intp), np.arange(n)
    if isinstance(activation, PerState):
        for index, (_, states) in enumerate(activation.parts):
            part[states] = index
            place[states.ravel()] = np.arange(states.size)
    return part, place


def _ties(activation: Activation) -> list[tuple[IntArray, IntArray]]:
    """Return edges that make a group one strongly connected set."""
    if not isinstance(activation, PerState):
        return []
    return [
        (states.ravel(), np.roll(states, 1, axis=1).ravel())
        for phi, states in activation.parts
        if isinstance(phi, GroupMap)
    ]


def _levels(reader: NDArray[np.int32], source: NDArray[np.int32], count: int) -> IntArray:
    """Return the length of the longest chain of edges that ends in each node."""
    proper = reader != source
    ones = np.ones(int(proper.sum()), dtype=bool)
    readers = csr((ones, (source[proper], reader[proper])), shape=(count, count))
    waiting = np.bincount(readers.indices, minlength=count)
    level = np.zeros(count, dtype=np.intp)
    front, depth = np.flatnonzero(waiting == 0), 0
    while len(front):
        level[front] = depth
        reached = np.bincount(readers[front].indices, minlength=count)
        waiting -= reached
        front, depth = np.flatnonzero((waiting == 0) & (reached > 0)), depth + 1
    return level
