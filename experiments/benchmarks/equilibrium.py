"""Forward passes over many samples: ours, NumPy's Picard iteration, torchidl and torchdeq.

Every contender gets the step tolerance at which the contraction proves its states to 1e-8 (in the
2-norm, which torchdeq uses, this asks for more) and two threads. The states of all are held against
a reference whose error is bounded in plain NumPy. torchdeq's Anderson regularises its least squares
by 1e-4; with a slow contraction and 100 states it then still has an error of 0.1 after 400 steps,
with 1e-16 one of 1e-7, and only with 1e-20 it converges, after 298; but with a fast contraction and
20 states 1e-20 makes its systems singular. It gets 1e-20 with the slow ones and 1e-16 with others.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bcd_implicit import ImplicitModel
from bcd_implicit.wellposed import contraction, perron_frobenius
from experiments.benchmarks._torch_equilibria import torch_contenders
from experiments.benchmarks.harness import Comparison, Contender, Row, compare

__all__ = ["Problem", "run"]

Array = NDArray[np.float64]

TOLERANCE = 1e-8
THREADS = 2
_N_INPUTS = 50
_STATES = (20, 100, 500)


@dataclass
class Problem:
    """A model, its inputs, and what is known about the states.

    Attributes
    ----------
    model : ImplicitModel
    U : ndarray of shape (m, 50)
    step : float
        Weighted maximum norm of a Picard step that proves `TOLERANCE`.
    weight : ndarray of shape (n,)
        The weights of that norm, at least one.
    reference : ndarray of shape (m, n)
    relative : float
        The tolerance that is `TOLERANCE` for the largest state: ours is relative, theirs is not.
    picard_iterations : int
        That the slowest of the first 1000 samples needs from ``phi(B u)``: products with A.
    """

    model: ImplicitModel
    U: Array
    step: float = field(init=False)
    weight: Array = field(init=False)
    reference: Array = field(init=False)
    relative: float = field(init=False)
    picard_iterations: int = field(init=False)

    def __post_init__(self) -> None:
        evidence = contraction(self.model.A)
        self.step = TOLERANCE * (1.0 - evidence.factor) / evidence.factor
        self.weight = evidence.scale.max() / evidence.scale
        self.reference = self.model.states(self.U, tol=1e-13).astype(np.float64, copy=False)
        self.relative = TOLERANCE / max(1.0, float(self.reference.max()))
        worst = 0.0
        for rows in blocks(len(self.U), 2000):
            X = self.reference[rows]
            Z = X @ self.model.A.T + self.U[rows] @ self.model.B.T + self.model.b
            step = (np.abs(np.maximum(Z, 0.0) - X) * self.weight).max()
            worst = max(worst, float(step) / (1.0 - evidence.factor))
        if worst > 1e-3 * TOLERANCE:
            raise RuntimeError(f"the reference is only known to {worst:g}")
        self.picard_iterations = _picard(self, slice(1000))[1]

    def error(self, X: Array) -> float:
        """Return the largest error of any state."""
        return max(
            float(np.abs(X[rows] - self.reference[rows]).max()) for rows in blocks(len(X), 2000)
        )


def blocks(m: int, size: int) -> list[slice]:
    """Cut ``m`` rows into blocks."""
    return [slice(start, min(start + size, m)) for start in range(0, m, size)]


def draw(n: int, m: int, *, slow: bool) -> Problem:
    """Draw a model with n states: row sums of 0.5 to 0.9, or A >= 0 with eigenvalue 0.99."""
    rng = np.random.default_rng(n)
    if slow:
        A = rng.exponential(size=(n, n))
        A *= 0.99 / perron_frobenius(A)
    else:
        A = rng.standard_normal((n, n))
        A *= rng.uniform(0.5, 0.9, (n, 1)) / np.abs(A).sum(axis=1, keepdims=True)
    B = rng.standard_normal((n, _N_INPUTS)) / np.sqrt(_N_INPUTS)
    model = ImplicitModel(A, B, np.ones((1, n)), np.zeros((1, _N_INPUTS)), activation="relu")
    return Problem(model, rng.standard_normal((m, _N_INPUTS)))


def run(*, full: bool) -> Iterator[Comparison]:
    """Compare at 20, 100 and 500 states, in full also with a slow contraction of the larger two."""
    for slow in (False, True):
        for n in _STATES if full or not slow else _STATES[:1]:
            m = 100_000 if full else 10_000
            if slow:  # plain Picard takes minutes; the cost is the same for every sample
                m //= (1 if full else 5) * (10 if n == max(_STATES) else 1)
            yield from _compare(draw(n, m, slow=slow), slow=slow)


def _compare(problem: Problem, *, slow: bool) -> Iterator[Comparison]:
    m, n = problem.reference.shape
    kind = "Perron-Frobenius eigenvalue 0.99" if slow else "row sums 0.5 to 0.9"
    least = 5.0 if slow else 3.0 if n == min(_STATES) else 2.0
    contenders = [
        Contender("bcd_implicit", lambda: ours(problem), problem.error),
        Contender("NumPy Picard", lambda: picard_whole(problem), problem.error),
        Contender("NumPy Picard, threads over blocks", lambda: picard(problem), problem.error),
        *torch_contenders(problem, THREADS),
    ]
    result = compare(
        "forward pass",
        f"{m:,} samples, {n} states, {kind}",
        "error",
        contenders,
        target=least,
        patience=20.0,
        note=f"asked for: {least:g} against NumPy, 5 against torchidl and torchdeq",
    )
    yield result
    rate = dgemm_rate()
    flops = 2.0 * n * n * m * problem.picard_iterations
    used = flops / result.rows[0].median / rate
    yield Comparison(
        "forward pass, share of the dgemm rate",
        f"{m:,} samples, {n} states, {kind}",
        "1 - share",
        [Row("bcd_implicit", result.rows[0].seconds, 1.0 - used)],
        note=f"share {used:.2f}, asked for 0.5 from 100 states on: {problem.picard_iterations} "
        f"plain iterations at {rate / 1e9:.0f} Gflop/s",
    )


def ours(problem: Problem) -> Array:
    """Run the library."""
    X = problem.model.states(problem.U, tol=problem.relative, n_jobs=THREADS)
    return X.astype(np.float64, copy=False)


def picard_whole(problem: Problem) -> Array:
    """Iterate on all samples at once, in place, with NumPy's own threads in the products."""
    return _picard(problem, slice(None))[0]


def picard(problem: Problem) -> Array:
    """Iterate on blocks that fit in the cache, one thread each; a block stops by itself."""
    n = problem.model.n_states
    size = max(2**16 // n, 64)  # within 5 % of the best of 2^15 to 2^19 everywhere
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        parts = pool.map(lambda rows: _picard(problem, rows)[0], blocks(len(problem.U), size))
        return np.concatenate(list(parts))


def _picard(problem: Problem, rows: slice) -> tuple[Array, int]:
    """Iterate on some rows until the largest step proves the tolerance."""
    model, plain = problem.model, bool((problem.weight == 1.0).all())
    AT = np.ascontiguousarray(model.A.T)
    Zin = problem.U[rows] @ model.B.T
    Zin += model.b
    X = np.maximum(Zin, 0.0)
    new, step, iterations = np.empty_like(X), np.inf, 0
    while step > problem.step:
        np.matmul(X, AT, out=new)
        new += Zin
        np.maximum(new, 0.0, out=new)
        np.subtract(X, new, out=X)
        if not plain:
            X *= problem.weight
        step = max(float(X.max()), -float(X.min()))
        X, new = new, X
        iterations += 1
    return X, iterations


def dgemm_rate() -> float:
    """Return the flops a second of double precision products, two threads with one product each."""
    n = 1500
    pairs = [np.random.default_rng(k).standard_normal((2, n, n)) for k in range(THREADS)]
    outs = [np.empty((n, n)) for _ in pairs]

    def multiply(k: int) -> None:
        np.matmul(pairs[k][0], pairs[k][1], out=outs[k])

    def seconds(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(7):
            began = time.perf_counter()
            work()
            taken.append(time.perf_counter() - began)
        return median(taken)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        return 2.0 * n**3 * THREADS / seconds(lambda: list(pool.map(multiply, range(THREADS))))
