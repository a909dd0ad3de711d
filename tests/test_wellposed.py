"""Well-posedness: every claimed contraction is checked in extended precision."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcd_implicit.exceptions import IllPosedError
from bcd_implicit.wellposed import contraction, perron_frobenius, rescale, row_sums, verify


def random_matrix(n, seed=0, density=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n)) * (rng.random((n, n)) < density)


def with_radius(A, radius):
    return A * (radius / np.abs(np.linalg.eigvals(np.abs(A))).max())


def certify(A, found, lipschitz=1.0):
    """Check ``L |A| s <= r s``, 0 <= r < 1 and the normalisation, in 80-bit arithmetic."""
    s = found.scale.astype(np.longdouble)
    assert np.all(lipschitz * (np.abs(A).astype(np.longdouble) @ s) <= found.factor * s)
    assert 0 <= found.factor < 1
    assert np.all(s > 0)
    assert s.max() == 1
    assert not found.scale.flags.writeable


def test_row_sums():
    np.testing.assert_array_equal(row_sums([[1, -2], [0.5, 0]]), [3, 0.5])


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_perron_frobenius_of_dense_matrices(n):
    A = random_matrix(n, seed=n)
    expected = np.abs(np.linalg.eigvals(np.abs(A))).max()
    assert perron_frobenius(A) == pytest.approx(expected, rel=1e-11)


def test_perron_frobenius_of_special_matrices():
    cycle = np.roll(np.diag([0.5, 2.0, 4.0, 0.25]), 1, axis=1)
    assert perron_frobenius(cycle) == pytest.approx(1.0, rel=1e-12)
    long_cycle = np.roll(0.9 * np.eye(60), 1, axis=0)
    long_cycle[0, 0] = 0.1  # not periodic, with a tiny gap: the power iteration gives up
    values = np.abs(np.linalg.eigvals(long_cycle))
    assert perron_frobenius(long_cycle) == pytest.approx(values.max(), rel=1e-9)
    assert perron_frobenius(np.triu(np.full((9, 9), 1e9), 1)) == 0
    assert perron_frobenius(np.zeros((3, 3))) == 0


def test_row_sums_below_one():
    A = random_matrix(30)
    A *= 0.95 / row_sums(A)[:, np.newaxis]
    found = contraction(A)
    certify(A, found)
    assert found.factor == pytest.approx(0.95, rel=1e-12)


def test_sums_that_rounding_makes_smaller_are_certified():
    """Entries below half an ulp of the first are lost, where they are added to it."""
    A = np.zeros((2000, 2000))
    A[:, 0], A[:, 1:] = 0.5, 0.9 * 2.0**-54
    certify(A, contraction(A))
    # products of the least numbers vanish: a row sum of 1.47 would be one of nothing
    M = np.diag([0.1, 0.0, 0.0, 0.0])
    M[1:, 1:] = 0.49
    assert verify(M, np.array([1.0, 5e-324, 5e-324, 5e-324])) is None


def test_the_norm_of_the_fewest_iterations_is_taken():
    A = np.array([[0.1, 0.89], [0.01, 0.1]])  # row sums of 0.99, an eigenvalue of 0.194
    found = contraction(A)
    certify(A, found)
    assert found.factor < 0.2


@pytest.mark.parametrize("radius", [0.1, 0.9, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("n", [2, 15])
def test_perron_frobenius_below_one(n, radius):
    A = with_radius(random_matrix(n, seed=3), radius)
    A = A * (10.0 ** np.arange(n))[:, np.newaxis] / 10.0 ** np.arange(n)  # huge row sums
    found = contraction(A)
    certify(A, found)
    assert radius <= found.factor * (1 + 1e-12)


@pytest.mark.parametrize("entry", [1.0, 1e3, 1e6])
def test_triangular_with_huge_entries(entry):
    A = np.triu(np.full((6, 6), entry), 1) + np.diag([0.9, 0, -0.5, 0.99, 0.3, 0.1])
    certify(A, contraction(A))
    certify(A.T, contraction(A.T))


def test_block_triangular():
    A = np.zeros((9, 9))
    for k in range(3):
        A[3 * k : 3 * k + 3, 3 * k : 3 * k + 3] = with_radius(random_matrix(3, seed=k), 0.8)
    A[:3, 3:] = 50.0
    shuffled = np.random.default_rng(0).permutation(9)
    A = A[np.ix_(shuffled, shuffled)]
    assert perron_frobenius(A) == pytest.approx(0.8, rel=1e-10)
    certify(A, contraction(A))


@pytest.mark.parametrize("lipschitz", [0.25, 1.0, 2.0])
def test_lipschitz_constant(lipschitz):
    A = with_radius(random_matrix(8), 0.9 / lipschitz)
    certify(A, contraction(A, lipschitz), lipschitz)
    with pytest.raises(IllPosedError):
        contraction(A * 1.2, lipschitz)


@settings(max_examples=60)
@given(
    n=st.integers(1, 8),
    seed=st.integers(0, 10_000),
    density=st.sampled_from([0.2, 0.5, 1.0]),
    size=st.floats(0.01, 3.0),
)
def test_found_exactly_when_the_radius_is_below_one(n, seed, density, size):
    A = random_matrix(n, seed, density) * size
    radius = perron_frobenius(A)
    try:
        certify(A, contraction(A))
        assert radius < 1
    except IllPosedError:
        assert radius > 1 - 1e-6


def test_no_state_and_one_state():
    assert contraction(np.zeros((0, 0))).factor == 0
    assert contraction([[-0.5]]).factor == pytest.approx(0.5)
    assert contraction([[0.0]]).factor == 0


def test_message_names_numbers_block_and_remedies():
    A = np.zeros((6, 6))
    A[np.ix_([1, 4], [1, 4])] = [[1.0, 0.5], [0.5, 1.0]]
    A[0, 5] = 7.0
    with pytest.raises(IllPosedError) as caught:
        contraction(A)
    for part in ("row sum of |A| is 7", "is 1.5", "states [1, 4]", "0.666667", "project its rows"):
        assert part in str(caught.value)


def test_message_for_a_large_block():
    with pytest.raises(IllPosedError, match="9] and more"):
        contraction(np.full((12, 12), 0.2))


def test_too_close_to_one():
    with pytest.raises(IllPosedError, match="no contraction can be verified"):
        contraction([[1 - 1e-16]])


def test_out_of_range():
    # well-posed in theory, but the weights would span 600 orders of magnitude
    A = np.diag(np.full(3, 1e300), 1)
    with pytest.raises(IllPosedError, match="no contraction can be verified"):
        contraction(A)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.ones((2, 3)), "square"),
        (np.ones(3), "square"),
        ([[np.nan]], "finite"),
        ([[np.nan, 1.0], [1.0, 0.0]], "finite"),
        (np.array([[2j]]), "real"),
    ],
)
@pytest.mark.parametrize("function", [contraction, perron_frobenius])
def test_bad_matrices(function, A, message):
    with pytest.raises(ValueError, match=message):
        function(A)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_rescale(activation):
    rng = np.random.default_rng(5)
    A = np.triu(rng.normal(scale=5, size=(6, 6)), 1) + np.diag(rng.uniform(-0.9, 0.9, 6))
    B, C, b = rng.normal(size=(6, 3)), rng.normal(size=(2, 6)), rng.normal(size=6)
    new = rescale(A, B, C, b, activation)
    assert row_sums(new.A).max() < 1
    np.testing.assert_allclose(
        new.A * new.scale[:, np.newaxis], A * new.scale, rtol=1e-14, atol=1e-300
    )
    from bcd_implicit.model import ImplicitModel

    D, U = rng.normal(size=(2, 3)), rng.normal(size=(20, 3))
    before = ImplicitModel(A, B, C, D, b, activation=activation).predict(U, tol=1e-15)
    after = ImplicitModel(new.A, new.B, new.C, D, new.b, activation=activation).predict(U, 1e-15)
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12 * np.abs(before).max())


def test_rescale_keeps_float32():
    A = np.array([[0.5, 8.0], [0.0, 0.5]], dtype=np.float32)
    new = rescale(A, A, A)
    assert {array.dtype for array in new[:4]} == {np.dtype(np.float32)}
    assert not new.b.any()
    assert row_sums(new.A).max() < 1


def test_rescale_does_not_cut_off_whole_numbers():
    A, B, C, b = (
        np.array([[0, 3], [0, 0]]),
        np.array([[0, 1], [2, 0]]),
        np.eye(2, dtype=int),
        [1, 2],
    )
    expected = rescale(*(np.array(M, dtype=float) for M in (A, B, C, b)))
    for block, wanted in zip(rescale(A, B, C, np.array(b)), expected, strict=True):
        np.testing.assert_array_equal(block, wanted)


def test_rescale_refuses():
    A = np.eye(2) * 0.5
    with pytest.raises(ValueError, match="positively homogeneous"):
        rescale(A, A, A, activation="tanh")
    with pytest.raises(IllPosedError):
        rescale(4 * A, A, A)
    close = np.array([[1 - 1e-8]], dtype=np.float64)
    with pytest.raises(IllPosedError):
        rescale(close.astype(np.float32), A, A)


def test_a_lipschitz_constant_is_not_negative():
    with pytest.raises(ValueError, match="lipschitz must not be negative"):
        contraction([[2.0]], -1.0)


def test_rescaling_that_rounds_a_row_sum_up_to_one_is_refused():
    A = np.abs(random_matrix(8)).astype(np.float32)
    A = (A * ((1.0 - 3e-8) / perron_frobenius(A))).astype(np.float32)
    to_one_itself = np.array([[0.0, 5.079146862030029], [0.1968834549188614, 0.0]], np.float32)
    for M in (A, to_one_itself):
        one = np.eye(len(M), dtype=np.float32)
        assert contraction(M).factor < 1.0
        with pytest.raises(IllPosedError, match="too close"):
            rescale(M, one, one)
