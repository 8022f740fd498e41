"""OMAR: its losses by loops, and what the search is for."""

import torch
from torch import Tensor

from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.envs.matrix import XOR
from tests.algorithms.games import action_probabilities, expected_payoff, learner, ragged_data, sample_data

FAST = {"hidden": [32], "learning_rate": 0.005}


def test_a_step_s_losses_are_the_formulas(monkeypatch):
    data = ResidentTransitions(ragged_data(40), "cpu")
    algorithm = learner("omar", data, None, hidden=[8], batch_size=64, critic_steps=1, alpha=0.7, tau=0.3)
    generator = torch.Generator().manual_seed(0)
    for name in ("policy", "policy target", "critic", "critic target"):
        algorithm._networks[name].parameters.normal_(generator=generator)
    descended: dict[str, Tensor] = {}
    monkeypatch.setattr(algorithm, "descend", lambda **losses: descended.update(losses))
    batch = algorithm._draw().one(0)
    with torch.no_grad():
        actor, critic = (algorithm._networks[name](batch.observations).double() for name in ("policy", "critic"))
        next_actor, next_critic = (algorithm._networks[f"{name} target"](batch.next_observations).double() for name in ("policy", "critic"))
    critic_loss = actor_loss = 0.0
    for agent in range(3):
        for b in range(64):
            now, then = batch.available[agent, b], batch.next_available[agent, b]
            y = batch.rewards[b] + batch.discounts[b] * next_actor[agent, b][then].softmax(0) @ next_critic[agent, b][then]
            taken, allowed = critic[agent, b, batch.actions[agent, b, 0]], critic[agent, b][now]
            critic_loss += (0.5 * (taken - y) ** 2 + 0.7 * (allowed.exp().sum().log() - taken)).item() / 64
            pi = actor[agent, b][now].softmax(0)
            actor_loss -= (0.7 * pi @ allowed + 0.3 * pi[allowed.argmax()].log()).item() / 64
    algorithm.step(batch)
    assert abs(descended["critic"].item() - critic_loss) < 1e-3 and abs(descended["policy"].item() - actor_loss) < 1e-3
    assert not batch.available.all() and not batch.next_available.all()


def test_the_best_action_found_frees_an_actor_that_the_policy_gradient_cannot():
    """Agent 0 is certain of B where the data and the critic say A; there the gradient of its expected value is 0."""
    freed = {}
    for tau in (0.0, 0.5):
        algorithm = learner("omar", sample_data("xor_a"), None, hidden=[16], batch_size=32, learning_rate=0.01, tau=tau)
        with torch.no_grad():
            algorithm._networks["policy"].rows[0][-1][..., 1] = 30  # the last bias: B's logit
        for _ in range(3):
            algorithm.iterate()
        freed[tau] = action_probabilities(algorithm.policy())[0, 0]
    assert freed[0.0] < 0.01 and freed[0.5] > 0.99


def test_it_keeps_to_the_data_where_they_are_all_of_one_kind():
    algorithm = learner("omar", sample_data("xor_a"), None, **FAST)
    for _ in range(3):
        algorithm.iterate()
    assert expected_payoff(algorithm.policy(), XOR) > 0.99
