"""What algorithms are told of the data, and what the resident implementation takes for it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.large_data import random_blocks, write
from inspo_core.algorithms.networks import Standardizer
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.datasets import EpisodeDataset
from inspo_core.datasets.build import SETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def dataset() -> EpisodeDataset:
    """Five agents, masks, states, several episodes of which some are truncated."""
    (made,) = random_blocks(300, 7)
    last = made.terminations | made.truncations
    cut_off = last & (np.arange(300) > 150)
    return replace(made, terminations=last & ~cut_off, truncations=cut_off)


def standardised(values: np.ndarray) -> np.ndarray:
    """Over the first axis, in double precision."""
    values = values.astype(np.float64)
    return (values - values.mean(0)) / values.std(0)


@pytest.mark.parametrize("shape", [(64,), (4, 16), (2, 3, 5)])
def test_answers_are_those_of_the_dataset_for_any_axes(dataset, shape):
    data = ResidentTransitions(dataset, "cpu")
    drawn = data.draw(shape, torch.Generator().manual_seed(0))
    rows, numbers = data.rows(drawn), drawn.numpy()
    assert drawn.shape == shape and np.array_equal(rows, dataset.rows[numbers])
    for at in (rows, rows + 1):
        here = at.numpy()
        seen = np.moveaxis(standardised(dataset.observations)[here], -2, 0)
        assert data.observations(at).numpy() == pytest.approx(seen, abs=1e-5)
        assert data.states(at).numpy() == pytest.approx(standardised(dataset.states)[here], abs=1e-5)
        assert np.array_equal(data.available(at), np.moveaxis(dataset.available_actions[here], -2, 0))
        assert np.array_equal(data.available_to(2, at), dataset.available_actions[here, 2])
        agents = np.arange(here.size).reshape(shape) % 5
        assert np.array_equal(data.available_to(torch.from_numpy(agents), at), dataset.available_actions[here, agents])
    assert np.array_equal(data.actions(drawn), np.moveaxis(dataset.actions[numbers], -1, 0))
    assert np.array_equal(data.rewards(drawn), dataset.rewards[numbers])
    assert np.array_equal(data.continues(drawn), 1.0 - dataset.terminations[numbers])
    begins = dataset.episode_offsets[:-1] + np.arange(dataset.n_episodes)
    assert np.array_equal(data.ages(rows), rows.numpy() - begins[np.searchsorted(begins, rows.numpy(), side="right") - 1])
    assert [tensor.dtype for tensor in (rows, data.actions(drawn), data.ages(rows))] == [torch.int64] * 3
    answers = (data.observations(rows), data.states(rows), data.available(rows), data.actions(drawn))
    assert all(answer.is_contiguous() for answer in answers)  # sums over them then add in an order that no implementation changes


def test_sizes(dataset):
    data = ResidentTransitions(dataset, "cpu")
    assert (len(data), data.n_rows, data.n_agents, data.n_actions) == (300, 300 + dataset.n_episodes, 5, 11)
    assert (data.observation_size, data.state_size, data.n_terminations) == (80, 7, dataset.terminations.sum())
    assert (data.lowest_reward, data.highest_reward) == (dataset.rewards.min(), dataset.rewards.max())
    assert (data.ages(data.first_rows) == 0).all() and len(data.first_rows) == dataset.n_episodes
    assert data.absorbed_share(0.9) == pytest.approx(10 * data.n_terminations / (300 + 10 * data.n_terminations))


def test_data_without_states_show_all_observations_and_without_masks_allow_everything(dataset):
    data = ResidentTransitions(replace(dataset, states=None, available_actions=None), "cpu")
    rows = data.draw((4, 8), torch.Generator().manual_seed(0))
    assert data.state_size == 400
    assert torch.equal(data.states(rows), torch.cat(list(data.observations(rows)), -1))
    assert data.available(rows).shape == (5, 4, 8, 11) and data.available(rows).all()
    assert data.available_to(0, rows).shape == (4, 8, 11) and data.available_to(rows % 5, rows).all()


def test_draws_are_uniform_and_distinct_ones_distinct(dataset):
    data, generator = ResidentTransitions(dataset, "cpu"), torch.Generator().manual_seed(0)
    counts = torch.bincount(data.draw((300_000,), generator), minlength=300)
    assert counts.min() > 850 and counts.max() < 1150
    assert data.draw_distinct(100, generator).unique().shape == (100,)
    assert data.draw_distinct(8192, generator).sort().values.tolist() == list(range(300))


@pytest.mark.parametrize("name", ["xor_c", "bridge_mixed", "bridge_partial_mixed"])
def test_statistics_have_the_bits_of_pytorchs(name):
    dataset = SETS[name]()
    for values in (torch.from_numpy(dataset.observations).transpose(0, 1), torch.from_numpy(dataset.states)):
        fitted = Standardizer.fit(values)
        deviation = values.std(-2, keepdim=True, correction=0)
        assert torch.equal(fitted.scale, torch.where(fitted.scale == 1, fitted.scale, deviation))
        in_place = values.clone()
        fitted.standardize_(in_place)
        assert torch.equal(in_place, fitted(values))


def test_a_large_mean_costs_no_precision():
    values = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1e-2, 1.0, 1e3]) + 1e3
    found = Standardizer.fit(values).scale[0].double().numpy()
    assert found == pytest.approx(values.double().numpy().std(0), rel=1e-6)


@pytest.mark.parametrize("state", [120, 0])
def test_memory_is_that_of_the_arrays_in_the_types_of_the_contract(tmp_path, state):
    """In a process of its own, up to a hundred batches; what does not grow with the data is a tenth of so small a set."""
    write(tmp_path / "data", 40_000, state)
    command = [sys.executable, "-m", "benchmarks.large_data", "--job", "resident", "--data", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    took = json.loads(done.stdout)
    assert took["needed"] > 65e6 and 0.9 < took["ratio"] < 1.3
