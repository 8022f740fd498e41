"""Playing a game and keeping what happens as a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from inspo_core.datasets.episodes import PER_ROW, PER_TRANSITION, EpisodeDataset
from inspo_core.envs.base import Env, Observation
from inspo_core.envs.play import play


def record(
    name: str, env: Env, choose: Callable[[Observation], np.ndarray], episodes: int, provenance: Mapping[str, Any]
) -> EpisodeDataset:
    """Play ``episodes`` episodes to their ends; ``choose`` maps an observation to joint actions (E, N).

    A mask that allows everything is left out.
    """
    played = list(play(env, choose, np.arange(episodes)))
    seen = [played[0].observation, *(one.step.observation for one in played)]
    actions, rewards = [one.actions for one in played], [one.step.rewards for one in played]
    terminated, truncated = [one.step.terminated for one in played], [one.step.truncated for one in played]
    lengths = np.stack([one.running for one in played]).sum(axis=0, dtype=np.int64)  # (E,)
    times = np.arange(len(seen))
    rows, transitions = times <= lengths[:, None], times[:-1] < lengths[:, None]  # (E, steps + 1), (E, steps)
    masks = _flat([observation.available_actions for observation in seen], rows)
    return EpisodeDataset(
        name=name,
        env=env.spec.name,
        n_actions=env.spec.n_actions,
        observations=_flat([observation.observations for observation in seen], rows),
        states=_flat([observation.states for observation in seen], rows),
        available_actions=None if masks.all() else masks,
        actions=_flat(actions, transitions).astype(np.int64),
        rewards=_flat(rewards, transitions).astype(np.float32),
        terminations=_flat(terminated, transitions),
        truncations=_flat(truncated, transitions),
        behavior_log_probs=None,
        episode_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        provenance=provenance,
    )


def concatenate(name: str, parts: list[EpisodeDataset], provenance: Mapping[str, Any]) -> EpisodeDataset:
    """The episodes of all ``parts``, in order. The parts share a game and the fields that they have."""
    arrays: dict[str, Any] = {
        field: None if getattr(parts[0], field) is None else np.concatenate([getattr(part, field) for part in parts])
        for field in PER_ROW + PER_TRANSITION
    }
    lengths = np.concatenate([part.episode_lengths() for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return replace(parts[0], name=name, episode_offsets=offsets, provenance=provenance, **arrays)


def _flat(steps: list[np.ndarray], keep: np.ndarray) -> np.ndarray:
    return np.stack(steps, axis=1)[keep]  # (E, steps, ...) -> episode by episode, kept steps only
