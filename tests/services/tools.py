"""What the services' fixtures share: programs that must be there, free ports, processes that are stopped by their ids."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

START_SECONDS = 180  # the longest that a service may take, however slow the machine


def require(programs: list[str], packages: str) -> None:
    """Skip the tests unless ``programs`` (names or paths) are installed; fail where CI=true, which is to run all of them.

    ``packages``: the Debian packages that have them.
    """
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        sentence = f"{', '.join(missing)} missing; on Debian: scripts/test-services.sh, or apt-get install {packages}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(sentence)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what: str, ready: Callable[[], bool], log: Path) -> None:
    """Wait until ``ready``; fail with the end of ``log``."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:] if log.exists() else "nothing"
            raise TimeoutError(f"{what} is not there after {START_SECONDS} s; it said: {said}")
        time.sleep(0.2)


def listens(port: int) -> bool:
    """Whether somebody accepts connections at the loopback port."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(process: subprocess.Popen, number: int = signal.SIGTERM) -> None:
    """Stop a process that was started here, and wait for it; SIGKILL after ten seconds."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
