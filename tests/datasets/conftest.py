"""A small dataset with every optional field, three episodes of unlike ends."""

import numpy as np
import pytest

from inspo_core.datasets import EpisodeDataset


@pytest.fixture
def dataset() -> EpisodeDataset:
    rng = np.random.default_rng(0)
    lengths = np.array([2, 1, 4])
    transitions, rows = lengths.sum(), lengths.sum() + 3
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    actions = rng.integers(0, 3, (transitions, 2))
    masks = rng.random((rows, 2, 3)) < 0.5
    masks[np.arange(transitions)[:, None] + np.repeat([0, 1, 2], lengths)[:, None], [0, 1], actions] = True
    return EpisodeDataset(
        name="small",
        env="bridge",
        n_actions=3,
        observations=rng.random((rows, 2, 4), dtype=np.float32),
        states=rng.random((rows, 5), dtype=np.float32),
        available_actions=masks,
        actions=actions,
        rewards=np.arange(1, transitions + 1, dtype=np.float32),
        terminations=np.array([0, 1, 0, 0, 0, 0, 1], dtype=bool),
        truncations=np.array([0, 0, 1, 0, 0, 0, 0], dtype=bool),
        behavior_log_probs=-rng.random((transitions, 2), dtype=np.float32),
        episode_offsets=offsets,
        provenance={"source": "a test"},
    )
