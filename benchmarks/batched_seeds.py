"""How much faster several seeds of InSPO are as one batched model than one after another.

    python -m benchmarks.batched_seeds

A sweep of every seed, alone and together, taken in turns in this one run, with the default parameters and a product behavior policy;
networks and batches of the small games and of StarCraft tasks. Printed are medians of the wall clock's time a seed and sweep, and ratios.
On one thread of a processor; ``gpu.sh`` measures a GPU.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.learning_step import SHAPES, Shape, config_of, random_data
from inspo_core.algorithms.base import Setup
from inspo_core.algorithms.behavior_models import BehaviorModels
from inspo_core.algorithms.configs import InSPOConfig
from inspo_core.algorithms.inspo.sweep import InSPO
from inspo_core.algorithms.seed_batching import Fitter, Together, fit_alone
from inspo_core.algorithms.transitions import Transitions

SIZES: dict[str, dict[str, Any]] = {"game": {"hidden": [64, 64], "batch_size": 256}, "2s3z": {}}
GAME = Shape(agents=2, observation=4, state=8, actions=5)


class Seeds:
    """Runs on the same data, each with a seed of its own."""

    def __init__(self, config: InSPOConfig, data: Transitions, count: int):
        device = str(data.device)
        models = BehaviorModels.create(data, config.hidden, 0, torch.Generator(device).manual_seed(1))
        self._fit: Fitter = fit_alone  # exchanged between sweeps
        self._runs = [InSPO(Setup(data, lambda: models, 50, seed, device, lambda fit: self._fit(fit)), config) for seed in range(count)]

    def alone(self, fit: Fitter = fit_alone) -> None:
        self._fit = fit
        for run in self._runs:
            run.iterate()

    def together(self) -> None:
        together = Together(len(self._runs))
        self._fit = together.fit

        def sweep(run: InSPO) -> None:
            with together.run():
                run.iterate()

        threads = [threading.Thread(target=sweep, args=(run,)) for run in self._runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batched_seeds", description="Time seeds together and one by one.")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 5, 20], help="how many seeds (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print(f"milliseconds a seed and sweep\n\n{'size':10}{'seeds':>6}{'one by one':>12}{'together':>12}{'ratio':>8}")
    for size, changes in SIZES.items():
        config = config_of("inspo", behavior_model="product", **changes)
        data = random_data(SHAPES.get(size, GAME), 4 * config.pool_size)
        for count in arguments.seeds:
            seeds = Seeds(config, data, count)
            seeds.alone(), seeds.together()
            rounds = [(seconds(seeds.alone), seconds(seeds.together)) for _ in range(arguments.rounds)]
            alone, together = (1000 * statistics.median(times) / count for times in zip(*rounds))
            print(f"{size:10}{count:6}{alone:12.1f}{together:12.1f}{alone / together:8.2f}")


if __name__ == "__main__":
    main()
