"""Which process records a run, so that the runs of one that is gone can be told."""

import os
import re
import socket


def process_tags() -> dict[str, str]:
    """Host and process, as tags of a run."""
    return {"host": socket.gethostname(), "process": process_identity(os.getpid())}


def process_identity(pid: int) -> str:
    """A name that no other process of this host ever has: ``<pid> <start time> <pid namespace> <boot>``.

    The start time is in clock ticks since boot. Off Linux, the process id alone.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            start = file.read().rpartition(")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
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
