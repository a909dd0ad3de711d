"""The path of models without states: where it begins and ends, and its refits."""

import numpy as np
import pytest

from bcd_implicit import linear_path as module
from bcd_implicit.linear import LinearFitter
from bcd_implicit.linear_path import linear_path
from bcd_implicit.monitor import Monitor
from bcd_implicit.statistics import RowBlocks


@pytest.mark.parametrize(("last", "length"), [(0, 4), (5, 9)])
def test_the_path_ends_three_strengths_after_its_best_candidate(
    last, length, make_problem, make_data, monkeypatch
):
    """Which may be a refit: of all strengths but the first there are two."""
    data, made = make_data(), []

    def losses(validation, problem, model):
        strength, kind = divmod(len(made) + 2, 3)
        made.append(model)
        better = 0.01 * strength if kind and strength <= last else 0.0
        return np.full(40, 1.0 - better)

    monkeypatch.setattr(module, "validation_losses", losses)
    path, refits = linear_path(data, [(data, data)], make_problem(), Monitor())
    assert (len(path), len(refits)) == (length, 2 * (length - 1))


def test_the_path_begins_where_nothing_is_left_of_all_rows(make_problem, make_data, pick_rows):
    data, problem = make_data(m=80), make_problem()
    strong = np.argsort(-np.abs(data.Y).sum(axis=1)).argsort() < 40
    weak = RowBlocks(data.U, 0.1 * data.Y, data.weights, data.centre, 1.0 / data.inverse_scale)
    folds = [(pick_rows(weak, ~strong), pick_rows(data, strong))]
    path, _ = linear_path(data, folds, problem, Monitor())
    assert path[0].alpha == LinearFitter(data, problem).empty()[1]
    assert path[0].n_inputs == 0 < path[1].n_inputs


def test_the_path_goes_on_while_the_model_of_a_part_is_empty(make_problem, make_data, pick_rows):
    """Without the one row that is far away, inputs and targets of a part are small."""
    data, problem = make_data(m=80), make_problem()
    U, Y = 0.1 * data.U, 0.1 * (data.U[:, :1] + 0.1 * data.Y)
    U[0], Y[0] = 0.0, 0.0
    U[0, 0] = Y[0, 0] = 9.0
    data = RowBlocks(U, Y, data.weights, data.centre, 1.0 / data.inverse_scale)
    far = np.arange(80) == 0
    folds = [(pick_rows(data, ~far), pick_rows(data, far))]
    path, refits = linear_path(data, folds, problem, Monitor())
    assert min(point.loss for point in path + refits) < 0.6 * path[0].loss


def test_refits_have_their_strengths(make_problem, make_data):
    data, monitor = make_data(), Monitor()
    path, refits = linear_path(data, [(data, data)], make_problem(), monitor)
    parents = np.repeat([point.alpha for point in path[1:]], 2)
    factors = np.tile([0.3, 0.03], len(path) - 1)
    np.testing.assert_allclose([refit.alpha for refit in refits], parents * factors)
    made = sorted(point.loss for point in path + refits)
    assert sorted(record["objective"] for record in monitor.history) == made
