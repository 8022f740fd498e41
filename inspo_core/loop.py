"""The loop: iterate, evaluate, log, checkpoint, resume, stop.

A run works in a folder of its own (named by its fingerprint): ``metrics.jsonl`` grows a line an iteration and
``checkpoint.pt`` holds the whole state. A run that is stopped, however it is stopped, and started again on the same folder
gives the same bytes as one that was never stopped.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from inspo_core.errors import InspoError
from inspo_core.files import atomic_file, canonical_json
from inspo_core.stopping import stop_requested

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"


class Trainable(Protocol):
    def iterate(self) -> dict[str, float]: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


class Stopped(Exception):
    """The run was asked to stop and has written its checkpoint."""


def choose_device(name: str) -> str:
    """``auto`` is CUDA where there is a usable GPU, else the CPU; InspoError if CUDA is asked for in vain."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InspoError("train.device is 'cuda' but torch finds no usable CUDA device; set train.device to auto or cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def run_loop(
    trainable: Trainable,
    iterations: int,
    checkpoint_every: int,
    work: Path,
    fingerprint: str,
    evaluate: Callable[[int], dict[str, float]] = lambda iteration: {},
) -> None:
    """Iterate up to ``iterations``, from the checkpoint in ``work`` if there is one.

    ``evaluate`` is called after each iteration with its number (from 1) and may return more values for its line.

    Raises InspoError if a logged value is not finite, or if the checkpoint is damaged or of another configuration;
    Stopped after a request to stop.
    """
    work.mkdir(parents=True, exist_ok=True)
    done, position = _resume(trainable, work, fingerprint)
    with open(work / METRICS, "ab") as log:
        log.truncate(position)
        for iteration in range(done + 1, iterations + 1):
            metrics = trainable.iterate()
            metrics |= evaluate(iteration)
            if bad := [name for name, value in metrics.items() if not math.isfinite(value)]:
                raise InspoError(
                    f"{work / METRICS}: {bad[0]} became {metrics[bad[0]]} in iteration {iteration}; "
                    "lower train.learning_rate, or raise train.alpha or train.alpha_final"
                )
            log.write((canonical_json({"step": iteration} | metrics) + "\n").encode())
            log.flush()
            stop = stop_requested()
            if stop or iteration % checkpoint_every == 0 or iteration == iterations:
                os.fsync(log.fileno())
                state = {"fingerprint": fingerprint, "iteration": iteration, "metrics_bytes": log.tell(), "state": trainable.state_dict()}
                with atomic_file(work / CHECKPOINT) as aside:
                    torch.save(state, aside)
            if stop and iteration < iterations:
                raise Stopped


def _resume(trainable: Trainable, work: Path, fingerprint: str) -> tuple[int, int]:
    path = work / CHECKPOINT
    if not path.exists():
        return 0, 0
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InspoError(f"{path} is damaged ({type(error).__name__}); remove it to start this run anew") from error
    if checkpoint["fingerprint"] != fingerprint:
        raise InspoError(
            f"{path} belongs to another configuration (fingerprint {checkpoint['fingerprint']}, this run's is {fingerprint}); "
            "remove it to start this run anew"
        )
    trainable.load_state_dict(checkpoint["state"])
    return checkpoint["iteration"], checkpoint["metrics_bytes"]
