"""Running the seeds of a stage side by side, each in a one-thread process, and finding those that are done already."""

import multiprocessing
import multiprocessing.forkserver
import os
import pkgutil
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError
from inspo_core.files import read_json, remove
from inspo_core.progress import Progress
from inspo_core.shared_store import SharedStore
from inspo_core.stopping import stop_on, stop_requested
from inspo_core.tracking import StageTracker

# Imported once by the process from which seed processes are forked; this process itself has no use for torch.
PRELOADED = ["inspo_core.behavior", "inspo_core.evaluation", "inspo_core.training"]
POLL_SECONDS = 0.2
EXIT_STOPPED = 128 + signal.SIGTERM


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
    model: str | None = None  # fingerprint of the training whose policy the run uses

    def is_done(self) -> bool:
        """Whether ``out`` holds this very run's result."""
        try:
            record = read_json(self.out / "run.json")
        except InspoError:  # not there, or damaged: it is to be written anew
            return False
        return isinstance(record, dict) and record.get("fingerprint") == self.fingerprint


class SeedsFailed(InspoError):
    """Some seeds failed; the results of the others are kept."""

    def __init__(self, message: str, reasons: dict[int, str]):
        super().__init__(message)
        self.reasons = reasons  # by seed


@dataclass
class _Running:
    job: SeedJob
    process: multiprocessing.process.BaseProcess
    messages: Connection = field(repr=False)


def default_workers() -> int:
    """INSPO_WORKERS, or the number of processors that this process may use."""
    asked = os.environ.get("INSPO_WORKERS") or str(len(os.sched_getaffinity(0)))
    if not asked.isdecimal() or int(asked) == 0:
        raise InspoError(f"INSPO_WORKERS is {asked!r}, expected how many seeds may run at a time, a whole number from 1")
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
    function: str, jobs: list[SeedJob], tracker: StageTracker, title: str, iterations: int, store: SharedStore | None = None
) -> None:
    """Run the jobs with ``function`` (``module:name``), as many at a time as there are workers.

    A failed seed does not stop the others; their results are kept. SIGTERM or SIGINT lets every seed write its checkpoint.
    ``store`` gets results and checkpoints, and gives those checkpoints that another machine has left there.

    Raises SeedsFailed naming the seeds that failed; SystemExit when stopped by a signal.
    """
    workers, context = default_workers(), multiprocessing.get_context("forkserver")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # inherited by the fork server: a signal to all of us must not end it before the seeds
    context.set_forkserver_preload(PRELOADED)
    multiprocessing.forkserver.ensure_running()
    stop_on(signal.SIGTERM, signal.SIGINT)
    waiting, running, reasons = list(reversed(jobs)), [], {}
    with Progress(title, [job.seed for job in jobs], iterations) as progress:
        while running or (waiting and not stop_requested()):
            while waiting and len(running) < workers and not stop_requested():
                job = waiting.pop()
                if store:
                    store.fetch_checkpoint(job.fingerprint, job.work)
                tracker.seed_started(job.seed, job.fingerprint, job.config, job.work / "metrics.jsonl", model=job.model)
                running.append(_start(context, function, job))
            time.sleep(POLL_SECONDS)
            for seed in list(running):
                if stop_requested() and seed.process.is_alive():
                    os.kill(seed.process.pid, signal.SIGTERM)
                progress.update(seed.job.seed, seed.job.work / "metrics.jsonl")
                ended = not seed.process.is_alive()
                if store:
                    store.keep_checkpoint(seed.job.fingerprint, seed.job.work)
                if ended:
                    running.remove(seed)
                    if reason := _finish(seed, tracker) or store and _share(seed.job, store):
                        reasons[seed.job.seed] = reason
            tracker.poll()
    if stop_requested():
        print(f"{title}: stopped; checkpoints are kept, run the same command again to go on", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    if reasons:
        seeds_of = {reason: [str(seed) for seed in sorted(reasons) if reasons[seed] == reason] for reason in reasons.values()}
        listed = "; ".join(f"seed {', '.join(seeds)}: {reason}" for reason, seeds in seeds_of.items())
        raise SeedsFailed(f"{title}: {len(reasons)} of {len(jobs)} seeds failed; {listed}", reasons)


def _start(context: multiprocessing.context.BaseContext, function: str, job: SeedJob) -> _Running:
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_seed_main, args=(function, job, send))
    process.start()
    send.close()
    return _Running(job, process, receive)


def _finish(seed: _Running, tracker: StageTracker) -> str | None:
    """Tell the tracker how the seed ended; the reason if it did not finish."""
    job, code = seed.job, seed.process.exitcode
    if code == 0:
        artifacts = [path for path in job.out.iterdir() if path.suffix in (".json", ".csv")]
        policy = job.out if (job.out / "policy.safetensors").exists() else None
        final_metrics = job.out / "metrics.json"
        final = read_json(final_metrics) if final_metrics.exists() else {}
        tracker.seed_finished(job.seed, "FINISHED", final, artifacts, policy)
        shutil.rmtree(job.work, ignore_errors=True)
        return None
    if code in (EXIT_STOPPED, -signal.SIGTERM):
        tracker.seed_finished(job.seed, "KILLED", {}, [], None)
        return "it was stopped; run the same command again to go on"
    tracker.seed_finished(job.seed, "FAILED", {}, [], None)
    try:
        return seed.messages.recv()
    except EOFError:  # it ended without a word
        return f"its process ended with status {code}" + (" (killed: out of memory?)" if code == -signal.SIGKILL else "")


def _share(job: SeedJob, store: SharedStore) -> str | None:
    """Put a seed's result into the store; the reason if that fails."""
    try:
        store.keep(job.stage, job.fingerprint, job.out)
    except InspoError as error:
        return str(error)
    return None


def _seed_main(function: str, job: SeedJob, messages: Connection) -> None:
    import torch

    from inspo_core.loop import Stopped

    torch.set_num_threads(1)  # seeds have a core each; OpenMP threads that wait for one another would only take turns

    stop_on(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and asks us to stop
    try:
        pkgutil.resolve_name(function)(**job.arguments)
    except Stopped:
        sys.exit(EXIT_STOPPED)
    except InspoError as error:
        messages.send(str(error))
        sys.exit(2)
    except OSError as error:
        place = error.filename or job.work
        messages.send(f"cannot write {place}: {error.strerror}; free space there, make it writable, or choose another place")
        sys.exit(2)
    except Exception as error:
        traceback.print_exc()
        messages.send(f"{type(error).__name__}: {error}")
        sys.exit(1)
