"""What the tests of selections share."""

import numpy as np
import pytest

from bcd_implicit.monitor import Monitor
from bcd_implicit.selection._fits import WarmFitter


@pytest.fixture
def fitter_to():
    """Make a fitter to data and a problem, of a small budget unless it is given."""

    def make(data, problem, **settings):
        defaults = {
            "max_iter": 1,
            "tol": 1e-3,
            "rng": np.random.default_rng(0),
            "monitor": Monitor(keep=False),
        }
        return WarmFitter(data, problem, **(defaults | settings))

    return make
