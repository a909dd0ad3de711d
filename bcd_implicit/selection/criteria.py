"""Information criteria along a path: a choice without cross-validation."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from bcd_implicit._group_numbers import group_numbers
from bcd_implicit.encoded import Encoded
from bcd_implicit.problem import Parameters
from bcd_implicit.selection._fits import group_count, has_constants
from bcd_implicit.selection._path_models import PathModels

__all__ = ["degrees_of_freedom", "information_criterion", "path_criteria"]

Array = NDArray[np.float64]


def degrees_of_freedom(
    parameters: Parameters, *, homogeneous: bool, intercept: bool, constants: bool = False
) -> int:
    """Return the number of free parameters in use.

    Counted are the entries of A, B, b and C that belong to live states and are not zero, those of
    D, and with an intercept all of d: of centred targets it is zero, or what rounding leaves of it,
    but it has been fitted. With ``constants``, states that nothing drives stand in for intercepts,
    and the entries of b and d that these would have are counted. A state is live if it reaches an
    output, by C, or by A through another live state, and an input reaches it likewise. For a
    positively homogeneous activation the scale of every live state is free of consequence, and one
    is taken off for it. Shrinkage is not credited, so that the number is an upper bound of the
    degrees of freedom of the penalised fit.

    Examples
    --------
    >>> one, none = np.ones((1, 1)), np.zeros((1, 1))
    >>> model = Parameters(none, one, none[0], one, one, one[0])
    >>> degrees_of_freedom(model, homogeneous=True, intercept=True)
    3
    """
    A, C = parameters.A, parameters.C
    live = (C != 0.0).any(axis=0)
    for _ in range(len(A)):
        live |= (A[live] != 0.0).any(axis=0)
    # a state that nothing drives is a constant, which the intercepts hold already, if there are any
    driven = (parameters.B != 0.0).any(axis=1)
    for _ in range(len(A)):
        driven |= (A[:, driven] != 0.0).any(axis=1)
    still = live & ~driven
    live &= driven
    blocks = (
        A[np.ix_(live, live)],
        parameters.B[live],
        parameters.b[live],
        C[:, live],
        parameters.D,
    )
    count = sum(int(np.count_nonzero(block)) for block in blocks)
    count += len(parameters.d) if intercept else 0
    if constants:
        count += sum(int((M[:, still] != 0.0).any(axis=1).sum()) for M in (A[live], C))
    return count - (int(np.count_nonzero(live)) if homogeneous else 0)


def information_criterion(
    name: str,
    loss: float,
    df: int,
    n_samples: float,
    n_outputs: int,
    n_groups: int,
    n_selected: int,
    *,
    quadratic: bool,
) -> float:
    """Return ``-2 log likelihood`` plus a price of the degrees of freedom.

    Parameters
    ----------
    name : {"aic", "bic", "ebic"}
        The price of a degree of freedom is 2, ``log n_samples`` for the others. "ebic" adds
        ``2 log binomial(n_groups, n_selected)`` for the number of supports of that size.
    loss : float
        Mean unpenalised loss. A squared one is that of Gaussian noise of unknown variance, equal
        for all outputs: ``n q log(2 loss / q)``; the others are ``2 n loss``.
    df : int
    n_samples : float
        Sum of the weights, those of classes included.
    n_outputs, n_groups, n_selected : int
    quadratic : bool
        Whether the loss is squared.

    Returns
    -------
    float
        Infinite for a squared loss with as many degrees of freedom as there are equations: nothing
        is left to estimate a variance from.

    References
    ----------
    J. Chen, Z. Chen, "Extended Bayesian information criteria for model selection with large model
    spaces", Biometrika 95 (2008).

    Examples
    --------
    >>> round(information_criterion("bic", 0.5, 2, 100.0, 1, 10, 3, quadratic=True), 6)
    9.21034
    """
    if quadratic and df >= n_samples * n_outputs:
        return np.inf
    if quadratic:
        deviance = n_samples * n_outputs * np.log(max(2.0 * loss / n_outputs, 1e-300))
    else:
        deviance = 2.0 * n_samples * loss
    value = deviance + df * (2.0 if name == "aic" else np.log(n_samples))
    if name == "ebic":
        supports = gammaln(n_groups + 1) - gammaln(n_selected + 1)
        value += 2.0 * (supports - gammaln(n_groups - n_selected + 1))
    return float(value)


def path_criteria(name: str, models: PathModels, data: Encoded) -> Array:
    """Return the criterion of every model."""
    problem = models.units.problem
    homogeneous = problem.activation.positively_homogeneous
    constants = has_constants(problem)
    labels = group_numbers(problem)
    n_groups = group_count(problem)
    return np.array(
        [
            information_criterion(
                name,
                step.loss,
                degrees_of_freedom(
                    step.parameters,
                    homogeneous=homogeneous,
                    intercept=problem.intercept,
                    constants=constants,
                ),
                data.weight,
                data.n_outputs,
                n_groups,
                len(np.unique(labels[step.columns])),
                quadratic=data.loss.quadratic,
            )
            for step in models.steps
        ]
    )
