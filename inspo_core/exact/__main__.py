"""``python -m inspo_core.exact --dataset xor_b``: exact sweeps on a dataset's behavior policy, as a table."""

import argparse
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from inspo_core.command import Parser, run
from inspo_core.datasets import read_dataset
from inspo_core.datasets.build import SETS
from inspo_core.envs import make_env
from inspo_core.exact.behavior import behavior_of
from inspo_core.exact.games import make_game
from inspo_core.exact.policies import expected_return, greedy, random_policies
from inspo_core.exact.solver import Settings, solve
from inspo_core.rng import numpy_stream


def main() -> None:
    parser = Parser(prog="python -m inspo_core.exact", description="InSPO without networks: exact sweeps, as a table.")
    parser.add_argument("--dataset", required=True, help=f"a folder in the native format, or one of {', '.join(SETS)}")
    parser.add_argument("--start", choices=["clones", "random"], default="clones", help="the first policies (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of random policies and orders (default: %(default)s)")
    types = get_type_hints(Settings)
    for field in fields(Settings):
        default = {"sweeps": 20, "alpha": 0.1}[field.name] if field.default is MISSING else field.default
        kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if types[field.name] is bool else {"type": type(default)}
        kind |= {"choices": choices} if (choices := get_args(types[field.name])) else {}
        parser.add_argument(f"--{field.name.replace('_', '-')}", default=default, help="(default: %(default)s)", **kind)
    arguments = parser.parse_args()
    show(arguments, Settings(**{field.name: getattr(arguments, field.name) for field in fields(Settings)}))


def show(arguments: argparse.Namespace, settings: Settings) -> None:
    """Solve and print a line a sweep, then the returns at the game's own time limit and the first state's policies."""
    dataset = SETS[arguments.dataset]() if arguments.dataset in SETS else read_dataset(Path(arguments.dataset), verify=True)
    game, limit = make_game(dataset.env), make_env(dataset.env).spec.time_limit
    start = random_policies(game, numpy_stream(arguments.seed, "exact/start")) if arguments.start == "random" else None
    solution = solve(game, behavior_of(game, dataset), settings, start, arguments.seed)
    print("sweep   alpha    beta          J    gained  by agent" + " " * (10 * game.n_agents - 8) + "      KL  entropy  outside   change")
    for number, line in enumerate(solution.history, start=1):
        gains = "".join(f"{gain:10.4f}" for gain in line.gains)
        after = line.after
        print(f"{number:5d}{line.alpha:8.3f}{line.beta:8.3f}{after.objective:11.5f}{after.objective - line.before:10.4f}{gains}", end="")
        print(f"{after.kl:8.3f}{after.entropy:9.3f}{after.outside:9.1e}{line.change:9.1e}")
    returns = [expected_return(game, policies, limit) for policies in (solution.policies, greedy(solution.policies))]
    print(f"return within {limit} steps: sampled {returns[0]:.4f}, greedy {returns[1]:.4f}; QRE residual {solution.residual:.1e}")
    for agent, policy in enumerate(solution.policies[int(np.argmax(game.start))]):
        print(f"agent {agent} in the first state: {' '.join(f'{probability:.4f}' for probability in policy)}")


if __name__ == "__main__":
    run(main)
