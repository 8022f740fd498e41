"""OptiDICE's divergence, its weights in closed form, and what cloning with the same weight for all agents cannot do."""

import numpy as np
import pytest
import torch

from inspo_core.algorithms.optidice import conjugate, ratio
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.envs.matrix import XOR
from tests.algorithms.games import (
    action_probabilities,
    dataset_of,
    empirical_joint,
    estimated,
    expected_payoff,
    learner,
    matrix_data,
    sample_data,
)

FAST = {"hidden": [32], "learning_rate": 0.01, "critic_steps": 50}


def test_the_conjugate_is_that_of_the_soft_chi_square_and_its_derivative_the_ratio():
    y = torch.tensor([-3.0, -0.5, 0.0, 0.4, 2.0], dtype=torch.float64, requires_grad=True)
    x = torch.linspace(1e-6, 10, 200001, dtype=torch.float64)
    f = torch.where(x < 1, x * x.log() - x + 1, (x - 1).square() / 2)
    largest, at = (y.detach().unsqueeze(1) * x - f).max(1)
    conjugate(y).sum().backward()
    assert torch.allclose(conjugate(y), largest, atol=1e-6) and torch.allclose(ratio(y), x[at], atol=1e-3)
    assert torch.allclose(y.grad, ratio(y))


def test_policies_are_the_marginals_of_the_reweighted_joint_actions():
    """One step: w is f'^-1((r - nu) / alpha) with the nu at which the game is played once in 1 / (1 - gamma) steps."""
    payoff, alpha, gamma = np.array([[0.2, 1.0], [0.6, -0.5]]), 0.5, 0.99
    codes = np.random.default_rng(0).choice(4, 4000, p=[0.15, 0.35, 0.3, 0.2])
    data = ResidentTransitions(matrix_data(payoff, np.stack([codes // 2, codes % 2], 1)), "cpu")
    algorithm = learner("optidice", data, None, alpha=alpha, gamma=gamma, **FAST)
    for _ in range(20):
        algorithm.iterate()
    mu = empirical_joint(data, 0)
    low, high = -5.0, 5.0
    for _ in range(60):
        nu = (low + high) / 2
        weights = ratio(torch.tensor((payoff - nu) / alpha)).numpy()
        low, high = (nu, high) if (mu * weights).sum() > 1 + (1 - gamma) else (low, nu)
    wanted = mu * weights / (mu * weights).sum()
    found = action_probabilities(algorithm.policy())
    assert np.abs(found[0] - wanted.sum(1)).max() < 0.04 and np.abs(found[1] - wanted.sum(0)).max() < 0.04
    assert np.abs(mu.sum(1) - wanted.sum(1)).max() > 0.08  # cloning without weights ends elsewhere


def test_weights_of_joint_actions_do_not_coordinate_their_marginals():
    """On XOR c it finds that AA is not worth cloning, and then plays A and B equally often: AA, AB, BA and BB alike."""
    algorithm = learner("optidice", sample_data("xor_c"), None, **FAST)
    for _ in range(12):
        algorithm.iterate()
    assert np.abs(action_probabilities(algorithm.policy()) - 0.5).max() < 0.1
    assert abs(expected_payoff(algorithm.policy(), XOR)) < 0.2


@pytest.mark.parametrize(("name", "changes"), [("optidice", {}), ("alberdice", {"alpha": 0.2}), ("omiga", {"alpha": 0.1}), ("icq", {})])
def test_a_reward_now_is_given_up_for_a_larger_one_later(name, changes):
    """Action 0 leads on to a state that pays 1, action 1 ends with 0.5."""
    states = np.array([[0.0], [1.0], [2.0], [0.0], [3.0]] * 200)
    actions, rewards = np.array([0, 0, 1] * 200)[:, None], np.array([0.0, 1.0, 0.5] * 200)
    data = ResidentTransitions(dataset_of(states, actions, rewards, [2, 1] * 200, [True] * 400, 2), "cpu")
    algorithm = learner(name, data, estimated(data, 300), iterations=12, **changes, **FAST)
    for _ in range(12):
        algorithm.iterate()
    assert algorithm.policy().log_probs(torch.zeros(1, 1, 1)).exp()[0, 0, 0] > 0.9
