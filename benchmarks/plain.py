"""InSPO's sweep in the style of public code: a list of modules an agent, an optimizer each, loops in Python.

The same arithmetic as ``inspo_core.algorithms.inspo.sweep`` with a product behavior policy, local Q and resampling, on batches that are
given; tests/benchmarks holds the two together, ``learning_step.py`` times them against one another.

Shapes: N agents, P pool, G gradient steps, B batch, A actions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inspo_core.algorithms.behavior_models import is_supported
from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.networks import IMPOSSIBLE, StackedMLP
from inspo_core.algorithms.transitions import Transitions


@dataclass
class Draws:
    """What a sweep draws: everything random in it."""

    pool: Tensor  # (P,) transitions
    order: list[int]
    critics: Tensor  # (N, G B) positions in the pool, of the evaluation
    refits: list[Tensor]  # (G B,) of each turn but the first
    policies: list[Tensor]  # (G, B) of each turn


def module_of(network: StackedMLP, agent: int) -> nn.Sequential:
    """One of the stacked networks as modules of torch, its weights copied."""
    layers: list[nn.Module] = []
    leaves = network.rows[agent]
    for weight, bias in zip(leaves[::2], leaves[1::2]):
        linear = nn.Linear(*weight.shape)
        linear.weight.data, linear.bias.data = weight.detach().T.contiguous().clone(), bias.detach()[0].clone()
        layers += [linear, nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


def masked(logits: Tensor, available: Tensor) -> Tensor:
    return logits.masked_fill(~available, IMPOSSIBLE).log_softmax(-1)


def descend(optimizers: list[torch.optim.Adam], loss: Tensor) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    for target, parameter in zip(slow.parameters(), fast.parameters()):
        target.lerp_(parameter, rate)


class PlainInSPO:
    def __init__(self, data: Transitions, config: InSPOConfig, policy: StackedMLP, critic: StackedMLP, clones: StackedMLP, scale: float):
        """Start from the weights of the stacked networks; ``scale``: what rewards are divided by."""
        self.data, self.config, self.scale, self.n = data, config, scale, data.n_agents
        self.policies, self.critics, self.targets, self.clones = (
            [module_of(network, agent) for agent in range(self.n)] for network in (policy, critic, critic, clones)
        )
        self.policy_adams = [torch.optim.Adam(module.parameters(), lr=config.learning_rate) for module in self.policies]
        self.critic_adams = [torch.optim.Adam(module.parameters(), lr=config.learning_rate) for module in self.critics]

    def sweep(self, draws: Draws | None, alpha: float, beta: float) -> dict[str, float]:
        """One sweep and what it logs; the batches are those of ``draws`` or, without them, drawn here."""
        data, config, temperature = self.data, self.config, alpha + beta
        pool = draws.pool if draws else torch.randperm(len(data))[: config.pool_size]
        rows = data.rows(pool)
        states, next_states = data.states(rows), data.states(rows + 1)
        observations, next_observations = data.observations(rows), data.observations(rows + 1)
        available, next_available = data.available(rows), data.available(rows + 1)
        played = data.actions(pool)
        rewards, discounts = data.rewards(pool) / self.scale, config.gamma * data.continues(pool)
        limit = max(data.highest_reward / self.scale, 0.0) / (1 - config.gamma)
        log_mu, log_pi, next_pi, counted = [], [], [], []
        regulariser = torch.zeros(len(rows))
        with torch.no_grad():
            for i in range(self.n):
                now, then = observations[i], next_observations[i]
                log_mu.append(masked(self.clones[i](now), available[i]))
                log_pi.append(masked(self.policies[i](now), available[i]))
                next_log_mu = masked(self.clones[i](then), next_available[i])
                next_log_pi = masked(self.policies[i](then), self.supported(next_log_mu))
                next_pi.append(next_log_pi.exp())
                regulariser -= alpha * (next_pi[i] * (next_log_pi - next_log_mu)).sum(-1)
                counted.append(self.supported(log_mu[i]).scatter(1, played[i].unsqueeze(1), True))

        def ratio(i: int) -> Tensor:
            product = torch.ones(len(rows))
            for j in range(self.n):
                if j != i:
                    taken = played[j].unsqueeze(1)
                    product = product * (log_pi[j].gather(1, taken) - log_mu[j].gather(1, taken)).squeeze(1).exp()
            return product.clamp(1e-8, config.ratio_clip)

        def drawn(i: int, steps: int) -> Tensor:
            return torch.multinomial(ratio(i), steps * config.batch_size, replacement=True)

        def critic_step(i: int, chosen: Tensor) -> float:
            with torch.no_grad():
                next_v = (next_pi[i][chosen] * self.targets[i](next_states[chosen])).sum(-1) + regulariser[chosen]
                targets = rewards[chosen] + discounts[chosen] * next_v.clamp(max=limit)
            q = self.critics[i](states[chosen]).gather(1, played[i, chosen].unsqueeze(1)).squeeze(1)
            loss = (q - targets).square().mean()
            descend([self.critic_adams[i]], loss)
            return loss.item()

        logged: dict[str, float] = {}
        size = config.batch_size
        batches = draws.critics if draws else [drawn(i, config.critic_steps) for i in range(self.n)]
        for step in range(config.critic_steps):
            for i in range(self.n):
                logged[f"critic_loss/{i}"] = critic_step(i, batches[i][step * size : (step + 1) * size])
                follow(self.targets[i], self.critics[i], config.target_rate)
        for turn, i in enumerate(draws.order if draws else torch.randperm(self.n).tolist()):
            if turn > 0:
                refits = draws.refits[turn - 1] if draws else drawn(i, config.refit_steps)
                for step in range(config.refit_steps):
                    critic_step(i, refits[step * size : (step + 1) * size])
            actions = played[i]
            with torch.no_grad():
                gains = self.critics[i](states) + alpha * log_mu[i]
                log_target = masked(gains / temperature, counted[i])
                weights = (log_target - log_mu[i]).gather(1, actions.unsqueeze(1)).squeeze(1).exp()
                clipped = weights.clamp(max=config.weight_clip)
            for chosen in draws.policies[turn] if draws else torch.randint(len(rows), (config.policy_steps, size)):
                log_probs = masked(self.policies[i](observations[i, chosen]), available[i, chosen])
                loss = -(clipped[chosen] * log_probs.gather(1, actions[chosen].unsqueeze(1)).squeeze(1)).mean()
                descend([self.policy_adams[i]], loss)
            with torch.no_grad():
                before, log_pi[i] = log_pi[i], masked(self.policies[i](observations[i]), available[i])
                objectives = []
                for policy in (before, log_pi[i]):
                    kept = masked(policy, counted[i])
                    objectives.append((kept.exp() * (gains - temperature * kept)).sum(-1).mean().item())
                logged[f"policy_loss/{i}"] = loss.item()
                logged[f"improvement/{i}"] = objectives[1] - objectives[0]
                logged[f"clipped/{i}"] = (weights > config.weight_clip).float().mean().item()
                logged[f"effective_sample_share/{i}"] = (clipped.mean().square() / clipped.square().mean()).item()
        for i in range(self.n):
            logged[f"kl/{i}"] = (log_pi[i].exp() * (log_pi[i] - log_mu[i])).sum(-1).mean().item()
            logged[f"entropy/{i}"] = -(log_pi[i].exp() * log_pi[i]).sum(-1).mean().item()
        return logged

    def supported(self, log_mu: Tensor) -> Tensor:
        return is_supported(log_mu, self.config.support_threshold)
