"""The training problem: penalties, certificate and feasibility."""

from dataclasses import replace

import numpy as np
import pytest

from bcd_implicit.activations import Activation
from bcd_implicit.per_state import PerState
from bcd_implicit.problem import group_norms
from bcd_implicit.wellposed import row_sums


def test_group_norms_are_those_of_the_stacked_columns():
    rng = np.random.default_rng(0)
    B, D = rng.standard_normal((3, 5)), rng.standard_normal((2, 5))
    np.testing.assert_allclose(group_norms(B, D), np.linalg.norm(np.vstack([B, D]), axis=0))


def test_stacked_holds_every_block_but_the_readout(make_problem, make_data, make_parameters):
    parameters = make_parameters(make_problem(), make_data())
    zero = np.zeros((2, 4))
    expected = np.block(
        [
            [parameters.A, parameters.B, parameters.b[:, np.newaxis]],
            [zero, parameters.D, np.zeros((2, 1))],
        ]
    )
    np.testing.assert_array_equal(parameters.stacked(), expected)


def test_scaling_leaves_the_prediction(make_problem, make_data, make_parameters, loss_of):
    problem, data = make_problem(), make_data()
    parameters = make_parameters(problem, data)
    new = parameters.scaled(3.0)
    assert loss_of(problem, new, data) == pytest.approx(loss_of(problem, parameters, data))
    np.testing.assert_array_equal(new.B, 3.0 * parameters.B)
    np.testing.assert_array_equal(new.A, parameters.A)


def test_active_inputs(make_problem, make_data, make_parameters):
    parameters = make_parameters(make_problem(), make_data())
    parameters.B[:, [1, 2]] = 0.0
    parameters.D[:, [1, 3]] = 0.0
    assert parameters.active.tolist() == [True, False, True, True, True]


def test_penalty(variant, make_problem, make_data, make_parameters, objective_of, loss_of):
    problem, data = make_problem(**variant), make_data()
    parameters = make_parameters(problem, data)
    expected = objective_of(problem, parameters, data) - loss_of(problem, parameters, data)
    assert problem.penalty(parameters) == pytest.approx(expected)


def test_excluded_inputs_have_an_infinite_threshold_even_without_a_penalty(make_problem):
    problem = make_problem(alpha=0.0, group_weights=np.array([1.0, np.inf]))
    assert problem.thresholds.tolist() == [0.0, np.inf]


def test_the_penalty_of_an_excluded_input_is_infinite(make_problem, make_data, make_parameters):
    parameters = make_parameters(make_problem(), make_data())
    excluding = make_problem(group_weights=np.array([np.inf, 1.0, 1.0, 1.0, 1.0]))
    assert excluding.penalty(parameters) == np.inf


def test_mask(make_problem):
    assert make_problem().mask.all()
    pattern = np.tri(4, dtype=bool)
    assert make_problem(pattern=pattern).mask is pattern


@pytest.mark.parametrize("kappa", [0.1, 0.5, 0.95, 1 - 2**-52])
def test_the_contraction_covers_every_admissible_matrix(kappa, activation, make_problem):
    problem = make_problem(activation, kappa=kappa)
    assert activation.lipschitz * kappa < problem.contraction.factor < 1.0
    np.testing.assert_array_equal(problem.contraction.scale, np.ones(4))


@pytest.mark.parametrize("kappa", [0.0, -0.5, 1.0, 2.0, np.nan, np.inf])
def test_kappa_must_make_the_fixed_point_unique(kappa, make_problem):
    with pytest.raises(ValueError, match="kappa must be positive"):
        make_problem("relu", kappa=kappa)


def test_an_expansive_activation_is_refused(make_problem):
    class Steep(Activation):
        name = "steep"
        lipschitz = 3.0

        def value(self, Z, out=None):
            return np.multiply(3.0, Z, out=out)

        def derivative(self, Z):
            return np.full_like(Z, 3.0)

    with pytest.raises(ValueError, match="Lipschitz constant"):
        make_problem(Steep(), kappa=0.5)
    assert make_problem(Steep(), kappa=0.3).contraction.factor == pytest.approx(0.9)


def test_activations_that_differ_between_states_are_refused(make_problem):
    with pytest.raises(ValueError, match="one for all states"):
        make_problem(PerState([("relu", [0, 1]), ("tanh", [2, 3])]))


def test_what_is_feasible_stays(variant, make_problem, make_data, make_parameters):
    problem = make_problem(**variant)
    parameters = make_parameters(problem, make_data())
    for name, block in vars(problem.feasible(parameters)).items():
        np.testing.assert_array_equal(block, getattr(parameters, name))


def test_what_is_not_feasible_is_removed(
    variant, make_problem, make_data, make_parameters, check_feasible
):
    problem = make_problem(**variant)
    given = make_parameters(make_problem(), make_data())
    given = replace(given, A=7.0 * given.A)
    new = problem.feasible(given)
    check_feasible(problem, new)
    assert row_sums(new.A)[-1] == pytest.approx(problem.kappa, rel=1e-12)
    allowed = np.isfinite(problem.group_weights)
    np.testing.assert_array_equal(new.B[:, allowed], given.B[:, allowed])
    np.testing.assert_array_equal(new.C, given.C)


@pytest.mark.parametrize("name", ["A", "B", "b", "C", "D", "d"])
def test_parameters_of_another_shape_are_refused(name, make_problem, make_data, make_parameters):
    problem = make_problem()
    parameters = make_parameters(problem, make_data())
    wrong = np.zeros((7, 7)) if name in "ABCD" else np.zeros(7)
    with pytest.raises(ValueError, match="must have shape"):
        problem.feasible(replace(parameters, **{name: wrong}))


def test_some_of_the_inputs_and_back(make_problem, make_data, make_parameters):
    data, problem = make_data(), make_problem(group_weights=np.array([1.0, np.inf, 1.0, 2.0, 1.0]))
    parameters = make_parameters(problem, data)
    left = np.array([0, 2, 3, 4])
    few = parameters.only(left)
    again = few.among(left, 5)
    for name, block in vars(parameters).items():
        np.testing.assert_array_equal(getattr(again, name), block)
    assert problem.only(left).penalty(few) == problem.penalty(parameters)
