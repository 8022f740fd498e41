"""What makes a run the same run: its parameters, the content of its inputs and the code that it runs."""

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError
from inspo_core.files import canonical_json

ROOT = Path(__file__).resolve().parent.parent
ALGORITHMS = "inspo_core/algorithms"  # a file an algorithm, named after it

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


def code_hash(stage: str, algorithm: str | None = None) -> str:
    """The hash of the code that ``stage`` runs, comments and docstrings apart.

    Of ``algorithm``, if it is named, and of nothing that other algorithms alone import.
    """
    files = {file for path in STAGE_CODE[stage] for file in _sources(ROOT / path)}
    entry = ROOT / "inspo_core/behavior.py" if stage == "behavior" else algorithm and ROOT / ALGORITHMS / f"{algorithm}.py"
    if entry:
        own = {entry, *_imported(entry)}
        files = {file for file in files if ROOT / ALGORITHMS not in file.parents or file in own}
    return hash_of({file.relative_to(ROOT).as_posix(): _read(file).meaning for file in files})


def _sources(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InspoError(f"{path} is missing; the fingerprint of a stage needs its code")
    return list(path.rglob("*.py"))


def _imported(file: Path) -> set[Path]:
    """The project's files that ``file`` imports, and those that they import."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        names = _read(waiting.pop()).imports
        new = {place for name in names if (place := (ROOT / name.replace(".", "/")).with_suffix(".py")).exists()} - found
        found |= new
        waiting += new
    return found


@dataclass(frozen=True)
class _Source:
    meaning: str  # hash of the syntax tree without docstrings
    imports: frozenset[str]  # modules of this project, and names in them


def _read(file: Path) -> _Source:
    return _parse(file, file.stat().st_mtime_ns)


@cache
def _parse(file: Path, changed: int) -> _Source:
    tree = ast.parse(file.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return _Source(hash_of(ast.dump(tree)), frozenset(name for name in names if name.startswith("inspo_core.")))


def fingerprint(stage: str, section: Any, inputs: dict[str, str]) -> str:
    """The name of a run: 16 hexadecimal digits.

    ``section`` is the stage's resolved parameters (JSON values), ``inputs`` names each input and gives its content hash.
    """
    algorithm = section.get("algorithm") if stage == "train" and isinstance(section, dict) else None
    return hash_of({"stage": stage, "section": section, "inputs": inputs, "code": code_hash(stage, algorithm)})[:16]


def hash_of(value: Any) -> str:
    """SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
