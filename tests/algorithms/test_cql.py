"""Conservative Q-learning: its loss by loops, where its values settle, and what independent learners make of coordination."""

import numpy as np
import torch
from torch import Tensor

from inspo_core.algorithms.conservative import conservative_loss
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.envs.matrix import XOR
from tests.algorithms.games import arrays, empirical_joint, expected_payoff, learner, ragged_data, sample_data

FAST = {"hidden": [32], "learning_rate": 0.005}


def test_a_step_s_loss_is_the_formula(monkeypatch):
    """Chosen by the trained network among the available actions, valued by the target, nothing after a termination."""
    data = ResidentTransitions(ragged_data(40), "cpu")
    algorithm = learner("cql", data, None, hidden=[8], batch_size=64, critic_steps=1, alpha=0.7)
    algorithm._networks["policy target"].parameters.normal_(generator=torch.Generator().manual_seed(0))
    descended: dict[str, Tensor] = {}
    monkeypatch.setattr(algorithm, "descend", lambda **losses: descended.update(losses))
    batch = algorithm._draw().one(0)
    online, target = algorithm._networks["policy"], algorithm._networks["policy target"]
    with torch.no_grad():
        values, following, worth = online(batch.observations), online(batch.next_observations), target(batch.next_observations)
    expected = 0.0
    for agent in range(3):
        for b in range(64):
            allowed = batch.next_available[agent, b].nonzero().flatten().tolist()
            best = max(allowed, key=lambda action: following[agent, b, action].item())
            y = batch.rewards[b] + batch.discounts[b] * worth[agent, b, best]
            now = values[agent, b][batch.available[agent, b]].double()
            taken = values[agent, b, batch.actions[agent, b, 0]]
            expected += (0.5 * (taken - y) ** 2 + 0.7 * (now.exp().sum().log() - taken)).item() / 64
    algorithm.step(batch)
    assert abs(descended["policy"].item() - expected) < 1e-4
    assert (batch.discounts == 0).any() and not batch.next_available.all()


def test_values_settle_where_the_penalty_balances_the_error():
    """mu(a) (Q(a) - E[r|a]) + alpha (softmax Q (a) - mu(a)) = 0 for every agent by itself."""
    data = sample_data("xor_c")
    algorithm = learner("cql", data, None, hidden=[16], batch_size=512, learning_rate=0.003)
    for _ in range(5):
        algorithm.iterate()
    joint = empirical_joint(data, 0)
    values = algorithm._networks["policy"](arrays(data).observations[:, :1])[:, 0].detach().double().numpy()
    for agent, (own, table, payoff) in enumerate(zip(values, (joint, joint.T), (XOR, XOR.T), strict=True)):
        mu, softmax = table.sum(1), np.exp(own) / np.exp(own).sum()
        assert np.abs(mu * own - (table * payoff).sum(1) + softmax - mu).max() < 0.03, agent
    assert expected_payoff(algorithm.policy(), XOR) == 0  # both play A, the action that most often paid


def test_it_keeps_to_the_data_where_they_are_all_of_one_kind():
    algorithm = learner("cql", sample_data("xor_a"), None, **FAST)
    for _ in range(3):
        algorithm.iterate()
    assert expected_payoff(algorithm.policy(), XOR) == 1


def test_the_gradient_leaves_unavailable_actions_alone():
    algorithm = learner("cql", ResidentTransitions(ragged_data(40), "cpu"), None, hidden=[8], batch_size=32)
    batch = algorithm._draw().one(0)
    values = torch.randn(3, 32, 3, requires_grad=True)
    conservative_loss(values, batch, torch.zeros(3, 32), 1.0)[0].sum().backward()
    assert (values.grad[~batch.available] == 0).all() and (values.grad[batch.available] != 0).all()
