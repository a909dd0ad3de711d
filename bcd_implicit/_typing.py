"""Array aliases and the glossary of symbols used everywhere in the package.

Samples lie along rows. ``m`` samples, ``p`` inputs, ``q`` outputs, ``n`` states.

======  ==========  ==================================================================
symbol  shape       meaning
======  ==========  ==================================================================
``U``   ``(m, p)``  inputs
``Y``   ``(m, q)``  targets
``X``   ``(m, n)``  states, ``X = phi(Z)`` at the equilibrium
``Z``   ``(m, n)``  pre-activations, ``Z = X A' + U B' + b``
``A``   ``(n, n)``  state to state, rows in the l1 ball of radius ``kappa`` < 1
``B``   ``(n, p)``  input to state
``C``   ``(q, n)``  state to output
``D``   ``(q, p)``  input to output (feedthrough)
``b``   ``(n,)``    state intercept
``d``   ``(q,)``    output intercept
======  ==========  ==================================================================

The prediction is ``C x + D u + d`` with ``x = phi(A x + B u + b)``.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.intp]
Matrix: TypeAlias = Any  # ndarray, or csr_array where a network is sparse
