"""What a checkpoint keeps of a call of `bcd_implicit.training.train`: numbers and arrays."""

from dataclasses import fields
from typing import Any

import numpy as np

from bcd_implicit.exact import Point
from bcd_implicit.fits import Fit
from bcd_implicit.metric import MetricSums
from bcd_implicit.problem import Parameters
from bcd_implicit.trainer import Progress

__all__ = ["fit_of", "known_of_fit", "known_of_progress", "progress_of"]

_NUMBERS = ("objective", "error", "n_iter", "eta", "tolerance", "objectives", "held_out", "spent")


def known_of_progress(progress: Progress) -> dict[str, Any]:
    """Return what is known of a call that is running."""
    known: dict[str, Any] = {"finished": False}
    known |= {name: getattr(progress, name) for name in _NUMBERS}
    return known | _flat("point", progress.parameters) | _flat("began", progress.began)


def progress_of(known: dict[str, Any]) -> Progress:
    """Undo `known_of_progress`."""
    numbers = {name: known[name] for name in _NUMBERS}
    return Progress(
        parameters=_parameters("point", known), began=_parameters("began", known), **numbers
    )


def known_of_fit(fit: Fit) -> dict[str, Any]:
    """Return what is known of a call that has ended: its outcome without the derivatives."""
    point = fit.point
    known: dict[str, Any] = {
        "finished": True,
        "objective": point.objective,
        "error": point.error,
        "residual": point.residual,
        "n_states": len(point.parameters.A),
        "n_iter": fit.n_iter,
        "decrease": fit.decrease,
        "eta": fit.eta,
        "converged": fit.converged,
    }
    return known | _flat("point", point.parameters) | _flat("began", fit.began)


def fit_of(known: dict[str, Any]) -> Fit:
    """Undo `known_of_fit`."""
    nothing = np.empty((0, 0))
    point = Point(
        parameters=_parameters("point", known),
        objective=known["objective"],
        error=known["error"],
        gradient=nothing,
        XX=nothing,
        XU=np.empty((known["n_states"], 0)),
        metric=MetricSums(nothing, nothing, nothing, 0.0),
        residual=known["residual"],
    )
    return Fit(
        point=point,
        began=_parameters("began", known),
        n_iter=known["n_iter"],
        decrease=known["decrease"],
        eta=known["eta"],
        converged=known["converged"],
        interrupted=False,
    )


def _flat(name: str, parameters: Parameters) -> dict[str, Any]:
    """Return the arrays of parameters, of the inputs in use alone."""
    columns = np.flatnonzero(parameters.active)
    some = parameters.only(columns)
    flat: dict[str, Any] = {f"{name}.{f.name}": getattr(some, f.name) for f in fields(some)}
    return flat | {f"{name}.columns": columns, f"{name}.p": parameters.B.shape[1]}


def _parameters(name: str, known: dict[str, Any]) -> Parameters:
    """Undo `_flat`."""
    some = Parameters(**{f.name: known[f"{name}.{f.name}"] for f in fields(Parameters)})
    return some.among(known[f"{name}.columns"], known[f"{name}.p"])
