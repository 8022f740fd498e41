"""Episodes of a cooperative game in memory, or as views of files.

Letters: E episodes, T transitions, R = T + E rows (every episode keeps the observation after its last transition), N agents, A actions,
O observation size, S state size.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

BLOCK = 4096  # transitions that are looked at together where all of a dataset are looked at

PER_ROW = ("observations", "states", "available_actions")  # fields with a value a row; the others have one a transition
PER_TRANSITION = ("actions", "rewards", "terminations", "truncations", "behavior_log_probs")


@dataclass(frozen=True)
class EpisodeDataset:
    """Episodes of a cooperative game, one after the other: a dataset or a block of one. Arrays may be read-only views of files."""

    name: str
    env: str  # the game's name in inspo_core.envs
    n_actions: int
    observations: np.ndarray  # (R, N, O) float32
    states: np.ndarray | None  # (R, S) float32
    available_actions: np.ndarray | None  # (R, N, A) bool; None: everything is available
    actions: np.ndarray  # (T, N) integers of any width
    rewards: np.ndarray  # (T,) float32, the team's
    terminations: np.ndarray  # (T,) bool, the game ended here
    truncations: np.ndarray  # (T,) bool, a time limit cut the episode off here
    behavior_log_probs: np.ndarray | None  # (T, N) float32, natural logarithm
    episode_offsets: np.ndarray  # (E + 1,) int64, first transition of every episode, then T
    provenance: Mapping[str, Any] = field(default_factory=dict)  # JSON: where the data comes from

    @property
    def n_agents(self) -> int:
        return self.actions.shape[1]

    @property
    def n_transitions(self) -> int:
        return len(self.actions)

    @property
    def n_episodes(self) -> int:
        return len(self.episode_offsets) - 1

    @cached_property
    def rows(self) -> np.ndarray:
        """(T,) int64: the row of each transition's observation, state and mask; ``rows + 1`` are those after it."""
        episodes = np.repeat(np.arange(self.n_episodes), self.episode_lengths())
        return np.arange(self.n_transitions) + episodes

    def episode_lengths(self) -> np.ndarray:
        """(E,) int64: transitions of each episode."""
        return np.diff(self.episode_offsets)

    def episode_returns(self) -> np.ndarray:
        """(E,) float64: undiscounted sum of each episode's rewards."""
        parts = [np.add.reduceat(block.rewards.astype(np.float64), block.episode_offsets[:-1]) for block in self.blocks()]
        return np.concatenate(parts)

    def episodes(self, start: int, stop: int) -> "EpisodeDataset":
        """The episodes ``start`` to ``stop`` - 1, as views."""
        first, last = self.episode_offsets[start], self.episode_offsets[stop]
        cuts = dict.fromkeys(PER_TRANSITION, slice(first, last)) | dict.fromkeys(PER_ROW, slice(first + start, last + stop))
        arrays: dict[str, Any] = {name: None if (values := getattr(self, name)) is None else values[cut] for name, cut in cuts.items()}
        return replace(self, episode_offsets=self.episode_offsets[start : stop + 1] - first, **arrays)

    def blocks(self) -> Iterator["EpisodeDataset"]:
        """All episodes in order, as views of up to :data:`BLOCK` transitions or of one longer episode."""
        start = 0
        while start < self.n_episodes:
            stop = int(np.searchsorted(self.episode_offsets, self.episode_offsets[start] + BLOCK, side="right")) - 1
            yield self.episodes(start, stop := max(stop, start + 1))
            start = stop

    @cached_property
    def distinct_episodes(self) -> np.ndarray:
        """(E,) int64: for each episode the first episode that equals it exactly in all fields but the behavior log-probabilities.

        Observations, states and masks are read of those episodes alone that are alike in all else.
        """
        ends = list(pairwise(self.episode_offsets.tolist()))
        played = [self._digest(PER_TRANSITION[:-1], start, stop) for start, stop in ends]
        times, first = Counter(played), dict[bytes, int]()
        for episode, (start, stop) in enumerate(ends):
            if times[played[episode]] > 1:
                played[episode] += self._digest(PER_ROW, start + episode, stop + episode + 1)
        return np.array([first.setdefault(digest, episode) for episode, digest in enumerate(played)], dtype=np.int64)

    def _digest(self, names: tuple[str, ...], start: int, stop: int) -> bytes:
        digest = hashlib.sha256()
        for name in names:
            if (values := getattr(self, name)) is not None:
                digest.update(values[start:stop].tobytes())
        return digest.digest()
