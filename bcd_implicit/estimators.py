"""The scikit-learn face: validation and naming only; the work is done in `fitting`."""

from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit.activations import Activation
from bcd_implicit.coding import Coding
from bcd_implicit.encoded import Encoded, EncodedData, EncodedTable, is_table
from bcd_implicit.losses import LogisticLoss, MultinomialLoss, SquaredLoss
from bcd_implicit.monitor import Callback
from bcd_implicit.pattern import Pattern
from bcd_implicit.streamed import survey_targets
from bcd_implicit.tables import Table

__all__ = ["ImplicitClassifier", "ImplicitRegressor"]

Array = NDArray[np.float64]


class ImplicitRegressor(RegressorMixin, ImplicitEstimator):  # type: ignore[misc]
    """Nonlinear regression with exact zeros for the inputs that do not matter.

    The prediction is ``C x + D u + d``, where ``x`` is the unique solution of
    ``x = phi(A x + B u + b)``. Training minimises, over inputs of unit deviation and targets of
    unit total deviation,

        ``mean ||y - C x - D u - d||^2 / 2 + alpha sum_g omega_g ||[B; D]_g||_F + l2 / 2 ||C||_F^2``

    subject to ``||A||_inf <= kappa``, by block-coordinate descent. A group g is the
    column of one input, or those of several that enter and leave together. An input whose group
    ``[B; D]_g`` is zero has no influence at all.

    Parameters
    ----------
    n_states : int, default=20
        Hidden features. A guess that is too small still finds the right inputs.
    alpha : float or "auto", default="auto"
        Strength of the group penalty. "auto" chooses the inputs, then the strengths, on a
        warm-started path scored on a quarter of the rows, and makes ``omega`` adaptive; see
        `bcd_implicit.strength`. A number leaves ``omega`` alone.
    l2 : float or "auto", default="auto"
        Strength of the penalty of C. "auto" is chosen with alpha, or equals a given alpha.
    kappa : float, default=0.95
        Bound of the row sums of ``|A|``, in (0, 1): how far states may feed back.
    activation : str or Activation, default="relu"
        "relu", "leaky_relu", "tanh", "sigmoid", "identity", "clip", "soft_threshold", or an
        instance.
    pattern : Pattern, optional
        Which entries of A, rows of B and columns of C may be nonzero: ``Pattern.layers(60, 40)``
        with ``n_states=100`` and ``fit_feedthrough=False`` is a network of two hidden layers.
    fit_feedthrough : bool, default=True
        Whether to fit D, the linear part.
    fit_intercept : bool, default=True
        Whether to fit b and d. Without, inputs and targets are not centred.
    standardize : bool, default=True
        Whether to work with inputs of zero mean and unit deviation. The fitted matrices always
        take raw inputs.
    groups : array-like of shape (p,), fitted transformer or None, default=None
        Labels: inputs with the same label enter and leave together. Of a fitted `OneHotEncoder`
        or `ColumnTransformer` the columns of one variable do; see `bcd_implicit.input_groups`. To
        survive `sklearn.base.clone`, give the labels, or put the transformer in a
        `sklearn.frozen.FrozenEstimator`.
    max_iter : int, default=500
        Most iterations of the exact phase.
    tol : float, default=1e-4
        Converged when an iteration lowers the objective by less than ``tol`` of itself (of 0.001
        if it is smaller), in the mean over ten.
    n_init : int, default=1
        Random starts; the worse half is dropped repeatedly.
    warm_start : bool, default=False
        Whether to go on from the last fit; with ``alpha="auto"`` at the strengths it chose.
    checkpoint : path-like or None, default=None
        File to which the fit writes how far it has got, in NumPy's npz format; the one before it is
        kept as ``<checkpoint>.previous``. If it cannot be written, the fit goes on and warns.
    checkpoint_every : int, default=10
        Iterations between two writes.
    resume : bool, default=False
        Whether to go on from the checkpoint, if there is one, to the same result as if the fit had
        not been interrupted. Parameters and data must be the same.
    random_state : int, RandomState or None, default=None
        Seed of starts and split. The same seed and data give the same bits.
    n_jobs : int or None, default=None
        Threads. The result does not depend on it.
    callback : callable or None, default=None
        Called with every record of ``history_`` as it is made; what it raises ends the fit.
    verbose : int, default=0
        1 prints every tenth record, 2 every one.

    Attributes
    ----------
    model_ : ImplicitModel
        The certified model, in raw units.
    A_, B_, C_, D_, state_intercept_, intercept_ : ndarray
        Its blocks A (n, n), B (n, p), C (q, n), D (q, p), b (n,) and d (q,).
    feature_importances_ : ndarray of shape (p,)
        Norm of the group ``[B; D]_g`` of every input in standardised units.
    support_ : ndarray of bool, shape (p,)
        Inputs whose group is not zero.
    alpha_, l2_, group_weights_ : float, float, ndarray of shape (p,)
        Strengths in use, and ``omega`` of every input, infinite for those that were excluded. It
        starts as the square root of the size of the group.
    groups_ : ndarray of int, shape (p,)
        Number of the group of every input.
    path_ : list of PathPoint
        Candidates tried by ``alpha="auto"``.
    objective_ : float
        True objective at the true equilibrium.
    contraction_factor_ : float
        Certified factor by which the iteration for the states contracts, below 1.
    n_iter_ : int
        Iterations of the exact phase of the final fit; its first point counts as one.
    history_ : list of dict
        One record for every update; see `bcd_implicit.monitor.Record`.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only if the inputs had names.

    Raises
    ------
    ValueError
        If a parameter or the data are out of range; the estimator stays as it was.
    DataLostError
        If the cluster that holds the data is gone; its ``model`` is the best model so far.

    Warns
    -----
    ConvergenceWarning
        If ``max_iter`` ran out.
    CheckpointWarning
        If a checkpoint could not be written, or a damaged one was passed over.
    InterruptedFitWarning
        If the user interrupted the fit, which then holds the best model so far.

    References
    ----------
    L. El Ghaoui, F. Gu, B. Travacca, A. Askari, A. Tsai, "Implicit deep learning", SIAM J. Math.
    Data Sci. 3 (2021).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 8))
    >>> y = np.abs(X[:, 2]) + X[:, 5] + 0.1 * rng.standard_normal(300)
    >>> model = ImplicitRegressor(n_states=5, random_state=0).fit(X, y)
    >>> np.flatnonzero(model.support_)
    array([2, 5])
    """

    _coded: ClassVar[tuple[str, ...]] = (*ImplicitEstimator._coded, "_single_output")

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> "ImplicitRegressor":
        """Fit the model.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like of shape (m,) or (m, q)
        sample_weight : array-like of shape (m,), optional
            Nonnegative; a weight of k counts like k equal rows.

        Returns
        -------
        ImplicitRegressor
        """
        self._validate_params()
        with self._all_or_nothing():
            self._fit(self._encode(X, y, sample_weight))
        self._warn()
        return self

    def _encode(self, X: Any, y: Any, sample_weight: Any) -> Encoded:
        if is_table(X):
            self._single_output = np.ndim(y) == 1
            X, table = self._table(X, y, sample_weight)
            found = survey_targets(table, labels=False)
            coding = Coding(found.n_outputs, unit=found.largest_weight)
            return EncodedTable(X, SquaredLoss(), table, coding, found.weight)
        X, y = self._validated(X, y, multi_output=True, y_numeric=True)
        self._single_output = np.ndim(y) == 1
        Y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        return EncodedData(X, SquaredLoss(), Y, self._weights(X, sample_weight))

    def predict(self, X: Any) -> Any:
        """Return predictions of shape (m,) or (m, q).

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        """
        if is_table(X):
            return self._in_parts("predict", X)
        F = self._decision(X)
        return F[:, 0] if self._single_output else F

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class ImplicitClassifier(ClassifierMixin, ImplicitEstimator):  # type: ignore[misc]
    """Nonlinear classification with exact zeros for the inputs that do not matter.

    As `ImplicitRegressor`, with the logistic loss for two classes and the multinomial logistic
    loss for more; the classes compete for one set of inputs.

    Parameters
    ----------
    n_states, alpha, l2, kappa, activation, pattern, fit_feedthrough, fit_intercept, standardize, \
groups, max_iter, tol, n_init, warm_start, checkpoint, checkpoint_every, resume, random_state, \
n_jobs, callback, verbose
        As in `ImplicitRegressor`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply ``sample_weight``.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Labels; D_, C_ and intercept_ have one row for two classes, K rows for more.
    model_, A_, B_, C_, D_, state_intercept_, intercept_, feature_importances_, support_, alpha_, \
l2_, group_weights_, groups_, path_, objective_, contraction_factor_, n_iter_, history_, \
n_features_in_, feature_names_in_
        As in `ImplicitRegressor`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((400, 8))
    >>> y = np.where(np.abs(X[:, 2]) > 0.7, "far", "near")
    >>> model = ImplicitClassifier(n_states=5, random_state=0).fit(X, y)
    >>> np.flatnonzero(model.support_), bool(model.score(X, y) > 0.95)
    (array([2]), True)
    """

    _coded: ClassVar[tuple[str, ...]] = (*ImplicitEstimator._coded, "classes_", "_loss")
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImplicitEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        n_states: int = 20,
        *,
        alpha: float | str = "auto",
        l2: float | str = "auto",
        kappa: float = 0.95,
        activation: str | Activation = "relu",
        pattern: Pattern | None = None,
        fit_feedthrough: bool = True,
        fit_intercept: bool = True,
        standardize: bool = True,
        groups: Any = None,
        max_iter: int = 500,
        tol: float = 1e-4,
        n_init: int = 1,
        class_weight: dict[Any, float] | str | None = None,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        resume: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        callback: Callback | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_states,
            alpha=alpha,
            l2=l2,
            kappa=kappa,
            activation=activation,
            pattern=pattern,
            fit_feedthrough=fit_feedthrough,
            fit_intercept=fit_intercept,
            standardize=standardize,
            groups=groups,
            max_iter=max_iter,
            tol=tol,
            n_init=n_init,
            warm_start=warm_start,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
            random_state=random_state,
            n_jobs=n_jobs,
            callback=callback,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> "ImplicitClassifier":
        """Fit the model.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like of shape (m,)
            Labels of at least two classes.
        sample_weight : array-like of shape (m,), optional
            Nonnegative; a weight of k counts like k equal rows.

        Returns
        -------
        ImplicitClassifier
        """
        self._validate_params()
        with self._all_or_nothing():
            self._fit(self._encode(X, y, sample_weight))
        self._warn()
        return self

    def _encode(self, X: Any, y: Any, sample_weight: Any) -> Encoded:
        if is_table(X):
            return self._encode_table(*self._table(X, y, sample_weight))
        X, y = self._validated(X, y)
        check_classification_targets(y)
        weights = self._weights(X, sample_weight)
        used = weights > 0.0
        encoder = LabelEncoder().fit(y[used])
        self.classes_ = encoder.classes_
        self._check_classes(self.classes_)
        codes = np.zeros(len(y), dtype=np.intp)
        codes[used] = encoder.transform(y[used])
        weights[used] *= compute_sample_weight(self.class_weight, y[used])
        loss: LogisticLoss | MultinomialLoss = LogisticLoss()
        Y = codes[:, None].astype(np.float64)
        if len(self.classes_) > 2:
            loss = MultinomialLoss()
            Y = np.eye(len(self.classes_))[codes]
        self._loss: LogisticLoss | MultinomialLoss = loss
        return EncodedData(X, loss, Y, weights, codes)

    def _encode_table(self, X: Any, table: Table) -> EncodedTable:
        found = survey_targets(table, labels=True)
        K = len(found.labels)
        self._check_classes(found.labels)
        self.classes_ = found.labels
        self._loss = MultinomialLoss() if K > 2 else LogisticLoss()
        weights = None
        if self.class_weight == "balanced":
            weights = found.counts.sum() / (K * found.counts)
        elif isinstance(self.class_weight, dict):
            weights = np.array([float(self.class_weight.get(k, 1.0)) for k in found.labels])
        coding = Coding(K if K > 2 else 1, found.labels, weights, unit=found.largest_weight)
        return EncodedTable(X, self._loss, table, coding, found.weight)

    def _check_classes(self, labels: Any) -> None:
        if len(labels) < 2:
            raise ValueError(
                "y must hold at least two classes among the rows with a positive weight; got "
                f"1 class: {labels[0]!r}"
            )

    def decision_function(self, X: Any) -> Any:
        """Return logits: of the second class, (m,), or of all, (m, K).

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        """
        if is_table(X):
            return self._in_parts("decision_function", X)
        F = self._decision(X)
        return F[:, 0] if len(self.classes_) == 2 else F

    def predict_proba(self, X: Any) -> Any:
        """Return class probabilities of shape (m, K).

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        """
        if is_table(X):
            return self._in_parts("predict_proba", X)
        F = self._decision(X)
        return np.asarray(self._loss.probabilities(F), dtype=np.float64)

    def predict(self, X: Any) -> Any:
        """Return the most probable labels, shape (m,).

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        """
        if is_table(X):
            return self._in_parts("predict", X)
        F = self._decision(X)
        best = (F[:, 0] > 0.0).astype(np.intp) if len(self.classes_) == 2 else F.argmax(axis=1)
        return self.classes_[best]
