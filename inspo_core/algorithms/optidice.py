"""OptiDICE (Lee et al., ICML 2021, arXiv 2106.10783) for several agents: one stationary distribution over joint actions.

As AlberDICE's authors compare with it: all agents count as one whose action is the joint one; its weights then clone every agent's policy.
    max_d  E_d[r] - alpha D_f(d || d_D),    d a distribution over (s, a) that the game's dynamics allow, D the data
has a dual with one value nu(s) a state. With  A = r + gamma nu(s') - nu(s)  and  w(y) = max(0, f'^-1(y)),
    nu:      min  (1 - gamma) E_{s ~ first states}[nu(s)] + alpha E_D[f*(A / alpha)],  f*(y) = w(y) y - f(w(y))
    e:       min  E_D[(e(s, a) - A)^2]
    policy:  E_D[-w(e(s, a) / alpha) sum_i log pi^i(a^i|o^i)]
f is the soft chi-square divergence of the authors' code: x log x - x + 1 below 1 and (x - 1)^2 / 2 above.
The projection onto a product of policies is what fails where the data's joint actions do not mix.

After a terminated episode nu is 0; the E_D of the dual includes absorbed steps (Transitions.absorbed_share), about which there is nothing
to decide.

Differences from the authors' public code (secury/optidice): joint discrete actions; weighted cloning, of its two ways to a policy the one
that AlberDICE's authors take; the squared error for e, of its two losses the one whose gradient does not vanish where w is small; no
Lagrange multiplier for E_D[w] = 1, which holds by itself where nu is exact; no entropy constraint; rewards scaled, not standardised.

Shapes: N agents, B batch, A actions, S state.
"""

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import OptiDICEConfig
from inspo_core.algorithms.learner import Batch, ValueLearner, effective_sample_share
from inspo_core.algorithms.networks import masked_log_softmax


class OptiDICE(ValueLearner):
    recordable = False  # first states are drawn in every step

    def __init__(self, setup: Setup, config: OptiDICEConfig):
        super().__init__(setup, config)
        self._alpha, self._weight_clip = config.alpha, config.weight_clip
        data = self.data
        self._policy = self.policy_network()
        self._nu = self.network("nu", 1, data.state_size, 1)
        self._e = self.network("e", 1, data.state_size + data.n_agents * data.n_actions, 1)
        self._deciding = 1 - data.absorbed_share(config.gamma)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        size, alpha = len(batch.rewards), self._alpha
        first_rows = self.data.first_rows
        first = torch.randint(len(first_rows), (size,), generator=self.streams["noise"], device=batch.rewards.device)
        every_nu = self._nu(torch.cat([batch.states, batch.next_states, self.data.states(first_rows[first])]).unsqueeze(0))[0, :, 0]
        nu, next_nu, first_nu = every_nu.split(size)
        advantages = batch.rewards + batch.discounts * next_nu - nu  # (B,)
        nu_loss = (1 - self._gamma) * first_nu.mean() + self._deciding * alpha * conjugate(advantages / alpha).mean()

        one_hot = torch.nn.functional.one_hot(batch.actions.squeeze(2), self.data.n_actions)  # (N, B, A)
        e = self._e(torch.cat([batch.states, one_hot.transpose(0, 1).flatten(1)], 1).unsqueeze(0))[0, :, 0]  # (B,)
        e_loss = (e - advantages.detach()).square().mean()

        weights = ratio(e.detach() / alpha).clamp(max=self._weight_clip)
        log_pi = masked_log_softmax(self._policy(batch.observations), batch.available).gather(2, batch.actions).squeeze(2)  # (N, B)
        policy_loss = -(weights * log_pi).mean(1).sum()

        self.descend(nu=nu_loss, e=e_loss, policy=policy_loss)
        return {
            "nu_loss": nu_loss,
            "e_loss": e_loss,
            "policy_loss": policy_loss,
            "weight_mean": weights.mean(),
            "effective_sample_share": effective_sample_share(weights),
        }


def ratio(y: Tensor) -> Tensor:
    """w = f'^-1(y), never negative."""
    return torch.where(y < 0, y.clamp(max=0).exp(), y + 1)


def conjugate(y: Tensor) -> Tensor:
    """f*(y), whose derivative is w."""
    return torch.where(y < 0, y.clamp(max=0).expm1(), y + y.square() / 2)
