"""Every breach of the format, each with the words that name it."""

from dataclasses import replace

import numpy as np
import pytest

from inspo_core.datasets import validate
from inspo_core.datasets.validation import Position
from inspo_core.errors import InspoError


def put(dataset, field: str, index, value) -> dict:
    values = getattr(dataset, field).copy()
    values[index] = value
    return {field: values}


def forbid_action(dataset) -> dict:
    return put(dataset, "available_actions", (dataset.rows[4], 1, dataset.actions[4, 1]), False)


BREACHES = {
    "NaN reward": (lambda d: put(d, "rewards", 3, np.nan), "rewards[3] is nan, expected a finite number"),
    "infinite observation": (lambda d: put(d, "observations", (4, 1, 2), np.inf), "observations[4, 1, 2] is inf, expected a finite"),
    "NaN state": (lambda d: put(d, "states", (9, 0), np.nan), "states[9, 0] is nan"),
    "action too large": (lambda d: put(d, "actions", (5, 0), 3), "actions[5, 0] is 3, expected 0 to 2"),
    "negative action": (lambda d: put(d, "actions", (5, 0), -1), "actions[5, 0] is -1, expected 0 to 2"),
    "action outside the mask": (forbid_action, "expected an action that available_actions allows there"),
    "offsets out of order": (lambda d: put(d, "episode_offsets", 1, 5), "episode_offsets[2] is 3, expected more than the offset before it"),
    "an empty episode": (lambda d: put(d, "episode_offsets", 1, 0), "episode_offsets[1] is 0, expected more than"),
    "first offset": (lambda d: put(d, "episode_offsets", 0, 1), "episode_offsets[0] is 1, expected 0"),
    "last offset": (lambda d: put(d, "episode_offsets", -1, 8), "the last of episode_offsets is 8, expected the number of actions, 7"),
    "no episode": (lambda d: {"episode_offsets": np.zeros(1, dtype=np.int64)}, "episode_offsets have shape (1,)"),
    "missing last row": (lambda d: {"observations": d.observations[:-1]}, "observations have shape (9, 2, 4), expected (10, 2, size)"),
    "another number of agents": (lambda d: {"observations": d.observations[:, :1]}, "expected (10, 2, size)"),
    "no observation": (lambda d: {"observations": d.observations[..., :0]}, "observations have shape (10, 2, 0)"),
    "states one short": (lambda d: {"states": d.states[:-1]}, "states have shape (9, 5), expected (10, size)"),
    "mask of another game": (lambda d: {"available_actions": d.available_actions[..., :2]}, "expected (10, 2, 3)"),
    "rewards of each agent": (lambda d: {"rewards": np.zeros((7, 2), dtype=np.float32)}, "rewards have shape (7, 2), expected (7,)"),
    "rewards one short": (lambda d: {"rewards": d.rewards[:-1]}, "rewards have shape (6,), expected (7,)"),
    "flat actions": (lambda d: {"actions": d.actions[:, 0]}, "actions have shape (7,), expected (transitions, agents)"),
    "log-probability above 0": (lambda d: put(d, "behavior_log_probs", (2, 1), 0.5), "behavior_log_probs[2, 1] is 0.5, expected at most 0"),
    "both ends at once": (lambda d: put(d, "truncations", 1, True), "truncations[1] is True, expected False where terminations is True"),
    "termination in mid-episode": (lambda d: put(d, "terminations", 4, True), "terminations[4] is True, expected False before the last"),
    "truncation in mid-episode": (lambda d: put(d, "truncations", 0, True), "truncations[0] is True, expected False before the last"),
    "an episode without an end": (lambda d: put(d, "truncations", 2, False), "terminations[2] is False, expected True, or True in"),
    "double precision": (lambda d: {"rewards": d.rewards.astype(np.float64)}, "rewards are float64, expected float32"),
    "actions that are no whole numbers": (lambda d: {"actions": d.actions.astype(np.float32)}, "actions are float32, expected integers"),
    "no game": (lambda d: {"env": ""}, "env is ''"),
    "no actions": (lambda d: {"n_actions": 0}, "n_actions is 0, expected 1 to 32768"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_is_one_sentence_that_names_it(dataset, breach):
    change, words = BREACHES[breach]
    with pytest.raises(InspoError) as caught:
        validate(replace(dataset, **change(dataset)), "data/small")
    message = str(caught.value)
    assert words in message and message.startswith("data/small: ") and "\n" not in message


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64])
def test_a_sound_dataset_passes_with_actions_of_any_width(dataset, kind):
    validate(replace(dataset, actions=dataset.actions.astype(kind)), "data/small")


OF_VALUES = [name for name, (change, words) in BREACHES.items() if "shape" not in words and "offset" not in words and "[" in words]


@pytest.mark.parametrize("breach", OF_VALUES)
def test_a_breach_in_a_block_is_named_as_in_the_whole_dataset(dataset, breach):
    change, words = BREACHES[breach]
    broken, position = replace(dataset, **change(dataset)), Position()
    with pytest.raises(InspoError) as caught:
        for episode in range(dataset.n_episodes):
            block = broken.episodes(episode, episode + 1)
            validate(block, "data/small", position)
            position = position.after(block)
    assert words in str(caught.value)


def test_offsets_of_a_block_are_named_as_in_the_whole_dataset(dataset):
    block = dataset.episodes(2, 3)
    with pytest.raises(InspoError, match=r"the last of episode_offsets is 8, expected the number of actions, 7"):
        validate(replace(block, episode_offsets=block.episode_offsets + [0, 1]), "data/small", Position(3, 2))
    with pytest.raises(InspoError, match=r"episode_offsets\[3\] is 3, expected more than the offset before it"):
        validate(replace(block, episode_offsets=block.episode_offsets * 0), "data/small", Position(3, 2))
