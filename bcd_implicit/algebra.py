"""Models out of models: chains, sums, stacks, affine maps and feedback.

The states of the result are those of its parts, so that its matrices are sparse blocks of theirs.
Every result passes the checks of `ImplicitModel`: connections without feedback are always
well-posed, feedback is checked. See L. El Ghaoui, F. Gu, B. Travacca, A. Askari, A. Tsai, "Implicit
deep learning", SIAM J. Math. Data Sci. 3 (2021), section on composition.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import block_array, eye_array, vstack

from bcd_implicit._activation import Array
from bcd_implicit._matrices import check_finite, check_shape, csr, dense, is_sparse, used_columns
from bcd_implicit._typing import Matrix
from bcd_implicit.exceptions import IllPosedError
from bcd_implicit.model import ImplicitModel
from bcd_implicit.per_state import concatenated

__all__ = ["add", "affine", "cascade", "concatenate", "diagonal", "feedback"]


def cascade(first: ImplicitModel, second: ImplicitModel) -> ImplicitModel:
    """Return ``u -> second(first(u))``.

    Raises
    ------
    ValueError
        If ``second`` does not take as many inputs as ``first`` has outputs.

    Examples
    --------
    >>> double = ImplicitModel([[0.0]], [[1.0]], [[2.0]], [[0.0]])  # 2 relu(u)
    >>> cascade(double, double).predict([[3.0]])
    array([[12.]])
    """
    if second.n_inputs != first.n_outputs:
        raise ValueError(
            f"second must take the {first.n_outputs} outputs of first; it has {second.n_inputs} "
            "inputs"
        )
    f, g = first, second
    gB, gD = csr(g.B), csr(g.D)
    return _model(
        A=[[g.A, gB @ csr(f.C)], [None, f.A]],
        B=[[gB @ csr(f.D)], [f.B]],
        C=[[g.C, gD @ csr(f.C)]],
        D=gD @ csr(f.D),
        b=np.concatenate([g.b + gB @ f.d, f.b]),
        d=g.d + gD @ f.d,
        parts=(g, f),
    )


def add(first: ImplicitModel, second: ImplicitModel) -> ImplicitModel:
    """Return ``u -> first(u) + second(u)``.

    Raises
    ------
    ValueError
        If the numbers of inputs or outputs differ.

    Examples
    --------
    >>> double = ImplicitModel([[0.0]], [[1.0]], [[2.0]], [[0.0]])
    >>> add(double, double).predict([[3.0]])
    array([[12.]])
    """
    _same_inputs(first, second)
    if first.n_outputs != second.n_outputs:
        raise ValueError(
            f"first and second must have as many outputs; got {first.n_outputs} and "
            f"{second.n_outputs}"
        )
    return _model(
        A=[[first.A, None], [None, second.A]],
        B=[[first.B], [second.B]],
        C=[[first.C, second.C]],
        D=csr(first.D) + csr(second.D),
        b=np.concatenate([first.b, second.b]),
        d=first.d + second.d,
        parts=(first, second),
    )


def concatenate(first: ImplicitModel, second: ImplicitModel) -> ImplicitModel:
    """Return ``u -> (first(u), second(u))``.

    Raises
    ------
    ValueError
        If the numbers of inputs differ.

    Examples
    --------
    >>> double = ImplicitModel([[0.0]], [[1.0]], [[2.0]], [[0.0]])
    >>> concatenate(double, double).predict([[3.0]])
    array([[6., 6.]])
    """
    _same_inputs(first, second)
    return _model(
        A=[[first.A, None], [None, second.A]],
        B=[[first.B], [second.B]],
        C=[[first.C, None], [None, second.C]],
        D=vstack([csr(first.D), csr(second.D)]),
        b=np.concatenate([first.b, second.b]),
        d=np.concatenate([first.d, second.d]),
        parts=(first, second),
    )


def diagonal(first: ImplicitModel, second: ImplicitModel) -> ImplicitModel:
    """Return ``(u, v) -> (first(u), second(v))``: side by side, each with its own inputs.

    Examples
    --------
    >>> double = ImplicitModel([[0.0]], [[1.0]], [[2.0]], [[0.0]])
    >>> diagonal(double, double).predict([[3.0, 1.0]])
    array([[6., 2.]])
    """
    return _model(
        A=[[first.A, None], [None, second.A]],
        B=[[first.B, None], [None, second.B]],
        C=[[first.C, None], [None, second.C]],
        D=_blocks([[first.D, None], [None, second.D]]),
        b=np.concatenate([first.b, second.b]),
        d=np.concatenate([first.d, second.d]),
        parts=(first, second),
    )


def affine(
    model: ImplicitModel,
    P: Matrix | None = None,
    s: ArrayLike | None = None,
    Q: Matrix | None = None,
    r: ArrayLike | None = None,
) -> ImplicitModel:
    """Return ``u -> P model(Q u + r) + s``; what is not given changes nothing.

    Parameters
    ----------
    model : ImplicitModel
    P : array-like or sparse matrix of shape (new outputs, q), optional
    s : array-like of shape (new outputs,), optional
    Q : array-like or sparse matrix of shape (p, new inputs), optional
    r : array-like of shape (p,), optional

    Raises
    ------
    ValueError
        If a shape does not fit or an entry is not finite.

    Examples
    --------
    >>> double = ImplicitModel([[0.0]], [[1.0]], [[2.0]], [[0.0]])
    >>> affine(double, P=[[10.0]], s=[1.0], r=[2.0]).predict([[3.0]])
    array([[101.]])
    """
    B, C, D = csr(model.B), csr(model.C), csr(model.D)
    b, d = model.b, model.d
    if r is not None:
        shift = _vector("r", r, model.n_inputs)
        b, d = b + B @ shift, d + D @ shift
    if Q is not None:
        inner = _matrix("Q", Q, rows=model.n_inputs)
        B, D = B @ inner, D @ inner
    if P is not None:
        outer = _matrix("P", P, columns=model.n_outputs)
        C, D, d = outer @ C, outer @ D, outer @ d
    if s is not None:
        d = d + _vector("s", s, len(d))
    return ImplicitModel(csr(model.A), B, C, D, b, d, model.activation)


def feedback(model: ImplicitModel, gain: "Matrix | ImplicitModel") -> ImplicitModel:
    """Close a loop: the model receives ``u + K y`` or ``u + g(y)``, where y is its own output.

    Parameters
    ----------
    model : ImplicitModel
    gain : array-like or sparse matrix of shape (p, q), or ImplicitModel
        The matrix K, or a model g of q inputs and p outputs.

    Returns
    -------
    ImplicitModel
        Of the inputs u and the outputs y.

    Raises
    ------
    IllPosedError
        If the loop is not certified to have one solution: a loop through D alone that is singular,
        or a Perron-Frobenius eigenvalue of at least 1. A smaller gain helps.
    ValueError
        If a shape does not fit or an entry is not finite.

    Examples
    --------
    ``y = relu(u + y / 2)``:

    >>> relu = ImplicitModel([[0.0]], [[1.0]], [[1.0]], [[0.0]])
    >>> feedback(relu, [[0.5]]).predict([[3.0]])
    array([[6.]])
    """
    p, q = model.n_inputs, model.n_outputs
    if isinstance(gain, ImplicitModel):
        if (gain.n_inputs, gain.n_outputs) != (q, p):
            raise ValueError(
                f"gain must have {q} inputs and {p} outputs; got {gain.n_inputs} and "
                f"{gain.n_outputs}"
            )
        crossed = _blocks([[None, eye_array(p)], [eye_array(q), None]])
        closed = feedback(diagonal(model, gain), crossed)
        return affine(closed, P=eye_array(q, q + p), Q=eye_array(p + q, p))
    K = _matrix("gain", gain, rows=p, columns=q)
    A, B, C, D = (csr(M) for M in (model.A, model.B, model.C, model.D))
    through = D @ K  # y = C x + D (u + K y) + d
    inverse = csr(eye_array(q)) + through
    used = used_columns(through)  # a few: all else of the inverse is sparse
    core = through[:, used][used]
    if core.nnz:
        loop = np.eye(core.shape[0]) - dense(core)
        if np.linalg.cond(loop) > 1.0 / np.finfo(np.float64).eps:
            raise IllPosedError(
                "the loop through D alone is singular: 1 is an eigenvalue of K D. Use a smaller "
                "gain, or a model without feedthrough"
            )
        again = csr(np.linalg.inv(loop)) @ through[used]
        inverse = inverse + through[:, used] @ again
    returning = B @ K @ inverse  # of C x + D u + d, to the states
    try:
        return ImplicitModel(
            A + returning @ C,
            B + returning @ D,
            inverse @ C,
            inverse @ D,
            model.b + returning @ model.d,
            inverse @ model.d,
            model.activation,
        )
    except IllPosedError as error:
        raise IllPosedError(
            f"the feedback is not well-posed: {error} Use a smaller gain."
        ) from None


def _model(
    A: list[list[Matrix]],
    B: list[list[Matrix]],
    C: list[list[Matrix]],
    D: Matrix,
    b: Array,
    d: Array,
    parts: tuple[ImplicitModel, ...],
) -> ImplicitModel:
    """Return a model of blocks of the matrices of its parts."""
    phi = concatenated([(part.activation, part.n_states) for part in parts])
    return ImplicitModel(_blocks(A), _blocks(B), _blocks(C), csr(D), b, d, phi)


def _blocks(blocks: list[list[Matrix]]) -> Matrix:
    """Return a matrix of blocks; None is zero."""
    rows = [[None if block is None else csr(block) for block in row] for row in blocks]
    return csr(block_array(rows))


def _same_inputs(first: ImplicitModel, second: ImplicitModel) -> None:
    if first.n_inputs != second.n_inputs:
        raise ValueError(
            f"first and second must have as many inputs; got {first.n_inputs} and {second.n_inputs}"
        )


def _matrix(name: str, given: Any, rows: int | None = None, columns: int | None = None) -> Matrix:
    """Return a sparse matrix, checked against the sizes that it has to have."""
    matrix = csr(given if is_sparse(given) else np.atleast_2d(np.asarray(given, dtype=np.float64)))
    check_shape(name, matrix.shape, rows, columns)
    check_finite(name, matrix.data)
    return matrix


def _vector(name: str, given: ArrayLike, size: int) -> Array:
    vector = np.asarray(given, dtype=np.float64)
    check_shape(name, vector.shape, size)
    check_finite(name, vector)
    return vector
