"""InSPO: in-sample sequential policy optimization (Liu et al., AAAI 2025, arXiv 2412.07639), Algorithm 1.

From the paper: a sweep evaluates Q_k, draws a permutation of the agents and updates each against the teammates already
updated; entropy against premature convergence; reverse KL; local Q-functions with importance resampling. Our reconstruction
(docs/inspo.md): the closed form with the conditional KL term, its projection by weighted cloning, the networks, the schedules.

With the teammates' policies pi^-i and a behavior mu, maximising
    J(pi) = E[sum_t gamma^t (r_t - alpha KL(pi(.|s_t) || mu(.|s_t)) + beta H(pi(.|s_t)))]
over pi^i alone gives
    pi^i(a^i|s)  prop. to  mu^i(a^i|s) w(s, a^i),
    w = exp((Q^i(s, a^i) - b(s) - alpha KL(pi^-i || mu(.|s, a^i)) - beta log mu^i(a^i|s)) / (alpha + beta)),
with b(s) such that w has mean 1 under mu^i. Minimising KL(target || pi_theta) is cloning of dataset actions with weights w.

Shapes: N agents, P pool, B batch, A actions.
"""

import math

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import joint_log_likelihood, local_log_probs
from inspo_core.algorithms.critics import JointCritic, LocalCritics, Pool, Temperatures, in_support, joint_log_probs
from inspo_core.algorithms.networks import IMPOSSIBLE, Policy, RowOptimizers, StackedMLP, masked_log_softmax
from inspo_core.algorithms.streams import Streams
from inspo_core.config import InSPOConfig

# Size of the dual step on log alpha, a sweep, per nat of distance from the target KL.
DUAL_RATE = 0.1


class InSPO:
    def __init__(self, setup: Setup, config: InSPOConfig):
        data = setup.data
        self._data, self._behavior, self._config = data, setup.behavior(), config
        self._anneal_sweeps = config.anneal_fraction * setup.iterations
        self._streams = Streams(setup.seed, ["initial", "pool", "batches", "order", "teammates"], setup.device)
        sizes = [data.observations.shape[2], *config.hidden, data.n_actions]
        self._network = StackedMLP(data.n_agents, sizes, self._streams["initial"], setup.device)
        self._optimizers = RowOptimizers(self._network, config.learning_rate)
        self._log_mu = local_log_probs(self._behavior.local, data)  # (N, R, A)
        self._log_mu_others = self._log_likelihood_of_others()  # (N, T)
        largest = data.rewards.abs().max().item()
        self._reward_scale = largest if config.reward_scale == "max_abs" and largest > 0 else 1.0
        critics = LocalCritics if config.q == "local" else JointCritic
        self._critics = critics(data, config, data.rewards.max().item() / self._reward_scale, self._streams)
        self._sweep = 0
        self._tuned_alpha = config.alpha

    def iterate(self) -> dict[str, float]:
        """One sweep over all agents."""
        temperatures = self._temperatures()
        pool = self._draw_pool()
        log_pi = self._log_pi(pool)
        metrics = self._critics.evaluate(pool, log_pi, temperatures)
        metrics |= {"alpha": temperatures.alpha, "beta": temperatures.beta}
        if self._config.update == "sequential":
            turns = []
            for turn, agent in enumerate(self._order()):
                if turn > 0:
                    self._critics.refit(agent, pool, log_pi, temperatures)
                weights = self._weights(agent, pool, log_pi, temperatures)
                turns.append(self._improve(agent, pool, weights))
                log_pi[agent] = self._log_pi_of(agent, pool)
            metrics |= {name: sum(turn[name] for turn in turns) / len(turns) for name in turns[0]}
        else:
            weights = torch.stack([self._weights(agent, pool, log_pi, temperatures) for agent in range(self._data.n_agents)])
            metrics |= self._improve(None, pool, weights)
            log_pi = self._log_pi(pool)
        kl = (log_pi.exp() * (log_pi - pool.log_mu)).sum(-1).mean(1)  # (N,)
        metrics |= {"kl_to_behavior": kl.mean().item(), "entropy": -(log_pi.exp() * log_pi).sum(-1).mean().item()}
        if self._config.alpha_schedule == "tuned":
            self._tuned_alpha *= math.exp(DUAL_RATE * (metrics["kl_to_behavior"] - self._config.target_kl))
        self._sweep += 1
        return metrics

    def policy(self) -> Policy:
        return Policy(self._network, self._data.observation_standardizer)

    def _temperatures(self) -> Temperatures:
        config = self._config
        progress = min(1.0, self._sweep / self._anneal_sweeps)
        alpha = {
            "fixed": config.alpha,
            "annealed": config.alpha * (config.alpha_final / config.alpha) ** progress,
            "tuned": self._tuned_alpha,
        }[config.alpha_schedule]
        beta = {"none": 0.0, "constant": config.beta, "annealed": config.beta * (1 - progress)}[config.beta_schedule]
        return Temperatures(alpha, beta, value_beta=beta if config.entropy_in_value else 0.0)

    def _order(self) -> list[int]:
        if self._config.order == "fixed":
            return list(range(self._data.n_agents))
        generator = self._streams["order"]
        return torch.randperm(self._data.n_agents, generator=generator, device=generator.device).tolist()

    def _draw_pool(self) -> Pool:
        data, device = self._data, self._data.rows.device
        size = min(self._config.pool_size, len(data))
        drawn = torch.randperm(len(data), generator=self._streams["pool"], device=device)[:size]
        rows = data.rows[drawn]
        log_mu, next_log_mu = self._log_mu[:, rows], self._log_mu[:, rows + 1]
        joint = self._config.q == "joint"
        with torch.no_grad():
            next_logits = self._network(data.observations[:, rows + 1])
        return Pool(
            states=data.states[rows],
            next_states=data.states[rows + 1],
            observations=data.observations[:, rows],
            actions=data.actions[:, drawn],
            rewards=data.rewards[drawn] / self._reward_scale,
            continues=data.continues[drawn],
            available=data.available[:, rows],
            log_mu=log_mu,
            supported=in_support(log_mu, self._config),
            next_log_mu=next_log_mu,
            next_log_pi=masked_log_softmax(next_logits, in_support(next_log_mu, self._config)),
            log_mu_others=self._log_mu_others[:, drawn],
            log_joint_mu=self._log_joint_mu(rows) if joint else None,
            next_log_joint_mu=self._log_joint_mu(rows + 1) if joint else None,
        )

    @torch.no_grad()
    def _log_pi(self, pool: Pool) -> Tensor:
        return masked_log_softmax(self._network(pool.observations), pool.available)

    @torch.no_grad()
    def _log_pi_of(self, agent: int, pool: Pool) -> Tensor:
        return masked_log_softmax(self._network.one(agent, pool.observations[agent]), pool.available[agent])

    def _log_likelihood_of_others(self) -> Tensor:
        """log mu(a^-i | s, a^i) of the data: (N, T)."""
        data = self._data
        if self._config.behavior == "product":
            own = self._log_mu[:, data.rows].gather(2, data.actions.unsqueeze(2)).squeeze(2)
            return own.sum(0) - own
        every = torch.arange(len(data), device=data.rows.device)
        return torch.stack([joint_log_likelihood(self._behavior.joint, data, every, first=agent) for agent in range(data.n_agents)])

    @torch.no_grad()
    def _log_joint_mu(self, rows: Tensor) -> Tensor:
        """log mu(a|s) of all joint actions: (P, A^N), agent 0 most significant."""
        data = self._data
        if self._config.behavior == "product":
            return joint_log_probs(self._log_mu[:, rows])
        total = torch.zeros(len(rows), 1, device=rows.device)
        for agent in range(data.n_agents):
            prefixes = total.shape[1]  # A^agent: every choice of the agents before this one
            codes = torch.arange(prefixes, device=rows.device).repeat(len(rows))
            actions = torch.stack([codes // data.n_actions ** (agent - 1 - other) % data.n_actions for other in range(agent)]
                                  + [torch.zeros_like(codes)] * (data.n_agents - agent))
            repeated = rows.repeat_interleave(prefixes)
            log_mu = self._behavior.joint.asked_of(
                agent, data.states[repeated], actions, list(range(agent)), data.available[agent, repeated]
            )
            total = (total.unsqueeze(2) + log_mu.view(len(rows), prefixes, -1)).flatten(1)
        return total

    @torch.no_grad()
    def _conditional_kl(self, agent: int, pool: Pool, log_pi: Tensor) -> Tensor:
        """KL(pi^-i || mu(. | s, a^i)) for every a^i: (P, A).

        By the chain rule over the teammates in index order, each conditional KL exact and the actions before it sampled
        from pi: exact for two agents, unbiased beyond.
        """
        if self._config.behavior == "product":
            return torch.zeros_like(log_pi[agent])
        n_agents, size, n_actions = log_pi.shape
        states = pool.states.repeat_interleave(n_actions, 0)
        actions = torch.zeros(n_agents, size * n_actions, dtype=torch.int64, device=states.device)
        actions[agent] = torch.arange(n_actions, device=states.device).repeat(size)
        kl = torch.zeros(size * n_actions, device=states.device)
        known = [agent]
        for other in (j for j in range(n_agents) if j != agent):
            available = pool.available[other].repeat_interleave(n_actions, 0)
            log_mu = self._behavior.joint.asked_of(other, states, actions, known, available)
            log_probs = log_pi[other].repeat_interleave(n_actions, 0)
            kl += (log_probs.exp() * (log_probs - log_mu)).sum(-1)
            if len(known) < n_agents - 1:
                actions[other] = log_probs.exp().multinomial(1, generator=self._streams["teammates"]).squeeze(1)
                known.append(other)
        return kl.view(size, n_actions)

    def _weights(self, agent: int, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> Tensor:
        """w of the data's own actions of ``agent`` against the teammates ``log_pi``: (P,)."""
        alpha, beta = temperatures.alpha, temperatures.beta
        log_mu = pool.log_mu[agent]
        advantage = self._critics.table(agent, pool, log_pi) - alpha * self._conditional_kl(agent, pool, log_pi) - beta * log_mu
        logits = advantage / (alpha + beta)
        # Q of an action that the data lack is an extrapolation, and one too high would take all the weight of its state.
        baseline = (log_mu + logits).masked_fill(~pool.supported[agent], IMPOSSIBLE).logsumexp(-1)
        return (logits.gather(1, pool.actions[agent].unsqueeze(1)).squeeze(1) - baseline).exp()

    def _improve(self, agent: int | None, pool: Pool, weights: Tensor) -> dict[str, float]:
        """Clone the pool's actions with ``weights``: (P,) of one agent, or (N, P) of all at once."""
        config = self._config
        clipped = weights.clamp(max=config.weight_clip)
        shape = (config.policy_steps, config.batch_size)
        batches = torch.randint(weights.shape[-1], shape, generator=self._streams["batches"], device=weights.device)
        losses = torch.zeros(len(batches), device=weights.device)
        for step, batch in enumerate(batches):
            if agent is None:
                logits = self._network(pool.observations[:, batch])
                available, actions = pool.available[:, batch], pool.actions[:, batch]
            else:
                logits = self._network.one(agent, pool.observations[agent, batch])
                available, actions = pool.available[agent, batch], pool.actions[agent, batch]
            log_probs = masked_log_softmax(logits, available).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
            loss = -(clipped[..., batch] * log_probs).mean(-1)
            self._optimizers.step(loss.sum(), agent)
            losses[step] = loss.detach().mean()
        return {
            "policy_loss": losses.mean().item(),
            "weight_clipped": (weights > config.weight_clip).float().mean().item(),
            "effective_sample_share": (clipped.mean(-1).square() / clipped.square().mean(-1).clamp(min=1e-30)).mean().item(),
        }

    def state_dict(self) -> dict:
        return {
            "network": self._network.parameters,
            "optimizers": self._optimizers.state_dict(),
            "critics": self._critics.state_dict(),
            "streams": self._streams.state_dict(),
            "sweep": self._sweep,
            "tuned_alpha": self._tuned_alpha,
        }

    def load_state_dict(self, state: dict) -> None:
        self._network.parameters.copy_(state["network"])
        self._optimizers.load_state_dict(state["optimizers"])
        self._critics.load_state_dict(state["critics"])
        self._streams.load_state_dict(state["streams"])
        self._sweep = state["sweep"]
        self._tuned_alpha = state["tuned_alpha"]
