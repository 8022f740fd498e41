"""Sequential against simultaneous updates without networks: the exact solver's rows beside an experiment's ablations.

Networks blur the comparison (docs/decisions.md): the noise of batches and finite steps end the circles in which simultaneous turns run.
The exact solver (docs/exact.md) takes the same turns in closed form, on the experiment's own datasets, seeds and temperatures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.datasets import EpisodeDataset, read_dataset
from inspo_core.envs import make_env
from inspo_core.errors import InspoError
from inspo_core.exact.behavior import behavior_of
from inspo_core.exact.games import make_game
from inspo_core.exact.policies import expected_return, greedy, random_policies
from inspo_core.exact.solver import Settings, solve
from inspo_core.files import read_json
from inspo_core.report.tables import with_interval, with_spread
from inspo_core.rng import numpy_stream
from inspo_core.statistics import Estimate, estimate

PAIR = ("inspo", "inspo_simultaneous")  # the experiment has rows here if it has both
STARTS = {"random": "random", "clones": "the clones"}
CONFIDENCE, RESAMPLES = 0.95, 10_000
CIRCLING = 0.5  # total variation by which a policy still changes in the last sweep


@dataclass(frozen=True)
class Solved:
    """One update on one dataset from one start, all seeds."""

    greedy: np.ndarray  # (S,), returns of the last policies
    sampled: np.ndarray  # (S,)
    circling: int  # seeds whose policies still change


def exact_rows(experiment: Path, datasets: list[str], seeds: list[int]) -> list[str]:
    """The section's Markdown paragraphs, from the ingested data and the recorded parameters of ``experiment``'s trainings."""
    header = ["Dataset", "Start", "Entropy", "Sequential, greedy", "Simultaneous, greedy", "Sequential, sampled", "Simultaneous, sampled"]
    header += ["Apart", "Circling"]
    lines, without = [header, ["---"] * len(header)], []
    for name in datasets:
        trained = sorted((experiment / "train" / name / PAIR[0]).glob("seed_*/run.json"))  # any seed: they have the same parameters
        try:
            if not trained:
                raise InspoError(f"{PAIR[0]} has no run")
            config = read_json(trained[0])["config"]
            lines += compare_updates(read_dataset(experiment / "ingest" / name), config, seeds)
        except InspoError as error:
            without.append(f"No row for {name}: {error}.")
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return ["### Sequential against simultaneous, exactly", explanation(len(seeds)), table, *without]


def explanation(seeds: int) -> str:
    return (
        "The same comparison without networks: the exact solver of [exact.md](exact.md), with the number of sweeps and the temperatures of "
        f"the experiment's own trainings. {seeds} seeds; a seed is a bootstrap resample of the dataset's episodes, from which μ and the "
        "clones are counted, the agents' order in every sweep, and for random starts the first policies (every one a flat Dirichlet draw). "
        "Both updates have the same ones. Exact returns of the last policies; each entry: interquartile mean over seeds "
        f"[{CONFIDENCE * 100:g} % bootstrap interval, {RESAMPLES} resamples over seeds], then mean ± standard deviation. *Apart*: whether "
        "the intervals of the sampled returns are apart, and which update is above. *Circling*: seeds in which some policy still changes "
        f"by more than {CIRCLING} (total variation) in the last sweep, sequential and simultaneous."
    )


def compare_updates(dataset: EpisodeDataset, config: Mapping[str, Any], seeds: list[int]) -> list[list[str]]:
    """A table's line for each start, with the entropy of ``config`` (a training's parameters) and without.

    Raises InspoError where there is no exact form of the game or of the parameters.
    """
    settings = settings_of(config, float(np.abs(dataset.rewards).max()))
    lines = []
    for start, called in STARTS.items():
        for schedule in dict.fromkeys([settings.beta_schedule, "none"]):
            found = [
                solve_seeds(dataset, replace(settings, beta_schedule=schedule, update=update), start, seeds, config["gamma"])
                for update in ("sequential", "simultaneous")
            ]
            greedy_ones, sampled = ([_estimate(getattr(one, mode)) for one in found] for mode in ("greedy", "sampled"))
            circling = " and ".join(str(one.circling) for one in found) + f" of {len(seeds)}"
            lines.append([dataset.name, called, schedule, *map(_cell, greedy_ones + sampled), _apart(*sampled), circling])
    return lines


def settings_of(config: Mapping[str, Any], largest_reward: float) -> Settings:
    """The solver's settings for a training's parameters; temperatures are in units of the reward here."""
    scale = largest_reward if config["reward_scale"] == "max_abs" else 1.0
    same = ("alpha_schedule", "beta_schedule", "entropy_in_value", "anneal_fraction", "order", "behavior")
    return Settings(
        sweeps=config["iterations"],
        alpha=config["alpha"] * scale,
        alpha_final=config["alpha_final"] * scale,
        beta=config["beta"] * scale,
        **{name: config[name] for name in same},
    )


def solve_seeds(dataset: EpisodeDataset, settings: Settings, start: str, seeds: list[int], gamma: float = 0.99) -> Solved:
    """Solve once a seed, each on its own bootstrap resample of the episodes."""
    game, limit = make_game(dataset.env, gamma), make_env(dataset.env).spec.time_limit
    returns, circling = [], 0
    for seed in seeds:
        drawn = numpy_stream(seed, "exact/episodes").integers(dataset.n_episodes, size=dataset.n_episodes)
        behavior = behavior_of(game, dataset, np.bincount(drawn, minlength=dataset.n_episodes))
        first = random_policies(game, numpy_stream(seed, "exact/start")) if start == "random" else None
        solution = solve(game, behavior, settings, first, seed)
        returns.append([expected_return(game, policies, limit) for policies in (greedy(solution.policies), solution.policies)])
        circling += solution.history[-1].change > CIRCLING
    return Solved(*np.array(returns).T, circling)


def _estimate(values: np.ndarray) -> Estimate:
    return estimate([values], CONFIDENCE, RESAMPLES)


def _cell(found: Estimate) -> str:
    return f"{with_interval(found, 'return')}<br>{with_spread(found, 'return')}".replace(" [", "<br>[")


def _apart(sequential: Estimate, simultaneous: Estimate) -> str:
    above, below = sequential.is_above(simultaneous), simultaneous.is_above(sequential)
    if above is None or below is None:
        return "no interval"
    return "sequential above" if above else "simultaneous above" if below else "no"
