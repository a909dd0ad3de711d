"""An implicit estimator as the template of many fits."""

from typing import Any

from sklearn.base import clone

from bcd_implicit._estimator import ImplicitEstimator
from bcd_implicit._random import generator_of
from bcd_implicit.monitor import Monitor
from bcd_implicit.prepared import Prepared
from bcd_implicit.selection._fits import WarmFitter

__all__ = ["fitter_of", "search_fitter", "template_of"]

# of searches, which compare many supports
_STEPS = 8
_DENSE_STEPS = 10
_TOLERANCE = 1e-3
_INSIDE = ": make the selection a step of the pipeline, after those that prepare the inputs"


def template_of(estimator: Any) -> ImplicitEstimator:
    """Return an unfitted copy of an estimator, whose parameters are checked.

    Raises
    ------
    ValueError
        If it is no implicit estimator, or a parameter is out of range.
    """
    # one that chooses its strength on a path has no alpha
    if not isinstance(estimator, ImplicitEstimator) or "alpha" not in estimator.get_params():
        raise ValueError(
            "estimator must be an ImplicitRegressor or an ImplicitClassifier; got "
            f"{type(estimator).__name__}" + (_INSIDE if hasattr(estimator, "steps") else "")
        )
    template: ImplicitEstimator = clone(estimator)
    template._validate_params()
    return template


def fitter_of(
    template: ImplicitEstimator, prepared: Prepared, *, history: bool = False, **budget: Any
) -> WarmFitter:
    """Return a fitter to prepared data with the seed, starts and monitor of the template.

    The monitor keeps a ``history`` only if that is asked for.
    ``budget`` are ``max_iter``, ``tol``, ``window`` and ``dense_iter`` of `WarmFitter`.
    """
    return WarmFitter(
        prepared.blocks(),
        prepared.problem,
        rng=generator_of(template.random_state),
        monitor=Monitor(int(template.verbose), template.callback, keep=history),
        n_init=int(template.n_init),
        **budget,
    )


def search_fitter(template: ImplicitEstimator, prepared: Prepared) -> WarmFitter:
    """Return a fitter to data that ``template`` has prepared, with the budget of a search."""
    return fitter_of(
        template,
        prepared,
        max_iter=_STEPS,
        tol=_TOLERANCE,
        dense_iter=_DENSE_STEPS,
    )
