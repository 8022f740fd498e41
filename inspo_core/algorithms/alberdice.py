"""AlberDICE: alternating best responses by stationary distribution correction (Matsunaga et al., NeurIPS 2023, arXiv 2311.02194).

In an iteration the agents take turns. Agent i looks for the best response to the teammates' policies pi^-i as they are now, over its own
stationary distribution d(s, a^i), with D the data and mu their behavior:
    max_d  E_d[r] - alpha KL(d(s, a^i) pi^-i(a^-i|s) || d_D(s, a)),    d a distribution that the game's dynamics allow
Its dual has one value nu^i(s) a state. With  rho = pi^-i(a^-i|s) / mu(a^-i|s, a^i)  turning the teammates' data actions into theirs,
    A = r - alpha KL(pi^-i(.|s) || mu(.|s, a^i)) + gamma nu(s') - nu(s)
    nu:      min  alpha log E_D[rho exp(A / alpha)] + (1 - gamma) E_D[nu(s)]
    e:       min  E_D[rho (e(s, a^i) - A)^2]
    policy:  cloning of the data's actions with weights  rho w,  w = target / mu^i,  target prop. to mu^i(a^i|o^i) exp(e(s, a^i) / alpha)
The KL inside A is what coordinates: it tells agent i which of its actions the data know together with what the teammates do.

After a terminated episode an absorbing state pays 0 for ever. The dual does not change if a constant is added to all of nu, so nu is 0
there. How much of D is absorbed follows from continuing every terminated episode by 1 / (1 - gamma) steps, the horizon of the discount.

Differences from the authors' public code (dematsunaga/alberdice): mu(a^-i|s, a^i) and mu^i come from the behavior stage instead of being
trained along; an agent has a whole turn of gradient steps instead of one; the learning rate falls to 0 over the second half of the
iterations; batches are reweighted with rho, not resampled; the absorbing state is summed up as above instead of padding episodes with it;
the target, that of their I-projection, is reached by weighted cloning, in which nothing but actions of the data counts, hence no
conservative term on e; no gradient penalty on nu. As there, nu's second term is over all states of the data, and the teammates' actions
in exp(A / alpha) are single samples.

Shapes: N agents, B batch, A actions, R rows and T transitions of the data, S state.
"""

import math

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import is_supported, local_log_probs, others_log_likelihoods
from inspo_core.algorithms.configs import AlberDICEConfig
from inspo_core.algorithms.learner import Batch, ValueLearner, effective_sample_share
from inspo_core.algorithms.networks import masked_log_softmax, whole

# rho is kept above this, so that its logarithm is finite.
SMALLEST_RATIO = 1e-8


class AlberDICE(ValueLearner):
    recordable = False  # the teammates' actions are drawn in every step

    def __init__(self, setup: Setup, config: AlberDICEConfig):
        super().__init__(setup, config)
        self._dice = config
        data, models = self.data, setup.behavior()
        self._joint, self._log_mu = models.joint, local_log_probs(models.local, data)  # (N, R, A)
        self._log_mu_others = others_log_likelihoods(models.joint, data)  # (N, T)
        self._policy = self.policy_network()
        self._nu = self.network("nu", data.n_agents, data.state_size, 1)
        self._e = self.network("e", data.n_agents, data.state_size, data.n_actions)
        self._absorbed = data.absorbed_share(config.gamma)
        self._agent, self._alpha = 0, config.alpha  # of the turn

    def one_pass(self) -> dict[str, float]:
        """A turn of every agent, in order."""
        config, progress = self._dice, min(1.0, self._done / max(1, self._iterations - 1))
        self._alpha = config.alpha * (config.alpha_final / config.alpha) ** progress
        turns = []
        for agent in range(self.data.n_agents):
            self._agent = agent
            turns.append(super().one_pass())
        return {name: sum(turn[name] for turn in turns) / len(turns) for name in turns[0]} | {"alpha": self._alpha}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step of the agent whose turn it is."""
        agent, alpha = self._agent, self._alpha
        ratios, divergences = self._teammates(batch)  # (B,)

        nu, next_nu = (self._nu.one(agent, states).squeeze(1) for states in (batch.states, batch.next_states))
        advantages = batch.rewards - alpha * divergences + batch.discounts * next_nu - nu
        nu_loss = dual_loss(ratios, advantages, alpha, self._absorbed) + (1 - self._dice.gamma) * nu.mean()

        e, taken = self._e.one(agent, batch.states), batch.actions[agent]  # (B, A), (B, 1)
        e_loss = (ratios * (e.gather(1, taken).squeeze(1) - advantages.detach()).square()).sum() / ratios.sum()

        weights = ratios * self._weights(batch, e.detach()).gather(1, taken).squeeze(1)
        clipped = weights.clamp(max=self._dice.weight_clip)
        log_pi = masked_log_softmax(self._policy.one(agent, batch.observations[agent]), batch.available[agent])
        policy_loss = -(clipped * log_pi.gather(1, taken).squeeze(1)).mean()

        for name, loss in (("nu", nu_loss), ("e", e_loss), ("policy", policy_loss)):
            self._optimizers[name].step(loss, agent)
        return {
            "nu_loss": nu_loss,
            "e_loss": e_loss,
            "policy_loss": policy_loss,
            "teammates_kl": divergences.mean(),
            "ratio_clipped": (ratios >= self._dice.ratio_clip).float().mean(),
            "effective_sample_share": effective_sample_share(clipped),
        }

    def _weights(self, batch: Batch, e: Tensor) -> Tensor:
        """w of every action, on average 1 under mu^i: (B, A)."""
        log_mu = self._log_mu[self._agent, batch.rows]
        # e of an action that the data lack is an extrapolation, and one too high would take all the weight of its state.
        counted = is_supported(log_mu, self._dice.support_threshold).scatter(1, batch.actions[self._agent], True)
        log_target = masked_log_softmax(log_mu + e / self._alpha, counted)
        return (log_target - log_mu).exp()

    @torch.no_grad()
    def _teammates(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """rho, and KL(pi^-i(.|s) || mu(.|s, a^i)) for the data's a^i: each (B,)."""
        agent, (n, size) = self._agent, batch.actions.shape[:2]
        log_pi = whole(masked_log_softmax(self._policy(batch.observations), batch.available))  # (N, B, A)
        taken = log_pi.gather(2, batch.actions).squeeze(2)
        log_ratios = taken.sum(0) - taken[agent] - self._log_mu_others[agent, batch.transitions]
        ratios = log_ratios.exp().clamp(SMALLEST_RATIO, self._dice.ratio_clip)
        others = [other for other in range(n) if other != agent]
        if not others:
            return ratios, torch.zeros_like(ratios)
        # By the chain rule: given the actions before it, which are drawn from pi, each teammate's part is summed exactly.
        actions = log_pi.exp().flatten(0, 1).multinomial(1, generator=self.streams["noise"]).view(n, size)
        actions[agent] = batch.actions[agent].squeeze(1)
        known = torch.zeros(n, n - 1, dtype=torch.bool, device=actions.device)
        known[agent] = True
        for place, other in enumerate(others):
            known[other, place + 1 :] = True
        log_mu = self._joint.conditional(
            states=batch.states.repeat(n - 1, 1),
            actions=actions.repeat(1, n - 1),
            known=known.repeat_interleave(size, 1),
            asked=torch.tensor(others, device=actions.device).repeat_interleave(size),
            available=batch.available[others].flatten(0, 1),
        ).view(n - 1, size, -1)
        log_pi = log_pi[others]
        return ratios, (log_pi.exp() * (log_pi - log_mu)).sum((0, 2))


def dual_loss(ratios: Tensor, advantages: Tensor, alpha: float, absorbed: float) -> Tensor:
    """alpha log E_D[rho exp(A / alpha)], where the share ``absorbed`` of D has rho = 1 and A = 0; ratios and advantages (B,)."""
    logits = ratios.log() + advantages / alpha + math.log((1 - absorbed) / len(ratios))
    return alpha * torch.cat([logits, logits.new_full((1,), absorbed).log()]).logsumexp(0)
