"""Stacked networks against separate modules of torch, and the acting policy."""

import copy

import pytest
import torch

from inspo_core.algorithms.networks import IMPOSSIBLE, RowOptimizers, StackedMLP, Standardizer, masked_log_softmax
from inspo_core.algorithms.policy import Policy

N, SIZES = 3, [5, 7, 6, 4]


@pytest.fixture
def network() -> StackedMLP:
    return StackedMLP(N, SIZES, torch.Generator().manual_seed(0), "cpu")


@pytest.fixture
def modules(network) -> list[torch.nn.Sequential]:
    """The same networks as plain modules, their weights copied."""
    copies = []
    for row in network.rows:
        layers: list[torch.nn.Module] = []
        for weight, bias in zip(row[::2], row[1::2]):
            linear = torch.nn.Linear(*weight.shape)
            linear.weight.data, linear.bias.data = weight.detach().T.clone(), bias.detach()[0].clone()
            layers += [linear, torch.nn.LeakyReLU()]
        copies.append(torch.nn.Sequential(*layers[:-1]))
    return copies


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randn(N, 11, SIZES[0], generator=torch.Generator().manual_seed(1))


def module_tensors(module: torch.nn.Sequential, of_gradient: bool) -> list[torch.Tensor]:
    """In the order and the shapes of ``StackedMLP.rows``."""
    tensors = [parameter.grad if of_gradient else parameter.detach() for parameter in module.parameters()]
    return [tensor.T if tensor.ndim == 2 else tensor.unsqueeze(0) for tensor in tensors]


def targets_of(inputs: torch.Tensor) -> torch.Tensor:
    return torch.stack([agent + inputs[agent, :, : SIZES[-1]].sin() for agent in range(N)])


def test_all_at_once_equals_one_by_one_equals_torch(network, modules, inputs):
    together = network(inputs)
    assert together.shape == (N, 11, SIZES[-1])
    for agent in range(N):
        expected = modules[agent](inputs[agent])
        assert torch.allclose(together[agent], expected, atol=1e-6)
        assert torch.allclose(network.one(agent, inputs[agent]), expected, atol=1e-6)
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("together", [True, False])
def test_gradients_equal_those_of_torch(network, modules, inputs, together):
    targets = targets_of(inputs)
    if together:
        gradients = torch.autograd.grad((network(inputs) - targets).square().sum(), network.stacked)
        found = list(zip(*gradients))
    else:
        losses = [(network.one(agent, inputs[agent]) - targets[agent]).square().sum() for agent in range(N)]
        found = [torch.autograd.grad(loss, network.rows[agent]) for agent, loss in enumerate(losses)]
    for agent, module in enumerate(modules):
        (module(inputs[agent]) - targets[agent]).square().sum().backward()
        for mine, expected in zip(found[agent], module_tensors(module, of_gradient=True), strict=True):
            assert expected.abs().max() > 0
            assert torch.allclose(mine, expected, rtol=1e-4, atol=1e-4)


def test_initial_values_fill_the_range_of_each_layer():
    network = StackedMLP(2, [100, 50, 3], torch.Generator().manual_seed(0), "cpu")
    for weight, bias, fan_in in zip(network.rows[0][::2], network.rows[0][1::2], [100, 50]):
        for tensor in (weight, bias):
            assert tensor.abs().max() <= fan_in**-0.5
        assert weight.abs().max() > 0.9 * fan_in**-0.5
    assert not torch.equal(network.rows[0][0], network.rows[1][0])


def test_a_step_of_one_agent_leaves_the_others_bit_identical(network, inputs):
    optimizers = RowOptimizers(network, 0.01)
    for _ in range(3):  # the others' moments are not zero then
        optimizers.step((network(inputs) - targets_of(inputs)).square().mean())
    before = [[leaf.detach().clone() for leaf in row] for row in network.rows]
    optimizers.step(network.one(1, inputs[1]).square().mean(), 1)
    for agent in range(N):
        same = [torch.equal(leaf, old) for leaf, old in zip(network.rows[agent], before[agent])]
        assert not any(same) if agent == 1 else all(same)


def test_steps_equal_those_of_separate_adams(network, modules, inputs):
    """Twenty steps, some of all agents and some of one, as a sweep mixes them."""
    targets = targets_of(inputs)
    optimizers = RowOptimizers(network, 0.01)
    adams = [torch.optim.Adam(module.parameters(), lr=0.01) for module in modules]
    start = network.parameters.clone()
    for step in range(20):
        only = step % 4 if step % 4 < N else None
        if only is None:
            optimizers.step((network(inputs) - targets).square().mean(dim=(1, 2)).sum())
        else:
            optimizers.step((network.one(only, inputs[only]) - targets[only]).square().mean(), only)
        for agent in range(N) if only is None else [only]:
            adams[agent].zero_grad()
            (modules[agent](inputs[agent]) - targets[agent]).square().mean().backward()
            adams[agent].step()
    assert network.parameters.isfinite().all() and (network.parameters - start).abs().max() > 0.05
    for row, module in zip(network.rows, modules):
        for mine, expected in zip(row, module_tensors(module, of_gradient=False)):
            assert torch.allclose(mine, expected, rtol=0, atol=1e-6)


def test_restored_optimizers_go_on_bit_for_bit(network, inputs):
    def train(trained: StackedMLP, optimizers: RowOptimizers) -> None:
        for _ in range(5):
            optimizers.step((trained(inputs) - targets_of(inputs)).square().mean())

    optimizers = RowOptimizers(network, 0.01)
    train(network, optimizers)
    resumed, fresh = (StackedMLP(N, SIZES, torch.Generator().manual_seed(9), "cpu") for _ in range(2))
    resumed.parameters.copy_(network.parameters)
    fresh.parameters.copy_(network.parameters)
    restored = RowOptimizers(resumed, 0.01)
    restored.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    train(network, optimizers)
    train(resumed, restored)
    train(fresh, RowOptimizers(fresh, 0.01))
    assert torch.equal(resumed.parameters, network.parameters)
    assert not torch.equal(fresh.parameters, network.parameters)  # the moments matter


def test_the_learning_rate_can_be_changed_between_steps(network, modules, inputs):
    targets, optimizers = targets_of(inputs), RowOptimizers(network, 0.01)
    adam = torch.optim.Adam(modules[0].parameters(), lr=0.01)
    for rate in (0.01, 0.003, 0.05):
        optimizers.learning_rate = adam.param_groups[0]["lr"] = rate
        optimizers.step((network(inputs) - targets).square().mean(dim=(1, 2)).sum())
        adam.zero_grad()
        (modules[0](inputs[0]) - targets[0]).square().mean().backward()
        adam.step()
    for mine, expected in zip(network.rows[0], module_tensors(modules[0], of_gradient=False)):
        assert torch.allclose(mine, expected, rtol=0, atol=1e-6)


def test_networks_of_one_loss_take_their_steps_together(network, inputs):
    """As if each had descended the same loss alone, with the others as they were."""

    def stack(seed: int) -> StackedMLP:
        return StackedMLP(N, [SIZES[-1], 5, 2], torch.Generator().manual_seed(seed), "cpu")

    def loss_of(first: StackedMLP, second: StackedMLP) -> torch.Tensor:
        return second(first(inputs)).square().mean()

    copies = [StackedMLP(N, SIZES, torch.Generator().manual_seed(0), "cpu") for _ in range(2)]
    seconds = [stack(1) for _ in range(3)]
    together = [RowOptimizers(stacks, 0.01) for stacks in (network, seconds[0])]
    start = network.parameters.clone(), seconds[0].parameters.clone()
    RowOptimizers.step_together(together, loss_of(network, seconds[0]))
    RowOptimizers(copies[0], 0.01).step(loss_of(copies[0], seconds[1]))
    RowOptimizers(seconds[2], 0.01).step(loss_of(copies[1], seconds[2]))
    for stacks, alone, old in ((network, copies[0], start[0]), (seconds[0], seconds[2], start[1])):
        assert torch.equal(stacks.parameters, alone.parameters) and not torch.equal(stacks.parameters, old)


def test_masked_log_softmax():
    logits = torch.tensor([[1.0, 2.0, 3.0], [50.0, -50.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    available = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    log_probs = masked_log_softmax(logits, available)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(3))
    assert torch.allclose(log_probs[0, :2], logits[0, :2].log_softmax(0))
    assert torch.allclose(log_probs[1, 1:], logits[1, 1:].log_softmax(0))
    assert (log_probs[:2][~available[:2]] <= IMPOSSIBLE / 2).all() and log_probs.isfinite().all()
    assert (log_probs.exp() * log_probs)[~available][:2].abs().max() == 0
    assert torch.equal(masked_log_softmax(logits, None), logits.log_softmax(-1))
    log_probs[torch.arange(2), torch.tensor([0, 1])].sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:2][~available[:2]] == 0).all() and logits.grad[0, 0] > 0


def test_where_nothing_is_available_all_is_alike():
    logits = torch.tensor([[3.0, -2.0, 0.0, 70.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    log_probs = masked_log_softmax(logits, torch.zeros(2, 4, dtype=torch.bool))
    assert torch.allclose(log_probs.exp(), torch.full((2, 4), 0.25))
    log_probs[:, 3].sum().backward()
    assert (logits.grad == 0).all()


def test_standardizer():
    values = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(2)) * torch.tensor([1.0, 20.0, 0.0])
    values = values + torch.tensor([3.0, -7.0, 5.0])
    done = Standardizer.fit(values)(values)
    assert torch.allclose(done.mean(1), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(done.std(1, correction=0)[:, :2], torch.ones(2, 2), atol=1e-4)
    assert (done[..., 2] == 0).all()


def test_standardizer_tells_small_features_from_rounding():
    """A feature in tiny units varies as much as any; what varies by the last bits of its mean is constant."""
    noise = torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(2))
    values = noise * torch.tensor([1e-6, 1e-3, 1e-3]) + torch.tensor([0.0, 1.0, 1e4])
    assert 0 < values[..., 2].std() < 0.01
    done = Standardizer.fit(values)(values)
    assert torch.allclose(done.std(1, correction=0)[0, :2], torch.ones(2), atol=1e-3)
    assert done[..., 2].abs().max() < 0.01


LARGEST = torch.finfo(torch.float32).max


@pytest.mark.parametrize("value", [1.7643e9, -1.7643e9, 0.1, -7.0, 1e30, LARGEST, -LARGEST, 1e-40, 16777217.0])
@pytest.mark.parametrize("rows", [1, 7, 100_003])
def test_a_constant_of_any_size_becomes_0(value, rows):
    values = torch.full((2, rows, 1), value)
    fitted = Standardizer.fit(values)
    assert (fitted(values) == 0).all() and (fitted.scale == 1).all()
    fitted.standardize_(values)
    assert (values == 0).all()


@pytest.mark.parametrize("span", [2e4, 1e6, 1e9])
def test_a_clock_that_moves_by_little_is_standardised(span):
    values = (1.7643e9 + span * torch.arange(10_000, dtype=torch.float64) / 10_000).float()[:, None]
    done = Standardizer.fit(values)(values)
    assert (
        done.std().item() == pytest.approx(1, rel=0.01)
        and abs(done.mean().item()) < 0.1
        and done.unique().numel() == values.unique().numel()
    )


def test_a_clock_that_hardly_moves_is_a_constant():
    values = (1.7643e9 + torch.arange(1000) % 600).float()[:, None]
    assert values.unique().numel() > 1
    assert Standardizer.fit(values)(values).abs().max() < 1e-5


@pytest.mark.parametrize("sentinel", [-LARGEST, LARGEST, 1e38, torch.finfo(torch.float32).tiny])
@pytest.mark.parametrize("other", [0.0, 1.0, LARGEST, -LARGEST])
@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9])
def test_what_is_finite_stays_finite(sentinel, other, share):
    values = torch.where(torch.arange(10_000)[:, None] < share * 10_000, sentinel, other)
    done = Standardizer.fit(values)(values)
    in_place = values.clone()
    Standardizer.fit(values).standardize_(in_place)
    assert done.isfinite().all() and torch.equal(done, in_place) and done.abs().max() <= 101
    if abs(sentinel - other) > 1:
        assert done.unique().numel() == 2


def test_a_policy_s_agents_act_on_their_own_standardised_observations(network, modules):
    values = torch.randn(N, 50, SIZES[0], generator=torch.Generator().manual_seed(3)) * 4 + 2
    observations = torch.randn(9, N, SIZES[0], generator=torch.Generator().manual_seed(4)) * 4 + 2
    policy = Policy(network, Standardizer.fit(values))
    log_probs = policy.log_probs(observations)
    assert log_probs.shape == (9, N, SIZES[-1]) and not log_probs.requires_grad
    for agent, module in enumerate(modules):
        seen = (observations[:, agent] - policy.standardizer.mean[agent]) / policy.standardizer.scale[agent]
        assert torch.allclose(log_probs[:, agent], module(seen).log_softmax(-1), atol=1e-5)
