"""Effects of any shape of single inputs on what a model leaves."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bcd_implicit import ImplicitRegressor
from bcd_implicit.binned_effects import binned_effects
from bcd_implicit.even_effects import clear_level, even_effects
from bcd_implicit.statistics import RowBlocks


@pytest.fixture
def effects(make_problem, make_parameters):
    """Return the effects on targets that a model of nothing leaves."""

    def of(U, Y, weights=None, groups=None, function=binned_effects):
        m, p = U.shape
        w = np.ones(m) if weights is None else weights
        data = RowBlocks(U, Y.reshape(m, -1), w / w.sum(), np.zeros(p), np.ones(p))
        problem = make_problem(n_inputs=p, groups=groups)
        nothing = make_parameters(problem, data).restricted(np.zeros(p, dtype=bool))
        return function(data, problem, nothing)

    return of


def test_a_wave_is_clear_where_absolute_values_are_not(effects):
    U = np.random.default_rng(0).standard_normal((400, 6))
    Y = np.sin(4.0 * U[:, 3]) + 0.5 * np.random.default_rng(1).standard_normal(400)
    level = clear_level(6)
    assert_array_equal(np.flatnonzero(effects(U, Y) > level), [3])
    assert not (effects(U, Y, function=even_effects) > level).any()


@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize(("m", "counts"), [(159, [8]), (160, [8, 16]), (320, [8, 16, 32])])
def test_the_statistic_is_the_largest_of_the_bins(q, m, counts, effects):
    rng = np.random.default_rng(0)
    U, Y, w = rng.standard_normal((m, 2)), rng.standard_normal((m, q)), rng.uniform(1, 2, m)
    U[:, 1] = np.floor(U[:, 1])  # ties: fewer bins, of different size
    w /= w.sum()
    G = -w[:, None] * Y
    G = G - np.outer(w, G.sum(axis=0))

    def normal(u, count):
        bins = np.searchsorted(np.quantile(u, np.arange(1, count) / count), u)
        kinds = np.unique(bins)
        sums = [np.sum(G[bins == k].sum(axis=0) ** 2) for k in kinds]
        share = [np.sum(w[bins == k] ** 2) / np.sum(w**2) for k in kinds]
        chi2 = sum(s / (np.sum(G**2) * f) for s, f in zip(sums, share, strict=True))
        return np.sqrt(2.0 * chi2) - np.sqrt(2.0 * (len(kinds) - 1) - 1.0)

    for u, value in zip(U.T, effects(U, Y, w), strict=True):
        largest = max(0.0, *(normal(u, count) for count in counts))
        assert_allclose(value, largest, rtol=1e-6, atol=1e-9)


def test_without_an_effect_it_is_about_standard_normal(effects):
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [effects(rng.standard_normal((159, 20)), rng.standard_t(3, 159)) for _ in range(50)]
    )
    assert np.mean(values == 0.0) == pytest.approx(0.5, abs=0.06)
    assert np.sqrt(np.mean(values**2)) == pytest.approx(np.sqrt(0.5), abs=0.1)


def test_a_wave_of_eight_periods_and_a_narrow_effect_are_clear(effects):
    """Eighths of the rows do not show the first."""
    rng = np.random.default_rng(0)
    U, noise = rng.random((320, 4)), 0.3 * rng.standard_normal(320)
    wave = np.sin(16.0 * np.pi * U[:, 1])
    narrow = 1.5 * ((U[:, 1] > 0.9) & (U[:, 1] < 0.97))
    for effect in (wave, narrow):
        assert_array_equal(
            effects(U, effect - effect.mean() + noise) > clear_level(4), [0, 1, 0, 0]
        )
    assert effects(U[:159], wave[:159])[1] < clear_level(4)


def test_few_rows_have_none_and_constants_neither(effects):
    U = np.random.default_rng(0).standard_normal((80, 2))
    U[:, 1] = 0.0
    Y = np.sin(4.0 * U[:, 0])
    first, second = effects(U, Y)
    assert first > 3.0
    assert second == 0.0
    assert_array_equal(effects(U[:79], Y[:79]), np.zeros(2))


def test_a_group_has_what_its_strongest_input_has(effects):
    U = np.random.default_rng(0).standard_normal((400, 4))
    alone = effects(U, np.sin(4.0 * U[:, 2]))
    together = effects(U, np.sin(4.0 * U[:, 2]), groups=np.array([0, 0, 1, 1]))
    assert_array_equal(together, [*2 * [alone[:2].max()], *2 * [alone[2]]])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_wave_beside_a_linear_effect_is_found(seed):
    """Both samples had a linear model of the other input, and R2 of 0.66."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((300, 10))
    y = np.sin(3.0 * X[:, 0]) + X[:, 1]
    model = ImplicitRegressor(random_state=0).fit(X, y + 0.3 * rng.standard_normal(300))
    assert_array_equal(np.flatnonzero(model.support_), [0, 1])
    assert model.score(X, y) > 0.95
