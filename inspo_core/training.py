"""The stage ``train``: learn a policy from a dataset with one algorithm, for one seed."""

import json
from functools import lru_cache
from pathlib import Path

from inspo_core.algorithms.base import Algorithm, Setup
from inspo_core.algorithms.fits import Fitter, fit_alone
from inspo_core.algorithms.registry import ALGORITHMS
from inspo_core.algorithms.transitions import Transitions
from inspo_core.behavior import load_behavior
from inspo_core.algorithm_configs import LoopConfig, Section
from inspo_core.datasets import EpisodeDataset, read_dataset
from inspo_core.envs import Env, make_env
from inspo_core.files import atomic_directory, write_json
from inspo_core.loop import METRICS, choose_device, run_loop
from inspo_core.rng import stream_seed
from inspo_core.rollouts import rollout


def train_seed(
    algorithm: str,
    data: Path,
    behavior: Path,
    loop: LoopConfig,
    config: Section,
    record: dict,
    seed: int,
    fingerprint: str,
    work: Path,
    out: Path,
    fit: Fitter = fit_alone,
) -> None:
    """Train one seed and write ``out``: the last policy, ``metrics.jsonl`` (curves), ``metrics.json`` and ``run.json``.

    ``data`` is a native dataset, ``behavior`` the folder of this seed's behavior models, ``record`` what ``run.json`` says,
    ``work`` the folder of the checkpoint, ``fit`` what makes the gradient steps of algorithms that can share them with other seeds.
    """
    device = choose_device(loop.device)
    dataset, transitions = _resident(data, device)
    setup = Setup(transitions, lambda: load_behavior(behavior, transitions), loop.iterations, seed, device, fit)
    learner = ALGORITHMS[algorithm](setup, config)
    env = make_env(dataset.env)

    def evaluate(iteration: int) -> dict[str, float]:
        if iteration % loop.evaluate_every and iteration != loop.iterations:
            return {}
        return evaluate_for_curves(learner, env, loop.evaluate_episodes, stream_seed(seed, f"curve/{iteration}"))

    run_loop(learner, loop.iterations, loop.checkpoint_every, work, fingerprint, evaluate)
    with atomic_directory(out) as aside:
        learner.policy().save(aside)
        (aside / METRICS).write_bytes((work / METRICS).read_bytes())
        write_json(aside / "metrics.json", _last_values(work / METRICS))
        write_json(aside / "run.json", record)


@lru_cache(maxsize=1)
def _resident(data: Path, device: str) -> tuple[EpisodeDataset, Transitions]:
    """The data on the device, once for all seeds of this process."""
    dataset = read_dataset(data)
    return dataset, Transitions.from_dataset(dataset, device)


def evaluate_for_curves(learner: Algorithm, env: Env, episodes: int, seed: int) -> dict[str, float]:
    """Returns and success of the policy as it is now, greedy and sampled, for the learning curves only."""
    played = {mode: rollout(env, learner.policy(), episodes, seed, greedy=mode == "greedy") for mode in ("greedy", "sampled")}
    metrics = {f"evaluation/return_{mode}": float(episodes.returns.mean()) for mode, episodes in played.items()}
    return metrics | {f"evaluation/success_{mode}": float(episodes.success.mean()) for mode, episodes in played.items()}


def _last_values(metrics: Path) -> dict[str, float]:
    return json.loads(metrics.read_text().splitlines()[-1])
