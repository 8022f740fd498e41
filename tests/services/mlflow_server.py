"""A real ``mlflow server`` process, whose stores outlive it; and one on PostgreSQL and S3."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.postgres import Postgres
from tests.services.s3 import S3
from tests.services.tools import free_port, wait_for

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # without the latter it starts ten processes


class MlflowServer:
    """An MLflow server on loopback, on the same port whenever it is started; ``folder`` is its own."""

    def __init__(self, folder: Path, backend_store: str, artifacts: str, **environment: str):
        self.folder, self.artifacts, self._environment = folder, artifacts, environment
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
        self._command += ["--backend-store-uri", backend_store, "--artifacts-destination", artifacts]
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        log = self.folder / "log"
        with open(log, "ab") as said:
            self._process = subprocess.Popen(
                [*self._command, "--port", str(self.port)],
                cwd=self.folder,
                env=environment | QUIET | self._environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        wait_for("the MLflow server", self._answers, log)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=2)
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill it and its workers without warning, and wait until the port is free."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)  # the group that start() made
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory, postgres: Postgres, s3: S3) -> Iterator[MlflowServer]:
    """One server for the session, on PostgreSQL and S3; a test uses an experiment of its own, and leaves the server running."""
    folder, bucket = tmp_path_factory.mktemp("mlflow"), s3.bucket()
    server = MlflowServer(folder, postgres.uri(postgres.database()), f"s3://{bucket}/mlflow", **s3.environment())
    server.start()
    yield server
    server.kill()
