"""The automatic strength: which searches are made, and what is chosen from their losses."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bcd_implicit import strength as module
from bcd_implicit.candidates import PathPoint
from bcd_implicit.losses import LogisticLoss, SquaredLoss
from bcd_implicit.monitor import Monitor
from bcd_implicit.pooled_folds import PooledFolds
from bcd_implicit.problem import Parameters
from bcd_implicit.strength import _choose_linear, _gain, _states_win, choose_strength


def point(losses, used=(), alpha=1.0):
    """A candidate without states that uses some of five inputs."""
    D = np.isin(np.arange(5), used)[None].astype(float)
    none = np.zeros((1, 0))
    parameters = Parameters(np.zeros((0, 0)), np.zeros((0, 5)), np.zeros(0), none, D, np.zeros(1))
    return PathPoint.of(alpha, 1.0, parameters, losses, float(np.mean(losses)))


def test_gains_are_of_the_rows_of_the_folds_that_were_tried():
    rng = np.random.default_rng(0)
    rival, states = rng.random(90), [rng.random(20) - 0.2, rng.random(10) - 0.2]
    difference = rival[:30] - np.concatenate(states)
    expected = difference.mean() / (difference.std() / np.sqrt(30))
    assert _gain(states, rival, np.full(90, 1 / 90)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("better", "chosen"), [(0.0, [1, 2]), (0.5, [1, 2]), (1.5, [3])])
def test_refits_are_taken_if_they_are_clearly_better(better, chosen, make_problem):
    """By a standard error, of which there are a hundred in one."""
    weights, noise = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.resize([0.1, -0.1], 100)
    path = [point(np.full(100, 2.0)), point(np.full(100, 1.0), [1, 2])]
    refit = point(1.0 - 0.01 * better + noise, [3])
    problem = make_problem(group_weights=weights)
    found = _choose_linear(path, [refit], problem, np.full(100, 0.01), [])
    assert_array_equal(np.flatnonzero(found.best.support), chosen)
    assert_array_equal(found.group_weights[chosen], weights[chosen])
    assert np.isinf(np.delete(found.group_weights, chosen)).all()


def test_what_is_better_than_refits_stays(make_problem):
    path = [point(np.full(9, 2.0)), point(np.full(9, 1.0), [1, 2])]
    refits = [point(np.full(9, 1.5), [3]), point(np.full(9, 0.9), [1, 2])]
    path.append(point(np.full(9, 0.905), [4]))  # as good, and smaller
    found = _choose_linear(path, refits, make_problem(), np.full(9, 1 / 9), [])
    assert_array_equal(np.flatnonzero(found.best.support), [4])


@pytest.mark.parametrize(("scatter", "inputs"), [(0.02, [1]), (0.004, [1, 2])])
def test_what_is_nothing_beside_the_loss_of_the_empty_model_must_be_certain(
    scatter, inputs, make_problem
):
    """One standard error is not, five are."""
    noise = scatter * np.resize([1.0, -1.0], 100)
    losses = (np.ones(100), 0.002 + noise, np.zeros(100)), ((), (1,), (1, 2))
    path = [point(loss, used) for loss, used in zip(*losses, strict=True)]
    found = _choose_linear(path, [], make_problem(), np.full(100, 0.01), [])
    assert_array_equal(np.flatnonzero(found.best.support), inputs)


@pytest.mark.parametrize(("gain", "inputs"), [(0.4, 0), (0.6, 1)])
def test_inputs_must_gain_half_a_standard_error_on_none(gain, inputs, make_problem):
    noise = np.resize([0.1, -0.1], 100)  # a standard error of a hundredth
    path = [point(np.full(100, 1.0)), point(1.0 - 0.01 * gain + noise, [1])]
    found = _choose_linear(path, [], make_problem(), np.full(100, 0.01), [])
    assert found.best.n_inputs == inputs


@pytest.fixture
def chosen_from(monkeypatch, make_problem, make_data):
    """Choose from what states gain on the folds, in rows of noise of one.

    ``everywhere`` holds the losses of the candidate of each fold on all of them.
    """

    pools = []

    def choose(gains, rows, everywhere=((1.0,) * 4,) * 4, inputs=([0],) * 4, level=10.0, **of):
        made, rng = [], np.random.default_rng(0)

        class Search:
            def __init__(self, *_):
                made.append(self)
                self.k = len(made) - 1
                self.best = point(np.ones(1), inputs[self.k], 1.0 + self.k)
                self.path, self.chosen_weights = [self.best], np.ones(5)
                self.weights, self.empty_loss = np.full(rows, 1 / rows), 2.0

            def smallest_support(self):
                return self.best

            def losses_of(self, other):
                return np.full(rows, everywhere[int(other.alpha) - 1][self.k])

            def eliminate(self, *, insist=False):
                assert insist == (self.k == 0)
                noise = rng.standard_normal(rows)
                noise = (noise - noise.mean()) / noise.std()
                return level - gains[self.k] / np.sqrt(rows) - noise

            def refine(self, pool):
                pools.append(pool)

        folds = [SimpleNamespace(m=rows)] * len(gains)
        rival = [point(np.full(rows * len(gains), level), [3])]
        monkeypatch.setattr(module, "StateSearch", Search)
        monkeypatch.setattr(module, "linear_path", lambda *_: (rival, []))
        total = rows * len(gains)
        monkeypatch.setattr(module, "validation_weights", lambda _: np.full(total, 1 / total))
        data = make_data()
        found = choose_strength(
            data, [(fold, fold) for fold in folds], make_problem(**of), rng, Monitor()
        )
        return found, len(made)

    choose.pools = pools
    return choose


@pytest.mark.parametrize(
    ("loss", "rows", "searches", "pooled"),
    [
        (LogisticLoss(), 199, 4, True),
        (LogisticLoss(), 200, 1, False),
        (SquaredLoss(), 199, 1, False),
    ],
)
def test_all_folds_confirm_the_strengths_of_few_rows_of_classes(
    loss, rows, searches, pooled, chosen_from
):
    found, made = chosen_from([5.0] * 4, rows, loss=loss)
    assert found.best.columns.tolist() == [0]
    assert made == searches  # one has decided; the others are only asked
    (pool,) = chosen_from.pools
    assert (pool is not None) == pooled


def test_pooled_folds_judge_by_all_of_their_rows():
    class Fold:
        def __init__(self, weights, losses):
            self.weights, self.losses = np.array(weights), losses

        def losses_of(self, candidate):
            return np.array(self.losses[int(candidate.alpha)])

    before, after = point(np.ones(2), alpha=0.0), point(np.zeros(2), alpha=1.0)
    for second, refined in (([0.0] * 6, True), ([2.5] * 6, False)):
        folds = [Fold([0.5, 0.5], [[1.0, 1.0], [0.0, 0.1]]), Fold([1 / 6] * 6, [[1.0] * 6, second])]
        pool = PooledFolds(folds)
        assert_allclose(pool.weights, [0.25, 0.25, *[1 / 12] * 6])
        judged = pool.judged(after)
        assert_array_equal(judged.losses, [0.0, 0.1, *second])
        assert judged.loss == pytest.approx(0.025 + 0.5 * second[0])
        assert pool.is_refined(before, after, 1.0) == refined


@pytest.mark.parametrize(
    ("gain", "rows", "searches", "states"),
    [
        (5.0, 60, 1, True),  # standard errors on each fold
        (-5.0, 60, 1, False),
        (2.5, 60, 2, True),  # 3.5 on two
        (1.0, 60, 4, False),
        (5.0, 20, 3, True),  # few rows do not decide by themselves
        (-5.0, 20, 3, False),
    ],
)
def test_folds_are_tried_until_it_is_clear(gain, rows, searches, states, chosen_from):
    found, made = chosen_from([gain] * 4, rows)
    assert made == searches
    assert (found.best.columns.tolist() == [0]) == states


@pytest.mark.parametrize(
    ("gain", "level", "rows", "states"),
    [
        (1.2, 0.5, 60, True),  # 2.4 standard errors on four folds, and 0.69 of the loss is left
        (1.2, 0.55, 60, False),  # 0.72
        (0.95, 0.2, 60, False),  # 1.9
        (1.3, 10.0, 75, True),  # 2.6, in 300 rows
        (1.2, 10.0, 75, False),
        (1.3, 10.0, 74, False),  # in fewer
    ],
)
def test_on_all_folds_fewer_errors_decide(gain, level, rows, states, chosen_from):
    """In many rows two and a half, and two where states are far better."""
    found, made = chosen_from([gain] * 4, rows, level=level)
    assert made == 4
    assert (found.best.columns.tolist() == [0]) == states


def test_the_search_is_chosen_that_does_well_on_the_folds_that_are_better(chosen_from):
    """The first does best of all, but states are no better there; the last only on its own fold."""
    everywhere = [[0.1] * 4, [0.1, 0.9, 0.8, 0.8], [0.9, 0.7, 0.5, 0.6], [0.9, 0.9, 0.9, 0.2]]
    found, made = chosen_from([-1.0, 2.0, 3.0, 4.0], 60, everywhere)
    assert made == 4
    assert found.best.alpha == 3.0


def test_of_searches_that_do_as_well_the_one_with_the_fewest_inputs_is_chosen(chosen_from):
    everywhere, inputs = [[0.5] * 4, [0.505] * 4, [0.5] * 4, [0.6] * 4], ([0, 1], [0], [0, 1], [0])
    found, _ = chosen_from([2.0] * 4, 20, everywhere, inputs)
    assert found.best.alpha == 2.0


@pytest.mark.parametrize(
    ("others", "row", "win"),
    [
        (0.5, 0.0, True),  # five standard errors
        (0.5, 1e3, True),  # one with that row
        (0.5, -1e3, True),  # nor does it overrule them
        (0.2, 0.0, False),  # two
        (0.2, 1e3, False),
        (-0.5, 1e3, False),
        (-0.5, 0.0, False),
    ],
)
def test_no_single_row_decides(others, row, win):
    noise = np.resize([1.0, -1.0], 100)
    gains = others + noise
    gains[17] += row
    rival = np.full(100, 1e3)
    states = [rival[:60] - gains[:60], rival[60:] - gains[60:]]
    weights = np.full(100, 0.01)
    assert _states_win(states, rival, weights) == win


def test_two_bad_rows_overrule_the_others():
    """In the mean that is what counts."""
    gains = 0.5 + np.resize([1.0, -1.0], 400)
    gains[[17, 250]] -= 1e3
    rival = np.full(400, 1e3)
    assert not _states_win([rival - gains], rival, np.full(400, 1 / 400))


def test_a_search_goes_on_where_one_row_hides_that_it_is_better(chosen_from, monkeypatch):
    monkeypatch.setattr(module, "_states_win", lambda *_: True)
    found, made = chosen_from([-1.0] * 4, 60)
    assert made == 4
    assert found.best.columns.tolist() == [0]


@pytest.mark.parametrize(("rows", "outlying"), [(30, 1), (200, 4)])
def test_two_rows_of_a_hundred_count_as_others_do(rows, outlying):
    """But at least one: so states gain five standard errors, and with them one or two."""
    gains = 10.0 / np.sqrt(rows) + 2.0 * np.resize([1.0, -1.0], rows)
    rival, weights = np.full(rows, 1e4), np.full(rows, 1 / rows)
    for more, win in ((outlying, True), (outlying + 1, False)):
        some = gains.copy()
        some[:more] += 1e3
        assert _states_win([rival - some], rival, weights) == win


def test_few_rows_that_lose_much_are_not_left_out():
    """Of 800 rows 16 take back half of what the others gain, which is 3.1 standard errors."""
    gains = 0.09 + np.resize([0.8, -0.8], 800)
    gains[:16] = -2.0
    rival = np.full(800, 1e2)
    assert not _states_win([rival - gains], rival, np.full(800, 1 / 800))


@pytest.mark.parametrize(("rows", "inputs"), [(299, [1, 2]), (300, [3])])
def test_in_many_rows_refits_are_candidates_like_others(rows, inputs, make_problem):
    """A refit of fewer inputs that is as good as the path."""
    path = [point(np.full(rows, 2.0)), point(np.full(rows, 1.0), [1, 2])]
    refit = point(np.full(rows, 1.001), [3])
    found = _choose_linear(path, [refit], make_problem(), np.full(rows, 1 / rows), [])
    assert_array_equal(np.flatnonzero(found.best.support), inputs)
