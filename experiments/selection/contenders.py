"""Methods that rank inputs, behind one function each, with the settings their authors recommend.

Every function takes standardised inputs, a target, the number of inputs that will be taken, and a
seed, and returns a score for each input: the larger, the more important. A target of integers is a
class, of floats a quantity; a matrix has several outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import (
    f_classif,
    f_regression,
    mutual_info_classif,
    mutual_info_regression,
)
from sklearn.linear_model import LogisticRegression, MultiTaskLassoCV
from sklearn.model_selection import train_test_split

from bcd_implicit import ImplicitClassifier, ImplicitFeatureSelector, ImplicitRegressor

__all__ = ["CONTENDERS", "Scores", "forest", "is_classes", "trees"]

Scores = NDArray[np.float64]
Rank = Callable[[Any, Any, int, int], Scores]


def is_classes(y: Any) -> bool:
    """Tell whether a target is of classes."""
    return bool(np.issubdtype(np.asarray(y).dtype, np.integer))


def forest(y: Any, seed: int, n_trees: int = 200) -> Any:
    """Return a random forest for a target."""
    kind = RandomForestClassifier if is_classes(y) else RandomForestRegressor
    return kind(n_trees, random_state=seed, n_jobs=2)


def trees(y: Any, seed: int) -> Any:
    """Return scikit-learn's extremely randomised trees for a target."""
    kind = ExtraTreesClassifier if is_classes(y) else ExtraTreesRegressor
    return kind(random_state=seed, n_jobs=2)


def implicit(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by nonlinear backward elimination, as `ImplicitFeatureSelector` does."""
    kind = ImplicitClassifier if is_classes(y) else ImplicitRegressor
    model = kind(10, random_state=seed)
    selector = ImplicitFeatureSelector(model, n_features_to_select=k, refit_alpha=1e-3).fit(X, y)
    return np.asarray(-selector.ranking_, dtype=np.float64)


def lasso_net(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the strength at which LassoNet's path drops an input."""
    from lassonet import LassoNetClassifier, LassoNetRegressor

    kind = LassoNetClassifier if is_classes(y) else LassoNetRegressor
    model = kind(hidden_dims=(100,), random_state=seed, torch_seed=seed, verbose=0)
    target = np.asarray(y) if is_classes(y) else np.asarray(y, dtype=np.float32)
    path = model.path(np.asarray(X, dtype=np.float32), target, return_state_dicts=False)
    # where the whole path keeps or drops inputs together, the weights of the last step decide
    counted = np.sum([point.selected.numpy() for point in path], axis=0, dtype=np.float64)
    dropped = model.feature_importances_.numpy().astype(np.float64)
    return np.asarray(counted + dropped / (1.0 + dropped.max()))


def stochastic_gates(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the gates that STG leaves open."""
    from stg import STG

    classes = is_classes(y)
    n_outputs = len(np.unique(y)) if classes else 1
    model = STG(
        device="cpu",
        task_type="classification" if classes else "regression",
        input_dim=X.shape[1],
        output_dim=n_outputs,
        hidden_dims=[60, 20],
        activation="tanh" if classes else "relu",
        optimizer="SGD",
        learning_rate=0.1,
        batch_size=len(X),
        sigma=0.5,
        lam=0.1,
        random_state=seed,
    )
    X_train, X_valid, y_train, y_valid = train_test_split(X, y, test_size=0.2, random_state=seed)
    if not classes:
        y_train, y_valid = y_train[:, np.newaxis], y_valid[:, np.newaxis]
    model.fit(X_train, y_train, nr_epochs=3000, valid_X=X_valid, valid_y=y_valid, verbose=False)
    return np.asarray(model.get_gates(mode="raw"), dtype=np.float64)


def random_forest(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the decrease of impurity in a forest."""
    return np.asarray(forest(y, seed).fit(X, y).feature_importances_)


def boruta(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank as Boruta does."""
    from boruta import BorutaPy

    model = BorutaPy(forest(y, seed, 100), n_estimators="auto", random_state=seed, max_iter=50)
    model.fit(np.asarray(X), np.asarray(y))
    importance = random_forest(X, y, k, seed)
    return np.asarray(-model.ranking_ + importance / (1.0 + importance.max()))


def mutual_information(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the mutual information of each input with the target."""
    measure = mutual_info_classif if is_classes(y) else mutual_info_regression
    return np.asarray(measure(X, y, random_state=seed))


def fisher(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the Fisher score, whose order is that of the F statistic."""
    measure = f_classif if is_classes(y) else f_regression
    return np.asarray(np.nan_to_num(measure(X, y)[0], posinf=np.inf))


def hsic_lasso(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the order in which HSIC-Lasso takes the inputs in."""
    from pyHSICLasso import HSICLasso

    model = HSICLasso()
    model.input(np.asarray(X, dtype=np.float64), np.asarray(y))
    block = min(20, len(X))
    if is_classes(y):
        model.classification(k, B=block, n_jobs=2)
    else:
        model.regression(k, B=block, n_jobs=2)
    scores = np.zeros(X.shape[1])
    scores[model.get_index()] = np.asarray(model.get_index_score())
    return scores


def l1_logistic(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the coefficients at the strongest penalty that leaves k inputs."""
    scores = np.zeros(X.shape[1])
    for strength in np.geomspace(1e-3, 10.0, 17):
        model = LogisticRegression(
            C=strength, l1_ratio=1.0, solver="saga", max_iter=300, random_state=seed
        ).fit(X, y)
        scores = np.linalg.norm(model.coef_, axis=0)
        if np.count_nonzero(scores) >= k:
            break
    return np.asarray(scores)


def multi_task_lasso(X: Any, y: Any, k: int, seed: int) -> Scores:
    """Rank by the coefficients of a cross-validated multi-task lasso."""
    Y = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
    return np.asarray(np.linalg.norm(MultiTaskLassoCV(n_jobs=2).fit(X, Y).coef_, axis=0))


CONTENDERS: dict[str, Rank] = {
    "bcd_implicit": implicit,
    "LassoNet": lasso_net,
    "STG": stochastic_gates,
    "random forest": random_forest,
    "Boruta": boruta,
    "mutual information": mutual_information,
    "Fisher score": fisher,
    "HSIC-Lasso": hsic_lasso,
    "l1 logistic": l1_logistic,
    "MultiTaskLassoCV": multi_task_lasso,
}
