"""Settings of the machine, from its environment. None changes a result, so none is part of a run's identity."""

import os
from pathlib import Path

from inspo_core.errors import InspoError
from inspo_core.project import in_project


def workers() -> int:
    """INSPO_WORKERS: how many processes may run at a time; default: the processors that this one may use."""
    return _count("INSPO_WORKERS", "how many processes may run at a time") or len(os.sched_getaffinity(0))


def batched_seeds() -> int | None:
    """INSPO_BATCHED_SEEDS: how many seeds a process trains as one batched model, of an algorithm that can; None: as suits the machine."""
    return _count("INSPO_BATCHED_SEEDS", "how many seeds a process trains as one batched model")


def checkpoint_every() -> int:
    """INSPO_CHECKPOINT_EVERY: iterations between two checkpoints; default: 10."""
    return _count("INSPO_CHECKPOINT_EVERY", "how many iterations lie between two checkpoints") or 10


def checkpoints() -> Path:
    """INSPO_CHECKPOINTS: the folder of unfinished runs' checkpoints, in the project's where it is relative; default: ``checkpoints``."""
    return Path(in_project(os.environ.get("INSPO_CHECKPOINTS") or "checkpoints"))


def _count(variable: str, meaning: str) -> int | None:
    asked = os.environ.get(variable)
    if not asked:
        return None
    if not asked.isdecimal() or int(asked) == 0:
        raise InspoError(f"{variable} is {asked!r}, expected {meaning}, a whole number from 1")
    return int(asked)
