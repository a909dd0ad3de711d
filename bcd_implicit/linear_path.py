"""Cross-validated candidates of the model without states: its whole path, with refits."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bcd_implicit._group_numbers import whole_groups
from bcd_implicit.candidates import PathPoint
from bcd_implicit.linear import NO_STATES, LinearFitter
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import Parameters, TrainingProblem
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training_data import PassCounter
from bcd_implicit.validation_rows import validation_losses, validation_weights

__all__ = ["linear_path"]

Array = NDArray[np.float64]

_STRENGTHS = 10.0 ** -np.linspace(0.0, 3.0, 16)  # of the one that empties the model
_REFITS = (0.3, 0.03)  # of the strength that chose the inputs: takes back their shrinkage
_PATIENCE = 3  # strengths without a better candidate before the path ends


def linear_path(
    data: RowBlocks,
    folds: list[tuple[RowBlocks, RowBlocks]],
    problem: TrainingProblem,
    monitor: Monitor,
) -> tuple[list[PathPoint], list[PathPoint]]:
    """Return models without states over falling strengths, each also refitted at weaker ones.

    Parameters
    ----------
    data : RowBlocks
        What the returned models are fitted to.
    folds : list of (RowBlocks, RowBlocks)
        Training and validation parts, in the same units. The losses of the candidates are those
        of the validation rows, fold after fold, of models that were fitted to the training parts,
        which choose their inputs by themselves.
    problem : TrainingProblem
    monitor : Monitor
        Receives one record for every candidate.

    Returns
    -------
    path : list of PathPoint
        One for every strength; the first is the empty model.
    refits : list of PathPoint
        The same inputs at weaker strengths.
    """
    parts = [data, *(training for training, _ in folds)]
    weights = validation_weights([validation for _, validation in folds])
    passes = PassCounter(*parts)
    fitters = [LinearFitter(part, problem) for part in parts]
    starts = [fitter.empty() for fitter in fitters]
    current = [parameters for parameters, *_ in starts]
    path: list[PathPoint] = []
    refits: list[PathPoint] = []

    def candidate(alpha: float, models: list[Parameters]) -> PathPoint:
        losses = np.concatenate(
            [
                validation_losses(validation, problem, model)
                for (_, validation), model in zip(folds, models[1:], strict=True)
            ]
        )
        loss = float(weights @ losses)
        point = PathPoint.of(alpha, NO_STATES, models[0], losses, loss, problem.groups)
        monitor.record(
            "linear",
            "D",
            active_inputs=point.n_inputs,
            objective=point.loss,
            passes=passes(),
        )
        return point

    best, best_at = np.inf, 0
    for index, alpha in enumerate(starts[0][1] * _STRENGTHS):
        strong = replace(problem, alpha=float(alpha))
        current = [f.fit(strong, start) for f, start in zip(fitters, current, strict=True)]
        path.append(candidate(float(alpha), current))
        refitted = current
        for factor in _REFITS if any(model.active.any() for model in current) else ():
            refitted = [
                fitter.fit(
                    replace(
                        strong,
                        alpha=float(factor * alpha),
                        # of whole groups: a constant input of one that is used is not
                        group_weights=np.where(
                            whole_groups(problem.groups, model.active),
                            problem.group_weights,
                            np.inf,
                        ),
                    ),
                    model,
                )
                for fitter, model in zip(fitters, refitted, strict=True)
            ]
            refits.append(candidate(float(factor * alpha), refitted))
        loss = min(point.loss for point in path + refits)
        if loss < best:
            best, best_at = loss, index
        elif index - best_at >= _PATIENCE and all(model.active.any() for model in current):
            break  # without its one far row a part may stay empty long after the others
    return path, refits
