"""What the card says of scales that spoil learning; and that it says nothing of ordinary data."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inspo_core.algorithms.networks import Standardizer
from inspo_core.datasets import EpisodeDataset
from inspo_core.datasets.build import SETS
from inspo_core.datasets.card import describe, write_card
from inspo_core.datasets.scales import scale_remarks

EPISODES, STEPS = 500, 10
SMALLEST, CLOCK = float(np.finfo(np.float32).min), 1.7643e9


@pytest.fixture(scope="module")
def ordinary() -> EpisodeDataset:
    """Two agents with three features, a state of four; features in many units, some constant, flags that are seldom set, masses at 0."""
    rng = np.random.default_rng(0)
    rows = EPISODES * (STEPS + 1)
    observations = rng.normal(size=(rows, 2, 3)).astype(np.float32) * np.float32([1e-6, 1, 1e6]) + np.float32([0, 7, -1e6])
    states = np.zeros((rows, 4), dtype=np.float32)
    states[:, 0], states[:, 1] = CLOCK, rng.exponential(size=rows)
    states[100, 2] = 1
    states[:, 3] = np.where(rng.random(rows) < 0.01, rng.exponential(50, rows), 0)
    last = np.arange(1, EPISODES * STEPS + 1) % STEPS == 0
    rewards = np.where(last, rng.choice([0, 20], len(last), p=[0.9, 0.1]), -0.01).astype(np.float32)
    return EpisodeDataset(
        "d", "xor", 2, observations, states, None, rng.integers(0, 2, (len(last), 2)), rewards, last, ~last & False, None,
        np.arange(0, len(last) + 1, STEPS),
    )  # fmt: skip


def put(dataset: EpisodeDataset, name: str, index: tuple, value: object) -> EpisodeDataset:
    values = getattr(dataset, name).copy()
    values[index] = value
    return replace(dataset, **{name: values})


def test_nothing_is_said_of_ordinary_data(ordinary):
    assert scale_remarks(ordinary) == scale_remarks(replace(ordinary, states=None)) == []


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_said_of_the_sample_sets(name):
    assert scale_remarks(SETS[name]()) == []


def test_one_reward_that_decides_the_scale_is_named_with_episode_and_step(ordinary):
    (remark,) = scale_remarks(put(ordinary, "rewards", (1234,), -7.6e37))
    assert remark == (
        "rewards: one is -7.6e+37 in episode 123, step 4, 3.8e+36 times the largest of the others; "
        "divided by it, as reward_scale: max_abs does, those are about 0"
    )
    (remark,) = scale_remarks(put(ordinary, "rewards", (slice(1230, 1234),), [1e9, -1e9, 3e9, 1e9]))
    assert remark.startswith("rewards: one is 3e+09 in episode 123, step 2, 1.5e+08 times the largest of the others (3 more are like it)")


@pytest.mark.parametrize("value", [SMALLEST, 1e9, -1e30])
def test_one_value_of_a_feature_that_decides_its_scale_is_named_with_episode_and_step(ordinary, value):
    (remark,) = scale_remarks(put(ordinary, "observations", (37, 1, 1), value))
    assert remark.startswith(f"observations: feature 1 of agent 1 is {value:.6g} in episode 3, step 4, ")
    (remark,) = scale_remarks(put(ordinary, "states", (0, 1), value))
    assert remark.startswith(f"states: feature 1 is {value:.6g} in episode 0, step 0, ")


def test_a_clock_that_misses_once_is_named(ordinary):
    clock = (CLOCK + 128 * np.arange(len(ordinary.states))).astype(np.float32)
    assert scale_remarks(put(ordinary, "states", (..., 0), clock)) == []
    clock[5000] = SMALLEST
    (remark,) = scale_remarks(put(ordinary, "states", (..., 0), clock))
    assert remark.startswith(f"states: feature 0 is {SMALLEST:.6g} in episode 454, step 6, ")


def drifting(rows: int) -> np.ndarray:
    return CLOCK + 128.0 * (np.arange(rows) % 5)


CONSTANT, MERGED = "it is learned as a constant", "most of its values become equal when it is standardised"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (drifting, f"is beyond float32 (mean 1.7643e+09, standard deviation 181): {CONSTANT}"),
        (lambda rows: np.arange(rows) * 1e-20, CONSTANT),
        (lambda rows: np.where(np.arange(rows) % 3 == 0, SMALLEST, np.arange(rows)), MERGED),
        (lambda rows: np.where(np.arange(rows) % 3 > 0, 1e20, np.arange(rows)), MERGED),
    ],
)
def test_features_that_float32_cannot_tell_apart_once_standardised_are_named(ordinary, values, words):
    (remark,) = scale_remarks(put(ordinary, "states", (..., 1), values(len(ordinary.states))))
    assert remark.startswith("states: feature 1 is beyond float32 (mean ") and remark.endswith(words)
    spoilt = put(ordinary, "observations", (..., slice(0, 2)), values(len(ordinary.states))[:, None, None])
    (remark,) = scale_remarks(spoilt)
    assert remark.startswith("observations: feature 0 of agent 0 is beyond float32 (mean ")
    assert remark.endswith(words + "; alike: feature 1 of agent 0, feature 0 of agent 1, feature 1 of agent 1")


def test_many_features_are_counted(ordinary):
    wide = np.repeat(drifting(len(ordinary.states)).astype(np.float32)[:, None], 40, axis=1)
    (remark,) = scale_remarks(replace(ordinary, states=wide))
    assert remark.endswith("; alike: feature 1, feature 2, feature 3, feature 4, feature 5, feature 6, feature 7, feature 8, feature 9, "
                           "feature 10 and 29 more")  # fmt: skip


def test_what_is_said_to_be_learned_as_a_constant_is_what_standardising_makes_one():
    """Drifts of many sizes: either there is a remark or the feature varies by 1."""
    rows, said = 2000, 0
    rng = np.random.default_rng(0)
    for exponent in range(0, 12):
        values = (CLOCK + 10.0**exponent * rng.random(rows)).astype(np.float32)[:, None]
        done = Standardizer.fit(torch.from_numpy(values))(torch.from_numpy(values))
        last = np.ones(rows // 2, dtype=bool)
        data = EpisodeDataset(
            "d", "xor", 2, np.ones((rows, 2, 1), dtype=np.float32), values, None, np.zeros((rows // 2, 2), dtype=int),
            np.ones(rows // 2, dtype=np.float32), last, ~last, None, np.arange(rows // 2 + 1),
        )  # fmt: skip
        constant = bool(scale_remarks(data))
        said += constant
        if np.ptp(values) > 0:
            assert float(done.std()) < 1e-5 if constant else float(done.std()) == pytest.approx(1, abs=0.01)
    assert 1 < said < 8


def test_the_card_shows_remarks(ordinary, tmp_path):
    spoilt = put(ordinary, "rewards", (1234,), -7.6e37)
    card = describe(spoilt, "0" * 64)
    assert card["remarks"] == scale_remarks(spoilt)
    write_card(card, tmp_path)
    assert f"**Look at this.** {card['remarks'][0]}.\n" in (tmp_path / "card.md").read_text()
    write_card(describe(ordinary, "0" * 64), tmp_path)
    assert "Look at this" not in (tmp_path / "card.md").read_text()
