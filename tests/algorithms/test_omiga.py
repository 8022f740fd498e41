"""OMIGA against its closed form, and what a mixed value can and cannot coordinate."""

import numpy as np
import torch

from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.omiga import value_loss
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from tests.algorithms.games import action_probabilities, learner, matrix_data, sample_data

FAST = {"hidden": [32], "learning_rate": 0.01, "target_rate": 0.05, "critic_steps": 50}


def trained(data: Transitions, iterations: int, **changes: object) -> Algorithm:
    algorithm = learner("omiga", data, None, **(FAST | changes))
    for _ in range(iterations):
        algorithm.iterate()
    return algorithm


def test_the_value_s_loss_is_least_at_the_soft_value_and_has_its_gradient():
    torch.manual_seed(0)
    alpha, q = 0.3, torch.randn(2, 400)  # two agents in one state, actions as mu draws them
    w = torch.tensor([[0.7], [2.0]])
    soft = alpha / w * ((w * q / alpha).exp().mean(1, keepdim=True)).log()  # (2, 1)
    for shift in (0.0, 0.5):
        v = (soft + shift).requires_grad_()
        z = w * (q - v) / alpha
        value_loss(z, (w * v / alpha).expand_as(z)).backward()
        slope = (w / alpha * (1 - z.exp().mean(1, keepdim=True))) / z.detach().max().exp()
        assert torch.allclose(v.grad, slope, atol=1e-6)
        assert torch.allclose(slope, torch.zeros(2, 1), atol=1e-5) == (shift == 0)


def test_a_single_agent_gets_the_data_s_policy_tilted_by_the_advantage():
    """One step, payoffs 0, 1 and 2, scaled to at most 1: pi is mu exp(r / alpha), up to its sum."""
    rng = np.random.default_rng(0)
    played = rng.choice(3, 3000, p=[0.5, 0.3, 0.2])[:, None]
    data = ResidentTransitions(matrix_data(np.array([0.0, 1.0, 2.0]), played), "cpu")
    found = action_probabilities(trained(data, 14, alpha=0.5).policy())[0]
    wanted = np.bincount(played[:, 0]) * np.exp(np.array([0.0, 0.5, 1.0]) / 0.5)
    assert np.abs(found - wanted / wanted.sum()).max() < 0.04


def test_where_all_seen_joint_actions_pay_the_same_it_cannot_coordinate():
    policy = trained(sample_data("xor_b"), 6).policy()
    assert np.abs(action_probabilities(policy) - 0.5).max() < 0.1


def test_a_linear_mixture_of_xor_c_values_sends_both_agents_to_b():
    """AA pays 0, AB and BA pay 1: a sum of local values must put BB at 2, which the data do not deny, and which pays -2."""
    policy = trained(sample_data("xor_c"), 8, alpha=0.1).policy()
    assert (action_probabilities(policy)[:, 1] > 0.9).all()
