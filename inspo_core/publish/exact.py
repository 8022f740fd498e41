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
from inspo_core.report.results import Results
from inspo_core.report.tables import markdown_table
from inspo_core.report.wording import iqm_text, mean_text
from inspo_core.rng import numpy_stream
from inspo_core.statistics import Estimate, estimate

PAIR = ("inspo", "inspo_simultaneous")  # names of an experiment's entries
STARTS = {"random": "random", "clones": "the clones"}
CONFIDENCE, RESAMPLES = 0.95, 10_000
CIRCLING = 0.5  # total variation by which a policy still changes in the last sweep


@dataclass(frozen=True)
class Solved:
    """One update on one dataset from one start, all seeds."""

    greedy: np.ndarray  # (S,), returns of the last policies
    sampled: np.ndarray  # (S,)
    circling: int  # seeds whose policies still change


@dataclass(frozen=True)
class Compared:
    """Both updates on one dataset from one start, with one entropy schedule."""

    dataset: str
    start: str  # one of STARTS
    entropy: str
    sequential: Solved
    simultaneous: Solved


def has_both_updates(results: Results) -> bool:
    """Whether the experiment compares the two updates, so that the exact comparison belongs beside it."""
    return set(PAIR) <= set(results.names)


def compare_experiment(experiment: Path, results: Results) -> tuple[list[Compared], dict[str, str]]:
    """Solve every dataset of ``experiment`` from the ingested data and its trainings' recorded parameters; takes minutes.

    Returns the comparisons, and why there is none of the datasets that are not among them.
    """
    compared, without = [], {}
    for name in sorted(results.datasets):
        cell = results.cell(name, PAIR[0])
        try:
            if not cell.seeds:
                raise InspoError(f"{PAIR[0]} has no run")
            compared += compare_updates(read_dataset(experiment / "ingest" / name), cell.config, sorted(results.seeds))
        except InspoError as error:
            without[name] = str(error)
    return compared, without


def exact_blocks(compared: list[Compared], without: dict[str, str], seeds: int) -> list[str]:
    """The section in Markdown, of what :func:`compare_experiment` found."""
    header = ["Dataset", "Start", "Entropy", "Sequential, greedy", "Simultaneous, greedy", "Sequential, sampled", "Simultaneous, sampled"]
    table = markdown_table([*header, "Apart", "Circling"], map(exact_line, compared))
    missing = [f"No row for {name}: {reason}." for name, reason in without.items()]
    return ["### Sequential against simultaneous, exactly", explanation(seeds), table, *missing]


def exact_line(compared: Compared) -> list[str]:
    """A comparison's line in the table."""
    pair = (compared.sequential, compared.simultaneous)
    greedy_ones, sampled = ([_estimate(getattr(one, mode)) for one in pair] for mode in ("greedy", "sampled"))
    circling = f"{pair[0].circling} and {pair[1].circling} of {len(pair[0].greedy)}"
    cells = map(_cell, greedy_ones + sampled)
    return [compared.dataset, STARTS[compared.start], compared.entropy, *cells, _apart(*sampled), circling]


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


def compare_updates(dataset: EpisodeDataset, config: Mapping[str, Any], seeds: list[int]) -> list[Compared]:
    """Both updates from each start, with the entropy of ``config`` (a training's parameters) and without.

    Raises InspoError where there is no exact form of the game or of the parameters.
    """
    settings = settings_of(config, float(np.abs(dataset.rewards).max()))
    compared = []
    for start in STARTS:
        for schedule in dict.fromkeys([settings.beta_schedule, "none"]):
            sequential, simultaneous = (
                solve_seeds(dataset, replace(settings, beta_schedule=schedule, update=update), start, seeds, config["gamma"])
                for update in ("sequential", "simultaneous")
            )
            compared.append(Compared(dataset.name, start, schedule, sequential, simultaneous))
    return compared


def settings_of(config: Mapping[str, Any], largest_reward: float) -> Settings:
    """The solver's settings for a training's parameters; temperatures are in units of the reward here.

    Raises InspoError for parameters that are not InSPO's, or have no exact form.
    """
    same = ("alpha_schedule", "beta_schedule", "entropy_in_value", "anneal_fraction", "order", "behavior_model")
    if missing := {"iterations", "reward_scale", "gamma", "alpha", "alpha_final", "beta", *same} - config.keys():
        raise InspoError(f"its trainings have no parameter {', '.join(sorted(missing))}; train them again")
    scale = largest_reward if config["reward_scale"] == "max_abs" else 1.0
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
    greedy_returns, sampled_returns, circling = np.empty(len(seeds)), np.empty(len(seeds)), 0
    for place, seed in enumerate(seeds):
        drawn = numpy_stream(seed, "exact/episodes").integers(dataset.n_episodes, size=dataset.n_episodes)
        behavior = behavior_of(game, dataset, np.bincount(drawn, minlength=dataset.n_episodes))
        first = random_policies(game, numpy_stream(seed, "exact/start")) if start == "random" else None
        solution = solve(game, behavior, settings, first, seed)
        greedy_returns[place] = expected_return(game, greedy(solution.policies), limit)
        sampled_returns[place] = expected_return(game, solution.policies, limit)
        circling += int(solution.history[-1].change > CIRCLING)
    return Solved(greedy_returns, sampled_returns, circling)


def _estimate(values: np.ndarray) -> Estimate:
    return estimate([values], CONFIDENCE, RESAMPLES)


def _cell(found: Estimate) -> str:
    return f"{iqm_text(found, 'return')}<br>{mean_text(found, 'return')}".replace(" [", "<br>[")


def _apart(sequential: Estimate, simultaneous: Estimate) -> str:
    above, below = sequential.is_above(simultaneous), simultaneous.is_above(sequential)
    if above is None or below is None:
        return "no interval"
    return "sequential above" if above else "simultaneous above" if below else "no"
