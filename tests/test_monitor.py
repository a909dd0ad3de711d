"""Who hears of a fit, and what a fit that is taken up does not say again."""

import numpy as np
import pytest

from bcd_implicit.monitor import Monitor


def record(monitor, objective, passes=1):
    monitor.record("exact", "ABD", objective=objective, active_inputs=1, passes=passes)


def test_whoever_asked_is_told_without_a_history(capsys):
    seen = []
    for options in ({"verbose": 1}, {"callback": seen.append}, {}):
        monitor = Monitor(**options, keep=False)
        assert monitor.heard is bool(options)
        record(monitor, 0.5)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert [one["objective"] for one in seen] == [0.5]


@pytest.mark.parametrize("known", [0, 2, 3])
def test_records_are_made_once(known):
    """Whether what they are of is made again or not."""
    before, seen = Monitor(), []
    for objective in (5.0, 4.0, 3.0):
        record(before, objective)
    after = Monitor(callback=seen.append)
    after.go_on(before.history)
    after.skip(known)
    after.skip(1)  # a call inside one that has ended is behind already
    assert after.place == max(known, 1)
    for objective in [5.0, 4.0, 3.0, 2.0, 1.0][after.place :]:
        record(after, objective)
    assert after.place == 5
    assert [one["objective"] for one in after.history] == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert [one["objective"] for one in seen] == [2.0, 1.0]
    assert np.all(np.diff([one["passes"] for one in after.history]) > 0)
