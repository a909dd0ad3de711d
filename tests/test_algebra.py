"""Connections of models against what they are defined to be, and other coordinates."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from bcd_implicit import IllPosedError, ImplicitModel, algebra
from bcd_implicit.per_state import PerState, Softmax


def make(p=4, n=6, q=3, seed=0, activation="relu", kind=np.asarray, loops=True):
    rng = np.random.default_rng(seed)
    A = 0.15 * rng.standard_normal((n, n)) if loops else 3 * np.triu(rng.standard_normal((n, n)), 1)
    return ImplicitModel(
        kind(A),
        kind(rng.standard_normal((n, p))),
        kind(rng.standard_normal((q, n))),
        kind(rng.standard_normal((q, p))),
        rng.standard_normal(n),
        rng.standard_normal(q),
        activation,
    )


def inputs(p=4, m=50, seed=7):
    return np.random.default_rng(seed).standard_normal((m, p))


@pytest.fixture(params=["dense", "sparse", "mixed"])
def pair(request):
    kind = sparse.csr_array if request.param == "sparse" else np.asarray
    other = PerState([("tanh", [0, 2]), ("relu", [1, 3, 4, 5])])
    return make(kind=kind), make(seed=1, activation=other if request.param == "mixed" else "relu")


def test_chains_sums_and_stacks(pair):
    f, g = pair
    h = make(p=3, seed=2, activation="tanh")
    U = inputs()
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(algebra.cascade(f, h).predict(U), h.predict(f.predict(U)), **close)
    np.testing.assert_allclose(algebra.add(f, g).predict(U), f.predict(U) + g.predict(U), **close)
    both = np.hstack([f.predict(U), g.predict(U)])
    np.testing.assert_allclose(algebra.concatenate(f, g).predict(U), both, **close)
    apart = algebra.diagonal(f, g).predict(np.hstack([U, U]))
    np.testing.assert_allclose(apart, both, **close)
    for joined in (algebra.cascade(f, h), algebra.add(f, g)):
        assert joined.n_states == 12
        assert sparse.issparse(joined.A)


def test_affine_maps(pair):
    f, _ = pair
    rng = np.random.default_rng(3)
    P, s, Q, r = (rng.standard_normal(size) for size in ((2, 3), 2, (4, 5), 4))
    U = inputs(5)
    expected = f.predict(U @ Q.T + r, tol=1e-14) @ P.T + s
    np.testing.assert_allclose(
        algebra.affine(f, P, s, Q, r).predict(U, tol=1e-14), expected, rtol=1e-9
    )
    V = inputs()
    same = algebra.affine(f).predict(V, tol=1e-14)
    np.testing.assert_allclose(same, f.predict(V, tol=1e-14), rtol=1e-11)


def test_feedback_through_a_matrix_and_through_a_model(pair):
    f, _ = pair
    K = 0.002 * np.random.default_rng(4).standard_normal((4, 3))
    closed = algebra.feedback(f, K)
    U = inputs()
    y = closed.predict(U, tol=1e-12)
    np.testing.assert_allclose(y, f.predict(U + y @ K.T, tol=1e-12), atol=1e-9)
    g = make(p=3, q=4, seed=5, activation="tanh")
    g = algebra.affine(g, P=0.0002 * np.eye(4))
    closed = algebra.feedback(f, g)
    assert (closed.n_inputs, closed.n_outputs, closed.n_states) == (4, 3, 12)
    y = closed.predict(U, tol=1e-12)
    np.testing.assert_allclose(y, f.predict(U + g.predict(y, tol=1e-12), tol=1e-12), atol=1e-9)


def test_feedback_without_feedthrough():
    relu = ImplicitModel([[0.0]], [[1.0]], [[1.0]], [[0.0]])
    np.testing.assert_allclose(algebra.feedback(relu, [[-0.5]]).predict([[3.0]]), [[2.0]])


@pytest.mark.parametrize("kind", ["matrix", "model", "feedthrough"])
@pytest.mark.parametrize("feedthrough", [0.0, 0.1])
def test_feedback_to_many_inputs_needs_no_square_of_them(feedthrough, kind):
    p = 3000
    f = ImplicitModel([[0.0]], np.eye(1, p), [[1.0]], feedthrough * np.eye(1, p))
    gain = 0.3 * np.eye(p, 1)
    g = ImplicitModel([[0.0]], [[1.0]], gain, gain * (kind == "feedthrough"))
    tracemalloc.start()
    closed = algebra.feedback(f, gain if kind == "matrix" else g)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < p * p
    U = np.random.default_rng(0).standard_normal((3, p))
    y = closed.predict(U)
    back = y @ gain.T if kind == "matrix" else g.predict(y)
    np.testing.assert_allclose(y, f.predict(U + back), atol=1e-9)


def test_ill_posed_feedback_is_refused():
    relu = ImplicitModel([[0.0]], [[1.0]], [[1.0]], [[0.0]])
    with pytest.raises(IllPosedError, match=r"feedback is not well-posed: .* Use a smaller gain"):
        algebra.feedback(relu, [[1.5]])
    wire = ImplicitModel([[0.0]], [[0.0]], [[0.0]], [[1.0]])
    with pytest.raises(IllPosedError, match="loop through D alone is singular"):
        algebra.feedback(wire, [[1.0]])
    soft = PerState([(Softmax(), [[0, 1]])])
    model = ImplicitModel(np.zeros((2, 2)), np.eye(2), np.eye(2), np.zeros((2, 2)), activation=soft)
    with pytest.raises(IllPosedError, match=r"Softmax\(\) stands in a feedback loop"):
        algebra.feedback(model, 0.1 * np.eye(2))


@pytest.mark.parametrize(
    ("connect", "message"),
    [
        (lambda f, g: algebra.cascade(f, f), "second must take the 3 outputs of first"),
        (lambda f, g: algebra.add(f, g), "must have as many inputs; got 4 and 5"),
        (lambda f, g: algebra.concatenate(f, g), "must have as many inputs"),
        (lambda f, g: algebra.add(f, algebra.affine(f, P=np.ones((1, 3)))), "as many outputs"),
        (lambda f, g: algebra.affine(f, P=np.ones((2, 2))), r"P must have shape \('any', 3\)"),
        (lambda f, g: algebra.affine(f, Q=np.ones((2, 2))), r"Q must have shape \(4, 'any'\)"),
        (lambda f, g: algebra.affine(f, s=np.ones(2)), r"s must have shape \(3,\)"),
        (lambda f, g: algebra.affine(f, r=np.ones(2)), r"r must have shape \(4,\)"),
        (lambda f, g: algebra.feedback(f, np.ones((3, 4))), r"gain must have shape \(4, 3\)"),
        (lambda f, g: algebra.affine(f, P=np.full((1, 3), np.nan)), "P must have finite entries"),
        (lambda f, g: algebra.affine(f, r=np.full(4, np.inf)), "r must have finite entries"),
        (lambda f, g: algebra.feedback(f, np.full((4, 3), np.nan)), "gain must have finite entr"),
        (lambda f, g: algebra.feedback(f, g), "gain must have 3 inputs and 4 outputs"),
    ],
)
def test_connections_that_do_not_fit(connect, message):
    with pytest.raises(ValueError, match=message):
        connect(make(), make(p=5))


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("loops", [False, True])
def test_rescaling_bounds_the_row_sums_and_keeps_predictions(kind, loops):
    model = make(kind=kind, loops=loops)
    if loops:
        A = model.A.copy() if kind is np.asarray else model.A.toarray()
        A[:3, 3:] *= 30.0
        A[3:, :3] = 0.0
        model = ImplicitModel(kind(A), model.B, model.C, model.D, model.b, model.d)
    assert abs(model.A).sum(axis=1).max() > 1.0
    new = model.rescaled()
    assert abs(new.A).sum(axis=1).max() < 1.0
    assert sparse.issparse(new.A) == sparse.issparse(model.A)
    expected = model.predict(inputs(), tol=1e-14)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(new.predict(inputs(), tol=1e-14), expected, atol=1e-12 * scale)


def test_rescaling_is_refused_where_it_would_change_the_model():
    for kind in (np.asarray, sparse.csr_array):
        with pytest.raises(ValueError, match="positively homogeneous"):
            make(activation="tanh", kind=kind).rescaled()
    n = 40
    deep = ImplicitModel(
        sparse.diags_array(np.full(n - 1, 1e10), offsets=1), np.eye(n), np.eye(n), np.zeros((n, n))
    )
    with pytest.raises(IllPosedError, match="beyond the precision of float64"):
        deep.rescaled()


def test_rescaling_many_layers_keeps_small_predictions():
    """In single precision, with the units of the last layer 1e33 times those of the first."""
    n = 28
    A = sparse.diags_array(np.full(n - 1, 8.0, np.float32), offsets=1)
    B = np.zeros((n, 1), np.float32)
    B[-1] = 1e-34
    deep = ImplicitModel(A, B, np.eye(1, n, dtype=np.float32), np.zeros((1, 1), np.float32))
    U = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(deep.rescaled().predict(U), 8.0 ** (n - 1) * B[-1:], rtol=1e-6)


def test_permuted_and_triangular_forms():
    rng = np.random.default_rng(0)
    phi = PerState([("relu", [0, 2, 4]), ("tanh", [1]), (Softmax(), [[3, 5]])])
    base = make(loops=False)
    A = base.A.copy()
    A[3, 5] = A[5, 3] = A[3, 4] = A[4, 3] = A[4, 5] = 0.0
    model = ImplicitModel(A, base.B, base.C, base.D, base.b, base.d, phi)
    expected = model.predict(inputs())
    order = rng.permutation(6)
    other = model.permuted(order)
    np.testing.assert_allclose(other.predict(inputs()), expected, rtol=1e-12)
    np.testing.assert_allclose(other.states(inputs()), model.states(inputs())[:, order])
    form = other.upper_triangular_form()
    assert not np.tril(form.A.toarray()).any()
    np.testing.assert_allclose(form.predict(inputs()), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="order must name each of 6 states once"):
        model.permuted([0, 1, 2, 3, 4, 4])
    with pytest.raises(ValueError, match=r"no triangular form: states \[0, 1, 2, 3, 4, 5\]"):
        make().upper_triangular_form()


def test_rescaled_row_sums_hold_in_single_precision():
    """In double precision they do; one is above 1 when its entries are rounded."""
    A = [[0.11447078734636307, 0.7245108485221863], [0.9976885914802551, 0.18372400104999542]]
    blocks = [sparse.csr_array(np.array(M, np.float32)) for M in (A, np.eye(2), np.eye(2))]
    with pytest.raises(IllPosedError, match="rescaling needs"):
        ImplicitModel(*blocks, blocks[1]).rescaled()


@pytest.mark.parametrize("order", [[0.7, 1.0], [True, False]])
def test_an_order_is_of_whole_numbers(order):
    model = ImplicitModel(np.zeros((2, 2)), np.eye(2), np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="order must name each of 2 states once"):
        model.permuted(order)
