"""Running the seeds of a stage side by side, in one-thread processes, and finding those that are done already."""

import multiprocessing
import multiprocessing.forkserver
import os
import pkgutil
import shutil
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo_core.errors import InspoError
from inspo_core.files import read_json, remove
from inspo_core.progress import Progress
from inspo_core.shared_store import SharedStore
from inspo_core.stopping import stop_on, stop_requested
from inspo_core.tracking import StageTracker

if TYPE_CHECKING:
    from inspo_core.algorithms.fits import Fitter
# Imported once by the process from which seed processes are forked; this process itself has no use for torch.
PRELOADED = ["inspo_core.behavior", "inspo_core.evaluation", "inspo_core.training"]
POLL_SECONDS = 0.2
EXIT_STOPPED = 128 + signal.SIGTERM
STOPPED = "it was stopped; run the same command again to go on"


@dataclass(frozen=True)
class SeedJob:
    """One seed's run: the stage's function, called with ``arguments``, writes the folder ``out`` in one move."""

    stage: str
    seed: int
    fingerprint: str
    out: Path
    work: Path  # scratch: checkpoint and growing metrics, kept while the run is unfinished
    arguments: dict[str, Any]
    config: dict[str, Any]  # what is shown as the run's parameters
    labels: dict[str, str | None]  # dataset, algorithm and variant, as run.json names them
    model: str | None = None  # fingerprint of the training whose policy the run uses

    def is_done(self) -> bool:
        """Whether ``out`` holds this very run's result, under its own labels."""
        try:
            record = read_json(self.out / "run.json")
        except InspoError:  # not there, or damaged: it is to be written anew
            return False
        return isinstance(record, dict) and record == record | self.labels | {"fingerprint": self.fingerprint}


class SeedsFailed(InspoError):
    """Some seeds failed; the results of the others are kept."""

    def __init__(self, message: str, reasons: dict[int, str]):
        super().__init__(message)
        self.reasons = reasons  # by seed


@dataclass
class _Running:
    """A process, and the seeds that it runs: one, or several that are batched."""

    jobs: list[SeedJob]
    process: multiprocessing.process.BaseProcess
    messages: Connection = field(repr=False)


def default_workers() -> int:
    """INSPO_WORKERS, how many processes may run at a time, or the number of processors that this one may use."""
    return _count_from("INSPO_WORKERS", len(os.sched_getaffinity(0)), "how many seeds may run at a time")


def batched_seeds() -> int:
    """INSPO_BATCHED_SEEDS, how many seeds a process trains as one batched model if the algorithm can do that, or 1."""
    return _count_from("INSPO_BATCHED_SEEDS", 1, "how many seeds a process trains as one batched model")


def _count_from(variable: str, default: int, meaning: str) -> int:
    asked = os.environ.get(variable) or str(default)
    if not asked.isdecimal() or int(asked) == 0:
        raise InspoError(f"{variable} is {asked!r}, expected {meaning}, a whole number from 1")
    return int(asked)


def prune(folder: Path, jobs: list[SeedJob]) -> None:
    """Remove what is not a seed asked for, so that the content of ``folder`` depends on the parameters alone.

    That is other seeds, and what a killed process was writing.
    """
    keep = {job.out.name for job in jobs}
    for path in [*folder.glob("seed_*"), *folder.glob(".seed_*")]:
        if path.name not in keep:
            remove(path)


def run_seeds(
    function: str,
    jobs: list[SeedJob],
    tracker: StageTracker,
    title: str,
    iterations: int,
    store: SharedStore | None = None,
    batched: int = 1,
) -> None:
    """Run the jobs with ``function`` (``module:name``), as many processes at a time as there are workers.

    A process runs ``batched`` jobs; if more than one, ``function`` gets ``fit`` beside a job's arguments, which batches their gradient
    steps. A failed seed does not stop the others; their results are kept. SIGTERM or SIGINT lets every seed write its checkpoint.
    ``store`` gets results and checkpoints, and gives those checkpoints that another machine has left there.

    Raises SeedsFailed naming the seeds that failed; SystemExit when stopped by a signal.
    """
    workers, context = default_workers(), multiprocessing.get_context("forkserver")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # inherited by the fork server: a signal to all of us must not end it before the seeds
    context.set_forkserver_preload(PRELOADED)
    multiprocessing.forkserver.ensure_running()
    stop_on(signal.SIGTERM, signal.SIGINT)
    waiting = [jobs[first : first + batched] for first in range(0, len(jobs), batched)]
    running, reasons = [], {}
    try:
        with Progress(title, [job.seed for job in jobs], iterations) as progress:
            while running or (waiting and not stop_requested()):
                while waiting and len(running) < workers and not stop_requested():
                    together = waiting.pop(0)
                    for job in together:
                        if store:
                            store.fetch_checkpoint(job.fingerprint, job.work)
                        tracker.seed_started(job.seed, job.fingerprint, job.config, job.work / "metrics.jsonl", model=job.model)
                    running.append(_start(context, function, together))
                time.sleep(POLL_SECONDS)
                for process in list(running):
                    if stop_requested():
                        process.process.terminate()
                    ended = not process.process.is_alive()
                    for job in process.jobs:
                        progress.update(job.seed, job.work / "metrics.jsonl")
                        if store:
                            store.keep_checkpoint(job.fingerprint, job.work)
                    if ended:
                        running.remove(process)
                        reasons |= _finish(process, tracker, store)
                tracker.poll()
    finally:
        _stop(running)
    if stop_requested():
        print(f"{title}: stopped; checkpoints are kept, run the same command again to go on", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    if reasons:
        seeds_of = {reason: [str(seed) for seed in sorted(reasons) if reasons[seed] == reason] for reason in reasons.values()}
        listed = "; ".join(f"seed {', '.join(seeds)}: {reason}" for reason, seeds in seeds_of.items())
        raise SeedsFailed(f"{title}: {len(reasons)} of {len(jobs)} seeds failed; {listed}", reasons)


def _start(context: multiprocessing.context.BaseContext, function: str, jobs: list[SeedJob]) -> _Running:
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_process_main, args=(function, jobs, send))
    process.start()
    send.close()
    return _Running(jobs, process, receive)


def _stop(running: list[_Running]) -> None:
    """End what an exception has left running; this process would wait for it when it exits."""
    while alive := [one.process for one in running if one.process.is_alive()]:
        for process in alive:
            process.terminate()  # again and again: a process that has just begun ignores it
        alive[0].join(POLL_SECONDS)


def _finish(process: _Running, tracker: StageTracker, store: SharedStore | None) -> dict[int, str]:
    """Tell the tracker and the store how the seeds of a process ended; the reasons of those that did not finish."""
    told, reasons = {}, {}
    try:
        while process.messages.poll():
            seed, status, reason = process.messages.recv()
            told[seed] = (status, reason)
    except EOFError:  # that was all
        pass
    for job in process.jobs:
        status, reason = told.get(job.seed) or _without_a_word(process.process.exitcode)
        if status == "FINISHED":
            artifacts = [path for path in job.out.iterdir() if path.suffix in (".json", ".csv")]
            policy = job.out if (job.out / "policy.safetensors").exists() else None
            final_metrics = job.out / "metrics.json"
            final = read_json(final_metrics) if final_metrics.exists() else {}
            tracker.seed_finished(job.seed, status, final, artifacts, policy)
            shutil.rmtree(job.work, ignore_errors=True)
            reason = store and _share(job, store)
        else:
            tracker.seed_finished(job.seed, status, {}, [], None)
        if reason:
            reasons[job.seed] = reason
    return reasons


def _without_a_word(code: int) -> tuple[str, str]:
    """Status and reason of a seed whose process has ended with the status ``code`` and said nothing of it."""
    if code == -signal.SIGTERM:
        return "KILLED", STOPPED
    return "FAILED", f"its process ended with status {code}" + (" (killed: out of memory?)" if code == -signal.SIGKILL else "")


def _share(job: SeedJob, store: SharedStore) -> str | None:
    """Put a seed's result into the store; the reason if that fails."""
    try:
        store.keep(job.stage, job.fingerprint, job.out)
    except InspoError as error:
        return str(error)
    return None


def _process_main(function: str, jobs: list[SeedJob], messages: Connection) -> None:
    import torch

    from inspo_core.algorithms.fits import Together

    torch.set_num_threads(1)  # processes have a core each; OpenMP threads that wait for one another would only take turns
    stop_on(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and asks us to stop
    if len(jobs) == 1:
        messages.send((jobs[0].seed, *_run_seed(function, jobs[0])))
        return
    together = Together(len(jobs))

    def run(job: SeedJob) -> None:
        with together.run():
            messages.send((job.seed, *_run_seed(function, job, fit=together.fit)))

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _run_seed(function: str, job: SeedJob, **batching: "Fitter") -> tuple[str, str | None]:
    """Its status, and the reason unless that is FINISHED."""
    from inspo_core.loop import Stopped

    try:
        pkgutil.resolve_name(function)(**job.arguments, **batching)
    except Stopped:
        return "KILLED", STOPPED
    except InspoError as error:
        return "FAILED", str(error)
    except OSError as error:
        place = error.filename or job.work
        return "FAILED", f"cannot write {place}: {error.strerror}; free space there, make it writable, or choose another place"
    except Exception as error:
        traceback.print_exc()
        return "FAILED", f"{type(error).__name__}: {error}"
    return "FINISHED", None
