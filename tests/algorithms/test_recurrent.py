"""Networks with memory: the gated recurrent unit, what it is shown, and what it is good for."""

import numpy as np
import pytest
import torch

from inspo_core.algorithms.networks import Standardizer
from inspo_core.algorithms.policy import Policy
from inspo_core.algorithms.recurrent import StackedGRU, stacked
from inspo_core.algorithms.transitions import ResidentTransitions
from inspo_core.datasets.build import SETS
from inspo_core.envs import make_env
from inspo_core.envs.rollouts import rollout
from tests.algorithms.games import arrays, estimated, learner, ragged_data

N, B, L, SIZES = 2, 6, 5, [3, 7, 6, 4]


@pytest.fixture
def network() -> StackedGRU:
    return StackedGRU(N, SIZES, L, torch.Generator().manual_seed(0), "cpu")


@pytest.fixture
def inputs() -> torch.Tensor:
    """Histories of 1 to L steps, the others at their beginning absent."""
    inputs = torch.randn(N, B, L, SIZES[0] + 1, generator=torch.Generator().manual_seed(1))
    for place in range(B):
        inputs[:, place, : L - 1 - place % L] = 0
        inputs[:, place, :, -1] = (torch.arange(L) >= L - 1 - place % L).float()
    return inputs


def by_torch(network: StackedGRU, agent: int, history: torch.Tensor) -> torch.Tensor:
    """The network's outputs (out,) after ``history`` (T, in) by torch.nn.GRU with the same weights."""
    weight, bias, from_input, input_bias, from_hidden, hidden_bias, out, out_bias = (leaf.detach() for leaf in network.rows[agent])
    gru = torch.nn.GRU(SIZES[1], SIZES[2])
    gru.weight_ih_l0.data, gru.weight_hh_l0.data = from_input.T.contiguous(), from_hidden.T.contiguous()
    gru.bias_ih_l0.data, gru.bias_hh_l0.data = input_bias[0], hidden_bias[0]
    with torch.no_grad():
        hidden = gru(torch.nn.functional.leaky_relu(history @ weight + bias))[0][-1]
        return hidden @ out + out_bias[0]


def test_outputs_are_those_of_torchs_gru_over_the_steps_that_are_present(network, inputs):
    outputs = network(inputs)
    assert outputs.shape == (N, B, SIZES[-1])
    for agent in range(N):
        assert torch.allclose(network.one(agent, inputs[agent]), outputs[agent], atol=1e-6)
        for place in range(B):
            history = inputs[agent, place, L - 1 - place % L :, :-1]
            assert torch.allclose(outputs[agent, place], by_torch(network, agent, history), atol=1e-6)


def test_gradients_reach_every_parameter(network, inputs):
    for gradient in torch.autograd.grad(network(inputs).square().sum(), network.stacked):
        assert gradient.isfinite().all() and all(part.abs().max() > 0 for part in gradient)


def test_inputs_are_the_last_steps_of_the_episode_and_of_no_other():
    dataset = ragged_data(12)
    data = ResidentTransitions(dataset, "cpu")
    assert torch.equal(data.inputs(arrays(data).rows, 0), arrays(data).observations[:, arrays(data).rows])
    every = torch.arange(data.n_rows)
    seen = data.inputs(every, 3)
    assert seen.shape == (data.n_agents, len(every), 3, data.observation_size + 1)
    starts = dataset.episode_offsets[:-1] + np.arange(dataset.n_episodes)
    for row in every.tolist():
        first = starts[starts <= row].max()
        for back in range(3):
            here = seen[:, row, 2 - back]
            if row - back >= first:
                assert torch.equal(here[:, :-1], arrays(data).observations[:, row - back]) and (here[:, -1] == 1).all()
            else:
                assert (here == 0).all()
    assert {len(range(starts[starts <= row].max(), row + 1)) for row in every.tolist()} >= {1, 2, 3, 4}


def test_a_policy_acts_on_an_episode_as_it_was_trained_on_it():
    """Step by step, with what was observed so far, and at the rows of the data: the same probabilities."""
    dataset = ragged_data(12)
    data = ResidentTransitions(dataset, "cpu")
    network = stacked(3, [2, 8, 3], 2, torch.Generator().manual_seed(0), "cpu")
    policy = Policy(network, data.observation_standardizer)
    trained = network(data.inputs(torch.arange(data.n_rows), 2)).log_softmax(-1)
    for episode in range(4):
        start, length = dataset.episode_offsets[episode] + episode, dataset.episode_lengths()[episode]
        for step in range(length):
            seen = torch.as_tensor(np.array(dataset.observations[start : start + step + 1])).unsqueeze(0)
            assert torch.allclose(policy.log_probs(seen)[0], trained[:, start + step], atol=1e-5)


def test_a_policy_with_memory_acts_on_the_last_steps_only():
    values = torch.randn(N, 30, SIZES[0], generator=torch.Generator().manual_seed(3))
    policy = Policy(StackedGRU(N, SIZES, L, torch.Generator().manual_seed(0), "cpu"), Standardizer.fit(values), sharpness=3.0)
    seen = torch.randn(4, 7, N, SIZES[0], generator=torch.Generator().manual_seed(4))
    whole = policy.log_probs(seen)
    assert torch.equal(whole, policy.log_probs(seen[:, 2:])) and not torch.equal(whole, policy.log_probs(seen[:, 3:]))


def plays_both_sides(memory: int, sweeps: int, **changes: object) -> float:
    """The greedy return in ``bridge_blind`` after learning from its data."""
    data = ResidentTransitions(SETS["bridge_blind_optimal"](), "cpu")
    models = estimated(data, 600, memory=memory)
    algorithm = learner("inspo", data, models, sweeps, memory=memory, hidden=[32, 32], pool_size=1024, batch_size=128, **changes)
    for _ in range(sweeps):
        algorithm.iterate()
    return rollout(make_env("bridge_blind"), algorithm.policy(), 20, 0, greedy=True).returns.mean()


@pytest.mark.slow
def test_memory_is_what_it_takes_where_the_present_does_not_tell():
    assert plays_both_sides(memory=8, sweeps=25) == pytest.approx(-1.2355, abs=0.056)  # one of the data's three ways
    assert plays_both_sides(memory=0, sweeps=5) < -5  # no policy without memory finishes: tests/envs/test_bridge_partial.py
