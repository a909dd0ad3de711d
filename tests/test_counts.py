"""The regression guard of speed: ratios of counts, whatever else the machine is doing."""

import numpy as np
import pytest

import bcd_implicit.exact as exact
import bcd_implicit.stepper as stepper
from bcd_implicit import ImplicitRegressor
from bcd_implicit.activations import Relu
from bcd_implicit.equilibrium import solve_equilibrium
from bcd_implicit.losses import SquaredLoss
from bcd_implicit.monitor import Monitor
from bcd_implicit.problem import TrainingProblem
from bcd_implicit.solvers.group_ball_ls import GroupBallProblem, solve_group_ball
from bcd_implicit.solvers.projections import project_l1_rows
from bcd_implicit.statistics import RowBlocks
from bcd_implicit.training import train
from bcd_implicit.wellposed import contraction
from experiments.teacher import draw


@pytest.fixture(scope="module")
def experiment():
    """Data of the article's experiment, 10 % noise, and the training problem with 10 states."""
    sample = draw(0, noise=0.1, n_fresh=1)
    Y = (sample.Y - sample.Y.mean(axis=0)) / np.sqrt(sample.Y.var(axis=0).sum())
    data = RowBlocks(sample.U, Y, np.full(400, 1 / 400), np.zeros(50), np.ones(50))
    problem = TrainingProblem(
        SquaredLoss(), Relu(), 10, 0.01, 0.01, 0.95, np.ones(50), feedthrough=False
    )
    return data, problem


def test_iterations_for_the_states_against_picard():
    rng = np.random.default_rng(0)
    n = 20
    A = np.abs(rng.standard_normal((n, n)))
    A *= 0.95 / A.sum(axis=1, keepdims=True)
    Zin = rng.standard_normal((200, n))
    solution = solve_equilibrium(Relu(), A, Zin, contraction(A, 1.0), 1e-10)
    X = np.zeros_like(Zin)
    picard = 0
    while np.abs(X - solution.x).max() > 1e-10 * max(1.0, np.abs(solution.x).max()):
        X = np.maximum(X @ A.T + Zin, 0.0)
        picard += 1
    assert picard / solution.n_iter > 5.0  # of the slowest row; most need a tenth of that


def test_sweeps_of_the_matrix_block_against_proximal_gradient():
    rng = np.random.default_rng(0)
    n, p = 10, 50
    half = rng.standard_normal((n, n))
    H = half @ half.T / n + 0.1 * np.eye(n)
    V = np.column_stack(
        [np.maximum(rng.standard_normal((400, n)), 0.0), rng.standard_normal((400, p))]
    )
    W = V.T @ V / 400
    G = rng.standard_normal((n, n + p))
    problem = GroupBallProblem.of(G, H, W, n, 2.0, 0.9)
    found = solve_group_ball(problem, tol=1e-6)
    assert found.converged
    best = problem.objective(solve_group_ball(problem, tol=1e-10).x)
    allowed = best + max(problem.objective(found.x) - best, 1e-12 * abs(best))
    Theta, step, gradients = np.zeros_like(G), 1.0 / np.linalg.norm(H, 2) / np.linalg.norm(W, 2), 0
    while problem.objective(Theta) > allowed:
        Theta = Theta - step * problem.gradient(Theta)
        norms = np.linalg.norm(Theta[:, n:], axis=0)
        Theta[:, n:] *= np.maximum(1.0 - step * 2.0 / np.maximum(norms, 1e-300), 0.0)
        Theta[:, :n] = project_l1_rows(Theta[:, :n], 0.9).x
        gradients += 1
    assert gradients / found.n_iter > 40.0  # 81 of them for a sweep


def test_objective_after_a_few_passes(experiment):
    data, problem = experiment
    empty = 0.5  # the loss of the best constant, as the targets have unit total variance
    start = train(data, problem, max_iter=0, rng=np.random.default_rng(0)).point.objective
    ten = train(data, problem, max_iter=10, rng=np.random.default_rng(0)).point.objective
    many = train(data, problem, max_iter=200, rng=np.random.default_rng(0)).point.objective
    assert start < 0.9 * empty
    assert ten < 1.2 * many
    assert many < 0.4 * empty


def test_trials_a_step_and_passes_a_trial(experiment, monkeypatch):
    data, problem = experiment
    trials = []
    attempt = exact.attempt
    for module in (exact, stepper):
        monkeypatch.setattr(module, "attempt", lambda *a: trials.append(1) or attempt(*a))
    monitor = Monitor()
    fit = train(data, problem, max_iter=40, rng=np.random.default_rng(0), monitor=monitor)
    assert len(trials) / fit.n_iter < 1.5
    passes = [record["passes"] for record in monitor.history if record["phase"] == "exact"]
    assert passes[-1] - passes[0] <= len(trials) + fit.n_iter  # one each, and for derivatives


def test_updates_of_a_whole_recovery():
    sample = draw(0, noise=0.1, n_fresh=1)
    model = ImplicitRegressor(10, fit_feedthrough=False, random_state=0, max_iter=50, tol=1e-3)
    model.fit(sample.U, sample.Y)
    assert (model.support_ == sample.support).all()
    assert len(model.history_) < 700
