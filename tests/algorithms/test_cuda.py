"""What a GPU computes is what a CPU computes; graphs and stacks change nothing; a stopped run goes on as the same run.

They run on a GPU, where there is one. INSPO_TEST_DEVICE=cpu tries them on a CPU, where all but the graphs is the same code. Each prints
the largest difference that it found.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.behavior_models import BehaviorModels, joint_log_likelihood, local_log_probs
from inspo_core.algorithms.cuda_graphs import take_steps
from inspo_core.algorithms.learner import Batch
from inspo_core.algorithms.networks import RowOptimizers, StackedNetworks
from inspo_core.algorithms.recurrent import stacked
from inspo_core.algorithms.seed_batching import Fit, Fitter, fit_alone, fit_together
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.datasets.build import SETS
from inspo_core.envs import GAMES, make_env
from inspo_core.envs.rollouts import rollout
from inspo_core.running.device import resolve_device
from tests.algorithms.games import TINY, at_once, estimated, learner, ragged_data, random_models, tiny

DEVICE = os.environ.get("INSPO_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU")

STEPS = 5
SEEDS = (0, 1, 2)
INSPO = {**TINY, "hidden": [16], "batch_size": 64, "critic_steps": STEPS}
VARIANTS = [{}, {"update": "simultaneous"}, {"q": "joint"}, {"behavior_model": "product", "importance": "reweight"}, {"memory": 3}]
ONE_BY_ONE = [name for name, entry in ALGORITHMS.items() if not entry.batches_seeds]


def data_on(device: str, agents: Sequence[int] = (0, 1, 2)) -> Transitions:
    dataset, picked = ragged_data(40), list(agents)
    observations, available = dataset.observations[:, picked], dataset.available_actions[:, picked]
    chosen = replace(dataset, observations=observations, available_actions=available, actions=dataset.actions[:, picked])
    return ResidentTransitions(chosen, device)


def same_models(data: Transitions) -> BehaviorModels:
    """Random ones, the same on every device."""
    models, generator = random_models(data), torch.Generator().manual_seed(7)
    for network in (models.local, models.joint.network):
        network.parameters.copy_(torch.randn(network.parameters.shape, generator=generator))
    return models


def copied(fit: Fit, device: str) -> Fit:
    """The fit as it is now, on ``device``, with networks and optimizers of its own."""

    def network(old: StackedNetworks) -> StackedNetworks:
        made = stacked(old.n, old.sizes, old.memory, torch.Generator(device), device)
        made.parameters.copy_(old.parameters)
        return made

    optimizers = RowOptimizers(network(fit.optimizers.network), fit.optimizers.learning_rate)
    optimizers.load_state_dict(fit.optimizers.state_dict())
    target = None if fit.target is None else network(fit.target)
    return replace(fit, optimizers=optimizers, target=target, columns=tuple(column.to(device) for column in fit.columns))


def changed_by(fit: Fit) -> list[Tensor]:
    """Parameters and moments of all networks, and the target."""
    network = fit.optimizers.network
    state = [tensor for row in range(network.n) for tensor in fit.optimizers.state_of(row)]
    return state if fit.target is None else [*state, fit.target.parameters]


def assert_close(name: str, found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """To float32's accuracy after some steps, which is far below one step of Adam, about the learning rate of 0.002."""
    pairs = [(one.detach().cpu(), other.detach().cpu()) for one, other in zip(found, expected, strict=True)]
    largest = max((one.double() - other.double()).abs().max().item() for one, other in pairs)
    print(f"\n{name}: " + (f"largest difference {largest:.1e}" if largest else "equal to the bit"), end=" ")
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def values(rows: Sequence[dict[str, float]]) -> list[Tensor]:
    return [torch.tensor(list(row.values()), dtype=torch.float64) for row in rows]


def fit_step_by_step(fit: Fit) -> list[Tensor]:
    return take_steps(fit.step, fit.columns, axis=1 if fit.agent is None else 0, recordable=False)


def inspo(data: Transitions, seed: int = 0, fit: Fitter = fit_alone, **changes: object) -> Algorithm:
    return learner("inspo", data, same_models(data), iterations=6, seed=seed, fit=fit, **{**INSPO, **changes})


def parameters(algorithm: Algorithm) -> Tensor:
    return algorithm.policy().network.parameters


def test_a_gpu_is_found():
    assert DEVICE == "cpu" or resolve_device("auto", "train.device") == "cuda"


def test_behavior_models_say_the_same_on_both_devices():
    said = []
    for device in ("cpu", DEVICE):
        data = data_on(device)
        models, every = same_models(data), torch.arange(len(data), device=device)
        said.append([local_log_probs(models.local, data), joint_log_likelihood(models.joint, data, every)])
    assert_close("behavior models, both devices", said[1], said[0])


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("algorithm", ONE_BY_ONE)
def test_steps_are_those_of_a_cpu(algorithm, memory):
    """What is drawn within a step is a device's own. It makes no difference here: AlberDICE draws the actions of teammates for those after
    them, and there is only one; OptiDICE draws first states, and all are the same.
    """
    learners = []
    for device in ("cpu", DEVICE):
        data = data_on(device, agents=(0, 2))
        data.first_rows = data.first_rows[:1].expand_as(data.first_rows)
        learners.append(
            learner(algorithm, data, same_models(data), **tiny(algorithm, critic_steps=STEPS, policy_steps=STEPS, memory=memory))
        )
    reference, other = learners
    for name, network in other._networks.items():
        network.parameters.copy_(reference._networks[name].parameters)
    start = parameters(reference).clone()
    drawn, found, expected = reference._draw(), [], []
    for number in range(STEPS):
        batch = drawn.one(number)
        expected += reference.step(batch).values()
        found += other.step(Batch(*(column.to(DEVICE) for column in batch.columns()))).values()
    for name, network in other._networks.items():
        found.append(network.parameters)
        expected.append(reference._networks[name].parameters)
    assert (parameters(reference) - start).abs().max() > 1e-3
    assert_close(f"{algorithm}, memory {memory}, both devices", found, expected)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_inspos_steps_are_those_of_a_cpu(changes):
    found, expected = [], []

    def on_both(fit: Fit) -> list[Tensor]:
        other = copied(fit, DEVICE)
        logged = fit_alone(fit)
        found.extend([*fit_alone(other), *changed_by(other)])
        expected.extend(tensor.clone() for tensor in [*logged, *changed_by(fit)])
        return logged

    algorithm = inspo(data_on("cpu"), fit=on_both, **changes)
    for _ in range(2):
        algorithm.iterate()
    assert_close(f"inspo {changes}, both devices", found, expected)


def test_xor_is_solved_on_the_device():
    data = ResidentTransitions(SETS["xor_b"](), DEVICE)
    algorithm = learner("inspo", data, estimated(data, 500), 20, hidden=[32, 32], batch_size=64, critic_steps=50)
    for _ in range(20):
        algorithm.iterate()
    assert parameters(algorithm).device.type == DEVICE
    greedy, sampled = (rollout(make_env("xor"), algorithm.policy(), 200, seed=0, greedy=greedy).returns.mean() for greedy in (True, False))
    print(f"\nreturn on XOR b: greedy {greedy}, sampled {sampled}", end=" ")
    assert greedy == GAMES["xor"].best and sampled > 0.9


def regression(network, target, constants, inputs, actions):
    values = network(inputs).gather(-1, actions).squeeze(-1)
    goals = constants[0] if target is None else target(inputs).detach().amax(-1).clamp(max=constants[0])
    return (values - goals).square().mean(-1), values.mean(-1)


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("agent", [None, 1])
def test_a_replayed_graph_does_what_the_steps_do(agent, memory):
    agents, inputs, actions, generator = 3, 4, 5, torch.Generator().manual_seed(2)
    networks = [stacked(agents, [inputs, 16, actions], memory, generator, "cpu") for _ in range(2)]
    batches = (6, 8) if agent is not None else (agents, 6, 8)
    columns = (
        torch.rand(*batches, *((memory, inputs + 1) if memory else (inputs,)), generator=generator),
        torch.randint(actions, (*batches, 1), generator=generator),
    )
    fit = Fit(RowOptimizers(networks[0], 0.01), agent, regression, columns, (1.5,), networks[1] if agent is None else None, 0.1)
    recorded, taken = copied(fit, DEVICE), copied(fit, DEVICE)
    found, expected = fit_alone(recorded), fit_step_by_step(taken)
    assert_close(f"a graph, agent {agent}, memory {memory}", [*found, *changed_by(recorded)], [*expected, *changed_by(taken)])


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("name", [name for name in ONE_BY_ONE if ALGORITHMS[name].load().recordable])
def test_iterations_of_replayed_steps_are_those_of_steps_one_by_one(name, memory):
    data, sizes = data_on(DEVICE), tiny(name, critic_steps=STEPS, policy_steps=STEPS, memory=memory)
    recorded, taken = (learner(name, data, same_models(data), **sizes) for _ in range(2))
    taken.recordable = False
    rows = [[algorithm.iterate() for _ in range(3)] for algorithm in (recorded, taken)]
    found, expected = ([*values(rows[i]), parameters(algorithm)] for i, algorithm in enumerate((recorded, taken)))
    assert_close(f"{name}, memory {memory}, graphs", found, expected)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_fits_replayed_are_those_of_steps_one_by_one(changes):
    found, expected = [], []

    def both(fit: Fit) -> list[Tensor]:
        other = copied(fit, DEVICE)
        logged = fit_alone(fit)
        found.extend(tensor.clone() for tensor in [*logged, *changed_by(fit)])
        expected.extend([*fit_step_by_step(other), *changed_by(other)])
        return logged

    inspo(data_on(DEVICE), fit=both, **changes).iterate()
    assert_close(f"inspo {changes}, graphs", found, expected)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_seeds_together_are_what_they_are_alone(changes):
    """Fit by fit: the draws that follow one depend on its last bits. A product of a stack may be another kernel than one of a matrix."""
    data, fits = data_on(DEVICE), {seed: [] for seed in SEEDS}
    for seed in SEEDS:

        def kept(fit: Fit) -> list[Tensor]:
            fits[seed].append(copied(fit, DEVICE))
            return fit_alone(fit)

        inspo(data, seed, kept, **changes).iterate()
    found, expected = [], []
    for of_seeds in zip(*fits.values(), strict=True):
        assert len({fit.kind for fit in of_seeds}) == 1
        alone = [copied(fit, DEVICE) for fit in of_seeds]
        for fit, logged, single in zip(of_seeds, fit_together(list(of_seeds)), alone, strict=True):
            expected += [*fit_alone(single), *changed_by(single)]
            found += [*logged, *changed_by(fit)]
    assert_close(f"inspo {changes}, seeds together", found, expected)


def test_seeds_in_threads_are_what_they_are_alone():
    data, found = data_on(DEVICE), {}

    def run(seed: int, fit: Fitter) -> None:
        algorithm = inspo(data, seed, fit)
        found[seed] = [*values([algorithm.iterate()]), parameters(algorithm)]

    assert not at_once([lambda fit, seed=seed: run(seed, fit) for seed in SEEDS])
    for seed in SEEDS:
        algorithm = inspo(data, seed)
        assert_close(f"inspo, seed {seed} in a thread", found[seed], [*values([algorithm.iterate()]), parameters(algorithm)])


def saved(state: dict, path: Path) -> dict:
    """``state`` as a checkpoint gives it back."""
    torch.save(state, path)
    return torch.load(path, weights_only=True, map_location="cpu")


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_resumed_run_has_the_same_bytes(name, memory, tmp_path):
    data = data_on(DEVICE)
    whole, half, resumed = (learner(name, data, same_models(data), seed=seed, **tiny(name, memory=memory)) for seed in (0, 0, 5))
    rows = [whole.iterate() for _ in range(4)]
    assert [half.iterate() for _ in range(2)] == rows[:2]
    resumed.load_state_dict(saved(half.state_dict(), tmp_path / "state.pt"))
    assert [resumed.iterate() for _ in range(2)] == rows[2:]
    assert torch.equal(parameters(resumed), parameters(whole))


def test_seeds_resumed_together_have_the_same_bytes(tmp_path):
    data, states, rows = data_on(DEVICE), {}, {}

    def run(seed: int, fit: Fitter, kind: str, sweeps: int) -> None:
        algorithm = inspo(data, seed, fit)
        if kind == "resumed":
            algorithm.load_state_dict(saved(states["half", seed], tmp_path / f"{seed}.pt"))
        rows[kind, seed] = [algorithm.iterate() for _ in range(sweeps)]
        states[kind, seed] = algorithm.state_dict()

    for kind, sweeps in (("whole", 4), ("half", 2), ("resumed", 2)):
        assert not at_once([lambda fit, seed=seed: run(seed, fit, kind, sweeps) for seed in SEEDS])
    for seed in SEEDS:
        assert rows["half", seed] + rows["resumed", seed] == rows["whole", seed]
        assert torch.equal(states["resumed", seed]["network"], states["whole", seed]["network"])
