"""Steps that a CUDA graph can record: replaying the calls of one on the same memory does what taking each of them does.

Calls are recorded and replayed here as a graph has them, on a CPU; test_cuda.py has the graph itself, on a GPU.
"""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inspo_core.algorithms import learner as batch_learner
from inspo_core.algorithms import seed_batching
from inspo_core.algorithms.cuda_graphs import LookedUpSteps, Step
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.algorithms.transitions import ResidentTransitions
from tests.algorithms.games import TINY, learner, ragged_data, random_models, tiny

# What a processor has to wait for, with answers that a recording could not know.
WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default}
RECORDABLE = [name for name, entry in ALGORITHMS.items() if getattr(entry.load(), "recordable", False)]


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


@pytest.mark.parametrize("changes", [{}, {"update": "simultaneous"}, {"q": "joint"}, {"importance": "reweight"}, {"memory": 3}], ids=str)
def test_sweeps_of_replayed_steps_are_those_of_plain_ones(monkeypatch, changes):
    data = ResidentTransitions(ragged_data(40), "cpu")
    sizes = {**TINY, "critic_steps": 5, "policy_steps": 4}
    plain, other = (learner("inspo", data, random_models(data), **sizes, **changes) for _ in range(2))
    expected = [plain.iterate() for _ in range(3)]
    monkeypatch.setattr(seed_batching, "take_steps", replayed)
    for metrics in expected:
        assert other.iterate() == metrics
    assert torch.equal(other.policy().network.parameters, plain.policy().network.parameters)


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("algorithm", RECORDABLE)
def test_an_algorithm_that_says_so_can_be_recorded(monkeypatch, algorithm, memory):
    data = ResidentTransitions(ragged_data(40), "cpu")
    sizes = tiny(algorithm, critic_steps=5, policy_steps=4, memory=memory)
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
