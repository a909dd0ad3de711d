"""A fit of a table that is taken up reads as much of it as the undisturbed one."""

import numpy as np
import pytest

from bcd_implicit.parts import PartedRows
from tests.fits import assert_same_blocks, samples, set_limits, small_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Killed(BaseException):
    """What ends a fit as a kill would: nothing catches it."""


@pytest.mark.parametrize("phase", ["of the first problem", "of the problem"])
def test_few_rows_that_are_many_numbers_are_in_memory(phase, tmp_path, monkeypatch):
    set_limits(monkeypatch, gathered=50)
    X, y = samples(300, 4)
    stored = np.memmap(tmp_path / "inputs.dat", X.dtype, "w+", shape=X.shape)
    stored[:] = X
    passes, plain = [], PartedRows.sum

    def count(*arguments, **options):
        passes.append(1)
        return plain(*arguments, **options)

    monkeypatch.setattr(PartedRows, "sum", count)
    whole = small_model(alpha=1e-3).fit(stored, y)
    blocks = [record["block"] for record in whole.history_]
    begins = [place for place, block in enumerate(blocks) if block == "C"][-2:]
    left = [begins[phase == "of the problem"] + 3]

    def kill(_):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    settings = {"alpha": 1e-3, "checkpoint": tmp_path / "fit.npz", "checkpoint_every": 1}
    with pytest.raises(Killed):
        small_model(**settings, callback=kill).fit(stored, y)
    until_killed = len(passes)
    passes.clear()
    again = small_model(**settings, resume=True).fit(stored, y)
    assert len(passes) == until_killed  # to tell the data
    assert_same_blocks(whole, again)
