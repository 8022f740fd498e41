"""Where a run comes from: code, data, image, library versions and the process that does it. Standard library only."""

import functools
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
from pathlib import Path

import inspo_core

LIBRARIES = ("torch", "numpy", "mlflow")


def provenance_tags() -> dict[str, str]:
    """Tags that are the same for every run of this process; what cannot be found out is left out."""
    return lasting_tags() | {"host": socket.gethostname(), "process": process_identity(os.getpid())}


@functools.cache
def lasting_tags() -> dict[str, str]:
    """The part that does not change while the process lives."""
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
        tags["image"] = image
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
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no repository


def dvc_data_hash(pointer: Path = Path("data.dvc")) -> str | None:
    """The content hash that DVC has for the raw data, from its pointer file; None without one."""
    try:
        found = re.search(r"^\s*-?\s*md5:\s*([0-9a-f]{32}(?:\.dir)?)", pointer.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found and found[1]


def process_identity(pid: int) -> str:
    """A name that no other process of this host ever has: ``<pid> <start time> <pid namespace> <boot>``.

    The start time is in clock ticks since boot. Off Linux, the process id alone.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            start = file.read().rpartition(")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{pid} {start} {_pid_namespace()} {boot}"
    except OSError:
        return str(pid)


def _pid_namespace() -> str:
    return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))


def is_gone(host: str, process: str) -> bool:
    """Whether the process with that ``host`` and :func:`process_identity` has surely ended.

    False where this cannot be seen from here: another host, or another container of this one.
    """
    if host != socket.gethostname():
        return False
    pid, *rest = process.split()
    if rest and rest[1] != _pid_namespace():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it belongs to another user
    return process_identity(int(pid)) != process
