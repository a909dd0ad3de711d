"""The model itself: frozen matrices, and predictions at the certified equilibrium."""

import os
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, sparray, spmatrix

from bcd_implicit._activation import Array
from bcd_implicit._storage import read_arrays, write_arrays
from bcd_implicit._threads import each_block
from bcd_implicit._typing import BoolArray, FloatArray, IntArray
from bcd_implicit.activations import BUILT_IN, Activation, get_activation
from bcd_implicit.equilibrium import solve_equilibrium
from bcd_implicit.exceptions import EquilibriumError
from bcd_implicit.wellposed import Contraction, contraction

__all__ = ["ImplicitModel"]

_BLOCK_ENTRIES = 1 << 18  # 2 MB in double precision for the widest array of a block
_ARRAYS = ("A", "B", "C", "D", "b", "d")


class ImplicitModel:
    """Implicit model ``y = C x + D u + d``, where ``x = phi(A x + B u + b)``.

    The model is immutable and valid from birth: shapes, finiteness and well-posedness (a verified
    contraction, see `bcd_implicit.wellposed`) are checked once, here, so every prediction exists,
    is unique and is computed to a proven tolerance. An input whose column of ``[B; D]`` is zero
    cannot change one bit of a prediction.

    Parameters
    ----------
    A : array-like of shape (n, n)
    B : array-like of shape (n, p)
    C : array-like of shape (q, n)
    D : array-like of shape (q, p)
    b : array-like of shape (n,), optional
        Zero by default.
    d : array-like of shape (q,), optional
        Zero by default.
    activation : str, dict or Activation, default="relu"
        See `bcd_implicit.activations.get_activation`.

    Attributes
    ----------
    A, B, C, D, b, d : ndarray
        Read-only copies: float32 if every given array is, float64 otherwise.
    activation : Activation
    contraction : Contraction
        The evidence of well-posedness.

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

    A: FloatArray
    B: FloatArray
    C: FloatArray
    D: FloatArray
    b: FloatArray
    d: FloatArray
    activation: Activation
    contraction: Contraction
    active_inputs: BoolArray
    _columns: IntArray
    _B_active: FloatArray
    _D_active: FloatArray

    def __init__(
        self,
        A: ArrayLike,
        B: ArrayLike,
        C: ArrayLike,
        D: ArrayLike,
        b: ArrayLike | None = None,
        d: ArrayLike | None = None,
        activation: str | dict[str, Any] | Activation = "relu",
    ) -> None:
        given = {"A": A, "B": B, "C": C, "D": D, "b": b, "d": d}
        arrays: dict[str, Array] = {k: np.asarray(v) for k, v in given.items() if v is not None}
        for name, array in arrays.items():
            ndim = 2 if name.isupper() else 1
            if array.ndim != ndim or array.dtype.kind not in "fiu":
                raise ValueError(
                    f"{name} must be a {ndim}-dimensional array of real numbers; got shape "
                    f"{array.shape} and dtype {array.dtype}"
                )
        single = all(array.dtype == np.float32 for array in arrays.values())
        dtype = np.float32 if single else np.float64
        n, p, q = arrays["A"].shape[0], arrays["B"].shape[1], arrays["C"].shape[0]
        shapes = {"A": (n, n), "B": (n, p), "C": (q, n), "D": (q, p), "b": (n,), "d": (q,)}
        if min(n, p, q) < 1:
            raise ValueError(f"a model needs a state, an input and an output; got {n}, {p}, {q}")
        for name, shape in shapes.items():
            array = np.array(arrays.get(name, np.zeros(shape)), dtype=dtype, order="C")
            if array.shape != shape:
                raise ValueError(
                    f"{name} must have shape {shape} for {n} states, {p} inputs and {q} outputs; "
                    f"got {array.shape}"
                )
            if not np.all(np.isfinite(array)):
                raise ValueError(f"{name} must have finite entries; got NaN or infinity")
            self._set(name, array)
        phi = get_activation(activation)
        self._set("activation", phi)
        self._set("contraction", contraction(self.A, phi.lipschitz))
        self._set("active_inputs", np.any(self.B != 0, axis=0) | np.any(self.D != 0, axis=0))
        columns = np.flatnonzero(self.active_inputs)
        # products see the active columns only: 0 * u would turn a large u into rounding or NaN
        self._set("_columns", columns)
        self._set("_B_active", np.ascontiguousarray(self.B[:, columns].T))
        self._set("_D_active", np.ascontiguousarray(self.D[:, columns].T))

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
        """Factor below 1 by which the state equation contracts in the norm of `contraction`."""
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
            If a state overflows or is not found in a million iterations.
        """
        U = self._check_inputs(U)
        predictions = np.empty((U.shape[0], self.n_outputs), dtype=self.A.dtype)

        def work(rows: slice) -> None:
            block = self._inputs(U, rows)
            np.matmul(self._solve(block, tol), self.C.T, out=predictions[rows])
            predictions[rows] += block @ self._D_active + self.d

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

        def work(rows: slice) -> None:
            self._solve(self._inputs(U, rows), tol, out=X[rows])

        each_block(work, self._blocks(U.shape[0]), n_jobs)
        return X

    def residual(self, U: Any, X: ArrayLike) -> float:
        """Return ``max |x - phi(A x + B u + b)|`` over all rows and states."""
        U = self._check_inputs(U)
        given: Array = np.asarray(X, dtype=self.A.dtype)
        if given.shape != (U.shape[0], self.n_states):
            raise ValueError(f"X must have shape {(U.shape[0], self.n_states)}; got {given.shape}")
        worst = 0.0
        for rows in self._blocks(U.shape[0]):
            block = self._inputs(U, rows)
            Z = given[rows] @ self.A.T + block @ self._B_active + self.b
            worst = max(worst, float(np.abs(given[rows] - self.activation.value(Z)).max()))
        return worst

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a file in NumPy's npz format, without pickles.

        The file appears complete or not at all: it is written under a temporary name in the same
        folder and then renamed. Only built-in activations can be saved.
        """
        if BUILT_IN.get(self.activation.name) is not type(self.activation):
            raise ValueError(f"only built-in activations can be saved; got {self.activation!r}")
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        write_arrays(path, self.activation.to_dict(), arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ImplicitModel":
        """Read a model written by `save`, with every check of the constructor.

        Raises ValueError if the file is not such a model or is damaged, and IllPosedError if its
        matrices are not well-posed.
        """
        activation, arrays = read_arrays(path, _ARRAYS)
        return cls(**arrays, activation=activation)

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
        return type(self), (*(getattr(self, name) for name in _ARRAYS), self.activation)

    def _check_inputs(self, U: Any) -> Array:
        """Return ``U`` as a dense array or CSR matrix of numbers with p columns."""
        if _is_sparse(U):
            U = csr_array(U)
        else:
            U = np.asarray(U)
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
        """Cut m rows into blocks, whatever works on them."""
        width = max(len(self._columns), self.n_states, self.n_outputs)
        size = max(_BLOCK_ENTRIES // width, 64)
        return [slice(start, min(start + size, m)) for start in range(0, m, size)]

    def _inputs(self, U: Array, rows: slice) -> Array:
        """Return a block of rows in the dtype of the model, reduced to the active columns."""
        block = U[rows]
        with np.errstate(over="ignore"):  # beyond float32: infinite, and refused as such
            block = block.astype(self.A.dtype, copy=False)
        if not np.all(np.isfinite(block.data if _is_sparse(block) else block)):
            raise ValueError(
                f"U must have finite entries; got NaN or infinity in {self.A.dtype} among rows "
                f"{rows.start} to {rows.stop - 1}"
            )
        return block if len(self._columns) == self.n_inputs else block[:, self._columns]

    def _solve(self, block: Array, tol: float, out: Array | None = None) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # reported by the error below
            Zin = block @ self._B_active
            Zin += self.b
            solution = solve_equilibrium(
                self.activation, self.A, Zin, self.contraction, tol, out=out
            )
        if solution.status == "max_iter":
            raise EquilibriumError(
                f"the states are not known to {tol:g} after {solution.n_iter} iterations with "
                f"contraction factor {self.contraction_factor:.9g}: the proven error is "
                f"{solution.error:g}; if it is infinite, the inputs are too large for {Zin.dtype}"
            )
        return solution.x

    def _set(self, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        object.__setattr__(self, name, value)


def _is_sparse(U: Any) -> bool:
    return isinstance(U, (sparray, spmatrix))
