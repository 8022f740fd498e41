"""A project folder of its own for every test, with a real store or server."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspo_core.provenance import provenance_tags
from inspo_core.tracking.mlflow.server import connect
from tests.tracking.helpers import ROOT, Server, Store

ENVIRONMENT = ("MLFLOW_", "DVC_", "INSPO_")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A database with MLflow's tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def project(tmp_path, monkeypatch, empty_database) -> Path:
    """The current folder: a project with an empty store."""
    for name in list(os.environ):
        if name.startswith(ENVIRONMENT):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    provenance_tags.cache_clear()
    return tmp_path


@pytest.fixture
def store(project) -> Store:
    return Store(f"sqlite:///{project}/mlflow.db")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory, empty_database) -> Iterator[Server]:
    """A server for tests that use experiments and models of their own."""
    yield from _running(tmp_path_factory.mktemp("shared") / "server", empty_database)


@pytest.fixture
def server(project, empty_database) -> Iterator[Server]:
    """A server for one test."""
    yield from _running(project / "server", empty_database)


def _running(folder: Path, database: Path) -> Iterator[Server]:
    server = Server(folder, database)
    server.start()
    yield server
    server.kill()
