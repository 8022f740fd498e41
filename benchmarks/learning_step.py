"""How fast a learning step is, against plain code and against the matrix products that it cannot do without.

    python -m benchmarks.learning_step

For the shapes of two StarCraft tasks, on one thread in float32: the project's step, the same step in the style of public code
(``plain.py``: modules, optimizers and loops an agent), and the step's matrix products alone, taken in turns in this one run. A step of
InSPO is a sweep over all agents on one batch: the critics' evaluation, then for each agent in turn the refit of its critic to the teammates
already updated, its weights and its policy. Printed are medians of the processor's and the wall clock's time, and ratios.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.plain import Draws, PlainInSPO
from benchmarks.plain_values import PlainCFCQL, PlainOMIGA
from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.inspo.critics import Pool, Temperatures
from inspo_core.algorithms.inspo.sweep import InSPO
from inspo_core.algorithms.learner import BatchLearner
from inspo_core.algorithms.mixing import TwoLayerMixing
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.algorithms.transitions import ResidentTransitions, Transitions
from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.config.sections import VariantConfig
from inspo_core.datasets import EpisodeDataset

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


@dataclass(frozen=True)
class Shape:
    agents: int
    observation: int
    state: int
    actions: int


SHAPES = {"2s3z": Shape(5, 80, 120, 11), "6h_vs_8z": Shape(6, 78, 140, 14)}
HIDDEN, BATCH = [256, 256], 128
SWEEP = {"pool_size": BATCH, "critic_steps": 1, "refit_steps": 1, "policy_steps": 1, "behavior_model": "product"}


def random_data(shape: Shape, count: int = 4 * BATCH, device: str = "cpu") -> Transitions:
    """One long episode of standard normal features, random actions, rewards, masks and terminations."""
    rng = np.random.default_rng(0)
    rows = count + 1
    available = rng.random((rows, shape.agents, shape.actions)) < 0.7
    available[..., 0] |= ~available.any(axis=2)
    dataset = EpisodeDataset(
        name="random",
        env="made",
        n_actions=shape.actions,
        observations=rng.standard_normal((rows, shape.agents, shape.observation), dtype=np.float32),
        states=rng.standard_normal((rows, shape.state), dtype=np.float32),
        available_actions=available,
        actions=(rng.random(available.shape) * available).argmax(axis=2)[:-1],
        rewards=rng.standard_normal(count, dtype=np.float32),
        terminations=rng.random(count) < 0.05,
        truncations=np.zeros(count, dtype=bool),
        behavior_log_probs=None,
        episode_offsets=np.array([0, count]),
    )
    return ResidentTransitions(dataset, device)


class RecordedInSPO(InSPO):
    """InSPO that keeps what its last sweep drew, so that plain code can repeat the sweep."""

    def __init__(self, setup: Setup, config: InSPOConfig):
        super().__init__(setup, config)
        draw = self._critics._draw

        def recorded(ratios: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
            drawn, weights = draw(ratios, steps)
            if len(drawn) == self._data.n_agents:
                self.draws.critics = drawn
            else:
                self.draws.refits.append(drawn[0])
            return drawn, weights

        self._critics._draw = recorded

    def _draw_pool(self, temperatures: Temperatures) -> Pool:
        pool = super()._draw_pool(temperatures)
        every = self._data.rows(torch.arange(len(self._data)))
        self.draws = Draws(torch.searchsorted(every, pool.rows), [], torch.empty(0), [], [])
        return pool

    def _order(self) -> list[int]:
        self.draws.order = super()._order()
        return self.draws.order

    def _draw_batches(self, size: int) -> torch.Tensor:
        self.draws.policies.append(super()._draw_batches(size))
        return self.draws.policies[-1]


def inspo_pair(shape: Shape, config: InSPOConfig) -> tuple[RecordedInSPO, PlainInSPO]:
    """The project's InSPO and the plain one, with the same weights and data."""
    data = random_data(shape)
    models = BehaviorModels.create(data, HIDDEN, 0, torch.Generator().manual_seed(1))
    fast = RecordedInSPO(Setup(data, lambda: models, 10**6, 0, "cpu"), config)
    return fast, PlainInSPO(data, config, fast._network, fast._critics.network, models.local, fast._reward_scale)


def products(shape: Shape, agents: int, inputs: int, outputs: int, forwards: int, backwards: int) -> Callable[[], None]:
    """The matrix products of ``forwards`` evaluations and ``backwards`` differentiations of ``agents`` networks at once."""
    sizes = [inputs, *HIDDEN, outputs]
    weights = [torch.randn(agents, i, o) for i, o in pairwise(sizes)]
    values = [torch.randn(agents, BATCH, width) for width in sizes]
    forward = [torch.empty(agents, BATCH, width) for width in sizes[1:]]
    gradients = [torch.empty_like(weight) for weight in weights]
    back = [torch.empty(agents, BATCH, width) for width in sizes[:-1]]

    def run() -> None:
        for _ in range(forwards):
            for layer, weight in enumerate(weights):
                torch.bmm(values[layer], weight, out=forward[layer])
        for _ in range(backwards):
            for layer, weight in enumerate(weights):
                torch.bmm(values[layer].mT, forward[layer], out=gradients[layer])
                if layer:
                    torch.bmm(forward[layer], weight.mT, out=back[layer])

    return run


def limit_of_inspo(shape: Shape) -> Callable[[], None]:
    """What a sweep on one batch cannot do without, all agents at once wherever the order of the turns allows."""
    together = [
        products(shape, shape.agents, shape.observation, shape.actions, forwards=2, backwards=0),  # pi at s and s'
        products(shape, shape.agents, shape.state, shape.actions, forwards=2, backwards=1),  # Q' at s', Q and its gradient
    ]
    refit = products(shape, 1, shape.state, shape.actions, forwards=2, backwards=1)  # Q', Q and its gradient, in every turn but the first
    turn = [
        products(shape, 1, shape.state, shape.actions, forwards=1, backwards=0),  # Q for the weights
        products(shape, 1, shape.observation, shape.actions, forwards=2, backwards=1),  # pi and its gradient; pi after it
    ]
    parts = [*together, *(turn * shape.agents), *([refit] * (shape.agents - 1))]
    return lambda: [part() for part in parts]


def compare(steps: Mapping[str, Callable[[], None]], rounds: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a step, of the processor and of the wall clock; the steps take turns, round by round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            processor, wall = time.process_time(), time.perf_counter()
            for _ in range(repeats):
                step()
            times[name].append(((time.process_time() - processor) / repeats * 1e3, (time.perf_counter() - wall) / repeats * 1e3))
    return {name: tuple(statistics.median(column) for column in zip(*values[1:])) for name, values in times.items()}  # the first warms up


def batch_learner(algorithm: str, shape: Shape, steps: int = 1) -> BatchLearner:
    """OMIGA or CFCQL on random data, ``steps`` an iteration."""
    data = random_data(shape)
    models = BehaviorModels.create(data, HIDDEN, 0, torch.Generator().manual_seed(1))
    made: BatchLearner = ALGORITHMS[algorithm].load()(Setup(data, lambda: models, 1, 0, "cpu"), config_of(algorithm, critic_steps=steps))
    return made


def limit_of_omiga(shape: Shape) -> Callable[[], None]:
    n, o, s = shape.agents, shape.observation, shape.state
    parts = [
        products(shape, n, o, shape.actions, forwards=3, backwards=2),  # Q, its target and the policy
        products(shape, n, o, 1, forwards=2, backwards=1),  # V and its target at s'
        products(shape, 1, s, n + 1, forwards=3, backwards=1),  # the mixing's networks
    ]
    return lambda: [part() for part in parts]


def limit_of_cfcql(shape: Shape) -> Callable[[], None]:
    outputs = TwoLayerMixing.outputs(shape.agents, config_of("cfcql").mixing_width)
    parts = [
        products(shape, shape.agents, shape.observation, shape.actions, forwards=3, backwards=1),  # Q at s, at s', its target at s'
        products(shape, 1, shape.state, outputs, forwards=2, backwards=1),
    ]
    return lambda: [part() for part in parts]


def steps_of(algorithm: str, shape: Shape) -> dict[str, Callable[[], object]]:
    """The project's step, the plain one and the matrix products alone, of one algorithm."""
    if algorithm == "inspo":
        config = config_of("inspo", **SWEEP)
        fast, plain = inspo_pair(shape, config)
        fast.iterate()
        return {
            "project": fast.iterate,
            "plain": lambda: plain.sweep(None, config.alpha, config.beta),
            "products": limit_of_inspo(shape),
        }
    learner = batch_learner(algorithm, shape)
    reference = {"omiga": PlainOMIGA, "cfcql": PlainCFCQL}[algorithm](learner)
    batch = learner._draw().one(0)
    limit = {"omiga": limit_of_omiga, "cfcql": limit_of_cfcql}[algorithm](shape)
    return {"project": learner.iterate, "plain": lambda: reference.step(batch), "products": limit}


def config_of(algorithm: str, **changes: object) -> Any:
    """The parameters of ``params.yaml`` with the sizes of this benchmark and other changes, of shared keys or the algorithm's own."""
    variant = VariantConfig(algorithm=algorithm, **{"hidden": HIDDEN, "batch_size": BATCH, **changes})
    return learner_of("changed", load_params(PARAMS).model_copy(update={"variants": {"changed": variant}})).config


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning_step", description="Time learning steps side by side.")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each step (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="steps in a turn (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, 1 thread, hidden {HIDDEN}, batch {BATCH}")
    print("milliseconds a step: processor's time, wall clock's in brackets\n")
    print(
        f"{'shape':10}{'step':8}{'plain':>18}{'project':>18}{'products':>18}{'plain/project':>15}{'project/products':>18}{'sweep/OMIGA':>13}"
    )
    for name, shape in SHAPES.items():
        every = {
            f"{algorithm} {kind}": step for algorithm in ("omiga", "inspo", "cfcql") for kind, step in steps_of(algorithm, shape).items()
        }
        times = compare(every, arguments.rounds, arguments.repeats)
        for algorithm in ("inspo", "omiga", "cfcql"):
            plain, project, limit = (times[f"{algorithm} {kind}"] for kind in ("plain", "project", "products"))
            row = "".join(f"{processor:9.2f} ({wall:6.2f})" for processor, wall in (plain, project, limit))
            ratios = f"{plain[0] / project[0]:15.2f}{project[0] / limit[0]:18.2f}"
            sweep = f"{project[0] / times['omiga project'][0]:13.2f}" if algorithm == "inspo" else ""
            print(f"{name:10}{algorithm:8}{row}{ratios}{sweep}")
        learner = batch_learner("omiga", shape, steps=20)
        (draw, _), (iteration, _) = compare({"draw": learner._draw, "iteration": learner.iterate}, arguments.rounds, 1).values()
        print(f"{name:10}drawing the batches is {100 * draw / iteration:.1f} % of an iteration of OMIGA")


if __name__ == "__main__":
    main()
