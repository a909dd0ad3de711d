"""The model itself: frozen matrices, and predictions at the certified equilibrium."""

import os
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from bcd_implicit import coordinates
from bcd_implicit._activation import Array
from bcd_implicit._matrices import (
    BLOCKS,
    as_matrices,
    check_finite,
    check_shape,
    csr,
    dense,
    first_not_finite,
    is_sparse,
    used_columns,
)
from bcd_implicit._storage import read_model, write_model
from bcd_implicit._threads import each_block
from bcd_implicit._typing import BoolArray, FloatArray, IntArray, Matrix
from bcd_implicit.activations import Activation, get_activation
from bcd_implicit.iteration import Iteration
from bcd_implicit.per_state import PerState
from bcd_implicit.structure import BlockTriangular, substitution_order
from bcd_implicit.substitution import Substitution
from bcd_implicit.wellposed import Contraction

__all__ = ["ImplicitModel"]


class ImplicitModel:
    """Implicit model ``y = C x + D u + d``, where ``x = phi(A x + B u + b)``.

    The model is immutable and valid from birth: shapes, finiteness and well-posedness (a verified
    contraction, see `bcd_implicit.wellposed`) are checked once, here, so every prediction exists,
    is unique and is computed to a proven tolerance. An input whose column of ``[B; D]`` is zero
    cannot change one bit of a prediction.

    Parameters
    ----------
    A : array-like or scipy sparse matrix of shape (n, n)
    B : array-like or scipy sparse matrix of shape (n, p)
    C : array-like or scipy sparse matrix of shape (q, n)
    D : array-like or scipy sparse matrix of shape (q, p)
    b : array-like of shape (n,), optional
        Zero by default.
    d : array-like of shape (q,), optional
        Zero by default.
    activation : str, dict or Activation, default="relu"
        See `bcd_implicit.activations.get_activation`; `bcd_implicit.per_state.PerState` for
        activations that differ between states.

    Attributes
    ----------
    A, B, C, D, b, d : ndarray, or csr_array where a sparse matrix was given
        Read-only copies: float32 if every given array is, float64 otherwise.
    activation : Activation
    contraction : Contraction or BlockTriangular
        The evidence of well-posedness. The second where A is sparse, activations differ, or A is
        that of a network of a few layers: the states are then found layer by layer, without
        iteration outside of loops, and every loop of A must be a contraction.

    Raises
    ------
    ValueError
        If a shape does not fit or an entry is not finite.
    IllPosedError
        If no contraction is found.

    Examples
    --------
    >>> model = ImplicitModel(A=[[0.5]], B=[[1.0, 0.0]], C=[[2.0]], D=[[0.0, 0.0]])
    >>> model
    ImplicitModel(n_inputs=2, n_states=1, n_outputs=1, activation=Relu(), n_active_inputs=1)
    >>> model.predict([[1.0, 7.0], [-1.0, 7.0]])  # the state solves x = max(0.5 x + u_1, 0)
    array([[4.],
           [0.]])
    """

    A: Matrix
    B: Matrix
    C: Matrix
    D: Matrix
    b: FloatArray
    d: FloatArray
    activation: Activation
    active_inputs: BoolArray
    _columns: IntArray
    _solver: Iteration | Substitution

    def __init__(
        self,
        A: Matrix,
        B: Matrix,
        C: Matrix,
        D: Matrix,
        b: ArrayLike | None = None,
        d: ArrayLike | None = None,
        activation: str | dict[str, Any] | Activation = "relu",
    ) -> None:
        blocks = {"A": A, "B": B, "C": C, "D": D, "b": b, "d": d}
        for name, block in as_matrices(blocks).items():
            self._set(name, block)
        phi = get_activation(activation)
        if isinstance(phi, PerState) and phi.n_states != self.n_states:
            raise ValueError(
                f"activation must name {self.n_states} states; got {phi.n_states} in {phi!r}"
            )
        self._set("activation", phi)
        self._set("active_inputs", used_columns(self.B) | used_columns(self.D))
        # products see the active columns only: 0 * u would turn a large u into rounding or NaN
        columns = np.flatnonzero(self.active_inputs)
        self._set("_columns", columns)
        rest = (self.A, self.B[:, columns], self.C, self.D[:, columns], self.b, self.d)
        structure = substitution_order(self.A, phi)
        solver = Substitution(structure, *rest) if structure else Iteration(*rest, phi)
        self._set("_solver", solver)

    @property
    def contraction(self) -> Contraction | BlockTriangular:
        """The evidence of well-posedness."""
        return self._solver.evidence

    @property
    def n_states(self) -> int:
        """Number of states n."""
        return int(self.A.shape[0])

    @property
    def n_inputs(self) -> int:
        """Number of inputs p."""
        return int(self.B.shape[1])

    @property
    def n_outputs(self) -> int:
        """Number of outputs q."""
        return int(self.C.shape[0])

    @property
    def n_active_inputs(self) -> int:
        """Number of inputs with a nonzero column of ``[B; D]``: the others have no influence."""
        return int(np.count_nonzero(self.active_inputs))

    @property
    def contraction_factor(self) -> float:
        """Factor below 1 by which the state equation contracts: 0 for a network without loops."""
        return self.contraction.factor

    def predict(self, U: Any, tol: float = 1e-10, n_jobs: int | None = None) -> FloatArray:
        """Return the predictions ``C x + D u + d`` of the rows of ``U``.

        Parameters
        ----------
        U : array-like or scipy sparse matrix of shape (m, p)
            Worked off in blocks of rows; a sparse matrix is never made dense.
        tol : float, default=1e-10
            Proven accuracy of the states, see `states`.
        n_jobs : int, optional
            Threads that work on blocks, as joblib counts them: one by default, all with -1. The
            predictions have the same bits for any number.

        Returns
        -------
        ndarray of shape (m, q)

        Raises
        ------
        ValueError
            If ``U`` has another width, is not two-dimensional or not finite.
        EquilibriumError
            If a number overflows or a state is not found in a million iterations.
        """
        U = self._check_inputs(U)
        predictions = np.empty((U.shape[0], self.n_outputs), dtype=self.A.dtype)
        solver = self._solver.for_rows(U.shape[0])

        def work(rows: slice) -> None:
            solver.predict(self._inputs(U, rows), tol, out=predictions[rows])

        each_block(work, self._blocks(U.shape[0]), n_jobs)
        return predictions

    def states(self, U: Any, tol: float = 1e-10, n_jobs: int | None = None) -> FloatArray:
        """Return the states (m, n) of the rows of ``U``.

        Every state ``x`` is proven to satisfy ``max_k |x_k - x*_k| <= tol max(1, max_k |x_k|)``,
        where ``x*`` is the equilibrium, as far as the rounding errors of the dtype allow it.
        Parameters and errors are those of `predict`.
        """
        U = self._check_inputs(U)
        X = np.empty((U.shape[0], self.n_states), dtype=self.A.dtype)
        solver = self._solver.for_rows(U.shape[0])

        def work(rows: slice) -> None:
            solver.states(self._inputs(U, rows), tol, out=X[rows])

        each_block(work, self._blocks(U.shape[0]), n_jobs)
        return X

    def residual(self, U: Any, X: ArrayLike) -> float:
        """Return ``max |x - phi(A x + B u + b)|`` over rows and states; not finite on overflow."""
        U = self._check_inputs(U)
        given: Array = np.asarray(X, dtype=self.A.dtype)
        check_shape("X", given.shape, U.shape[0], self.n_states)
        check_finite("X", given)
        worst, B = 0.0, self.B[:, self._columns]
        for rows in self._blocks(U.shape[0]):
            Z = given[rows] @ self.A.T + dense(self._inputs(U, rows) @ B.T) + self.b
            worst = np.maximum(worst, np.abs(given[rows] - self.activation.value(Z)).max())
        return float(worst)

    def rescaled(self) -> "ImplicitModel":
        """Return the model with row sums of ``|A|`` below 1; see `bcd_implicit.coordinates`."""
        return coordinates.rescaled(self)

    def permuted(self, order: ArrayLike) -> "ImplicitModel":
        """Return the model with the states ``x[order]``."""
        return coordinates.permuted(self, order)

    def upper_triangular_form(self) -> "ImplicitModel":
        """Return the model with a strictly upper triangular A, if its states form no loop."""
        return coordinates.upper_triangular_form(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file in NumPy's npz format, without pickles.

        The file appears complete or not at all: it is written under a temporary name in the same
        folder and then renamed. Only built-in activations can be saved.
        """
        write_model(path, self.activation, {name: getattr(self, name) for name in BLOCKS})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ImplicitModel":
        """Read a model written by `save`, with every check of the constructor.

        Raises ValueError if the file is not such a model or is damaged, and IllPosedError if its
        matrices are not well-posed.
        """
        activation, blocks = read_model(path, BLOCKS)
        return cls(**blocks, activation=activation)

    def __repr__(self) -> str:
        return (
            f"ImplicitModel(n_inputs={self.n_inputs}, n_states={self.n_states}, "
            f"n_outputs={self.n_outputs}, activation={self.activation!r}, "
            f"n_active_inputs={self.n_active_inputs})"
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an ImplicitModel is immutable; cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an ImplicitModel is immutable; cannot delete {name!r}")

    def __reduce__(self) -> tuple[type["ImplicitModel"], tuple[Any, ...]]:
        # copies and pickles pass the constructor's checks and are read-only again
        return type(self), (*(getattr(self, name) for name in BLOCKS), self.activation)

    def _check_inputs(self, U: Any) -> Array:
        """Return ``U`` as a dense array or CSR matrix of numbers with p columns."""
        U = csr(U) if is_sparse(U) else np.asarray(U)
        if U.dtype.kind in "cmM":  # NumPy would drop the imaginary part, and count nanoseconds
            raise ValueError(f"U must hold real numbers; got dtype {U.dtype}")
        if U.dtype.kind not in "fiub":
            try:
                U = U.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"U must hold real numbers; got dtype {U.dtype}") from error
        if U.ndim != 2 or U.shape[1] != self.n_inputs:
            raise ValueError(
                f"U must have shape (m, {self.n_inputs}), samples along rows; got {U.shape}"
                + ("; one sample is U.reshape(1, -1)" if U.ndim == 1 else "")
            )
        return U

    def _blocks(self, m: int) -> list[slice]:
        """Cut m rows into blocks, whatever works on them; tiles of 64 rows leave none over."""
        width = max(len(self._columns), self.n_states, self.n_outputs)
        size = max(self._solver.entries // width // 64, 1) * 64
        return [slice(start, min(start + size, m)) for start in range(0, m, size)]

    def _inputs(self, U: Array, rows: slice) -> Array:
        """Return a block of rows in the dtype of the model, reduced to the active columns."""
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused as such
            block = U[rows].astype(self.A.dtype, copy=False)
        if (bad := first_not_finite(block)) is not None:
            raise ValueError(
                f"U must have finite entries; got NaN or infinity in {self.A.dtype} in row "
                f"{rows.start + bad}"
            )
        return block if len(self._columns) == self.n_inputs else block[:, self._columns]

    def _set(self, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        object.__setattr__(self, name, value)
