"""OMAR: Pan, Huang, Ma, Xu, "Plan Better Amid Conservatism: Offline Multi-Agent Reinforcement Learning with Actor Rectification",
ICML 2022, https://arxiv.org/abs/2111.11188. Independent actors and conservative critics; the actor follows the policy gradient and
is drawn to the best action that a search finds.

    critic:  1/2 E[ (Q^i(o^i, a^i) - y^i)^2 ] + alpha E[ log sum_a exp Q^i(o^i, a) - Q^i(o^i, a^i) ]
             y^i = r + gamma (1 - terminated) sum_a' pibar^i(a'|o'^i) Qbar^i(o'^i, a')
    actor:   max_pi  E[ (1 - tau) sum_a pi^i(a|o^i) Q^i(o^i, a) + tau log pi^i(ahat^i|o^i) ],    ahat^i = argmax_a Q^i(o^i, a)

Discrete actions, deliberate differences from the paper and the authors' code, which are for continuous actions:
- Their search draws actions from a Gaussian that moves to the better ones, compares the best draw with the actor's own action and
  keeps the better of the two. Here a critic gives the values of all A actions at once, so the search is exact: it returns what
  theirs tends to with many draws.
- The actor is drawn to the action found by the log-likelihood, not by the squared distance of two action vectors; its expected value is
  an exact sum.
- One critic an agent, not TD3's smaller of two; one-step targets from the target actor.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import OMARConfig
from inspo_core.algorithms.conservative import conservative_loss, greedy_actions
from inspo_core.algorithms.learner import Batch, ValueLearner
from inspo_core.algorithms.networks import masked_log_softmax


class OMAR(ValueLearner):
    def __init__(self, setup: Setup, config: OMARConfig):
        super().__init__(setup, config)
        self._alpha, self._tau = config.alpha, config.tau
        self._actor, self._critic = self.policy_network(), self.local_network("critic", self.data.n_actions)
        self._target_actor, self._target_critic = self.target("policy"), self.target("critic")

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            following = masked_log_softmax(self._target_actor(batch.next_observations), batch.next_available).exp()  # (N, B, A)
            targets = batch.rewards + batch.discounts * (following * self._target_critic(batch.next_observations)).sum(2)  # (N, B)
        values = self._critic(batch.observations)
        critic_loss, logs = conservative_loss(values, batch, targets, self._alpha)
        actor_loss = self._actor_loss(batch, values.detach())
        self.descend(critic=critic_loss.sum(), policy=actor_loss.sum())
        self.follow("policy", "critic")
        return {**logs, "policy_loss": actor_loss.mean()}

    def _actor_loss(self, batch: Batch, values: Tensor) -> Tensor:
        """(N,), from values (N, B, A)."""
        log_probs = masked_log_softmax(self._actor(batch.observations), batch.available)
        expected = (log_probs.exp() * values).sum(2)
        found = log_probs.gather(2, greedy_actions(values, batch.available)).squeeze(2)
        return -((1 - self._tau) * expected + self._tau * found).mean(1)
