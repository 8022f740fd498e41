"""What the algorithms have in common that take plain gradient steps on batches of transitions.

Shapes: N agents, B batch, A actions, O observation, S state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from inspo_core.algorithm_configs import LearnerConfig, ValueConfig
from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.cuda_graphs import take_steps
from inspo_core.algorithms.networks import RowOptimizers, StackedMLP, StackedNetworks
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.streams import Streams
from inspo_core.algorithms.transitions import Transitions

N = TypeVar("N", bound=StackedNetworks)


@dataclass(frozen=True)
class Batch:
    """Transitions drawn uniformly, the same ones for all agents; or G batches of them, in an axis before all others."""

    rows: Tensor  # (B,) of the data, where the transitions begin
    observations: Tensor  # (N, B, O), with memory (N, B, L, O + 1), as the next ones
    next_observations: Tensor
    states: Tensor  # (B, S)
    next_states: Tensor  # (B, S)
    available: Tensor  # (N, B, A) bool
    next_available: Tensor  # (N, B, A) bool
    actions: Tensor  # (N, B, 1) int64
    rewards: Tensor  # (B,) scaled
    discounts: Tensor  # (B,) gamma, 0 where the episode terminated

    def columns(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def one(self, number: int) -> "Batch":
        """Of several batches, one."""
        return Batch(*(column[number] for column in self.columns()))


class BatchLearner(ABC):
    """An algorithm of the contract in ``base.py``; its iteration is a pass of ``steps`` calls of :meth:`step`.

    Its networks, and a :class:`ValueLearner`'s targets, are in ``state_dict``; what else a step changes must be added to it.
    """

    policy_sharpness = 1.0  # see Policy; raised by algorithms that act greedily on values
    recordable = True  # see take_steps; not if a step draws at random, or if more than its batch can change what it does

    def __init__(self, setup: Setup, config: LearnerConfig, steps: int, gamma: float = 1.0, reward_scale: str = "none"):
        self.data: Transitions = setup.data
        self.streams = Streams(setup.seed, ["initial", "batches", "noise"], setup.device)
        self._config, self._steps, self._device = config, steps, setup.device
        self._iterations, self._done = setup.iterations, 0
        self._networks: dict[str, StackedNetworks] = {}
        self._optimizers: dict[str, RowOptimizers] = {}
        self._rewards = self.data.rewards / reward_scale_of(self.data, reward_scale)
        self._discounts = gamma * self.data.continues

    def network(self, name: str, count: int, inputs: int, outputs: int) -> StackedMLP:
        """``count`` new networks with the configured hidden layers and an Adam each."""
        return self._add(name, StackedMLP(count, [inputs, *self._config.hidden, outputs], self.streams["initial"], self._device))

    def policy_network(self) -> StackedNetworks:
        """The networks ``policy``: from every agent's observations to a number an action."""
        return self.local_network("policy", self.data.n_actions)

    def local_network(self, name: str, outputs: int) -> StackedNetworks:
        """New networks of every agent's observations, with memory if so configured."""
        sizes = [self.data.observations.shape[2], *self._config.hidden, outputs]
        return self._add(name, stacked(self.data.n_agents, sizes, self._config.memory, self.streams["initial"], self._device))

    def _add(self, name: str, network: N) -> N:
        self._networks[name], self._optimizers[name] = network, RowOptimizers(network, self._config.learning_rate)
        return network

    def descend(self, *shared: str, **losses: Tensor) -> None:
        """A gradient step on the sum of the losses for each network that a loss is named after, and for the ``shared`` ones.

        ``shared`` are further networks that the losses' gradients flow into. They flow into no others.
        """
        RowOptimizers.step_together([self._optimizers[name] for name in (*shared, *losses)], sum(losses.values()))

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; scalars to log."""

    def iterate(self) -> dict[str, float]:
        for optimizer in self._optimizers.values():
            optimizer.learning_rate = scheduled_rate(self._config, self._done, self._iterations)
        metrics = self.one_pass()
        self._done += 1
        return metrics

    def one_pass(self) -> dict[str, float]:
        """``steps`` gradient steps; means of what they log."""
        names: list[str] = []

        def step(batch: Sequence[Tensor]) -> list[Tensor]:
            values = self.step(Batch(*batch))
            names[:] = values
            return [value.detach() for value in values.values()]

        logged = take_steps(step, self._draw().columns(), axis=0, recordable=self.recordable)
        return {name: values.mean().item() for name, values in zip(names, logged)}

    def _draw(self) -> Batch:
        """The batches of an iteration. They are gathered at once: indexing them one by one takes as long as training small networks."""
        data, (g, b) = self.data, (self._steps, self._config.batch_size)
        drawn = torch.randint(len(data), (g, b), generator=self.streams["batches"], device=data.rows.device)
        rows = data.rows[drawn]
        return Batch(
            rows=rows,
            observations=data.inputs(rows, self._config.memory).transpose(0, 1),
            next_observations=data.inputs(rows + 1, self._config.memory).transpose(0, 1),
            states=data.states[rows],
            next_states=data.states[rows + 1],
            available=data.available[:, rows].transpose(0, 1),
            next_available=data.available[:, rows + 1].transpose(0, 1),
            actions=data.actions[:, drawn].transpose(0, 1).unsqueeze(-1),
            rewards=self._rewards[drawn],
            discounts=self._discounts[drawn],
        )

    def policy(self) -> Policy:
        return Policy(self._networks["policy"], self.data.observation_standardizer, self.policy_sharpness)

    def state_dict(self) -> dict:
        return {
            "networks": {name: network.parameters for name, network in self._networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "streams": self.streams.state_dict(),
            "done": self._done,
        }

    def load_state_dict(self, state: dict) -> None:
        for name, network in self._networks.items():
            network.parameters.copy_(state["networks"][name])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self.streams.load_state_dict(state["streams"])
        self._done = state["done"]


class ValueLearner(BatchLearner):
    """A batch learner of values: discounted, of scaled rewards, with targets that follow slowly."""

    def __init__(self, setup: Setup, config: ValueConfig):
        super().__init__(setup, config, config.critic_steps, config.gamma, config.reward_scale)
        self._target_rate = config.target_rate

    def target(self, name: str) -> StackedNetworks:
        """A copy of the network ``name`` that follows it only by :meth:`follow`."""
        network = self._networks[name]
        copy = stacked(network.n, network.sizes, network.memory, self.streams["initial"], self._device)
        copy.parameters.copy_(network.parameters)
        self._networks[f"{name} target"] = copy
        return copy

    def follow(self, *names: str) -> None:
        """Move the targets of the networks ``names`` towards them."""
        for name in names:
            self._networks[f"{name} target"].parameters.lerp_(self._networks[name].parameters, self._target_rate)


def scheduled_rate(config: LearnerConfig, done: int, iterations: int) -> float:
    """The learning rate after ``done`` iterations. If it falls: constant for ``anneal_fraction`` of them, then linearly to 0.

    So the last policy does not depend on the last batches.
    """
    after = (1 - config.anneal_fraction) * iterations
    if config.learning_rate_schedule == "constant" or after <= 0:
        return config.learning_rate
    return config.learning_rate * min(1.0, max(0, iterations - done) / after)


def reward_scale_of(data: Transitions, rule: str) -> float:
    """What rewards are divided by: ``max_abs`` is the largest absolute reward of the data, ``none`` is 1."""
    largest = data.rewards.abs().max().item()
    return largest if rule == "max_abs" and largest > 0 else 1.0


def effective_sample_share(weights: Tensor) -> Tensor:
    """(sum w)^2 / (B sum w^2) over the last dimension, (..., B) -> (...): 1 if all weights are the same."""
    return weights.mean(-1).square() / weights.square().mean(-1).clamp(min=1e-30)
