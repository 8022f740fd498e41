"""The loop: iterate, evaluate, log, checkpoint, resume, stop.

A run works in a folder of its own (named by its fingerprint): ``metrics.jsonl`` grows a line an iteration, ``checkpoint.pt`` holds
the whole state and the hash of the metrics until then, ``checkpoint.before.pt`` is the one before it. A run that is stopped, however it
is stopped, and started again on the same folder gives the same bytes as one that was never stopped.
"""

import fcntl
import hashlib
import io
import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from inspo_core.errors import InspoError, warn
from inspo_core.files import atomic_file, canonical_json
from inspo_core.running import machine
from inspo_core.running.shared_store import BEFORE, CHECKPOINT, METRICS
from inspo_core.stopping import stop_requested

LOCK_SECONDS = 60.0


class Trainable(Protocol):
    def iterate(self) -> dict[str, float]: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


class Stopped(Exception):
    """The run was asked to stop and has written its checkpoint."""


def run_loop(
    trainable: Trainable,
    iterations: int,
    work: Path,
    fingerprint: str,
    evaluate: Callable[[int], dict[str, float]] = lambda iteration: {},
) -> None:
    """Iterate up to ``iterations``, from the checkpoint in ``work`` if there is one; if it is damaged, with a warning, from the one before.

    ``evaluate`` is called after each iteration with its number (from 1) and may return more values for its line.

    Raises InspoError if a logged value is not finite, if no checkpoint is whole or one is of another configuration, or if another
    process keeps working in ``work``; Stopped after a request to stop.
    """
    checkpoint_every = machine.checkpoint_every()
    work.mkdir(parents=True, exist_ok=True)
    with open(work / METRICS, "ab") as log:
        _lock(log, work)
        done, position, written = _resume(trainable, work, fingerprint)
        log.truncate(position)
        for iteration in range(done + 1, iterations + 1):
            try:
                metrics = trainable.iterate()
                metrics |= evaluate(iteration)
                if bad := [name for name, value in metrics.items() if not math.isfinite(value)]:
                    raise FloatingPointError(f"{bad[0]} became {metrics[bad[0]]}")
            except FloatingPointError as error:
                raise InspoError(
                    f"{work / METRICS}: {error} in iteration {iteration}; lower the learning rate, or with InSPO raise "
                    "train.inspo.alpha or train.inspo.alpha_final"
                ) from error
            line = (canonical_json({"step": iteration} | metrics) + "\n").encode()
            log.write(line)
            log.flush()
            written.update(line)
            stop = stop_requested()
            if stop or iteration % checkpoint_every == 0 or iteration == iterations:
                os.fsync(log.fileno())
                metrics_until = {"metrics_bytes": log.tell(), "metrics_sha256": written.hexdigest()}
                state = {"fingerprint": fingerprint, "iteration": iteration, **metrics_until, "state": trainable.state_dict()}
                serialised = io.BytesIO()  # writing to a path, torch hides why it cannot
                torch.save(state, serialised)
                with atomic_file(work / CHECKPOINT, before=work / BEFORE) as aside:
                    aside.write_bytes(serialised.getbuffer())
            if stop and iteration < iterations:
                raise Stopped


def _lock(log: BinaryIO, work: Path) -> None:
    """Hold the run until ``log`` is closed. A process whose parent was killed may still be at its last iteration here."""
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if stop_requested():
                raise Stopped from error
            if time.monotonic() > give_up:
                raise InspoError(f"another process works on the same run in {work}; wait until it has ended, or end it") from error
            time.sleep(0.1)


class _Damaged(InspoError):
    """A checkpoint that is not what was written, or does not belong to the metrics beside it."""


def _resume(trainable: Trainable, work: Path, fingerprint: str) -> tuple[int, int, "hashlib._Hash"]:
    """Load the last whole checkpoint: how many iterations are done, how many bytes of metrics they wrote, and the hash of those so far."""
    written = hashlib.sha256()
    there = [path for path in (work / CHECKPOINT, work / BEFORE) if path.exists()]
    if not there:
        return 0, 0, written
    try:
        checkpoint = _read(there[0], work / METRICS)
    except _Damaged as error:
        if len(there) == 1:
            raise InspoError(f"{error}; remove {work} to start this run anew") from error
        try:
            checkpoint = _read(there[1], work / METRICS)
        except _Damaged as other:
            raise InspoError(f"{error}; {other}; remove {work} to start this run anew") from other
        warn(f"{error}; the run goes on at the checkpoint before it, of iteration {checkpoint['iteration']}")
        there = there[1:]
    path = there[0]
    if (of := checkpoint["fingerprint"]) != fingerprint:
        raise InspoError(
            f"{path} belongs to another configuration (fingerprint {of}, this run's is {fingerprint}); remove {work} to start this run anew"
        )
    try:
        trainable.load_state_dict(checkpoint["state"])
    except (RuntimeError, TypeError) as error:  # the state of a random generator is a device's own
        raise InspoError(f"{path} was written on another kind of device; go on there, or remove {work} to start this run anew") from error
    if path == work / BEFORE:
        os.replace(path, work / CHECKPOINT)
    written.update(_beginning(work / METRICS, checkpoint["metrics_bytes"]))
    return checkpoint["iteration"], checkpoint["metrics_bytes"], written


def _read(path: Path, metrics: Path) -> dict[str, Any]:
    """Raises _Damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch itself does not look at the checksums
                raise ValueError(f"wrong checksum of {damaged}")
        checkpoint: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        size, expected = checkpoint["metrics_bytes"], checkpoint["metrics_sha256"]
        found = hashlib.sha256(_beginning(metrics, size)).hexdigest()
        checkpoint["fingerprint"], checkpoint["iteration"], checkpoint["state"]
    except Exception as error:  # zipfile and torch raise many kinds for a damaged file
        raise _Damaged(f"{path} is damaged ({type(error).__name__})") from error
    if found != expected:
        raise _Damaged(f"{metrics} does not begin with the {size} bytes that {path} says")
    return checkpoint


def _beginning(path: Path, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)
