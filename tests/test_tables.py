"""Tables that are read part by part give the fit that arrays in memory give."""

import mmap
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from weakref import ref

import dask
import numpy as np
import pytest
import zarr
from dask import array as da
from dask import dataframe as dd
from pandas import NA, DataFrame, Series
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import ShuffleSplit

from bcd_implicit import ImplicitClassifier, ImplicitRegressor, ImplicitRegressorCV
from bcd_implicit.blocks import CompactBlock, PassBlock
from bcd_implicit.parts import PartedRows
from bcd_implicit.tables import StoredTable, View
from tests.fits import assert_same_bits, assert_same_blocks, set_limits, small_model

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SIZE = 300
CHUNKS = {
    "chunks": (256, 320, 324),
    "chunks that are not aligned": (261, 300, 339),
    "short chunks": (20, 90, 260, 110, 1, 300, 0, 119),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Make few rows count as many, and parts and blocks small."""
    set_limits(monkeypatch, many=60, gathered=50)
    monkeypatch.setattr("bcd_implicit.tables._ROWS", (16, 32))
    monkeypatch.setattr("bcd_implicit.cuts._BLOCK_ROWS", (16, 64))


@pytest.fixture(params=[True, False], ids=["merged", "as they come"])
def merging(request, monkeypatch):
    """Few rows, of which equal ones are merged, or many."""
    set_limits(monkeypatch, merged=10_000 if request.param else 100)


def data(kind="regression", m=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((m, 4)) * [1.0, 10.0, 0.1, 1.0] + [0.0, 5.0, 0.0, 1.0]
    y = np.abs(X[:, 0]) + 0.1 * X[:, 1] + 0.1 * rng.standard_normal(m)
    if kind == "two outputs":
        y = np.column_stack([y, X[:, 3]])
    if "classes" in kind:  # that overlap
        y = y + 0.5 * rng.standard_normal(m)
    if kind == "two classes":
        y = np.where(y > np.median(y), "yes", "no")
    if kind == "three classes":
        y = np.digitize(y, np.quantile(y, [0.3, 0.7]))
    return X, y


def memory_map(X, path, mode="r"):
    stored = np.memmap(path / "inputs.dat", X.dtype, "w+", shape=X.shape)
    stored[:] = X
    stored.flush()
    return np.memmap(path / "inputs.dat", X.dtype, mode, shape=X.shape)


def table(X, how, path):
    if how == "memmap":
        return memory_map(X, path)
    if how == "zarr":
        stored = zarr.create_array(path / "z", shape=X.shape, dtype=X.dtype, chunks=(37, 2))
        stored[:] = X
        return stored
    return da.from_array(X, chunks=(len(X) // 4, 3))


def model(kind="regression", **settings):
    kind = ImplicitClassifier if "classes" in kind else ImplicitRegressor
    return small_model(kind, **{"max_iter": 6} | settings)


def same(one, other, rtol=1e-8):
    assert one.n_iter_ == other.n_iter_
    assert_same_blocks(one, other, rtol)


@pytest.mark.parametrize("settings", [{}, {"alpha": "auto", "max_iter": 4}], ids=str)
@pytest.mark.parametrize("kind", ["regression", "two outputs", "three classes"])
@pytest.mark.parametrize("how", ["memmap", "zarr", "dask"])
def test_few_rows_give_the_bits_of_arrays(kind, how, settings, tmp_path, monkeypatch):
    set_limits(monkeypatch, many=60, gathered=SIZE)
    X, y = data(kind)
    found = model(kind, **settings).fit(table(X, how, tmp_path), y)
    assert_same_bits(model(kind, **settings).fit(X, y), found)


@pytest.mark.parametrize("settings", [{}, {"alpha": "auto", "max_iter": 4}], ids=str)
@pytest.mark.parametrize("kind", ["regression", "weights", "three classes"])
@pytest.mark.parametrize("how", ["memmap", *CHUNKS])
def test_many_rows_give_the_bits_of_arrays(kind, how, settings, tmp_path, monkeypatch):
    """Sums over blocks do not depend on how rows are shared out to parts."""
    set_limits(monkeypatch, merged=100)
    monkeypatch.setattr("bcd_implicit.tables._ROWS", (16, 64))
    X, y = data(kind, 900)
    weights = None
    if kind == "weights":
        weights = np.random.default_rng(1).uniform(-0.5, 2.0, 900).clip(0.0)
        kind = "regression"
    if "class" in kind:
        settings = settings | {"class_weight": "balanced"}
    expected = model(kind, **settings).fit(X, y, weights)
    if how == "memmap":
        stored = memory_map(X, tmp_path)
    else:
        stored = da.from_array(X, chunks=(CHUNKS[how], 4))
    assert_same_bits(expected, model(kind, **settings).fit(stored, y, weights))


def test_fast_contractions_give_the_bits_of_arrays(tmp_path, monkeypatch):
    """Their states are found by sweeps, which depend on the start."""
    set_limits(monkeypatch, merged=100)
    monkeypatch.setattr("bcd_implicit.tables._ROWS", (16, 64))
    X, y = data("regression", 900)
    expected = model(kappa=0.6).fit(X, y)
    assert expected.model_.contraction_factor <= 0.6
    assert_same_bits(expected, model(kappa=0.6).fit(memory_map(X, tmp_path), y))


@pytest.mark.parametrize("size", [1e-310, 0.3, 1e305])
def test_equal_weights_of_any_size_are_none(size):
    X, y = data()
    U = da.from_array(X, chunks=(90, 4))
    assert_same_bits(model().fit(U, y), model().fit(U, y, np.full(SIZE, size)))


def test_rows_without_weight_do_not_count(monkeypatch):
    set_limits(monkeypatch, merged=300, gathered=300)
    X, y = data(m=400)
    weights = np.repeat([1.0, 0.0], 200)
    settings = {"alpha": "auto", "max_iter": 4}
    found = model(**settings).fit(da.from_array(X, chunks=(90, 4)), y, weights)
    assert_same_bits(model(**settings).fit(X, y, weights), found)


@pytest.mark.parametrize("how", ["memmap", "zarr", "dask"])
@pytest.mark.parametrize("kind", ["regression", "two outputs"])
def test_the_fit_is_that_in_memory(kind, how, merging, tmp_path):
    X, y = data(kind)
    expected = model(kind).fit(X, y)
    found = model(kind).fit(table(X, how, tmp_path), y)
    same(expected, found)
    assert found.n_features_in_ == 4


@pytest.mark.parametrize("how", ["memmap", "zarr", "dask"])
@pytest.mark.parametrize("kind", ["two classes", "three classes"])
def test_classifiers(kind, how, merging, tmp_path):
    X, y = data(kind)
    expected = model(kind, alpha=0.03).fit(X, y)
    found = model(kind, alpha=0.03).fit(table(X, how, tmp_path), y)
    same(expected, found)
    np.testing.assert_array_equal(found.classes_, expected.classes_)


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_weights_and_repeated_rows(how, merging, tmp_path):
    X, y = data()
    X[50:80], y[50:80] = X[:30], y[:30]
    weights = np.random.default_rng(1).integers(0, 3, SIZE).astype(float)
    weights[120:200] = 0.0  # parts without any row in use
    expected = model().fit(X, y, weights)
    given = da.from_array(weights, chunks=77) if how == "dask" else weights
    same(expected, model().fit(table(X, how, tmp_path), y, given))


@pytest.mark.parametrize("target", [np.nan, 1e200])
@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_targets_without_weight_do_not_matter(how, target, merging, tmp_path):
    X, y = data()
    weights = np.repeat([0.0, 1.0], [40, SIZE - 40])
    expected = model().fit(X, y, weights)
    same(expected, model().fit(table(X, how, tmp_path), np.where(weights, y, target), weights))


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_strengths_are_chosen_on_the_same_rows(how, merging, tmp_path):
    X, y = data()
    settings = {"alpha": "auto", "max_iter": 4}
    expected = model(**settings).fit(X, y)
    found = model(**settings).fit(table(X, how, tmp_path), y)
    assert (found.alpha_, found.l2_) == (expected.alpha_, expected.l2_)
    same(expected, found)


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_groups_and_single_precision(how, merging, tmp_path):
    X, y = data()
    X = X.astype(np.float32)
    expected = model(groups=["a", "b", "a", "c"]).fit(X, y)
    same(expected, model(groups=["a", "b", "a", "c"]).fit(table(X, how, tmp_path), y))


@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.longdouble, np.int8])
@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_other_dtypes_give_the_bits_of_arrays(how, dtype, tmp_path, monkeypatch):
    set_limits(monkeypatch, many=4000, gathered=50_000, merged=50_000)
    X, y = data()
    X = X.astype(dtype)
    assert_same_bits(model().fit(X, y), model().fit(table(X, how, tmp_path), y))


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 2: 0.5}])
def test_the_weight_that_a_criterion_counts(class_weight, tmp_path):
    X, _ = data()
    y = np.arange(SIZE) % 3
    model = ImplicitClassifier(class_weight=class_weight)
    in_memory, stored = (model._encode(one, y, None) for one in (X, memory_map(X, tmp_path)))
    assert in_memory.weight == pytest.approx(stored.weight, rel=1e-12)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 2: 0.5}])
def test_weights_of_classes(class_weight, merging, tmp_path):
    X, y = data("three classes")
    settings = {"class_weight": class_weight, "alpha": 0.03}
    expected = model("three classes", **settings).fit(X, y)
    found = model("three classes", **settings).fit(table(X, "dask", tmp_path), y)
    same(expected, found)


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_balanced_classes_count_weights(how, merging, tmp_path):
    X, y = data("three classes")
    weights = np.random.default_rng(0).uniform(0.0, 2.0, len(y))
    weights[::7] = 0.0
    weights[:80] = 0.0  # parts without any row in use
    settings = {"class_weight": "balanced", "alpha": 0.03}
    expected = model("three classes", **settings).fit(X, y, weights)
    found = model("three classes", **settings).fit(table(X, how, tmp_path), y, weights)
    same(expected, found)


@pytest.mark.parametrize("kind", ["regression", "three classes"])
def test_scores_of_data_frames(kind):
    X, y = data(kind)
    names = list("abcd")
    frame = dd.from_pandas(DataFrame(X, columns=names).assign(y=y), npartitions=3)
    fitted = model(kind).fit(frame[names], frame["y"])
    labels = frame["y"]
    plain = fitted.predict(frame[names]).compute()
    score = r2_score if kind == "regression" else accuracy_score
    assert fitted.score(frame[names], labels) == pytest.approx(score(y, plain))
    weights = np.arange(len(y))
    expected = score(y, plain, sample_weight=weights)
    assert fitted.score(frame[names], labels, weights) == pytest.approx(expected)


@pytest.mark.parametrize("rows", [10, 64, 300])
def test_any_chunks_and_threads_give_the_same_fit(rows, merging):
    X, y = data()
    expected = model().fit(X, y)
    U = da.from_array(X, chunks=(rows, 4))
    found = model().fit(U, y)
    same(expected, found)
    again = model().fit(U, da.from_array(y, chunks=50))
    assert_same_bits(found, again)


def test_the_scheduler_of_processes_gives_the_same_fit():
    X, y = data()
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    with pool, dask.config.set(scheduler="processes", pool=pool):
        found = model(max_iter=2).fit(table(X, "dask", None), y)
    same(model(max_iter=2).fit(X, y), found)


def test_threads_do_not_change_a_bit(tmp_path, merging):
    X, y = data()
    stored = memory_map(X, tmp_path)
    one, two = (model(n_jobs=n_jobs).fit(stored, y) for n_jobs in (1, 2))
    assert_same_bits(one, two)


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_states_that_do_not_fit_are_found_again(how, merging, tmp_path, monkeypatch):
    X, y = data()
    expected = model().fit(X, y)
    kinds = set()
    plain = CompactBlock.solve_trial
    monkeypatch.setattr(
        CompactBlock, "solve_trial", lambda *a: kinds.add(CompactBlock) or plain(*a)
    )
    monkeypatch.setattr(PassBlock, "_kept", None)
    monkeypatch.setattr("bcd_implicit.dask_tables._memory", lambda: 0)
    with config_context(working_memory=1e-4):
        same(expected, model().fit(table(X, how, tmp_path), y))
    assert kinds == {CompactBlock}


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_states_are_kept_twice_at_most(how, tmp_path, monkeypatch):
    """Accepted and tried ones, of which the memory for them takes account."""
    set_limits(monkeypatch, many=60, gathered=50, merged=100)
    kept, plain, most = [], PartedRows.sum, 0

    def keep(_, states):
        kept.append(ref(states))
        return states

    def count(*arguments, **options):
        nonlocal most
        sums = plain(*arguments, **options)
        alive = filter(lambda states: states is not None, (states() for states in kept))
        sizes = {states.ctypes.data: states.size for states in alive}
        most = max(most, sum(sizes.values()))
        return sums

    monkeypatch.setattr(PassBlock, "_kept", keep)
    monkeypatch.setattr(PartedRows, "sum", count)
    X, y = data()
    n = model().fit(table(X, how, tmp_path), y).model_.n_states
    assert most == 2 * SIZE * n


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "sigmoid", "clip"])
def test_compact_states_of_other_activations(activation, tmp_path):
    X, y = data()
    settings = {"activation": activation, "alpha": 0.03}
    expected = model(**settings).fit(X, y)
    with config_context(working_memory=1e-4):
        found = model(**settings).fit(memory_map(X, tmp_path), y)
    # the kinks of these amplify rounding errors along the way
    assert found.objective_ == pytest.approx(expected.objective_, rel=1e-8)


def test_data_frames(merging):
    X, y = data()
    frame = DataFrame(X, columns=list("abcd"))
    expected = model().fit(frame, y)
    lazy = dd.from_pandas(frame, npartitions=5)
    found = model().fit(lazy, dd.from_pandas(frame.assign(y=y), npartitions=3)["y"])
    same(expected, found)
    np.testing.assert_array_equal(found.feature_names_in_, list("abcd"))
    predictions = found.predict(lazy)
    assert isinstance(predictions, da.Array)
    np.testing.assert_allclose(predictions.compute(), expected.predict(frame), atol=1e-7)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(lazy.rename(columns={"a": "z"}))


@pytest.mark.parametrize(
    "kinds", [{"c": bool}, {"a": "Float64"}, {"a": "double[pyarrow]"}], ids=str
)
def test_columns_of_several_kinds(kinds):
    X, y = data()
    frame = DataFrame(X, columns=list("abcd")).astype({"c": int}).astype(kinds)
    expected = model().fit(frame, y)
    lazy = dd.from_pandas(frame, npartitions=5)
    same(expected, model().fit(lazy, y))
    np.testing.assert_allclose(expected.predict(lazy), expected.predict(frame), atol=1e-7)
    if "a" in kinds:
        frame.loc[7, "a"] = None
        with pytest.raises(ValueError, match=r"X must be finite.* rows 7"):
            model().fit(dd.from_pandas(frame, npartitions=5), y)
    with pytest.raises(ValueError, match="X must hold real numbers"):
        model().fit(dd.from_pandas(frame.assign(b="text"), npartitions=5), y)
    with pytest.raises(ValueError, match="X must be two-dimensional"):
        model().fit(lazy["b"], y)


@pytest.mark.parametrize("how", ["memmap", "zarr", "dask"])
@pytest.mark.parametrize("kind", ["regression", "two outputs", "three classes"])
def test_targets_and_weights_in_data_frames(kind, how, tmp_path):
    """Of which Dask does not know the length."""
    X, y = data(kind)
    frame = dd.from_pandas(DataFrame(y).assign(weights=1.5), npartitions=3)
    targets = frame[[0, 1]] if kind == "two outputs" else frame[0]
    stored = table(X, how, tmp_path)
    found = model(kind).fit(stored, targets, frame["weights"])
    assert_same_bits(model(kind).fit(stored, y), found)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_targets_may_be_nullable_numbers(how, lazy, tmp_path):
    X, y = data("three classes")
    column = Series(y, dtype="Int64")
    targets = dd.from_pandas(column, npartitions=3) if lazy else column
    stored = table(X, how, tmp_path)
    found = model("three classes").fit(stored, targets)
    expected = model("three classes").fit(X, column)
    np.testing.assert_array_equal(found.classes_, expected.classes_)
    same(expected, found)
    column[7] = NA
    for kind in ("regression", "three classes"):
        targets = dd.from_pandas(column, npartitions=3) if lazy else column
        with pytest.raises(ValueError, match="y must be finite; it is not in rows 7"):
            model(kind).fit(stored, targets)


@pytest.mark.parametrize("kind", ["regression", "two outputs", "two classes", "three classes"])
def test_predictions_are_lazy(kind, tmp_path):
    X, y = data(kind)
    fitted = model(kind).fit(X, y)
    lazy, stored = table(X, "dask", tmp_path), memory_map(X, tmp_path)
    names = ["predict"]
    if "classes" in kind:
        names += ["predict_proba", "decision_function"]
    for name in names:
        expected = getattr(fitted, name)(X)
        found = getattr(fitted, name)(lazy)
        assert isinstance(found, da.Array)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        for values in (found.compute(), getattr(fitted, name)(stored)):
            if values.dtype.kind == "f":
                np.testing.assert_allclose(values, expected, atol=1e-9)
            else:
                np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("kind", ["regression", "two outputs", "three classes"])
def test_partitions_that_a_filter_left_empty(kind):
    X, y = data(kind)
    frame = DataFrame(X, columns=list("abcd"))
    fitted = model(kind).fit(frame, y)
    rows = frame.index < 100
    lazy = dd.from_pandas(frame.assign(a=frame.a.where(rows, -9.0)), npartitions=3)
    predictions = fitted.predict(lazy[lazy.a > -9.0]).compute()
    # BLAS may round a row in another way beside other rows
    np.testing.assert_allclose(predictions, fitted.predict(frame[rows]), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_bad_rows_are_named(how, tmp_path):
    X, y = data()
    X[[123, 130], 2] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite.*rows 123(, 130)?"):
        model().fit(table(X, how, tmp_path), y)
    X, y = data()
    y[222] = np.inf
    for some in (None, np.repeat([0.0, 1.0, 0.0, 1.0], [10, 200, 10, SIZE - 220])):
        with pytest.raises(ValueError, match="y must be finite; it is not in rows 222"):
            model().fit(table(X, how, tmp_path), y, some)
    weights = np.ones(SIZE)
    weights[7] = -1.0
    with pytest.raises(ValueError, match=r"sample_weight must be nonnegative.* 7"):
        model().fit(table(X, how, tmp_path), data()[1], weights)


@pytest.mark.parametrize("missing", [None, np.nan, NA], ids=str)
@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_missing_labels_are_named(how, missing, tmp_path):
    X, y = data("two classes")
    y = y.astype(object)
    y[[123, 222]] = missing
    with pytest.raises(ValueError, match=r"y must be given; it is not in rows 123"):
        model("two classes").fit(table(X, how, tmp_path), y)


@pytest.mark.parametrize("missing", [None, np.nan, NA], ids=str)
@pytest.mark.parametrize("kind", ["two classes", "three classes"])
def test_missing_labels_without_weight_do_not_matter(kind, missing, merging, tmp_path):
    X, y = data(kind)
    y, weights = y.astype(str).astype(object), np.repeat([0.0, 1.0], [40, SIZE - 40])
    expected = model(kind).fit(memory_map(X, tmp_path), y, weights)
    found = model(kind).fit(memory_map(X, tmp_path), np.where(weights, y, missing), weights)
    assert_same_bits(expected, found)


@pytest.mark.parametrize("how", ["memmap", "dask"])
def test_bad_shapes(how, tmp_path):
    X, y = data()
    stored = table(X, how, tmp_path)
    fitted = model().fit(X, y)
    before = fitted.A_
    with pytest.raises(ValueError, match="y must have 300 rows"):
        fitted.fit(stored, y[:-1])
    with pytest.raises(ValueError, match="y must hold a target"):
        fitted.fit(stored, None)
    with pytest.raises(ValueError, match="sample_weight must not be zero everywhere"):
        fitted.fit(stored, y, np.zeros(SIZE))
    assert fitted.A_ is before
    with pytest.raises(ValueError, match="two classes"):
        model("two classes").fit(stored, np.zeros(SIZE))
    with pytest.raises(ValueError, match="features"):
        fitted.predict(stored[:, :3])


@pytest.mark.parametrize("how", ["zarr", "memmap", "dask"])
def test_targets_and_weights_of_other_shapes(how, tmp_path):
    X, y = data()
    stored = table(X, how, tmp_path)
    two = np.column_stack([y, y])
    with pytest.raises(ValueError, match="sample_weight must have at most 1 dim"):
        model().fit(stored, y, np.ones((SIZE, 1)))
    with pytest.raises(ValueError, match="sample_weight must hold real numbers; got dtype compl"):
        model().fit(stored, y, np.full(SIZE, 1.0 + 1j))
    with pytest.raises(ValueError, match="y must have at most 2 dim"):
        model().fit(stored, two[..., None])
    with pytest.raises(ValueError, match="y must be a dense array; got a sparse"):
        model().fit(stored, csr_array(two))
    with pytest.raises(ValueError, match="y must have the same number of columns"):
        model().fit(stored, two[:, :0])
    with pytest.raises(ValueError, match="y must hold real numbers; got dtype complex"):
        model().fit(stored, y + 1j)
    with pytest.raises(ValueError, match="y must hold one label for each row; got 2"):
        model("two classes").fit(stored, two > 1.0)


@pytest.mark.parametrize("kind", [csr_array, np.ma.masked_array])
def test_chunks_of_another_kind(kind):
    X, y = data()
    lazy = da.from_array(X, chunks=(90, 3)).map_blocks(kind)
    for use in (model().fit, lambda X, y: model().fit(data()[0], y).predict(X)):
        with pytest.raises(ValueError, match="plain NumPy arrays, neither sparse nor masked"):
            use(lazy, y)


def test_tables_without_rows_and_of_other_dimensions():
    X, y = data()
    fitted = model().fit(X, y)
    with pytest.raises(ValueError, match="X must have 4 features"):
        fitted.predict(zarr.array(X[0]))
    with pytest.raises(ValueError, match="0 sample"):
        fitted.predict(zarr.array(X[:0]))
    for empty in (zarr.array(X[:0]), da.from_array(X)[:0]):
        with pytest.raises(ValueError, match="X must have at least one row"):
            fitted.fit(empty, y[:0])


def test_a_read_that_fails_twice_is_tried_again(tmp_path, monkeypatch):
    X, y = data()
    monkeypatch.setattr("bcd_implicit.tables._PAUSE", 0.0)

    class Flaky:
        """An array in chunks of which every range fails twice."""

        chunks, dtype, shape, ndim = (50, 4), X.dtype, X.shape, 2

        def __init__(self, most):
            self.tries, self.most = {}, most

        def __len__(self):
            return len(X)

        def __getitem__(self, rows):
            if not isinstance(rows, slice):
                return X[rows]
            self.tries[rows.start] = self.tries.get(rows.start, 0) + 1
            if 0 < self.tries[rows.start] <= self.most:
                raise OSError("no luck")
            return X[rows]

    same(model().fit(X, y), model().fit(Flaky(2), y))
    with pytest.raises(OSError, match="no luck"):
        model().fit(Flaky(3), y)


@pytest.mark.parametrize("place", ["inputs", "targets"])
def test_partitions_that_fail_twice_are_tried_again(place, monkeypatch):
    """Also when their lengths are counted."""
    X, y = data()
    monkeypatch.setattr("bcd_implicit.tables._PAUSE", 0.0)
    failures = []

    def flaky(part):
        if len(part) and len(failures) < 2:
            failures.append(1)
            raise OSError("no luck")
        return part

    frame = dd.from_pandas(DataFrame(X).assign(y=y), npartitions=3)
    lazy = frame.map_partitions(flaky, meta=frame._meta)
    given = (lazy[[0, 1, 2, 3]], y) if place == "inputs" else (da.from_array(X), lazy["y"])
    same(model().fit(X, y), model().fit(*given))
    assert len(failures) == 2


def test_pages_of_a_map_are_given_back(tmp_path):
    X = np.zeros((2**16, 64))  # 32 MB
    stored = memory_map(X, tmp_path)
    parts = StoredTable(stored, np.zeros(len(X)))

    def resident():
        with open("/proc/self/smaps") as maps:
            inside, total = False, 0
            for line in maps:
                if line[0] in "0123456789abcdef" and "-" in line.split()[0]:
                    inside = "inputs.dat" in line
                elif inside and line.startswith("Rss"):
                    total += int(line.split()[1])
        return total

    assert sum(len(part) for part in parts.inputs()) == len(X)
    assert resident() < 4096


def test_changes_of_a_private_map_are_kept(tmp_path):
    X, _ = data()
    stored = memory_map(X, tmp_path, "c")
    stored[5] = 7.0
    list(StoredTable(stored, np.zeros(SIZE)).inputs())
    assert (stored[5] == 7.0).all()


def test_changes_of_a_private_map_without_a_mode_are_kept(tmp_path):
    """They may be the targets of a table; the file is never written to."""
    np.arange(1024.0).tofile(tmp_path / "targets")
    with (tmp_path / "targets").open("rb") as file:
        private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    targets = np.ndarray(1024, dtype=np.float64, buffer=private)
    targets[:] = 7.0
    inputs = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", shape=(1024, 2))
    stored = StoredTable(inputs, targets)
    stored.map(lambda *_: None, [()] * len(stored.sizes), inputs=True)
    assert (targets == 7.0).all()


def test_the_working_memory_decides_the_size_of_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("bcd_implicit.tables._ROWS", (64, 10**6))
    stored = memory_map(np.zeros((2**15, 64)), tmp_path)
    for memory, rows in ((16, 2048), (1, 128)):
        with config_context(working_memory=memory):
            assert StoredTable(stored, np.zeros(2**15)).sizes[0] == rows


def test_a_view_reads_what_it_shows(tmp_path):
    X, _ = data()
    rows, columns = np.array([3, 200, 9]), np.array([2, 0])
    for how in ("memmap", "zarr"):
        view = View(View(table(X, how, tmp_path), rows, None), None, columns)
        assert view.shape == (3, 2)
        np.testing.assert_array_equal(view[:], X[np.ix_(rows, columns)])
        np.testing.assert_array_equal(view[1:], X[np.ix_(rows, columns)][1:])
        assert view[3:].shape == (0, 2)


def test_shuffled_folds_do_not_read_the_table_for_every_part():
    class Stored:
        chunks, ndim, lengths = (50, 4), 2, []

        def __init__(self, X):
            self.X, self.shape, self.dtype = X, X.shape, X.dtype

        def __getitem__(self, rows):
            self.lengths.append(len(self.X[rows]))
            return self.X[rows]

    X, y = data()
    folds = ShuffleSplit(2, random_state=0)
    estimator = ImplicitRegressorCV(n_states=2, max_iter=2, path_iter=1, cv=folds, random_state=0)
    expected = estimator.fit(X, y).alpha_
    assert estimator.fit(Stored(X), y).alpha_ == pytest.approx(expected)
    assert np.median(Stored.lengths) < 100


def test_not_converging_warns_once(tmp_path):
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="max_iter=1 ") as caught:
        model(max_iter=1).fit(memory_map(X, tmp_path), y)
    assert len(caught) == 1
