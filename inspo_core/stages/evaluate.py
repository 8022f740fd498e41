"""The stage ``evaluate``: play episodes with the last policy of every seed, greedily and by sampling."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.config.learners import learner_of
from inspo_core.config.sections import EvaluateConfig, Params, source_of
from inspo_core.envs.rollouts import Rollouts
from inspo_core.envs.table import GAMES, Game
from inspo_core.errors import InspoError, quoted
from inspo_core.evaluations import summarise
from inspo_core.files import hash_of, remove, write_json
from inspo_core.identity import Identity, code_of
from inspo_core.records import HASHES, RECORD, check_run, read_record
from inspo_core.rng import stream_seed
from inspo_core.running.processes import SeedJob, SeedsFailed
from inspo_core.stages.playing import opened
from inspo_core.stages.seeded import Call, Stage, run_seeded


def identity(config: EvaluateConfig, game: Game, inputs: Mapping[str, str]) -> Identity:
    """What an evaluation is. ``inputs``: hashes of what was trained, the training itself and its policy."""
    return Identity("evaluate", config.model_dump(), {**inputs, "game": hash_of(game.rules)}, code_of("evaluate", game))


@dataclass(frozen=True, kw_only=True)
class EvaluateJob(SeedJob):
    """Writes ``metrics.json`` (averages over episodes: :data:`inspo_core.evaluations.METRICS`), ``episodes.csv``, ``run.json``.

    Both modes play the same ``config.episodes`` games. Their seeds, and those of the sampled actions, come from ``config.seed`` and the
    run's seed, in a stream that training never draws from.
    """

    policy: Path  # a seed's folder of the stage train
    env_name: str
    config: EvaluateConfig

    def run(self) -> None:
        from inspo_core.stages.artifacts import load_policy

        check_run(self.policy, "train")
        policy = load_policy(self.policy)
        with opened(self.env_name) as play:
            played = play(policy, self.config.episodes, stream_seed(self.config.seed, f"evaluate/seed-{self.seed}"))
        metrics = {
            f"{quantity}_{mode}": float(np.mean(values))
            for mode, episodes in played.items()
            for quantity, values in (("return", episodes.returns), ("success", episodes.success), ("length", episodes.lengths))
        }
        with self.result() as aside:
            write_json(aside / "metrics.json", metrics)
            _write_episodes(aside / "episodes.csv", played)

    @property
    def record(self) -> dict[str, Any]:
        return super().record | {"train_fingerprint": self.model, "env": self.env_name}


def _write_episodes(path: Path, played: dict[str, Rollouts]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["mode", "episode", "return", "length", "success"])
        for mode, episodes in played.items():
            columns = (episodes.returns.tolist(), episodes.lengths.tolist(), episodes.success.astype(int).tolist())
            writer.writerows([mode, episode, *row] for episode, row in enumerate(zip(*columns)))


def evaluate_stage(params: Params, dataset: str, name: str, train: Path, seeds: list[int], out: Path, call: Call = Call()) -> None:
    """Evaluate the last policy of every seed, ``train/seed_<k>``: ``out/seed_<k>`` and ``out/summary.json``."""
    learner, env_name = learner_of(name, params), source_of(dataset, params.ingest.sources).env
    game = GAMES.entry(env_name, f"parameter ingest.sources.{dataset}.env")
    labels = {"dataset": dataset, "algorithm": learner.algorithm, "variant": learner.variant}
    jobs = []
    for seed in seeds:
        policy = train / f"seed_{seed}"
        trained = _trained(policy, labels | {"stage": "train", "seed": seed})
        jobs.append(
            EvaluateJob(
                seed=seed,
                identity=identity(params.evaluate, game, {"train": trained["fingerprint"], **_policy_hashes(trained)}),
                labels=labels,
                out=out / f"seed_{seed}",
                model=trained["fingerprint"],
                shown={"train": trained["config"], "evaluate": params.evaluate.model_dump()},
                policy=policy,
                env_name=env_name,
                config=params.evaluate,
            )
        )
    stage = Stage("evaluate", dataset, learner, {"digest": trained["inputs"]["data"], "source": str(train)}, 1)
    try:
        run_seeded(stage, jobs, params, out, call)
    except SeedsFailed:
        _summarise(out, jobs, params)
        raise
    _summarise(out, jobs, params)


def _trained(policy: Path, labels: Mapping[str, Any]) -> dict[str, Any]:
    """What the training at ``policy`` says of itself. Raises InspoError if it is no training, or that of something else than ``labels``."""
    trained = read_record(policy, "train", fingerprint=str, config=dict, inputs=dict)
    if not isinstance(trained["inputs"].get("data"), str):
        raise InspoError(f"{policy / RECORD}: inputs does not say which data; run the train stage again")
    for field, expected in labels.items():
        if trained.get(field) != expected:
            raise InspoError(
                f"{policy / RECORD} says {field} {quoted(trained.get(field))} where {expected!r} is to be evaluated; "
                "give the folder of that training"
            )
    return trained


def _policy_hashes(trained: Mapping[str, Any]) -> dict[str, str]:
    return {name: trained[HASHES][name] for name in ("policy.safetensors", "policy.json")}


def _summarise(out: Path, jobs: list[EvaluateJob], params: Params) -> None:
    """Write ``summary.json`` of the finished seeds; there is none if no seed has finished."""
    if finished := [job.seed for job in jobs if job.is_done()]:
        summarise(out, finished, params.report)
    else:
        remove(out / "summary.json")
