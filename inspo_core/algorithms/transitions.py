"""Offline data as tensors, resident on the training device.

Shapes: N agents, R rows (time steps with every episode's last observation), T transitions, A actions, O observation, S state.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspo_core.algorithms.networks import Standardizer
from inspo_core.datasets import EpisodeDataset


@dataclass(frozen=True)
class Transitions:
    """Transition t goes from row ``rows[t]`` to row ``rows[t] + 1``; features are standardised."""

    observations: Tensor  # (N, R, O)
    states: Tensor  # (R, S): the global state, or all observations side by side where the data has none
    available: Tensor  # (N, R, A) bool
    actions: Tensor  # (N, T) int64
    rewards: Tensor  # (T,)
    continues: Tensor  # (T,) 0 where the episode terminated; a truncated one goes on and is bootstrapped
    rows: Tensor  # (T,) int64
    ages: Tensor  # (R,) int64, steps since the beginning of the episode
    observation_standardizer: Standardizer

    @classmethod
    def from_dataset(cls, dataset: EpisodeDataset, device: str) -> "Transitions":
        def tensor(array: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(np.array(array), dtype=dtype, device=device)

        observations = tensor(dataset.observations).transpose(0, 1)  # (N, R, O)
        n_agents, n_rows, _ = observations.shape
        states = tensor(dataset.states) if dataset.states is not None else observations.transpose(0, 1).flatten(1)
        if dataset.available_actions is None:
            available = torch.ones(n_agents, n_rows, dataset.n_actions, dtype=torch.bool, device=device)
        else:
            available = tensor(dataset.available_actions, torch.bool).transpose(0, 1).contiguous()
        standardizer = Standardizer.fit(observations)
        return cls(
            observations=standardizer(observations).contiguous(),
            states=Standardizer.fit(states)(states),
            available=available,
            actions=tensor(dataset.actions, torch.int64).T.contiguous(),
            rewards=tensor(dataset.rewards),
            continues=1 - tensor(dataset.terminations),
            rows=tensor(dataset.rows, torch.int64),
            ages=tensor(np.concatenate([np.arange(length + 1) for length in dataset.episode_lengths()]), torch.int64),
            observation_standardizer=standardizer,
        )

    def inputs(self, rows: Tensor, memory: int) -> Tensor:
        """What policy networks with ``memory`` take at ``rows`` (...): (N, ..., O), or the last L = ``memory`` steps of the episode.

        Those are (N, ..., L, O + 1), oldest first; the last feature is 1, or 0 with all others before the episode's beginning.
        """
        if memory == 0:
            return self.observations[:, rows]
        ago = torch.arange(memory - 1, -1, -1, device=rows.device)
        present = (ago <= self.ages[rows].unsqueeze(-1)).unsqueeze(-1)  # (..., L, 1)
        seen = self.observations[:, (rows.unsqueeze(-1) - ago).clamp(min=0)] * present
        return torch.cat([seen, present.to(seen).expand(*seen.shape[:-1], 1)], -1)

    @property
    def n_agents(self) -> int:
        return self.observations.shape[0]

    @property
    def n_actions(self) -> int:
        return self.available.shape[2]

    def absorbed_share(self, gamma: float) -> float:
        """The share of absorbed steps if every terminated episode went on for 1 / (1 - gamma) of them."""
        after = (self.continues == 0).sum().item() / (1 - gamma)
        return after / (len(self) + after)

    def __len__(self) -> int:
        return len(self.rows)
