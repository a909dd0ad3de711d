"""Fits side by side, and their progress: scikit-learn's callbacks where the version has them."""

from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from sklearn.utils.parallel import Parallel

try:
    from sklearn import callback as sklearn_callback
except ImportError:  # before scikit-learn 1.9
    sklearn_callback = None

__all__ = ["Reporting", "collect", "reporting"]

P = ParamSpec("P")
R = TypeVar("R")

_LINES = 10  # joblib's verbosity that reports every few fits


class Reporting(sklearn_callback.CallbackSupportMixin if sklearn_callback else object):  # type: ignore[misc]
    """An estimator whose fit reports its progress."""


def reporting(fit: Callable[P, R]) -> Callable[P, R]:
    """Let scikit-learn end the callbacks of a fit, also of one that fails."""
    if sklearn_callback is None:
        return fit
    return cast(Callable[P, R], sklearn_callback.with_callbacks(fit))


def collect(
    owner: Any, fits: Iterable[Any], count: int, n_jobs: int | None, X: Any, y: Any
) -> list[Any]:
    """Return the results of delayed fits in their order, reporting each as it arrives.

    There are ``count`` fits, taken a few at a time, so that only their rows are copied. Those to
    Dask collections take turns: each has all of Dask's workers, whose client and data another
    process would not know.
    ``owner`` is the estimator that is fitted, whose ``fit`` is decorated by `reporting`;
    without callbacks, joblib writes lines of progress if its ``verbose`` is positive.
    """
    if hasattr(X, "__dask_graph__"):
        n_jobs = 1
    heard = bool(getattr(owner, "_skl_callbacks", []))
    verbose = _LINES if owner.verbose and not heard else 0
    results = Parallel(n_jobs=n_jobs, verbose=verbose, return_as="generator")(fits)
    if not heard:
        return list(results)
    context = owner._init_callback_context(max_subtasks=count)
    context.call_on_fit_task_begin(estimator=owner, X=X, y=y)
    collected = []
    for result in results:
        task = context.subcontext(task_name="fit")
        task.call_on_fit_task_begin(estimator=owner)
        collected.append(result)
        task.call_on_fit_task_end(estimator=owner)
    context.call_on_fit_task_end(estimator=owner, X=X, y=y)
    return collected
