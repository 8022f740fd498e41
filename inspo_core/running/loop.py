"""The loop: iterate, evaluate, log, checkpoint, resume, stop.

A run works in a folder of its own (named by its fingerprint): ``metrics.jsonl`` grows a line an iteration and
``checkpoint.pt`` holds the whole state. A run that is stopped, however it is stopped, and started again on the same folder
gives the same bytes as one that was never stopped.
"""

import fcntl
import io
import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import torch

from inspo_core.errors import InspoError
from inspo_core.files import atomic_file, canonical_json
from inspo_core.running import machine
from inspo_core.running.shared_store import CHECKPOINT, METRICS
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
    """Iterate up to ``iterations``, from the checkpoint in ``work`` if there is one.

    ``evaluate`` is called after each iteration with its number (from 1) and may return more values for its line.

    Raises InspoError if a logged value is not finite, if the checkpoint is damaged or of another configuration, or if another
    process keeps working in ``work``; Stopped after a request to stop.
    """
    checkpoint_every = machine.checkpoint_every()
    work.mkdir(parents=True, exist_ok=True)
    with open(work / METRICS, "ab") as log:
        _lock(log, work)
        done, position = _resume(trainable, work, fingerprint)
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
            log.write((canonical_json({"step": iteration} | metrics) + "\n").encode())
            log.flush()
            stop = stop_requested()
            if stop or iteration % checkpoint_every == 0 or iteration == iterations:
                os.fsync(log.fileno())
                state = {"fingerprint": fingerprint, "iteration": iteration, "metrics_bytes": log.tell(), "state": trainable.state_dict()}
                serialised = io.BytesIO()  # writing to a path, torch hides why it cannot
                torch.save(state, serialised)
                with atomic_file(work / CHECKPOINT) as aside:
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


def _resume(trainable: Trainable, work: Path, fingerprint: str) -> tuple[int, int]:
    """Load the checkpoint; how many iterations are done and how many bytes of metrics they wrote."""
    path = work / CHECKPOINT
    if not path.exists():
        return 0, 0
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch itself does not look at the checksums
                raise ValueError(f"wrong checksum of {damaged}")
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        of, iteration, position = (checkpoint[key] for key in ("fingerprint", "iteration", "metrics_bytes"))
    except Exception as error:  # zipfile and torch raise many kinds for a damaged file
        raise InspoError(f"{path} is damaged ({type(error).__name__}); remove it to start this run anew") from error
    if of != fingerprint:
        raise InspoError(
            f"{path} belongs to another configuration (fingerprint {of}, this run's is {fingerprint}); remove it to start this run anew"
        )
    if (size := (work / METRICS).stat().st_size) < position:
        raise InspoError(f"{work / METRICS} holds {size} bytes, {path} says {position}; remove {work} to start this run anew")
    try:
        trainable.load_state_dict(checkpoint["state"])
    except (RuntimeError, TypeError) as error:  # the state of a random generator is a device's own
        raise InspoError(f"{path} was written on another kind of device; go on there, or remove it to start this run anew") from error
    return iteration, position
