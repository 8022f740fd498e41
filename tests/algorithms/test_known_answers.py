"""InSPO from data to policy in games whose answer is known (docs/inspo.md has the theory).

The quick tests use smaller networks and fewer sweeps than ``params.yaml``; the slow ones use it as it is.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.datasets.build import SETS
from inspo_core.envs import GAMES, make_env
from inspo_core.envs.matrix import MNE, XOR
from inspo_core.envs.rollouts import rollout
from tests.algorithms.games import (
    action_probabilities,
    behavior_config,
    estimated,
    estimated_sample,
    expected_payoff,
    learner,
    params,
    permutation_data,
    permutation_payoff,
    sample_data,
)

QUICK = {"hidden": [32, 32], "batch_size": 64, "critic_steps": 50}


def train(data: Transitions, models: BehaviorModels, sweeps: int, from_behavior: bool = False, **changes: object) -> Algorithm:
    """A trained learner; with ``from_behavior`` its policies begin as the local clones."""
    algorithm = learner("inspo", data, models, sweeps, **{**QUICK, **changes})
    if from_behavior:
        algorithm.policy().network.parameters.copy_(models.local.parameters)
    for _ in range(sweeps):
        algorithm.iterate()
    return algorithm


@pytest.mark.parametrize(("name", "sweeps"), [("xor_a", 10), ("xor_b", 20), ("xor_c", 30), ("xor_d", 20)])
def test_xor_is_solved_whatever_the_data(name, sweeps):
    data, models = estimated_sample(name)
    algorithm = train(data, models, sweeps)
    assert expected_payoff(algorithm.policy(), XOR) > 0.95
    played = rollout(make_env("xor"), algorithm.policy(), 500, seed=0, greedy=False)
    assert played.returns.mean() > 0.9


def test_a_product_behavior_cannot_coordinate_agents_on_xor_b():
    """All seen joint actions pay 1 there. Without E[log mu(a^i|s,a^-i)] all actions of an agent look alike, and both stay mixed."""
    data, models = estimated_sample("xor_b")
    algorithm = train(data, models, 12, behavior_model="product")
    assert abs(expected_payoff(algorithm.policy(), XOR)) < 0.15
    assert np.abs(action_probabilities(algorithm.policy()) - 0.5).max() < 0.15


def test_the_best_equilibrium_of_balanced_data_is_found():
    data, models = estimated_sample("mne_balanced")
    assert expected_payoff(train(data, models, 15).policy(), MNE) > 19.5


@pytest.mark.parametrize(
    ("schedule", "lowest", "highest"),
    [({"beta_schedule": "none"}, 4.5, 5.0), ({"beta_schedule": "constant", "beta": 0.25}, -20.0, 6.0), ({}, 19.5, 20.0)],
    ids=["no entropy", "constant entropy", "annealed entropy"],
)
def test_annealed_entropy_leaves_the_equilibrium_that_the_data_prefer(schedule, lowest, highest):
    """Each agent of the data plays the worst equilibrium, which pays 5, four times in five; learning begins there."""
    data, models = estimated_sample("mne_imbalanced")
    algorithm = train(data, models, 20, from_behavior=True, **schedule)
    assert lowest < expected_payoff(algorithm.policy(), MNE) <= highest


def test_three_agents_agree_on_a_permutation():
    """Every permutation occurs equally often and pays 1, so only the joint behavior tells which actions go together."""
    data = ResidentTransitions(permutation_data(), "cpu")
    algorithm = train(data, estimated(data, 500), 25)
    payoff = permutation_payoff()
    assert expected_payoff(algorithm.policy(), payoff) > 0.95
    clones = estimated(data, 200).policy()
    assert expected_payoff(clones, payoff) == pytest.approx(6 / 27, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETS if not name.startswith("bridge")])
def test_one_step_games_with_the_default_parameters(default_runs, name):
    mean_return, success, best = default_runs[name].result()
    assert mean_return > 0.95 * best
    assert success > 0.95


@pytest.fixture(scope="module")
def default_runs(request) -> Iterator[dict[str, Future]]:
    """Of each dataset that is asked for what :func:`default_run` gives; they are trained side by side."""
    tests = [item for item in request.session.items if item.name.startswith("test_one_step_games_with_the_default_parameters[")]
    names = [item.callspec.params["name"] for item in tests]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield {name: pool.submit(default_run, name) for name in reversed(names)}  # the largest games are the last


def default_run(name: str) -> tuple[float, float, float]:
    """Mean return and success of sampled episodes of a policy trained with ``params.yaml`` as it is, and the game's best return."""
    data = sample_data(name)
    models = estimated(data, **behavior_config().model_dump())
    algorithm = learner("inspo", data, models, iterations := params().train.iterations)
    for _ in range(iterations):
        algorithm.iterate()
    env = make_env(SETS[name]().env)
    played = rollout(env, algorithm.policy(), 500, seed=0, greedy=False)
    return float(played.returns.mean()), float(played.success.mean()), GAMES[env.spec.name].best
