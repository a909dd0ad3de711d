"""Activations that differ between states, and maps of groups of states (softmax, products).

A network mixes activations: the states of a hidden layer are rectified, those of a pooling layer or
of a residual stream are not, and the last layer may be a softmax. A group map acts on several
pre-activations at once. It is not componentwise, so that no norm of A says anything about it inside
a feedback loop; where the states can be found by substitution it needs no such norm.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from bcd_implicit._activation import Activation, Array
from bcd_implicit._typing import FloatArray, IntArray
from bcd_implicit.activations import get_activation

__all__ = ["GroupMap", "PerState", "Product", "Softmax", "concatenated", "get_map", "merged"]


class GroupMap(ABC):
    """Map of a group of pre-activations to as many states.

    Attributes
    ----------
    name : str
    lipschitz : float
        In the maximum norm of the group; infinite if there is no constant.
    size : int
        Length of a group; 0 if any length will do.

    Examples
    --------
    >>> issubclass(Softmax, GroupMap)
    True
    """

    name: ClassVar[str]
    lipschitz: float = np.inf
    size: ClassVar[int] = 0

    @abstractmethod
    def value(self, Z: FloatArray) -> FloatArray:
        """Return the states of groups along the first axis of ``Z``, in the same shape."""

    def to_dict(self) -> dict[str, Any]:
        """Return the name: what `get_map` accepts back."""
        return {"name": self.name}


@dataclass(frozen=True)
class Softmax(GroupMap):
    """``exp(z_k) / sum_l exp(z_l)``; the rows of its Jacobian sum to at most 1/2 in absolute value.

    Examples
    --------
    >>> Softmax().value(np.zeros((2, 1)))
    array([[0.5],
           [0.5]])
    """

    name: ClassVar[str] = "softmax"
    lipschitz = 0.5

    def value(self, Z: Array) -> Array:
        """Return the probabilities along the first axis."""
        return softmax(Z, axis=0)


@dataclass(frozen=True)
class Product(GroupMap):
    """``(z_1, z_2) -> (z_1 z_2, z_2)``: a multiplicative unit, or gate, and what opens it.

    Not Lipschitz on the whole plane, so that it may not stand in a feedback loop.

    Examples
    --------
    >>> Product().value(np.array([[3.0], [0.5]])).T
    array([[1.5, 0.5]])
    """

    name: ClassVar[str] = "product"
    size: ClassVar[int] = 2

    def value(self, Z: Array) -> Array:
        """Return products and second factors."""
        return np.stack([Z[0] * Z[1], Z[1]])


GROUP_MAPS: dict[str, type[GroupMap]] = {cls.name: cls for cls in (Softmax, Product)}
Map: TypeAlias = Activation | GroupMap


def get_map(description: "str | dict[str, Any] | Map") -> Map:
    """Return the activation or group map of a name or of a saved dictionary.

    Examples
    --------
    >>> get_map("softmax"), get_map({"name": "leaky_relu", "slope": 0.1})
    (Softmax(), LeakyRelu(slope=0.1))
    """
    if isinstance(description, GroupMap):
        return description
    name = description.get("name") if isinstance(description, dict) else description
    if isinstance(name, str) and name in GROUP_MAPS:
        return GROUP_MAPS[name]()
    return get_activation(description)


class PerState(Activation):
    """Different activations for different states.

    Parameters
    ----------
    parts : sequence of (str, dict, Activation or GroupMap; array-like of int)
        Which states have which activation: a vector of places, or for a group map one row for each
        group. Together they name every state once.

    Raises
    ------
    ValueError
        If a state is missing or named twice, or a group has the wrong length.

    Examples
    --------
    >>> phi = PerState([("relu", [0, 2]), ("identity", [1])])
    >>> phi.value(np.array([[-1.0, -1.0, 2.0]]))
    array([[ 0., -1.,  2.]])
    >>> phi
    PerState(2 Relu(), 1 Identity())
    """

    name = "per_state"
    n_states: int

    def __init__(self, parts: Sequence[tuple[str | dict[str, Any] | Map, ArrayLike]]) -> None:
        self.parts: list[tuple[Map, IntArray]] = []
        for description, places in parts:
            phi = get_map(description)
            states = np.array(places, dtype=np.intp)
            if isinstance(phi, PerState):
                if states.shape != (phi.n_states,):
                    raise ValueError(
                        f"states of {phi!r} must be a vector of {phi.n_states} places; "
                        f"got shape {states.shape}"
                    )
                self.parts += [(part, states[inner]) for part, inner in phi.parts]
                continue
            grouped = isinstance(phi, GroupMap)
            if states.ndim != 1 + grouped or (
                grouped and getattr(phi, "size", 0) not in (0, states.shape[1])
            ):
                raise ValueError(
                    f"states of {phi!r} must be "
                    + ("groups of its size, one a row" if grouped else "a vector of places")
                    + f"; got shape {states.shape}"
                )
            states.setflags(write=False)
            if states.size:
                self.parts.append((phi, states))
        nothing = np.zeros(0, dtype=np.intp)
        places = np.concatenate([nothing, *(states.ravel() for _, states in self.parts)])
        self.n_states = len(places)
        if not np.array_equal(np.sort(places), np.arange(self.n_states)):
            raise ValueError(
                f"parts must name each of {self.n_states} states once; got some twice or not at all"
            )
        self.lipschitz = max((phi.lipschitz for phi, _ in self.parts), default=0.0)
        self.positively_homogeneous = all(
            isinstance(phi, Activation) and phi.positively_homogeneous for phi, _ in self.parts
        )

    def value(self, Z: Array, out: Array | None = None) -> Array:
        """Return phi(Z) for states along the last axis."""
        X = np.empty_like(Z)
        for phi, states in self.parts:
            if isinstance(phi, GroupMap):
                X[..., states] = np.moveaxis(phi.value(np.moveaxis(Z[..., states], -1, 0)), 0, -1)
            else:
                X[..., states] = phi.value(Z[..., states])
        if out is None:
            return X
        out[...] = X
        return out

    def derivative(self, Z: Array) -> Array:
        """Return the derivatives, if every activation is componentwise."""
        X = np.empty_like(Z)
        for phi, states in self.parts:
            if isinstance(phi, GroupMap):
                raise ValueError(f"{phi!r} is not componentwise: it has no vector of derivatives")
            X[..., states] = phi.derivative(Z[..., states])
        return X

    def constants(self) -> Array:
        """Return the Lipschitz constant of every state, shape (n,)."""
        L = np.empty(self.n_states)
        for phi, states in self.parts:
            L[states] = phi.lipschitz
        return L

    def permuted(self, order: IntArray) -> "PerState":
        """Return the activation of the states ``x[order]``."""
        place = np.empty(self.n_states, dtype=np.intp)
        place[order] = np.arange(self.n_states)
        return PerState([(phi, place[states]) for phi, states in self.parts])

    def restricted(self, states: IntArray) -> Activation:
        """Return the activation of some states, none of them in a group."""
        place = np.full(self.n_states, -1)
        place[states] = np.arange(len(states))
        parts = [(phi, place[own][place[own] >= 0]) for phi, own in self.parts]
        parts = [(phi, own) for phi, own in parts if own.size]
        if len(parts) == 1 and isinstance(parts[0][0], Activation):
            return parts[0][0]
        return PerState(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the names and parameters; the places are saved as arrays."""
        return {"name": self.name, "parts": [phi.to_dict() for phi, _ in self.parts]}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PerState)
            and [phi for phi, _ in self.parts] == [phi for phi, _ in other.parts]
            and all(
                np.array_equal(mine, its)
                for (_, mine), (_, its) in zip(self.parts, other.parts, strict=True)
            )
        )

    def __hash__(self) -> int:
        return hash((self.name, self.n_states, tuple(phi for phi, _ in self.parts)))

    def __repr__(self) -> str:
        return f"PerState({', '.join(f'{states.size} {phi!r}' for phi, states in self.parts)})"


def merged(parts: Iterable[tuple[Map, IntArray]]) -> Activation:
    """Return one activation for all states: what is the same becomes one part.

    Examples
    --------
    >>> relu, tanh = get_activation("relu"), get_activation("tanh")
    >>> merged([(relu, np.array([0])), (tanh, np.array([1])), (relu, np.array([2]))])
    PerState(2 Relu(), 1 Tanh())
    >>> merged([(relu, np.array([0])), (relu, np.array([1]))])
    Relu()
    """
    gathered: list[tuple[Map, list[IntArray]]] = []
    for phi, states in _single(parts):
        for known, places in gathered:
            if known == phi and places[0].shape[1:] == states.shape[1:]:
                places.append(states)
                break
        else:
            gathered.append((phi, [states]))
    if len(gathered) == 1 and isinstance(gathered[0][0], Activation):
        return gathered[0][0]
    return PerState([(phi, np.concatenate(places)) for phi, places in gathered])


def _single(parts: Iterable[tuple[Map, IntArray]]) -> Iterator[tuple[Map, IntArray]]:
    """Yield parts of one activation each."""
    for phi, states in parts:
        if isinstance(phi, PerState):
            yield from ((part, states[own]) for part, own in phi.parts)
        else:
            yield phi, states


def concatenated(activations: Iterable[tuple[Activation, int]]) -> Activation:
    """Return one activation for the states of several models, given with their numbers of states.

    Examples
    --------
    >>> relu, tanh = get_activation("relu"), get_activation("tanh")
    >>> concatenated([(relu, 2), (tanh, 1)]), concatenated([(relu, 2), (relu, 1)])
    (PerState(2 Relu(), 1 Tanh()), Relu())
    """
    parts: list[tuple[Map, IntArray]] = []
    start = 0
    for activation, n in activations:
        parts.append((activation, np.arange(start, start + n)))
        start += n
    return merged(parts)
