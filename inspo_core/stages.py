"""The stages that run once a seed: which runs there are, which of them are done, and their record in MLflow."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspo_core.config import Learner, Params, ReportConfig, label, learner_of, source_of
from inspo_core.datasets.format import content_hash
from inspo_core.errors import InspoError
from inspo_core.evaluation import evaluation_fingerprint, summarise
from inspo_core.files import check_writable, read_json, remove
from inspo_core.fingerprint import fingerprint, tree_hash
from inspo_core.seeds import SeedJob, SeedsFailed, batched_seeds, prune, run_seeds
from inspo_core.shared_store import SharedStore
from inspo_core.tracking import StageTracker


Note = Callable[[list[str]], None]  # is told the fingerprints of the runs that are about to be made


def behavior_stage(params: Params, dataset: str, data: Path, seeds: list[int], out: Path, note: Note | None = None) -> None:
    """Estimate the behavior policies of ``dataset`` for every seed: ``out/seed_<k>``."""
    config, device, digest = params.behavior, params.train.device, content_hash(data)
    common = {"data": data, "config": config, "device": device, "checkpoint_every": params.train.checkpoint_every}
    jobs = []
    for seed in seeds:
        section = {"device": device, "seed": seed, **config.model_dump()}
        record = _record("behavior", {"dataset": dataset, "algorithm": None, "variant": None, "seed": seed}, section, {"data": digest})
        jobs.append(_looping_job(record, out, common))
    described, lines = {"digest": digest, "source": str(data)}, config.steps // config.check_every
    _run("behavior", "inspo_core.behavior:estimate_behavior", jobs, params, dataset, None, described, out, lines, note)


def train_stage(
    params: Params, dataset: str, name: str, data: Path, behavior: Path, seeds: list[int], out: Path, note: Note | None = None
) -> None:
    """Train the algorithm or variant ``name`` on ``dataset`` for every seed, each with its own behavior models: ``out/seed_<k>``."""
    learner, digest = learner_of(name, params), content_hash(data)
    algorithm, loop, config = learner.algorithm, learner.loop, learner.config
    jobs = []
    for seed in seeds:
        models = _models_of(behavior / f"seed_{seed}", digest, data)
        lineage = {"dataset": dataset, "algorithm": algorithm, "variant": learner.variant, "seed": seed}
        section = {"algorithm": algorithm, "seed": seed, **loop.model_dump(), **config.model_dump()}
        record = _record("train", lineage, section, {"data": digest, "behavior": tree_hash(models)})
        jobs.append(_looping_job(record, out, {"algorithm": algorithm, "data": data, "behavior": models, "loop": loop, "config": config}))
    described = {"digest": digest, "source": str(data)}
    _run("train", "inspo_core.training:train_seed", jobs, params, dataset, learner, described, out, loop.iterations, note)


def evaluate_stage(params: Params, dataset: str, name: str, train: Path, seeds: list[int], out: Path, note: Note | None = None) -> None:
    """Evaluate the last policy of every seed, ``train/seed_<k>``: ``out/seed_<k>`` and ``out/summary.json``."""
    learner, env = learner_of(name, params), source_of(dataset, params.ingest.sources).env
    jobs = []
    for seed in seeds:
        policy, folder = train / f"seed_{seed}", out / f"seed_{seed}"
        identity = evaluation_fingerprint(env, policy, params.evaluate)
        labels = {"dataset": dataset, "algorithm": learner.algorithm, "variant": learner.variant}
        arguments = {"env_name": env, "policy_dir": policy, **labels, "seed": seed, "config": params.evaluate, "out": folder}
        trained = read_json(policy / "run.json")
        shown = {"train": trained["config"], "evaluate": params.evaluate.model_dump()}
        work = work_folder(identity)
        jobs.append(SeedJob("evaluate", seed, identity, folder, work, arguments, shown, labels, model=trained["fingerprint"]))
    described = {"digest": trained["inputs"]["data"], "source": str(train)}
    try:
        _run("evaluate", "inspo_core.evaluation:evaluate_seed", jobs, params, dataset, learner, described, out, 1, note)
    except SeedsFailed:
        _summarise(out, jobs, params.report)
        raise
    _summarise(out, jobs, params.report)


def seeds_in(folder: Path, seeds: list[int]) -> list[int]:
    """Those of ``seeds`` whose finished runs are in ``folder``."""
    return [seed for seed in seeds if (folder / f"seed_{seed}" / "run.json").exists()]


def work_folder(name: str) -> Path:
    """Where the unfinished run ``name`` keeps its checkpoint: below ``INSPO_CHECKPOINTS`` (default ``checkpoints``)."""
    return Path(os.environ.get("INSPO_CHECKPOINTS", "checkpoints")) / name


def _models_of(models: Path, digest: str, data: Path) -> Path:
    """``models``, if they were estimated from ``data``, whose content hash is ``digest``; other data may have the same sizes."""
    path = models / "run.json"
    record = read_json(path)
    if not isinstance(record, dict) or record.get("stage") != "behavior" or record.get("inputs") != {"data": digest}:
        raise InspoError(f"{path} is not that of behavior models of {data}; run the behavior stage on it, or give the folder that it wrote")
    return models


def _record(stage: str, lineage: dict[str, Any], section: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    """What ``run.json`` says of a seed's run."""
    return {**lineage, "stage": stage, "fingerprint": fingerprint(stage, section, inputs), "inputs": inputs, "config": section}


def _looping_job(record: dict[str, Any], out: Path, arguments: dict[str, Any]) -> SeedJob:
    seed, name = record["seed"], record["fingerprint"]
    folder, work = out / f"seed_{seed}", work_folder(name)
    own = {"record": record, "seed": seed, "fingerprint": name, "work": work, "out": folder}
    labels = {field: record[field] for field in ("dataset", "algorithm", "variant")}
    return SeedJob(record["stage"], seed, name, folder, work, arguments | own, {record["stage"]: record["config"]}, labels)


def _run(
    stage: str,
    function: str,
    jobs: list[SeedJob],
    params: Params,
    dataset: str,
    learner: Learner | None,
    data: dict[str, str],
    out: Path,
    lines: int,
    note: Note | None,
) -> None:
    """Run the jobs that are not done, as one stage in MLflow.

    ``data``: digest and source of the dataset; ``lines``: length of a seed's metrics file.
    """
    algorithm, variant = (learner.algorithm, learner.variant) if learner else (None, None)
    title = " ".join(part for part in (stage, dataset, learner and label(algorithm, variant)) if part)
    store = SharedStore.from_environment()
    here = [job for job in jobs if job.is_done()]
    done = [job for job in jobs if job in here or store and store.fetch(stage, job.fingerprint, job.out, job.labels)]
    waiting = [job for job in jobs if job not in done]
    if done:
        print(f"{title}: {len(done)} of {len(jobs)} seeds are done already")
    for job in done:
        remove(job.work)  # a process that was orphaned leaves it
        if store and job in here and not store.holds(stage, job.fingerprint):  # made without a store, or when it could not be written
            store.keep(stage, job.fingerprint, job.out)
    if waiting:
        check_writable(waiting[0].out)
        if note:
            note([job.fingerprint for job in waiting])
        inputs = {"data": data["digest"]}
        name = fingerprint(stage, [job.fingerprint for job in jobs], inputs)
        tracker = StageTracker(
            stage,
            params.experiment.name,
            dataset,
            algorithm,
            variant,
            _common(waiting),
            inputs,
            name,
            data,
            pipeline=params.model_dump(mode="json"),
        )
        with tracker:
            batched = batched_seeds() if stage == "train" and learner.config.batches_seeds else 1
            run_seeds(function, waiting, tracker, title, lines, store, batched)
    prune(out, jobs)


def _summarise(out: Path, jobs: list[SeedJob], config: ReportConfig) -> None:
    """Write ``summary.json`` of the finished seeds; there is none if no seed has finished."""
    if finished := [job.seed for job in jobs if job.is_done()]:
        summarise(out, finished, config)
    else:
        remove(out / "summary.json")


def _common(jobs: list[SeedJob]) -> dict[str, Any]:
    """The parameters that all seeds share."""
    return {
        section: {key: value for key, value in values.items() if all(job.config[section].get(key) == value for job in jobs)}
        for section, values in jobs[0].config.items()
    }
