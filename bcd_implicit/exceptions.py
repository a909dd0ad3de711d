"""Errors and warnings of the package.

A fit that stops before its tolerance warns with `sklearn.exceptions.ConvergenceWarning`, the class
that users of scikit-learn already filter on; the package adds no warning of its own for that.
"""

from typing import Any

__all__ = [
    "CheckpointWarning",
    "DataLostError",
    "EquilibriumError",
    "IllPosedError",
    "InterruptedFitWarning",
]


class IllPosedError(ValueError):
    """No weighted maximum norm was found in which the state equation is a contraction.

    The equation ``x = phi(A x + B u + b)`` may then have no solution, or many.

    Examples
    --------
    >>> from bcd_implicit.wellposed import contraction
    >>> try:
    ...     contraction([[2.0]])
    ... except IllPosedError:
    ...     print("refused")
    refused
    """


class EquilibriumError(RuntimeError):
    """The states could not be computed to the tolerance within the allowed iterations.

    Examples
    --------
    >>> issubclass(EquilibriumError, RuntimeError)
    True
    """


class DataLostError(RuntimeError):
    """The rows could not be reached any more: the cluster that holds them is gone.

    Attributes
    ----------
    model : ImplicitModel or None
        The best model found before.
    parameters : Parameters or None
        Its blocks, in the units of the training.

    Examples
    --------
    >>> DataLostError("the scheduler is gone").model is None
    True
    """

    model: Any = None
    parameters: Any = None


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written, or a damaged one was passed over.

    Examples
    --------
    >>> issubclass(CheckpointWarning, UserWarning)
    True
    """


class InterruptedFitWarning(UserWarning):
    """A fit was stopped by the user and returns the best model found so far.

    Examples
    --------
    >>> issubclass(InterruptedFitWarning, UserWarning)
    True
    """
