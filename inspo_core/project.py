"""The project's folder, to which relative addresses belong: DVC runs an experiment in a copy of it that does not live on."""

import os
import re
from pathlib import Path


def project_root() -> Path:
    """The current folder, or the one outside for an experiment that DVC runs in a temporary copy."""
    here = Path.cwd()
    for place in here.parents:
        if (place / ".dvc" / "tmp" / "exps") in here.parents:
            return place
    return here


def in_project(address: str) -> str:
    """A store's address as fsspec reads it, which need not be a URI: a local folder as an absolute path, relative ones from the project's
    folder; ``s3://...`` and the like as it is.
    """
    path = re.sub(r"^(file|local):(//)?", "", address)
    return address if "://" in path else str(project_root() / os.path.expanduser(path))
