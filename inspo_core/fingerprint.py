"""What makes a run the same run: its parameters, the content of its inputs and the code that it runs."""

import hashlib
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError
from inspo_core.files import canonical_json

ROOT = Path(__file__).resolve().parent.parent

# The code whose change makes a stage's results another thing; dvc.yaml lists the same paths (a test compares them).
STAGE_CODE: dict[str, list[str]] = {
    "ingest": ["inspo_core/datasets", "inspo_core/envs"],
    "behavior": [
        "inspo_core/algorithms",
        "inspo_core/behavior.py",
        "inspo_core/datasets/format.py",
        "inspo_core/loop.py",
        "inspo_core/rng.py",
    ],
    "train": [
        "inspo_core/algorithms",
        "inspo_core/behavior.py",
        "inspo_core/datasets/format.py",
        "inspo_core/envs",
        "inspo_core/loop.py",
        "inspo_core/rng.py",
        "inspo_core/rollouts.py",
        "inspo_core/training.py",
    ],
    "evaluate": [
        "inspo_core/algorithms/networks.py",
        "inspo_core/algorithms/policy.py",
        "inspo_core/algorithms/recurrent.py",
        "inspo_core/envs",
        "inspo_core/evaluation.py",
        "inspo_core/rng.py",
        "inspo_core/rollouts.py",
        "inspo_core/statistics.py",
    ],
    "report": [
        "inspo_core/envs",
        "inspo_core/evaluation.py",
        "inspo_core/report",
        "inspo_core/rng.py",
        "inspo_core/statistics.py",
    ],
}


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(path: Path) -> str:
    """One hash of a file, or of a directory's relative file names and their contents.

    Raises InspoError if there is nothing at ``path``.
    """
    if path.is_file():
        return file_hash(path)
    if not path.is_dir():
        raise InspoError(f"{path} is missing; run the stage that makes it first")
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return hash_of({str(file.relative_to(path)): file_hash(file) for file in files})


def code_hash(stage: str) -> str:
    """The hash of the source files that ``stage`` runs."""
    return hash_of({path: tree_hash(ROOT / path) for path in STAGE_CODE[stage]})


def fingerprint(stage: str, section: Any, inputs: dict[str, str]) -> str:
    """The name of a run: 16 hexadecimal digits.

    ``section`` is the stage's resolved parameters (JSON values), ``inputs`` names each input and gives its content hash.
    """
    return hash_of({"stage": stage, "section": section, "inputs": inputs, "code": code_hash(stage)})[:16]


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
