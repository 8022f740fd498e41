"""Evaluation of the regularised Q-function from data: local Q^i(s, a^i) with importance correction, or one joint Q(s, a).

Q^i(s, a^i) = E_{a^-i ~ pi^-i}[Q(s, a)]; dataset actions of the others are distributed as mu(a^-i | s, a^i), so transitions
count with rho^i = prod_{j != i} pi^j(a^j|o^j) / mu(a^-i | s, a^i), by resampling (Schlegel et al., NeurIPS 2019) or weights.
The target is  r + gamma (1 - terminated) (sum_a' pi^i(a'|o'^i) Q^i(s', a') - alpha KL(pi(.|s') || mu(.|s')) + beta H(pi(.|s'))).

Shapes: N agents, M critics, P pool, B batch, A actions, K actions of a critic, S state, G gradient steps.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.networks import IMPOSSIBLE, RowOptimizers, StackedMLP
from inspo_core.algorithms.seed_batching import Fit, Fitter, Forward
from inspo_core.algorithms.transitions import Transitions
from inspo_core.rng import Streams


@dataclass(frozen=True)
class Pool:
    """The transitions of one sweep, with everything that stays fixed during the sweep."""

    rows: Tensor  # (P,) of the data
    states: Tensor  # (P, S)
    next_states: Tensor  # (P, S)
    observations: Tensor  # (N, P, O), with memory (N, P, L, O + 1)
    actions: Tensor  # (N, P)
    rewards: Tensor  # (P,) scaled
    continues: Tensor  # (P,)
    available: Tensor  # (N, P, A)
    log_mu: Tensor  # (N, P, A) local clones
    counted: Tensor  # (N, P, A) bool: inside the data's support, or the action of the data itself
    log_mu_others: Tensor  # (N, P) log mu(a^-i | s, a^i) of the data's actions
    next_log_pi: Tensor  # (N, P, A) of pi_k, renormalised on the support
    next_regulariser: Tensor  # (P,) -alpha KL(pi_k || mu) + value_beta H(pi_k) at s'
    value_limit: float  # bound of V(s'), which keeps errors of extrapolation from feeding on themselves
    joint_supported: Tensor | None  # (P, A^N) bool, agent 0 most significant; with the joint critic only, as the next one
    next_joint_supported: Tensor | None  # (P, A^N)


@dataclass(frozen=True)
class Temperatures:
    alpha: float
    beta: float  # in the policy update
    value_beta: float  # in V(s'): beta, or 0 where the entropy is left out of the values


class Critics(ABC):
    """M critics as one stacked network, with slowly following targets."""

    def __init__(self, sizes: list[int], count: int, config: InSPOConfig, streams: Streams, device: str, fit: Fitter):
        self.config, self._generator, self._fit = config, streams["batches"], fit
        self.network = StackedMLP(count, sizes, streams["initial"], device)
        self.target = StackedMLP(count, sizes, streams["initial"], device)
        self.target.parameters.copy_(self.network.parameters)
        self.optimizers = RowOptimizers(self.network, config.learning_rate)

    def evaluate(self, pool: Pool, log_pi: Tensor) -> dict[str, float]:
        """Move the critics towards Q_k of the policies ``log_pi`` (N, P, A)."""
        chosen, ratios, next_pi = self._evaluation(pool, log_pi)  # (M, P), (M, P), (M, P, K)
        drawn, weights = self._draw(ratios, self.config.critic_steps)  # (M, G B)
        critics = torch.arange(self.network.n, device=drawn.device).unsqueeze(1)
        columns = (
            pool.states[drawn],
            pool.next_states[drawn],
            chosen.gather(1, drawn).unsqueeze(2),
            next_pi[critics, drawn],
            pool.rewards[drawn],
            self.config.gamma * pool.continues[drawn],
            pool.next_regulariser[drawn],
            weights,
        )
        batches = tuple(column.unflatten(1, (-1, self.config.batch_size)) for column in columns)
        rate = self.config.target_rate
        errors, q = self._fit(Fit(self.optimizers, None, _bootstrapped, batches, (pool.value_limit,), self.target, rate))
        clipped = (ratios >= self.config.ratio_clip).float().mean()
        return {"critic_loss": errors.mean().item(), "q_mean": q[-1].mean().item(), "ratio_clipped": clipped.item()}

    def _draw(self, ratios: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Pool positions for all batches (M, G B) and the weights (M, G B) of their errors."""
        probabilities = ratios if self.config.importance == "resample" else torch.ones_like(ratios)
        drawn = torch.multinomial(probabilities, steps * self.config.batch_size, replacement=True, generator=self._generator)
        if self.config.importance != "reweight":
            return drawn, torch.ones_like(drawn, dtype=ratios.dtype)
        return drawn, (ratios / ratios.mean(1, keepdim=True)).gather(1, drawn)

    @abstractmethod
    def _evaluation(self, pool: Pool, log_pi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The data's actions (M, P), importance ratios (M, P) and next policy (M, P, K) of each critic."""

    @abstractmethod
    def refit(self, agent: int, pool: Pool, log_pi: Tensor) -> None:
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

    def __init__(self, data: Transitions, config: InSPOConfig, streams: Streams, fit: Fitter):
        sizes = [data.state_size, *config.hidden, data.n_actions]
        super().__init__(sizes, data.n_agents, config, streams, str(data.device), fit)

    def _evaluation(self, pool: Pool, log_pi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return pool.actions, self._ratios(pool, log_pi), pool.next_log_pi.exp()

    def _ratios(self, pool: Pool, log_pi: Tensor) -> Tensor:
        own = log_pi.gather(2, pool.actions.unsqueeze(2)).squeeze(2)  # (N, P)
        return (own.sum(0) - own - pool.log_mu_others).exp().clamp(1e-8, self.config.ratio_clip)

    def refit(self, agent: int, pool: Pool, log_pi: Tensor) -> None:
        if not self.config.refit_steps:
            return
        # V(s') stays that of pi_k: only the distribution of the teammates' present actions has changed.
        with torch.no_grad():
            next_v = (pool.next_log_pi[agent].exp() * self.target.one(agent, pool.next_states)).sum(-1) + pool.next_regulariser
            targets = pool.rewards + self.config.gamma * pool.continues * next_v.clamp(max=pool.value_limit)  # (P,)
        (drawn,), (weights,) = self._draw(self._ratios(pool, log_pi)[agent : agent + 1], self.config.refit_steps)
        columns = (pool.states[drawn], pool.actions[agent, drawn].unsqueeze(1), targets[drawn], weights)
        batches = tuple(column.unflatten(0, (-1, self.config.batch_size)) for column in columns)
        self._fit(Fit(self.optimizers, agent, _regression, batches))

    @torch.no_grad()
    def table(self, agent: int, pool: Pool, log_pi: Tensor) -> Tensor:
        return self.network.one(agent, pool.states)


class JointCritic(Critics):
    """Q(s, a) over all A^N joint actions (small games): Qbar^i is an exact sum, and no importance correction is needed.

    Joint actions outside the data's support count neither in V nor in Qbar.
    """

    def __init__(self, data: Transitions, config: InSPOConfig, streams: Streams, fit: Fitter):
        sizes = [data.state_size, *config.hidden, data.n_actions**data.n_agents]
        super().__init__(sizes, 1, config, streams, str(data.device), fit)

    def _evaluation(self, pool: Pool, log_pi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert pool.next_joint_supported is not None
        next_pi = torch.where(pool.next_joint_supported, joint_log_probs(pool.next_log_pi), IMPOSSIBLE).softmax(-1)
        chosen = torch.zeros_like(pool.actions[0])
        for actions in pool.actions:
            chosen = chosen * log_pi.shape[2] + actions
        return chosen.unsqueeze(0), torch.ones(1, len(chosen), device=chosen.device), next_pi.unsqueeze(0)

    def refit(self, agent: int, pool: Pool, log_pi: Tensor) -> None:
        pass  # Q(s, a) does not depend on who acts now

    @torch.no_grad()
    def table(self, agent: int, pool: Pool, log_pi: Tensor) -> Tensor:
        n_agents, _, n_actions = log_pi.shape
        others = log_pi.clone()
        others[agent] = 0
        assert pool.joint_supported is not None
        logits = torch.where(pool.joint_supported, joint_log_probs(others), IMPOSSIBLE)
        shape = (-1, *[n_actions] * n_agents)
        tables = (x.view(shape).movedim(agent + 1, 1) for x in (logits, self.network.one(0, pool.states)))
        logits, q = (x.reshape(len(x), n_actions, -1) for x in tables)
        return (logits.softmax(2) * q).sum(2)


def joint_log_probs(log_probs: Tensor) -> Tensor:
    """Log-probabilities of joint actions under a product of policies: (N, P, A) -> (P, A^N), agent 0 most significant."""
    joint = log_probs[0]
    for agent in log_probs[1:]:
        joint = (joint.unsqueeze(2) + agent.unsqueeze(1)).flatten(1)
    return joint


def _bootstrapped(
    network: Forward,
    target: Forward,
    constants: tuple[float],
    states: Tensor,
    next_states: Tensor,
    actions: Tensor,
    next_probabilities: Tensor,
    rewards: Tensor,
    discounts: Tensor,
    regularisers: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    (value_limit,) = constants
    with torch.no_grad():
        next_v = (next_probabilities * target(next_states)).sum(-1) + regularisers
        targets = rewards + discounts * next_v.clamp(max=value_limit)
    q = network(states).gather(-1, actions).squeeze(-1)
    return ((q - targets).square() * weights).mean(-1), q.mean(-1)


def _regression(
    network: Forward, target: None, constants: tuple, states: Tensor, actions: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor]:
    q = network(states).gather(-1, actions).squeeze(-1)
    return (((q - targets).square() * weights).mean(-1),)
