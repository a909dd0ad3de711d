"""Classification as scikit-learn has it."""

from os import PathLike
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelEncoder
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._faults import naming_faults
from bcd_implicit._matrices import check_dense
from bcd_implicit.activations import Activation
from bcd_implicit.coding import (
    Coding,
    balanced,
    checked_class_weights,
    class_sums,
    class_targets,
)
from bcd_implicit.encoded import Encoded, EncodedData, EncodedTable, in_memory, is_table
from bcd_implicit.losses import LogisticLoss, MultinomialLoss
from bcd_implicit.monitor import Callback
from bcd_implicit.pattern import Pattern
from bcd_implicit.sums import Twofold
from bcd_implicit.survey import refuse_missing_labels, survey_targets
from bcd_implicit.tables import Table

__all__ = ["ImplicitClassifier"]

Array = NDArray[np.float64]


class ImplicitClassifier(ClassifierMixin, ImplicitEstimator):  # type: ignore[misc]
    """Nonlinear classification with exact zeros for the inputs that do not matter.

    As `ImplicitRegressor`, with the logistic loss for two classes and the multinomial logistic
    loss for more; the classes compete for one set of inputs. Losses are weighted means in nats, and
    ``alpha`` and ``l2`` are in their unit: of two classes of equal size the empty model has 0.69.

    Parameters
    ----------
    n_states, alpha, l2, kappa, activation, pattern, fit_feedthrough, fit_intercept, standardize, \
groups, max_iter, tol, n_init, warm_start, checkpoint, checkpoint_every, resume, random_state, \
n_jobs, callback, verbose
        As in `ImplicitRegressor`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, which multiply ``sample_weight``. "balanced": inversely proportional
        to the sums of the weights of their rows.

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
    classes_: NDArray[Any]
    _loss: LogisticLoss | MultinomialLoss

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

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return the mean accuracy; labels and predictions of stored data are read whole.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like of shape (m,)
        sample_weight : array-like of shape (m,), optional
        """
        if is_table(X):
            y, labels, sample_weight = in_memory(y, self.predict(X), sample_weight)
            return float(accuracy_score(y, labels, sample_weight=sample_weight))
        return float(super().score(X, y, sample_weight))

    def _encode(self, X: Any, y: Any, sample_weight: Any) -> Encoded:
        if is_table(X):
            return self._encode_table(*self._table(X, y, sample_weight))
        if y is not None:
            check_dense("y", y)
            refuse_missing_labels(np.asarray(y).ravel())  # scikit-learn names no rows
        with naming_faults(X, y, numeric_targets=False):
            X, y = self._validated(X, y)
        check_classification_targets(y)
        weights = self._weights(X, sample_weight)
        used = weights > 0.0
        encoder = LabelEncoder().fit(y[used])
        self._set_classes(encoder.classes_)
        codes = np.zeros(len(y), dtype=np.intp)
        codes[used] = encoder.transform(y[used])
        if self.class_weight is not None:
            relative = np.ldexp(weights[used], -np.frexp(weights.max())[1])  # sums might overflow
            sums = class_sums(codes[used], relative, len(self.classes_))
            weights *= self._class_weights(sums)[codes]
        Y = class_targets(codes, len(self.classes_))
        return EncodedData(X, self._loss, Y, weights, codes)

    def _encode_table(self, X: Any, table: Table) -> EncodedTable:
        found = survey_targets(table, labels=True)
        self._set_classes(found.labels)
        K = len(found.labels)
        weights = None if self.class_weight is None else self._class_weights(found.label_weights)
        total = found.weight
        if weights is not None:  # as of arrays: weights of classes multiply those of the rows
            total = float(weights @ [some.value() for some in found.label_weights])
        coding = Coding(K if K > 2 else 1, found.labels, weights, unit=found.unit)
        return EncodedTable(X, self._loss, table, coding, total)

    def _class_weights(self, sums: list[Twofold]) -> Array:
        """Return the weight of every class; ``sums`` are those of the weights of their rows."""
        if isinstance(self.class_weight, dict):
            return checked_class_weights(self.class_weight, self.classes_)
        return balanced(sums)

    def _set_classes(self, labels: Any) -> None:
        """Set the classes, and the loss for so many."""
        if len(labels) < 2:
            raise ValueError(
                "y must hold at least two classes among the rows with a positive weight; got "
                f"1 class: {labels.tolist()[0]!r}"
            )
        going_on = self.warm_start and hasattr(self, "model_")
        if going_on and not np.array_equal(labels, self.classes_):
            raise ValueError(
                f"warm_start=True needs the classes of the last fit, {self.classes_}; got {labels}"
            )
        self.classes_ = labels
        self._loss = MultinomialLoss() if len(labels) > 2 else LogisticLoss()

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
