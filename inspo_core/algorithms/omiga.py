"""OMIGA: implicit global-to-local value regularization (Wang et al., NeurIPS 2023, arXiv 2307.11620), without recurrence.

The joint objective  E[sum_t gamma^t (r_t - alpha log(pi(a_t|s_t) / mu(a_t|s_t)))]  is split over the agents by linear mixing,
    Q_tot(s, a) = sum_i w^i(s) Q^i(o^i, a^i) + b(s),    V_tot(s) = sum_i w^i(s) V^i(o^i) + b(s),    w^i >= 0,
so that agent i has the closed form  pi^i = mu^i exp(z^i),  z^i = w^i(s) (Q^i - V^i) / alpha.  With D the data:
    Q and the mixing:  E_D[(r + gamma V_tot'(s') - Q_tot(s, a))^2],  ' are targets
    V:                 E_D[exp(z^i) + w^i(s) V^i / alpha], minimal where exp(z^i) has mean 1 under mu^i; Q and w are targets in it
    policy:            E_D[-exp(z^i) log pi^i(a^i|o^i)]
Only dataset actions are ever looked at.

Differences from the authors' public code (ZhengYinan-AIR/OMIGA, StarCraft part): a network an agent instead of one with the agent's number
as input; the mixing sees the state where the data have one; no gradient clipping; z is clipped in the policy's weights only, since a
clipped z in V's loss has no gradient and V would fall where it should rise; terminations are the data's.

Shapes: N agents, B batch, A actions, O observation, S state.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import OMIGAConfig
from inspo_core.algorithms.learner import Batch, ValueLearner
from inspo_core.algorithms.mixing import Mixing
from inspo_core.algorithms.networks import masked_log_softmax


class OMIGA(ValueLearner):
    def __init__(self, setup: Setup, config: OMIGAConfig):
        super().__init__(setup, config)
        self._alpha, self._weight_clip = config.alpha, config.weight_clip
        self._policy = self.policy_network()
        self._q = self.local_network("q", self.data.n_actions)
        self._v = self.local_network("v", 1)
        self._mixer = self.network("mixer", 1, self.data.state_size, self.data.n_agents + 1)
        self._q_target, self._v_target, self._mixer_target = self.target("q"), self.target("v"), self.target("mixer")

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            next_v = self._v_target(batch.next_observations).squeeze(2)  # (N, B)
            q_targets = batch.rewards + batch.discounts * Mixing.at(self._mixer_target, batch.next_states).total(next_v)  # (B,)
            weights = Mixing.at(self._mixer_target, batch.states).weights / self._alpha  # (N, B)
            weighted_q = weights * self._q_target(batch.observations).gather(2, batch.actions).squeeze(2)

        q = self._q(batch.observations).gather(2, batch.actions).squeeze(2)
        q_loss = (Mixing.at(self._mixer, batch.states).total(q) - q_targets).square().mean()

        weighted_v = weights * self._v(batch.observations).squeeze(2)
        z = weighted_q - weighted_v
        v_loss = value_loss(z, weighted_v)

        cloning_weights = z.detach().exp().clamp(max=self._weight_clip)
        log_probs = masked_log_softmax(self._policy(batch.observations), batch.available).gather(2, batch.actions).squeeze(2)
        policy_loss = -(cloning_weights * log_probs).mean(1).sum()

        self.descend("mixer", q=q_loss, v=v_loss, policy=policy_loss)
        self.follow("q", "v", "mixer")
        return {
            "q_loss": q_loss,
            "v_loss": v_loss,
            "policy_loss": policy_loss,
            "q_mean": q_targets.mean(),
            "weight_mean": cloning_weights.mean(),
        }


def value_loss(z: Tensor, weighted_v: Tensor) -> Tensor:
    """E_D[exp(z) + w V / alpha] of all agents; ``weighted_v`` is w V / alpha, both (N, B).

    As in the public code it is divided by exp(max z), or by exp(-1) where that is more, so that no term overflows.
    """
    largest = z.detach().amax().clamp(min=-1.0)
    return ((z - largest).exp() + (-largest).exp() * weighted_v).mean(1).sum()
