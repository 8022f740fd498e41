"""ICQ: implicit constraint Q-learning, the multi-agent form (Yang et al., NeurIPS 2021, arXiv 2106.03400), without recurrence.

Only state-action pairs of the data D are ever evaluated. The joint value is mixed linearly, and with  softmax_D  the softmax over a batch,
which stands for  exp(.) / Z  under the behavior policy,
    Q_tot(s, a) = sum_i w^i(s) Q^i(o^i, a^i) + b(s),    w^i >= 0
    Q and the mixing:  E_D[(r + gamma B softmax_D(Q_tot'(s', a') / alpha_target) Q_tot'(s', a') - Q_tot(s, a))^2],  a' as in the data
    policy:            -sum_i sum_D softmax_D(A^i / alpha) log pi^i(a^i|o^i),  A^i = w^i(s) (Q^i(o^i, a^i) - sum_a pi^i(a|o^i) Q^i(o^i, a))
B is the number of pairs in the softmax, ' are targets.

Differences from the authors' public code (YiqinYang/ICQ, ICQ-MA): one-step targets on single transitions instead of TD(lambda) along
episodes; w is not normalised, it has a bias beside it and stands in the exponent, as in the paper's decomposition, where the code
normalises it and multiplies the loss by it; Adam instead of RMSprop, slowly following targets instead of copied ones. Where a time limit
cuts an episode off the data have no next action: those transitions train the policies only.

Shapes: N agents, B batch, A actions, S state.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import ICQConfig
from inspo_core.algorithms.learner import Batch, ValueLearner
from inspo_core.algorithms.mixing import Mixing
from inspo_core.algorithms.networks import IMPOSSIBLE, masked_log_softmax


class ICQ(ValueLearner):
    def __init__(self, setup: Setup, config: ICQConfig):
        super().__init__(setup, config)
        self._temperature, self._target_temperature = config.temperature, config.target_temperature
        data = self.data
        self._policy = self.policy_network()
        self._q = self.local_network("q", data.n_actions)
        self._mixer = self.network("mixer", 1, data.state_size, data.n_agents + 1)
        self._q_target, self._mixer_target = self.target("q"), self.target("mixer")

    def step(self, batch: Batch) -> dict[str, Tensor]:
        every_q = self._q(batch.observations)  # (N, B, A)
        q, mixing = every_q.gather(2, batch.actions).squeeze(2), Mixing.at(self._mixer, batch.states)  # (N, B)
        targets, counted = self._targets(batch)  # (B,)
        q_loss = ((mixing.total(q) - targets).square() * counted).sum() / counted.sum().clamp(min=1)

        log_pi = masked_log_softmax(self._policy(batch.observations), batch.available)
        with torch.no_grad():
            advantages = mixing.weights * (q - (log_pi.exp() * every_q).sum(2))
            weights = (advantages / self._temperature).softmax(1)
        policy_loss = -(weights * log_pi.gather(2, batch.actions).squeeze(2)).sum()

        self.descend("mixer", q=q_loss, policy=policy_loss)
        self.follow("q", "mixer")
        effective = 1 / weights.square().sum(1).mean() / weights.shape[1]
        return {"q_loss": q_loss, "policy_loss": policy_loss, "q_mean": targets.mean(), "effective_sample_share": effective}

    @torch.no_grad()
    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The targets of Q_tot, and which of them the data have a next action for or need none: each (B,)."""
        after = (batch.transitions + 1).clamp(max=len(self.data) - 1)
        followed = self.data.rows(after) == batch.rows + 1  # (B,)
        next_actions = self.data.actions(after).unsqueeze(2)  # (N, B, 1), of another episode where nothing followed
        next_q = self._q_target(batch.next_observations).gather(2, next_actions).squeeze(2)
        next_total = Mixing.at(self._mixer_target, batch.next_states).total(next_q)  # (B,)
        logits = torch.where(followed, next_total / self._target_temperature, IMPOSSIBLE)
        next_value = followed.sum() * logits.softmax(0) * next_total
        return batch.rewards + batch.discounts * followed * next_value, followed | (batch.discounts == 0)
