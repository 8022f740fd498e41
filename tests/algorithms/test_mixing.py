"""The mixed value: linear and monotone in the agents' values, with weights and a bias of the state."""

import pytest
import torch

from inspo_core.algorithms.mixing import Mixing
from inspo_core.algorithms.networks import RowOptimizers, StackedMLP

N, B, S = 3, 5, 4


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def hypernetwork() -> StackedMLP:
    return StackedMLP(1, [S, 32, N + 1], torch.Generator().manual_seed(0), "cpu")


def test_the_total_is_linear_in_the_values_with_weights_of_the_state(hypernetwork):
    states, values = torch.randn(B, S), torch.randn(N, B)
    total = Mixing.at(hypernetwork, states).total(values)
    for b in range(B):
        *weights, bias = hypernetwork.one(0, states[b : b + 1])[0].tolist()
        expected = sum(abs(weight) * value for weight, value in zip(weights, values[:, b].tolist(), strict=True)) + bias
        assert total[b].item() == pytest.approx(expected, abs=1e-5)


def test_no_agent_s_higher_value_lowers_the_total(hypernetwork):
    mixing = Mixing.at(hypernetwork, 10 * torch.randn(200, S))
    raw = hypernetwork(10 * torch.randn(1, 200, S))
    assert (raw < 0).any() and (mixing.weights >= 0).all()  # the hypernetwork itself has negative outputs
    values = torch.randn(N, 200)
    for agent in range(N):
        higher = values.clone()
        higher[agent] += 1
        assert (mixing.total(higher) >= mixing.total(values)).all()


def test_weights_and_bias_learn_a_sum_that_depends_on_the_state(hypernetwork):
    states, values = torch.randn(256, S), torch.randn(N, 256)
    wanted = torch.where(states[:, 0] > 0, 2 * values[0], values[1]) + 3
    optimizer = RowOptimizers(hypernetwork, 0.01)
    for _ in range(600):
        loss = (Mixing.at(hypernetwork, states).total(values) - wanted).square().mean()
        optimizer.step(loss)
    assert loss < 0.15 and wanted.var() > 1
