"""Copies of the project's code, to be changed and run."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_code(place: Path, of: Path = ROOT) -> Path:
    """The packages and params.yaml of the checkout ``of`` in the folder ``place``, which is returned."""
    for folder in ("inspo_core", "components", "pipelines"):
        shutil.copytree(of / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(of / "params.yaml", place / "params.yaml")
    return place
