"""What the training loop may expect of every algorithm in the table."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.seed_batching import Fit, fit_alone
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.config.sections import TrainConfig
from tests.algorithms.games import arrays, config_of, dataset_of, learner, params, ragged_data, random_models, tiny


@pytest.fixture(scope="module")
def data() -> Transitions:
    return ResidentTransitions(ragged_data(40), "cpu")


@pytest.fixture(params=sorted(ALGORITHMS))
def name(request) -> str:
    return request.param


def make(name: str, data: Transitions, seed: int = 0) -> Algorithm:
    return learner(name, data, random_models(data), iterations=6, seed=seed, **tiny(name))


def run(algorithm: Algorithm, iterations: int) -> list[dict[str, float]]:
    return [algorithm.iterate() for _ in range(iterations)]


def parameters(algorithm: Algorithm) -> torch.Tensor:
    return algorithm.policy().network.parameters.clone()


def test_every_entry_loads_and_has_a_place_in_the_parameters(name):
    entry, block = ALGORITHMS[name], params().train.blocks[name]
    assert isinstance(entry.load(), type) and entry.config is type(config_of(name))
    assert set(entry.config.model_fields) <= {*TrainConfig.model_fields, *block}


def test_it_batches_seeds_if_its_entry_says_so(name, data):
    fits = []

    def counted(fit: Fit) -> list[torch.Tensor]:
        fits.append(fit)
        return fit_alone(fit)

    learner(name, data, random_models(data), fit=counted, **tiny(name)).iterate()
    assert bool(fits) == ALGORITHMS[name].batches_seeds


def test_iterating_trains_and_reports_finite_numbers(name, data):
    algorithm = make(name, data)
    before = parameters(algorithm)
    rows = run(algorithm, 3)
    for metrics in rows:
        assert metrics and metrics.keys() == rows[0].keys()
        assert all(type(value) is float and math.isfinite(value) for value in metrics.values())
    assert parameters(algorithm).isfinite().all() and not torch.equal(parameters(algorithm), before)


def test_the_policy_is_the_one_in_training(name, data):
    algorithm = make(name, data)
    policy = algorithm.policy()
    before = policy.network.parameters.clone()
    algorithm.iterate()
    assert torch.equal(policy.network.parameters, parameters(algorithm)) and not torch.equal(policy.network.parameters, before)


def test_the_policy_takes_the_games_own_observations_and_masks(name):
    dataset = ragged_data(40)
    algorithm = make(name, ResidentTransitions(dataset, "cpu"))
    run(algorithm, 2)
    available = torch.as_tensor(dataset.available_actions)
    log_probs = algorithm.policy().log_probs(torch.as_tensor(dataset.observations), available)
    assert log_probs.shape == available.shape
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(available.shape[:2])) and (log_probs.exp()[~available] == 0).all()


def test_same_seed_same_run_another_seed_another(name, data):
    one, two, other = make(name, data), make(name, data), make(name, data, seed=1)
    assert run(one, 3) == run(two, 3)
    run(other, 3)
    assert torch.equal(parameters(one), parameters(two)) and not torch.equal(parameters(one), parameters(other))


def test_global_random_state_plays_no_part(name, data):
    torch.manual_seed(1)
    one = make(name, data)
    run(one, 2)
    torch.manual_seed(2)
    two = make(name, data)
    run(two, 2)
    assert torch.equal(parameters(one), parameters(two))


def test_a_resumed_run_is_the_same_run(name, data, tmp_path):
    whole = make(name, data)
    rows = run(whole, 6)
    half = make(name, data)
    assert run(half, 3) == rows[:3]
    torch.save(half.state_dict(), tmp_path / "state.pt")
    run(half, 1)  # what was saved must not move on with the run
    resumed = make(name, data, seed=5)  # nothing of a new beginning may remain
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert run(resumed, 3) == rows[3:]
    assert torch.equal(parameters(resumed), parameters(whole))


def test_data_are_left_as_they_were(name, data):
    before = arrays(data)
    run(make(name, data), 2)
    assert all(torch.equal(*pair) for pair in zip(before, arrays(data)))


@pytest.mark.parametrize("agents", [1, 2, 4])
def test_any_number_of_agents_without_states_and_masks(name, agents):
    dataset = ragged_data(20)
    pick = np.arange(agents) % 3
    dataset = replace(
        dataset, observations=dataset.observations[:, pick], actions=dataset.actions[:, pick], states=None, available_actions=None
    )
    data = ResidentTransitions(dataset, "cpu")
    algorithm = make(name, data)
    assert all(math.isfinite(value) for metrics in run(algorithm, 2) for value in metrics.values())
    assert algorithm.policy().log_probs(torch.as_tensor(dataset.observations)).shape == (len(dataset.observations), agents, 3)


def test_one_agent_and_a_joint_q():
    dataset = ragged_data(20)
    dataset = replace(dataset, observations=dataset.observations[:, :1], actions=dataset.actions[:, :1], available_actions=None)
    data = ResidentTransitions(dataset, "cpu")
    algorithm = learner("inspo", data, random_models(data), q="joint", **tiny("inspo"))
    assert all(math.isfinite(value) for metrics in run(algorithm, 2) for value in metrics.values())


def test_data_of_a_single_transition(name):
    dataset = dataset_of(np.eye(2), np.array([[0, 1, 1]]), np.zeros(1), [1], [True], 3)
    algorithm = make(name, ResidentTransitions(replace(dataset, states=None), "cpu"))
    assert all(math.isfinite(value) for metrics in run(algorithm, 2) for value in metrics.values())


def test_policies_with_memory_are_trained_and_resumed(name, data, tmp_path):
    settings = {**tiny(name), "memory": 3, "iterations": 4}
    whole, half, resumed = (learner(name, data, random_models(data), seed=seed, **settings) for seed in (0, 0, 5))
    assert whole.policy().network.memory == 3
    rows = run(whole, 4)
    assert all(math.isfinite(value) for metrics in rows for value in metrics.values())
    run(half, 2)
    torch.save(half.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert run(resumed, 2) == rows[2:] and torch.equal(parameters(resumed), parameters(whole))


def test_the_learning_rate_falls_to_0_in_the_end_and_without_annealing_stays(name, data):
    """The last iteration moves the parameters less than the first if it falls."""
    moves = {}
    for schedule in ("falling", "constant"):
        rates = {"learning_rate_schedule": schedule, "learning_rate": 0.01}
        algorithm = learner(name, data, random_models(data), iterations=10, **tiny(name), **rates)
        steps = []
        for _ in range(10):
            before = parameters(algorithm)
            algorithm.iterate()
            steps.append((parameters(algorithm) - before).abs().mean().item())
        moves[schedule] = steps
    assert moves["falling"][:5] == moves["constant"][:5]
    assert 0 < moves["falling"][-1] < 0.5 * moves["constant"][-1]
