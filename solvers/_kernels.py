"""Every numba function of the library, and nothing else.

Kernels take C-ordered arrays of one dtype, mutate in place, and never validate, warn or print:
that is the work of the drivers beside them. All live in this one file because numba's on-disk
cache does not notice a change in a function that is called from another file; and all calls are
static, because a compiled function passed as an argument never hits that cache.

An activation reaches a kernel as an integer ``kind`` and four parameters ``par``:
``PIECEWISE_LINEAR`` with ``par = (threshold, negative slope, lower clip, upper clip)`` covers relu,
leaky relu, identity, clip and soft threshold; ``TANH`` and ``SIGMOID`` use no parameters.

Inner loops become vectors where the compiler sees that no index is negative (it does not for a
``range`` with a step: use ``while``) and few arrays can overlap, so scalars are read before a loop.
"""

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numba
import numba.core.cgutils
import numba.extending
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]  # float32 or float64
Number: TypeAlias = Any  # a float of either precision
Places: TypeAlias = NDArray[np.uintp]  # unsigned: an index that cannot be negative is cheaper
Par: TypeAlias = tuple[float, float, float, float] | Floats
Bend: TypeAlias = tuple[Number, Number] | None
Function = TypeVar("Function", bound=Callable[..., Any])

# distances in arrays, unsigned: a negative index would have to be looked for
_ENTRY = tuple(np.uintp(i) for i in range(5))

PIECEWISE_LINEAR = 0
TANH = 1
SIGMOID = 2

try:
    numba.njit(cache=True)(lambda: None)
    _CACHED = True
except RuntimeError as error:  # numba raises where no folder is writable, as in many containers
    _CACHED = False
    warnings.warn(
        "every process compiles the kernels again, which takes half a minute; set NUMBA_CACHE_DIR "
        f"to a folder that can be written to ({error})",
        RuntimeWarning,
        stacklevel=2,
    )


def njit(**options: Any) -> Callable[[Function], Function]:
    """Return `numba.njit`, without its cache if there is no place for one."""
    compiled: Callable[[Function], Function]
    compiled = numba.njit(**options if _CACHED else options | {"cache": False})
    return compiled


@njit(cache=True, nogil=True)
def phi(kind: int, par: Par, z: float) -> float:
    """Activation value at the scalar ``z``."""
    if kind == 0:
        threshold = par[0]
        if z > threshold:
            value = z - threshold
        elif z < -threshold:
            value = par[1] * (z + threshold)
        else:
            value = 0.0 * z  # a NaN stays a NaN
        return min(max(value, par[2]), par[3])
    if kind == 1:
        return math.tanh(z)
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit(cache=True, nogil=True)
def _tanh_prox(v: float, tau: float) -> float:
    """Solve ``tau * atanh(x) + x = v`` in ``x``.

    With ``x = tanh(s)`` the equation is increasing in ``s`` and concave for ``s > 0``: Newton from
    the left of the root climbs to it without a safeguard.
    """
    target = abs(v)
    s = target / (1.0 + tau)
    for _ in range(100):
        t = math.tanh(s)
        # where tanh is flat to all digits, 1 would swallow a small tau
        step = (target - tau * s - t) / max(tau + (1.0 - t * t), 1e-300)
        s += step
        if step <= 1e-15 * (1.0 + s):
            break
    return math.copysign(math.tanh(s), v)


@njit(cache=True, nogil=True)
def prox_potential(kind: int, par: Par, v: float, tau: float) -> float:
    """Minimise ``tau * h(x) + (x - v)^2 / 2``, where ``h`` is the Fenchel potential of phi."""
    if kind == 0:
        shift = tau * par[0]
        if v > shift:
            value = (v - shift) / (1.0 + tau)
        elif v < -shift:
            value = par[1] * (v + shift) / (par[1] + tau)
        else:
            value = 0.0 * v
        return min(max(value, par[2]), par[3])
    if kind == 1:
        return _tanh_prox(v, tau)
    # sigmoid(s) = (1 + tanh(s / 2)) / 2 turns the sigmoid's equation into that of tanh
    return 0.5 * (1.0 + _tanh_prox(2.0 * v - 1.0, 4.0 * tau))


@njit(cache=True, nogil=True)
def _piecewise(threshold: Number, slope: Number, low: Number, high: Number, v: Number) -> Number:
    """Value of a piecewise linear phi without a branch, so that loops over it are vectorised."""
    cut = threshold if v > threshold else v
    cut = -threshold if cut < -threshold else cut
    g = v - cut
    g = g if g >= 0.0 else slope * g
    g = low if g < low else g
    return high if g > high else g


@njit(cache=True, nogil=True, fastmath={"contract"})
def _bent(bend: Bend, domain: tuple[Number, Number], v: Number) -> Number:
    """Value of a piecewise linear phi that may only be cut off at both ends, then cheaply."""
    if bend is None:
        g = domain[0] if v < domain[0] else v
        return domain[1] if g > domain[1] else g
    return _piecewise(bend[0], bend[1], domain[0], domain[1], v)


@njit(cache=True, nogil=True)
def _slope(par: Par, z: float, value: float) -> float:
    """Return the derivative of a piecewise linear phi at ``z``, where it has the given value."""
    if value <= par[2] or value >= par[3]:
        return 0.0
    if z > par[0]:
        return 1.0
    return par[1] if z < -par[0] else 0.0


@njit(cache=True, nogil=True, fastmath={"contract"})
def _eliminate(K: Floats, k: int, end: int, inverse: Floats) -> None:
    """Solve the leading k equations of K in place; their right-hand sides are columns k to end.

    There is no pivoting. Four pivots at a time, in one array with distances that the compiler knows
    not to overlap, take 0.54 of the time of two at a time in rows of K with 50 equations, 0.4 with
    100, and as long up to 20. A pivot that rounding made zero is left out: what comes out is a
    guess that its user has to check anyway.
    """
    x = K.reshape(-1)
    width, last = np.uintp(K.shape[1]), np.uintp(end)
    one, two, three = _ENTRY[1], _ENTRY[2], _ENTRY[3]
    for c in range(k):
        row = np.uintp(c) * width
        whole = c - c % 4
        for a in range(0, whole, 4):
            at = np.uintp(a)
            p = at * width
            q = p + width
            r = q + width
            s = r + width
            f = x[row + at] * inverse[a]
            g = (x[row + at + one] - f * x[p + at + one]) * inverse[a + 1]
            h = x[row + at + two] - (f * x[p + at + two] + g * x[q + at + two])
            h *= inverse[a + 2]
            i = f * x[p + at + three] + g * x[q + at + three] + h * x[r + at + three]
            i = (x[row + at + three] - i) * inverse[a + 3]
            e = at + _ENTRY[4]
            while e < last:
                x[row + e] -= (f * x[p + e] + g * x[q + e]) + (h * x[r + e] + i * x[s + e])
                e += one
        for a in range(whole, c):
            at = np.uintp(a)
            p = at * width
            f = x[row + at] * inverse[a]
            e = at + one
            while e < last:
                x[row + e] -= f * x[p + e]
                e += one
        inverse[c] = 1.0 / K[c, c] if K[c, c] != 0.0 else 0.0
    for a in range(k - 1, -1, -1):
        for j in range(k, end):
            total = K[a, j]
            for c in range(a + 1, k):
                total -= K[a, c] * K[c, j]
            K[a, j] = total * inverse[a]


@njit(cache=True, nogil=True)
def _nonzero(x: Floats, live: Places) -> int:
    """Write the places of the nonzero entries to ``live``; return how many there are."""
    k = 0
    for j in range(x.size):  # without a branch, which would be mispredicted
        live[k] = j
        k += x[j] != 0.0
    return k


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_product(AT: Floats, x: Floats, live: Places, z: Floats) -> None:
    """Add ``A x`` to z: the columns of A that a nonzero state reads, four at a time."""
    k = _nonzero(x, live)
    n = z.size
    a = 0
    while a + 4 <= k:
        h, i, j, o = live[a], live[a + 1], live[a + 2], live[a + 3]
        p, q, r, s = x[h], x[i], x[j], x[o]
        at_h, at_i, at_j, at_o = AT[h], AT[i], AT[j], AT[o]
        for e in range(n):
            z[e] += (p * at_h[e] + q * at_i[e]) + (r * at_j[e] + s * at_o[e])
        a += 4
    while a < k:
        p = x[live[a]]
        at_h = AT[live[a]]
        for e in range(n):
            z[e] += p * at_h[e]
        a += 1


@njit(cache=True, nogil=True)
def _solve_live(AT: Floats, m: Floats, z: Floats, K: Floats, live: Places, inverse: Floats) -> int:
    """Solve ``x = m o (A x + z)`` where ``m != 0``: in column k of K, for the places ``live``.

    Row sums of ``|diag(m) A|`` are below one in weights that make A a contraction, so that
    elimination needs no pivoting. Returns k, the number of these states.
    """
    k = _nonzero(m, live)
    for a in range(k):
        i = live[a]
        row = K[a]
        for c in range(k):
            row[c] = -m[i] * AT[live[c], i]
        row[a] += 1.0
        row[k] = m[i] * z[i]
    _eliminate(K, k, k + 1, inverse)
    return k


@njit(cache=True, nogil=True)
def _start_on_pieces(
    par: Par, AT: Floats, zin: Floats, x: Floats, work: Floats, K: Floats, live: Places
) -> None:
    """Put x on the fixed point of the affine map that phi is near x; zero stays zero."""
    m, z, constant, inverse = work[0], work[1], work[2], work[3]
    threshold, slope, low, high = par[0], par[1], par[2], par[3]
    for k in range(x.size):
        inside = low < x[k] < high
        if inside and x[k] > 0.0:
            m[k] = 1.0
            z[k] = zin[k] - threshold
        elif inside and x[k] < 0.0:
            m[k] = slope
            z[k] = zin[k] + threshold
        else:
            m[k] = 0.0
            z[k] = zin[k]
        constant[k] = x[k] if m[k] == 0.0 else 0.0
    _add_product(AT, constant, live, z)
    used = _solve_live(AT, m, z, K, live, inverse)
    for a in range(used):
        x[live[a]] = K[a, used]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _picard_step(
    par: Par,
    AT: Floats,
    zin: Floats,
    x: Floats,
    z: Floats,
    moved: Floats,
    live: Places,
    weight: Floats,
) -> tuple[float, float, float]:
    """Put ``phi(z)`` into x, with ``z = A x + zin``; return three maxima that overlook a NaN.

    They are those of the weighted steps and states, and of the states and one.
    """
    n = x.size
    threshold, slope, low, high = par[0], par[1], par[2], par[3]
    for k in range(n):
        z[k] = zin[k]
    _add_product(AT, x, live, z)
    for k in range(n):
        g = _piecewise(threshold, slope, low, high, z[k])
        moved[k] = g - x[k]
        x[k] = g
    change = 0.0
    norm = 0.0
    size = 1.0
    for k in range(n):
        step = weight[k] * abs(moved[k])
        g = abs(x[k])
        change = step if step > change else change
        size = g if g > size else size
        g *= weight[k]
        norm = g if g > norm else norm
    return change, norm, size


@njit(cache=True, nogil=True)
def picard_rows(
    par: Par,
    AT: Floats,
    Zin: Floats,
    X: Floats,
    weight: Floats,
    factor: float,
    lipschitz: float,
    rounding: float,
    quiet: float,
    tol: float,
    max_iter: int,
    error: Floats,
) -> tuple[int, int]:
    """Iterate ``x <- phi(A x + zin)`` on every row of ``X`` until its error is proven small.

    phi is piecewise linear. The start is the solution on the pieces that the given states lie on,
    mostly the right ones where these are near: that saves an iteration. Distances are
    ``max_k weight_k |x_k|``, in which one iteration contracts by ``factor`` plus a rounding error
    of ``rounding`` times the magnitudes involved; steps below ``quiet`` times these are taken for
    rounding errors. ``AT`` is the transpose of ``A``: a column of ``A`` is added for every nonzero
    state. Between the iterations Newton steps are tried, which end at the solution once the pieces
    of phi are right; one after which the next iteration moves at least half as far as the last is
    taken back, and the wait for the next one doubles: the contraction alone secures convergence.
    Fills ``error`` with the bound of each row and returns (0 converged, 1 stopped by rounding, 2
    not converged; most iterations of a row).
    """
    m, n = Zin.shape
    z = np.empty(n, Zin.dtype)
    moved = np.empty(n, Zin.dtype)
    slopes = np.empty(n, Zin.dtype)
    safe = np.empty(n, Zin.dtype)
    K = np.empty((n, n + 1), Zin.dtype)
    work = np.empty((4, n), Zin.dtype)
    live = np.empty(n, np.uintp)
    worst = 0
    most = 0
    for i in range(m):
        x = X[i]
        zin = Zin[i]
        inputs = 0.0
        for k in range(n):
            inputs = max(inputs, lipschitz * weight[k] * abs(zin[k]))
        _start_on_pieces(par, AT, zin, x, work, K, live)
        status = 2
        bound = np.inf
        t = 0
        next_newton = 1
        goal = np.inf  # of the step after a Newton step, infinite when there was none
        while t < max_iter:
            t += 1
            change, norm, size = _picard_step(par, AT, zin, x, z, moved, live, weight)
            if goal < np.inf and not change <= goal:
                for k in range(n):
                    x[k] = safe[k]
                goal = np.inf
                next_newton = 2 * t
                continue
            magnitude = inputs + norm + change
            for k in range(n):
                if not abs(x[k]) < np.inf:
                    magnitude = np.inf
            if not magnitude < np.inf:
                status = 2
                bound = np.inf
                break
            noise = rounding * magnitude
            bound = (1.0 + 2.0 * rounding) * (factor * change + noise) / (1.0 - factor)
            if bound <= tol * size:
                status = 0
                break
            if factor * change <= noise:
                status = 1
                if factor * change <= quiet * magnitude:
                    # the weights may hide a state that still moves: look at each of them
                    for k in range(n):
                        z[k] = abs(zin[k])
                    for j in range(n):
                        xj = abs(x[j])
                        for k in range(n):
                            z[k] += xj * abs(AT[j, k])
                    settled = True
                    for k in range(n):
                        step = abs(moved[k])
                        settled = settled and step <= quiet * (lipschitz * z[k] + abs(x[k]))
                    if settled:
                        break
            goal = np.inf
            if next_newton <= t < max_iter and status != 1:
                goal = 0.5 * change
                for k in range(n):
                    safe[k] = x[k]
                    slopes[k] = _slope(par, z[k], x[k])
                    z[k] = 0.0
                _add_product(AT, moved, live, z)
                used = _solve_live(AT, slopes, z, K, live, work[0])
                for a in range(used):
                    x[live[a]] += K[a, used]
        error[i] = bound
        worst = max(worst, status)
        most = max(most, t)
    return worst, most


_LANES = 64  # rows side by side in a tile
_LANE_COUNTS = 8, 32, _LANES  # that are worked on
_SLOW_SWEEP = 0.6  # of the step before: Newton steps are better


@njit(inline="always")
def _lanes_of(size: int, like: Floats) -> Floats:
    """Empty array in the dtype of ``like`` that begins with a cache line.

    Vectors of 64 bytes that straddle two lines take up to 1.6 times as long.
    """
    buffer = np.empty(size + 64 // like.itemsize, like.dtype)
    first = (64 - buffer.ctypes.data % 64) % 64 // like.itemsize
    return buffer[first : first + size]


@njit(inline="always")
def _tile(n: int, like: Floats) -> Floats:
    """Tile of zeros, one row of lanes for each of ``n`` states in whole blocks of four."""
    x = _lanes_of((n + 3) // 4 * 4 * _LANES, like)
    x[:] = 0.0
    return x


@njit(inline="always")
def _lanes_for(rows: int) -> int:
    """Count the lanes that a tile with so many rows works on."""
    few, some, every = _LANE_COUNTS
    return few if rows <= few else some if rows <= some else every


def _add_block(A: Floats, k: int, x: Floats, lanes: int, width: int, total: Floats) -> None:
    """``total += A[k : k + 4, :width] @ x`` on the first lanes of a tile, ``A`` being in blocks.

    These are blocks of four rows and columns one after the other (`solvers.tiles`), ``width`` being
    the columns of all of them. A tile is one row of `_LANES` numbers after the other. Kernels call
    what `_lower_product` writes in its place.
    """
    for i in range(4):
        here = slice(i * _LANES, i * _LANES + lanes)
        for j in range(width):
            factor = A[k * width + j // 4 * 16 + i * 4 + j % 4]
            total[here] += factor * x[j * _LANES : j * _LANES + lanes]


# without types of their own
_cgutils: Any = numba.core.cgutils
_extending: Any = numba.extending


def _lower_product(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Compile a call of `_add_block`.

    Numba has no vectors, and its loops over arrays keep no sums in registers, since LLVM cannot
    know that these do not overlap. With 20 to 500 states 180 to 200 Gflop/s of one core in single
    precision and 72 in double, where BLAS has 175 and 82 for large matrices and loops had 95 and
    50. Vectors of 64 bytes are used where the processor has them, in the loops of the caller, too:
    on most of Intel's LLVM prefers those of 32 to a higher clock rate.
    """
    kinds = signature.args
    A, x, total = (
        context.make_array(kinds[i])(context, builder, arguments[i]).data for i in (0, 2, 5)
    )
    k, lanes, width = (
        context.cast(builder, arguments[i], kinds[i], numba.types.intp) for i in (1, 3, 4)
    )
    wide = "+avx512f" in context.codegen().magic_tuple()[2]
    attributes = builder.function.attributes
    if isinstance(attributes, set):  # llvmlite has no name for this one, but writes what is in it
        set.add(attributes, '"prefer-vector-width"="512"')
    number = kinds[0].dtype.bitwidth // 8
    most = (64 if wide else 32) // number
    for count in _LANE_COUNTS:
        with builder.if_then(builder.icmp_signed("==", lanes, lanes.type(count))):
            size = min(count, most)
            side = min(count // size, 4 if wide else 2)  # of 32 or 16 registers, 16 or 8 for sums
            for first in range(0, count, size * side):
                places = [first + v * size for v in range(side)]
                _emit_product(builder, number, size, places, A, k, x, width, total)
    return context.get_dummy_value()


def _emit_product(
    builder: Any,
    number: int,
    size: int,
    places: list[int],
    A: Any,
    k: Any,
    x: Any,
    width: Any,
    total: Any,
) -> None:
    """Write the product for vectors of ``size`` lanes that begin at ``places``."""
    vector = ir.VectorType(ir.FloatType() if number == 4 else ir.DoubleType(), size)
    multiply_add = _cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector] * 3),
        f"llvm.fmuladd.v{size}f{8 * number}",
    )
    index = width.type
    undefined = ir.Constant(vector, ir.Undefined)
    first_lane = ir.Constant(ir.VectorType(ir.IntType(32), size), [0] * size)

    def vectors(array: Any, row: Any) -> list[Any]:
        start = builder.mul(row, index(_LANES))
        at = [builder.gep(array, [builder.add(start, index(place))]) for place in places]
        return [builder.bitcast(one, vector.as_pointer()) for one in at]

    def entry(place: Any) -> Any:
        factor = builder.load(builder.gep(A, [place]))
        factor = builder.insert_element(undefined, factor, ir.IntType(32)(0))
        return builder.shuffle_vector(factor, factor, first_lane)

    def load(at: Any) -> Any:
        return builder.load(at, align=number)

    def add_products(part: Any, pairs: list[tuple[Any, Any]]) -> Any:
        for pair in pairs:
            part = builder.call(multiply_add, [*pair, part])
        return part

    sums = [[_cgutils.alloca_once(builder, vector) for _ in places] for _ in range(4)]
    results = [vectors(total, index(i)) for i in range(4)]
    for one, at in zip(itertools.chain(*sums), itertools.chain(*results), strict=True):
        builder.store(load(at), one)
    with _cgutils.for_range_slice(builder, index(0), width, index(4), index) as (column, _):
        block = builder.add(builder.mul(k, width), builder.mul(column, index(4)))
        values = [[load(at) for at in vectors(x, builder.add(column, index(j)))] for j in range(4)]
        for i, row in enumerate(sums):
            factors = [entry(builder.add(block, index(4 * i + j))) for j in range(4)]
            for one, *four in zip(row, *values, strict=True):
                found = builder.load(one)
                pairs = list(zip(factors, four, strict=True))
                if number == 4:
                    found = add_products(found, pairs)
                else:  # a quarter more work, but proven errors are a quarter of those of one chain
                    first = builder.fmul(*pairs[0])
                    found = builder.fadd(found, add_products(first, pairs[1:]))
                builder.store(found, one)
    for one, at in zip(itertools.chain(*sums), itertools.chain(*results), strict=True):
        builder.store(builder.load(one), at, align=number)


_extending.type_callable(_add_block)(
    lambda _: lambda A, k, x, lanes, width, total: numba.types.none
)
_extending.lower_builtin(
    _add_block,
    numba.types.Array,
    numba.types.Integer,
    numba.types.Array,
    numba.types.Integer,
    numba.types.Integer,
    numba.types.Array,
)(_lower_product)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _sweep_blindly(
    bend: Bend,
    domain: tuple[Number, Number],
    centre: float,
    K: Floats,
    z: Floats,
    r: Floats,
    lanes: int,
    sweeps: int,
    total: Floats,
) -> None:
    """Make Gauss-Seidel sweeps from ``phi(z)`` on the lanes of a tile, in single precision."""
    c = np.float32(centre)
    n = r.size // _LANES
    for s in range(n * _LANES):
        r[s] = _bent(bend, domain, z[s])
    for _ in range(sweeps):
        k = 0
        while k < n:
            at = k * _LANES
            for s in range(4 * _LANES):
                total[s] = 0.0
            _add_block(K, k, r, lanes, n, total)
            for s in range(4 * _LANES):
                moved = total[s]  # added to z at last: it is small, and so are its errors
                r[at + s] = _bent(bend, domain, z[at + s] + moved) - c * moved
            k += 4


@njit(inline="always")
def _settle(
    bend: Bend,
    domain: tuple[Number, Number],
    c: float,
    z: Floats,
    V: Floats,
    at: int,
    total: Floats,
) -> None:
    """Keep ``v`` of four states and put ``phi(v) - c (v - z)`` in its place."""
    for s in range(4 * _LANES):
        v = total[s]
        V[at + s] = v
        total[s] = _bent(bend, domain, v) - c * (v - z[at + s])


@njit(inline="always")
def _step(R: Floats, D: Floats, at: int, total: Floats, scale: Floats, inverse: Floats) -> None:
    """Take ``R`` of four states to new values, by steps ``D`` in single precision; leave sizes."""
    for s in range(4 * _LANES):
        d = total[s] - R[at + s]
        step = np.float32(d * scale[s])
        D[at + s] = step
        R[at + s] += step * inverse[s]
        total[s] = abs(d)


@njit(inline="always")
def _raise_to(top: Floats, values: Floats, at: int, factor: float, lanes: int) -> None:
    """``top = max(top, factor * |values|)`` on the lanes."""
    for s in range(lanes):
        v = factor * abs(values[at + s])
        top[s] = v if v > top[s] else top[s]


@njit(cache=True, nogil=True, fastmath={"contract"})
def sweep_tiles(
    bend: Bend,
    bend32: Bend,
    domain: tuple[float, float],
    lipschitz: float,
    centre: float,
    K: Floats,
    single: Floats,
    weight: Floats,
    factor: float,
    gain: float,
    slip: float,
    rounding: float,
    quiet: float,
    unit: float,
    tiny: float,
    blind: int,
    period: int,
    tol: float,
    sweeps: int,
    warm: bool,
    Zin: Floats,
    X: Floats,
    error: Floats,
    left: NDArray[np.bool_],
) -> tuple[int, int]:
    """Gauss-Seidel sweeps for a piecewise linear phi, on tiles of rows, one row in each lane.

    Solves ``r = phi(v) - c (v - z)``, ``v = z + K r`` from zero, or ``r = X`` if that is ``warm``,
    and returns ``phi(v)`` in ``X``; with ``c = 0`` these are the states themselves. A sweep that
    moves a row by ``change`` leaves its ``r`` within ``factor * change / (1 - factor)``, and
    ``phi(v)`` within ``lipschitz * gain * change / (1 - factor)``, rounding aside
    (`bcd_implicit._sweeps` has the proof and says what the arguments are). First come ``blind``
    sweeps from ``phi(z)`` in single precision, then one in double; the next ``period - 1`` move
    ``v`` by ``K`` times the steps of ``r`` in single precision, whose errors are bounded and added
    up, then comes another one in double precision.

    Every row stops by itself, with a proof, where only rounding errors are left or because it
    converges slowly, so that its neighbours do not matter. ``left`` says which rows are not done:
    ``X`` is a better start for them. Returns the worst code of the others, as `picard_rows`, and
    the most sweeps of a row.
    """
    m, n = Zin.shape
    whole = (n + 3) // 4 * 4
    z = _tile(n, K)
    V = _tile(n, K)
    R = _tile(n, K)
    z32 = _tile(n, single)
    D = _tile(n, single)
    total = _lanes_of(4 * _LANES, K)
    total32 = _lanes_of(4 * _LANES, single)
    change = _lanes_of(_LANES, error)
    norm = _lanes_of(_LANES, error)
    size = _lanes_of(_LANES, error)
    inputs = _lanes_of(_LANES, error)
    moving = _lanes_of(_LANES, error)
    scale = _lanes_of(4 * _LANES, error)  # the same for four states
    inverse = _lanes_of(4 * _LANES, error)
    scale[:] = inverse[:] = 1.0
    noise = np.zeros(_LANES)
    before = np.empty(_LANES)
    running = np.empty(_LANES, np.bool_)
    domain32 = np.float32(domain[0]), np.float32(domain[1])
    at_zero = abs(_bent(bend, domain, 0.0))
    worst = 0
    most = 0
    for start in range(0, m, _LANES):
        rows = min(_LANES, m - start)
        lanes = _lanes_for(rows)
        for k in range(n):
            for s in range(rows):
                z[k * _LANES + s] = Zin[start + s, k]
            for s in range(rows, lanes):
                z[k * _LANES + s] = 0.0
        if blind > 0:
            for k in range(n * _LANES):
                z32[k] = z[k]
            _sweep_blindly(bend32, domain32, centre, single, z32, D, lanes, blind, total32)
            for k in range(n * _LANES):
                R[k] = D[k] if abs(D[k]) < np.inf else 0.0
        else:
            R[:] = 0.0
            if warm:
                for k in range(n):
                    for s in range(rows):
                        R[k * _LANES + s] = X[start + s, k]
        inputs[:] = 0.0
        norm[:] = at_zero
        for k in range(n):
            _raise_to(inputs, z, k * _LANES, weight[k], lanes)
            _raise_to(norm, R, k * _LANES, weight[k], lanes)
        for s in range(lanes):  # steps in units of a power of two: none is beyond single precision
            _, exponent = math.frexp(max(inputs[s], norm[s]))
            exponent = min(max(exponent, -900), 900)
            one = math.ldexp(1.0, exponent)
            for i in range(4):
                inverse[i * _LANES + s] = one
                scale[i * _LANES + s] = 1.0 / one
        before[:] = np.inf
        running[:rows] = True
        for t in range(1, sweeps + 1):
            most = max(most, blind + t)
            afresh = (t - 1) % period == 0
            change[:] = 0.0
            if afresh:
                norm[:] = 0.0
                size[:] = 1.0
                moving[:] = 0.0
            k = 0
            while k < n:
                at = k * _LANES
                if afresh:
                    for s in range(4 * _LANES):
                        total[s] = z[at + s]
                    _add_block(K, k, R, lanes, whole, total)
                else:
                    for s in range(4 * _LANES):
                        total32[s] = 0.0
                    _add_block(single, k, D, lanes, whole, total32)
                    for s in range(4 * _LANES):
                        total[s] = V[at + s] + inverse[s] * total32[s]
                _settle(bend, domain, centre, z, V, at, total)
                some = min(4, n - k)
                if afresh:
                    for i in range(some):
                        here = at + i * _LANES
                        _raise_to(norm, total, i * _LANES, weight[k + i], lanes)
                        for s in range(lanes):
                            g = abs(_bent(bend, domain, V[here + s]))
                            size[s] = g if g > size[s] else size[s]
                _step(R, D, at, total, scale, inverse)
                for i in range(some):
                    _raise_to(change, total, i * _LANES, weight[k + i], lanes)
                if afresh:
                    for i in range(some):
                        here = at + i * _LANES
                        for s in range(lanes):
                            excess = total[i * _LANES + s]
                            excess -= quiet * (abs(z[here + s]) + abs(V[here + s]))
                            moving[s] = excess if excess > moving[s] else moving[s]
                k += 4
            open_rows = 0
            for s in range(rows):
                if not running[s]:
                    continue
                moved = change[s]
                if afresh:
                    noise[s] = 0.0
                else:  # steps of this sweep and of the one before were multiplied
                    both = max(moved, before[s])
                    noise[s] += unit * both + tiny * (inverse[s] + both)
                    noise[s] += rounding * (inputs[s] + gain * (norm[s] + both))
                    norm[s] += moved
                    size[s] = max(size[s] - lipschitz * gain * both, 1.0)
                magnitude = inputs[s] + gain * (norm[s] + moved)
                bound = gain * moved + noise[s] + rounding * magnitude + slip * (norm[s] + moved)
                bound *= lipschitz * (1.0 + 2.0 * rounding) / (1.0 - factor)
                met = bound <= tol * size[s]
                # nothing moves but by rounding errors, each state measured by itself
                silent = gain * moved <= quiet * magnitude
                still = afresh and silent and moving[s] == 0.0
                # a sweep in double precision also corrects the errors of those before
                slow = t > 3 and (not afresh or period == 1) and not silent
                slow = slow and not moved < _SLOW_SWEEP * before[s]
                if met or still or slow or t == sweeps:
                    found = (met or still) and bound < np.inf  # inputs may have overflowed
                    for k in range(n):
                        g = _bent(bend, domain, V[k * _LANES + s])
                        found = found and abs(g) < np.inf  # NaN does not show in the maxima
                        X[start + s, k] = g if abs(g) < np.inf else 0.0
                    error[start + s] = bound
                    left[start + s] = not found
                    running[s] = False
                    if found and not met:
                        worst = 1
                else:
                    open_rows += 1
                before[s] = moved
            if open_rows == 0:
                break
    return worst, most


@njit(cache=True, nogil=True)
def anderson_rows(
    X: Floats,
    G: Floats,
    last: Floats,
    history: Floats,
    weight: Floats,
    reach: Floats,
    low: float,
    high: float,
    taken: Floats,
    count: Floats,
) -> None:
    """Put the next points of Anderson's method, of which ``G = phi(A X + Zin)``, into ``G``.

    ``last`` (m, 2, n) holds the last ``G - X`` and ``G``, ``history`` (m, 2, memory, n) their last
    differences, ``count`` (m,) how many there are; ``taken`` (m,) says for which rows to do it: the
    others keep ``G``, and only remember. No step is longer than ``reach`` (m,), the proven distance
    of ``G`` from the solution; ``low`` and ``high`` bound phi.
    """
    m, n = X.shape
    memory = history.shape[2]
    H = np.empty((memory, memory + 1))
    inverse = np.empty(memory)
    correction = np.empty(n, X.dtype)
    for i in range(m):
        if count[i] >= 0:
            j = count[i] % memory
            for k in range(n):
                f = G[i, k] - X[i, k]
                history[i, 0, j, k] = f - last[i, 0, k]
                history[i, 1, j, k] = G[i, k] - last[i, 1, k]
        count[i] += 1
        for k in range(n):
            last[i, 0, k] = G[i, k] - X[i, k]
            last[i, 1, k] = G[i, k]
        used = min(count[i], memory)
        if used < 1 or not taken[i]:
            continue
        trace = 0.0
        for a in range(used):
            for c in range(a + 1):
                H[a, c] = _dot(history[i, 0, a], history[i, 0, c], n)
                H[c, a] = H[a, c]
            H[a, used] = _dot(history[i, 0, a], last[i, 0], n)
            trace += H[a, a]
        if not 0.0 < trace < np.inf:
            continue
        for a in range(used):
            H[a, a] += 1e-14 * trace
        _eliminate(H, used, used + 1, inverse)
        correction[:] = 0
        for a in range(used):
            for k in range(n):
                correction[k] += H[a, used] * history[i, 1, a, k]
        length = 0.0
        for k in range(n):
            length = max(length, weight[k] * abs(correction[k]))
        if length <= reach[i]:
            for k in range(n):
                G[i, k] = min(max(G[i, k] - correction[k], low), high)


@njit(cache=True, nogil=True)
def row_changes(
    new: Floats, old: Floats, weight: Floats, change: Floats, norm: Floats, size: Floats
) -> None:
    """Fill the weighted maximum norms of ``new - old`` and ``new``, and max(1, |new|), by row."""
    m, n = new.shape
    for i in range(m):
        c = 0.0
        s = 0.0
        a = 1.0
        for k in range(n):
            step = weight[k] * abs(new[i, k] - old[i, k])
            if step > c or step != step:
                c = step
            s = max(s, weight[k] * abs(new[i, k]))
            a = max(a, abs(new[i, k]))
        change[i] = c
        norm[i] = s
        size[i] = a


@njit(cache=True, nogil=True)
def adjoint_rows(
    A: Floats,
    M: Floats,
    R: Floats,
    V: Floats,
    weight: Floats,
    factor: float,
    rounding: float,
    quiet: float,
    tol: float,
    max_iter: int,
    error: Floats,
) -> tuple[int, int]:
    """Solve ``v = M o (A' v + r)`` for every row of ``V``, and iterate until its error is proven.

    The start is a direct solution. Distances are
    ``sum_k weight_k |v_k|``; the rest is as in `picard_rows`, with an error relative to the largest
    entry of the row of ``R``.
    """
    m, n = R.shape
    z = np.empty(n, R.dtype)
    steps = np.empty(n, R.dtype)
    K = np.empty((n, n + 1), R.dtype)
    inverse = np.empty(n, R.dtype)
    live = np.empty(n, np.uintp)
    worst = 0
    most = 0
    for i in range(m):
        v = V[i]
        inputs = 0.0
        limit = 0.0
        for k in range(n):
            inputs += weight[k] * abs(M[i, k] * R[i, k])
            limit = max(limit, tol * abs(R[i, k]))
        if inputs == 0.0:  # the solution is zero: iterating towards it would never get there
            for k in range(n):
                v[k] = 0.0
            error[i] = 0.0
            continue
        v[:] = 0.0
        size = _solve_live(A, M[i], R[i], K, live, inverse)
        for a in range(size):
            v[live[a]] = K[a, size]
        status = 2
        bound = np.inf
        t = 0
        while t < max_iter:
            t += 1
            for k in range(n):
                z[k] = R[i, k]
            _add_product(A, v, live, z)
            change = 0.0
            norm = 0.0
            for k in range(n):
                old = v[k]
                v[k] = M[i, k] * z[k]
                steps[k] = abs(v[k] - old)
                change += weight[k] * steps[k]
                norm += weight[k] * abs(v[k])
            magnitude = inputs + norm + change
            if not magnitude < np.inf:
                status = 2
                bound = np.inf
                break
            noise = rounding * magnitude
            bound = (1.0 + 2.0 * rounding) * (factor * change + noise) / (1.0 - factor)
            if bound <= limit:
                status = 0
                break
            if factor * change <= noise:
                status = 1
                if factor * change <= quiet * magnitude:
                    for k in range(n):
                        z[k] = abs(R[i, k])
                    for j in range(n):
                        vj = abs(v[j])
                        for k in range(n):
                            z[k] += vj * abs(A[j, k])
                    settled = True
                    for k in range(n):
                        settled = settled and steps[k] <= quiet * (M[i, k] * z[k] + abs(v[k]))
                    if settled:
                        break
        error[i] = bound
        worst = max(worst, status)
        most = max(most, t)
    return worst, most


# Kernels of the convex subproblems. Only the four small loops that come first may be
# reassociated, which lets them use vector instructions; a NaN stays a NaN in them.

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]
EPS = 2.220446049250313e-16
_CHUNK = 32  # columns whose effect on each other is kept apart, and on the others is one product
STATE_FLOOR = 1e-12  # the size of states below which their residual is absolute


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(a: Array, b: Array, size: int) -> float:
    """Inner product of the first ``size`` entries."""
    total = 0.0
    for i in range(size):
        total += a[i] * b[i]
    return total


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _sum_above(d: Array, tau: float) -> tuple[float, float]:
    """Sum and number of the entries of ``d`` above ``tau``."""
    total = 0.0
    count = 0.0
    for i in range(d.size):
        total += d[i] if d[i] > tau else 0.0
        count += 1.0 if d[i] > tau else 0.0
    return total, count


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _abs_into(v: Array, out: Array) -> tuple[float, float]:
    """Write ``|v|`` to ``out``; return its sum and its largest entry."""
    total = 0.0
    top = 0.0
    for i in range(v.size):
        a = abs(v[i])
        out[i] = a
        total += a
        top = a if a > top else top
    return total, top


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _shift(d: Array, by: float) -> float:
    """Subtract ``by`` from ``d`` in place; return the new sum."""
    total = 0.0
    for i in range(d.size):
        d[i] -= by
        total += d[i]
    return total


@njit(cache=True, nogil=True)
def project_l1_row(v: Array, radius: float, work: Array) -> float:
    """Project ``v`` on the l1 ball in place; ``work`` has the size of ``v``.

    Returns the threshold that was subtracted, 0 when ``v`` was inside. The threshold is found by
    Newton's method on the convex, piecewise linear, decreasing ``tau -> sum (d - tau)_+`` where
    ``d = |v| - max|v|``: started to the left of the root it climbs to it in finitely many steps.
    Measuring from the maximum keeps every quantity of the size of the radius, so nothing
    overflows and nothing cancels however large ``v`` is. The goal is ``radius * (1 - 4 k eps)``,
    what the rounding of the threshold adds to it is taken back beyond 3, and rows are inside below
    2: two sums of ``k`` terms in different orders differ by less than ``k eps``, so that the result
    is inside in any order, and the same when it is projected again.
    """
    k = v.size
    goal = radius * (1.0 - 4.0 * k * EPS)
    total, top = _abs_into(v, work)
    if total <= radius * (1.0 - 2.0 * k * EPS):
        return 0.0
    shifted = _shift(work, top)
    tau = max(-goal, (shifted - goal) / k)
    while True:
        total, count = _sum_above(work, tau)
        if count == 0.0:
            break
        new = (total - goal) / count
        if not new > tau:
            break
        tau = new
    for i in range(k):
        a = work[i] - tau
        a = a if a < abs(v[i]) else abs(v[i])  # rounding must not move an entry away from zero
        v[i] = math.copysign(a, v[i]) if a > 0.0 else 0.0
    total, _ = _abs_into(v, work)
    shrink = EPS
    while total > radius * (1.0 - 3.0 * k * EPS):  # hardly ever, and ends for any input
        for i in range(k):
            v[i] *= max(0.0, 1.0 - shrink)
        total, _ = _abs_into(v, work)
        shrink *= 2.0
    return max(0.0, top + tau)


@njit(cache=True, nogil=True)
def project_l1_rows(V: Array, radius: float, work: Array) -> None:
    """Project every row of ``V`` on the l1 ball in place; ``work`` has one entry a column."""
    for i in range(V.shape[0]):
        project_l1_row(V[i], radius, work)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def l1_gap_terms(V: Array, A: Array, top: float, radius: float) -> tuple[float, float, float]:
    """Largest row sum of ``|A|``, and two sums over the rows: the gap, and ``max|v| / top``.

    The gap of a row is ``max|u| - u'a / radius`` with ``u = (v - a) / top``.
    """
    outmost = gap = size = 0.0
    for i in range(V.shape[0]):
        v, a = V[i], A[i]
        used = inner = height = largest = 0.0
        for j in range(v.size):
            u = (v[j] - a[j]) / top
            used += abs(a[j])
            inner += u * a[j]
            height = abs(u) if abs(u) > height else height
            largest = abs(v[j]) if abs(v[j]) > largest else largest
        outmost = used if used > outmost else outmost
        gap += height - inner / radius
        size += largest / top
    return outmost, gap, size


@njit(cache=True, nogil=True)
def shrink_columns(V: Array, threshold: Array, top: Array, norm: Array) -> None:
    """Group soft-threshold the columns of ``V`` in place; ``top``, ``norm`` have one entry each.

    The norm of a column is computed relative to its largest entry, which is left in ``top``, so
    that squares neither overflow nor vanish; on return ``norm`` holds the factors applied.
    """
    n, p = V.shape
    for j in range(p):
        top[j] = 0.0
        norm[j] = 0.0
    for i in range(n):
        for j in range(p):
            top[j] = max(top[j], abs(V[i, j]))
    for i in range(n):
        for j in range(p):
            if top[j] > 0.0:
                a = V[i, j] / top[j]
                norm[j] += a * a
    for j in range(p):
        if top[j] > 0.0:
            size = math.sqrt(norm[j])
            level = threshold[j] / top[j]
            norm[j] = (size - level) / size if level < size else 0.0
    for i in range(n):
        for j in range(p):
            V[i, j] = V[i, j] * norm[j] if norm[j] > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _length_at(r: Array, eig: Array, s: float, level: float) -> tuple[float, float]:
    """Sum of the squares of ``r / (eig s + level)``, and minus half of its slope in ``s``."""
    total = 0.0
    slope = 0.0
    for i in range(eig.size):
        part = 1.0 / (eig[i] * s + level) if r[i] != 0.0 else 0.0
        w = r[i] * part
        total += w * w
        slope += w * w * (eig[i] * part)
    return total, slope


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _largest(x: Array) -> float:
    """Largest absolute value."""
    top = 0.0
    for i in range(x.size):
        top = max(top, abs(x[i]))
    return top


@njit(cache=True, nogil=True)
def _to_unit(x: float) -> float:
    """Power of two by which ``x`` becomes about one; of numbers below 1e-301, what there is."""
    return math.ldexp(1.0, -max(math.frexp(x)[1], -1000)) if x > 0.0 else 1.0


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _in_units(
    r: Array, eig: Array, down: float, flat: float, out: Array, bends: Array
) -> tuple[float, float]:
    """Scale ``r`` where ``eig`` is not zero, and ``eig``; return squares of all, and of the rest.

    What is zero after scaling is zero beside the largest.
    """
    total = 0.0
    free = 0.0
    for i in range(r.size):
        a = r[i] * down
        bends[i] = eig[i] * flat
        out[i] = a if bends[i] > 0.0 else 0.0
        total += a * a
        free += a * a if bends[i] == 0.0 else 0.0
    return total, free


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})
def _shortest(r: Array, eig: Array, goal: float, level: float) -> float:
    """Lower bound of the root that `group_prox_diag` looks for: of the equations of one entry."""
    s = 0.0
    for i in range(r.size):
        s = max(s, (abs(r[i]) / goal - level) / eig[i] if eig[i] > 0.0 else 0.0)
    return s


@njit(cache=True, nogil=True, error_model="numpy")
def group_prox_diag(r: Array, eig: Array, t: float, guess: float, out: Array) -> float:
    """Minimise ``b' diag(eig) b / 2 - r'b + t ||b||`` into ``out``; return ``||b||``.

    The norm ``s`` of a nonzero minimiser solves ``sum (r / (eig s + t))^2 = 1``. The directions
    with a zero eigenvalue are constant in ``s`` and are moved to the right side; the reciprocal
    square root ``f`` of what remains is increasing and concave in ``s``, so that Newton's method
    from a lower bound climbs to the root without a safeguard, and from any other ``guess`` makes
    one step to a lower bound. ``s |f''| <= 3 f'``: the relative error after a step is at most 1.5
    times the square of what the step was. When there is no minimiser (``r`` is too long in the null
    space) the answer is ``inf`` and ``out`` is zero.
    """
    top = _largest(r)
    for i in range(r.size):
        out[i] = 0.0
    down, flat = _to_unit(top), _to_unit(_largest(eig))
    level = t * down
    bends = np.empty(r.size)
    total, free = _in_units(r, eig, down, flat, out, bends)
    free = math.sqrt(free)
    if math.sqrt(total) <= level or (free > 0.0 and free >= level):
        for i in range(r.size):
            out[i] = 0.0
        return 0.0 if math.sqrt(total) <= level else math.inf
    goal = math.sqrt((level - free) * (level + free)) / level if free > 0.0 else 1.0
    unit = flat / down
    s = guess / unit
    if 0.0 < s < math.inf:
        total, slope = _length_at(out, bends, s, level)
        s += (math.sqrt(total) / goal - 1.0) * (total / slope) if slope > 0.0 else -s
    # a bound far below the guess is a rounding error of it, and may be too large
    if not 0.01 * (guess / unit) < s < math.inf:
        s = _shortest(out, bends, goal, level)
    for _ in range(100):
        total, slope = _length_at(out, bends, s, level)
        if not slope > 0.0:
            break
        step = (math.sqrt(total) / goal - 1.0) * (total / slope)
        if not step > EPS * s:
            break
        s += step
        if step <= 1e-8 * s:
            break
    for i in range(r.size):
        out[i] = (r[i] * down) * (s / (bends[i] * s + level)) * unit if r[i] != 0.0 else 0.0
    return s * unit


@njit(cache=True, nogil=True)
def _copy(A: Array, B: Array) -> None:
    """``B[:] = A``, whose message about wrong shapes would take seconds to compile."""
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            B[i, j] = A[i, j]


@njit(cache=True, nogil=True)
def cholesky_lower(G: Array, L: Array) -> bool:
    """Lower Cholesky factor of ``G``; false when a pivot is lost in the rounding errors."""
    n = G.shape[0]
    for i in range(n):
        for j in range(i):
            L[i, j] = (G[i, j] - _dot(L[i], L[j], j)) / L[j, j]
        pivot = G[i, i] - _dot(L[i], L[i], i)
        if not pivot > 8.0 * n * EPS * G[i, i]:
            return False
        L[i, i] = math.sqrt(pivot)
    return True


@njit(cache=True, nogil=True)
def cholesky_solve_rows(L: Array, X: Array) -> None:
    """Solve ``x L L' = row`` for every row of ``X`` in place."""
    n = L.shape[0]
    for i in range(X.shape[0]):
        x = X[i]
        for k in range(n):
            x[k] = (x[k] - _dot(L[k], x, k)) / L[k, k]
        for k in range(n - 1, -1, -1):
            x[k] /= L[k, k]
            for j in range(k):
                x[j] -= x[k] * L[k, j]


@njit(cache=True, nogil=True)
def ridge_rows(G: Array, R: Array, X: Array) -> bool:
    """Solve ``X G = R`` by Cholesky with one step of refinement, if every pivot is safely positive.

    Else return False and leave ``X`` as it is.
    """
    n = G.shape[0]
    factor = np.zeros((n, n))
    if not cholesky_lower(G, factor):
        return False
    _copy(R, X)
    cholesky_solve_rows(factor, X)
    rest = R - np.dot(X, G)
    cholesky_solve_rows(factor, rest)
    X += rest
    return True


@njit(cache=True, nogil=True)
def _phi_row(kind: int, par: Array, z: Array, out: Array) -> None:
    """Write ``phi(z)`` to ``out``."""
    if kind == 0:
        for i in range(z.size):  # no branches, so that the compiler can use vectors
            above = z[i] - par[0]
            below = z[i] + par[0]
            value = (above if above > 0.0 else 0.0) + (par[1] * below if below < 0.0 else 0.0)
            value = par[2] if value < par[2] else value
            out[i] = par[3] if value > par[3] else value
    else:
        for i in range(z.size):
            out[i] = phi(kind, par, z[i])


@njit(cache=True, nogil=True)
def phi_rows(kind: int, par: Array, Z: Array, X: Array) -> None:
    """Write ``phi(Z)`` to ``X``."""
    for i in range(Z.shape[0]):
        _phi_row(kind, par, Z[i], X[i])


@njit(cache=True, nogil=True)
def _clip_to_domain(kind: int, par: Array, x: Array) -> None:
    """Move ``x`` in place to the nearest point where the potential of phi is finite."""
    for k in range(x.size):
        if kind == 0:
            low = 0.0 if par[1] == 0.0 else -math.inf
            x[k] = min(max(max(x[k], low), par[2]), par[3])
        elif kind == 1:
            x[k] = min(max(x[k], -1.0), 1.0)
        else:
            x[k] = min(max(x[k], 0.0), 1.0)


@njit(cache=True, nogil=True)
def _state_gradient(
    kind: int,
    par: Array,
    x: Array,
    linear: Array,
    zeta: Array,
    S: Array,
    AT: Array,
    WA: Array,
    z: Array,
    f: Array,
    g: Array,
) -> None:
    """Gradient ``g = S x - linear + WA' phi(A x + zeta)``, leaving ``z`` and ``f = phi(z)``."""
    n = x.size
    for k in range(n):
        g[k] = -linear[k]
        z[k] = zeta[k]
    for k in range(n):
        if x[k] != 0.0:
            for j in range(n):
                g[j] += x[k] * S[k, j]
                z[j] += x[k] * AT[k, j]
    _phi_row(kind, par, z, f)
    for k in range(n):
        if f[k] != 0.0:
            for j in range(n):
                g[j] += f[k] * WA[k, j]


@njit(cache=True, nogil=True)
def _state_residual(
    kind: int, par: Array, x: Array, g: Array, M: Array, lam: Array, size: float
) -> float:
    """Largest proximal-gradient step over the larger of ``size`` and ``max|x|``."""
    worst = 0.0
    for k in range(x.size):
        step = abs(prox_potential(kind, par, x[k] - g[k] / M[k], lam[k] / M[k]) - x[k])
        if not step <= worst:
            worst = step
        size = max(size, abs(x[k]))
    return worst / size


@njit(cache=True, nogil=True)
def _state_newton(
    par: Array,
    x: Array,
    z: Array,
    f: Array,
    g: Array,
    S: Array,
    AT: Array,
    lam: Array,
    trial: Array,
    B: Array,
    K: Array,
    L: Array,
    d: Array,
) -> bool:
    """Minimise the objective over the piece of a piecewise linear phi that ``x`` lies in.

    States at a kink of the potential stay. Returns false when the piece has no minimiser, or one
    outside of the domain of the piece in ``x``; the caller looks at ``z``.
    """
    n = x.size
    k = 0
    free = np.empty(n, np.int64)
    for i in range(n):
        trial[i] = x[i]
        if x[i] != 0.0 and par[2] < x[i] < par[3]:
            free[k] = i
            k += 1
    live = 0
    for j in range(n):
        slope = _slope(par, z[j], f[j])
        if slope != 0.0:
            root = math.sqrt(slope * lam[j])
            for a in range(k):
                B[a, live] = root * AT[free[a], j]
            live += 1
    for a in range(k):
        i = free[a]
        for c in range(a + 1):
            K[a, c] = S[i, free[c]] + _dot(B[a], B[c], live)
        side = 1.0 if x[i] > 0.0 else par[1]
        K[a, a] += lam[i] / side
        d[0, a] = -g[i] - lam[i] * (x[i] / side + math.copysign(par[0], x[i]))
    if not cholesky_lower(K[:k], L):
        return False
    cholesky_solve_rows(L[:k], d)
    for a in range(k):
        i = free[a]
        trial[i] += d[0, a]
        if not (trial[i] * x[i] > 0.0 and par[2] < trial[i] < par[3]):
            return False
    return True


@njit(cache=True, nogil=True)
def state_sweeps(
    kind: int,
    par: Array,
    C: Array,
    Z: Array,
    lam: Array,
    S: Array,
    H: Array,
    M: Array,
    AT: Array,
    WA: Array,
    tol: float,
    max_iter: int,
    X: Array,
    residual: Array,
) -> int:
    """Solve the state problem of every row in place, at most ``max_iter`` iterations each.

    ``C`` and ``Z`` hold the linear terms c and zeta of each sample, ``S = Q - W A - A' W``,
    ``H = S + L A' W A``, ``M >= diag(H)``, ``AT = A'``, ``WA = diag(lam) A``. One iteration
    evaluates the gradient of the smooth part, majorises that part by the quadratic with
    Hessian ``H`` and makes two sweeps of exact coordinate descent on the majoriser plus the
    potential: the objective cannot rise, whatever the curvature, and phi is evaluated only n
    times. Where phi is piecewise linear, Newton steps are tried as well, after 1, 2, 4, ...
    iterations; one is kept if it ends on the piece where it began, on which the objective is the
    quadratic that it minimises. ``residual`` receives the certificate of each sample; with
    ``max_iter = 0`` the rows are only moved into the domain. Returns the largest number of
    iterations of a sample.
    """
    m, n = X.shape
    linear = np.empty(n)
    z = np.empty(n)
    f = np.empty(n)
    g = np.empty(n)
    trial = np.empty(n)
    ahead = np.empty((3, n))
    B = np.empty((n, n))
    K = np.empty((n, n))
    L = np.empty((n, n))
    d = np.empty((1, n))
    most = 0
    for i in range(m):
        x = X[i]
        zeta = Z[i]
        _clip_to_domain(kind, par, x)
        residual[i] = math.inf
        if max_iter == 0:
            continue
        size = STATE_FLOOR
        _phi_row(kind, par, zeta, f)
        for k in range(n):
            size = max(size, abs(f[k]))
            linear[k] = C[i, k] + lam[k] * zeta[k]
        step = 0.0
        reach = size
        used = 0
        next_newton = 1
        while True:
            _state_gradient(kind, par, x, linear, zeta, S, AT, WA, z, f, g)
            if step <= tol * reach or used == max_iter:
                residual[i] = _state_residual(kind, par, x, g, M, lam, size)
                if residual[i] <= tol or used == max_iter:
                    break
            used += 1
            if kind == 0 and used > next_newton:
                next_newton = 2 * used
                if _state_newton(par, x, z, f, g, S, AT, lam, trial, B, K, L, d):
                    _state_gradient(
                        kind, par, trial, linear, zeta, S, AT, WA, ahead[0], ahead[1], ahead[2]
                    )
                    same = True
                    for k in range(n):
                        same = same and _slope(par, z[k], f[k]) == _slope(
                            par, ahead[0, k], ahead[1, k]
                        )
                    if same:
                        for k in range(n):
                            x[k] = trial[k]
                            g[k] = ahead[2, k]
                        residual[i] = _state_residual(kind, par, x, g, M, lam, size)
                        if residual[i] <= tol:
                            break
            step = 0.0
            reach = size
            for sweep in range(2):
                for k in range(n):
                    new = prox_potential(kind, par, x[k] - g[k] / M[k], lam[k] / M[k])
                    change = new - x[k]
                    if change != 0.0:
                        x[k] = new
                        for j in range(n):
                            g[j] += change * H[k, j]
                    if sweep == 0:
                        step = max(step, abs(change))
                        reach = max(reach, abs(new))
        most = max(most, used)
    return most


@njit(cache=True, nogil=True)
def _prox_table(par: Array, lam: Array, M: Array) -> Array:
    """Step ``1 / M`` and what makes `prox_potential` a `_piecewise`, for each state.

    That is the slope above the threshold, by which its argument is to be multiplied, and then the
    threshold and the slope below it.
    """
    prox = np.zeros((4, (M.size + 3) // 4 * 4))  # what fills up the last block stays where it is
    prox[1] = 1.0
    prox[3] = 1.0
    for k in range(M.size):
        tau = lam[k] / M[k]
        prox[0, k] = 1.0 / M[k]
        prox[1, k] = 1.0 / (1.0 + tau)
        prox[2, k] = tau * par[0] / (1.0 + tau)
        prox[3, k] = par[1] * (1.0 + tau) / (par[1] + tau)
    return prox


@njit(cache=True, nogil=True, fastmath={"contract"})
def _bound_tile(
    bend: Bend,
    domain: tuple[Number, Number],
    curvature: Number,
    A: Floats,
    AW: Floats,
    z: Floats,
    linear: Floats,
    x: Floats,
    v: Floats | None,
    r: Floats,
    G: Floats,
    total: Floats,
) -> None:
    """Linear terms of the model of `state_tiles` at ``x``: its gradient is ``G + H x``.

    With ``v = A x + zeta``, which is kept if there is room for it, and ``r = phi(v) - curvature *
    A x`` they are ``A' W r - linear``.
    """
    n = r.size // _LANES
    k = 0
    while k < n:
        at = k * _LANES
        for s in range(4 * _LANES):
            total[s] = 0.0
        _add_block(A, k, x, _LANES, n, total)
        for s in range(4 * _LANES):
            value = z[at + s] + total[s]
            if v is not None:
                v[at + s] = value
            r[at + s] = _bent(bend, domain, value) - curvature * total[s]
        k += 4
    k = 0
    while k < n:
        at = k * _LANES
        for s in range(4 * _LANES):
            total[s] = -linear[at + s]
        _add_block(AW, k, r, _LANES, n, total)
        for s in range(4 * _LANES):
            G[at + s] = total[s]
        k += 4


@njit(inline="always")
def _target(prox: tuple[Number, Number, Number, Number], x: Number, gradient: Number) -> Number:
    """Argument of `_nearest` at the minimiser of the model and the potential over one state."""
    return prox[1] * (x - prox[0] * gradient)


@njit(cache=True, nogil=True, fastmath={"contract"})
def _nearest(
    bend: Bend,
    domain: tuple[Number, Number],
    prox: tuple[Number, Number, Number, Number],
    v: Number,
) -> Number:
    """Minimiser over one state, for a column of `_prox_table`."""
    if bend is None:
        return _bent(bend, domain, v)
    return _piecewise(prox[2], prox[3], domain[0], domain[1], v)


@njit(inline="always")
def _column(prox: Floats, k: int) -> tuple[Number, Number, Number, Number]:
    return prox[0, k], prox[1, k], prox[2, k], prox[3, k]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _slope_tile(H: Floats, x: Floats, G: Floats, total: Floats) -> None:
    """``G += H x``: the gradient of the model, and of the problem, where the model was made."""
    n = x.size // _LANES
    k = 0
    while k < n:
        at = k * _LANES
        for s in range(4 * _LANES):
            total[s] = G[at + s]
        _add_block(H, k, x, _LANES, n, total)
        for s in range(4 * _LANES):
            G[at + s] = total[s]
        k += 4


@njit(cache=True, nogil=True, fastmath={"contract"})
def _descend_tile(
    bend: Bend,
    domain: tuple[Number, Number],
    H: Floats,
    prox: Floats,
    G: Floats,
    x: Floats,
    origin: Floats | None,
    moved: Floats,
    total: Floats,
) -> None:
    """Sweep of exact coordinate descent on the model, whose gradient is ``G + H moved``.

    ``moved`` is ``x`` itself if there is no ``origin``, else what it has moved from there.
    """
    n = x.size // _LANES
    k = 0
    while k < n:
        at = k * _LANES
        for s in range(4 * _LANES):
            total[s] = 0.0
        _add_block(H, k, moved, _LANES, n, total)
        pa, pb, pc, pd = (
            _column(prox, k),
            _column(prox, k + 1),
            _column(prox, k + 2),
            _column(prox, k + 3),
        )
        qb, qc, qd = pb[0] * pb[1], pc[0] * pc[1], pd[0] * pd[1]
        own = k * n + 4 * k  # the block of these four in H: the targets of the rest of it follow
        ba = qb * H[own + 4]
        ca, cb = qc * H[own + 8], qc * H[own + 9]
        da, db, dc = qd * H[own + 12], qd * H[own + 13], qd * H[own + 14]
        for s in range(_LANES):
            i, j, u, v = at + s, at + _LANES + s, at + 2 * _LANES + s, at + 3 * _LANES + s
            xa, xb, xc, xd = x[i], x[j], x[u], x[v]
            ta = _target(pa, xa, G[i] + total[s])
            tb = _target(pb, xb, G[j] + total[_LANES + s])
            tc = _target(pc, xc, G[u] + total[2 * _LANES + s])
            td = _target(pd, xd, G[v] + total[3 * _LANES + s])
            ya = _nearest(bend, domain, pa, ta)
            a = ya - xa
            yb = _nearest(bend, domain, pb, tb - ba * a)
            b = yb - xb
            yc = _nearest(bend, domain, pc, (tc - ca * a) - cb * b)
            c = yc - xc
            yd = _nearest(bend, domain, pd, ((td - da * a) - db * b) - dc * c)
            x[i], x[j], x[u], x[v] = ya, yb, yc, yd
            if origin is not None:
                moved[i], moved[j] = ya - origin[i], yb - origin[j]
                moved[u], moved[v] = yc - origin[u], yd - origin[v]
        k += 4


@njit(cache=True, nogil=True, fastmath={"contract"})
def _follow_tile(
    bend: Bend,
    domain: tuple[Number, Number],
    curvature: Number,
    A: Floats,
    AW: Floats,
    H: Floats,
    v: Floats,
    moved: Floats,
    r: Floats,
    G: Floats,
    total: Floats,
) -> None:
    """Take the gradient ``G`` of the problem along to where ``x`` has ``moved``.

    ``v`` is ``A x + zeta`` before. What changes is small, and so are its errors where it is in
    single precision.
    """
    n = r.size // _LANES
    k = 0
    while k < n:
        at = k * _LANES
        for s in range(4 * _LANES):
            total[s] = 0.0
        _add_block(A, k, moved, _LANES, n, total)
        for s in range(4 * _LANES):
            change = _bent(bend, domain, v[at + s] + total[s]) - _bent(bend, domain, v[at + s])
            r[at + s] = change - curvature * total[s]
        k += 4
    k = 0
    while k < n:
        at = k * _LANES
        for s in range(4 * _LANES):
            total[s] = 0.0
        _add_block(AW, k, r, _LANES, n, total)
        _add_block(H, k, moved, _LANES, n, total)
        for s in range(4 * _LANES):
            G[at + s] += total[s]
        k += 4


@njit(cache=True, nogil=True, fastmath={"contract"})
def _certify_tile(
    bend: Bend,
    domain: tuple[Number, Number],
    prox: Floats,
    n: int,
    G: Floats,
    x: Floats,
    moved: Floats,
    noise: float,
    gap: Floats,
    error: Floats,
    reach: Floats,
) -> None:
    """Receive in ``gap`` the largest change that a state would make from ``x`` alone.

    In ``error``, what the gradient after having ``moved`` may be wrong by in this; and ``reach`` is
    raised to ``|x|``.
    """
    for s in range(_LANES):
        gap[s] = error[s] = 0.0
    for k in range(n):
        at = k * _LANES
        column = _column(prox, k)
        for s in range(_LANES):
            v = _nearest(bend, domain, column, _target(column, x[at + s], G[at + s]))
            v = abs(v - x[at + s])
            gap[s] = v if v > gap[s] else gap[s]
            # what is not finite shows in no maximum
            error[s] += noise * abs(moved[at + s]) + 0.0 * G[at + s]
            v = abs(x[at + s])
            reach[s] = v if v > reach[s] else reach[s]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _remember_tile(x: Floats, past: Floats) -> None:
    """Keep a step and its image for `_extrapolate_tile`, and go on from there."""
    for k in range(x.size // _LANES):
        at, then = k * _LANES, 3 * k * _LANES
        for s in range(_LANES):
            g = x[at + s]
            past[then + _LANES + s] = g - past[then + s]
            past[then + 2 * _LANES + s] = g
            past[then + s] = g


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _extrapolate_tile(
    domain: tuple[Number, Number], x: Floats, past: Floats, share: Floats
) -> None:
    """Step of Anderson's method with a memory of one, from ``x``, the image of the last point.

    ``past`` holds for each state that point, then the step and the image of the iteration before.
    """
    for s in range(2 * _LANES):
        share[s] = 0.0
    for k in range(x.size // _LANES):
        at, then = k * _LANES, 3 * k * _LANES
        for s in range(_LANES):
            step = x[at + s] - past[then + s]
            turn = step - past[then + _LANES + s]
            past[then + _LANES + s] = step
            share[s] += step * turn
            share[_LANES + s] += turn * turn
    for s in range(_LANES):
        square = share[_LANES + s]
        part = share[s] / square if square > 0.0 else share[s]
        share[s] = min(max(part, -1.0), 0.5)
    for k in range(x.size // _LANES):
        at, then = k * _LANES, 3 * k * _LANES
        for s in range(_LANES):
            g = x[at + s]
            v = g - share[s] * (g - past[then + 2 * _LANES + s])
            past[then + 2 * _LANES + s] = g
            v = domain[0] if v < domain[0] else v
            v = domain[1] if v > domain[1] else v
            x[at + s] = v
            past[then + s] = v


@njit(cache=True, nogil=True, fastmath={"contract"})
def state_tiles(
    bend: Bend,
    bend32: Bend,
    domain: tuple[float, float],
    par: Array,
    C: Array,
    Z: Array,
    lam: Array,
    H: Array,
    D: Array,
    M: Array,
    A: Array,
    AW: Array,
    curvature: float,
    noise: float,
    tol: float,
    blind: int,
    most: int,
    X: Array,
    residual: Array,
) -> int:
    """Solve the state problem for a piecewise linear phi on tiles of rows, one in each lane.

    As in `state_sweeps`, an iteration makes sweeps of exact coordinate minimisation on a quadratic
    model with curvature ``H``, whose diagonal is ``D``; here ``h*`` has the given ``curvature`` in
    it. First come ``blind`` iterations in single precision from ``phi(zeta)``, accelerated, with
    two sweeps, and three in the last as in those that follow. The next takes the gradient in double
    precision and what changes in single; a certificate is off by at most ``noise`` times the sum of
    the changes for it, which is added. Rows for which one does not suffice are gathered in tiles of
    their own, for at most ``most``, until their certificate is met; what has left the range of
    single precision is put back to ``phi(zeta)``. ``H``, ``A`` and ``AW`` are in blocks
    (`solvers.tiles`). Returns the most iterations of a row.
    """
    m, n = X.shape
    prox = _prox_table(par, lam, M)
    table = _prox_table(par, lam, D)
    H32, A32, AW32 = H.astype(np.float32), A.astype(np.float32), AW.astype(np.float32)
    table32 = table.astype(np.float32)
    domain32 = np.float32(domain[0]), np.float32(domain[1])
    z, linear, x, v, r, G, origin = (
        _tile(n, H),
        _tile(n, H),
        _tile(n, H),
        _tile(n, H),
        _tile(n, H),
        _tile(n, H),
        _tile(n, H),
    )
    z32, linear32, x32 = _tile(n, H32), _tile(n, H32), _tile(n, H32)
    r32, G32 = _tile(n, H32), _tile(n, H32)
    past = _lanes_of(3 * x32.size, x32)
    past[:] = 0.0  # the first step is taken from there, and forgotten
    gap = _lanes_of(_LANES, H)
    size = _lanes_of(_LANES, H)
    reach = _lanes_of(_LANES, H)
    error = _lanes_of(_LANES, H)
    total, total32 = _lanes_of(4 * _LANES, H), _lanes_of(4 * _LANES, H32)
    running = np.empty(_LANES, np.bool_)
    place = np.arange(m)  # of the rows that are left
    count = m
    used = 0
    for again in range(2):
        todo, count = count, 0
        first, last = (blind + 2, blind + most) if again else (blind + 1, blind + 1)
        for start in range(0, todo, _LANES):
            rows = min(_LANES, todo - start)
            for s in range(_LANES):
                row = place[start + min(s, rows - 1)]  # lanes without a row repeat the last one
                for k in range(n):
                    z[k * _LANES + s] = Z[row, k]
                    linear[k * _LANES + s] = C[row, k]
            size[:] = STATE_FLOOR
            x[n * _LANES :] = 0.0  # what fills up a block is NaN where a row left the range
            for k in range(n):
                at = k * _LANES
                for s in range(_LANES):
                    linear[at + s] += lam[k] * z[at + s]
                    x[at + s] = _bent(bend, domain, z[at + s])
                _raise_to(size, x, at, 1.0, _LANES)
            if again:
                for s in range(_LANES):
                    row = place[start + min(s, rows - 1)]
                    for k in range(n):
                        x[k * _LANES + s] = X[row, k]
            else:
                for k in range(x.size):  # whole arrays are converted number by number
                    z32[k], linear32[k], x32[k] = z[k], linear[k], x[k]
                _remember_tile(x32, past)  # the start; no step leads there
                for t in range(blind):
                    _bound_tile(
                        bend32,
                        domain32,
                        np.float32(curvature),
                        A32,
                        AW32,
                        z32,
                        linear32,
                        x32,
                        None,
                        r32,
                        G32,
                        total32,
                    )
                    for _ in range(2 if t < blind - 1 else 3):
                        _descend_tile(bend32, domain32, H32, table32, G32, x32, None, x32, total32)
                    if t <= 1:
                        _remember_tile(x32, past)
                    elif t < blind - 1:
                        _extrapolate_tile(domain32, x32, past, total32)
                for k in range(n * _LANES):
                    x[k] = x32[k] if abs(x32[k]) < np.inf else x[k]
            running[:rows] = True
            for t in range(first, last + 1):
                _bound_tile(bend, domain, curvature, A, AW, z, linear, x, v, r, G, total)
                _slope_tile(H, x, G, total)
                for k in range(x.size):
                    origin[k], x32[k] = x[k], 0.0
                for _ in range(3):
                    _descend_tile(bend, domain, H32, table, G, x, origin, x32, total32)
                _follow_tile(bend, domain, curvature, A32, AW32, H32, v, x32, r32, G, total32)
                reach[:] = size
                _certify_tile(bend, domain, prox, n, G, x, x32, noise, gap, error, reach)
                left = 0
                for s in range(rows):
                    if not running[s]:
                        continue
                    bound = (gap[s] + error[s]) / reach[s]
                    if t < last and not bound <= tol:
                        left += 1
                        continue
                    row = place[start + s]
                    for k in range(n):
                        at = k * _LANES + s
                        value = x[at] if bound < np.inf else _bent(bend, domain, z[at])
                        X[row, k] = value + 0.0  # no negative zeros
                    residual[row] = bound
                    running[s] = False
                    used = max(used, t)
                    if not bound <= tol:
                        place[count] = row
                        count += 1
                if left == 0:
                    break
    return used


@njit(cache=True, nogil=True)
def state_residuals(
    kind: int,
    par: Array,
    C: Array,
    Z: Array,
    lam: Array,
    S: Array,
    M: Array,
    AT: Array,
    WA: Array,
    X: Array,
    residual: Array,
) -> None:
    """Certificate of every row of ``X``, with the arguments of :func:`state_sweeps`."""
    m, n = X.shape
    linear = np.empty(n)
    z = np.empty(n)
    f = np.empty(n)
    g = np.empty(n)
    for i in range(m):
        size = STATE_FLOOR
        _phi_row(kind, par, Z[i], f)
        for k in range(n):
            size = max(size, abs(f[k]))
            linear[k] = C[i, k] + lam[k] * Z[i, k]
        _state_gradient(kind, par, X[i], linear, Z[i], S, AT, WA, z, f, g)
        residual[i] = _state_residual(kind, par, X[i], g, M, lam, size)


@njit(cache=True, nogil=True)
def _factor_row(M: Array, support: NDArray[np.int64], i: int, L: Array) -> None:
    """Row ``i`` of the Cholesky factor of ``M`` on ``support``; a lost pivot is kept off zero."""
    row = M[support[i]]
    for j in range(i):
        L[i, j] = (row[support[j]] - _dot(L[i], L[j], j)) / L[j, j]
    size = row[support[i]]
    L[i, i] = math.sqrt(max(size - _dot(L[i], L[i], i), 1e-14 * size))


@njit(cache=True, nogil=True)
def row_in_ball(
    M: Array, g: Array, n: int, radius: float, l1: float, mask: Mask, a: Array, L: Array
) -> float:
    """Minimise ``x'M x / 2 - q'x + l1 |x_1..n|_1`` over ``|x_1..n|_1 <= radius`` in place.

    ``M`` is positive definite, ``a`` holds a feasible start and ``g`` its negative gradient
    ``q - M a``; both end at the solution. The first ``n`` entries are in the ball, and zero unless
    they start otherwise or are in ``mask``; the rest are free. Returns the multiplier of
    ``|x_1..n|_1``, which is ``l1`` inside the ball.

    A primal active-set method. On a support with fixed signs the minimiser is affine in the
    multiplier. Walk towards it; an entry that would change its sign stops the walk at zero and
    leaves the support. At the minimiser, refined once, the entry that violates its optimality
    condition most enters. Every point on the way is feasible and no worse than the last, so that
    the limit of the steps, which rounding errors may reach, costs accuracy alone.
    """
    size = a.size
    goal = radius * (1.0 - 4.0 * n * EPS)
    support = np.empty(size, np.int64)
    sign = np.zeros(size)
    walk = np.empty((2, size))
    k = 0
    for j in range(n, size):
        support[k] = j
        k += 1
    top = 0.0
    for j in range(n):
        top = max(top, abs(g[j]))
        if a[j] != 0.0:
            sign[j] = math.copysign(1.0, a[j])
            support[k] = j
            k += 1
    mu = l1
    ready = 0
    refined = False
    for _ in range(20 * size):
        for i in range(ready, k):
            _factor_row(M, support, i, L)
        ready = k
        for i in range(k):
            walk[0, i] = g[support[i]] - mu * sign[support[i]]
            walk[1, i] = sign[support[i]]
        cholesky_solve_rows(L[:k, :k], walk[:, :k])
        norm = 0.0
        slope = 0.0
        for i in range(k):
            norm += sign[support[i]] * (a[support[i]] + walk[0, i])
            slope += sign[support[i]] * walk[1, i]
        rise = max(l1 - mu, (norm - goal) / slope) if slope > 0.0 else l1 - mu
        mu += rise
        step = 1.0
        leave = -1
        for i in range(k):
            j = support[i]
            walk[0, i] -= rise * walk[1, i]
            if sign[j] * (a[j] + walk[0, i]) <= 0.0 and sign[j] != 0.0:
                part = a[j] / -walk[0, i] if a[j] != 0.0 else 0.0
                if part <= step:
                    step = part
                    leave = i
        for i in range(k):
            j = support[i]
            change = step * walk[0, i] if i != leave else -a[j]
            a[j] += change
            for c in range(size):
                g[c] -= change * M[j, c]
        if leave >= 0:
            a[support[leave]] = 0.0
            sign[support[leave]] = 0.0
            k -= 1
            for i in range(leave, k):
                support[i] = support[i + 1]
            ready = leave
            refined = False
            continue
        if not refined:
            refined = True
            continue
        most = mu + 1e-12 * max(mu, top)
        for j in range(n):
            if mask[j] and sign[j] == 0.0 and abs(g[j]) > most:
                most = abs(g[j])
                support[k] = j
                leave = j
        if leave < 0:
            break
        sign[leave] = math.copysign(1.0, g[leave])
        k += 1
        refined = False
    project_l1_row(a[:n], radius, walk[0, :n])
    return mu


@njit(cache=True, nogil=True)
def _row_residual(g: Array, a: Array, radius: float, l1: float, mask: Mask) -> float:
    """Violation of the optimality conditions of a row in the ball by ``a`` with gradient ``g``.

    With ``top = max (|g| - l1)_+`` it is the mean of ``g sign(a) + l1 + top``, weighted with
    ``|a|``; where that is less than ``top`` inside the ball, the linearised gap over the radius.
    """
    top = 0.0
    inner = 0.0
    norm = 0.0
    for j in range(a.size):
        inner += g[j] * a[j] + l1 * abs(a[j])
        norm += abs(a[j])
        if mask[j]:
            top = max(top, abs(g[j]) - l1)
    return max(0.0, top + inner / (norm if inner > 0.0 else radius))


@njit(cache=True, nogil=True)
def _group_residual(
    G: Array, Theta: Array, rows: int, first: int, last: int, threshold: float, free: Mask
) -> float:
    """Distance of ``-G`` from the subdifferential of ``threshold * ||.||_F`` on some columns.

    Only the leading ``rows`` take part, and of these those that are ``free``.
    """
    norm = 0.0
    size = 0.0
    for i in range(rows):
        for j in range(first, last):
            norm += Theta[i, j] * Theta[i, j]
            if free[i]:
                size += G[i, j] * G[i, j]
    if norm == 0.0:
        return max(0.0, math.sqrt(size) - threshold)
    scale = threshold / math.sqrt(norm)
    rest = 0.0
    for i in range(rows):
        if free[i]:
            for j in range(first, last):
                g = G[i, j] + scale * Theta[i, j]
                rest += g * g
    return math.sqrt(rest)


@njit(cache=True, nogil=True)
def group_ball_residual(
    Theta: Array,
    G: Array,
    n: int,
    threshold: Array,
    sizes: NDArray[np.int64],
    radius: float,
    l1: float,
    pattern: Mask,
    entry: Mask,
) -> float:
    """Largest distance from optimality over rows of A, groups and free columns."""
    worst = 0.0
    for k in range(n):
        worst = max(worst, _row_residual(G[k, :n], Theta[k, :n], radius, l1, pattern[k]))
    last = n
    for group in range(sizes.size):
        first, last = last, last + sizes[group]
        violation = _group_residual(G, Theta, G.shape[0], first, last, threshold[group], entry)
        worst = max(worst, violation)
    every = np.ones(n, np.bool_)
    for j in range(last, Theta.shape[1]):
        worst = max(worst, _group_residual(G, Theta, n, j, j + 1, 0.0, every))
    return worst


@njit(cache=True, nogil=True)
def _add_outer(G: Array, u: Array, rows: int, w: Array) -> None:
    """``G[:rows] += outer(u, w)``."""
    for i in range(rows):
        c = u[i]
        if c != 0.0:
            g = G[i]
            for j in range(w.size):
                g[j] += c * w[j]


@njit(cache=True, nogil=True, fastmath={"contract"})
def _combine(x: Array, M: Array, size: int, out: Array) -> None:
    """``out = x[:size] @ M[:size]``, four rows at a time.

    With 60 rows 0.19 microseconds instead of 0.27 for sums along them, with 110 0.83 and 0.63.
    """
    for i in range(out.size):
        out[i] = 0.0
    j = 0
    while j + 4 <= size:
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        p, q, s, t = M[j], M[j + 1], M[j + 2], M[j + 3]
        for i in range(out.size):
            out[i] += (a * p[i] + b * q[i]) + (c * s[i] + d * t[i])
        j += 4
    while j < size:
        a = x[j]
        p = M[j]
        for i in range(out.size):
            out[i] += a * p[i]
        j += 1


@njit(cache=True, nogil=True, fastmath={"contract"})
def _add_tiles(left: Array, W: Array, size: int, G: Array) -> None:
    """``G += left[:, :size] @ W[:size]`` by tiles of columns.

    With 60 rows and 32 columns on the left 74 Gflop/s, instead of 39 by a BLAS for AVX2.
    """
    rows, P = G.shape
    whole = (size + 3) // 4 * 4
    part = np.zeros((rows + 3) // 4 * 4 * whole)
    for i in range(rows):
        for j in range(size):
            part[(i // 4 * whole + j // 4 * 4 + i % 4) * 4 + j % 4] = left[i, j]
    x = _lanes_of(whole * _LANES, part)
    x[:] = 0.0
    total = _lanes_of(4 * _LANES, part)
    first = 0
    while first < P:
        lanes = min(_LANES, P - first)
        for j in range(size):
            for s in range(lanes):
                x[j * _LANES + s] = W[j, first + s]
        i = 0
        while i < rows:
            total[:] = 0.0
            _add_block(part, i, x, _lanes_for(lanes), whole, total)
            for k in range(min(4, rows - i)):
                for s in range(lanes):
                    G[i + k, first + s] += total[k * _LANES + s]
            i += 4
        first += _LANES


@njit(cache=True, nogil=True)
def _add_moves(G: Array, moves: Array, count: int, W: Array, start: int, size: int) -> None:
    """``G += moves[:, :size] @ W[start:start + size]``, where ``count`` columns are not zero."""
    rows = moves.shape[0]
    if 4 * count >= size:
        _add_tiles(moves, W[start : start + size], size, G)
    elif count > 0:
        change = np.empty(rows)
        for c in range(size):
            for i in range(rows):
                change[i] = moves[i, c]
            _add_outer(G, change, rows, W[start + c])


@njit(cache=True, nogil=True)
def _regularise(M: Array, size: float) -> None:
    """Make ``M`` positive definite by a proximal term in the rounding errors of its columns.

    ``size`` is the trace of what ``M`` is the difference of: its rounding errors are in units of
    that.
    """
    for i in range(M.shape[0]):
        M[i, i] = (1.0 + 1e-12) * max(M[i, i], 0.0) + (1e-14 * size if size > 0.0 else 1.0)


@njit(cache=True, nogil=True)
def _copy_column(A: Array, j: int, out: Array) -> bool:
    """Receive a column; return whether it is not zero."""
    nonzero = False
    for i in range(A.shape[0]):
        out[i] = A[i, j]
        nonzero = nonzero or out[i] != 0.0
    return nonzero


@njit(cache=True, nogil=True)
def _take_rows(A: Array, rows: NDArray[np.int64], out: Array) -> None:
    """``out = A[rows]``, which takes numba seconds to compile."""
    for i in range(rows.size):
        for j in range(A.shape[1]):
            out[i, j] = A[rows[i], j]


@njit(cache=True, nogil=True)
def _gram_of_rows(K: Array, out: Array) -> None:
    """``out = K K'``."""
    for i in range(K.shape[0]):
        for j in range(i + 1):
            out[i, j] = _dot(K[i], K[j], K.shape[1])
            out[j, i] = out[i, j]


@njit(cache=True, nogil=True)
def _chunk_gradient(
    G: Array, K: Array, Z: Array, F_minus: Array, start: int, stop: int, left: Array, near: Array
) -> None:
    """``near = G[:, start:stop]' + K[start:stop] Z F_minus``; ``left`` is work."""
    here = slice(0, stop - start)
    for i in range(G.shape[0]):
        for c in range(stop - start):
            near[c, i] = G[i, start + c]
    if Z.size > 0:
        left[here] = 0.0
        _add_tiles(K[start:stop], Z, Z.shape[0], left[here])
        _add_tiles(left, F_minus, left.shape[1], near[here])


@njit(cache=True, nogil=True)
def _violation_of_zeros(
    near: Array, turned: Array, sizes: NDArray[np.int64], threshold: Array, free: Array
) -> float:
    """Violation of the optimality conditions of groups, if all of them are zero; or infinity."""
    r = near.shape[1]
    worst = 0.0
    end = 0
    for group in range(sizes.size):
        begin, end = end, end + sizes[group]
        x = turned[begin * r : end * r]
        if _dot(x, x, x.size) > 0.0:
            return math.inf
        pull = 0.0
        for c in range(begin, end):
            for i in range(r):
                pull += (near[c, i] * free[i]) ** 2
        worst = max(worst, math.sqrt(pull) - threshold[group])
    return worst


@njit(cache=True, nogil=True, fastmath={"contract"})
def _push(
    near: Array,
    first: int,
    u: Array,
    w: Array,
    start: int,
    v: Array,
    k: Array,
    stop: int,
) -> None:
    """``near[c] += u w[start + c] + v k[c]`` for the rows c from ``first`` to ``stop - start``."""
    r = u.size
    for c in range(first, stop - start):
        row = near[c * r : (c + 1) * r]
        a, b = w[start + c], k[c]
        for i in range(r):
            row[i] += a * u[i] + b * v[i]


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _length_of_sum(x: Array, scale: float, y: Array) -> float:
    """Norm of ``x + scale y``, as long as y."""
    total = 0.0
    for i in range(y.size):
        z = x[i] + scale * y[i]
        total += z * z
    return math.sqrt(total)


@njit(cache=True, nogil=True)
def group_ball_sweeps(
    H: Array,
    W: Array,
    F: Array,
    K: Array,
    vectors: Array,
    values: Array,
    bound: Array,
    inverse: Array,
    Theta: Array,
    G: Array,
    n: int,
    threshold: Array,
    sizes: NDArray[np.int64],
    radius: float,
    l1: float,
    pattern: Mask,
    entry: Mask,
    target: float,
    max_sweeps: int,
) -> int:
    """Cyclic exact block minimisation over the rows of [A, b] and the groups, in place.

    The metric is ``H (x) W - F F' (x) K K'``, of which the second part has few directions or none.
    ``G`` is the gradient of the smooth part at the start. It is kept up to date for the first part,
    by products over chunks of columns; the second is taken off where a chunk is looked at.
    ``vectors, values`` are the eigenpairs of a matrix ``N``, on the rows ``entry`` that a group may
    fill, with the identity on the others; on the columns j of a group the metric is at most
    ``N (x) diag(bound_j)``. ``inverse`` is that of the leading n x n block of N. Returns the
    number of sweeps; stops when the residual, met block by block, is at most ``target``.
    """
    r, P = Theta.shape
    second = F.shape[1] > 0
    last = n
    widest = 1
    for width in sizes:
        last += width
        widest = max(widest, width)
    size = n + P - last
    columns = np.empty(size, np.int64)
    for c in range(size):
        columns[c] = c if c < n else last + c - n
    change = np.empty(size)
    most = _CHUNK + widest
    best = np.empty(widest * r)
    pulled = np.empty(widest * r)
    rotated = np.empty(widest * r)
    scaled = np.empty(widest * r)
    image = np.empty(r)
    second_image = np.empty(r)
    moved = np.empty(widest * r)
    a = np.empty(size)
    g = np.empty(size)
    M = np.zeros((size, size))
    L = np.empty((size, size))
    # In the basis of the eigenvectors of N: the columns of groups, the matrices of the metric, and
    # for a chunk of columns, one in a row, the gradient and what moves have made of it.
    back = np.ascontiguousarray(vectors.T)
    turned = np.zeros(P * r)
    touched = np.zeros(P, np.bool_)
    for j in range(n, last):
        if _copy_column(Theta, j, image):
            _combine(image, vectors, r, turned[j * r : (j + 1) * r])
    H_turned = np.empty((r, r))
    F_turned = np.empty((r, F.shape[1]))
    for i in range(r):
        _combine(back[i], H, r, image)
        _combine(image, vectors, r, H_turned[i])
        _combine(back[i], F, r, F_turned[i])
    F_minus, F_turned_minus = np.ascontiguousarray(-F.T), np.ascontiguousarray(-F_turned.T)
    free = np.ones(r)
    for i in range(r):
        free[i] = 1.0 if entry[i] else 0.0
    raw = np.empty((most, r))
    near = np.empty(most * r)
    moves = np.empty((most, r))
    outward = np.zeros((most, F.shape[1]))
    K_across = np.empty((K.shape[1], most))
    near_K = np.empty((_CHUNK, most))  # the last group of a chunk, which may be wide, begins in it
    spread = np.empty((r, most))
    # K' D F for the move D of Theta: the second part of the gradient is -K of it F'
    Z = np.zeros((K.shape[1], F.shape[1]))
    inward = np.empty(K.shape[1])
    K_rows = np.empty((size, K.shape[1]))
    W_rows = np.empty((size, P))
    _take_rows(K, columns, K_rows)
    _take_rows(W, columns, W_rows)
    shared = np.empty((size, size))
    _gram_of_rows(K_rows, shared)
    own = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            own[i, j] = W_rows[i, columns[j]]
            M[i, j] = own[i, j]
    trace = 0.0
    for i in range(size):
        trace += own[i, i]
    _regularise(M, trace)
    turns = np.empty((r, size))
    sweeps = 0
    while sweeps < max_sweeps:
        sweeps += 1
        worst = 0.0
        turns[:] = 0.0
        any_moved = False
        for k in range(n):
            _combine(turns[k], own, size, g)
            for j in range(size):
                a[j] = Theta[k, columns[j]]
                g[j] += G[k, columns[j]]
            if second:
                for i in range(inward.size):
                    inward[i] = _dot(Z[i], F[k], F.shape[1])
                for j in range(size):
                    g[j] -= _dot(K_rows[j], inward, inward.size)
            residual = _row_residual(g[:n], a[:n], radius, l1, pattern[k])
            worst = max(worst, residual)
            if residual <= 0.1 * target:
                continue
            h = H[k, k] if H[k, k] > 0.0 else 1.0
            if second:
                h = _dot(F[k], F[k], F.shape[1])
                for i in range(size):
                    for j in range(size):
                        M[i, j] = H[k, k] * own[i, j] - h * shared[i, j]
                _regularise(M, H[k, k] * trace)
                h = 1.0
            for j in range(size):
                change[j] = a[j]
                g[j] = -g[j] / h
            row_in_ball(M, g, n, radius, l1 / h, pattern[k], a, L)
            for j in range(size):
                Theta[k, columns[j]] = a[j]
                change[j] = a[j] - change[j]
            _add_outer(turns, H[k], r, change)
            any_moved = True
            if second:
                _combine(change, K_rows, size, inward)
                _add_outer(Z, inward, inward.size, F[k])
        if any_moved:
            _add_tiles(turns, W_rows, size, G)
        stop = n
        next_group = 0
        while stop < P:  # whole groups to a chunk; a free column counts as a group
            start = stop
            first_group = next_group
            while stop < P and stop - start < _CHUNK:
                stop += sizes[next_group] if next_group < sizes.size else 1
                next_group += 1
            here = slice(0, stop - start)
            _chunk_gradient(G, K, Z, F_minus, start, stop, outward, raw)
            if stop <= last:
                residual = _violation_of_zeros(
                    raw,
                    turned[start * r : stop * r],
                    sizes[first_group:next_group],
                    threshold[first_group:next_group],
                    free,
                )
                if residual <= 0.1 * target:
                    worst = max(worst, residual)
                    continue
            near[: (stop - start) * r] = 0.0
            _add_tiles(raw, vectors, r, near[: (stop - start) * r].reshape((stop - start, r)))
            for k in range(min(_CHUNK, stop - start)):
                for c in range(k + 1, stop - start):
                    near_K[k, c] = _dot(K[start + k], K[start + c], inward.size)
            moves[here] = 0.0
            outward[here] = 0.0
            count = int(np.int64(0))  # no literal, for which what takes it would be compiled again
            end = int(np.int64(0))
            for group in range(first_group, next_group):
                grouped = group < sizes.size
                width = sizes[group] if grouped else 1
                begin, end = end, end + width
                j = start + begin
                if grouped:
                    level = threshold[group]
                    x = turned[j * r : (j + width) * r]
                    entries = x.size
                    norm = math.sqrt(_dot(x, x, entries))
                    for c in range(width):
                        at = c * r
                        for i in range(r):
                            pulled[at + i] = near[begin * r + at + i] * free[i]
                    pull = math.sqrt(_dot(pulled, pulled, entries))
                    if norm == 0.0:
                        residual = max(0.0, pull - level)
                    else:
                        residual = _length_of_sum(pulled, level / norm, x)
                    worst = max(worst, residual)
                    if residual <= 0.1 * target:
                        continue
                    # the linear term of the majoriser
                    for c in range(width):
                        at = c * r
                        for i in range(r):
                            scaled[at + i] = bound[j + c] * values[i]
                            rotated[at + i] = scaled[at + i] * x[at + i] - pulled[at + i]
                    length = group_prox_diag(
                        rotated[:entries], scaled[:entries], level, norm, best[:entries]
                    )
                    if length == math.inf:
                        continue  # unbounded below
                    for i in range(entries):
                        moved[i] = best[i] - x[i]
                        x[i] = best[i]
                    for c in range(width):
                        touched[j + c] = True
                else:
                    _combine(near[begin * r : end * r], back, r, image)
                    residual = math.sqrt(_dot(image, image, n))
                    worst = max(worst, residual)
                    if residual <= 0.1 * target or bound[j] <= 0.0:
                        continue
                    _combine(image, inverse, n, change[:n])
                    for i in range(n):
                        change[i] /= -bound[j]
                        Theta[i, j] += change[i]
                    _combine(change, vectors, n, moved[:r])
                for c in range(width):
                    k = begin + c
                    _combine(moved[c * r : (c + 1) * r], H_turned, r, moves[k])
                    _combine(moved[c * r : (c + 1) * r], F_turned, r, outward[k])
                    if end < stop - start:
                        _combine(outward[k], F_turned_minus, F.shape[1], second_image)
                        _push(near, end, moves[k], W[j + c], start, second_image, near_K[k], stop)
                count += width
            if count > 0:
                raw[here] = 0.0
                _add_tiles(moves, back, r, raw[here])
                for c in range(stop - start):
                    for i in range(r):
                        spread[i, c] = raw[c, i]
                _add_moves(G, spread, count, W, start, stop - start)
            if count > 0 and second:
                for c in range(stop - start):
                    for i in range(inward.size):
                        K_across[i, c] = K[start + c, i]
                _add_tiles(K_across, outward, stop - start, Z)
        if worst <= target:
            break
    for j in range(n, last):
        if touched[j]:
            _combine(turned[j * r : (j + 1) * r], back, r, image)
            for i in range(r):
                Theta[i, j] = image[i]
    return sweeps


@njit(cache=True, nogil=True)
def _group_lasso_state(
    Theta: Array, G: Array, L: Array, y2: float, threshold: Array
) -> tuple[float, float]:
    """Objective and relative duality gap of a multi-task group lasso, from its sums.

    ``G = L + Theta W`` is the gradient of the smooth part and ``y2`` the mean square of the
    targets. The dual point is the best feasible multiple of the residual.
    """
    q, p = Theta.shape
    norm = np.zeros(p)
    size = np.zeros(p)
    linear = 0.0
    inner = 0.0
    for i in range(q):
        for j in range(p):
            linear += L[i, j] * Theta[i, j]
            inner += G[i, j] * Theta[i, j]
            norm[j] += Theta[i, j] * Theta[i, j]
            size[j] += G[i, j] * G[i, j]
    penalty = 0.0
    ratio = 0.0
    for j in range(p):
        penalty += threshold[j] * math.sqrt(norm[j])
        ratio = max(ratio, math.sqrt(size[j]) / threshold[j])
    primal = 0.5 * (y2 + linear + inner) + penalty
    square = max(y2 + linear + inner, 0.0)
    s = (y2 + linear) / square if square > 0.0 else 1.0
    if abs(s) * ratio > 1.0:
        s = math.copysign(1.0 / ratio, s)
    return primal, (primal - s * (y2 + linear) + 0.5 * s * s * square) / (0.5 * y2)


@njit(cache=True, nogil=True)
def _extrapolate(Thetas: Array, Gs: Array, Theta: Array, G: Array) -> bool:
    """Write the affine combination of iterates whose change is least to ``Theta`` and ``G``.

    Anderson's extrapolation. ``G`` is affine in ``Theta``, so that it needs no product.
    """
    k = Thetas.shape[0] - 1
    q, p = Theta.shape
    K = np.zeros((k, k))
    factor = np.zeros((k, k))
    weight = np.ones((1, k))
    change = np.empty((k, p))
    for i in range(q):
        for a in range(k):
            for j in range(p):
                change[a, j] = Thetas[a + 1, i, j] - Thetas[a, i, j]
        for a in range(k):
            for c in range(a + 1):
                K[a, c] += _dot(change[a], change[c], p)
    trace = 0.0
    for a in range(k):
        trace += K[a, a]
        for c in range(a):
            K[c, a] = K[a, c]
    if not trace > 0.0:
        return False
    for a in range(k):
        K[a, a] += 1e-12 * trace
    if not cholesky_lower(K, factor):
        return False
    cholesky_solve_rows(factor, weight)
    total = weight.sum()
    Theta[:] = 0.0
    G[:] = 0.0
    for a in range(k):
        w = weight[0, a] / total
        for i in range(q):
            for j in range(p):
                Theta[i, j] += w * Thetas[a + 1, i, j]
            for j in range(G.shape[1]):
                G[i, j] += w * Gs[a + 1, i, j]
    return True


@njit(cache=True, nogil=True)
def _update_group_columns(
    W: Array,
    at: int,
    start: int,
    threshold: Array,
    Theta: Array,
    near: Array,
    moves: Array,
    change: Array,
) -> int:
    """Minimise exactly over neighbouring columns of ``Theta``, one after the other.

    ``near`` holds their gradient, and is changed along; ``moves`` takes how far they move. Row
    ``j`` of ``W`` holds, from ``at`` on, the products of column ``j`` with these. Returns how many
    were visited.
    """
    q = Theta.shape[0]
    moved = 0
    for c in range(near.shape[1]):
        j = start + c
        w = W[j, at + c]
        if w <= 0.0:
            continue
        size = 0.0
        active = False
        for i in range(q):
            change[i] = w * Theta[i, j] - near[i, c]
            size += change[i] * change[i]
            active = active or Theta[i, j] != 0.0
        size = math.sqrt(size)
        if not active and size <= threshold[j]:
            continue
        scale = max(0.0, 1.0 - threshold[j] / size) / w if size > 0.0 else 0.0
        for i in range(q):
            new = scale * change[i]
            change[i] = new - Theta[i, j]
            moves[i, c] = change[i]
            Theta[i, j] = new
        _add_outer(near, change, q, W[j, at : at + near.shape[1]])
        moved += 1
    return moved


@njit(cache=True, nogil=True)
def group_lasso_sweeps(
    W: Array,
    L: Array,
    y2: float,
    threshold: Array,
    Theta: Array,
    G: Array,
    tol: float,
    max_sweeps: int,
) -> int:
    """Minimise ``y2 / 2 + <L, Theta> + tr(Theta W Theta') / 2 + sum_j t_j ||Theta_j||`` in place.

    Cyclic exact minimisation over the columns, extrapolated after every fifth sweep where that
    lowers the objective. ``G = L + Theta W`` on entry and exit. Stops when the relative duality
    gap of these columns is at most ``tol``; returns the sweeps made.
    """
    q, p = Theta.shape
    depth = 5
    Thetas = np.empty((depth + 1, q, p))
    Gs = np.empty((depth + 1, q, p))
    moves = np.zeros((q, _CHUNK))
    change = np.empty(q)
    held = 0
    sweeps = 0
    value, gap = _group_lasso_state(Theta, G, L, y2, threshold)
    while gap > tol and sweeps < max_sweeps:
        Thetas[held] = Theta
        Gs[held] = G
        held += 1
        if held == depth + 1:
            held = 0
            if _extrapolate(Thetas, Gs, Theta, G):
                new, new_gap = _group_lasso_state(Theta, G, L, y2, threshold)
                if new < value:
                    value = new
                    gap = new_gap
                    continue
            _copy(Thetas[depth], Theta)
            _copy(Gs[depth], G)
        sweeps += 1
        for start in range(0, p, _CHUNK):
            stop = min(start + _CHUNK, p)
            near = G[:, start:stop].copy()
            moves[:] = 0.0
            moved = _update_group_columns(W, start, start, threshold, Theta, near, moves, change)
            _add_moves(G, moves, moved, W, start, stop - start)
        value, gap = _group_lasso_state(Theta, G, L, y2, threshold)
    return sweeps


@njit(cache=True, nogil=True)
def group_lasso_residual_sweeps(
    rows: Array,
    L: Array,
    y2: float,
    threshold: Array,
    Theta: Array,
    R: Array,
    tol: float,
    max_sweeps: int,
) -> int:
    """Do what `group_lasso_sweeps` does without a Gram matrix, for more columns than samples.

    ``rows`` (p, m) holds the inputs, ``R`` (q, m) the residual on entry and exit. The gap is looked
    at after every fifth sweep.
    """
    q, p = Theta.shape
    m = rows.shape[1]
    depth = 5
    Thetas = np.empty((depth + 1, q, p))
    Rs = np.empty((depth + 1, q, m))
    moves = np.zeros((q, _CHUNK))
    change = np.empty(q)
    W = np.zeros((p, _CHUNK))
    for start in range(0, p, _CHUNK):
        part = rows[start : start + _CHUNK]
        W[start : start + len(part), : len(part)] = np.dot(part, part.T) / m
    sweeps = 0
    value, gap = _group_lasso_state(Theta, np.dot(R, rows.T) / -m, L, y2, threshold)
    while gap > tol and sweeps < max_sweeps:
        for held in range(depth + 1):
            Thetas[held] = Theta
            Rs[held] = R
            if held == depth or sweeps == max_sweeps:
                break
            sweeps += 1
            for start in range(0, p, _CHUNK):
                part = rows[start : start + _CHUNK]
                near = np.dot(R, part.T) / -m
                moves[:] = 0.0
                if _update_group_columns(W, 0, start, threshold, Theta, near, moves, change):
                    R -= np.dot(np.ascontiguousarray(moves[:, : len(part)]), part)
        value, gap = _group_lasso_state(Theta, np.dot(R, rows.T) / -m, L, y2, threshold)
        if held == depth and gap > tol and _extrapolate(Thetas, Rs, Theta, R):
            new, new_gap = _group_lasso_state(Theta, np.dot(R, rows.T) / -m, L, y2, threshold)
            if new < value:
                value = new
                gap = new_gap
            else:
                _copy(Thetas[depth], Theta)
                _copy(Rs[depth], R)
    return sweeps


@njit(cache=True, nogil=True)
def lower_rows(F: Floats) -> None:
    """Take from each row its largest entry."""
    for i in range(F.shape[0]):
        top = F[i, 0]
        for k in range(1, F.shape[1]):
            top = max(top, F[i, k])
        for k in range(F.shape[1]):
            F[i, k] -= top


@njit(cache=True, nogil=True)
def share_rows(E: Floats, total: Floats) -> None:
    """Divide each row by its sum, which goes to ``total``."""
    for i in range(E.shape[0]):
        whole = E[i, 0]
        for k in range(1, E.shape[1]):
            whole += E[i, k]
        total[i] = whole
        for k in range(E.shape[1]):
            E[i, k] /= whole


@njit(cache=True, nogil=True)
def cross_entropy_rows(E: Floats, shifted: Floats, Y: Floats, w: Floats, losses: Floats) -> None:
    """Receive the losses of rows of ``E = exp(shifted)``, and in E their weighted gradients."""
    for i in range(E.shape[0]):
        whole = E[i, 0]
        linear = Y[i, 0] * shifted[i, 0]
        for k in range(1, E.shape[1]):
            whole += E[i, k]
            linear += Y[i, k] * shifted[i, k]
        losses[i] = math.log(whole) - linear
        for k in range(E.shape[1]):
            E[i, k] = (E[i, k] / whole - Y[i, k]) * w[i]


@njit(cache=True, nogil=True)
def sensitivities(A: Array, M: Array, T: Array) -> None:
    """Write ``(I - diag(m) A)^-1 diag(m)`` to ``T[i]`` for every row ``m`` of ``M``; T is zeros.

    Only the states with ``m != 0`` take part; as in `_solve_live` there is no need to pivot.
    """
    n = A.shape[0]
    K = np.empty((n, 2 * n))
    inverse = np.empty(n)
    live = np.empty(n, np.uintp)
    for i in range(M.shape[0]):
        k = _nonzero(M[i], live)
        for a in range(k):
            for c in range(k):
                K[a, c] = -M[i, live[a]] * A[live[a], live[c]]
                K[a, k + c] = 0.0
            K[a, a] += 1.0
            K[a, k + a] = M[i, live[a]]
        _eliminate(K, k, 2 * k, inverse)
        for a in range(k):
            for c in range(k):
                T[i, live[a], live[c]] = K[a, k + c]


@njit(cache=True, nogil=True)
def output_sensitivities(AT: Array, M: Array, C: Array, J: Array) -> None:
    """Write ``C (I - diag(m) A)^-1 diag(m)`` to ``J[i]`` for every row ``m`` of ``M``; J is zeros.

    As `sensitivities`, by one solution for each row of C.
    """
    q, n = C.shape
    K = np.empty((n, n + q))
    inverse = np.empty(n)
    live = np.empty(n, np.uintp)
    for i in range(M.shape[0]):
        k = _nonzero(M[i], live)
        for a in range(k):
            m = M[i, live[a]]
            for c in range(k):
                K[a, c] = -m * AT[live[a], live[c]]
            K[a, a] += 1.0
            for j in range(q):
                K[a, k + j] = m * C[j, live[a]]
        _eliminate(K, k, k + q, inverse)
        for a in range(k):
            for j in range(q):
                J[i, j, live[a]] = K[a, k + j]


@njit(cache=True, nogil=True)
def add_moments(X: Array, w: Array, weights: Array, sums: Array) -> None:
    """Add the weights of rows, and ``w x`` and ``w x^2``, to sums of two numbers each.

    The second number holds what rounding took from the first: products are split into theirs and
    their errors, which asks for entries of moderate size.
    """
    split = 134217729.0
    for i in range(X.shape[0]):
        total = weights[0] + w[i]
        part = total - weights[0]
        weights[1] += (weights[0] - (total - part)) + (w[i] - part)
        weights[0] = total
        c = split * w[i]
        w1 = c - (c - w[i])
        w2 = w[i] - w1
        for j in range(X.shape[1]):
            x = X[i, j]
            c = split * x
            x1 = c - (c - x)
            x2 = x - x1
            first = w[i] * x
            error = ((w1 * x1 - first) + w1 * x2 + w2 * x1) + w2 * x2
            total = sums[0, j] + first
            part = total - sums[0, j]
            sums[1, j] += ((sums[0, j] - (total - part)) + (first - part)) + error
            sums[0, j] = total
            square = x * x
            rest = ((x1 * x1 - square) + 2.0 * (x1 * x2)) + x2 * x2
            c = split * square
            x1 = c - (c - square)
            x2 = square - x1
            second = w[i] * square
            error = (((w1 * x1 - second) + w1 * x2 + w2 * x1) + w2 * x2) + w[i] * rest
            total = sums[2, j] + second
            part = total - sums[2, j]
            sums[3, j] += ((sums[2, j] - (total - part)) + (second - part)) + error
            sums[2, j] = total


@njit(cache=True, nogil=True)
def add_twofold(high: Array, low: Array, term: Array) -> None:
    """Add numbers to sums in two parts; the lower one holds what rounding took from the upper."""
    for i in range(high.size):
        total = high[i] + term[i]
        part = total - high[i]
        low[i] += (high[i] - (total - part)) + (term[i] - part)
        high[i] = total


@njit(cache=True, nogil=True)
def sum_twofold(x: Array) -> tuple[float, float]:
    """Return the sum of numbers in two parts."""
    high = 0.0
    low = 0.0
    for i in range(x.size):
        total = high + x[i]
        part = total - high
        low += (high - (total - part)) + (x[i] - part)
        high = total
    return high, low
