"""The estimated behavior policies against the data they come from."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from inspo_core.algorithms.behavior_estimation import SLACK, BehaviorEstimation, split_episodes
from inspo_core.algorithms.behavior_models import BehaviorModels, joint_log_likelihood, local_log_probs
from inspo_core.algorithms.seed_batching import fit_alone
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.datasets.build import SETS
from tests.algorithms.games import (
    arrays,
    behavior_config,
    conditional,
    empirical_joint,
    estimated,
    estimated_sample,
    everything,
    joint_table,
    ragged_data,
    random_models,
    sample_data,
)


@cache
def ragged() -> tuple[Transitions, BehaviorModels]:
    data = ResidentTransitions(ragged_data(), "cpu")
    return data, estimated(data, 1000, learning_rate=0.003, batch_size=1024)


def rows_of_contexts(data: Transitions) -> list[int]:
    """One row of each context: in context 1 agent 0 may not play 2."""
    whole = arrays(data)
    return [int(whole.rows[whole.available[0, whole.rows, 2] == allowed][0]) for allowed in (True, False)]


def test_joint_model_knows_that_xor_b_is_never_played_alike():
    data, models = estimated_sample("xor_b")
    for order in [(0, 1), (1, 0)]:
        table = joint_table(models.joint, data, 0, order)
        assert table[0, 0] + table[1, 1] < 0.01 and abs(table[0, 1] - 0.5) < 0.1


@pytest.mark.parametrize("context", [0, 1])
def test_chain_rule_gives_the_empirical_joint_whichever_order(context):
    data, models = ragged()
    row = rows_of_contexts(data)[context]
    expected = empirical_joint(data, row)
    product = np.einsum("i,j,k->ijk", *[expected.sum(tuple({0, 1, 2} - {agent})) for agent in range(3)])
    assert np.abs(product - expected).sum() > 0.5  # the actions are correlated, so the test can tell
    for order in itertools.permutations(range(3)):
        table = joint_table(models.joint, data, row, order)
        assert abs(table.sum() - 1) < 1e-5
        assert np.abs(table - expected).sum() < 0.25, order


@pytest.mark.parametrize("context", [0, 1])
def test_conditionals_given_any_subset(context):
    data, models = ragged()
    row = rows_of_contexts(data)[context]
    joint = empirical_joint(data, row)
    count = int((arrays(data).states[arrays(data).rows] == arrays(data).states[row]).all(1).sum())
    distances = []  # total variation
    for asked in range(3):
        others = [agent for agent in range(3) if agent != asked]
        for size in range(3):
            for known in itertools.combinations(others, size):
                marginal = joint.sum(tuple({0, 1, 2} - {asked, *known}), keepdims=True)
                for seen in itertools.product(range(3), repeat=size):
                    index: list = [slice(None)] * 3
                    actions = torch.zeros(3, 1, dtype=torch.int64)
                    for agent, action in zip(known, seen):
                        index[agent] = slice(action, action + 1)
                        actions[agent] = action
                    shares = marginal[tuple(index)].ravel()
                    if shares.sum() * count < 80:  # too few plays to learn from
                        continue
                    found = conditional(models.joint, data, row, actions, known, asked)[0].exp().numpy()
                    distances.append(np.abs(found - shares / shares.sum()).sum() / 2)
    assert len(distances) > 25
    assert np.mean(distances) < 0.06 and max(distances) < 0.2


def test_unknown_actions_are_not_read():
    data, models = ragged()
    one, two = (torch.tensor([[0], [1], [action]]) for action in (0, 2))
    assert torch.equal(*(conditional(models.joint, data, 0, actions, [1], 0) for actions in (one, two)))
    assert not torch.equal(*(conditional(models.joint, data, 0, actions, [1, 2], 0) for actions in (one, two)))


def test_local_clones_are_the_marginals():
    data, models = ragged()
    log_probs = local_log_probs(models.local, data)
    for row in rows_of_contexts(data):
        joint = empirical_joint(data, row)
        for agent in range(3):
            marginal = joint.sum(tuple({0, 1, 2} - {agent}))
            assert np.abs(log_probs[agent, row].exp().numpy() - marginal).max() < 0.04


@pytest.mark.parametrize("trained", [True, False])
def test_masks_are_respected(trained):
    data, models = ragged()
    if not trained:
        models = random_models(data)
    row = rows_of_contexts(data)[1]
    assert (local_log_probs(models.local, data).exp()[~arrays(data).available] == 0).all()
    table = joint_table(models.joint, data, row, (2, 0, 1))
    assert table[2].sum() == 0 and table[:, :, 2].sum() == 0 and abs(table.sum() - 1) < 1e-5
    assert data.n_rows > len(data)  # last rows of episodes are among those compared


def test_log_likelihood_is_the_chain_rule_on_the_data():
    data = ResidentTransitions(ragged_data(20), "cpu")
    models = random_models(data)
    every = torch.arange(len(data))
    whole = joint_log_likelihood(models.joint, data, every)
    for transition in range(0, len(data), 7):
        row, played = int(arrays(data).rows[transition]), tuple(arrays(data).actions[:, transition].tolist())
        assert np.isclose(whole[transition].item(), np.log(joint_table(models.joint, data, row, (0, 1, 2))[played]), atol=1e-4)
        for first in range(3):
            others = [agent for agent in range(3) if agent != first]
            table = joint_table(models.joint, data, row, [first, *others])
            expected = np.log(table[played] / table.sum(tuple(others))[played[first]])
            given = joint_log_likelihood(models.joint, data, every[transition : transition + 1], first)
            assert np.isclose(given.item(), expected, atol=1e-4)


@pytest.mark.parametrize(("name", "gain"), [("xor_b", np.log(2)), ("xor_d", 0.0)])
def test_held_out_likelihood_shows_whether_agents_are_correlated(name, gain):
    dataset = SETS[name]()
    data = ResidentTransitions(dataset, "cpu")
    config = behavior_config(hidden=[32, 32], learning_rate=0.005, batch_size=128)
    split = split_episodes(dataset, 0.2, 0, "cpu")
    estimation = BehaviorEstimation(data, split, config, 0, "cpu")
    curve = [estimation.iterate() for _ in range(4)]
    kept = estimation.finish()
    assert abs(kept["held_out/joint_gain"] - gain) < 0.04
    held_out = estimation.log_likelihoods(split.held_out)
    for name, values in held_out.items():
        seen = [metrics[f"held_out/log_likelihood_{name}"] for metrics in curve]
        error = float(values.std(correction=0)) / len(values) ** 0.5
        good = [value for value in seen if value >= max(seen) - 1.001 * max(error, SLACK)]
        assert kept[f"held_out/log_likelihood_{name}"] == pytest.approx(good[-1], abs=1e-3 + 0.1 * error)
        assert float(values.mean()) == pytest.approx(kept[f"held_out/log_likelihood_{name}"], abs=1e-6)
    assert kept["held_out/repeated_episodes"] == 1  # matrix games repeat themselves


def test_the_learning_rate_falls_linearly_to_0():
    data = ResidentTransitions(ragged_data(20), "cpu")
    config = behavior_config(hidden=[8], batch_size=16, steps=8, check_every=4, learning_rate=0.08)
    rates = []
    estimation = BehaviorEstimation(data, everything(data), config, 0, "cpu", fit=lambda fit: rates.append(fit.rates) or fit_alone(fit))
    for _ in range(2):
        estimation.iterate()
    local, joint = ([rate for asked in rates[kind::2] for rate in asked] for kind in (0, 1))
    assert local == joint == pytest.approx([0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01])


@pytest.mark.slow
def test_rare_joint_actions_are_estimated_well_with_the_default_parameters():
    """M-NE's best pair is 10 of 4000 plays; training weighs transitions by ratios of such probabilities."""
    data = sample_data("mne_imbalanced")
    models = estimated(data, **behavior_config().model_dump())
    for order in [(0, 1), (1, 0)]:
        table = joint_table(models.joint, data, 0, order)
        given = table[2] / table[2].sum() if order == (0, 1) else table[:, 2] / table[:, 2].sum()
        assert given[2] == pytest.approx(0.05, rel=0.2)


def test_held_out_episodes_are_whole_and_apart():
    dataset = ragged_data(50)
    split = split_episodes(dataset, 0.1, 3, "cpu")
    parts = [set(part.tolist()) for part in (split.train, split.held_out)]
    assert parts[0] & parts[1] == set() and len(parts[0] | parts[1]) == dataset.n_transitions
    episode_of = np.repeat(np.arange(50), dataset.episode_lengths())
    assert len(set(episode_of[split.held_out])) == 5
    assert set(episode_of[split.held_out]) & set(episode_of[split.train]) == set()
    assert not torch.equal(split.held_out, split_episodes(dataset, 0.1, 4, "cpu").held_out)
