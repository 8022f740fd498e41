"""``python -m inspo_core.dvc_lock``: mends what a DVC that was killed may leave, after which every other one fails.

DVC rewrites ``.dvc/tmp/rwlock``, the list of what its processes read and write, in place. Killed in between it leaves an empty file, or
half of one, and DVC then only says that its JSON structure is corrupted.
"""

import argparse
import fcntl
import json
import os
from pathlib import Path

from inspo_core.command import run
from inspo_core.errors import InspoError, warn


def mend(project: Path) -> None:
    """Remove the list in the folder ``project`` if it cannot be read, with a warning: whoever wrote it is gone.

    Raises InspoError if a DVC still works there.
    """
    path = project / ".dvc" / "tmp" / "rwlock"
    if not path.exists():
        return
    with open(path.with_name("rwlock.lock"), "ab") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # as DVC does while it writes the list
        if _is_readable(path):
            return
        if working := [process for process in Path("/proc").glob("[0-9]*") if _is_dvc_in(process, project)]:
            raise InspoError(
                f"{path}, DVC's list of what is being read and written, is damaged, and process {working[0].name} is a DVC that works "
                f"here; wait until it has ended, or end it, and run this again"
            )
        warn(f"{path}, DVC's list of what is being read and written, was left damaged by a DVC that was killed; it is removed")
        path.unlink(missing_ok=True)


def _is_readable(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except FileNotFoundError:
        return True
    except (ValueError, RecursionError):
        return False


def _is_dvc_in(process: Path, project: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")[:3]  # python, its path; or python -m dvc
        return any(os.path.basename(word) == b"dvc" for word in words) and (process / "cwd").resolve().is_relative_to(project.resolve())
    except OSError:  # it has ended, or is another user's
        return False


def main() -> None:
    description = "Remove .dvc/tmp/rwlock where a DVC that was killed has left it damaged and none works here."
    argparse.ArgumentParser(prog="python -m inspo_core.dvc_lock", description=description).parse_args()
    mend(Path.cwd())


if __name__ == "__main__":
    run(main)
