"""What a pipeline will run, and the key of each of its tasks, known before anything has run.

A key is made of the identities of the runs that a task makes, which take the identities of the runs before it (DVC's hash of the raw
data for the first) where a stage takes content hashes. Stages give the same bytes for the same inputs, so it says as much.
"""

from collections.abc import Mapping
from typing import Any

from inspo_core.config.learners import Learner, learner_of
from inspo_core.config.sections import Params, source_of
from inspo_core.envs.table import GAMES
from inspo_core.identity import Identity, planned_key
from inspo_core.stages import behavior, evaluate, ingest, report, train

Devices = Mapping[str, str]  # stage -> cpu or cuda: where its step computes


def experiment_keys(params: Params, dataset: str, algorithm: str, seeds: list[int], data_hash: str, devices: Devices) -> dict[str, str]:
    """The key of each stage for one dataset and algorithm or variant, by stage.

    ``data_hash``: DVC's hash of the raw data. Raises InspoError: unknown dataset, format, game or algorithm.
    """
    planned = _Plan(params, dataset, data_hash, devices)
    keys = {"ingest": planned.ingest_key(), "behavior": planned.behavior_key(seeds)}
    keys["train"], keys["evaluate"] = planned.run_keys(algorithm, seeds)
    reported = report.identity(params.report, {"train": keys["train"], "evaluate": keys["evaluate"]})
    return keys | {"report": planned_key([dataset, algorithm, seeds, reported.fingerprint], reported.code)}


def benchmark_plan(
    params: Params, data_hashes: Mapping[str, str], devices: Devices, seeds_per_task: int | None = None
) -> list[dict[str, Any]]:
    """Every dataset of ``params.experiment`` with its runs: what the benchmark pipeline loops over.

    One ``{"dataset", "seeds", "ingest", "behavior", "runs"}`` a dataset, one ``{"algorithm", "seeds", "train", "evaluate"}`` a run;
    under a stage's name is its key. Seeds are split into tasks of ``seeds_per_task`` (None: all in one).
    """
    seeds = params.experiment.seeds
    size = seeds_per_task or len(seeds)
    groups = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    plan = []
    for dataset in params.experiment.datasets:
        planned, runs = _Plan(params, dataset, data_hashes[dataset], devices), []
        for algorithm in params.experiment.algorithms:
            for group in groups:
                train_key, evaluate_key = planned.run_keys(algorithm, group)
                runs.append({"algorithm": algorithm, "seeds": group, "train": train_key, "evaluate": evaluate_key})
        keys = {"ingest": planned.ingest_key(), "behavior": planned.behavior_key(seeds)}
        plan.append({"dataset": dataset, "seeds": seeds, **keys, "runs": runs})
    return plan


class _Plan:
    """The runs on one dataset."""

    def __init__(self, params: Params, dataset: str, data_hash: str, devices: Devices):
        self._params, self._dataset, self._devices = params, dataset, devices
        self._source = source_of(dataset, params.ingest.sources)
        self._ingest = ingest.identity(dataset, self._source, {"raw": data_hash})

    def ingest_key(self) -> str:
        return planned_key(self._ingest.fingerprint, self._ingest.code)

    def behavior_key(self, seeds: list[int]) -> str:
        models = [self._behavior(seed) for seed in seeds]
        return planned_key([self._dataset, [one.fingerprint for one in models]], models[0].code)

    def run_keys(self, name: str, seeds: list[int]) -> tuple[str, str]:
        """Of the training and of the evaluation of some seeds."""
        learner = learner_of(name, self._params)
        trainings = [self._train(learner, seed) for seed in seeds]
        game = GAMES.entry(self._source.env, f"parameter ingest.sources.{self._dataset}.env")
        evaluations = [evaluate.identity(self._params.evaluate, game, {"train": trained.fingerprint}) for trained in trainings]
        labels = [self._dataset, learner.algorithm, learner.variant]  # which outputs carry, and no identity does
        train_key = planned_key([labels, [one.fingerprint for one in trainings]], trainings[0].code)
        summarised = [labels, [one.fingerprint for one in evaluations], self._params.report.model_dump()]
        return train_key, planned_key(summarised, evaluations[0].code)

    def _behavior(self, seed: int) -> Identity:
        return behavior.identity(self._params.behavior, self._devices["behavior"], seed, {"data": self._ingest.fingerprint})

    def _train(self, learner: Learner, seed: int) -> Identity:
        inputs = {"data": self._ingest.fingerprint, "behavior": self._behavior(seed).fingerprint}
        return train.identity(learner, train.game_for_curves(learner, self._source.env), self._devices["train"], seed, inputs)
