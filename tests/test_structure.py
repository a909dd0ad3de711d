"""Block substitution: what it finds, what it certifies, and what it refuses."""

import copy
import json
from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from bcd_implicit import ImplicitModel
from bcd_implicit.activations import Relu, SoftThreshold, Tanh, get_activation
from bcd_implicit.exceptions import EquilibriumError, IllPosedError
from bcd_implicit.per_state import PerState, Product, Softmax, get_map
from bcd_implicit.structure import BlockTriangular, block_triangular


def network(sizes=(5, 40, 30, 3), dtype=float, seed=0):
    """Return a random layered network with states in a random order, and its forward pass."""
    rng = np.random.default_rng(seed)
    W = [rng.standard_normal((k, j)).astype(dtype) for j, k in pairwise(sizes)]
    b = [rng.standard_normal(k).astype(dtype) for k in sizes[1:]]
    n = sum(sizes[1:-1])
    A, B, C = np.zeros((n, n)), np.zeros((n, sizes[0])), np.zeros((sizes[-1], n))
    B[: sizes[1]], C[:, -sizes[-2] :] = W[0], W[-1]
    start = 0
    for layer in W[1:-1]:
        rows = start + layer.shape[1]
        A[rows : rows + len(layer), start:rows] = layer
        start = rows
    order = rng.permutation(n)
    blocks = [A[order][:, order], B[order], C[:, order], np.zeros((sizes[-1], sizes[0]))]
    blocks = [block.astype(dtype) for block in blocks]

    def forward(U):
        X = U
        for weights, bias in zip(W[:-1], b[:-1], strict=True):
            X = np.maximum(X @ weights.T + bias, 0)
        return X @ W[-1].T + b[-1]

    return blocks, np.concatenate(b[:-1])[order], b[-1], forward


def sparsely(blocks):
    return [sparse.csr_array(block) for block in blocks]


@pytest.mark.parametrize("kind", [list, sparsely])
@pytest.mark.parametrize("given", [np.asarray, sparse.csr_array])
def test_a_layered_network_is_found_by_substitution(kind, given):
    blocks, b, d, forward = network()
    model = ImplicitModel(*kind(blocks), b, d)
    assert isinstance(model.contraction, BlockTriangular)
    assert (model.contraction_factor, model.contraction.levels) == (0.0, 2)
    U = np.random.default_rng(1).standard_normal((1000, 5))
    np.testing.assert_allclose(model.predict(given(U)), forward(U), rtol=1e-12, atol=1e-10)
    X = model.states(given(U))
    assert model.residual(given(U), X) < 1e-10
    np.testing.assert_allclose(X @ blocks[2].T + d, forward(U), rtol=1e-12, atol=1e-10)


def test_a_dense_matrix_with_a_loop_or_many_levels_is_iterated():
    blocks, b, d, _ = network()
    loop = blocks[0].copy()
    loop[0, 0] = 0.5
    chain = np.diag(np.full(69, 0.5), 1)
    for A in (loop, chain):
        model = ImplicitModel(A, *blocks[1:], b, d)
        assert not isinstance(model.contraction, BlockTriangular)
        U = np.ones((3, 5))
        other = ImplicitModel(sparse.csr_array(A), *blocks[1:], b, d)
        np.testing.assert_allclose(model.predict(U), other.predict(U), rtol=1e-9, atol=1e-8)


def test_float32_stays_float32():
    blocks, b, d, forward = network(dtype=np.float32)
    model = ImplicitModel(*sparsely(blocks), b, d)
    U = np.random.default_rng(1).standard_normal((10, 5)).astype(np.float32)
    prediction = model.predict(U)
    assert prediction.dtype == model.A.dtype == model.states(U).dtype == np.float32
    np.testing.assert_allclose(prediction, forward(U), rtol=1e-4, atol=1e-3)


def loops(scale=1.0):
    """Return two loops in a chain, the second fed by the first with large weights."""
    rng = np.random.default_rng(3)
    A = np.zeros((12, 12))
    A[:4, :4] = 0.2 * rng.standard_normal((4, 4))
    A[8:, 8:] = 0.2 * rng.standard_normal((4, 4))
    A[4:8, :4] = scale * rng.standard_normal((4, 4))
    A[8:, 4:8] = scale * rng.standard_normal((4, 4))
    return A


def test_loops_keep_the_tolerance_along_a_chain():
    A, B = loops(30.0), np.ones((12, 1))
    model = ImplicitModel(sparse.csr_array(A), B, np.eye(12), np.zeros((12, 1)))
    assert [len(s.states) for s in model.contraction.stages] == [4, 4, 4]
    assert 0.0 < model.contraction_factor < 1.0
    U = np.linspace(-3, 3, 50)[:, None]
    exact = np.zeros((50, 12))
    for _ in range(2000):
        exact = np.maximum(exact @ A.T + U, 0)
    for tol in (1e-3, 1e-8):
        error = np.abs(model.states(U, tol=tol) - exact).max(axis=1)
        assert np.all(error <= tol * np.maximum(1.0, np.abs(exact).max(axis=1)))


@pytest.mark.parametrize("kind", ["products", "chain"])
def test_loops_whose_errors_have_no_bound_behind_them_are_solved_up_to_rounding(kind):
    # products behind a loop have no Lipschitz constant; factors of 99 overflow along 400 loops
    if kind == "products":
        A = sparse.csr_array([[0.5, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
        phi = PerState([("tanh", [0]), ("product", [[1, 3]]), ("identity", [2])])
    else:
        A = sparse.diags_array([0.99 * np.ones(400), np.ones(399)], offsets=[0, -1])
        phi = "tanh"
    n = A.shape[0]
    B, U = np.ones((n, 1)), np.linspace(-1, 1, 5)[:, None]
    model = ImplicitModel(A, B, np.eye(n), np.zeros((n, 1)), activation=phi)
    assert model.residual(U, model.states(U, tol=1.0)) < 1e-12


def test_a_loop_that_is_no_contraction_is_refused():
    A = loops()
    A[9, 9] = 1.5
    with pytest.raises(IllPosedError, match=r"the loop of 4 states \[8, 9, 10, 11\] is"):
        ImplicitModel(sparse.csr_array(A), np.ones((12, 1)), np.eye(12), np.zeros((12, 1)))


def test_lipschitz_constants_of_each_state_count():
    A = sparse.csr_array([[0.0, 3.0], [0.3, 0.0]])
    one = np.ones((2, 1))
    mixed = PerState([("sigmoid", [0]), ("relu", [1])])
    model = ImplicitModel(A, one, one.T, [[0.0]], activation=mixed)
    assert model.residual([[0.7]], model.states([[0.7]])) < 1e-9
    with pytest.raises(IllPosedError):
        ImplicitModel(sparse.csr_array([[0.0, 3.0], [0.4, 0.0]]), one, one.T, [[0.0]])


def test_group_maps():
    rng = np.random.default_rng(0)
    A = sparse.csr_array(
        np.vstack([np.zeros((5, 9)), rng.standard_normal((4, 9)) * ([1] * 5 + [0] * 4)])
    )
    phi = PerState([(Softmax(), [[4, 0, 2]]), (Product(), [[1, 3]]), ("tanh", [5, 6, 7, 8])])
    B = rng.standard_normal((9, 2))
    model = ImplicitModel(A, B, np.eye(9), np.zeros((9, 2)), activation=phi)
    U = rng.standard_normal((20, 2))
    Z = U @ B.T
    X = model.states(U)
    E = np.exp(Z[:, [4, 0, 2]])
    np.testing.assert_allclose(X[:, [4, 0, 2]], E / E.sum(axis=1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(X[:, 1], Z[:, 1] * Z[:, 3], rtol=1e-12)
    np.testing.assert_allclose(X[:, 3], Z[:, 3], rtol=1e-12)
    np.testing.assert_allclose(X[:, 5:], np.tanh(X @ A.toarray()[5:].T + Z[:, 5:]), rtol=1e-12)
    assert model.residual(U, X) < 1e-14


@pytest.mark.parametrize("entry", [(0, 0), (0, 2), (0, 1)])
def test_group_maps_in_loops_are_refused(entry):
    A = np.zeros((3, 3))
    A[2, 0] = 1.0
    A[entry] = 1e-9
    phi = PerState([(Softmax(), [[0, 1]]), ("relu", [2])])
    with pytest.raises(IllPosedError, match=r"Softmax\(\) stands in a feedback loop"):
        block_triangular(sparse.csr_array(A), phi)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([("relu", [0, 0])], "name each of 2 states once"),
        ([("relu", [0, 2])], "name each of 2 states once"),
        ([("relu", [[0, 1]])], "must be a vector of places"),
        ([(Softmax(), [0, 1])], "must be groups of its size"),
        ([(Product(), [[0, 1, 2]])], "must be groups of its size"),
        ([("gelu", [0])], "activation must be one of"),
    ],
)
def test_bad_parts(parts, message):
    with pytest.raises(ValueError, match=message):
        PerState(parts)


def test_the_activation_must_fit_the_states():
    with pytest.raises(ValueError, match="activation must name 1 states; got 2"):
        ImplicitModel([[0.0]], [[1.0]], [[1.0]], [[0.0]], activation=PerState([("relu", [0, 1])]))


def test_parts_as_an_activation():
    phi = PerState([("tanh", [2, 0]), ("leaky_relu", [1])])
    Z = np.array([[1.0, -1.0, 2.0]])
    np.testing.assert_allclose(phi.value(Z), [[np.tanh(1), -0.01, np.tanh(2)]])
    np.testing.assert_allclose(phi.derivative(Z)[0, 1], 0.01)
    assert phi.permuted(np.array([1, 2, 0])) == PerState([("tanh", [1, 2]), ("leaky_relu", [0])])
    assert (phi.restricted(np.array([0, 2])), phi.lipschitz) == (Tanh(), 1.0)
    assert not phi.positively_homogeneous
    assert PerState([("relu", [0]), ("identity", [1])]).positively_homogeneous
    assert phi != PerState([("tanh", [2, 1]), ("leaky_relu", [0])])
    assert hash(phi) == hash(copy.deepcopy(phi))
    out = np.empty_like(Z)
    assert phi.value(Z, out=out) is out
    with pytest.raises(ValueError, match="no vector of derivatives"):
        PerState([(Softmax(), [[0, 1, 2]])]).derivative(Z)
    assert get_map(Relu()) == get_activation("relu")


def test_overflow_is_an_error():
    one = sparse.csr_array([[1.0]])
    chain = ImplicitModel(
        sparse.csr_array([[0.0, 1e300], [0.0, 0.0]]), [[0.0], [1.0]], [[1, 0]], [[0]]
    )
    with pytest.raises(EquilibriumError, match="inputs are too large"):
        chain.predict([[1e200]])
    for activation in ("relu", "tanh"):  # of minus infinity these are finite
        network = ImplicitModel(0.0 * one, -1e10 * one, one, 0.0 * one, activation=activation)
        for method in (network.predict, network.states):
            with pytest.raises(EquilibriumError, match="inputs are too large"):
                method([[1e300]])
    loop = ImplicitModel(0.9 * one, 1e10 * one, one, 0.0 * one)
    with pytest.raises(EquilibriumError, match="a loop of 1 states is not known"):
        loop.predict([[1e300]])


def mixed_model():
    blocks, b, d, _ = network()
    phi = PerState(
        [(SoftThreshold(0.3), np.arange(35)), (Softmax(), np.arange(35, 70).reshape(7, 5))]
    )
    blocks[0] *= blocks[0] > 0
    A = np.triu(blocks[0], 36)
    return ImplicitModel(
        sparse.csr_array(A), blocks[1], sparse.csr_array(blocks[2]), blocks[3], b, d, phi
    )


def test_files_keep_sparse_matrices_and_parts(tmp_path):
    model = mixed_model()
    path = tmp_path / "model.npz"
    model.save(path)
    other = ImplicitModel.load(path)
    assert other.activation == model.activation
    for name in "ABCD":
        mine, its = getattr(model, name), getattr(other, name)
        assert sparse.issparse(mine) == sparse.issparse(its)
        assert abs(mine - its).max() == 0.0
    U = np.random.default_rng(0).standard_normal((9, 5))
    assert other.predict(U).tobytes() == model.predict(U).tobytes()
    assert copy.deepcopy(model).predict(U).tobytes() == model.predict(U).tobytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A.indices", np.full(3, 99)),
        ("A.indices", np.negative),
        ("A.indptr", np.zeros(2, dtype=int)),
        ("A.shape", np.array([70, 7])),
        ("C.data", None),
        ("phi.0", None),
    ],
)
def test_tampered_sparse_files_are_refused(tmp_path, name, value):
    path = tmp_path / "model.npz"
    mixed_model().save(path)
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    if value is None:
        del arrays[name]
    elif callable(value):
        arrays[name] = value(arrays[name])
    else:
        arrays[name] = value
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match=r"not a model that can be read|must have shape"):
        ImplicitModel.load(path)


def test_files_of_another_activation_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    mixed_model().save(path)
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    header = json.loads(str(arrays["header"]))
    header["activation"]["parts"][0] = {"name": "gelu"}
    arrays["header"] = np.array(json.dumps(header))
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="activation must be one of"):
        ImplicitModel.load(path)


def test_sparse_matrices_are_checked_copied_and_read_only():
    blocks, b, d, _ = network()
    A = sparse.csr_array(blocks[0])
    model = ImplicitModel(A, *blocks[1:], b, d)
    A.data[:] = 7
    assert abs(model.A - blocks[0]).max() == 0.0
    with pytest.raises(ValueError, match="read-only"):
        model.A.data[0] = 1
    bad = sparse.csr_array(blocks[1])
    bad.data[0] = np.nan
    with pytest.raises(ValueError, match="B must have finite entries"):
        ImplicitModel(blocks[0], bad, *blocks[2:], b, d)
    with pytest.raises(ValueError, match="B must have shape"):
        ImplicitModel(blocks[0], sparse.csr_array((3, 5)), *blocks[2:], b, d)


def test_unused_inputs_do_not_change_a_bit():
    blocks, b, d, _ = network()
    blocks[1][:, 2] = 0
    U = np.random.default_rng(0).standard_normal((9, 5))
    other = U.copy()
    other[:, 2] = 1e300
    for kind in (list, sparsely):
        model = ImplicitModel(*kind(blocks), b, d)
        assert model.n_active_inputs == 4
        assert model.predict(U).tobytes() == model.predict(other).tobytes()


def test_any_number_of_threads_gives_the_same_bits():
    blocks, b, d, _ = network((5, 4000, 300, 3))
    blocks[0][:, ::5] = 0
    keep = np.random.default_rng(0).random(blocks[0].shape) < 0.02
    model = ImplicitModel(sparse.csr_array(blocks[0] * keep), *blocks[1:], b, d)
    U = np.random.default_rng(1).standard_normal((300, 5))
    assert len(model._blocks(300)) > 2
    assert model.predict(U, n_jobs=2).tobytes() == model.predict(U).tobytes()


def test_activations_inside_activations():
    inner = PerState([("relu", [1]), (Softmax(), [[0, 2]])])
    phi = PerState([(inner, [3, 0, 1]), ("tanh", [2])])
    assert phi == PerState([("relu", [0]), (Softmax(), [[3, 1]]), ("tanh", [2])])
    eye, U = np.eye(4), np.random.default_rng(0).standard_normal((6, 4))
    model = ImplicitModel(0.0 * eye, eye, eye, 0.0 * eye, activation=phi)
    np.testing.assert_allclose(model.predict(U), phi.value(U), atol=1e-14)
    with pytest.raises(ValueError, match="must be a vector of 3 places"):
        PerState([(inner, [0, 1])])
    with pytest.raises(IllPosedError):
        ImplicitModel(0.1 * np.ones((4, 4)), eye, eye, eye, activation=phi)
