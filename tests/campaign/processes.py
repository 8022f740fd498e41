"""The processes of a command: which is the stage, which the fork server, which a seed's."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    session: int
    command: str


def living() -> list[Process]:
    """All processes that run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found.append(Process(int(folder.name), int(parent), int(session), command))
    return found


def of_kind(kind: str, session: int) -> list[int]:
    """The processes of a session that are ``group`` (all), ``stage``, ``fork server`` or ``seed``."""
    members = [process for process in living() if process.session == session]
    servers = {process.pid for process in members if "multiprocessing.forkserver" in process.command}
    seeds = {process.pid for process in members if process.pid in servers and process.parent in servers}
    kinds = {
        "group": {process.pid for process in members},
        "stage": {process.pid for process in members if " -m components." in process.command and "/sh -c" not in process.command},
        "fork server": servers - seeds,
        "seed": seeds,
    }
    return sorted(kinds[kind])
