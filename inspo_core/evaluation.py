"""Evaluating trained policies: episodes, their averages, and the summary over seeds."""

import csv
import math
from pathlib import Path

import numpy as np

from inspo_core.config import EvaluateConfig, ReportConfig
from inspo_core.envs import make_env
from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, read_json, write_json
from inspo_core.fingerprint import file_hash, fingerprint
from inspo_core.rng import stream_seed
from inspo_core.rollouts import Rollouts, rollout
from inspo_core.statistics import estimate

MODES = ("greedy", "sampled")
METRICS = tuple(f"{quantity}_{mode}" for quantity in ("return", "success", "length") for mode in MODES)


def evaluation_fingerprint(env_name: str, policy_dir: Path, config: EvaluateConfig) -> str:
    """The name of the evaluation of the policy in ``policy_dir``: its training and content, the game, the parameters, the code.

    Raises InspoError if there is no whole policy.
    """
    inputs = {"env": env_name, "train": _trained(policy_dir)["fingerprint"]}
    for name in ("policy.safetensors", "policy.json"):
        if not (policy_dir / name).is_file():
            raise InspoError(f"{policy_dir / name} is missing; run the train stage first")
        inputs[name] = file_hash(policy_dir / name)
    return fingerprint("evaluate", config.model_dump(), inputs)


def _trained(policy_dir: Path) -> dict:
    path = policy_dir / "run.json"
    trained = read_json(path)
    if not isinstance(trained, dict) or not isinstance(trained.get("fingerprint"), str):
        raise InspoError(f"{path} has no fingerprint; run the train stage again")
    return trained


def evaluate_seed(
    env_name: str,
    policy_dir: Path,
    dataset: str,
    algorithm: str,
    variant: str,
    seed: int,
    config: EvaluateConfig,
    out: Path,
) -> dict[str, float]:
    """Play a trained policy greedily and by sampling; write ``out`` and return its metrics.

    ``policy_dir`` is a seed's folder of the train stage. Both modes play the same ``config.episodes`` games. Their seeds, and
    those of the sampled actions, come from ``config.seed`` and the run's ``seed``, in a stream that training never draws from.

    ``out`` appears as a whole: ``metrics.json`` (:data:`METRICS`, averages over episodes), ``episodes.csv`` (mode, episode,
    return, length, success) and ``run.json`` (what was evaluated, and the fingerprint of its training).

    Raises InspoError: no readable policy, or the policy of another dataset, algorithm, variant or seed.
    """
    from inspo_core.algorithms.policy import Policy  # torch takes a second to import; summarise() needs none of it

    lineage = {"dataset": dataset, "algorithm": algorithm, "variant": variant, "seed": seed}
    trained = _trained(policy_dir)
    for field, expected in lineage.items():
        if trained.get(field) != expected:
            raise InspoError(
                f"{policy_dir / 'run.json'} says {field} {trained.get(field)!r} where {expected!r} is to be evaluated; "
                "give the folder of that training"
            )
    name = evaluation_fingerprint(env_name, policy_dir, config)
    policy = Policy.load(policy_dir)
    env = make_env(env_name)
    stream = stream_seed(config.seed, f"evaluate/seed-{seed}")
    played = {mode: rollout(env, policy, config.episodes, stream, greedy=mode == "greedy") for mode in MODES}
    metrics = {
        f"{quantity}_{mode}": float(np.mean(values))
        for mode, episodes in played.items()
        for quantity, values in (("return", episodes.returns), ("success", episodes.success), ("length", episodes.lengths))
    }
    run = {
        **lineage,
        "stage": "evaluate",
        "fingerprint": name,
        "train_fingerprint": trained["fingerprint"],
        "env": env_name,
        "config": config.model_dump(),
    }
    with atomic_directory(out) as aside:
        write_json(aside / "metrics.json", metrics)
        write_json(aside / "run.json", run)
        _write_episodes(aside / "episodes.csv", played)
    return metrics


def _write_episodes(path: Path, played: dict[str, Rollouts]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["mode", "episode", "return", "length", "success"])
        for mode, episodes in played.items():
            columns = (episodes.returns.tolist(), episodes.lengths.tolist(), episodes.success.astype(int).tolist())
            writer.writerows([mode, episode, *row] for episode, row in enumerate(zip(*columns)))


def read_metrics(path: Path) -> dict[str, float]:
    """Read a seed's ``metrics.json``.

    Raises InspoError: missing file, missing metric, or one that is not a finite number.
    """
    metrics = read_json(path)
    for name in METRICS:
        value = metrics.get(name) if isinstance(metrics, dict) else None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise InspoError(f"{path}: {name} is {value!r}, not a finite number; run the evaluate stage again")
    return {name: float(metrics[name]) for name in METRICS}


def summarise(out_dir: Path, seeds: list[int], config: ReportConfig) -> dict[str, dict]:
    """Write ``out_dir/summary.json``: every metric's :class:`~inspo_core.statistics.Estimate` over ``seeds``; return it.

    ``out_dir`` holds one ``seed_<k>`` folder of :func:`evaluate_seed` a seed; other seeds' folders are left alone.
    """
    runs = [read_metrics(out_dir / f"seed_{seed}" / "metrics.json") for seed in seeds]
    summary = {
        metric: estimate([np.array([run[metric] for run in runs])], config.confidence, config.bootstrap).as_dict() for metric in METRICS
    }
    write_json(out_dir / "summary.json", summary)
    return summary
