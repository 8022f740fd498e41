"""What InSPO asks of the behavior policy mu, taken as one joint policy or as the product of the local clones.

Shapes: N agents, R rows, T transitions, P pool, A actions, K joint actions of an agent's teammates.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from inspo_core.algorithms.behavior_models import ROWS_AT_ONCE, BehaviorModels, is_supported, local_log_probs, others_log_likelihoods
from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.transitions import Transitions


class Mu(ABC):
    """A behavior policy. ``rows`` (P,) are rows of the data, ``log_pi`` (N, P, A) policies there."""

    def __init__(self, models: BehaviorModels, data: Transitions, config: InSPOConfig):
        self._data, self._threshold = data, config.support_threshold
        self.local = local_log_probs(models.local, data)  # (N, R, A)

    def is_supported(self, log_mu: Tensor) -> Tensor:
        """Which actions (last dimension) mu takes often enough for their Q-values to come from data."""
        return is_supported(log_mu, self._threshold)

    @abstractmethod
    def others(self) -> Tensor:
        """log mu(a^-i | s, a^i) of the data's actions: (N, T)."""

    @abstractmethod
    def expected(self, agent: int, rows: Tensor, log_pi: Tensor) -> Tensor:
        """E_{a^-i ~ pi^-i}[log mu(a^i | s, a^-i)] of every action of ``agent``: (P, A)."""

    @abstractmethod
    def chain(self, rows: Tensor, log_pi: Tensor) -> tuple[Tensor, Tensor]:
        """E_{a ~ pi}[log mu(a|s)] and the probability that pi keeps to supported actions, each (P,)."""

    @abstractmethod
    def joint_supported(self, rows: Tensor) -> Tensor:
        """Which joint actions are supported, action by action: (P, A^N) bool, agent 0 most significant."""


class ProductMu(Mu):
    def others(self) -> Tensor:
        data, parts = self._data, torch.arange(len(self._data), device=self._data.device).split(ROWS_AT_ONCE)
        own = torch.cat([self.local[:, data.rows(part)].gather(2, data.actions(part).unsqueeze(2)).squeeze(2) for part in parts], 1)
        return own.sum(0) - own

    def expected(self, agent: int, rows: Tensor, log_pi: Tensor) -> Tensor:
        return self.local[agent, rows]

    def chain(self, rows: Tensor, log_pi: Tensor) -> tuple[Tensor, Tensor]:
        log_mu, pi = self.local[:, rows], log_pi.exp()
        return (pi * log_mu).sum((0, 2)), (pi * self.is_supported(log_mu)).sum(2).prod(0)

    def joint_supported(self, rows: Tensor) -> Tensor:
        supported = self.is_supported(self.local[:, rows])
        joint = supported[0]
        for one in supported[1:]:
            joint = (joint.unsqueeze(2) & one.unsqueeze(1)).flatten(1)
        return joint


class JointMu(Mu):
    """The autoregressive joint model, asked in whatever order a question needs."""

    def __init__(self, models: BehaviorModels, data: Transitions, config: InSPOConfig, generator: torch.Generator):
        """``generator`` draws the teammates' actions where there are too many joint ones to sum over."""
        super().__init__(models, data, config)
        self._model, self._samples, self._generator = models.joint, config.teammate_samples, generator

    def others(self) -> Tensor:
        return others_log_likelihoods(self._model, self._data)

    @torch.no_grad()
    def expected(self, agent: int, rows: Tensor, log_pi: Tensor) -> Tensor:
        actions, weights = self._teammates(agent, log_pi)  # (N, K, P), (K, P)
        repeated = rows.repeat(len(weights))
        known = [other for other in range(self._data.n_agents) if other != agent]
        log_mu = self._asked_of(agent, repeated, actions.flatten(1), known)
        return (weights.unsqueeze(2) * log_mu.view(*weights.shape, -1)).sum(0)

    @torch.no_grad()
    def chain(self, rows: Tensor, log_pi: Tensor) -> tuple[Tensor, Tensor]:
        # Given the actions before it, which are drawn from pi, each conditional is summed exactly.
        pi = log_pi.exp()
        actions = pi.flatten(0, 1).multinomial(1, generator=self._generator).view(pi.shape[:2])
        expected, inside = torch.zeros_like(pi[0, :, 0]), torch.ones_like(pi[0, :, 0])
        for agent in range(len(pi)):
            log_mu = self._asked_of(agent, rows, actions, list(range(agent)))
            supported = self.is_supported(log_mu)
            expected += (pi[agent] * log_mu).sum(1)
            if agent < len(pi) - 1:
                inside *= supported.gather(1, actions[agent].unsqueeze(1)).squeeze(1)
            else:
                inside *= (pi[agent] * supported).sum(1)
        return expected, inside

    @torch.no_grad()
    def joint_supported(self, rows: Tensor) -> Tensor:
        n, a = self._data.n_agents, self._data.n_actions
        joint = torch.ones(len(rows), 1, dtype=torch.bool, device=rows.device)
        for agent in range(n):
            prefixes = a**agent  # every choice of the agents before this one
            codes = torch.arange(prefixes, device=rows.device).repeat(len(rows))
            before = [codes // a ** (agent - 1 - other) % a for other in range(agent)]
            actions = torch.stack(before + [torch.zeros_like(codes)] * (n - agent))
            log_mu = self._asked_of(agent, rows.repeat_interleave(prefixes), actions, list(range(agent)))
            joint = (joint.unsqueeze(2) & self.is_supported(log_mu).view(len(rows), prefixes, a)).flatten(1)
        return joint

    def _asked_of(self, agent: int, rows: Tensor, actions: Tensor, known: list[int]) -> Tensor:
        """log mu(. | s, actions of ``known``) of ``agent``; actions (N, B) at the rows (B,): (B, A)."""
        return self._model.asked_of(agent, self._data.states(rows), actions, known, self._data.available_to(agent, rows))

    def _teammates(self, agent: int, log_pi: Tensor) -> tuple[Tensor, Tensor]:
        """Joint actions (N, K, P) of the others (the agent's own are 0) and weights (K, P) that sum to 1.

        All of them with their probabilities if they are at most ``teammate_samples``, else that many draws.
        """
        n, size, a = log_pi.shape
        others = [other for other in range(n) if other != agent]
        count = a ** len(others)
        if count > self._samples:
            actions = torch.zeros(n, size, self._samples, dtype=torch.int64, device=log_pi.device)
            for other in others:
                actions[other] = log_pi[other].exp().multinomial(self._samples, replacement=True, generator=self._generator)
            return actions.transpose(1, 2), torch.full((self._samples, size), 1 / self._samples, device=log_pi.device)
        codes = torch.arange(count, device=log_pi.device)
        actions = torch.zeros(n, count, size, dtype=torch.int64, device=log_pi.device)
        log_weights = torch.zeros(count, size, device=log_pi.device)
        for place, other in enumerate(others):
            actions[other] = (codes // a**place % a).unsqueeze(1)
            log_weights += log_pi[other].T[codes // a**place % a]
        return actions, log_weights.exp()
