"""Several runs' gradient steps as one batched computation: every run does what it does alone, to the bit."""

import pytest
import torch

from inspo_core.algorithms import seed_batching
from inspo_core.algorithms.base import Algorithm
from inspo_core.algorithms.behavior_estimation import BehaviorEstimation, split_episodes
from inspo_core.algorithms.networks import RowOptimizers, StackedMLP
from inspo_core.algorithms.seed_batching import Fit, Fitter, fit_alone
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.running.loop import run_loop
from tests.algorithms.games import TINY, at_once, behavior_config, learner, ragged_data, random_models, tiny

SEEDS = (0, 1, 2)
SWEEPS = 4
# Below 400 multiplications a product PyTorch has another kernel for stacks of matrices than for single ones, with other last bits.
SIZES = {**TINY, "hidden": [16], "batch_size": 64}
VARIANTS = [
    {},
    {"update": "simultaneous"},
    {"q": "joint"},
    {"behavior_model": "product", "importance": "reweight", "order": "fixed"},
    {"memory": 3},
    {"alpha_schedule": "tuned", "refit_steps": 0},
]


@pytest.fixture(scope="module")
def data() -> Transitions:
    return ResidentTransitions(ragged_data(40), "cpu")


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Of how many fits each computation was."""
    seen, compute = [], seed_batching.fit_together

    def counted(asked: list[Fit]) -> list[list[torch.Tensor]]:
        seen.append(len(asked))
        return compute(asked)

    monkeypatch.setattr(seed_batching, "fit_together", counted)
    return seen


def inspo(data: Transitions, seed: int, fit: Fitter = fit_alone, **changes: object) -> Algorithm:
    return learner("inspo", data, random_models(data, seed), iterations=SWEEPS, seed=seed, fit=fit, **{**SIZES, **changes})


def assert_same(one: object, other: object) -> None:
    """Of states and metrics: nested containers of tensors and numbers."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, list):
        for mine, others in zip(one, other, strict=True):
            assert_same(mine, others)
    else:
        assert one == other


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_seeds_together_are_what_they_are_alone(data, sizes, changes):
    alone = {seed: inspo(data, seed, **changes) for seed in SEEDS}
    expected = {seed: [algorithm.iterate() for _ in range(SWEEPS)] for seed, algorithm in alone.items()}
    states, metrics = {}, {}

    def run(seed: int, fit: Fitter) -> None:
        algorithm = inspo(data, seed, fit, **changes)
        metrics[seed] = [algorithm.iterate() for _ in range(SWEEPS)]
        states[seed] = algorithm.state_dict()

    assert not at_once([lambda fit, seed=seed: run(seed, fit) for seed in SEEDS])
    assert sizes and set(sizes) == {len(SEEDS)}
    assert metrics == expected
    for seed in SEEDS:
        assert_same(states[seed], alone[seed].state_dict())


@pytest.mark.parametrize("memory", [0, 3])
def test_behavior_models_of_seeds_together_are_what_they_are_alone(sizes, memory):
    dataset = ragged_data(40)
    data, config = ResidentTransitions(dataset, "cpu"), behavior_config(hidden=[16], batch_size=64, steps=8, check_every=4, memory=memory)

    def estimation(seed: int, fit: Fitter = fit_alone) -> BehaviorEstimation:
        return BehaviorEstimation(data, split_episodes(dataset, 0.2, seed, "cpu"), config, seed, "cpu", fit)

    alone = {seed: estimation(seed) for seed in SEEDS}
    expected = {seed: [one.iterate(), one.iterate(), one.finish()] for seed, one in alone.items()}
    states, metrics = {}, {}

    def run(seed: int, fit: Fitter) -> None:
        one = estimation(seed, fit)
        metrics[seed] = [one.iterate(), one.iterate(), one.finish()]
        states[seed] = one.state_dict()

    assert not at_once([lambda fit, seed=seed: run(seed, fit) for seed in SEEDS])
    assert sizes and set(sizes) == {len(SEEDS)}
    assert metrics == expected
    for seed in SEEDS:
        assert_same(states[seed], alone[seed].state_dict())


def test_a_fit_takes_each_step_at_its_own_rate():
    """Adam's first step is as long as the learning rate, and those after it nearly so where the gradient stays."""
    network = StackedMLP(1, [1, 1], torch.Generator(), "cpu")
    seen = [network.parameters.clone()]

    def loss(forward, target, constants, inputs):
        seen.append(network.parameters.clone())
        return (forward(inputs).sum((1, 2)),)

    fit_alone(Fit(RowOptimizers(network, 1.0), None, loss, (torch.ones(1, 3, 1, 1),), rates=(0.1, 0.02, 0.0)))
    steps = [(after - before).abs().max().item() for before, after in zip(seen[1:], [*seen[2:], network.parameters])]
    assert steps == pytest.approx([0.1, 0.02, 0.0], rel=1e-3, abs=1e-6)


def test_runs_that_end_early_or_are_ahead_hold_up_none_and_change_none(data, sizes):
    sweeps = {0: 4, 1: 1, 2: 3}
    alone = {seed: inspo(data, seed) for seed in SEEDS}
    states = {}

    def run(seed: int, fit: Fitter) -> None:
        algorithm = inspo(data, seed, fit)
        if seed == 2:  # as after a restart from its checkpoint; its learning rate and temperatures are those of a later sweep
            ahead = inspo(data, seed)
            ahead.iterate()
            algorithm.load_state_dict(ahead.state_dict())
        for _ in range(sweeps[seed] - (seed == 2)):
            algorithm.iterate()
        states[seed] = algorithm.state_dict()

    assert not at_once([lambda fit, seed=seed: run(seed, fit) for seed in SEEDS])
    assert {1, 2} <= set(sizes)
    for seed in SEEDS:
        for _ in range(sweeps[seed]):
            alone[seed].iterate()
        assert_same(states[seed], alone[seed].state_dict())


def test_a_run_that_fails_fails_alone(data):
    left = {}

    def run(seed: int, fit: Fitter) -> None:
        algorithm = inspo(data, seed, fit)
        algorithm.iterate()
        if seed == 1:
            raise RuntimeError("seed 1")
        algorithm.iterate()
        left[seed] = algorithm.state_dict()

    assert [str(error) for error in at_once([lambda fit, seed=seed: run(seed, fit) for seed in SEEDS])] == ["seed 1"]
    assert left.keys() == {0, 2}
    alone = inspo(data, 2)
    alone.iterate()
    alone.iterate()
    assert_same(left[2], alone.state_dict())


def test_a_computation_that_fails_fails_for_all_that_share_it(data, monkeypatch):
    def full(asked: list[Fit]) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(seed_batching, "fit_together", full)
    raised = at_once([lambda fit, seed=seed: inspo(data, seed, fit).iterate() for seed in SEEDS])
    assert [str(error) for error in raised] == ["no room"] * len(SEEDS)


@pytest.mark.parametrize(
    "algorithm, changes",
    [("inspo", {}), ("inspo", {"update": "simultaneous"}), ("inspo", {"q": "joint"}), ("inspo", {"refit_steps": 0}), ("alberdice", {})],
)
def test_policies_that_became_nan_are_said_to_be(data, tmp_path, algorithm, changes):
    sizes = tiny(algorithm, hidden=[16], batch_size=64, learning_rate=1e38)
    algorithm = learner(algorithm, data, random_models(data, 0), **{**sizes, **changes})
    with pytest.raises(Exception, match=r"metrics.jsonl: .* in iteration \d; lower the learning rate"):
        run_loop(algorithm, SWEEPS, tmp_path, "name")
