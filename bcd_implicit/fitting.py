"""From prepared data to a certified model: strength and training in one call."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit.candidates import PathPoint
from bcd_implicit.exceptions import DataLostError
from bcd_implicit.fits import Fit, Outcome
from bcd_implicit.journal import Journal
from bcd_implicit.linear import NO_STATES, LinearFitter
from bcd_implicit.model import ImplicitModel
from bcd_implicit.monitor import Monitor
from bcd_implicit.prepared import Prepared
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.rows import FOLDS
from bcd_implicit.strength import DENSE_STRENGTH, choose_strength
from bcd_implicit.training import on_allowed_inputs, train
from bcd_implicit.training_data import TrainingData

__all__ = ["SEARCH_ROWS", "FittedModel", "Settings", "fit_model"]

Array = NDArray[np.float64]

SEARCH_ROWS = 10_000  # more do not change which inputs are found, only how long it takes
_FEWEST_ROWS = 16  # below, a validation part is too small to vouch for states
# Random starts begin at this strength and go on from there: with 20 states and the true inputs,
# 7 of 10 starts find the teacher, against 2 of 10 that begin at 1e-4.
_STRONG = 1e-2
_LEAST_GAIN = 0.01  # of the objective without states, that a warm start is to gain on it
_PERFECT = 1e-6  # of unit loss: an objective that needs no other start


@dataclass(frozen=True)
class Settings:
    """How to fit, besides the problem itself.

    Attributes
    ----------
    automatic : bool
        Whether the strengths and the inputs are to be chosen from the data.
    l2 : float, optional
        Where to keep the penalty of C while the rest is chosen; it is chosen too by default.
    max_iter, n_init : int
    tol : float
    """

    automatic: bool
    l2: float | None
    max_iter: int
    n_init: int
    tol: float


@dataclass(frozen=True)
class FittedModel:
    """A model in raw units, and the strengths, the fit and the candidates that it came from.

    Parameters, group weights and candidates are those of the inputs in their original order.
    """

    model: ImplicitModel
    alpha: float
    l2: float
    group_weights: Array
    parameters: Parameters
    objective: float
    n_iter: int
    outcome: Outcome
    path: list[PathPoint]

    @classmethod
    def of(
        cls, prepared: Prepared, problem: TrainingProblem, fit: Fit, path: list[PathPoint]
    ) -> "FittedModel":
        """Put a fit back into raw units and the original order of the inputs."""
        parameters = prepared.restored(fit.point.parameters)
        return cls(
            model=prepared.scaling.fold(parameters, problem.activation),
            alpha=problem.alpha * prepared.scaling.unit,
            l2=problem.l2,
            group_weights=prepared.restored_weights(problem.group_weights),
            parameters=prepared.scaling.reported(parameters),
            objective=fit.point.objective,
            n_iter=fit.n_iter,
            outcome=fit.outcome(),
            path=[prepared.restored_point(point) for point in path],
        )


def fit_model(
    prepared: Prepared,
    settings: Settings,
    rng: np.random.Generator,
    monitor: Monitor,
    *,
    start: ImplicitModel | None = None,
) -> FittedModel:
    """Fit an implicit model to prepared data.

    Parameters
    ----------
    prepared : Prepared
        The strengths and group weights of its problem are replaced if they are to be chosen.
    settings : Settings
    rng : numpy.random.Generator
    monitor : Monitor
    start : ImplicitModel, optional
        Warm start. The strengths of the problem are used as they are.

    Returns
    -------
    FittedModel
    """
    problem = prepared.problem
    path: list[PathPoint] = []
    data = prepared.blocks()
    warm = None
    if start is not None:
        warm = problem.feasible(prepared.inside(prepared.scaling.unfold(start)))
    interrupted = False
    if warm is None and settings.automatic:
        l2 = DENSE_STRENGTH if settings.l2 is None else settings.l2
        problem = replace(problem, alpha=DENSE_STRENGTH, l2=l2)
        linear = problem.feedthrough and settings.l2 is None
        enough = prepared.n_rows >= _FEWEST_ROWS
        parts = prepared.search_parts(rng, SEARCH_ROWS)
        if parts.folds and (enough or (linear and prepared.n_rows >= FOLDS)):
            monitor.stage = "search"
            strength = choose_strength(
                *parts,
                problem,
                rng,
                monitor,
                fixed_l2=settings.l2 is not None,
                with_states=enough,
            )
            monitor.stage = "final"
            path, interrupted = strength.path, strength.interrupted
            if interrupted:  # what follows is not what a search that is taken up will do
                monitor.journal = Journal()
            warm = strength.best.parameters
            problem = replace(
                problem,
                alpha=strength.best.alpha,
                l2=strength.best.l2,
                group_weights=strength.group_weights,
            )
        elif linear:  # so few rows tell nothing of an input: all that is known is their mean
            nothing = np.full(len(problem.group_weights), np.inf)
            problem = replace(problem, l2=NO_STATES, group_weights=nothing)
    try:
        fit = on_allowed_inputs(
            data,
            problem,
            warm,
            lambda some, of, begun: _final(
                some, of, settings, rng, monitor, begun, interrupted, given=start is not None
            ),
        )
    except DataLostError as error:
        best = warm if error.parameters is None else error.parameters
        if best is not None:
            error.model = prepared.scaling.fold(prepared.restored(best), problem.activation)
        raise
    return FittedModel.of(prepared, problem, fit, path)


def _final(
    data: TrainingData,
    problem: TrainingProblem,
    settings: Settings,
    rng: np.random.Generator,
    monitor: Monitor,
    warm: Parameters | None,
    interrupted: bool,
    *,
    given: bool,
) -> Fit:
    """Train on all rows: from the warm start, from random ones, or both, keeping the better.

    A model of other data or of a stronger penalty, which is ``given``, may lead nowhere: of inputs
    in another unit R2 was -7e7, and states that are not used find half of what there is or nothing.
    There, and where next to nothing is gained on a model without states, random starts follow.
    """
    budget = 0 if interrupted else settings.max_iter

    def run(start: Parameters | None) -> Fit:
        return train(
            data,
            problem,
            start=start,
            max_iter=budget,
            tol=settings.tol,
            n_init=settings.n_init,
            rng=rng,
            monitor=monitor,
            first=_strong(problem),
        )

    fits: list[Fit] = []
    random = warm is None or (settings.automatic and settings.n_init > 1)
    if warm is not None:
        fits.append(run(warm))
        interrupted = interrupted or fits[0].interrupted
        try:
            random = not interrupted and (
                random or (given and _leads_nowhere(data, problem, warm, fits[0]))
            )
        except KeyboardInterrupt:
            interrupted, random = True, False
    if random:
        try:
            fits.append(run(None))
        except KeyboardInterrupt:
            if not fits:
                raise
            interrupted = True
        except DataLostError as error:
            if fits and (error.parameters is None or not given):  # it has been trained to the end
                error.parameters = fits[0].point.parameters
            raise
    best = min(fits, key=lambda fit: fit.point.objective)
    if interrupted or any(fit.interrupted for fit in fits):
        best = replace(best, interrupted=True, converged=False)
    return best


def _leads_nowhere(
    data: TrainingData, problem: TrainingProblem, warm: Parameters, fit: Fit
) -> bool:
    """Whether a start uses no states, or a model without any does nearly as well as its fit.

    Where C is penalised away, only whether that does better.
    """
    with_states = problem.l2 < NO_STATES
    if not np.isfinite(problem.thresholds).any() or fit.point.objective <= _PERFECT:
        return False
    if with_states and not (warm.B.any() and warm.C.any()):
        return True
    linear = LinearFitter(data, problem)
    try:
        rival = linear.fit(problem, None) if problem.feedthrough else linear.constant()
        objective = linear.loss(rival) + problem.penalty(rival)
    except DataLostError as error:
        error.parameters = fit.point.parameters
        raise
    least = 1.0 - _LEAST_GAIN if with_states else 1.0 + _LEAST_GAIN
    return fit.point.objective > least * objective


def _strong(problem: TrainingProblem) -> TrainingProblem | None:
    """Return the problem at strengths that keep random starts from poor minima.

    Layers start at the strength of the problem: on digits the strong start costs them 0.01 of the
    accuracy.
    """
    if not problem.read.all():
        return None
    return replace(
        problem,
        alpha=max(problem.alpha, _STRONG),
        l2=max(problem.l2, _STRONG),
        group_weights=np.where(np.isinf(problem.thresholds), np.inf, 1.0),
    )
