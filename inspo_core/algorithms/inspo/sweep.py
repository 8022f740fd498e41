"""InSPO: in-sample sequential policy optimization (Liu et al., AAAI 2025, arXiv 2412.07639), Algorithm 1.

From the paper: a sweep evaluates Q_k, draws a permutation of the agents and updates each against the teammates already
updated; entropy against premature convergence; reverse KL; local Q-functions with importance resampling. Our reconstruction
(docs/inspo.md): the closed form with a joint behavior policy, its projection by weighted cloning, the networks, the schedules.

With the teammates' policies pi^-i and a behavior mu, maximising
    J(pi) = E[sum_t gamma^t (r_t - alpha KL(pi(.|s_t) || mu(.|s_t)) + beta H(pi(.|s_t)))]
over pi^i alone gives
    pi^i(a^i|s)  prop. to  exp(G^i(s, a^i) / (alpha + beta)),    G^i = Q^i(s, a^i) + alpha E_{a^-i ~ pi^-i}[log mu(a^i | s, a^-i)].
Minimising KL(target || pi_theta) is cloning of dataset actions with weights w = target / mu^i.

Shapes: N agents, P pool, B batch, A actions.
"""

import math

import torch
from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.inspo.behavior_queries import JointMu, Mu, ProductMu
from inspo_core.algorithms.inspo.critics import JointCritic, LocalCritics, Pool, Temperatures
from inspo_core.algorithms.learner import effective_sample_share, reward_scale_of, scheduled_rate
from inspo_core.algorithms.networks import RowOptimizers, StackedNetworks, masked_log_softmax, whole
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.seed_batching import Fit, Forward
from inspo_core.errors import InspoError
from inspo_core.rng import Streams

# Size of the dual step on log alpha, a sweep, per nat of distance from the target KL, and where alpha stays.
DUAL_RATE = 0.1
DUAL_BOUNDS = (1e-3, 10.0)
# Pool positions at which the policies' joint actions are compared with the data's, for the log only.
LOOKED_AT = 1024


class InSPO:
    def __init__(self, setup: Setup, config: InSPOConfig):
        data = setup.data
        self._data, self._config, self._fit = data, config, setup.fit
        self._sweeps, self._anneal_sweeps = setup.iterations, config.anneal_fraction * setup.iterations
        self._streams = Streams(setup.seed, ["initial", "pool", "batches", "order", "teammates"], setup.device)
        sizes = [data.observation_size, *config.hidden, data.n_actions]
        self._network = stacked(data.n_agents, sizes, config.memory, self._streams["initial"], setup.device)
        self._optimizers = RowOptimizers(self._network, config.learning_rate)
        models = setup.behavior()
        if config.initial_policy == "clones":
            self._begin_at(models.local)
        self._mu: Mu
        if config.behavior_model == "joint":
            self._mu = JointMu(models, data, config, self._streams["teammates"])
        else:
            self._mu = ProductMu(models, data, config)
        self._log_mu_others = self._mu.others()  # (N, T)
        self._reward_scale = reward_scale_of(data, config.reward_scale)
        critics = LocalCritics if config.q == "local" else JointCritic
        self._critics = critics(data, config, self._streams, setup.fit)
        self._sweep = 0
        self._tuned_alpha = config.alpha

    def _begin_at(self, clones: StackedNetworks) -> None:
        wanted, found = ((network.sizes[1:-1], network.memory) for network in (self._network, clones))
        if wanted != found:
            raise InspoError(
                "train.initial_policy is 'clones', which needs networks like theirs: train.hidden and train.memory are "
                f"{wanted[0]} and {wanted[1]}, behavior.hidden and behavior.memory {found[0]} and {found[1]}"
            )
        self._network.parameters.copy_(clones.parameters)

    def iterate(self) -> dict[str, float]:
        """One sweep over all agents."""
        temperatures = self._temperatures()
        rate = scheduled_rate(self._config, self._sweep, self._sweeps)
        self._optimizers.learning_rate = self._critics.optimizers.learning_rate = rate
        pool = self._draw_pool(temperatures)
        log_pi = self._log_pi(pool)
        metrics = self._critics.evaluate(pool, log_pi) | {"alpha": temperatures.alpha, "beta": temperatures.beta}
        agents = range(self._data.n_agents)
        improvements: dict[int, float] = {}
        if self._config.update == "sequential":
            turns = []
            for turn, agent in enumerate(self._order()):
                if turn > 0:
                    self._critics.refit(agent, pool, log_pi)
                gains, before = self._gains(agent, pool, log_pi, temperatures), log_pi[agent].clone()
                turns.append(self._improve(agent, pool, self._weights(agent, pool, gains, temperatures)))
                log_pi[agent] = self._log_pi_of(agent, pool)
                improvements[agent] = _improvement(gains, before, log_pi[agent], pool.counted[agent], temperatures)
            metrics |= {name: sum(turn[name] for turn in turns) / len(turns) for name in turns[0]}
        else:
            every_gain, before = [self._gains(agent, pool, log_pi, temperatures) for agent in agents], log_pi
            weights = torch.stack([self._weights(agent, pool, every_gain[agent], temperatures) for agent in agents])
            metrics |= self._improve(None, pool, weights)
            log_pi = self._log_pi(pool)
            for agent in agents:
                improvements[agent] = _improvement(every_gain[agent], before[agent], log_pi[agent], pool.counted[agent], temperatures)
        metrics |= self._distances(pool, log_pi) | {f"improvement/agent_{agent}": improvements[agent] for agent in agents}
        if self._config.alpha_schedule == "tuned":
            step = math.exp(DUAL_RATE * (metrics["kl_to_behavior"] - self._config.target_kl))
            self._tuned_alpha = min(max(self._tuned_alpha * step, DUAL_BOUNDS[0]), DUAL_BOUNDS[1])
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

    @torch.no_grad()
    def _draw_pool(self, temperatures: Temperatures) -> Pool:
        data, mu = self._data, self._mu
        drawn = data.draw_distinct(self._config.pool_size, self._streams["pool"])
        rows, actions = data.rows(drawn), data.actions(drawn)
        next_log_pi = masked_log_softmax(self._network(data.inputs(rows + 1, self._config.memory)), mu.is_supported(mu.local[:, rows + 1]))
        minus_entropy = (next_log_pi.exp() * next_log_pi).sum((0, 2))
        kl = minus_entropy - mu.chain(rows + 1, next_log_pi)[0]
        best = data.highest_reward / self._reward_scale + temperatures.value_beta * data.n_agents * math.log(data.n_actions)
        joint = self._config.q == "joint"
        return Pool(
            rows=rows,
            states=data.states(rows),
            next_states=data.states(rows + 1),
            observations=data.inputs(rows, self._config.memory),
            actions=actions,
            rewards=data.rewards(drawn) / self._reward_scale,
            continues=data.continues(drawn),
            available=data.available(rows),
            log_mu=mu.local[:, rows],
            counted=mu.is_supported(mu.local[:, rows]).scatter(2, actions.unsqueeze(2), True),
            log_mu_others=self._log_mu_others[:, drawn],
            next_log_pi=next_log_pi,
            next_regulariser=-temperatures.alpha * kl - temperatures.value_beta * minus_entropy,
            value_limit=max(best, 0.0) / (1 - self._config.gamma),
            joint_supported=mu.joint_supported(rows) if joint else None,
            next_joint_supported=mu.joint_supported(rows + 1) if joint else None,
        )

    @torch.no_grad()
    def _log_pi(self, pool: Pool) -> Tensor:
        return whole(masked_log_softmax(self._network(pool.observations), pool.available))

    @torch.no_grad()
    def _log_pi_of(self, agent: int, pool: Pool) -> Tensor:
        return whole(masked_log_softmax(self._network.one(agent, pool.observations[agent]), pool.available[agent]))

    def _gains(self, agent: int, pool: Pool, log_pi: Tensor, temperatures: Temperatures) -> Tensor:
        """G^agent(s, .) against the teammates ``log_pi``: (P, A)."""
        return self._critics.table(agent, pool, log_pi) + temperatures.alpha * self._mu.expected(agent, pool.rows, log_pi)

    def _weights(self, agent: int, pool: Pool, gains: Tensor, temperatures: Temperatures) -> Tensor:
        """w of the data's own actions of ``agent``: (P,)."""
        logits = gains / (temperatures.alpha + temperatures.beta)
        # Q of an action that the data lack is an extrapolation, and one too high would take all the weight of its state.
        log_target = masked_log_softmax(logits, pool.counted[agent])
        return (log_target - pool.log_mu[agent]).gather(1, pool.actions[agent].unsqueeze(1)).squeeze(1).exp()

    def _improve(self, agent: int | None, pool: Pool, weights: Tensor) -> dict[str, float]:
        """Clone the pool's actions with ``weights``: (P,) of one agent, or (N, P) of all at once."""
        config = self._config
        clipped = weights.clamp(max=config.weight_clip)
        drawn = self._draw_batches(weights.shape[-1])
        axis, at = (1, (slice(None), drawn)) if agent is None else (0, (agent, drawn))
        columns = (pool.observations[at], pool.available[at], pool.actions[at].unsqueeze(-1), clipped[..., drawn])
        (losses,) = self._fit(Fit(self._optimizers, agent, _weighted_cloning, columns))
        return {
            "policy_loss": losses.mean().item(),
            "weight_clipped": (weights > config.weight_clip).float().mean().item(),
            "effective_sample_share": effective_sample_share(clipped).mean().item(),
        }

    def _draw_batches(self, size: int) -> Tensor:
        """Positions in a pool of ``size`` for the steps of a policy: (G, B)."""
        shape = (self._config.policy_steps, self._config.batch_size)
        return torch.randint(size, shape, generator=self._streams["batches"], device=self._data.device)

    def _distances(self, pool: Pool, log_pi: Tensor) -> dict[str, float]:
        """How far the policies are from the data's, and how mixed they still are."""
        kl = (log_pi.exp() * (log_pi - pool.log_mu)).sum(-1).mean(1)  # (N,)
        inside = self._mu.chain(pool.rows[:LOOKED_AT], log_pi[:, :LOOKED_AT])[1]
        return {
            "kl_to_behavior": kl.mean().item(),
            **{f"kl_to_behavior/agent_{agent}": value for agent, value in enumerate(kl.tolist())},
            "entropy": -(log_pi.exp() * log_pi).sum(-1).mean().item(),
            "mass_outside_data": 1 - inside.mean().item(),
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


def _weighted_cloning(
    network: Forward, target: None, constants: tuple, observations: Tensor, available: Tensor, actions: Tensor, weights: Tensor
) -> tuple[Tensor]:
    log_probs = masked_log_softmax(network(observations), available).gather(-1, actions).squeeze(-1)
    return (-(weights * log_probs).mean(-1),)


def _improvement(gains: Tensor, before: Tensor, after: Tensor, counted: Tensor, temperatures: Temperatures) -> float:
    """What an agent's turn gained of E_s[sum_a pi (G - (alpha + beta) log pi)], which its closed form maximises.

    Both policies (P, A) are taken on the ``counted`` actions only.
    """

    def objective(log_pi: Tensor) -> Tensor:
        log_pi = masked_log_softmax(log_pi, counted)
        return (log_pi.exp() * (gains - (temperatures.alpha + temperatures.beta) * log_pi)).sum(-1).mean()

    return (objective(after) - objective(before)).item()
