"""Behavior policies estimated from data: local clones mu^i(a^i|o^i) and one joint model mu(a|s).

The joint model is order-agnostic and autoregressive (our reconstruction of the joint behavior policy that InSPO needs,
docs/inspo.md): asked for agent j, it sees the state and the one-hot actions of whichever agents are already known.

Shapes: N agents, B batch, A actions, O observation, S state.
"""

import math

import torch
from torch import Tensor

from inspo_core.algorithms.networks import StackedMLP, StackedNetworks, masked_log_softmax
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.seed_batching import Forward
from inspo_core.algorithms.transitions import Transitions

ROWS_AT_ONCE = 16384


class JointModel:
    """One network for every conditional mu(a^j | s, known actions)."""

    def __init__(self, network: StackedMLP, n_agents: int, n_actions: int):
        self.network, self.n_agents, self.n_actions = network, n_agents, n_actions

    @classmethod
    def create(cls, data: Transitions, hidden: list[int], generator: torch.Generator) -> "JointModel":
        n, a = data.n_agents, data.n_actions
        sizes = [data.state_size + n * a + 2 * n, *hidden, a]
        return cls(StackedMLP(1, sizes, generator, str(data.device)), n, a)

    def conditional(self, states: Tensor, actions: Tensor, known: Tensor, asked: Tensor, available: Tensor) -> Tensor:
        """log mu(. | s, a^known) of the agent asked.

        states (B, S) standardised; actions (N, B), read only where known (N, B) bool is set; asked (B,) agent numbers;
        available (B, A) actions of the agent asked -> (B, A).
        """
        return masked_log_softmax(self.network(self.inputs(states, actions, known, asked).unsqueeze(0))[0], available)

    def inputs(self, states: Tensor, actions: Tensor, known: Tensor, asked: Tensor) -> Tensor:
        """What the network sees in :meth:`conditional`, with any axes in the place of B."""
        one_hot = torch.nn.functional.one_hot(actions, self.n_actions) * known.unsqueeze(-1)  # (N, ..., A)
        return torch.cat(
            [
                states,
                one_hot.movedim(0, -2).flatten(-2).to(states),
                known.movedim(0, -1).to(states),
                torch.nn.functional.one_hot(asked, self.n_agents).to(states),
            ],
            dim=-1,
        )

    def asked_of(self, agent: int, states: Tensor, actions: Tensor, known: list[int], available: Tensor) -> Tensor:
        """As :meth:`conditional` with one agent asked and the same known agents in the whole batch."""
        known_mask = torch.zeros(self.n_agents, 1, dtype=torch.bool, device=states.device)
        known_mask[known] = True
        asked = torch.full((len(states),), agent, device=states.device)
        return self.conditional(states, actions, known_mask.expand(-1, len(states)), asked, available)


def cloning_loss(network: Forward, target: None, constants: tuple, inputs: Tensor, available: Tensor, actions: Tensor) -> tuple[Tensor]:
    """-log pi(a) of a fit's networks, mean over a batch.

    inputs (N, B, in), available (N, B, A), actions (N, B, 1) -> (N,).
    """
    log_probs = masked_log_softmax(network(inputs), available).gather(2, actions)
    return (-log_probs.mean((1, 2)),)


@torch.no_grad()
def local_log_probs(network: StackedNetworks, data: Transitions, rows: Tensor | None = None) -> Tensor:
    """log mu^i(.|o^i) at ``rows`` (R,) of the data, or at all of them: (N, R, A)."""
    parts = (torch.arange(data.n_rows, device=data.device) if rows is None else rows).split(ROWS_AT_ONCE)
    return torch.cat([masked_log_softmax(network(data.inputs(part, network.memory)), data.available(part)) for part in parts], 1)


def is_supported(log_mu: Tensor, threshold: float) -> Tensor:
    """Which actions (last dimension) a behavior policy takes often enough for their Q-values to come from data.

    Those at least ``threshold`` times as probable as the likeliest (the rule of discrete BCQ: Fujimoto et al., 2019, arXiv 1910.01708).
    """
    return log_mu - log_mu.amax(-1, keepdim=True) >= math.log(max(threshold, 1e-30))


def draw_queries(n: int, steps: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For G steps of B: the agent at a random position of a random order, and which agents come before it.

    known (N, G, B) bool, asked (G, B). N times the expectation of -log mu(a^asked|s, a^known) is the negative joint log-likelihood,
    averaged over orders.
    """
    device = generator.device
    draws = [
        (torch.rand(n, batch, generator=generator, device=device), torch.randint(n, (batch,), generator=generator, device=device))
        for _ in range(steps)
    ]
    noise, position = (torch.stack(values) for values in zip(*draws))  # (G, N, B), (G, B)
    rank = noise.argsort(1).argsort(1).movedim(1, 0)  # (N, G, B), places in the order
    return rank < position, (rank == position).int().argmax(0)


@torch.no_grad()
def joint_log_likelihood(model: JointModel, data: Transitions, batch: Tensor, first: int | None = None) -> Tensor:
    """log mu(a|s) of data actions by the chain rule, agents in index order: (B,).

    With ``first``: log mu(a^-i | s, a^i) for i = first, the other agents in index order.
    """
    return torch.cat([_chain(model, data, part, first) for part in batch.split(ROWS_AT_ONCE)])


def _chain(model: JointModel, data: Transitions, batch: Tensor, first: int | None) -> Tensor:
    known = [] if first is None else [first]
    total = torch.zeros(len(batch), device=batch.device)
    for agent in range(data.n_agents):
        if agent == first:
            continue
        known_mask = torch.zeros(data.n_agents, len(batch), dtype=torch.bool, device=batch.device)
        known_mask[known] = True
        total += _data_log_prob(model, data, batch, known_mask, torch.full_like(batch, agent))
        known.append(agent)
    return total


def others_log_likelihoods(model: JointModel, data: Transitions) -> Tensor:
    """log mu(a^-i | s, a^i) of all data actions, for every i: (N, T)."""
    every = torch.arange(len(data), device=data.device)
    return torch.stack([joint_log_likelihood(model, data, every, first=agent) for agent in range(data.n_agents)])


def _data_log_prob(model: JointModel, data: Transitions, batch: Tensor, known: Tensor, asked: Tensor) -> Tensor:
    rows, actions = data.rows(batch), data.actions(batch)
    log_probs = model.conditional(data.states(rows), actions, known, asked, data.available_to(asked, rows))
    return log_probs.gather(1, actions.gather(0, asked.unsqueeze(0)).T).squeeze(1)


class BehaviorModels:
    """Both estimates of mu, trained side by side."""

    def __init__(self, local: StackedNetworks, joint: JointModel, data: Transitions):
        self.local, self.joint = local, joint
        self._data = data

    @classmethod
    def create(cls, data: Transitions, hidden: list[int], memory: int, generator: torch.Generator) -> "BehaviorModels":
        sizes = [data.observation_size, *hidden, data.n_actions]
        local = stacked(data.n_agents, sizes, memory, generator, str(data.device))
        return cls(local, JointModel.create(data, hidden, generator), data)

    def policy(self) -> Policy:
        """The local clones as an acting policy."""
        return Policy(self.local, self._data.observation_standardizer)
