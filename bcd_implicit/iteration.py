"""Prediction by iteration: the states of a dense A at once, to a proven accuracy."""

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any, Self

import numpy as np

from bcd_implicit._activation import Activation, Array, Kernel
from bcd_implicit._matrices import check_overflow, dense
from bcd_implicit._self_loops import without_self_loops
from bcd_implicit._sweeps import SweepForm
from bcd_implicit.equilibrium import ROW_BY_ROW, solve_equilibrium
from bcd_implicit.exceptions import EquilibriumError
from bcd_implicit.solvers._kernels import PIECEWISE_LINEAR
from bcd_implicit.wellposed import Contraction, contraction

__all__ = ["Iteration"]

_MANY_ROWS = 20  # times the states: a form that contracts faster pays for what it takes to make it


class Iteration:
    """The matrices of a model and the contraction that finds its states.

    Parameters
    ----------
    A, B, C, D : ndarray, or csr_array (B and C and D)
        B and D with the active columns only.
    b, d : ndarray
    activation : Activation

    Raises
    ------
    IllPosedError
        If no contraction is found.

    Examples
    --------
    >>> from bcd_implicit.activations import Relu
    >>> A, B, C, D = np.array([[0.5]]), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1))
    >>> Iteration(A, B, C, D, np.zeros(1), np.zeros(1), Relu()).predict(np.ones((1, 1)), 1e-10)
    array([[2.]])
    """

    entries = 1 << 18  # of the widest array of a block of rows: 2 MB in double precision

    def __init__(
        self, A: Array, B: Any, C: Any, D: Any, b: Array, d: Array, activation: Activation
    ) -> None:
        self.evidence: Contraction = contraction(A, activation.lipschitz)
        self.BT, self.DT = (np.ascontiguousarray(dense(M).T) for M in (B, D))
        self.activation, self.A, self.b, self.d = activation, A, b, d
        self.contraction = self.evidence  # of the equation that is solved
        loopless = without_self_loops(activation, A, self.evidence)
        if loopless is not None:
            self.A, self.b, self.BT = loopless.A, b * loopless.gain, self.BT * loopless.gain
            self.contraction = contraction(loopless.largest, activation.lipschitz)
        self.C = dense(C)
        self.form: SweepForm | None = None

    def for_rows(self, m: int) -> "Iteration":
        """Return what is best for so many rows in all: a few are not worth another form.

        With few states they get it, too: a row is solved alike alone and among others, and what is
        left are roundings of ``B u`` by BLAS.
        """
        worth = len(self.A) <= ROW_BY_ROW or m >= _MANY_ROWS * len(self.A)
        return self._centred if worth else self._plain

    @cached_property
    def _centred(self) -> "Iteration":
        """With the form of the equation that sweeps solve fastest."""
        return self._in_form(SweepForm.centred)

    @cached_property
    def _plain(self) -> "Iteration":
        """With what sweeps need of the equation as it is."""
        return self._in_form(SweepForm.plain)

    def _in_form(self, form: Callable[[Activation, Kernel, Array, Contraction], SweepForm]) -> Self:
        """Return a copy with a form for sweeps, if phi is piecewise linear."""
        other = copy(self)
        kernel = self.activation.kernel
        if kernel is not None and kernel[0] == PIECEWISE_LINEAR:
            other.form = form(self.activation, kernel, self.A, self.contraction)
        return other

    def states(self, U: Any, tol: float, out: Array | None = None) -> Array:
        """Return the states of a block of inputs, shape (m, n)."""
        with np.errstate(over="ignore", invalid="ignore"):  # reported by the error below
            Zin = U @ self.BT
            Zin += self.b
            solution = solve_equilibrium(
                self.activation,
                self.A,
                Zin,
                self.contraction,
                tol,
                out=out,
                form=self.form,
            )
        if solution.status == "max_iter":
            raise EquilibriumError(
                f"the states are not known to {tol:g} after {solution.n_iter} iterations with "
                f"contraction factor {self.contraction.factor:.9g}: the proven error is "
                f"{solution.error:g}; if it is infinite, the inputs are too large for {Zin.dtype}"
            )
        return solution.x

    def predict(self, U: Any, tol: float, out: Array | None = None) -> Array:
        """Return the predictions of a block of inputs, shape (m, q)."""
        X = self.states(U, tol)
        with np.errstate(over="ignore", invalid="ignore"):  # reported by the error below
            F: Array = np.matmul(X, self.C.T, out=out)
            F += U @ self.DT + self.d
        check_overflow(F)
        return F
