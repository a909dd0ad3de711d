"""The multi-task group lasso against scikit-learn and skglm, all to the same duality gap."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.solvers.group_lasso import solve_group_lasso
from experiments.benchmarks.harness import Comparison, Contender, compare

__all__ = ["run"]

Array = NDArray[np.float64]

_GOAL = 1e-6  # duality gap relative to the objective at zero
_LEAST = 1e-16  # tolerance, below which rounding errors decide
_ROWS, _TASKS = 1000, 10


def run(*, full: bool) -> Iterator[Comparison]:
    """Yield the comparisons of all sizes and strengths."""
    for p in (50, 500, 5000):
        for noise in (0.1, 0.5) if full or p < 5000 else (0.1,):
            U, Y = _data(p, noise)
            strongest = float(np.linalg.norm(U.T @ Y, axis=1).max()) / _ROWS
            for factor in (0.1, 0.01):
                yield _comparison(U, Y, factor * strongest, f"p={p} noise={noise} {factor} a_max")


def _data(p: int, noise: float) -> tuple[Array, Array]:
    """Return correlated inputs, a tenth or 20 of them true, and targets; Fortran order."""
    rng = np.random.default_rng(0)
    true = min(p // 10, 20)
    U = rng.standard_normal((_ROWS, p))
    for j in range(1, p):
        U[:, j] = 0.5 * U[:, j - 1] + np.sqrt(0.75) * U[:, j]
    C = np.zeros((_TASKS, p))
    C[:, rng.choice(p, true, replace=False)] = rng.standard_normal((_TASKS, true))
    Y = U @ C.T
    Y += noise * Y.std() * rng.standard_normal(Y.shape)
    return np.asfortranarray(U - U.mean(axis=0)), np.asfortranarray(Y - Y.mean(axis=0))


def _gap(U: Array, Y: Array, alpha: float, C: Array) -> float:
    """Duality gap of ``||Y - U C'||^2 / (2 m) + alpha sum_j ||C_j||``, relative."""
    R = Y - U @ C.T
    primal = (R**2).sum() / (2 * _ROWS) + alpha * np.linalg.norm(C, axis=0).sum()
    R *= min(1.0, alpha * _ROWS / np.linalg.norm(U.T @ R, axis=1).max())
    dual = ((Y**2).sum() - ((Y - R) ** 2).sum()) / (2 * _ROWS)
    return float((primal - dual) / ((Y**2).sum() / (2 * _ROWS)))


def _comparison(U: Array, Y: Array, alpha: float, work: str) -> Comparison:
    used = int(solve_group_lasso(U, Y, alpha, tol=1e-8).x.any(axis=0).sum())

    def gap(C: Array) -> float:
        return _gap(U, Y, alpha, C)

    def scikit_learn(tol: float) -> Array:
        from sklearn.linear_model import MultiTaskLasso

        model = MultiTaskLasso(alpha=alpha, fit_intercept=False, tol=tol, max_iter=100_000)
        coefficients: Array = model.fit(U, Y).coef_
        return coefficients

    def skglm(tol: float) -> Array:
        from skglm import GeneralizedLinearEstimator
        from skglm.datafits import QuadraticMultiTask
        from skglm.penalties import L2_1
        from skglm.solvers import MultiTaskBCD

        solver = MultiTaskBCD(tol=tol, fit_intercept=False, max_iter=1000)
        model = GeneralizedLinearEstimator(QuadraticMultiTask(), L2_1(alpha), solver).fit(U, Y)
        return np.asarray(model.coef_).T

    return compare(
        "group lasso",
        f"{work}, {used} used",
        "relative gap",
        [
            Contender("bcd_implicit", lambda: solve_group_lasso(U, Y, alpha, tol=_GOAL).x, gap),
            Contender("scikit-learn MultiTaskLasso", _Tuned(scikit_learn, gap, 1e-4), gap),
            Contender("skglm MultiTaskBCD", _Tuned(skglm, gap, alpha), gap),
        ],
        target=1.0,
        note=f"{_ROWS} rows, {_TASKS} targets, raw data in Fortran order, cold start. The others "
        "run at the first of a falling sequence of tolerances that reaches the gap.",
    )


class _Tuned:
    """A solver at the loosest tolerance with which it reaches the gap, found at the first call."""

    def __init__(
        self, solve: Callable[[float], Array], gap: Callable[[Array], float], tol: float
    ) -> None:
        self._solve, self._gap, self._tol, self._found = solve, gap, tol, False

    def __call__(self) -> Array:
        C = self._solve(self._tol)
        while not self._found:
            self._found = self._gap(C) <= _GOAL
            if not self._found:
                if self._tol < _LEAST:
                    raise RuntimeError(f"gap {self._gap(C):.1e} at tolerance {self._tol:.0e}")
                self._tol *= 0.3
                C = self._solve(self._tol)
        return C
