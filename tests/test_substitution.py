"""Substitution of states whose loops make all of the error that they may."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from bcd_implicit import ImplicitModel, substitution
from bcd_implicit.activations import Identity
from bcd_implicit.exceptions import EquilibriumError
from bcd_implicit.per_state import PerState, Softmax

CHAINS = {
    "one loop": [[0.5]],
    "opposite weights": [[0.5, 0, 0], [0, 0.5, 0], [30, -30, 0]],
    "chain": [[0.5, 0, 0], [30, 0, 0], [0, 30, 0]],
    "a loop behind a loop": [[0.5, 0, 0], [30, 0.95, 0], [0, 5, 0]],
    "unequal states of a loop": [[0.5, 0, 0], [0.3, 0.1, 0.001], [0, 400, 0.1]],
    "a loop hardly behind a loop": [[0.5, 0, 0], [1e-6, 0.5, 0], [0, 100, 0]],
    "group": [[0.5, 0, 0, 0], [100, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1000, 0]],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_the_tolerance_holds_if_every_loop_makes_all_of_its_error(chain, monkeypatch):
    A = np.array(CHAINS[chain], dtype=float)
    n = len(A)
    phi, b = Identity(), np.zeros(n)
    if chain == "group":
        phi = PerState([("identity", [0, 3]), (Softmax(), [[1, 2]])])
        b[3] = -500.0  # of which softmax makes about zero
    B = np.zeros((n, 1))
    B[0] = 1e-6
    model = ImplicitModel(sparse.csr_array(A), B, np.eye(n), 0.0 * B, b, activation=phi)
    U, tol, solve = np.ones((1, 1)), 1e-6, substitution.solve_equilibrium
    exact = model.states(U, tol=1e-15)
    signs = iter(np.tile([1.0, -1.0], n))

    def worst(phi, loop, Zin, contraction, allowed):
        found = solve(phi, loop, Zin, contraction, 1e-15)
        size = allowed * np.maximum(1.0, np.abs(found.x).max(axis=1, keepdims=True))
        return replace(found, x=found.x + next(signs) * size)

    monkeypatch.setattr(substitution, "solve_equilibrium", worst)
    X = model.states(U, tol=tol)
    assert (exact != X).any()
    assert np.abs(X - exact).max() <= tol * max(1.0, np.abs(exact).max())


def test_states_and_outputs_that_nothing_enters_are_constants(monkeypatch):
    A, zero, b, d = np.diag([1.0], -1), np.zeros((2, 1)), np.array([2.0, 3.0]), np.array([7.0])
    model = ImplicitModel(sparse.csr_array(A), zero, np.zeros((1, 2)), [[0.0]], b, d)
    monkeypatch.setattr(np, "empty", lambda shape, *rest, **options: np.full(shape, np.nan))
    np.testing.assert_array_equal(model.states([[1.0]]), [[2.0, 5.0]])
    np.testing.assert_array_equal(model.predict([[1.0]]), [[7.0]])


def test_outputs_that_overflow_are_an_error():
    network = ImplicitModel(sparse.csr_array([[0.0]]), [[1.0]], [[1e300]], [[0.0]])
    with pytest.raises(EquilibriumError, match="inputs are too large"):
        network.predict([[1e200]])
