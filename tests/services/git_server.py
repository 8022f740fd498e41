"""A git repository served on loopback by git's own daemon."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.tools import free_port, listens, stop, wait_for


@contextmanager
def serve_git(repository: Path) -> Iterator[str]:
    """The URL from which ``repository`` can be cloned while the block lasts."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, open(log := Path(folder) / "log", "wb") as said:
        options = [f"--base-path={repository.parent}", "--export-all", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"]
        # Not `git daemon`: that is a parent of the process that would have to be stopped.
        programs = Path(subprocess.check_output(["git", "--exec-path"], text=True).strip())
        daemon = subprocess.Popen([programs / "git-daemon", *options], stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        try:
            wait_for("git's daemon", lambda: listens(port), log)
            yield f"git://127.0.0.1:{port}/{repository.name}"
        finally:
            stop(daemon)
