"""Sums in twice the precision, and where rows are cut for them."""

import itertools
import pickle

import numpy as np
import pytest

from bcd_implicit.cuts import block_slices, chunk_runs, part_cuts
from bcd_implicit.sums import Largest, Twofold, added, twofold, values


def test_the_order_does_not_matter():
    rng = np.random.default_rng(0)
    terms = [rng.standard_normal((3, 4)) * 10.0 ** rng.integers(-9, 9) for _ in range(5)]
    found = []
    for order in itertools.permutations(terms):
        total = Twofold.of(order[0])
        for term in order[1:]:
            total += term
        found.append(total.value())
    assert all(np.array_equal(one, found[0]) for one in found)
    plain = [sum(order[1:], order[0]) for order in itertools.permutations(terms)]
    assert not all(np.array_equal(one, plain[0]) for one in plain)


def test_sums_of_sums_and_their_bits():
    x = np.random.default_rng(0).standard_normal(1001) * 1e8
    parts = [Twofold.total(part) for part in np.split(x, [3, 500])]
    assert (parts[0] + parts[1] + parts[2]).value() == Twofold.total(x).value()
    before = parts[0].value()
    copy = pickle.loads(pickle.dumps(parts[0]))
    copy.high.setflags(write=False)
    assert (parts[1] + copy).value() == (parts[0] + parts[1]).value()
    assert parts[0].value() == before  # nothing was added in place


def test_what_is_no_real_number_is_added_as_it_is():
    one = twofold((1.0, Largest(2.0), np.array([True, False]), ["a"]))
    other = twofold((0.5, Largest(3.0), np.array([False, False]), ["b"]))
    total = values(added(one, other))
    assert total[:2] == (1.5, 3.0)
    assert total[2].tolist() == [True, False]
    assert total[3] == ["a", "b"]
    assert added(None, one) is one
    assert added(one, None) is one


def test_infinity_stays_infinite():
    total = Twofold.of(np.array([np.inf, np.nan, 1.0]))
    total += np.ones(3)
    np.testing.assert_array_equal(total.value(), [np.inf, np.nan, 2.0])


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_cut_as_the_whole_is(seed):
    """Blocks of rows in use are the same for all chunks."""
    rng = np.random.default_rng(seed)
    size, unit = 4, 16
    shortest = 4 * unit if seed % 2 else 0
    chunks = tuple(int(rows) for rows in rng.integers(shortest, 8 * unit, 9))
    if seed % 4 < 2:
        chunks = (*chunks, int(rng.integers(1, unit)))
    used = np.flatnonzero(rng.random(sum(chunks)) < (1.0 if seed % 3 else 0.3))
    whole = [used[rows].tolist() for rows in block_slices(len(used), size, used)]
    assert [*itertools.chain(*whole)] == used.tolist()
    runs = chunk_runs(chunks, unit)
    assert [i for run in runs for i in range(len(chunks))[run]] == [*range(len(chunks))]
    lengths = [sum(chunks[run]) for run in runs]
    assert min(lengths[:-1]) >= 4 * unit
    cuts = part_cuts(lengths, unit)
    assert [cut.start for cut in cuts[1:]] == [cut.stop for cut in cuts[:-1]]
    assert (cuts[0].start, cuts[-1].stop) == (0, sum(chunks))
    parts = []
    for cut in cuts:
        inside = used[(used >= cut.start) & (used < cut.stop)] - cut.start
        blocks = block_slices(len(inside), size, inside)
        parts += [(inside[rows] + cut.start).tolist() for rows in blocks]
    assert parts == whole
    assert all(np.cumsum(lengths)[cut.run] > cut.start for cut in cuts)
