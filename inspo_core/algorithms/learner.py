"""What the algorithms have in common that take plain gradient steps on batches of transitions.

Shapes: N agents, B batch, A actions, O observation, S state.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import TypeVar

from torch import Tensor

from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.configs import LearnerConfig, ValueConfig
from inspo_core.algorithms.cuda_graphs import take_steps
from inspo_core.algorithms.networks import RowOptimizers, StackedMLP, StackedNetworks
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.transitions import Transitions
from inspo_core.rng import Streams

N = TypeVar("N", bound=StackedNetworks)


@dataclass(frozen=True)
class Batch:
    """Transitions drawn uniformly, the same ones for all agents; or G batches of them, in an axis before all others."""

    transitions: Tensor  # (B,) their numbers in the data
    rows: Tensor  # (B,) of the data, where they begin
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
    """An algorithm of the contract in ``base.py``: networks with an Adam each, which learn from batches; an iteration is :meth:`one_pass`.

    Its networks, and a :class:`ValueLearner`'s targets, are in ``state_dict``; what else a pass changes must be added to it.
    """

    policy_sharpness = 1.0  # see Policy; raised by algorithms that act greedily on values

    def __init__(self, setup: Setup, config: LearnerConfig):
        self.data: Transitions = setup.data
        self.streams = Streams(setup.seed, ["initial", "batches", "noise"], setup.device)
        self._config, self._device = config, setup.device
        self._iterations, self._done = setup.iterations, 0
        self._networks: dict[str, StackedNetworks] = {}
        self._optimizers: dict[str, RowOptimizers] = {}

    def network(self, name: str, count: int, inputs: int, outputs: int) -> StackedMLP:
        """``count`` new networks with the configured hidden layers and an Adam each."""
        return self._add(name, StackedMLP(count, [inputs, *self._config.hidden, outputs], self.streams["initial"], self._device))

    def policy_network(self) -> StackedNetworks:
        """The networks ``policy``: from every agent's observations to a number an action."""
        return self.local_network("policy", self.data.n_actions)

    def local_network(self, name: str, outputs: int) -> StackedNetworks:
        """New networks of every agent's observations, with memory if so configured."""
        sizes = [self.data.observation_size, *self._config.hidden, outputs]
        return self._add(name, stacked(self.data.n_agents, sizes, self._config.memory, self.streams["initial"], self._device))

    def _add(self, name: str, network: N) -> N:
        self._networks[name], self._optimizers[name] = network, RowOptimizers(network, self._config.learning_rate)
        return network

    def iterate(self) -> dict[str, float]:
        for optimizer in self._optimizers.values():
            optimizer.learning_rate = scheduled_rate(self._config, self._done, self._iterations)
        metrics = self.one_pass()
        self._done += 1
        return metrics

    @abstractmethod
    def one_pass(self) -> dict[str, float]:
        """The gradient steps of an iteration; means of what they log."""

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
    """A batch learner of values: discounted, of scaled rewards, with targets that follow slowly.

    Its pass is ``critic_steps`` calls of :meth:`step`, a gradient step each.
    """

    recordable = True  # see take_steps; not if a step draws at random, or if more than its batch can change what it does

    def __init__(self, setup: Setup, config: ValueConfig):
        super().__init__(setup, config)
        self._steps, self._target_rate = config.critic_steps, config.target_rate
        self._gamma, self._reward_scale = config.gamma, reward_scale_of(self.data, config.reward_scale)

    @abstractmethod
    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One gradient step; scalars to log."""

    def descend(self, *shared: str, **losses: Tensor) -> None:
        """A gradient step on the sum of the losses for each network that a loss is named after, and for the ``shared`` ones.

        ``shared`` are further networks that the losses' gradients flow into. They flow into no others.
        """
        total = reduce(operator.add, losses.values())
        RowOptimizers.step_together([self._optimizers[name] for name in (*shared, *losses)], total)

    def one_pass(self) -> dict[str, float]:
        names: list[str] = []

        def step(batch: Sequence[Tensor]) -> list[Tensor]:
            values = self.step(Batch(*batch))
            names[:] = values
            return [value.detach() for value in values.values()]

        logged = take_steps(step, self._draw().columns(), axis=0, recordable=self.recordable)
        return {name: values.mean().item() for name, values in zip(names, logged)}

    def _draw(self) -> Batch:
        """The batches of an iteration. They are gathered at once: indexing them one by one takes as long as training small networks."""
        data = self.data
        drawn = data.draw((self._steps, self._config.batch_size), self.streams["batches"])
        rows = data.rows(drawn)
        return Batch(
            transitions=drawn,
            rows=rows,
            observations=data.inputs(rows, self._config.memory).transpose(0, 1),
            next_observations=data.inputs(rows + 1, self._config.memory).transpose(0, 1),
            states=data.states(rows),
            next_states=data.states(rows + 1),
            available=data.available(rows).transpose(0, 1),
            next_available=data.available(rows + 1).transpose(0, 1),
            actions=data.actions(drawn).transpose(0, 1).unsqueeze(-1),
            rewards=data.rewards(drawn) / self._reward_scale,
            discounts=self._gamma * data.continues(drawn),
        )

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
    largest = max(abs(data.lowest_reward), abs(data.highest_reward))
    return largest if rule == "max_abs" and largest > 0 else 1.0


def effective_sample_share(weights: Tensor) -> Tensor:
    """(sum w)^2 / (B sum w^2) over the last dimension, (..., B) -> (...): 1 if all weights are the same."""
    return weights.mean(-1).square() / weights.square().mean(-1).clamp(min=1e-30)
