"""What the stages share that run once a seed: which of their runs are done, running the others, and their record in MLflow."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspo_core.config.learners import Learner
from inspo_core.config.sections import Params
from inspo_core.errors import warn
from inspo_core.files import check_writable, hash_of, remove, remove_abandoned
from inspo_core.identity import check_planned
from inspo_core.records import damage
from inspo_core.running.device import resolve_device
from inspo_core.running.processes import SeedJob, prune, record_result, run_seeds, soft_stop
from inspo_core.running.shared_store import METRICS, SharedStore
from inspo_core.tracking.description import StageRun
from inspo_core.tracking.tracker import StageTracker


@dataclass(frozen=True)
class Call:
    """How a stage was called, which changes none of its results.

    ``device``: what computes, where it is not for the parameters to say. ``planned``: the key of the task, whose code must be the one here.
    ``note`` is told the fingerprints of the runs that are about to be made. ``prune``: remove the runs of other seeds.
    """

    device: str | None = None
    planned: str = ""
    note: Callable[[list[str]], None] | None = None
    prune: bool = False

    def resolve_device(self, asked: str, place: str) -> str:
        """``cpu`` or ``cuda``; ``asked`` is what the parameter ``place`` says."""
        return resolve_device(self.device, "--device") if self.device else resolve_device(asked, place)


@dataclass(frozen=True)
class Stage:
    """A stage on one dataset. ``data``: digest and source of the dataset; ``lines``: length of a seed's metrics file."""

    name: str
    dataset: str
    learner: Learner | None
    data: dict[str, str]
    lines: int
    batches_seeds: bool = False

    @property
    def title(self) -> str:
        return " ".join(part for part in (self.name, self.dataset, self.learner and self.learner.label) if part)


def run_seeded(stage: Stage, jobs: Sequence[SeedJob], params: Params, out: Path, call: Call) -> None:
    """Run the jobs that are not done, as one stage in MLflow; afterwards ``out`` holds their runs, beside those of other seeds.

    A run that is damaged, or was changed, is not done; a warning says so.

    Raises InspoError if the code is not the planned one, SeedsFailed naming the seeds that failed; SystemExit when stopped by a signal.
    """
    check_planned(call.planned, jobs[0].identity.code)
    store = SharedStore.from_environment()
    here = [job for job in jobs if job.is_done()]
    for job in jobs:
        if job not in here and job.out.exists() and (damaged := damage(job.out)):
            warn(f"{damaged}; seed {job.seed} is made anew")
    fetched = [job for job in jobs if job not in here and store and store.fetch(stage.name, job.fingerprint, job.out, job.labels)]
    done = [job for job in jobs if job in here or job in fetched]
    waiting = [job for job in jobs if job not in done]
    if done:
        print(f"{stage.title}: {len(done)} of {len(jobs)} seeds are done already")
    for job in done:
        remove(job.work)  # a process that was orphaned leaves it
        if store and job in here and not store.holds(stage.name, job.fingerprint):  # made without a store, or when it could not be written
            store.keep(stage.name, job.fingerprint, job.out)
    if waiting:
        check_writable(waiting[0].out)
        if call.note:
            call.note([job.fingerprint for job in waiting])
    with soft_stop() if waiting else nullcontext():
        tracker = StageTracker(_described(stage, jobs, params))
        unrecorded = done if tracker.was_cut_off else fetched  # repeating what is recorded changes nothing
        if not (waiting or unrecorded or tracker.was_cut_off):
            tracker.catch_up()
        else:
            with tracker:
                for job in unrecorded:
                    tracker.seed_started(job.seed, job.fingerprint, job.parameters, job.out / METRICS, model=job.model)
                    record_result(job, tracker)
                if waiting:
                    run_seeds(waiting, tracker, stage.title, stage.lines, store, stage.batches_seeds)
    if call.prune:
        prune(out, jobs)
    remove_abandoned(out)


def seeds_in(folder: Path, seeds: list[int]) -> list[int]:
    """Those of ``seeds`` whose finished runs are in ``folder``."""
    return [seed for seed in seeds if (folder / f"seed_{seed}" / "run.json").exists()]


def _described(stage: Stage, jobs: Sequence[SeedJob], params: Params) -> StageRun:
    return StageRun(
        stage=stage.name,
        experiment=params.experiment.name,
        dataset=stage.dataset,
        algorithm=stage.learner.algorithm if stage.learner else None,
        variant=stage.learner.variant if stage.learner else None,
        params=_common([job.parameters for job in jobs]),
        inputs={"data": stage.data["digest"]},
        fingerprint=hash_of([stage.name, [job.fingerprint for job in jobs]])[:16],
        data=stage.data,
        pipeline=params.model_dump(mode="json"),
    )


def _common(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """The parameters, by section, that all seeds share."""
    return {
        section: {key: value for key, value in values.items() if all(other[section].get(key) == value for other in parameters)}
        for section, values in parameters[0].items()
    }
