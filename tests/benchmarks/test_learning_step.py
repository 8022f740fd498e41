"""The project's learning steps do what plain code does, in few operations and with no more arithmetic than they need."""

from collections.abc import Iterator

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import learning_step
from benchmarks.learning_step import SHAPES, SWEEP, Shape, batch_learner, config_of, inspo_pair, steps_of
from benchmarks.plain import module_of
from benchmarks.plain_values import PlainCFCQL, PlainOMIGA
from inspo_core.algorithms.networks import StackedNetworks

SMALL = Shape(agents=3, observation=7, state=9, actions=4)
STEPS = 20


@pytest.fixture
def small(monkeypatch) -> Iterator[None]:
    """Small networks in double precision: what two orders of the same sums differ by is then far below what a mistake makes."""
    monkeypatch.setattr(learning_step, "HIDDEN", [16, 12])
    monkeypatch.setattr(learning_step, "BATCH", 32)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_equal(network: StackedNetworks, modules: list[torch.nn.Module], start: torch.Tensor) -> None:
    assert network.parameters.isfinite().all() and (network.parameters - start).abs().max() > 1e-3
    for agent, module in enumerate(modules):
        for mine, plain in zip(module_of(network, agent).parameters(), module.parameters(), strict=True):
            assert torch.allclose(mine, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_inspo_equals_plain_inspo(small, steps):
    sizes = {"pool_size": 50, "critic_steps": steps, "policy_steps": steps, "refit_steps": steps}
    fast, plain = inspo_pair(SMALL, config_of("inspo", **{**SWEEP, **sizes}))
    networks = {"policy": (fast._network, plain.policies), "critic": (fast._critics.network, plain.critics)}
    networks["target"] = (fast._critics.target, plain.targets)
    start = {name: network.parameters.clone() for name, (network, _) in networks.items()}
    for _ in range(STEPS):
        temperatures = fast._temperatures()
        metrics = fast.iterate()
        logged = plain.sweep(fast.draws, temperatures.alpha, temperatures.beta)
        for agent in range(SMALL.agents):
            assert metrics[f"improvement/agent_{agent}"] == pytest.approx(logged[f"improvement/{agent}"], abs=1e-7)
            assert metrics[f"kl_to_behavior/agent_{agent}"] == pytest.approx(logged[f"kl/{agent}"], abs=1e-7)
    for name, (network, modules) in networks.items():
        assert_equal(network, modules, start[name])


@pytest.mark.parametrize(("algorithm", "reference"), [("omiga", PlainOMIGA), ("cfcql", PlainCFCQL)])
def test_values_equal_plain_values(small, algorithm, reference):
    learner = batch_learner(algorithm, SMALL)
    plain = reference(learner)
    start = {name: network.parameters.clone() for name, network in learner._networks.items()}
    for _ in range(STEPS):
        batch = learner._draw().one(0)
        learner.step(batch)
        plain.step(batch)
    if algorithm == "omiga":
        pairs = {"policy": plain.policies, "q": plain.q, "v": plain.v, "mixer": [plain.mixer], "v target": plain.v_targets}
    else:
        pairs = {"policy": plain.values, "policy target": plain.value_targets, "mixer": [plain.mixer], "mixer target": [plain.mixer_target]}
    for name, modules in pairs.items():
        assert_equal(learner._networks[name], modules, start[name])


class Calls(TorchDispatchMode):
    """Counts the operations that PyTorch is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("algorithm", "most"), [("inspo", 1400), ("omiga", 400), ("cfcql", 355)])
def test_a_step_is_few_operations(algorithm, most):
    step = steps_of(algorithm, SHAPES["2s3z"])["project"]
    with Calls() as calls:
        step()
    assert calls.count <= most


@pytest.mark.parametrize("algorithm", ["inspo", "omiga", "cfcql"])
def test_a_step_has_the_matrix_products_that_it_needs_and_no_others(algorithm):
    steps = steps_of(algorithm, SHAPES["2s3z"])
    counted = {}
    for kind in ("project", "products"):
        with FlopCounterMode(display=False) as flops:
            steps[kind]()
        counted[kind] = flops.get_total_flops()
    assert 0.99 < counted["project"] / counted["products"] < 1.02
