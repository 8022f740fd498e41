"""Offline data as algorithms see them: a few calls, answered batch by batch. The data may lie wherever an implementation keeps them.

Shapes: N agents, R rows (time steps with every episode's last observation), T transitions, E episodes, A actions, O observation, S state;
"..." any axes of a batch.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from inspo_core.algorithms.networks import Standardizer
from inspo_core.datasets import EpisodeDataset


class Transitions(ABC):
    """Transition t goes from row ``rows(t)`` to row ``rows(t) + 1``; features are standardised.

    Calls take int64 tensors on ``device``, of rows or of numbers of transitions, and answer with tensors there.
    """

    device: torch.device
    n_agents: int
    n_actions: int
    n_rows: int
    observation_size: int
    state_size: int
    n_terminations: int
    lowest_reward: float
    highest_reward: float
    first_rows: Tensor  # (E,) int64, where the episodes begin
    observation_standardizer: Standardizer

    @abstractmethod
    def __len__(self) -> int:
        """T."""

    @abstractmethod
    def rows(self, transitions: Tensor) -> Tensor:
        """(...) int64: where the transitions begin."""

    @abstractmethod
    def actions(self, transitions: Tensor) -> Tensor:
        """(N, ...) int64."""

    @abstractmethod
    def rewards(self, transitions: Tensor) -> Tensor:
        """(...) float32."""

    @abstractmethod
    def continues(self, transitions: Tensor) -> Tensor:
        """(...) float32: 0 where the episode terminated; a truncated one goes on and is bootstrapped."""

    @abstractmethod
    def observations(self, rows: Tensor) -> Tensor:
        """(N, ..., O) float32."""

    @abstractmethod
    def states(self, rows: Tensor) -> Tensor:
        """(..., S) float32: the global state, or all observations side by side where the data have none."""

    @abstractmethod
    def available(self, rows: Tensor) -> Tensor:
        """(N, ..., A) bool."""

    @abstractmethod
    def available_to(self, agents: Tensor | int, rows: Tensor) -> Tensor:
        """(..., A) bool: what one agent may do, or at each of the rows the agent named for it."""

    @abstractmethod
    def ages(self, rows: Tensor) -> Tensor:
        """(...) int64: steps since the beginning of the episode."""

    def inputs(self, rows: Tensor, memory: int) -> Tensor:
        """What policy networks with ``memory`` take at ``rows``: (N, ..., O), or the last L = ``memory`` steps of the episode.

        Those are (N, ..., L, O + 1), oldest first; the last feature is 1, or 0 with all others before the episode's beginning.
        """
        if memory == 0:
            return self.observations(rows)
        ago = torch.arange(memory - 1, -1, -1, device=rows.device)
        present = (ago <= self.ages(rows).unsqueeze(-1)).unsqueeze(-1)  # (..., L, 1)
        seen = self.observations((rows.unsqueeze(-1) - ago).clamp(min=0)) * present
        return torch.cat([seen, present.to(seen).expand(*seen.shape[:-1], 1)], -1)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Numbers of transitions, uniform, with replacement: ``shape``."""
        return torch.randint(len(self), shape, generator=generator, device=self.device)

    def draw_distinct(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) different numbers of transitions, uniform; all T in random order if ``count`` is more."""
        return torch.randperm(len(self), generator=generator, device=self.device)[:count]

    def absorbed_share(self, gamma: float) -> float:
        """The share of absorbed steps if every terminated episode went on for 1 / (1 - gamma) of them."""
        after = self.n_terminations / (1 - gamma)
        return after / (len(self) + after)


class ResidentTransitions(Transitions):
    """Everything on the device, once: features and rewards in PyTorch's default type, float32; masks and flags in bool, actions in int16,
    numbers of rows and ages in int32.
    """

    def __init__(self, dataset: EpisodeDataset, device: str):
        def resident(array: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(np.array(array))
            return tensor.to(device, torch.get_default_dtype() if tensor.is_floating_point() else tensor.dtype)

        lengths = dataset.episode_lengths()
        begins = dataset.episode_offsets[:-1] + np.arange(dataset.n_episodes)
        self.device = torch.device(device)
        self.n_agents, self.n_actions = dataset.n_agents, dataset.n_actions
        self.n_rows, _, self.observation_size = dataset.observations.shape
        self.n_terminations = int(dataset.terminations.sum())
        self.lowest_reward, self.highest_reward = float(dataset.rewards.min()), float(dataset.rewards.max())
        self.first_rows = resident(begins)

        self._observations = resident(dataset.observations)  # (R, N, O)
        self.observation_standardizer = Standardizer.fit(self._observations.transpose(0, 1))
        self.observation_standardizer.standardize_(self._observations.transpose(0, 1))
        self._states = None if dataset.states is None else resident(dataset.states)  # (R, S)
        if self._states is None:
            self.state_size = self.n_agents * self.observation_size
        else:
            self.state_size = self._states.shape[1]
            Standardizer.fit(self._states).standardize_(self._states)
        masks = dataset.available_actions
        self._available = None if masks is None else resident(masks)  # (R, N, A)
        self._actions = resident(dataset.actions.astype(np.int16, copy=False))  # (T, N)
        self._rewards, self._terminations = resident(dataset.rewards), resident(dataset.terminations)  # (T,)
        self._rows = resident(dataset.rows.astype(np.int32))  # (T,)
        self._ages = resident(np.arange(self.n_rows, dtype=np.int32) - np.repeat(begins.astype(np.int32), lengths + 1))  # (R,)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, transitions: Tensor) -> Tensor:
        return _at(self._rows, transitions).long()

    def actions(self, transitions: Tensor) -> Tensor:
        return _at(self._actions, transitions).movedim(-1, 0).contiguous().long()

    def rewards(self, transitions: Tensor) -> Tensor:
        return _at(self._rewards, transitions)

    def continues(self, transitions: Tensor) -> Tensor:
        return 1 - _at(self._terminations, transitions).to(self._rewards)

    def observations(self, rows: Tensor) -> Tensor:
        return _at(self._observations, rows).movedim(-2, 0).contiguous()

    def states(self, rows: Tensor) -> Tensor:
        return _at(self._observations, rows).flatten(-2) if self._states is None else _at(self._states, rows)

    def available(self, rows: Tensor) -> Tensor:
        if self._available is None:
            return torch.ones(self.n_agents, *rows.shape, self.n_actions, dtype=torch.bool, device=self.device)
        return _at(self._available, rows).movedim(-2, 0).contiguous()

    def available_to(self, agents: Tensor | int, rows: Tensor) -> Tensor:
        if self._available is None:
            return torch.ones(*rows.shape, self.n_actions, dtype=torch.bool, device=self.device)
        return self._available[rows, agents]

    def ages(self, rows: Tensor) -> Tensor:
        return _at(self._ages, rows).long()


def _at(values: Tensor, places: Tensor) -> Tensor:
    """``values[places]``, some times faster: a place's values are copied as one piece."""
    return values.index_select(0, places.flatten()).view(*places.shape, *values.shape[1:])
