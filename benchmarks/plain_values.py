"""The steps of OMIGA and CFCQL in the style of public code: a list of modules an agent, an optimizer each, loops in Python.

The same arithmetic as ``inspo_core.algorithms.omiga`` and ``cfcql``, on the same batches and from the same weights.

Shapes: N agents, B batch, A actions.
"""

import torch
from torch import Tensor, nn

from benchmarks.plain import descend, follow, masked, module_of
from inspo_core.algorithms.cfcql import CFCQL, agent_weights
from inspo_core.algorithms.learner import Batch
from inspo_core.algorithms.mixing import Mixing, TwoLayerMixing
from inspo_core.algorithms.networks import IMPOSSIBLE
from inspo_core.algorithms.omiga import OMIGA, value_loss


def modules_of(learner: OMIGA | CFCQL, name: str) -> list[nn.Sequential]:
    network = learner._networks[name]
    return [module_of(network, agent) for agent in range(network.n)]


def adams(modules: list[nn.Sequential], rate: float) -> list[torch.optim.Adam]:
    return [torch.optim.Adam(module.parameters(), lr=rate) for module in modules]


def stacked_call(module: nn.Sequential):  # the mixings of the project take networks with an axis N
    return lambda states: module(states[0]).unsqueeze(0)


class PlainOMIGA:
    def __init__(self, learner: OMIGA):
        self.n, self.config = learner.data.n_agents, learner._config
        self.policies, self.q, self.v = (modules_of(learner, name) for name in ("policy", "q", "v"))
        self.q_targets, self.v_targets = modules_of(learner, "q"), modules_of(learner, "v")
        (self.mixer,), (self.mixer_target,) = modules_of(learner, "mixer"), modules_of(learner, "mixer")
        self.optimizers = [
            *(adam for group in (self.policies, self.q, self.v, [self.mixer]) for adam in adams(group, self.config.learning_rate))
        ]

    def step(self, batch: Batch) -> None:
        config, alpha = self.config, self.config.alpha
        with torch.no_grad():
            next_v = torch.stack([self.v_targets[i](batch.next_observations[i]).squeeze(1) for i in range(self.n)])
            next_total = Mixing.at(stacked_call(self.mixer_target), batch.next_states).total(next_v)
            targets = batch.rewards + batch.discounts * next_total
            weights = Mixing.at(stacked_call(self.mixer_target), batch.states).weights / alpha
        q = torch.stack([self.q[i](batch.observations[i]).gather(1, batch.actions[i]).squeeze(1) for i in range(self.n)])
        q_loss = (Mixing.at(stacked_call(self.mixer), batch.states).total(q) - targets).square().mean()
        z, weighted_v = [], []
        for i in range(self.n):
            with torch.no_grad():
                q_old = self.q_targets[i](batch.observations[i]).gather(1, batch.actions[i]).squeeze(1)
            weighted_v.append(weights[i] * self.v[i](batch.observations[i]).squeeze(1))
            z.append(weights[i] * q_old - weighted_v[i])
        v_loss = value_loss(torch.stack(z), torch.stack(weighted_v))
        policy_loss = torch.zeros(())
        for i in range(self.n):
            chosen = z[i].detach().exp().clamp(max=config.weight_clip)
            log_probs = masked(self.policies[i](batch.observations[i]), batch.available[i]).gather(1, batch.actions[i]).squeeze(1)
            policy_loss = policy_loss - (chosen * log_probs).mean()
        descend(self.optimizers, q_loss + v_loss + policy_loss)
        for slow, fast in zip([*self.q_targets, *self.v_targets, self.mixer_target], [*self.q, *self.v, self.mixer]):
            follow(slow, fast, config.target_rate)


class PlainCFCQL:
    def __init__(self, learner: CFCQL):
        self.n, self.config, self.log_mu = learner.data.n_agents, learner._config, learner._log_mu
        self.values, self.value_targets = modules_of(learner, "policy"), modules_of(learner, "policy")
        (self.mixer,), (self.mixer_target,) = modules_of(learner, "mixer"), modules_of(learner, "mixer")
        self.optimizers = adams([*self.values, self.mixer], self.config.learning_rate)

    def step(self, batch: Batch) -> None:
        config = self.config
        with torch.no_grad():
            following = []
            for i in range(self.n):
                now = self.values[i](batch.next_observations[i])
                best = torch.where(batch.next_available[i], now, IMPOSSIBLE).argmax(1, keepdim=True)
                following.append(self.value_targets[i](batch.next_observations[i]).gather(1, best).squeeze(1))
            targets = batch.rewards + batch.discounts * self.mix(self.mixer_target, batch.next_states, torch.stack(following))
        values = [self.values[i](batch.observations[i]) for i in range(self.n)]
        taken = torch.stack([values[i].gather(1, batch.actions[i]).squeeze(1) for i in range(self.n)])
        total = self.mix(self.mixer, batch.states, taken)
        totals = []
        for i in range(self.n):
            others = []
            for action in range(values[i].shape[1]):
                exchanged = torch.cat([taken[:i], values[i][:, action].unsqueeze(0), taken[i + 1 :]])
                others.append(self.mix(self.mixer, batch.states, exchanged))
            totals.append(torch.stack(others, 1))
        counterfactual = torch.stack(totals)  # (N, B, A)
        with torch.no_grad():
            weights = agent_weights(counterfactual, batch.available, self.log_mu[:, batch.rows], config.temperature)
        soft = torch.where(batch.available, counterfactual, IMPOSSIBLE).logsumexp(2)
        loss = 0.5 * (total - targets).square().mean() + config.alpha * ((weights * soft).sum(0) - total).mean()
        descend(self.optimizers, loss)
        for slow, fast in zip([*self.value_targets, self.mixer_target], [*self.values, self.mixer]):
            follow(slow, fast, config.target_rate)

    def mix(self, mixer: nn.Sequential, states: Tensor, values: Tensor) -> Tensor:
        return TwoLayerMixing.at(stacked_call(mixer), states, self.config.mixing_width).total(values)
