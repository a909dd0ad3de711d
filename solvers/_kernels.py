"""Every numba function of the library, and nothing else.

Kernels take C-ordered arrays of one dtype, mutate in place, and never validate, warn or print:
that is the work of the drivers beside them. All live in this one file because numba's on-disk
cache does not notice a change in a function that is called from another file; and all calls are
static, because a compiled function passed as an argument never hits that cache.

An activation reaches a kernel as an integer ``kind`` and four parameters ``par``:
``PIECEWISE_LINEAR`` with ``par = (threshold, negative slope, lower clip, upper clip)`` covers relu,
leaky relu, identity, clip and soft threshold; ``TANH`` and ``SIGMOID`` use no parameters.
"""

import math

import numpy as np
from numba import njit

PIECEWISE_LINEAR = 0
TANH = 1
SIGMOID = 2


@njit(cache=True, nogil=True)
def phi(kind, par, z):
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
def _tanh_prox(v, tau):
    """Solve ``tau * atanh(x) + x = v`` in ``x``.

    With ``x = tanh(s)`` the equation is increasing in ``s`` and concave for ``s > 0``: Newton from
    the left of the root climbs to it without a safeguard.
    """
    target = abs(v)
    s = target / (1.0 + tau)
    for _ in range(100):
        t = math.tanh(s)
        step = (target - tau * s - t) / (tau + 1.0 - t * t)
        s += step
        if step <= 1e-15 * (1.0 + s):
            break
    return math.copysign(math.tanh(s), v)


@njit(cache=True, nogil=True)
def prox_potential(kind, par, v, tau):
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
def picard_rows(
    kind, par, AT, Zin, X, weight, factor, lipschitz, rounding, quiet, tol, max_iter, error
):
    """Iterate ``x <- phi(A x + zin)`` on every row of ``X`` until its error is proven small.

    Distances are ``max_k weight_k |x_k|``, in which one iteration contracts by ``factor`` plus a
    rounding error of ``rounding`` times the magnitudes involved; steps below ``quiet`` times these
    are taken for rounding errors. ``AT`` is the transpose of ``A``: a column of ``A`` is added for
    every nonzero state. Fills ``error`` with the bound of each row and returns (0 converged,
    1 stopped by rounding, 2 not converged; most iterations of a row).
    """
    m, n = Zin.shape
    z = np.empty(n, Zin.dtype)
    worst = 0
    most = 0
    for i in range(m):
        x = X[i]
        inputs = 0.0
        for k in range(n):
            inputs = max(inputs, lipschitz * weight[k] * abs(Zin[i, k]))
        status = 2
        bound = np.inf
        t = 0
        while t < max_iter:
            t += 1
            for k in range(n):
                z[k] = Zin[i, k]
            for j in range(n):
                xj = x[j]
                if xj != 0.0:
                    for k in range(n):
                        z[k] += xj * AT[j, k]
            change = 0.0
            norm = 0.0
            size = 1.0
            for k in range(n):
                old = x[k]
                x[k] = phi(kind, par, z[k])
                step = weight[k] * abs(x[k] - old)
                if step > change or step != step:  # a NaN, once there, stays
                    change = step
                norm = max(norm, weight[k] * abs(x[k]))
                size = max(size, abs(x[k]))
            if not change < np.inf:
                status = 2
                bound = np.inf
                break
            magnitude = inputs + norm + change
            noise = rounding * magnitude
            bound = (1.0 + 2.0 * rounding) * (factor * change + noise) / (1.0 - factor)
            if bound <= tol * size:
                status = 0
                break
            if factor * change <= noise:
                status = 1
                if factor * change <= quiet * magnitude:
                    break
        error[i] = bound
        worst = max(worst, status)
        most = max(most, t)
    return worst, most


@njit(cache=True, nogil=True)
def row_changes(new, old, weight, change, norm, size):
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
def adjoint_rows(A, M, R, V, weight, factor, rounding, quiet, tol, max_iter, error):
    """Iterate ``v <- M o (A' v + r)`` on every row of ``V`` until its error is proven small.

    Distances are ``sum_k weight_k |v_k|``; the rest is as in `picard_rows`, with an error relative
    to the largest entry of the row of ``R``.
    """
    m, n = R.shape
    z = np.empty(n, R.dtype)
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
        status = 2
        bound = np.inf
        t = 0
        while t < max_iter:
            t += 1
            for k in range(n):
                z[k] = R[i, k]
            for j in range(n):
                vj = v[j]
                if vj != 0.0:
                    for k in range(n):
                        z[k] += vj * A[j, k]
            change = 0.0
            norm = 0.0
            for k in range(n):
                old = v[k]
                v[k] = M[i, k] * z[k]
                change += weight[k] * abs(v[k] - old)
                norm += weight[k] * abs(v[k])
            if not change < np.inf:
                status = 2
                bound = np.inf
                break
            magnitude = inputs + norm + change
            noise = rounding * magnitude
            bound = (1.0 + 2.0 * rounding) * (factor * change + noise) / (1.0 - factor)
            if bound <= limit:
                status = 0
                break
            if factor * change <= noise:
                status = 1
                if factor * change <= quiet * magnitude:
                    break
        error[i] = bound
        worst = max(worst, status)
        most = max(most, t)
    return worst, most
