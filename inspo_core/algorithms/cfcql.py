"""CFCQL: Shao, Qu, Chen, Zhang, Ji, "Counterfactual Conservative Q Learning for Offline Multi-agent Reinforcement Learning", NeurIPS 2023,
https://arxiv.org/abs/2309.12696. A joint value, mixed monotonically from local ones, is made conservative agent by agent.

    Q_tot(s, a) = mix_s(Q^1(o^1, a^1), ..., Q^N(o^N, a^N)),    pi^i(o^i) = argmax_a Q^i(o^i, a)
    min_Q  1/2 E[ (Q_tot(s, a) - y)^2 ] + alpha E[ sum_i lambda_i log sum_b exp Q_tot(s, (b, a^-i)) - Q_tot(s, a) ]
    y = r + gamma (1 - terminated) Qbar_tot(s', argmax of every Q^i)
    lambda = softmax_i( temperature KL(p^i || mu^i) ),    p^i(b) = softmax_b Q_tot(s, (b, a^-i))

(b, a^-i) is counterfactual: agent i plays b, its teammates what they play in the data.

As in the authors' public code for discrete actions (thu-rllab/CFCQL), the agent furthest from its data weighs most. Deliberate differences
from that code: one-step targets instead of TD(lambda); a network an agent, without recurrence if ``memory`` is 0; all parts of the mixing
come from one hypernetwork; targets follow by Polyak averaging; mu^i are the clones of the behavior stage.

Shapes: N agents, B batch, A actions, R rows of the data.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import local_log_probs
from inspo_core.algorithms.configs import CFCQLConfig
from inspo_core.algorithms.conservative import greedy_actions, soft_maximum
from inspo_core.algorithms.learner import Batch, ValueLearner
from inspo_core.algorithms.mixing import TwoLayerMixing
from inspo_core.algorithms.networks import masked_log_softmax


class CFCQL(ValueLearner):
    policy_sharpness = 1e6

    def __init__(self, setup: Setup, config: CFCQLConfig):
        super().__init__(setup, config)
        self._alpha, self._temperature = config.alpha, config.temperature
        self._width = config.mixing_width
        n, states = self.data.n_agents, self.data.state_size
        self._values = self.policy_network()
        self._mixer = self.network("mixer", 1, states, TwoLayerMixing.outputs(n, self._width))
        self._target_values, self._target_mixer = self.target("policy"), self.target("mixer")
        self._log_mu = local_log_probs(setup.behavior().local, self.data)  # (N, R, A)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            best = greedy_actions(self._values(batch.next_observations), batch.next_available)  # (N, B, 1)
            following = self._target_values(batch.next_observations).gather(2, best).squeeze(2)  # (N, B)
            mixing = TwoLayerMixing.at(self._target_mixer, batch.next_states, self._width)
            targets = batch.rewards + batch.discounts * mixing.total(following)  # (B,)
        values = self._values(batch.observations)
        mixing = TwoLayerMixing.at(self._mixer, batch.states, self._width)
        total = mixing.total(values.gather(2, batch.actions).squeeze(2))
        counterfactual = mixing.counterfactual(values, batch.actions)  # (N, B, A)
        with torch.no_grad():
            weights = agent_weights(counterfactual, batch.available, self._log_mu[:, batch.rows], self._temperature)
        error = 0.5 * (total - targets).square().mean()
        gap = ((weights * soft_maximum(counterfactual, batch.available)).sum(0) - total).mean()
        self.descend("mixer", policy=error + self._alpha * gap)
        self.follow("policy", "mixer")
        return {"critic_loss": error, "conservative_gap": gap, "q_mean": total.mean(), "largest_agent_weight": weights.amax(0).mean()}


def agent_weights(counterfactual: Tensor, available: Tensor, log_mu: Tensor, temperature: float) -> Tensor:
    """lambda (N, B): all inputs (N, B, A)."""
    log_p = masked_log_softmax(counterfactual, available)
    divergence = (log_p.exp() * (log_p - log_mu)).sum(2)
    return (temperature * divergence).softmax(0)
