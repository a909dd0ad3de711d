"""The training problem: what is minimised, and over which parameters."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._matrices import check_shape
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.activations import Activation
from bcd_implicit.losses import Loss
from bcd_implicit.per_state import PerState
from bcd_implicit.solvers.projections import project_l1_rows
from bcd_implicit.wellposed import Contraction

__all__ = ["Parameters", "TrainingProblem", "first_inputs", "group_norms"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """The blocks A, B, b, C, D, d of an implicit model, float64, in standardised units.

    Examples
    --------
    >>> A, B, C = np.array([[0.5]]), np.array([[2.0, 0.0]]), np.array([[1.0]])
    >>> Parameters(A, B, np.zeros(1), C, np.zeros((1, 2)), np.zeros(1)).active
    array([ True, False])
    """

    A: Array
    B: Array
    b: Array
    C: Array
    D: Array
    d: Array

    @property
    def active(self) -> BoolArray:
        """Inputs whose group ``[B; D]_j`` is not zero."""
        used: BoolArray = (self.B != 0.0).any(axis=0) | (self.D != 0.0).any(axis=0)
        return used

    @property
    def groups(self) -> Array:
        """The groups ``[B; D]``, one column for each input."""
        return np.vstack([self.B, self.D])

    def stacked(self) -> Array:
        """Return ``[[A, B, b], [0, D, 0]]``, the unknown of the (A, B) block."""
        (n, p), q = self.B.shape, len(self.D)
        Theta = np.zeros((n + q, n + p + 1))
        Theta[:n, :n] = self.A
        Theta[:n, n:-1] = self.B
        Theta[:n, -1] = self.b
        Theta[n:, n:-1] = self.D
        return Theta

    def only(self, columns: IntArray) -> "Parameters":
        """Return the parameters of some of the inputs."""
        return replace(self, B=self.B[:, columns], D=self.D[:, columns])

    def among(self, columns: IntArray, p: int) -> "Parameters":
        """Undo `only`: the other of ``p`` inputs are not used."""
        B, D = np.zeros((len(self.B), p)), np.zeros((len(self.D), p))
        B[:, columns], D[:, columns] = self.B, self.D
        return replace(self, B=B, D=D)

    def restricted(self, inside: BoolArray) -> "Parameters":
        """Return the parameters with the columns of all other inputs set to zero."""
        return replace(self, B=np.where(inside, self.B, 0.0), D=np.where(inside, self.D, 0.0))

    def scaled(self, s: float) -> "Parameters":
        """Multiply the states by ``s``: the prediction of a homogeneous model stays the same."""
        return replace(self, B=self.B * s, b=self.b * s, C=self.C / s)


def group_norms(B: Array, D: Array, groups: IntArray | None = None) -> Array:
    """Return for each input the norm of its group of columns of ``[B; D]``.

    ``groups`` holds a label for each input, those of a group side by side; without it every input
    is a group of its own.

    Examples
    --------
    >>> group_norms(np.array([[3.0, 0.0]]), np.array([[4.0, 0.0]]))
    array([5., 0.])
    >>> group_norms(np.array([[3.0, 0.0]]), np.array([[4.0, 0.0]]), np.array([0, 0]))
    array([5., 5.])
    """
    squares: Array = np.einsum("ij,ij->j", B, B) + np.einsum("ij,ij->j", D, D)
    if groups is not None and len(groups):
        first = first_inputs(groups)
        squares = np.repeat(np.add.reduceat(squares, first), np.diff(first, append=len(groups)))
    return np.sqrt(squares)


def first_inputs(groups: IntArray) -> IntArray:
    """Return where each group of neighbouring equal labels begins.

    Examples
    --------
    >>> first_inputs(np.array([4, 4, 7]))
    array([0, 2])
    """
    return np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))


@dataclass(frozen=True)
class TrainingProblem:
    """Minimise a penalised loss over implicit models with a certified fixed point.

    With weights ``w`` that sum to one, the problem is to minimise

        ``sum_i w_i loss(y_i, C x_i + D u_i + d) + alpha sum_g omega_g ||[B; D]_g||_F
        + l2 / 2 ||C||_F^2 + l1 sum |A_kl|``

    subject to ``x_i = phi(A x_i + B u_i + b)``, ``||A||_inf <= kappa`` and the pattern of A.

    Attributes
    ----------
    loss : Loss
    activation : Activation
    n_states : int
    alpha : float
        Strength of the group penalty.
    l2 : float
        Strength of the penalty of C. Without it the scale of the states would be free and the
        group penalty could be evaded.
    kappa : float
        Bound of the row sums of ``|A|``, positive; times the Lipschitz constant of the activation
        it must be below 1.
    group_weights : ndarray of shape (p,)
        ``omega``, one for each input, equal within a group; infinity excludes an input.
    l1 : float
        Strength of the penalty of A.
    pattern : ndarray of bool, shape (n_states, n_states), optional
        Entries of A that may be nonzero.
    input_states, output_states : ndarray of bool, shape (n_states,), optional
        States that inputs may enter: rows of B that may be nonzero. States that outputs may read:
        columns of C that may be nonzero.
    feedthrough, intercept : bool
        Whether D, and whether b and d, are fitted; they are zero otherwise.
    groups : ndarray of int, shape (p,), optional
        A label for each input: those with the same label, which stand side by side, enter and
        leave together. Without it every input is a group of its own.
    contraction : Contraction
        The certificate that every admissible A shares.

    Raises
    ------
    ValueError
        If ``kappa`` does not make the fixed point unique, or ``groups`` is not sorted.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> from bcd_implicit.losses import SquaredLoss
    >>> problem = TrainingProblem(SquaredLoss(), Relu(), 1, 0.5, 1.0, 0.9, np.ones(1))
    >>> one = np.ones((1, 1))
    >>> problem.penalty(Parameters(0.5 * one, 3 * one, np.zeros(1), 2 * one, 4 * one, np.zeros(1)))
    4.5
    """

    loss: Loss
    activation: Activation
    n_states: int
    alpha: float
    l2: float
    kappa: float
    group_weights: Array
    l1: float = 0.0
    pattern: BoolArray | None = None
    input_states: BoolArray | None = None
    output_states: BoolArray | None = None
    feedthrough: bool = True
    intercept: bool = True
    groups: IntArray | None = None
    contraction: Contraction = field(init=False)

    def __post_init__(self) -> None:
        """Derive the certificate that every admissible A shares."""
        if isinstance(self.activation, PerState):
            raise ValueError(
                f"activation must be one for all states that are trained; got {self.activation!r}"
            )
        factor = float(np.nextafter(self.kappa * self.activation.lipschitz, np.inf))
        if not 0.0 < factor < 1.0 or self.kappa <= 0.0:
            raise ValueError(
                "kappa must be positive and, times the Lipschitz constant of the activation, below "
                f"1; got kappa={self.kappa!r} and {self.activation!r} with "
                f"{self.activation.lipschitz!r}"
            )
        if self.groups is not None and (
            self.groups.shape != self.group_weights.shape or (np.diff(self.groups) < 0).any()
        ):
            raise ValueError(
                f"groups must hold {len(self.group_weights)} labels that do not fall; "
                f"got {self.groups!r}"
            )
        object.__setattr__(self, "contraction", Contraction(factor, np.ones(self.n_states)))

    @cached_property
    def thresholds(self) -> Array:
        """Threshold of the group of every input, ``alpha * omega``; infinite where omega is."""
        with np.errstate(invalid="ignore"):
            product = self.alpha * self.group_weights
        return np.where(np.isinf(self.group_weights), np.inf, product)

    @cached_property
    def mask(self) -> BoolArray:
        """Pattern of A, all true when none was given."""
        if self.pattern is not None:
            return self.pattern
        return np.ones((self.n_states, self.n_states), dtype=np.bool_)

    @cached_property
    def entry(self) -> BoolArray:
        """States that inputs may enter, all true by default."""
        if self.input_states is not None:
            return self.input_states
        return np.ones(self.n_states, dtype=np.bool_)

    @cached_property
    def read(self) -> BoolArray:
        """States that outputs may read, all true by default."""
        if self.output_states is not None:
            return self.output_states
        return np.ones(self.n_states, dtype=np.bool_)

    def entry_rows(self, rows: int) -> BoolArray:
        """Return the rows of ``[B; D]``, or of B alone, that may be nonzero."""
        return np.concatenate([self.entry, np.ones(rows - self.n_states, dtype=np.bool_)])

    def only(self, columns: IntArray) -> "TrainingProblem":
        """Return the problem with some of the inputs, whole groups in the old order."""
        groups = None if self.groups is None else self.groups[columns]
        return replace(self, group_weights=self.group_weights[columns], groups=groups)

    def group_levels(self, columns: IntArray | slice = slice(None)) -> tuple[Array, IntArray]:
        """Return thresholds and sizes of the groups that are made up of some of the inputs."""
        thresholds = self.thresholds[columns]
        if self.groups is None:
            return thresholds, np.ones(len(thresholds), dtype=np.intp)
        first = first_inputs(self.groups[columns])
        return thresholds[first], np.diff(first, append=len(thresholds))

    def penalty(self, parameters: Parameters) -> float:
        """Return the value of all penalties; infinite if an excluded input is used."""
        norms = group_norms(parameters.B, parameters.D, self.groups)
        thresholds = self.thresholds
        if self.groups is not None:  # each group once
            first = first_inputs(self.groups)
            norms, thresholds = norms[first], thresholds[first]
        used = norms > 0.0
        value = float(np.dot(thresholds[used], norms[used]))
        value += 0.5 * self.l2 * float(np.vdot(parameters.C, parameters.C))
        return value + self.l1 * float(np.abs(parameters.A).sum())

    def feasible(self, parameters: Parameters) -> Parameters:
        """Return the parameters with what the problem does not allow removed; a start from others.

        A is projected on the pattern and the row-sum ball; what B and C may not hold, excluded
        inputs, and D, b and d if they are not fitted, become zero. What is feasible stays as it is.

        Raises
        ------
        ValueError
            If a shape does not fit the problem.
        """
        n, p, q = self.n_states, len(self.group_weights), len(parameters.C)
        shapes = {"A": (n, n), "B": (n, p), "b": (n,), "C": (q, n), "D": (q, p), "d": (q,)}
        for name, shape in shapes.items():
            check_shape(name, getattr(parameters, name).shape, *shape)
        allowed = np.isfinite(self.thresholds)
        return Parameters(
            A=project_l1_rows(parameters.A, self.kappa, pattern=self.mask).x,
            B=np.where(allowed & self.entry[:, None], parameters.B, 0.0),
            b=parameters.b if self.intercept else np.zeros(n),
            C=np.where(self.read, parameters.C, 0.0),
            D=np.where(allowed & self.feedthrough, parameters.D, 0.0),
            d=parameters.d if self.intercept else np.zeros(q),
        )
