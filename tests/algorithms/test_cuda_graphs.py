"""Steps that a CUDA graph can record: replaying the calls of one on the same memory does what taking each of them does.

Calls are recorded and replayed here as a graph has them, on a CPU; a test of the graph itself needs a GPU.
"""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inspo_core.algorithms import fits
from inspo_core.algorithms import learner as batch_learner
from inspo_core.algorithms.cuda_graphs import LookedUpSteps, Step, take_steps
from inspo_core.algorithms.fits import Fit, fit_alone
from inspo_core.algorithms.networks import RowOptimizers, StackedNetworks
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.registry import ALGORITHMS
from inspo_core.algorithms.transitions import Transitions
from tests.algorithms.games import TINY, learner, ragged_data, random_models

STEPS, BATCH, AGENTS, INPUTS, ACTIONS = 6, 8, 3, 4, 5
# What a processor has to wait for, with answers that a recording could not know.
WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default}
RECORDABLE = [name for name, made in ALGORITHMS.items() if getattr(made, "recordable", False)]


class Recording(TorchDispatchMode):
    """The calls to PyTorch made under it, with the memory that they read and wrote."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result

    @torch.inference_mode()  # the calls are those below autograd
    def replay(self) -> None:
        for function, args, kwargs, result in self.calls:
            for old, new in zip(tensors(result), tensors(function(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or made in place
                    old.copy_(new)


def tensors(result: object) -> list[Tensor]:
    return [value for value in (result if isinstance(result, list | tuple) else [result]) if isinstance(value, Tensor)]


def replayed(step: Step, columns: Sequence[Tensor], axis: int, recordable: bool = True) -> list[Tensor]:
    """As ``take_steps`` on a GPU: the first step is taken, the others are replays of the second."""
    assert recordable
    steps = LookedUpSteps(step, columns, axis)
    steps()
    with Recording() as recording:
        steps()
    for function, *_ in recording.calls:
        assert function not in WAITS and torch.Tag.nondeterministic_seeded not in function.tags, function
    for _ in range(steps.count - 2):
        recording.replay()
    return steps.logged


def regression(network, target, constants, inputs, actions):
    values = network(inputs).gather(-1, actions).squeeze(-1)
    goals = constants[0] if target is None else target(inputs).detach().amax(-1).clamp(max=constants[0])
    return (values - goals).square().mean(-1), values.mean(-1)


def made_fit(device: str, agent: int | None = None, memory: int = 0, with_target: bool = False) -> Fit:
    """The same one on every device."""

    def network() -> StackedNetworks:
        made = stacked(AGENTS, [INPUTS, 16, ACTIONS], memory, torch.Generator(device), device)
        made.parameters.copy_(torch.rand(made.parameters.shape, generator=generator) - 0.5)
        return made

    generator = torch.Generator().manual_seed(2)
    batches = (STEPS, BATCH) if agent is not None else (AGENTS, STEPS, BATCH)
    sizes = (memory, INPUTS + 1) if memory else (INPUTS,)
    inputs = torch.rand(*batches, *sizes, generator=generator).to(device)
    actions = torch.randint(ACTIONS, (*batches, 1), generator=generator).to(device)
    return Fit(RowOptimizers(network(), 0.01), agent, regression, (inputs, actions), (1.5,), network() if with_target else None, 0.1)


@pytest.mark.parametrize("changes", [{}, {"update": "simultaneous"}, {"q": "joint"}, {"importance": "reweight"}, {"memory": 3}], ids=str)
def test_sweeps_of_replayed_steps_are_those_of_plain_ones(monkeypatch, changes):
    data = Transitions.from_dataset(ragged_data(40), "cpu")
    sizes = {**TINY, "critic_steps": 5, "policy_steps": 4}
    plain, other = (learner("inspo", data, random_models(data), **sizes, **changes) for _ in range(2))
    expected = [plain.iterate() for _ in range(3)]
    monkeypatch.setattr(fits, "take_steps", replayed)
    for metrics in expected:
        assert other.iterate() == metrics
    assert torch.equal(other.policy().network.parameters, plain.policy().network.parameters)


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("algorithm", RECORDABLE)
def test_an_algorithm_that_says_so_can_be_recorded(monkeypatch, algorithm, memory):
    data = Transitions.from_dataset(ragged_data(40), "cpu")
    sizes = {**TINY, "critic_steps": 5, "policy_steps": 4, "memory": memory}
    plain = learner(algorithm, data, random_models(data), **sizes)
    expected = [plain.iterate() for _ in range(3)]
    monkeypatch.setattr(batch_learner, "take_steps", replayed)
    other = learner(algorithm, data, random_models(data), **sizes)
    for metrics in expected:
        assert other.iterate() == pytest.approx(metrics, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(other.policy().network.parameters, plain.policy().network.parameters)


def test_steps_that_cannot_be_recorded_are_found_out():
    columns, generator, count = [torch.arange(6.0)], torch.Generator().manual_seed(0), itertools.count()
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        replayed(lambda batch: [batch[0] * (2 if batch[0].item() > 3 else 1)], columns, 0)
    with pytest.raises(AssertionError, match="rand"):
        replayed(lambda batch: [torch.rand((), generator=generator)], columns, 0)
    (logged,) = replayed(lambda batch: [batch[0] + next(count)], columns, 0)
    assert logged.tolist() == [0, 2, 3, 4, 5, 6], "what a number was when it was recorded it stays"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("agent", [None, 1])
def test_a_replayed_graph_does_what_the_steps_do(agent, memory):
    recorded, run = (made_fit("cuda", agent, memory, with_target=agent is None) for _ in range(2))
    taken = take_steps(run.step, run.columns, axis=1 if agent is None else 0, recordable=False)
    for values, expected in zip(fit_alone(recorded), taken, strict=True):
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(recorded.optimizers.network.parameters, run.optimizers.network.parameters, rtol=1e-4, atol=1e-5)
    assert torch.equal(recorded.optimizers.state_of(1)[-1], run.optimizers.state_of(1)[-1])
