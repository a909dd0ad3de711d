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
