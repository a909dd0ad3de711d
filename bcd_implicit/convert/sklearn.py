"""scikit-learn's multi-layer perceptrons."""

from typing import Any

from bcd_implicit.convert.network import Network
from bcd_implicit.model import ImplicitModel

__all__ = ["from_sklearn"]

_ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}


def from_sklearn(estimator: Any) -> ImplicitModel:
    """Convert a fitted MLPRegressor or MLPClassifier.

    The states are the hidden units, layer by layer. A regressor's model predicts what it predicts;
    a classifier's predicts the probabilities: of the second class if there are two, of every class
    otherwise (``predict_proba``), its last states being a sigmoid or a softmax.

    Parameters
    ----------
    estimator : MLPRegressor or MLPClassifier

    Returns
    -------
    ImplicitModel

    Raises
    ------
    TypeError
        If it is something else.
    NotFittedError
        If it is not fitted.
    ValueError
        If its output is exponential (Poisson regression).

    References
    ----------
    L. El Ghaoui, F. Gu, B. Travacca, A. Askari, A. Tsai, "Implicit deep learning", SIAM J. Math.
    Data Sci. 3 (2021), section on fully connected networks.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X = np.random.default_rng(0).standard_normal((50, 3))
    >>> mlp = MLPRegressor(hidden_layer_sizes=(5, 4), tol=1e-2, random_state=0).fit(X, X[:, 0])
    >>> bool(np.allclose(from_sklearn(mlp).predict(X)[:, 0], mlp.predict(X), atol=1e-12))
    True
    """
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.utils.validation import check_is_fitted

    if not isinstance(estimator, (MLPClassifier, MLPRegressor)):
        raise TypeError(
            "estimator must be an MLPRegressor or MLPClassifier of scikit-learn; got "
            f"{type(estimator).__name__}"
        )
    check_is_fitted(estimator)
    network = Network(estimator.coefs_[0].shape[0], dtype=estimator.coefs_[0].dtype)
    value = network.inputs
    layers = list(zip(estimator.coefs_, estimator.intercepts_, strict=True))
    for W, b in layers[:-1]:
        value = network.activate(network.linear(value, W.T, b), _ACTIVATIONS[estimator.activation])
    W, b = layers[-1]
    value = network.linear(value, W.T, b)
    if estimator.out_activation_ == "softmax":
        value = network.activate(value, "softmax", size=len(value))
    elif estimator.out_activation_ != "identity":
        if estimator.out_activation_ not in _ACTIVATIONS:
            raise ValueError(
                f"estimator has the output {estimator.out_activation_!r}, which is no activation "
                "here; fit it with loss='squared_error'"
            )
        value = network.activate(value, _ACTIVATIONS[estimator.out_activation_])
    return network.model(value)
