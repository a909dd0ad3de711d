"""Regression as scikit-learn has it."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._faults import naming_faults
from bcd_implicit.coding import Coding
from bcd_implicit.encoded import Encoded, EncodedData, EncodedTable, in_memory, is_table
from bcd_implicit.losses import SquaredLoss
from bcd_implicit.survey import survey_targets

__all__ = ["ImplicitRegressor"]


class ImplicitRegressor(RegressorMixin, ImplicitEstimator):  # type: ignore[misc]
    """Nonlinear regression with exact zeros for the inputs that do not matter.

    The prediction is ``C x + D u + d``, where ``x`` is the unique solution of
    ``x = phi(A x + B u + b)``. Training minimises, over inputs of unit deviation and targets of
    unit total deviation,

        ``mean ||y - C x - D u - d||^2 / 2 + alpha sum_g omega_g ||[B; D]_g||_F + l2 / 2 ||C||_F^2``

    subject to ``||A||_inf <= kappa``, by block-coordinate descent. A group g is the
    column of one input, or those of several that enter and leave together. An input whose group
    ``[B; D]_g`` is zero has no influence at all. Several outputs keep their relative sizes: give
    those of different units equal ones before, as with `TransformedTargetRegressor`, or the small
    ones and what only they need are taken for noise.

    Parameters
    ----------
    n_states : int, default=20
        Hidden features. A guess that is too small still finds the right inputs. The time of a fit
        grows with its square: of 120 rows about 2 s with 20, 24 with 100, 170 with 200.
    alpha : float or "auto", default="auto"
        Strength of the group penalty. "auto" chooses the inputs, then the strengths, on a
        warm-started path scored on a quarter of the rows, up to four times, and makes ``omega``
        infinite for all other inputs; see `bcd_implicit.strength`. A number leaves it alone.
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
        Whether to work with inputs of zero mean and unit deviation. If not, penalties, importances
        and candidates are those of raw inputs. The fitted matrices always take raw inputs.
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
        Whether to go on from the last fit; with ``alpha="auto"`` at the strengths it chose. Where
        that did not use its states, or gains next to nothing on a model without any, random starts
        follow, unless one without states was chosen; apart from that, inputs may stay out that a
        stronger penalty has removed.
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
        Norm of the group ``[B; D]_g`` of every input, in standardised units or, with
        ``standardize=False``, those of raw inputs. It tells zero from not zero, but not how strong
        an effect is, for which there is `sklearn.inspection.permutation_importance`.
    support_ : ndarray of bool, shape (p,)
        Inputs whose group is not zero.
    alpha_, l2_, group_weights_ : float, float, ndarray of shape (p,)
        Strengths in use, and ``omega`` of every input, infinite for those that were excluded. It
        starts as the square root of the size of the group.
    groups_ : ndarray of int, shape (p,)
        Number of the group of every input.
    path_ : list of PathPoint
        Candidates of ``alpha="auto"``: those of the fold that was chosen or, if a model without
        states was, those of the first fold and, scored on all folds, those without states.
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

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """Return R2, in the mean over the outputs; targets of stored data are read whole.

        Parameters
        ----------
        X : array-like, data frame or CSR matrix of shape (m, p)
        y : array-like of shape (m,) or (m, q)
        sample_weight : array-like of shape (m,), optional
        """
        if is_table(X):
            y, F, sample_weight = in_memory(y, self.predict(X), sample_weight)
            return float(r2_score(y, F, sample_weight=sample_weight))
        return float(super().score(X, y, sample_weight))

    def _encode(self, X: Any, y: Any, sample_weight: Any) -> Encoded:
        if is_table(X):
            self._single_output = np.ndim(y) == 1
            X, table = self._table(X, y, sample_weight)
            found = survey_targets(table, labels=False)
            coding = Coding(found.n_outputs, unit=found.unit)
            return EncodedTable(X, SquaredLoss(), table, coding, found.weight)
        with naming_faults(X, y, numeric_targets=True):
            X, y = self._validated(X, y, multi_output=True, y_numeric=True)
            Y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        self._single_output = np.ndim(y) == 1
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
