"""Where runs come from: code, data, image, library versions, machine.

The outputs hold nothing of it, so that they have the same bytes wherever and from whatever commit they are made; it is in the runs'
tags, and of an experiment in one file beside its outputs.
"""

import functools
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import inspo_core
from inspo_core.errors import InspoError, quoted
from inspo_core.files import read_json, write_json
from inspo_core.redaction import redact

LIBRARIES = ("torch", "numpy", "mlflow")


@functools.cache
def provenance_tags() -> dict[str, str]:
    """Tags of every run of this process; what cannot be found out is left out."""
    tags = {"version_inspo": inspo_core.__version__, "version_python": platform.python_version()}
    for library in LIBRARIES:
        try:
            tags[f"version_{library}"] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            pass  # a stage's image need not hold every library
    tags |= git_tags()
    if digest := dvc_data_hash():
        tags["dvc_data"] = digest
    if image := os.environ.get("INSPO_IMAGE"):
        tags["image"] = redact(image)
    return tags


def git_tags() -> dict[str, str]:
    """Commit and dirty flag: INSPO_GIT_COMMIT of an image, or the repository's; empty without both."""
    commit, changes = os.environ.get("INSPO_GIT_COMMIT"), None
    if not commit:
        commit = _git("rev-parse", "HEAD")
        # A pipeline run rewrites dvc.lock itself: that is not a change of what is run.
        changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude,glob)**/dvc.lock")
    if not commit:
        return {}
    tags = {"git_commit": commit, "mlflow.source.git.commit": commit}
    return tags if changes is None else tags | {"git_dirty": str(bool(changes)).lower()}


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", *arguments],
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=True,
            encoding="utf-8",
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no repository


def dvc_data_hash(pointer: Path = Path("data.dvc")) -> str | None:
    """The content hash that DVC has for the raw data, from its pointer file; None without one."""
    try:
        found = re.search(r"^\s*-?\s*md5:\s*([0-9a-f]{32}(?:\.dir)?)", pointer.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return found and found[1]


def record_runs(ledger: Path, fingerprints: list[str], command: Sequence[str]) -> None:
    """Note that ``command`` makes the runs ``fingerprints`` now, with this code on this machine.

    ``ledger`` holds ``origins``, a list of :func:`origin`, and ``runs``: fingerprint -> place in that list.
    """
    known = _known(ledger)
    now = origin(command)
    if now not in known["origins"]:
        known["origins"].append(now)
    known["runs"] |= dict.fromkeys(fingerprints, known["origins"].index(now))
    write_json(ledger, known)


def origins_of(ledger: Path, fingerprints: list[str]) -> list[tuple[dict[str, Any] | None, int]]:
    """The origins of the runs ``fingerprints`` and how many are of each; None for runs of which nothing was noted."""
    known = _known(ledger)
    places = [known["runs"].get(name) for name in fingerprints]
    return [(None if place is None else known["origins"][place], places.count(place)) for place in dict.fromkeys(places)]


def _known(ledger: Path) -> dict[str, Any]:
    if not ledger.exists():
        return {"origins": [], "runs": {}}
    known = read_json(ledger)
    try:
        whole = all(isinstance(one, dict) for one in known["origins"])
        whole = whole and all(type(place) is int and 0 <= place < len(known["origins"]) for place in known["runs"].values())
    except (AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise InspoError(
            f"{ledger} is {quoted(known)}, expected a list of origins and the places of runs in it; no result is in it: remove it"
        )
    return dict(known)


def origin(command: Sequence[str]) -> dict[str, Any]:
    """Command (given in its words, kept without secrets), commit and dirty flag, library versions, hash of the raw data, processor."""
    tags = {name: value for name, value in provenance_tags().items() if not name.startswith("mlflow.")}
    return {**tags, "command": shlex.join(map(redact, command)), "processor": processor(), "cores": len(os.sched_getaffinity(0))}


def processor(information: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model as Linux names it, elsewhere the machine's architecture."""
    try:
        lines = information.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
