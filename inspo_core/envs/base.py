"""The contract of a cooperative game: one vectorised environment that plays E episodes side by side."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from inspo_core.envs.spec import EnvSpec
from inspo_core.errors import InspoError


@dataclass(frozen=True)
class Observation:
    """What is seen before a decision, for E episodes and N agents."""

    observations: np.ndarray  # (E, N, O) float32
    states: np.ndarray  # (E, S) float32
    available_actions: np.ndarray  # (E, N, A) bool


@dataclass(frozen=True)
class Step:
    """What a step brings; ``success`` says whether the episode was won and means something once it is done."""

    observation: Observation
    rewards: np.ndarray  # (E,) float64, the team's reward
    terminated: np.ndarray  # (E,) bool, the game is over
    truncated: np.ndarray  # (E,) bool, the time limit cut the episode off
    success: np.ndarray  # (E,) bool


class Env(ABC):
    """E episodes of one game, stepped together.

    An episode that is done is frozen: whatever is played in it, its observation and flags stay and its reward is 0.
    A game implements ``_begin``, ``_advance`` and ``_observe``; seeds, action checks, freezing and the time limit are here.
    """

    def __init__(self, spec: EnvSpec):
        self.spec = spec
        self.elapsed = 0  # steps played, the one under way included
        self._terminated = self._truncated = self._success = np.zeros(0, dtype=bool)

    def reset(self, seeds: np.ndarray) -> Observation:
        """Start one episode a seed. ``seeds`` is (E,) integers; the same seeds give the same episodes."""
        seeds = np.asarray(seeds)
        if seeds.ndim != 1 or len(seeds) == 0 or not np.issubdtype(seeds.dtype, np.integer):
            raise InspoError(f"{self.spec.name}: reset needs a row of integer seeds, found {seeds.dtype} of shape {seeds.shape}")
        self.elapsed = 0
        self._terminated = np.zeros(len(seeds), dtype=bool)
        self._truncated = np.zeros(len(seeds), dtype=bool)
        self._success = np.zeros(len(seeds), dtype=bool)
        self._begin(seeds)
        self._seen = self._observe()
        return self._seen

    def step(self, actions: np.ndarray) -> Step:
        """Play one joint action an episode.

        ``actions`` is (E, N) integers. Raises InspoError for another shape and for an action that is out of range or not available.
        """
        actions = self._checked(np.asarray(actions))
        running = ~(self._terminated | self._truncated)
        self.elapsed += 1
        rewards, terminated, success = self._advance(actions, running)
        self._terminated = self._terminated | (running & terminated)
        self._truncated = self._truncated | (running & ~terminated & (self.elapsed >= self.spec.time_limit))
        self._success = self._success | (running & success)
        self._seen = self._observe()
        return Step(self._seen, np.where(running, rewards, 0.0), self._terminated, self._truncated, self._success)

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        spec = self.spec
        if not len(self._terminated):
            raise InspoError(f"{spec.name}: step was called before reset")
        expected = (len(self._terminated), spec.n_agents)
        if actions.shape != expected or not np.issubdtype(actions.dtype, np.integer):
            raise InspoError(f"{spec.name}: step needs integer actions of shape {expected}, found {actions.dtype} of shape {actions.shape}")
        inside = (actions >= 0) & (actions < spec.n_actions)
        available = self._seen.available_actions
        legal = inside & np.take_along_axis(available, np.where(inside, actions, 0)[:, :, None], axis=2)[:, :, 0]
        if not legal.all():
            episode, agent = np.argwhere(~legal)[0]
            choices = np.flatnonzero(available[episode, agent]).tolist()
            raise InspoError(
                f"{spec.name}: agent {agent} of episode {episode} played action {actions[episode, agent]}, available are {choices}"
            )
        return actions

    def close(self) -> None:  # noqa: B027  most games hold nothing
        """End what the game holds outside of this process, such as a simulator. It is not played after that."""

    @abstractmethod
    def _begin(self, seeds: np.ndarray) -> None:
        """Put every episode at its start."""

    @abstractmethod
    def _advance(self, actions: np.ndarray, running: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play legal ``actions`` in the episodes that are ``running``, leave the others as they are.

        Returns rewards (E,) float64, terminated (E,) bool, success (E,) bool; what they say of frozen episodes is ignored.
        """

    @abstractmethod
    def _observe(self) -> Observation:
        """What is seen now."""
