"""The model: immutability, certified predictions, exact irrelevance and safe files."""

import copy
import json
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from bcd_implicit.activations import Activation, Clip
from bcd_implicit.equilibrium import solve_adjoint
from bcd_implicit.exceptions import EquilibriumError, IllPosedError
from bcd_implicit.iteration import Iteration
from bcd_implicit.model import ImplicitModel
from bcd_implicit.wellposed import contraction

ARRAYS = ("A", "B", "C", "D", "b", "d")


def matrices(n=6, p=8, q=3, seed=0, dtype=np.float64, active=None):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= 0.9 / np.abs(A).sum(axis=1, keepdims=True)
    result = {
        "A": A,
        "B": rng.normal(size=(n, p)),
        "C": rng.normal(size=(q, n)),
        "D": rng.normal(size=(q, p)),
        "b": rng.normal(size=n),
        "d": rng.normal(size=q),
    }
    if active is not None:
        off = np.setdiff1d(np.arange(p), active)
        result["B"][:, off] = 0
        result["D"][:, off] = 0
    return {name: array.astype(dtype) for name, array in result.items()}


def inputs(m=20, p=8, seed=1):
    return np.random.default_rng(seed).normal(size=(m, p))


@pytest.mark.parametrize(
    "activation", ["relu", "leaky_relu", "tanh", "sigmoid", "identity", "clip", "soft_threshold"]
)
def test_prediction_satisfies_the_defining_equations(activation):
    arrays, U = matrices(), inputs()
    model = ImplicitModel(**arrays, activation=activation)
    X = model.states(U)
    assert model.residual(U, X) < 1e-9
    assert model.residual(U, X + 0.5) > 0.04
    Z = X @ arrays["A"].T + U @ arrays["B"].T + arrays["b"]
    np.testing.assert_allclose(X, model.activation.value(Z), atol=1e-9)
    expected = X @ arrays["C"].T + U @ arrays["D"].T + arrays["d"]
    np.testing.assert_allclose(model.predict(U), expected, atol=1e-9)


def test_properties_and_defaults():
    arrays = matrices(active=[1, 4])
    arrays["B"][:, 4] = 0
    model = ImplicitModel(*(arrays[name] for name in "ABCD"))
    assert (model.n_states, model.n_inputs, model.n_outputs) == (6, 8, 3)
    assert model.n_active_inputs == 2
    np.testing.assert_array_equal(np.flatnonzero(model.active_inputs), [1, 4])
    assert model.contraction_factor == pytest.approx(0.9)
    assert not model.b.any()
    assert not model.d.any()
    assert repr(model) == (
        "ImplicitModel(n_inputs=8, n_states=6, n_outputs=3, activation=Relu(), n_active_inputs=2)"
    )


def test_models_are_immutable():
    arrays = matrices()
    model = ImplicitModel(**arrays)
    for name in (*ARRAYS, "active_inputs"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(model, name)[...] = 0
    for name in ("A", "activation", "new"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(model, name, 1)
    with pytest.raises(AttributeError, match="immutable"):
        del model.A
    before = model.A.copy()
    arrays["A"][...] = 7  # the model has copies
    np.testing.assert_array_equal(model.A, before)


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_are_equal_and_immutable(clone):
    model = ImplicitModel(**matrices(), activation=Clip(-2, 2))
    other = clone(model)
    assert other.activation == model.activation
    np.testing.assert_array_equal(other.predict(inputs()), model.predict(inputs()))
    with pytest.raises(ValueError, match="read-only"):
        other.A[0, 0] = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"A": np.zeros((2, 3))}, r"A must have shape \(2, 2\)"),
        ({"A": np.zeros(3)}, "A must be a 2-dimensional"),
        ({"B": np.zeros((5, 8))}, r"B must have shape \(6, 8\)"),
        ({"C": np.zeros((3, 5))}, r"C must have shape \(3, 6\)"),
        ({"D": np.zeros((3, 7))}, r"D must have shape \(3, 8\)"),
        ({"b": np.zeros(5)}, r"b must have shape \(6,\)"),
        ({"d": np.zeros((3, 1))}, "d must be a 1-dimensional"),
        ({"B": np.full((6, 8), np.nan)}, "B must have finite"),
        ({"d": np.full(3, np.inf)}, "d must have finite"),
        ({"C": np.full((3, 6), "x")}, "C must be a 2-dimensional array of real numbers"),
        ({"D": np.zeros((3, 8), complex)}, "D must be a 2-dimensional array of real numbers"),
        ({"B": np.zeros((6, 0)), "D": np.zeros((3, 0))}, "needs a state, an input and an output"),
        ({"activation": "gelu"}, "activation must be one of"),
    ],
)
def test_bad_matrices(change, message):
    with pytest.raises(ValueError, match=message):
        ImplicitModel(**{**matrices(), **change})


def test_well_posedness_is_checked():
    arrays = matrices()
    with pytest.raises(IllPosedError, match="Perron-Frobenius eigenvalue"):
        ImplicitModel(**{**arrays, "A": np.eye(6)})
    # the sigmoid has Lipschitz constant 1/4
    for A in (3 * np.eye(6), sparse.csr_array(3 * np.eye(6))):
        model = ImplicitModel(**{**arrays, "A": A}, activation="sigmoid")
        assert model.contraction_factor == pytest.approx(0.75)
    # row sums above 1 are fine if the eigenvalue is below
    model = ImplicitModel(**{**arrays, "A": np.triu(np.full((6, 6), 3.0), 1)})
    assert model.residual(inputs(), model.states(inputs())) < 1e-8


@pytest.mark.parametrize(
    ("U", "message"),
    [
        (np.zeros(8), r"U.reshape\(1, -1\)"),
        (np.zeros((2, 7)), r"U must have shape \(m, 8\)"),
        (np.zeros((1, 2, 8)), r"U must have shape \(m, 8\)"),
        (np.full((2, 8), np.nan), "U must have finite entries"),
        (np.full((2, 8), np.inf), "U must have finite entries"),
        (np.full((2, 8), "a"), "U must hold real numbers"),
        (sparse.csr_array((2, 7)), r"U must have shape \(m, 8\)"),
        (sparse.csr_array(np.full((2, 8), np.nan)), "U must have finite entries"),
    ],
)
def test_bad_inputs(U, message):
    model = ImplicitModel(**matrices())
    for method in (model.predict, model.states):
        with pytest.raises(ValueError, match=message):
            method(U)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_the_first_row_that_is_not_finite_is_named(kind):
    U = inputs(5000)
    U[4700:4711], U[4711, 0], U[4800, 0] = 0.0, np.inf, np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in float64 in row 4711$"):
        ImplicitModel(**matrices()).predict(kind(U))


def test_bad_states():
    model = ImplicitModel(**matrices())
    with pytest.raises(ValueError, match=r"X must have shape \(20, 6\)"):
        model.residual(inputs(), np.zeros((20, 5)))


@pytest.mark.parametrize("tol", [-1e-9, np.nan])
def test_no_tolerance_is_below_zero(tol):
    model = ImplicitModel(**matrices())
    for found in (model.predict, model.states):
        with pytest.raises(ValueError, match="tol must be a number of at least 0; got"):
            found(inputs(), tol=tol)
    A, of = np.zeros((2, 2)), np.ones((1, 2))
    with pytest.raises(ValueError, match="tol must be a number of at least 0; got"):
        solve_adjoint(A, of, of, contraction(A), tol=tol)


def test_inputs_of_any_kind():
    model = ImplicitModel(**matrices())
    U = np.arange(16).reshape(2, 8)
    expected = model.predict(U.astype(float))
    for same in (U, U.tolist(), U.astype(object), U.astype(np.float32), np.asfortranarray(U)):
        np.testing.assert_allclose(model.predict(same), expected, rtol=1e-14)


@pytest.mark.parametrize("active", [None, [0, 5], []])
@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csr_matrix, sparse.coo_array])
def test_sparse_equals_dense(kind, active):
    model = ImplicitModel(**matrices(active=active))
    U = inputs() * (inputs(seed=9) > 0.5)
    np.testing.assert_allclose(model.predict(kind(U)), model.predict(U), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(model.states(kind(U)), model.states(U), rtol=1e-13, atol=1e-13)
    assert model.residual(kind(U), model.states(U)) < 1e-9


def test_no_rows():
    model = ImplicitModel(**matrices())
    for empty in (np.empty((0, 8)), sparse.csr_array((0, 8))):
        assert model.predict(empty).shape == (0, 3)
        assert model.states(empty).shape == (0, 6)
        assert model.residual(empty, np.empty((0, 6))) == 0


def test_blocks_of_rows(monkeypatch):
    model = ImplicitModel(**matrices())
    U = inputs(1000)
    whole = model.predict(U)
    monkeypatch.setattr(Iteration, "entries", 1)  # 64 rows a block
    np.testing.assert_allclose(model.predict(U), whole, rtol=1e-13, atol=1e-13)
    assert model.residual(U, model.states(U)) < 1e-9
    U[999, 0] = np.nan
    with pytest.raises(ValueError, match="row 999"):
        model.predict(U)


@pytest.mark.parametrize("n", [6, 80])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000),
    active=st.sets(st.integers(0, 7), max_size=7),
    size=st.sampled_from([1e-300, 1.0, 1e17, 1.7e308]),
)
def test_unselected_inputs_do_not_change_a_bit(n, kind, activation, seed, active, size):
    model = ImplicitModel(**matrices(n=n, seed=seed, active=list(active)), activation=activation)
    U = inputs(seed=seed)
    other = U.copy()
    noise = size * np.random.default_rng(seed).uniform(-1, 1, U.shape)
    other[:, ~model.active_inputs] = noise[:, ~model.active_inputs]
    assert model.predict(kind(U)).tobytes() == model.predict(kind(other)).tobytes()
    assert model.states(kind(U)).tobytes() == model.states(kind(other)).tobytes()


def test_float32_is_kept():
    arrays = matrices(dtype=np.float32)
    model = ImplicitModel(**arrays)
    assert all(getattr(model, name).dtype == np.float32 for name in ARRAYS)
    double = ImplicitModel(**{k: v.astype(np.float64) for k, v in arrays.items()})
    for U in (inputs(), inputs().astype(np.float32), sparse.csr_array(inputs())):
        prediction = model.predict(U)
        assert prediction.dtype == np.float32
        np.testing.assert_allclose(prediction, double.predict(U), atol=1e-4)
        assert model.states(U).dtype == np.float32
    mixed = ImplicitModel(**{**arrays, "d": arrays["d"].astype(np.float64)})
    assert mixed.A.dtype == np.float64
    with pytest.raises(ValueError, match="infinity in float32"):
        model.predict(np.full((1, 8), 1e39))


def test_overflow_is_an_error():
    model = ImplicitModel([[0.9]], [[1e10]], [[1.0]], [[0.0]])
    with pytest.raises(EquilibriumError, match="inputs are too large for float64"):
        model.predict([[1e300]])
    direct = ImplicitModel([[0.5]], [[0.0] * 3], [[1.0]], [[1e300, -1e300, 1e300]])
    with pytest.raises(EquilibriumError, match="inputs are too large for float64"):
        direct.predict([[1e300] * 3])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_residual_that_overflows_is_not_zero():
    model = ImplicitModel([[0.5, 1e10], [1e-15, 0.5]], [[-1e300], [0.0]], [[1.0, 1.0]], [[0.0]])
    assert not model.residual([[1e300]], [[0.0, 1e300]]) <= 1e300


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["model.npz", "no suffix"])
def test_round_trip(tmp_path, dtype, name):
    model = ImplicitModel(**matrices(dtype=dtype, active=[2]), activation=Clip(-3, 0.1))
    path = tmp_path / name
    model.save(path)
    model.save(str(path))  # overwriting is fine
    assert [file.name for file in tmp_path.iterdir()] == [name]
    other = ImplicitModel.load(path)
    for array in ARRAYS:
        assert getattr(other, array).tobytes() == getattr(model, array).tobytes()
        assert getattr(other, array).dtype == dtype
    assert other.activation == model.activation
    assert other.predict(inputs()).tobytes() == model.predict(inputs()).tobytes()


@pytest.mark.parametrize("bit", [0, 6])
def test_any_damage_is_noticed(bit, tmp_path):
    """A changed bit may also make a part look encrypted, or packed in another way."""
    path = tmp_path / "model.npz"
    model = ImplicitModel(A=[[0.5]], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    model.save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        path.write_bytes(bytes(changed))
        with suppress(ValueError):  # nothing else may come, and no other model
            np.testing.assert_array_equal(ImplicitModel.load(path).A, model.A)


def test_numbers_that_are_not_real():
    model = ImplicitModel(A=[[0.5]], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    for U in (np.ones((1, 1)) * 1j, np.zeros((1, 1), dtype="M8[ns]")):
        with pytest.raises(ValueError, match="U must hold real numbers"):
            model.predict(U)
    with pytest.raises(ValueError, match="X must have finite entries"):
        model.residual([[1.0]], [[np.nan]])


def test_a_missing_folder_is_named(tmp_path):
    model = ImplicitModel(A=[[0.5]], B=[[1.0]], C=[[1.0]], D=[[0.0]])
    with pytest.raises(FileNotFoundError, match=r"nowhere'$"):
        model.save(tmp_path / "nowhere" / "model.npz")


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    ImplicitModel(**matrices()).save(path)
    before = path.read_bytes()

    def broken(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(OSError, match="disk full"):
        ImplicitModel(**matrices(seed=5)).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays["header"]))
    for name, value in changes.items():
        if name in header:
            header[name] = value
        elif value is None:
            del arrays[name]
        else:
            arrays[name] = value
    arrays["header"] = np.array(json.dumps(header))
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"A": 2 * np.eye(6)}, IllPosedError, "not well-posed"),
        ({"A": np.full((6, 6), np.nan)}, ValueError, "A must have finite"),
        ({"B": np.zeros((6, 9))}, ValueError, "D must have shape"),
        ({"C": np.array([[None] * 6] * 3)}, ValueError, "not a model that can be read"),
        ({"b": None}, ValueError, "not a model that can be read"),
        ({"version": 2}, ValueError, "version 1; got .* version 2"),
        ({"format": "other"}, ValueError, "got 'other'"),
        ({"activation": {"name": "gelu"}}, ValueError, "activation must be one of"),
        ({"activation": {"name": "relu", "x": 1}}, ValueError, "does not accept"),
        ({"activation": 5}, ValueError, "activation must be one of"),
    ],
)
def test_tampered_files_are_refused(tmp_path, changes, error, message):
    path = tmp_path / "model.npz"
    ImplicitModel(**matrices()).save(path)
    rewrite(path)
    ImplicitModel.load(path)
    rewrite(path, **changes)
    with pytest.raises(error, match=message):
        ImplicitModel.load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.npz"
    ImplicitModel(**matrices()).save(path)
    data = bytearray(path.read_bytes())
    (tmp_path / "short").write_bytes(data[: len(data) // 2])
    middle = data.index(np.asarray(matrices()["A"]).tobytes()[:8])
    data[middle] ^= 1  # one bit of A: the checksum notices
    (tmp_path / "flipped").write_bytes(data)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "pickle").write_bytes(pickle.dumps(ImplicitModel(**matrices())))
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", A=np.zeros(3))
    for name in ("short", "flipped", "text", "empty", "pickle", "array.npy", "other.npz"):
        with pytest.raises(ValueError, match="not a model that can be read"):
            ImplicitModel.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        ImplicitModel.load(tmp_path / "missing")


class Shrink(Activation):
    name = "relu"  # pretending does not help

    def value(self, Z, out=None):
        return np.multiply(Z, 0.5, out=out)

    def derivative(self, Z):
        return np.full_like(Z, 0.5)


class Arctan(Shrink):
    name = "arctan"

    def value(self, Z, out=None):
        return np.arctan(Z, out=out)


@pytest.mark.parametrize("activation", [Shrink(), Arctan()])
def test_own_activation_works_but_cannot_be_saved(tmp_path, activation):
    model = ImplicitModel(**matrices(), activation=activation)
    assert model.residual(inputs(), model.states(inputs())) < 1e-9
    assert activation.to_dict() == {"name": activation.name}
    with pytest.raises(ValueError, match="only built-in activations can be saved"):
        model.save(tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [6, 80])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, n):
    monkeypatch.setattr(Iteration, "entries", 1)  # 64 rows a block
    model = ImplicitModel(**matrices(n=n))
    U = inputs(1000)
    for method in (model.predict, model.states):
        one = method(U)
        for n_jobs in (2, 3, -1):
            assert method(U, n_jobs=n_jobs).tobytes() == one.tobytes()
    U[700, 0] = np.nan
    with pytest.raises(ValueError, match="row 700"):
        model.predict(U, n_jobs=2)
