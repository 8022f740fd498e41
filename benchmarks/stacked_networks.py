"""How much one batched computation for all agents' networks gains over a list of modules.

    python -m benchmarks.stacked_networks

Prints, for several shapes, the median time of a training step (forward, backward, Adam) of the project's stacked networks and of plain
``torch.nn`` modules with one optimizer each, taken in turns in this one run, and their ratio. One thread, float32.
"""

import statistics
import time
from collections.abc import Callable

import torch

from inspo_core.algorithms.networks import RowOptimizers, StackedMLP

# name, agents, inputs, hidden widths, outputs, batch
SHAPES = [
    ("bridge", 2, 8, [64, 64], 5, 256),
    ("2s3z", 5, 80, [256, 256], 11, 128),
    ("6h_vs_8z", 6, 78, [256, 256], 14, 128),
]
ROUNDS, STEPS = 15, 20


def stacked_step(agents: int, sizes: list[int], inputs: torch.Tensor) -> Callable[[], None]:
    network = StackedMLP(agents, sizes, torch.Generator().manual_seed(0), "cpu")
    optimizers = RowOptimizers(network, 1e-3)
    return lambda: optimizers.step(network(inputs).square().mean(dim=(1, 2)).sum())


def plain_step(agents: int, sizes: list[int], inputs: torch.Tensor) -> Callable[[], None]:
    def network() -> torch.nn.Sequential:
        layers: list[torch.nn.Module] = []
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:]):
            layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers[:-1])

    networks = [network() for _ in range(agents)]
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-3) for network in networks]

    def step() -> None:
        for network, optimizer, own in zip(networks, optimizers, inputs):
            optimizer.zero_grad()
            network(own).square().mean().backward()
            optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    begin = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - begin) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'shape':10} {'plain ms':>9} {'stacked ms':>11} {'plain/stacked':>14}")
    for name, agents, inputs, hidden, outputs, batch in SHAPES:
        sizes = [inputs, *hidden, outputs]
        data = torch.randn(agents, batch, inputs)
        steps = {"plain": plain_step(agents, sizes, data), "stacked": stacked_step(agents, sizes, data)}
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for _ in range(ROUNDS):
            for kind, step in steps.items():
                times[kind].append(seconds(step))
        plain, stacked = (1e3 * statistics.median(times[kind]) for kind in ("plain", "stacked"))
        print(f"{name:10} {plain:9.2f} {stacked:11.2f} {plain / stacked:14.2f}")


if __name__ == "__main__":
    main()
