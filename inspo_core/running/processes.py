"""Running the seeds of a stage side by side, in one-thread processes."""

import math
import multiprocessing
import multiprocessing.forkserver
import shutil
import signal
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo_core.errors import InspoError, say
from inspo_core.files import atomic_directory, read_json, remove
from inspo_core.identity import Identity
from inspo_core.records import holds_run, write_record
from inspo_core.running import machine
from inspo_core.running.progress import Progress
from inspo_core.running.shared_store import METRICS, SharedStore
from inspo_core.stopping import stop_on, stop_requested, wait_for_stop
from inspo_core.tracking.tracker import StageTracker

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from inspo_core.algorithms.seed_batching import Fitter
# Imported once by the process from which seed processes are forked; this process itself has no use for torch.
PRELOADED = ["inspo_core.stages.artifacts", "inspo_core.running.loop"]
POLL_SECONDS = 0.2
STOPPING_SECONDS = 0.05  # between two looks at seeds that were asked to stop
SMALL_WIDTH = 64  # of the hidden layers for which docs/speed.md shows that batched seeds are faster on a processor
# Multiplications of a layer on a batch from which PyTorch has one kernel for single products and for stacks, and so the same last bits.
SAME_KERNEL = 400
EXIT_STOPPED = 128 + signal.SIGTERM
STOPPED = "it was stopped; run the same command again to go on"


@dataclass(frozen=True, kw_only=True)
class SeedJob(ABC):
    """One seed's run of a stage; a stage's own kind has what it needs as fields and does the work in :meth:`run`."""

    seed: int
    identity: Identity
    labels: Mapping[str, str | None]  # dataset, algorithm and variant, which are no part of what the run is
    out: Path
    model: str | None = None  # fingerprint of the training whose policy the run uses
    shown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # parameters by section, where they are not the identity's

    @abstractmethod
    def run(self) -> None:
        """Do the work, in a process of its own, and write ``out`` through :meth:`result`."""

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint

    @property
    def work(self) -> Path:
        """Scratch: checkpoint and growing metrics, kept while the run is unfinished."""
        return machine.checkpoints() / self.fingerprint

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """What is shown as the run's parameters, by section."""
        return {name: dict(values) for name, values in (self.shown or {self.identity.stage: self.identity.section}).items()}

    @property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        what = {"stage": self.identity.stage, "fingerprint": self.fingerprint}
        return {**self.labels, "seed": self.seed, **what, "inputs": dict(self.identity.inputs), "config": dict(self.identity.section)}

    @contextmanager
    def result(self) -> Iterator[Path]:
        """A folder to write the result to; it is put at ``out``, with ``run.json``, when the block ends well."""
        with atomic_directory(self.out) as aside:
            yield aside
            write_record(aside, self.record)

    def is_done(self) -> bool:
        """Whether ``out`` holds this very run's result, whole and under its own labels."""
        return holds_run(self.out, self.record)


class BatchableJob(SeedJob):
    """A run that can leave its gradient steps to a ``fit`` that makes those of several seeds at once."""

    @abstractmethod
    def run(self, fit: "Fitter | None" = None) -> None: ...


class SeedsFailed(InspoError):
    """Some seeds failed; the results of the others are kept."""

    def __init__(self, message: str, reasons: dict[int, str]):
        super().__init__(message)
        self.reasons = reasons  # by seed


@dataclass
class _Running:
    """A process, and the seeds that it runs: one, or several that are batched."""

    jobs: Sequence[SeedJob]
    process: multiprocessing.process.BaseProcess
    messages: Connection = field(repr=False)


def prune(folder: Path, jobs: Sequence[SeedJob]) -> None:
    """Remove the runs of other seeds, naming them, so that the content of ``folder`` depends on the parameters alone."""
    keep = {job.out.name for job in jobs}
    for path in sorted(folder.glob("seed_*")):
        if path.name not in keep:
            print(f"removing {path}: {path.name.replace('_', ' ')} is none of those asked for", flush=True)
            remove(path)


@contextmanager
def soft_stop() -> Iterator[None]:
    """In the block SIGTERM and SIGINT only ask to stop, which :func:`run_seeds` heeds, and the seeds' processes outlive them."""
    signals = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        # It inherits that signals are ignored: one to all of us must not end it before the seeds.
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        multiprocessing.forkserver.ensure_running()
        stop_on(*signals)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_seeds(
    jobs: Sequence[SeedJob], tracker: StageTracker, title: str, iterations: int, store: SharedStore | None, batches_seeds: bool
) -> None:
    """Run the jobs, as many processes at a time as there are workers. ``iterations``: lines that a seed's metrics file will have.

    With ``batches_seeds`` a process runs several :class:`BatchableJob` as one batched model, as many as :func:`seeds_a_process` says.
    A failed seed does not stop the others; their results are kept. A request to stop lets every seed write its checkpoint.
    ``store`` gets results and checkpoints, and gives those checkpoints that another machine has left there.

    Raises SeedsFailed naming the seeds that failed; SystemExit when stopped by a signal.
    """
    workers, context = machine.workers(), multiprocessing.get_context("forkserver")
    batched = seeds_a_process(jobs, workers) if batches_seeds else 1
    machine.checkpoint_every()  # a wrong value is better said now than by every seed
    waiting = [jobs[first : first + batched] for first in range(0, len(jobs), batched)]
    running: list[_Running] = []
    reasons: dict[int, str] = {}
    try:
        with Progress(title, [job.seed for job in jobs], iterations) as progress:
            while running or (waiting and not stop_requested()):
                while waiting and len(running) < workers and not stop_requested():
                    together = waiting.pop(0)
                    for job in together:
                        if store:
                            store.fetch_checkpoint(job.fingerprint, job.work)
                        tracker.seed_started(job.seed, job.fingerprint, job.parameters, job.work / METRICS, model=job.model)
                    running.append(_start(context, together))
                wait_for_stop([process.process.sentinel for process in running], STOPPING_SECONDS if stop_requested() else POLL_SECONDS)
                if stop_requested():
                    for process in running:
                        process.process.terminate()
                for process in list(running):
                    ended = not process.process.is_alive()
                    for job in process.jobs:
                        if store:  # first: whoever asked to stop may not wait
                            store.keep_checkpoint(job.fingerprint, job.work)
                        progress.update(job.seed, job.work / METRICS)
                    if ended:
                        running.remove(process)
                        reasons |= _finish(process, tracker, store)
                tracker.poll()
    finally:
        _stop(running)
    if stop_requested() and (waiting or STOPPED in reasons.values()):
        say(f"{title}: stopped; checkpoints are kept, run the same command again to go on")
        sys.exit(EXIT_STOPPED)
    if reasons:
        seeds_of = {reason: [str(seed) for seed in sorted(reasons) if reasons[seed] == reason] for reason in reasons.values()}
        listed = "; ".join(f"seed {', '.join(seeds)}: {reason}" for reason, seeds in seeds_of.items())
        raise SeedsFailed(f"{title}: {len(reasons)} of {len(jobs)} seeds failed; {listed}", reasons)


def seeds_a_process(jobs: Sequence[SeedJob], workers: int) -> int:
    """How many seeds a process batches where that is possible.

    INSPO_BATCHED_SEEDS says; without it all of them on a GPU, which has room for them, and on processors as many as keep every worker busy
    to the end, if their networks are small: the stack of larger ones leaves a processor's caches, and one by one they are faster. The very
    smallest are not batched either: their bytes would then depend on the number of workers.
    """
    if asked := machine.batched_seeds():
        return asked
    sections = [job.identity.section for job in jobs]
    if any(section.get("device") == "cuda" for section in sections):
        return len(jobs)
    is_small = all(
        max(section["hidden"]) <= SMALL_WIDTH and section["batch_size"] * min(section["hidden"]) >= SAME_KERNEL for section in sections
    )
    return math.ceil(len(jobs) / workers) if is_small else 1


def _start(context: "ForkServerContext", jobs: Sequence[SeedJob]) -> _Running:
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_process_main, args=(jobs, send))
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
    told: dict[int, tuple[str, str | None]] = {}
    reasons: dict[int, str] = {}
    try:
        while process.messages.poll():
            seed, status, reason = process.messages.recv()
            told[seed] = (status, reason)
    except EOFError:  # that was all
        pass
    for job in process.jobs:
        status, reason = told.get(job.seed) or _without_a_word(process.process.exitcode)
        if status == "FINISHED":
            record_result(job, tracker)
            shutil.rmtree(job.work, ignore_errors=True)
            reason = store and _share(job, store)
        else:
            tracker.seed_finished(job.seed, status, {}, [], None)
        if reason:
            reasons[job.seed] = reason
    return reasons


def record_result(job: SeedJob, tracker: StageTracker) -> None:
    """Tell the tracker what a finished seed's folder holds, and that it is FINISHED."""
    artifacts = [path for path in job.out.iterdir() if path.suffix in (".json", ".csv")]
    policy = job.out if (job.out / "policy.safetensors").exists() else None
    final_metrics = job.out / "metrics.json"
    final = read_json(final_metrics) if final_metrics.exists() else {}
    tracker.seed_finished(job.seed, "FINISHED", final, artifacts, policy)


def _without_a_word(code: int | None) -> tuple[str, str]:
    """Status and reason of a seed whose process has ended with the status ``code`` and said nothing of it."""
    if code == -signal.SIGTERM:
        return "KILLED", STOPPED
    return "FAILED", f"its process ended with status {code}" + (" (killed: out of memory?)" if code == -signal.SIGKILL else "")


def _share(job: SeedJob, store: SharedStore) -> str | None:
    """Put a seed's result into the store; the reason if that fails."""
    try:
        store.keep(job.identity.stage, job.fingerprint, job.out)
    except InspoError as error:
        return str(error)
    return None


def _process_main(jobs: Sequence[SeedJob], messages: Connection) -> None:
    import torch

    from inspo_core.algorithms.seed_batching import Together

    torch.set_num_threads(1)  # processes have a core each; OpenMP threads that wait for one another would only take turns
    stop_on(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and asks us to stop

    def tell(job: SeedJob, ended: tuple[str, str | None]) -> None:
        with suppress(BrokenPipeError):  # the stage's process was killed
            messages.send((job.seed, *ended))

    if len(jobs) == 1:
        return tell(jobs[0], _run_seed(jobs[0]))
    together = Together(len(jobs))

    def run(job: SeedJob) -> None:
        with together.run():
            tell(job, _run_seed(job, together.fit))

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _run_seed(job: SeedJob, fit: "Fitter | None" = None) -> tuple[str, str | None]:
    """Its status, and the reason unless that is FINISHED."""
    from inspo_core.running.loop import Stopped

    try:
        if isinstance(job, BatchableJob):
            job.run(fit)
        else:
            job.run()
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
