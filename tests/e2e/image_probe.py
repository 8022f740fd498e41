"""Runs inside the image and prints as JSON what is there; the image's own Python has no test libraries."""

import importlib.metadata
import importlib.util
import json
import os
import stat
import sys
from pathlib import Path

SKIPPED = {"/proc", "/sys", "/dev"}
IMPORTED = ("components.train.__main__", "torch", "mlflow", "pandas", "scipy.stats", "matplotlib.pyplot", "kfp", "dvc.api", "dvc_s3")


def paths():
    for folder, names, files in os.walk("/"):
        names[:] = [name for name in names if os.path.join(folder, name) not in SKIPPED]
        yield folder
        yield from (os.path.join(folder, file) for file in files)


def is_open(path: str) -> bool:
    """Whether the path is root's and others than root can write to it: anybody, or group 0, in which any user id runs."""
    found = os.lstat(path)
    loose = found.st_mode & stat.S_IWOTH or (found.st_gid == 0 and found.st_mode & stat.S_IWGRP)
    return found.st_uid == 0 and bool(loose) and not stat.S_ISLNK(found.st_mode)


def is_compiled(source: str) -> bool:
    """Whether Python uses the bytecode beside ``source`` and need not compile it (the layout of PEP 552)."""
    try:
        header = Path(importlib.util.cache_from_source(source)).read_bytes()[:16]
    except OSError:
        return False
    flags = int.from_bytes(header[4:8], "little")
    changed, size = (int.from_bytes(header[place : place + 4], "little") for place in (8, 12))
    now = os.stat(source)
    return header[:4] == importlib.util.MAGIC_NUMBER and (
        flags == 1 or (flags == 0 and (changed, size) == (int(now.st_mtime), now.st_size))
    )


def main() -> None:
    everything = list(paths())
    for name in IMPORTED:
        importlib.import_module(name)
    sources = {module.__file__ for module in list(sys.modules.values()) if (getattr(module, "__file__", None) or "").endswith(".py")}
    print(
        json.dumps(
            {
                "paths": everything,
                "open": [path for path in everything if is_open(path)],
                "writable": [path for path in everything if os.access(path, os.W_OK) and not os.path.islink(path)],
                "versions": {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()},
                "slow_to_import": sorted(file for file in sources if file.startswith("/opt/") and not is_compiled(file)),
                "environment": dict(os.environ),
            }
        )
    )


if __name__ == "__main__":
    main()
