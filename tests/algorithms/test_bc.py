"""Behavior cloning against the data's shares."""

import numpy as np
import torch

from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.envs.matrix import XOR
from tests.algorithms.games import (
    action_probabilities,
    arrays,
    empirical_joint,
    expected_payoff,
    learner,
    ragged_data,
    random_models,
    sample_data,
)

FAST = {"hidden": [32], "learning_rate": 0.003}


def test_uncorrelated_agents_get_nothing_from_xor_b():
    """Each agent plays A and B equally often there, and as a product that pays nothing: the data's own behavior pays 1."""
    data = sample_data("xor_b")
    algorithm = learner("bc", data, random_models(data), **FAST)
    for _ in range(6):
        algorithm.iterate()
    assert np.abs(action_probabilities(algorithm.policy()) - 0.5).max() < 0.06
    assert abs(expected_payoff(algorithm.policy(), XOR)) < 0.1
    assert arrays(data).rewards.mean() == 1


def test_policies_become_the_marginals_of_each_context():
    dataset = ragged_data()
    data = ResidentTransitions(dataset, "cpu")
    algorithm = learner("bc", data, random_models(data), **FAST)
    losses = [algorithm.iterate()["policy_loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    entropy = 0.0
    for context in (0, 1):
        row = int(np.flatnonzero(dataset.states[:, context] == 1)[0])
        seen = torch.as_tensor(dataset.observations[row : row + 1])
        available = torch.as_tensor(dataset.available_actions[row : row + 1])
        found = algorithm.policy().log_probs(seen, available)[0].exp().numpy()
        share = float((dataset.states[dataset.rows, context] == 1).mean())
        for agent in range(3):
            marginal = empirical_joint(data, row).sum(tuple({0, 1, 2} - {agent}))
            assert np.abs(found[agent] - marginal).max() < 0.07
            entropy -= share * (marginal[marginal > 0] * np.log(marginal[marginal > 0])).sum() / 3
    assert losses[-1] > entropy - 0.03 and losses[-1] < entropy + 0.05  # the loss is that of one agent


def test_it_reads_no_behavior_models():
    data = sample_data("xor_a")
    algorithm = learner("bc", data, None, **FAST)
    for _ in range(3):
        algorithm.iterate()
    assert np.allclose(action_probabilities(algorithm.policy()), [[1, 0], [0, 1]], atol=0.02)
