"""The same model in other coordinates: other units of the states, or another order."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import diags_array

from bcd_implicit._activation import Array
from bcd_implicit._matrices import csr, dense, is_sparse, values
from bcd_implicit._typing import IntArray, Matrix
from bcd_implicit.exceptions import IllPosedError
from bcd_implicit.per_state import PerState
from bcd_implicit.structure import BlockTriangular, block_triangular
from bcd_implicit.wellposed import rescale

if TYPE_CHECKING:
    from bcd_implicit.model import ImplicitModel

__all__ = ["permuted", "rescaled", "upper_triangular_form"]


def rescaled(model: "ImplicitModel") -> "ImplicitModel":
    """Return the model in units of the states in which the row sums of ``|A|`` are below 1.

    ``A -> S^-1 A S``, ``B -> S^-1 B``, ``b -> S^-1 b``, ``C -> C S`` with a positive diagonal S
    from the Perron-Frobenius theory; the predictions stay the same up to rounding.

    Raises
    ------
    ValueError
        If an activation is not positively homogeneous: the model would change.
    IllPosedError
        If the scales overflow, as they may for hundreds of layers, or no row sum below 1 is left by
        rounding.

    Examples
    --------
    >>> from bcd_implicit import ImplicitModel
    >>> chain = ImplicitModel([[0.0, 9.0], [0.0, 0.0]], np.eye(2), [[1.0, 0.0]], [[0.0, 0.0]])
    >>> float(rescaled(chain).A.max())
    0.5625
    """
    if not isinstance(model.contraction, BlockTriangular):
        new = rescale(model.A, model.B, dense(model.C), model.b, model.activation)
        return type(model)(new.A, new.B, new.C, model.D, new.b, model.d, model.activation)
    if not model.activation.positively_homogeneous:
        raise ValueError(
            f"activation must be positively homogeneous to rescale; got {model.activation!r}"
        )
    A = csr(model.A)
    s = _scales(abs(A).astype(np.float64), model.contraction)
    if s.max() <= np.finfo(A.dtype).max:
        # about 1, and not from 1 up: states of the last of many layers would be lost near zero
        s = s * np.exp2(-np.round(0.5 * np.log2(s.max())))
        shrink, grow = diags_array(1.0 / s), diags_array(s)
        with np.errstate(over="ignore"):
            new_A = _like(model.A, csr(shrink @ A @ grow))
            new_B = _like(model.B, csr(shrink @ csr(model.B)))
            new_C = _like(model.C, csr(csr(model.C) @ grow))
            new_b = (model.b / s).astype(model.b.dtype)
        sums = abs(csr(new_A)).astype(np.float64).sum(axis=1)  # of what rounding has left
        finite = all(np.isfinite(values(M)).all() for M in (new_B, new_C, new_b))
        if np.all(sums < 1.0) and finite:
            phi = model.activation
            return type(model)(new_A, new_B, new_C, model.D, new_b, model.d, phi)
    raise IllPosedError(
        f"rescaling needs units up to {s.max():.3g} and row sums below 1, beyond the precision of "
        f"{A.dtype}: there are too many layers of large weights, or a loop is close to ill-posed"
    )


def permuted(model: "ImplicitModel", order: ArrayLike) -> "ImplicitModel":
    """Return the same model with the states ``x[order]``.

    Raises
    ------
    ValueError
        If ``order`` does not name every state once.

    Examples
    --------
    >>> from bcd_implicit import ImplicitModel
    >>> chain = ImplicitModel([[0.0, 0.5], [0.0, 0.0]], np.eye(2), np.eye(2), np.zeros((2, 2)))
    >>> permuted(chain, [1, 0]).A
    array([[0. , 0. ],
           [0.5, 0. ]])
    """
    given, n = np.asarray(order), model.n_states
    places: IntArray = given.astype(np.intp)
    whole = given.dtype.kind in "iu" and places.shape == (n,)
    if not (whole and np.array_equal(np.sort(places), np.arange(n))):
        raise ValueError(f"order must name each of {n} states once; got {order!r}")
    phi = model.activation
    return type(model)(
        model.A[places][:, places],
        model.B[places],
        model.C[:, places],
        model.D,
        model.b[places],
        model.d,
        phi.permuted(places) if isinstance(phi, PerState) else phi,
    )


def upper_triangular_form(model: "ImplicitModel") -> "ImplicitModel":
    """Return the model with its states in an order in which A is strictly upper triangular.

    A becomes sparse, and prediction is back-substitution.

    Raises
    ------
    ValueError
        If the states form a loop, so that there is no such order.

    Examples
    --------
    >>> from bcd_implicit import ImplicitModel
    >>> chain = ImplicitModel([[0.0, 0.0], [0.5, 0.0]], np.eye(2), np.eye(2), np.zeros((2, 2)))
    >>> upper_triangular_form(chain).A.toarray()
    array([[0. , 0.5],
           [0. , 0. ]])
    """
    found = block_triangular(model.A, model.activation)
    for stage in found.stages:
        if stage.loop is not None:
            raise ValueError(
                f"A has no triangular form: states {stage.states[:10].tolist()} form a loop of "
                f"{len(stage.states)}"
            )
    new = permuted(model, found.order[::-1])
    return type(model)(csr(new.A), new.B, new.C, new.D, new.b, new.d, new.activation)


def _scales(M: Matrix, structure: BlockTriangular) -> Array:
    """Return positive units s with ``M s <= theta s``, where theta is below 1."""
    loops = structure.factor > 0.0
    theta = 0.5 * (1.0 + structure.factor) if loops else 0.45
    s = np.zeros(M.shape[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for stage in structure.stages:
            rows = M[stage.states]
            unit = 1.0 + rows @ s / theta
            if stage.loop is not None:
                block = rows[:, stage.states].toarray() / theta
                unit = np.linalg.solve(np.eye(len(block)) - block, unit)
            s[stage.states] = unit
        # powers of two round nothing, and change a row sum by a factor of two at most
        return s if loops else np.exp2(np.round(np.log2(s)))


def _like(old: Matrix, new: Matrix) -> Matrix:
    """Return a sparse matrix as the old one was given."""
    return new.astype(old.dtype) if is_sparse(old) else new.toarray().astype(old.dtype)
