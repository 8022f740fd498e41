"""Steps that a CUDA graph can record: the same as plain ones, and the same calls each time. The recording itself needs a GPU."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inspo_core.algorithms.cuda_graphs import LookedUpSteps, replay_steps
from inspo_core.algorithms.fits import Fit, fit_alone
from inspo_core.algorithms.networks import RowOptimizers, StackedNetworks
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.transitions import Transitions
from tests.algorithms.games import TINY, learner, ragged_data, random_models

STEPS, BATCH, AGENTS, INPUTS, ACTIONS = 6, 8, 3, 4, 5
# What a processor has to wait for, with answers that a recording could not know.
WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.masked_select.default}


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen: list = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def steps_of(fit: Fit) -> LookedUpSteps:
    return LookedUpSteps(fit.step, fit.columns, 1 if fit.agent is None else 0)


def one_by_one(fit: Fit) -> list[Tensor]:
    """As on a GPU, but without a recording: every step is run."""
    steps = steps_of(fit)
    for _ in range(steps.count):
        steps()
    return steps.logged


def regression(network, target, constants, inputs, actions):
    values = network(inputs).gather(-1, actions).squeeze(-1)
    goals = constants[0] if target is None else target(inputs).detach().amax(-1).clamp(max=constants[0])
    return (values - goals).square().mean(-1), values.mean(-1)


def waiting(network, target, constants, inputs, actions):
    losses, values = regression(network, target, constants, inputs, actions)
    return losses * (2 if losses.sum().item() > 1 else 1), values


def made_fit(device: str, agent: int | None = None, memory: int = 0, with_target: bool = False, loss=regression) -> Fit:
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
    return Fit(RowOptimizers(network(), 0.01), agent, loss, (inputs, actions), (1.5,), network() if with_target else None, 0.1)


@pytest.mark.parametrize("changes", [{}, {"update": "simultaneous"}, {"q": "joint"}, {"importance": "reweight"}, {"memory": 3}], ids=str)
def test_batches_that_are_looked_up_give_the_same_sweeps(changes):
    data = Transitions.from_dataset(ragged_data(40), "cpu")
    plain, looked_up = (learner("inspo", data, random_models(data), fit=fit, **TINY, **changes) for fit in (fit_alone, one_by_one))
    for _ in range(3):
        assert looked_up.iterate() == plain.iterate()
    assert torch.equal(looked_up.policy().network.parameters, plain.policy().network.parameters)


@pytest.mark.parametrize("loss, waits", [(regression, False), (waiting, True)])
@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("agent", [None, 1])
def test_each_step_makes_the_same_calls_and_waits_for_none(agent, memory, loss, waits):
    steps = steps_of(made_fit("cpu", agent, memory, with_target=agent is None, loss=loss))
    steps()  # makes room for what is logged
    with Calls() as recorded:
        steps()
    with Calls() as replayed:
        steps()
    assert recorded.seen and recorded.seen == replayed.seen
    assert bool(WAITS & set(recorded.seen)) == waits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("agent", [None, 1])
def test_a_replayed_graph_does_what_the_steps_do(agent, memory):
    replayed, run = (made_fit("cuda", agent, memory, with_target=agent is None) for _ in range(2))
    logged = replay_steps(replayed.step, replayed.columns, 1 if agent is None else 0)
    for values, expected in zip(logged, one_by_one(run), strict=True):
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(replayed.optimizers.network.parameters, run.optimizers.network.parameters, rtol=1e-4, atol=1e-5)
    assert torch.equal(replayed.optimizers.state_of(1)[-1], run.optimizers.state_of(1)[-1])
