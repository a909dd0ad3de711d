"""What parts of the rows say of how many inputs are of use, and which repeat them."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression

from bcd_implicit.selection import _answers
from bcd_implicit.selection._answers import ask, too_many, useful_size
from bcd_implicit.selection._repeats import explained_shares
from bcd_implicit.selection._votes import Vote
from bcd_implicit.statistics import RowBlocks


def blocks(U, weights=None):
    m, p = U.shape
    weights = np.full(m, 1 / m) if weights is None else weights
    return RowBlocks(U, np.ones((m, 1)), weights, np.zeros(p), np.ones(p))


@pytest.mark.usefixtures("small_blocks")
def test_shares_are_those_of_linear_regressions():
    rng = np.random.default_rng(0)
    U = rng.standard_normal((100, 7)) @ rng.standard_normal((7, 7)) + 3.0
    U[:, 5] = 2.0
    U[:, 6] = 1.0 - U[:, 0]
    weights = rng.dirichlet(np.ones(100))
    labels = np.array([0, 1, 1, 2, 3, 4, 5])
    shares = explained_shares(blocks(U, weights), [np.array([0, 1]), np.array([5, 2])], labels)
    for share, columns in zip(shares, ([0, 1, 2], [3, 6]), strict=True):
        model = LinearRegression().fit(U[:, columns], U, sample_weight=weights)
        left = weights @ (U - model.predict(U[:, columns])) ** 2
        whole = weights @ (U - weights @ U) ** 2
        expected = 1.0 - np.bincount(labels, left) / np.maximum(np.bincount(labels, whole), 1e-9)
        expected[4] = 0.0  # a constant
        assert_allclose(share, expected, atol=1e-9)
    assert_allclose(shares[:, [0, 5]], 1.0)
    assert shares.max() <= 1.0  # also after rounding


def test_inputs_that_say_the_same_do_not_spoil_the_others():
    rng = np.random.default_rng(0)
    U = rng.standard_normal((50, 5))
    U[:, 1] = U[:, 0]
    U[:, 3] = U[:, 2] + 1e-9 * U[:, 3]
    (shares,) = explained_shares(blocks(U), [np.arange(4)], np.arange(5))
    assert_allclose(shares[:4], 1.0)
    assert shares[4] < 0.3


EVEN = np.full(100, 0.01)


def test_the_useful_size_is_the_least_that_is_about_as_good():
    rng = np.random.default_rng(0)
    noise, other = rng.standard_normal((2, 100))
    noise, other = ((one - one.mean()) / one.std() for one in (noise, other))
    worse = noise + other + 0.15  # by one and a half standard errors
    losses = np.stack([noise, noise[::-1] + 0.01, worse, noise + 2.0])  # 4, 3, 2, 1 groups
    at_k = np.vstack([losses[:1], losses[:1] - 9.0])
    vote = Vote(np.arange(4), at_k, losses[1:], [4, 3, 2, 1], EVEN)
    assert useful_size([vote]) == 3
    assert_array_equal(vote.best, np.arange(4))


def test_k_are_too_many_only_if_fewer_do_better_than_k_at_any_strength():
    rng = np.random.default_rng(0)
    one, two, three = 1.0 + 0.1 * rng.standard_normal((3, 100))
    empty = one + 1.0

    def vote(at_k):
        return [Vote(np.arange(2), np.stack(at_k), two[None], [2, 1], EVEN)]

    assert too_many(vote([one + 0.5, one + 0.4]), empty)
    assert not too_many(vote([one + 0.5, three]), empty)  # good at a stronger penalty
    assert not too_many(vote([one + 0.5, one + 0.4]), two)  # the constant is as good
    assert not too_many([Vote(np.arange(2), one[None], np.empty((0, 100)), [1], EVEN)], empty)


@pytest.mark.parametrize(
    ("states", "linear", "empty", "better"),
    [
        (1.0, 1.0, 2.0, True),
        (1.2, 1.0, 1.0, False),  # neither explains anything
        (0.9, 1.0, 2.0, False),  # states explain more
        (1.0, None, 2.0, False),
    ],
)
def test_the_linear_model_is_better_only_if_it_explains_something(states, linear, empty, better):
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 100))

    def votes(loss):
        return [Vote(np.arange(1), loss + noise[:1], np.empty((0, 100)), [1], EVEN)]

    rivals = [] if linear is None else votes(linear)
    answers = _answers.Answers(votes(states), rivals, 0.1, empty + noise[1])
    assert _answers.linear_is_better(answers) is better


@pytest.mark.parametrize(
    ("rows", "fewer", "linear", "asked"),
    [
        (200, 0.1, 0.1, 1),
        (200, 0.1, None, 1),  # there can be no model without states
        (120, 0.1, 0.1, 2),  # too few rows
        (200, -0.1, 0.1, 4),  # k may be too many
        (200, 0.1, -0.1, 4),  # states may not be needed
    ],
)
def test_folds_are_asked_until_all_is_clear(monkeypatch, rows, fewer, linear, asked):
    """``fewer`` and ``linear`` are losses above those of models with states and k groups."""
    rng = np.random.default_rng(0)

    def vote(above):
        losses = 1.0 + above + 0.01 * rng.standard_normal((2, rows))
        return Vote(np.arange(2), losses[:1], losses[1:] + fewer, [2, 1], np.full(rows, 1 / rows))

    class Rival:
        strength, loss = 0.1, 1.0

        def __init__(self, *arguments):
            pass

        def vote(self):
            return vote(linear)

    def vote_of(fitter, *rest):
        return vote(0.0 if fitter is states else linear)

    problem = SimpleNamespace(group_weights=np.ones(2), feedthrough=linear is not None)
    states = SimpleNamespace(problem=problem)
    rival = SimpleNamespace(problem=problem, on=lambda data: rival, empty=lambda: None)
    monkeypatch.setattr(_answers, "HeldOutElimination", Rival)
    monkeypatch.setattr(_answers, "vote_of", vote_of)
    monkeypatch.setattr(_answers, "sample_losses", lambda *arguments: np.full(rows, 9.0))
    answers = ask(states, rival, [(None, None)] * 4, 2, (0.1,), np.ones(2, dtype=bool))
    assert len(answers.votes) == asked
    assert len(answers.rivals) == (0 if linear is None else asked)
    assert len(answers.empty) == asked * rows
