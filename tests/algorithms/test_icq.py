"""ICQ's targets computed by loops, its policy in closed form, and what it cannot coordinate."""

import numpy as np
import pytest
import torch

from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.mixing import Mixing
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from tests.algorithms.games import action_probabilities, arrays, learner, matrix_data, ragged_data, sample_data, tiny

FAST = {"hidden": [32], "learning_rate": 0.01, "target_rate": 0.05, "critic_steps": 50}


def trained(data: Transitions, iterations: int, **changes: object) -> Algorithm:
    algorithm = learner("icq", data, None, **(FAST | changes))
    for _ in range(iterations):
        algorithm.iterate()
    return algorithm


def test_targets_take_the_data_s_next_action_weighted_by_the_batch():
    dataset = ragged_data(40)
    data = ResidentTransitions(dataset, "cpu")
    algorithm = learner("icq", data, None, **tiny("icq"), target_temperature=0.2)
    algorithm.iterate()
    batch = algorithm._draw().one(0)
    starts = {row: t for t, row in enumerate(arrays(data).rows.tolist())}
    totals, sums = {}, 0.0
    for b, row in enumerate(batch.rows.tolist()):
        after = starts.get(row + 1)
        if after is not None:
            q = algorithm._q_target(arrays(data).observations[:, row + 1 : row + 2])[:, 0]
            q = torch.stack([q[agent, arrays(data).actions[agent, after]] for agent in range(3)]).unsqueeze(1)
            totals[b] = Mixing.at(algorithm._mixer_target, arrays(data).states[row + 1 : row + 2]).total(q).item()
            sums += np.exp(totals[b] / 0.2)
    targets, counted = algorithm._targets(batch)
    kinds = set()
    for b, row in enumerate(batch.rows.tolist()):
        expected = 0.99 * len(totals) * np.exp(totals[b] / 0.2) / sums * totals[b] if b in totals else 0.0
        assert targets[b].item() == pytest.approx(batch.rewards[b].item() + expected, abs=1e-4)
        assert counted[b] == (b in totals or dataset.terminations[starts[row]])  # not where a time limit cut the episode off
        kinds.add((b in totals, bool(counted[b])))
    assert len(kinds) == 3


def test_a_single_agent_gets_the_data_s_policy_tilted_by_the_advantage():
    played = np.random.default_rng(0).choice(3, 3000, p=[0.5, 0.3, 0.2])[:, None]
    data = ResidentTransitions(matrix_data(np.array([0.0, 1.0, 2.0]), played), "cpu")
    found = action_probabilities(trained(data, 12, temperature=0.5).policy())[0]
    wanted = np.bincount(played[:, 0]) * np.exp(np.array([0.0, 0.5, 1.0]) / 0.5)
    assert np.abs(found - wanted / wanted.sum()).max() < 0.04


def test_where_all_seen_joint_actions_pay_the_same_it_cannot_coordinate():
    assert np.abs(action_probabilities(trained(sample_data("xor_b"), 5).policy()) - 0.5).max() < 0.1
    assert np.allclose(action_probabilities(trained(sample_data("xor_a"), 4).policy()), [[1, 0], [0, 1]], atol=0.03)


def test_a_linear_mixture_of_xor_c_values_sends_both_agents_to_b():
    assert (action_probabilities(trained(sample_data("xor_c"), 8).policy())[:, 1] > 0.9).all()
