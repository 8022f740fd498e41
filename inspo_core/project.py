"""Where the project is: what must outlive a process lies in its folder."""

from pathlib import Path


def project_root() -> Path:
    """The project's folder: the current one, or the one outside for an experiment that DVC runs in a temporary copy."""
    here = Path.cwd()
    for place in here.parents:
        if (place / ".dvc" / "tmp" / "exps") in here.parents:
            return place
    return here


def in_project(address: str) -> str:
    """A path as it is meant in the project's folder; absolute ones and URIs stay as they are."""
    return address if "://" in address else str(project_root() / address)
