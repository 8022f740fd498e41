"""Evaluation of the regularised Q-function from data: local Q^i(s, a^i) with importance correction, or one joint Q(s, a).

Q^i(s, a^i) = E_{a^-i ~ pi^-i}[Q(s, a)]; dataset actions of the others are distributed as mu(a^-i | s, a^i), so transitions
count with rho^i = prod_{j != i} pi^j(a^j|o^j) / mu(a^-i | s, a^i), by resampling (Schlegel et al., NeurIPS 2019) or weights.
The target is  r + gamma (1 - terminated) sum_a' pi^i(a'|o'^i) [Q^i(s', a') - alpha log(pi^i/mu^i) - beta log pi^i].

Shapes: N agents, P pool, B batch, A actions, S state, G gradient steps.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from inspo_core.algorithms.networks import IMPOSSIBLE, RowOptimizers, StackedMLP, masked_log_softmax
from inspo_core.algorithms.streams import Streams
from inspo_core.algorithms.transitions import Transitions
from inspo_core.config import InSPOConfig


@dataclass(frozen=True)
class Pool:
    """The transitions of one sweep, with everything that stays fixed during the sweep."""

    states: Tensor  # (P, S)
    next_states: Tensor  # (P, S)
    observations: Tensor  # (N, P, O)
    actions: Tensor  # (N, P)
    rewards: Tensor  # (P,) scaled
    continues: Tensor  # (P,)
    available: Tensor  # (N, P, A)
    log_mu: Tensor  # (N, P, A) local clones
    supported: Tensor  # (N, P, A) bool: available and inside the data's support
    next_log_mu: Tensor  # (N, P, A)
    next_log_pi: Tensor  # (N, P, A) of pi_k, renormalised on the support
    log_mu_others: Tensor  # (N, P) log mu(a^-i | s, a^i) of the data's actions
    log_joint_mu: Tensor | None  # (P, A^N) log mu(a | s), agent 0 most significant; with the joint critic only
    next_log_joint_mu: Tensor | None  # (P, A^N)


@dataclass(frozen=True)
class Temperatures:
    alpha: float
    beta: float  # in the policy update
    value_beta: float  # in V(s'): beta, or 0 where the entropy is left out of the values


@dataclass(frozen=True)
class Evaluation:
    """What temporal differences need of a pool, for M critics with K actions each."""

    chosen: Tensor  # (M, P) the data's action
    ratios: Tensor  # (M, P) importance ratios
    next_log_pi: Tensor  # (M, P, K)
    bonus: Tensor  # (M, P) the regularisers in V(s')


class Critics(ABC):
    """M critics as one stacked network, with slowly following targets."""

    def __init__(self, sizes: list[int], count: int, config: InSPOConfig, best_reward: float, streams: Streams, device: str):
        """``best_reward``: the largest (scaled) reward of the data."""
        self.config, self._best_reward, self._generator = config, best_reward, streams["batches"]
        self.network = StackedMLP(count, sizes, streams["initial"], device)
        self.target = StackedMLP(count, sizes, streams["initial"], device)
        self.target.parameters.copy_(self.network.parameters)
        self.optimizers = RowOptimizers(self.network, config.learning_rate)

    def evaluate(self, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> dict[str, float]:
        """Move the critics towards Q_k of the policies ``log_pi`` (N, P, A)."""
        evaluation = self._evaluation(pool, log_pi, temperatures)
        batches, weights = self._draw(evaluation.ratios, self.config.critic_steps)
        critics = torch.arange(self.network.n, device=log_pi.device).unsqueeze(1)
        errors = torch.zeros(len(batches), device=log_pi.device)
        for step, batch in enumerate(batches):
            with torch.no_grad():
                next_q = self.target(pool.next_states[batch])  # (M, B, K)
                next_v = (evaluation.next_log_pi[critics, batch].exp() * next_q).sum(-1) + evaluation.bonus.gather(1, batch)
                targets = self._targets(pool.rewards[batch], pool.continues[batch], next_v, temperatures)
            q = self.network(pool.states[batch]).gather(2, evaluation.chosen.gather(1, batch).unsqueeze(2)).squeeze(2)
            loss = ((q - targets).square() * weights[step]).mean(1)
            self.optimizers.step(loss.sum())
            self.target.parameters.lerp_(self.network.parameters, self.config.target_rate)
            errors[step] = loss.detach().mean()
        clipped = (evaluation.ratios >= self.config.ratio_clip).float().mean()
        return {"critic_loss": errors.mean().item(), "q_mean": q.mean().item(), "ratio_clipped": clipped.item()}

    def _targets(self, rewards: Tensor, continues: Tensor, next_v: Tensor, temperatures: Temperatures) -> Tensor:
        # No value lies beyond an endless stream of the best rewards and of full entropy (log K each step); the bound keeps
        # errors of extrapolation from feeding on themselves.
        entropy = temperatures.value_beta * math.log(self.network.sizes[-1])
        limit = (max(self._best_reward, 0.0) + entropy) / (1 - self.config.gamma)
        return rewards + self.config.gamma * continues * next_v.clamp(max=limit)

    def _draw(self, ratios: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Batches (G, M, B) of pool positions and the weights (G, M, B) of their errors."""
        count, size = len(ratios), self.config.batch_size
        probabilities = ratios if self.config.importance == "resample" else torch.ones_like(ratios)
        drawn = torch.multinomial(probabilities, steps * size, replacement=True, generator=self._generator)
        weights = torch.ones_like(ratios)
        if self.config.importance == "reweight":
            weights = ratios / ratios.mean(1, keepdim=True)
        split = (count, steps, size)
        return drawn.view(split).transpose(0, 1), weights.gather(1, drawn).view(split).transpose(0, 1)

    @abstractmethod
    def _evaluation(self, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> Evaluation:
        """What :meth:`evaluate` needs of ``pool`` under the policies ``log_pi``."""

    @abstractmethod
    def refit(self, agent: int, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> None:
        """Correct what ``agent`` needs of the critics for the teammates that the sweep has updated."""

    @abstractmethod
    def table(self, agent: int, pool: Pool, log_pi: Tensor) -> Tensor:
        """Qbar^agent(s, .) against the teammates ``log_pi``, over the pool: (P, A)."""

    def state_dict(self) -> dict:
        return {
            "network": self.network.parameters,
            "target": self.target.parameters,
            "optimizers": self.optimizers.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.network.parameters.copy_(state["network"])
        self.target.parameters.copy_(state["target"])
        self.optimizers.load_state_dict(state["optimizers"])


class LocalCritics(Critics):
    """Q^i(s, .) of every agent, from transitions that count with rho^i."""

    def __init__(self, data: Transitions, config: InSPOConfig, best_reward: float, streams: Streams):
        sizes = [data.states.shape[1], *config.hidden, data.n_actions]
        super().__init__(sizes, data.n_agents, config, best_reward, streams, str(data.states.device))

    def _evaluation(self, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> Evaluation:
        return Evaluation(
            chosen=pool.actions,
            ratios=self._ratios(pool, log_pi),
            next_log_pi=pool.next_log_pi,
            bonus=_regulariser(pool.next_log_pi, pool.next_log_mu, temperatures),
        )

    def _ratios(self, pool: Pool, log_pi: Tensor) -> Tensor:
        own = log_pi.gather(2, pool.actions.unsqueeze(2)).squeeze(2)  # (N, P)
        return (own.sum(0) - own - pool.log_mu_others).exp().clamp(1e-8, self.config.ratio_clip)

    def refit(self, agent: int, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> None:
        if not self.config.refit_steps:
            return
        # V(s') stays that of pi_k: only the distribution of the teammates' present actions has changed.
        with torch.no_grad():
            next_v = (pool.next_log_pi[agent].exp() * self.target.one(agent, pool.next_states)).sum(-1)
            next_v += _regulariser(pool.next_log_pi[agent], pool.next_log_mu[agent], temperatures)
            targets = self._targets(pool.rewards, pool.continues, next_v, temperatures)  # (P,)
        batches, weights = self._draw(self._ratios(pool, log_pi)[agent : agent + 1], self.config.refit_steps)
        for (batch,), (weight,) in zip(batches, weights):
            q = self.network.one(agent, pool.states[batch]).gather(1, pool.actions[agent, batch].unsqueeze(1)).squeeze(1)
            self.optimizers.step(((q - targets[batch]).square() * weight).mean(), agent)

    @torch.no_grad()
    def table(self, agent: int, pool: Pool, log_pi: Tensor) -> Tensor:
        return self.network.one(agent, pool.states)


class JointCritic(Critics):
    """Q(s, a) over all A^N joint actions (small games): Qbar^i is an exact sum, and no importance correction is needed.

    Joint actions outside the data's support count neither in V nor in Qbar.
    """

    def __init__(self, data: Transitions, config: InSPOConfig, best_reward: float, streams: Streams):
        sizes = [data.states.shape[1], *config.hidden, data.n_actions**data.n_agents]
        super().__init__(sizes, 1, config, best_reward, streams, str(data.states.device))

    def _evaluation(self, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> Evaluation:
        next_log_pi = masked_log_softmax(joint_log_probs(pool.next_log_pi), in_support(pool.next_log_joint_mu, self.config))
        chosen = torch.zeros_like(pool.actions[0])
        for actions in pool.actions:
            chosen = chosen * log_pi.shape[2] + actions
        return Evaluation(
            chosen=chosen.unsqueeze(0),
            ratios=torch.ones(1, len(chosen), device=chosen.device),
            next_log_pi=next_log_pi.unsqueeze(0),
            bonus=_regulariser(next_log_pi, pool.next_log_joint_mu, temperatures).unsqueeze(0),
        )

    def refit(self, agent: int, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> None:
        pass  # Q(s, a) does not depend on who acts now

    @torch.no_grad()
    def table(self, agent: int, pool: Pool, log_pi: Tensor) -> Tensor:
        n_agents, _, n_actions = log_pi.shape
        others = log_pi.clone()
        others[agent] = 0
        weights = joint_log_probs(others).masked_fill(~in_support(pool.log_joint_mu, self.config), IMPOSSIBLE)
        shape = (-1, *[n_actions] * n_agents)
        weights, q = (x.view(shape).movedim(agent + 1, 1).flatten(2) for x in (weights, self.network.one(0, pool.states)))
        return (weights.softmax(2) * q).sum(2)


def in_support(log_mu: Tensor, config: InSPOConfig) -> Tensor:
    """Which actions the behavior policy takes often enough for their Q-values to come from data."""
    return log_mu > math.log(max(config.support_threshold, 1e-30))


def joint_log_probs(log_probs: Tensor) -> Tensor:
    """Log-probabilities of joint actions under a product of policies: (N, P, A) -> (P, A^N), agent 0 most significant."""
    joint = log_probs[0]
    for agent in log_probs[1:]:
        joint = (joint.unsqueeze(2) + agent.unsqueeze(1)).flatten(1)
    return joint


def _regulariser(log_pi: Tensor, log_mu: Tensor, temperatures: Temperatures) -> Tensor:
    """sum_a pi [-alpha log(pi/mu) - value_beta log pi] over the last dimension."""
    cost = temperatures.alpha * (log_pi - log_mu) + temperatures.value_beta * log_pi
    return -(log_pi.exp() * cost).sum(-1)
