"""What a pipeline will run, and the fingerprint of each of its tasks, known before anything has run.

A task's fingerprint is made of its parameters, the fingerprints of the tasks before it (DVC's hash of the raw data for the first),
its code and its image. Stages give the same bytes for the same inputs, so it says as much as the content hashes of which the
stages make theirs.
"""

from typing import Any

from inspo_core.config import Params, learner_of, source_of
from inspo_core.fingerprint import fingerprint


def experiment_keys(params: Params, dataset: str, algorithm: str, seeds: list[int], data_hash: str, image: str) -> dict[str, str]:
    """The fingerprint of each stage for one dataset and algorithm or variant, by stage.

    ``data_hash``: DVC's hash of the raw data. Raises InspoError: unknown dataset or algorithm.
    """
    keys = _data_keys(params, dataset, seeds, data_hash, image)
    keys["train"], keys["evaluate"] = _run_keys(params, dataset, algorithm, seeds, keys, image)
    section = {"dataset": dataset, "algorithm": algorithm, "seeds": seeds, **params.report.model_dump()}
    keys["report"] = fingerprint("report", section, {"train": keys["train"], "evaluate": keys["evaluate"], "image": image})
    return keys


def benchmark_plan(params: Params, data_hashes: dict[str, str], image: str, seeds_per_task: int | None = None) -> list[dict[str, Any]]:
    """Every dataset of ``params.experiment`` with its runs: what the benchmark pipeline loops over.

    One ``{"dataset", "seeds", "ingest", "behavior", "runs"}`` a dataset, one ``{"algorithm", "seeds", "train", "evaluate"}`` a run;
    under a stage's name is its fingerprint. Seeds are split into tasks of ``seeds_per_task`` (None: all in one).
    """
    seeds = params.experiment.seeds
    size = seeds_per_task or len(seeds)
    groups = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    plan = []
    for dataset in params.experiment.datasets:
        keys = _data_keys(params, dataset, seeds, data_hashes[dataset], image)
        runs = []
        for algorithm in params.experiment.algorithms:
            for group in groups:
                train, evaluate = _run_keys(params, dataset, algorithm, group, keys, image)
                runs.append({"algorithm": algorithm, "seeds": group, "train": train, "evaluate": evaluate})
        plan.append({"dataset": dataset, "seeds": seeds, **keys, "runs": runs})
    return plan


def _data_keys(params: Params, dataset: str, seeds: list[int], data_hash: str, image: str) -> dict[str, str]:
    source = source_of(dataset, params.ingest.sources).model_dump()
    ingest = fingerprint("ingest", {"dataset": dataset, **source}, {"raw": data_hash, "image": image})
    section = {"device": params.train.device, "seeds": seeds, **params.behavior.model_dump()}
    return {"ingest": ingest, "behavior": fingerprint("behavior", section, {"data": ingest, "image": image})}


def _run_keys(params: Params, dataset: str, name: str, seeds: list[int], keys: dict[str, str], image: str) -> tuple[str, str]:
    learner = learner_of(name, params)
    of_learner = {"algorithm": learner.algorithm, "variant": learner.variant, "seeds": seeds}
    section = {**of_learner, **learner.loop.model_dump(), **learner.config.model_dump()}
    train = fingerprint("train", section, {"data": keys["ingest"], "behavior": keys["behavior"], "image": image})
    env = source_of(dataset, params.ingest.sources).env
    section = {**of_learner, "env": env, **params.evaluate.model_dump(), **params.report.model_dump()}
    return train, fingerprint("evaluate", section, {"train": train, "image": image})
