"""The metric of the sweeps over a group-ball problem: a majoriser, and bases for its groups."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh_tridiagonal

from .group_ball_problem import GroupBallProblem

__all__ = ["Basis", "eigenbases", "in_bases", "majoriser", "sweep_metric", "turned"]

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

_FLAT = 1e-11  # of the largest eigenvalue or the trace: what smaller ones are taken for
_ROUNDING = 1e-14  # of the largest eigenvalue, and of W where next to nothing of it is left
# Columns of a group whose largest eigenvalue is found by itself: for the 3,000 of a variable's
# categories all eigenvalues took 3 s of a step of 4.
_WIDE = 300
# Most directions of its subspace, how often their eigenvalue is looked at, and the part of it up to
# which it is known.
_MOST_DIRECTIONS, _CHECKED, _KNOWN = 300, 10, 1e-12


class Basis(NamedTuple):
    """Columns of groups of one size, (groups, size), eigenvectors and eigenvalues of their W."""

    columns: IntArray
    vectors: Array
    values: Array


def sweep_metric(problem: GroupBallProblem) -> tuple[Array, Array, Array, Array]:
    """Return the metric as ``H (x) W - F F' (x) K K'``, with as few columns in F as H2 allows."""
    if not len(problem.H2):
        r, P = problem.linear.shape
        return problem.H, problem.W, np.zeros((r, 0)), np.zeros((P, 0))
    values, vectors = np.linalg.eigh(problem.H2)
    kept = values > _ROUNDING * values[-1]
    F = vectors[:, kept] * np.sqrt(values[kept])
    return problem.total, problem.W, _array(F), _array(problem.K)


def majoriser(problem: GroupBallProblem) -> tuple[Array, Array, Array, Array]:
    """Return eigenpairs of a row metric ``N`` and one factor a column: ``w H + w2 H2 <= factor N``.

    For a group of several columns w is the largest eigenvalue of its block of W, unless that is
    diagonal, w2 likewise of ``W - K K'``. The smallest eigenvalues are kept off zero by a proximal
    term, so that every block has one minimiser.
    """
    bound = _largest_eigenvalues(problem, np.zeros((len(problem.W), 0)))
    N = problem.H
    if len(problem.H2):
        second = _largest_eigenvalues(problem, problem.K) + _ROUNDING * bound
        inputs = slice(problem.n_states, problem.n_states + problem.n_inputs)
        first_mean, second_mean = (float(d[inputs].sum()) or 1.0 for d in (bound, second))
        N = first_mean * N + second_mean * problem.H2
        bound = np.maximum(bound / first_mean, second / second_mean)
    places = np.ix_(problem.entry, problem.entry)
    values, vectors = np.ones(len(N)), np.eye(len(N))
    values[problem.entry], vectors[places] = np.linalg.eigh(N[places])
    floor = _FLAT * float(np.trace(N))
    n = problem.n_states
    inverse = np.linalg.inv(N[:n, :n] + floor * np.eye(n)) if floor > 0.0 else np.zeros((n, n))
    values = np.maximum(values, 0.0) + floor
    return _array(vectors), _array(values), bound, _array(inverse)


def _largest_eigenvalues(problem: GroupBallProblem, K: Array) -> Array:
    """Return the diagonal of ``W - K K'``; where it is not diagonal, its largest eigenvalue."""
    W = problem.W
    largest: Array = np.maximum(np.diag(W) - np.einsum("ij,ij->i", K, K), 0.0)
    for groups in _groups_of_equal_sizes(problem):
        size = groups.shape[1]
        if size > _WIDE:
            for group in groups:
                places = slice(group[0], group[-1] + 1)
                largest[places] = max(_largest_eigenvalue(W[places, places], K[places]), 0.0)
        else:  # all at once: one by one, 500 pairs took a third of a fit
            blocks = W[groups[:, :, np.newaxis], groups[:, np.newaxis]]
            blocks -= K[groups] @ K[groups].swapaxes(1, 2)
            mixed = (blocks * (1.0 - np.eye(size))).any(axis=(1, 2))
            largest[groups[mixed]] = np.maximum(np.linalg.eigvalsh(blocks[mixed])[:, -1:], 0.0)
            single = largest[groups[~mixed]]
            largest[groups[~mixed]] = np.maximum(single, _FLAT * single.max(axis=1, keepdims=True))
    return largest


def _groups_of_equal_sizes(problem: GroupBallProblem) -> list[IntArray]:
    """Return the columns of the groups of several, those of one size as (groups, size)."""
    ends = problem.n_states + np.cumsum(problem.sizes)
    sizes = np.unique(problem.sizes[problem.sizes > 1])
    return [ends[problem.sizes == size, np.newaxis] + np.arange(-size, 0) for size in sizes]


def eigenbases(problem: GroupBallProblem) -> list[Basis]:
    """Return the eigenvectors of the blocks of W that belong to groups of several columns.

    Without groups of constant columns, which stay zero, and those too wide for it. With a second
    metric no basis makes both diagonal, and there are none.
    """
    bases = []
    for groups in [] if len(problem.H2) else _groups_of_equal_sizes(problem):
        some = groups[(np.diag(problem.W)[groups] > 0.0).all(axis=1)]
        if len(some) and some.shape[1] <= _WIDE:
            blocks = problem.W[some[:, :, np.newaxis], some[:, np.newaxis]]
            values, vectors = np.linalg.eigh(blocks)
            bases.append(Basis(some, vectors, np.maximum(values, 0.0)))
    return bases


def in_bases(problem: GroupBallProblem, bases: list[Basis]) -> GroupBallProblem:
    """Return the problem in these bases; its linear part, which no sweep reads, stays."""
    if not bases:
        return problem
    W = turned(turned(problem.W, bases).T, bases)
    for columns, _, values in bases:
        W[columns[:, :, np.newaxis], columns[:, np.newaxis]] = values[:, np.newaxis] * np.eye(
            columns.shape[1]
        )
    return replace(problem, W=W)


def turned(rows: Array, bases: list[Basis], *, back: bool = False) -> Array:
    """Return rows with the columns of groups in their bases, or back from there."""
    if not bases:
        return rows
    new = rows.copy()
    for columns, vectors, _ in bases:
        V = vectors.swapaxes(1, 2) if back else vectors
        new[:, columns] = (rows[:, columns].swapaxes(0, 1) @ V).swapaxes(0, 1)
    return new


def _largest_eigenvalue(W: Array, K: Array) -> float:
    """Return the largest eigenvalue of ``W - K K'``, by Lanczos' method if that ends soon.

    Not by ARPACK, whose restarts are random: equal fits are to have equal bits.
    """
    x = np.random.default_rng(0).standard_normal(len(W))
    x /= np.linalg.norm(x)
    basis, diagonal, beside = np.empty((_MOST_DIRECTIONS, len(W))), np.empty(0), np.empty(0)
    for k in range(_MOST_DIRECTIONS):
        basis[k] = x
        y = W @ x - K @ (x @ K)
        diagonal = np.append(diagonal, x @ y)
        for _ in range(2):  # once leaves rounding errors of what is taken off
            y -= (basis[: k + 1] @ y) @ basis[: k + 1]
        length = float(np.linalg.norm(y))
        if k % _CHECKED == 0 or length <= _KNOWN * abs(diagonal[0]):
            value, vector = eigh_tridiagonal(diagonal, beside, select="i", select_range=(k, k))
            residual = length * abs(float(vector[-1, 0]))
            if residual <= _KNOWN * abs(value[0]):
                return float(value[0]) + residual
        beside = np.append(beside, length)
        x = y / length
    return float(np.linalg.eigvalsh(W - K @ K.T)[-1])


def _array(values: ArrayLike) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)
