"""The stage ``train``: learn a policy from a dataset with one algorithm or a variant of it, for every seed."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspo_core.config.learners import Learner, learner_of
from inspo_core.config.sections import LoopConfig, Params
from inspo_core.datasets.format import content_hash, game_of
from inspo_core.envs.table import GAMES, Game
from inspo_core.errors import InspoError
from inspo_core.files import hash_of, write_json
from inspo_core.identity import Identity, code_of
from inspo_core.records import RECORD, check_run, content_of, read_record
from inspo_core.rng import stream_seed
from inspo_core.running.processes import BatchableJob
from inspo_core.stages.playing import opened
from inspo_core.stages.seeded import Call, Stage, run_seeded

if TYPE_CHECKING:
    from inspo_core.algorithms.base import Algorithm
    from inspo_core.algorithms.behavior_models import BehaviorModels
    from inspo_core.algorithms.seed_batching import Fitter


def identity(learner: Learner, game: Game | None, device: str, seed: int, inputs: Mapping[str, str]) -> Identity:
    """What a seed's training is, whatever the variant is called.

    ``game``: the one that is played for the curves, None if none is; ``device``: ``cpu`` or ``cuda``; ``inputs``: a hash of ``data`` and
    one of ``behavior``, the seed's models.
    """
    section = {"algorithm": learner.algorithm, "seed": seed, **learner.loop.model_dump(), **learner.config.model_dump(), "device": device}
    if game is None:
        return Identity("train", section, inputs, code_of("train", learner.entry))
    return Identity("train", section, {**inputs, "game": hash_of(game.rules)}, code_of("train", learner.entry, game))


def game_for_curves(learner: Learner, env: str) -> Game | None:
    """The game that the training plays; None where it is not to be evaluated. Raises InspoError for a game that is not in the table."""
    return GAMES.entry(env, "env of the dataset") if learner.loop.evaluate_every else None


@dataclass(frozen=True, kw_only=True)
class TrainJob(BatchableJob):
    """Writes the last policy, ``metrics.jsonl`` (curves), ``metrics.json`` and ``run.json``."""

    data: Path  # a dataset in the native format
    behavior: Path  # this seed's behavior models
    learner: Learner

    def run(self, fit: "Fitter | None" = None) -> None:
        from inspo_core.algorithms.base import Setup
        from inspo_core.algorithms.seed_batching import fit_alone
        from inspo_core.running.loop import run_loop
        from inspo_core.running.shared_store import METRICS
        from inspo_core.stages.artifacts import load_behavior, resident, save_policy

        loop, device = self.learner.loop, self.identity.section["device"]
        dataset, transitions = resident(self.data, device)

        def models() -> "BehaviorModels":
            check_run(self.behavior, "behavior")
            return load_behavior(self.behavior, transitions)

        setup = Setup(transitions, models, loop.iterations, self.seed, device, fit or fit_alone)
        algorithm = self.learner.entry.load()(setup, self.learner.config)
        with evaluation_for_curves(algorithm, dataset.env, loop, self.seed) as evaluate:
            run_loop(algorithm, loop.iterations, self.work, self.fingerprint, evaluate)
        with self.result() as aside:
            save_policy(algorithm.policy(), aside)
            (aside / METRICS).write_bytes((self.work / METRICS).read_bytes())
            write_json(aside / "metrics.json", json.loads((self.work / METRICS).read_text(encoding="utf-8").splitlines()[-1]))


@contextmanager
def evaluation_for_curves(
    algorithm: "Algorithm", env_name: str, loop: LoopConfig, seed: int
) -> Iterator[Callable[[int], dict[str, float]]]:
    """What the loop calls after an iteration: returns and success, greedy and sampled, of the policy as it is then, if it is time for that.

    For learning curves alone; nothing is chosen by them. With ``evaluate_every`` 0 no game is made.
    """
    if not loop.evaluate_every:
        yield lambda iteration: {}
        return
    with opened(env_name) as play:

        def evaluate(iteration: int) -> dict[str, float]:
            if iteration % loop.evaluate_every and iteration != loop.iterations:
                return {}
            metrics = {}
            for mode, episodes in play(algorithm.policy(), loop.evaluate_episodes, stream_seed(seed, f"curve/{iteration}")).items():
                metrics[f"evaluation/return_{mode}"] = float(episodes.returns.mean())
                metrics[f"evaluation/success_{mode}"] = float(episodes.success.mean())
            return metrics

        yield evaluate


def train_stage(
    params: Params,
    dataset: str,
    name: str,
    data: Path,
    behavior: Path,
    seeds: list[int],
    out: Path,
    call: Call = Call(),
) -> None:
    """Train the algorithm or variant ``name`` on ``dataset`` for every seed, each with its own behavior models: ``out/seed_<k>``."""
    learner, digest = learner_of(name, params), content_hash(data)
    computes, game = call.resolve_device(learner.loop.device, "train.device"), game_for_curves(learner, game_of(data))
    labels = {"dataset": dataset, "algorithm": learner.algorithm, "variant": learner.variant}
    jobs = []
    for seed in seeds:
        models = behavior / f"seed_{seed}"
        made = identity(learner, game, computes, seed, {"data": digest, "behavior": _content_of_models(models, digest, data)})
        jobs.append(
            TrainJob(seed=seed, identity=made, labels=labels, out=out / f"seed_{seed}", data=data, behavior=models, learner=learner)
        )
    stage = Stage("train", dataset, learner, {"digest": digest, "source": str(data)}, learner.loop.iterations, learner.entry.batches_seeds)
    run_seeded(stage, jobs, params, out, call)


def _content_of_models(models: Path, digest: str, data: Path) -> str:
    """A hash of ``models``, if they were estimated from ``data``, whose content hash is ``digest``; other data may have the same sizes."""
    record = read_record(models, "behavior")
    if record.get("stage") != "behavior" or record.get("inputs") != {"data": digest}:
        place = models / RECORD
        raise InspoError(
            f"{place} is not that of behavior models of {data}; run the behavior stage on it, or give the folder that it wrote"
        )
    return content_of(record)
