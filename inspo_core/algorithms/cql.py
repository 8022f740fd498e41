"""Independent conservative Q-learning: Kumar, Zhou, Tucker, Levine, "Conservative Q-Learning for Offline Reinforcement Learning",
NeurIPS 2020, https://arxiv.org/abs/2006.04779, for each agent by itself, with the team's reward.

    min_Q  1/2 E[ (Q^i(o^i, a^i) - y^i)^2 ] + alpha E[ log sum_a exp Q^i(o^i, a) - Q^i(o^i, a^i) ]
    y^i = r + gamma (1 - terminated) Qbar^i(o'^i, argmax_a Q^i(o'^i, a)),    pi^i(o^i) = argmax_a Q^i(o^i, a)

Deliberate differences from the authors' code for discrete actions (Atari): squared one-step errors instead of quantile regression, a
target that follows by Polyak averaging, and the next action chosen by the trained network, its value given by the target (double Q).
"""

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import CQLConfig
from inspo_core.algorithms.conservative import conservative_loss, greedy_actions
from inspo_core.algorithms.learner import Batch, ValueLearner


class CQL(ValueLearner):
    policy_sharpness = 1e6

    def __init__(self, setup: Setup, config: CQLConfig):
        super().__init__(setup, config)
        self._alpha = config.alpha
        self._values = self.policy_network()
        self._target = self.target("policy")

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            best = greedy_actions(self._values(batch.next_observations), batch.next_available)  # (N, B, 1)
            following = self._target(batch.next_observations).gather(2, best).squeeze(2)
            targets = batch.rewards + batch.discounts * following  # (N, B)
        loss, logs = conservative_loss(self._values(batch.observations), batch, targets, self._alpha)
        self.descend(policy=loss.sum())
        self.follow("policy")
        return logs
