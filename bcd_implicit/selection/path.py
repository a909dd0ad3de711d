"""The whole regularisation path of an implicit model, from all inputs to none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import _check_feature_names_in

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._typing import BoolArray, IntArray
from bcd_implicit.model import ImplicitModel
from bcd_implicit.prepared import Prepared
from bcd_implicit.regressor import ImplicitRegressor
from bcd_implicit.selection._grid import Grid
from bcd_implicit.selection._path_models import PathModels
from bcd_implicit.selection._template import template_of

if TYPE_CHECKING:
    from bcd_implicit.displays import PathDisplay

__all__ = ["ImplicitPath", "fit_path", "implicit_path"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class ImplicitPath:
    """A regularisation path, strengths rising.

    Attributes
    ----------
    alphas, l2s : ndarray of shape (k,)
        Strengths of the group penalty and of the penalty of C.
    objectives, losses : ndarray of shape (k,)
        True objective, at the true equilibrium, and what it is without the penalties. On the grid
        of `implicit_path` the objective never falls as the strength rises.
    scores : ndarray of shape (k,)
        Of the models on the training data, as the estimator scores.
    supports : ndarray of bool, shape (k, p)
    importances : ndarray of shape (k, p)
        Norm of the group of every input, in standardised units or, with ``standardize=False``,
        those of raw inputs.
    residuals : ndarray of shape (k,)
        Largest violation of the optimality conditions over all inputs, in the unit of training.
    n_iters : ndarray of int, shape (k,)
        Steps of the exact phase at a strength, without tries that came to nothing.
    alpha_max : float
        The smallest strength, to 2 %, at which the path is empty: the empty model is stationary,
        and what comes from the denser side is empty or no better. It is the last of ``alphas``.
        NaN if the strengths were given, infinite if no strength that was tried empties it.
    feature_names : ndarray of str, shape (p,)
    """

    alphas: Array
    l2s: Array
    objectives: Array
    losses: Array
    scores: Array
    supports: BoolArray
    importances: Array
    residuals: Array
    n_iters: NDArray[np.intp]
    alpha_max: float
    feature_names: NDArray[Any]
    _models: PathModels

    def __len__(self) -> int:
        return len(self.alphas)

    def __repr__(self) -> str:
        counts, (k, p) = self.supports.sum(axis=1), self.supports.shape
        return (
            f"<ImplicitPath: alphas {self.alphas[0]:.3g} to {self.alphas[-1]:.3g} ({k}), "
            f"{counts.max()} to {counts.min()} of {p} inputs>"
        )

    def estimator(self, index: int) -> ImplicitEstimator:
        """Return the model at a strength as a fitted estimator."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be that of one of {len(self)} strengths; got {index!r}")
        return self._models.estimator(index)

    def model(self, index: int) -> ImplicitModel:
        """Return the model at a strength, in raw units."""
        model: ImplicitModel = self.estimator(index).model_
        return model

    @property
    def models(self) -> Iterator[ImplicitModel]:
        """The models in the order of the strengths; each is made when it is asked for."""
        return (self.model(index) for index in range(len(self)))

    @property
    def groups(self) -> IntArray:
        """Number of the group of every input."""
        groups: IntArray = self.estimator(0).groups_
        return groups

    @property
    def unit(self) -> float:
        """Unit in which strengths are measured for the penalty of C: 1 of standardised inputs."""
        return self._models.units.scaling.unit

    def candidates(self, prepared: Prepared) -> dict[str, PathModels]:
        """Return its models and less shrunk ones; see `PathModels.candidates`."""
        return self._models.candidates(prepared)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each strength, and a column for each input.

        An input named as one of the other columns, such as "score", becomes "input score", or
        "input input score" if there is one of that name, too.
        """
        import pandas as pd

        table = {
            "alpha": self.alphas,
            "l2": self.l2s,
            "objective": self.objectives,
            "loss": self.losses,
            "score": self.scores,
            "residual": self.residuals,
            "n_iter": self.n_iters,
            "n_inputs": self.supports.sum(axis=1),
        }
        names, taken = [], {*table, *self.feature_names}
        for name in self.feature_names:
            if name in table:
                while name in taken:
                    name = f"input {name}"
                taken.add(name)
            names.append(name)
        norms = pd.DataFrame(self.importances, columns=names)
        return pd.concat([pd.DataFrame(table), norms], axis=1)

    def plot(self, ax: Any = None, **options: Any) -> "PathDisplay":
        """Draw the importances against the strength; see `bcd_implicit.displays.PathDisplay`."""
        from bcd_implicit.displays import PathDisplay

        return PathDisplay.from_path(self, ax=ax, **options)


def implicit_path(
    X: Any,
    y: Any,
    *,
    estimator: ImplicitEstimator | None = None,
    alphas: ArrayLike | None = None,
    n_alphas: int = 16,
    eps: float = 1e-2,
    max_iter: int = 4,
    sample_weight: ArrayLike | None = None,
) -> ImplicitPath:
    """Fit an implicit model at many strengths of the group penalty, from dense to sparse.

    It begins with all inputs, since those that act only together are invisible to a sparse start,
    and every model starts from the denser one before it, and goes on with the larger half of its
    groups as long as the objective is lower for it. On the way back, a model is replaced where its
    sparser neighbour leads to a lower objective.

    Parameters
    ----------
    X : array-like, data frame or CSR matrix of shape (m, p)
    y : array-like of shape (m,) or (m, q)
    estimator : ImplicitRegressor or ImplicitClassifier, optional
        Its parameters are those of the models, except for ``alpha``, and for ``max_iter``, ``tol``,
        ``warm_start`` and those of checkpoints, of which a path makes no use; with ``l2="auto"``
        the penalty of C equals that of the groups, measured in a unit of about the median deviation
        of inputs that are not standardised. `ImplicitRegressor` by default.
    alphas : array-like, optional
        The strengths. By default they rise from ``eps`` times the largest gradient that an input
        of unit deviation could have, or one of about the median deviation if inputs are not
        standardised, to where the model is empty.
    n_alphas : int, default=16
        Strengths up to that gradient; the path goes on at the same ratio, or at 1.05 if that is
        larger, until it is empty.
    eps : float, default=1e-2
    max_iter : int, default=4
        Most iterations of the exact phase at every strength on the way back, half of it on the way
        up; each try with half of the groups has all of it. With 0, states lose inputs after the
        dense start, and C is refitted: a third of the time, but models do not minimise the
        objective, and with few rows may have lost what has no linear effect.
    sample_weight : array-like of shape (m,), optional

    Returns
    -------
    ImplicitPath

    Raises
    ------
    ValueError
        If a parameter or the data are out of range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((300, 6))
    >>> y = np.abs(X[:, 1]) + X[:, 4]
    >>> path = implicit_path(X, y, estimator=ImplicitRegressor(5, random_state=0), n_alphas=8)
    >>> bool(path.supports[0, [1, 4]].all()), path.supports[-1].any()
    (True, np.False_)
    """
    template = template_of(ImplicitRegressor() if estimator is None else estimator)
    grid = Grid.checked(alphas, n_alphas, eps, max_iter)
    prepared = template._prepared(template._encode(X, y, sample_weight))
    weights = template._weights_of_rows(X, sample_weight)
    return fit_path(template, prepared, X, y, weights, grid)


def fit_path(
    template: ImplicitEstimator,
    prepared: Prepared,
    X: Any,
    y: Any,
    sample_weight: Any,
    grid: Grid,
) -> ImplicitPath:
    """Fit the path to data that ``template`` has coded and prepared. See `implicit_path`."""
    models = PathModels.of(template, prepared, grid)
    steps = models.steps
    supports, norms, scores = [], [], []
    for index in range(len(steps)):
        model = models.estimator(index)
        supports.append(model.support_)
        norms.append(model.feature_importances_)
        scores.append(model.score(X, y, sample_weight))
    return ImplicitPath(
        alphas=models.alphas,
        l2s=np.array([step.l2 for step in steps]),
        objectives=np.array([step.objective for step in steps]),
        losses=np.array([step.loss for step in steps]),
        scores=np.array(scores),
        supports=np.array(supports),
        importances=np.array(norms),
        residuals=np.array([step.residual for step in steps]),
        n_iters=np.array([step.n_iter for step in steps]),
        alpha_max=models.alpha_max,
        feature_names=_check_feature_names_in(template),
        _models=models,
    )
