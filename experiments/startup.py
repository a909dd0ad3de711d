"""How long the first moments take: importing, and first use with and without cached kernels."""

import os
import subprocess
import sys
import tempfile

_IMPORT = "import bcd_implicit"
_FIT = """
import numpy as np
from bcd_implicit import ImplicitRegressor
X = np.random.default_rng(0).standard_normal((400, 50))
y = np.abs(X[:, 2]) + X[:, 5]
began = perf_counter()
ImplicitRegressor(10, alpha=0.01, random_state=0, tol=1e-3).fit(X, y).predict(X)
"""


def seconds(code: str, cache: str | None = None) -> float:
    """Run code in a new process; return the seconds since ``began`` was last set."""
    program = f"from time import perf_counter\nbegan = perf_counter()\n{code}\n"
    program += "print(perf_counter() - began)"
    environment = os.environ if cache is None else {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout)


def measure() -> dict[str, float]:
    """Return the seconds of importing, and of the first fit compiled and cached."""
    with tempfile.TemporaryDirectory() as cache:
        return {
            "import bcd_implicit": seconds(_IMPORT),
            "import of the estimators": seconds("from bcd_implicit import ImplicitRegressor"),
            "first fit and prediction, never compiled": seconds(_FIT, cache),
            "first fit and prediction, kernels cached": seconds(_FIT, cache),
        }
