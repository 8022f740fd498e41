"""How the tasks of a benchmark ended, in the shared store, for a report that counts what is there when some of it failed."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.config.learners import DEFAULT
from inspo_core.errors import InspoError, warn
from inspo_core.records import read_record
from inspo_core.running.processes import SeedsFailed
from inspo_core.running.shared_store import SharedStore
from inspo_core.section import Name, Section, Seed, check_name, sentences
from inspo_core.stages.seeded import seeds_in


class PlannedRun(Section):
    """A run of a plan: what it trains, and the keys of its tasks."""

    algorithm: Name
    seeds: list[Seed]
    train: Name
    evaluate: Name


class PlannedDataset(Section):
    """What a report is told of a dataset in the plan of a benchmark; the rest of it is for other steps."""

    model_config = ConfigDict(extra="ignore")

    dataset: Name
    behavior: Name
    runs: list[PlannedRun]


class TaskRecord(Section):
    """How the seeds of a task ended: the fingerprints of those that have a result, and the reasons of those that failed."""

    seeds: dict[str, Name] = {}
    failures: dict[str, str] = {}


def run_able(stage: Callable[[list[int]], None], seeds: list[int], before: Path | None) -> tuple[list[int], dict[int, str]]:
    """Run ``stage`` for those of ``seeds`` that the folder ``before``, what the stage before has written, holds (None: for all).

    A seed that fails does not stop the others. Returns the seeds that have a result now, and why others that were run have none.
    """
    able = seeds if before is None else seeds_in(before, seeds)
    failures: dict[int, str] = {}
    if able:
        try:
            stage(able)
        except SeedsFailed as error:
            failures = error.reasons
            warn(str(error))
    return [seed for seed in able if seed not in failures], failures


def run_recorded(key: str, stage: Callable[[list[int]], None], seeds: list[int], before: Path | None, out: Path) -> None:
    """Run ``stage`` for ``seeds``; with a ``key``, as :func:`run_able` does, and record in the shared store under it how each seed ended.

    With a key, seeds that failed fail the task only if none has a result.

    Raises InspoError then, with a key but without a shared store, and as ``stage`` does.
    """
    if not key:
        return stage(seeds)
    store = SharedStore.from_environment()
    if store is None:
        raise InspoError("--record needs a shared store; set INSPO_STORE to a directory or to s3://bucket/prefix")
    done, failures = run_able(stage, seeds, before)
    made = {str(seed): read_record(out / f"seed_{seed}", "same", fingerprint=str)["fingerprint"] for seed in done}
    store.write_record(key, {"seeds": made, "failures": {str(seed): reason for seed, reason in failures.items()}})
    if not made:
        raise InspoError(
            f"none of the seeds {seeds} has a result: {'; '.join(sorted(set(failures.values()))) or f'{before} holds none of them'}"
        )


def gather(plan: list[PlannedDataset], store: SharedStore, evaluations: Path, trainings: Path) -> dict[tuple[str, str, int], str]:
    """Put what the tasks of ``plan`` have made into ``evaluations/<dataset>/<algorithm>/seed_<k>`` and the same of ``trainings``.

    ``plan`` is that of :func:`pipelines.plan.benchmark_plan`. Returns why what is missing is missing, by dataset, algorithm and seed.

    Raises InspoError: a record of a task in the store, or what an evaluation there says of itself, is damaged.
    """
    missing = {}
    for of_dataset in plan:
        for run in of_dataset.runs:
            labels = {"dataset": of_dataset.dataset, "variant": DEFAULT if run.algorithm in ALGORITHMS else run.algorithm}
            records = [_record(store, key) for key in (of_dataset.behavior, run.train, run.evaluate)]
            for seed in run.seeds:
                place = Path(of_dataset.dataset, run.algorithm, f"seed_{seed}")
                evaluated = records[-1].seeds.get(str(seed))
                if evaluated and store.fetch("evaluate", evaluated, evaluations / place, labels):
                    trained = read_record(evaluations / place, "evaluate", train_fingerprint=str)["train_fingerprint"]
                    if store.fetch("train", check_name(trained, f"train_fingerprint of {place}"), trainings / place, labels):
                        continue
                reasons = [record.failures[str(seed)] for record in records if str(seed) in record.failures]
                if evaluated:
                    reasons = ["its result is missing or damaged in the shared store; submit again with --no-cache"]
                reason = reasons[0] if reasons else "its task ended without a word; see the steps of the pipeline's run"
                missing[of_dataset.dataset, run.algorithm, seed] = reason
    return missing


def _record(store: SharedStore, key: str) -> TaskRecord:
    try:
        return TaskRecord.model_validate(store.read_record(key) or {})
    except ValidationError as error:
        found = sentences(error, "entry", lambda _: ())
        raise InspoError(f"the record tasks/{key}.json in INSPO_STORE: {found}; remove it and send the pipeline again") from error
