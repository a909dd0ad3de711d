"""Importing the package: what it loads, what it refuses, and the cache of the kernels."""

import subprocess
import sys
from pathlib import Path

import pytest

import bcd_implicit

ROOT = Path(__file__).parent.parent


def run(code, **environment):
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment or None, check=False
    )
    return done.returncode, done.stdout.strip(), done.stderr


def test_importing_loads_neither_cvxpy_nor_scikit_learn():
    code = "import sys, bcd_implicit; print({'cvxpy', 'sklearn', 'numba'} & set(sys.modules))"
    assert run(code)[:2] == (0, "set()")


def test_the_estimators_do_not_load_cvxpy():
    code = "import sys; from bcd_implicit import ImplicitRegressor; print('cvxpy' in sys.modules)"
    assert run(code)[:2] == (0, "False")


@pytest.mark.parametrize("name", bcd_implicit.__all__)
def test_every_public_name_is_there(name):
    assert getattr(bcd_implicit, name) is not None
    assert name in dir(bcd_implicit)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bcd_implicit.nothing


def test_the_solvers_refuse_their_bare_name():
    code, _, error = run("import solvers")
    assert code != 0
    assert "bcd_implicit.solvers" in error


def test_kernels_without_a_place_for_their_cache_are_compiled():
    code = (
        "import warnings\n"
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"  # as if no folder were writable
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from bcd_implicit.solvers._kernels import phi\n"
        "(warning,) = caught\n"
        "print(phi(2, (0.0, 0.0, 0.0, 0.0), 0.0), 'NUMBA_CACHE_DIR' in str(warning.message))"
    )
    assert run(code)[:2] == (0, "0.5 True")


def test_a_second_process_finds_the_compiled_kernels(tmp_path):
    code = (
        "import numpy as np\n"
        "from bcd_implicit.solvers._kernels import project_l1_rows as kernel\n"
        "kernel(np.ones((2, 2)), 1.0, np.empty(2))\n"
        "print(sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))"
    )
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path))[:2] == (0, "0 1")
    assert run(code, NUMBA_CACHE_DIR=str(tmp_path))[:2] == (0, "1 0")
