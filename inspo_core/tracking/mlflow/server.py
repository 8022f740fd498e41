"""Which MLflow store the runs go to, and how to reach it: without waiting long, without showing its password."""

import contextlib
import fcntl
import logging
import os
import re
import shlex
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from inspo_core.project import project_root
from inspo_core.redaction import database_of, redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
SERVICES = ("databricks", "databricks-uc", "uc")  # MLflow's names for them
LOCK_SECONDS = 60.0  # for which a process waits for others to let go of a database

# MLflow's own defaults wait four minutes for a dead server, draw progress bars, report usage and print tracebacks.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}


_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DATABASES = tuple(_PORTS)
CONNECT_SECONDS = 5.0


class Unreachable(Exception):
    """The store cannot be used now; the message says why and, where it is in the user's hands, what to do. No secrets in it."""


class Refused(Unreachable):
    """One journal is not as expected, or the store answers and does not take it; it may take others."""


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the database ``mlflow.db``; a relative path in it is one in the project's folder."""
    return _absolute(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}")


def _absolute(uri: str) -> str:
    if uri.startswith("sqlite"):
        address, mark, query = uri.partition("?")
        return database_uri(project_root() / unquote(address.partition(":///")[2])) + mark + query
    if uri.startswith("file:"):
        return (project_root() / unquote(urlsplit(uri).path)).as_uri()
    if "://" in uri or uri in SERVICES:
        return uri
    return (project_root() / uri).as_uri()


def database_uri(path: Path) -> str:
    """The URI of a SQLite database. Without the driver's name in it, MLflow makes a folder of the quoted name, too."""
    return f"sqlite+pysqlite:///{quote(str(path))}"


@contextlib.contextmanager
def as_default(uri: str) -> Iterator[None]:
    """Make ``uri`` MLflow's default in the block: a database's registry looks models up in that store, not in its own."""
    wanted = {"MLFLOW_TRACKING_URI": uri}
    if registry := os.environ.get("MLFLOW_REGISTRY_URI"):
        wanted["MLFLOW_REGISTRY_URI"] = _absolute(registry)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def connect(uri: str) -> "MlflowClient":
    """A client of a store that answers.

    Importing MLflow and opening a store take a second each, so nothing but delivery does it.
    Raises Unreachable.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    path = database_of(uri)
    try:
        if path:
            with file_lock(path):
                check_database(path)
        elif uri.startswith(_DATABASES):
            _knock(uri)
        from mlflow.tracking import MlflowClient

        logging.getLogger("alembic").setLevel(logging.ERROR)
        if path is None:
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
            return client
        with file_lock(path):  # processes that make the tables of a new database at the same time break one another
            return MlflowClient(uri)
    except Unreachable:
        raise
    except Exception as error:  # each kind of store fails with errors of its own
        why = reason(error)
        raise Unreachable(why.replace("<database_uri>", shlex.quote(uri)) if path else why) from error


def _knock(uri: str) -> None:
    """Raise OSError unless somebody listens where the database server should be; MLflow asks it ten times, for two minutes."""
    from sqlalchemy.engine import make_url

    address = make_url(uri)
    if address.host:  # without one, a local socket
        with socket.create_connection((address.host, address.port or _PORTS[address.get_backend_name()]), timeout=CONNECT_SECONDS):
            pass


def reason(error: BaseException) -> str:
    """What went wrong, in one line and without secrets."""
    text = str(error)
    for marker in ("Caused by ", "Response body: "):
        text = text.partition(marker)[2] or text
    text = text.partition("[SQL: ")[0]
    return redact(" ".join(text.split()))[:500] or type(error).__name__


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where artifacts of a new experiment go: beside a local database; None lets the server decide."""
    if path := database_of(uri):
        return (path.parent / ARTIFACTS / re.sub(r"[^\w.-]+", "_", experiment)).as_uri()
    return None


@contextlib.contextmanager
def store_lock(uri: str) -> Iterator[None]:
    """Keep the other processes of this machine out of a local database while something is looked up and then made."""
    path = database_of(uri)
    with file_lock(path) if path else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold ``<path>.lock``. Raises Unreachable if it cannot be made, or if another process holds it for LOCK_SECONDS."""
    try:
        lock = open(f"{path}.lock", "a", encoding="utf-8")
    except OSError as error:
        raise Unreachable(_unwritable(path, error.strerror)) from error
    with lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unreachable(f"another process has held {path} for more than {LOCK_SECONDS:g} seconds") from None
                time.sleep(0.05)
        yield


def check_database(path: Path) -> None:
    """Raises Unreachable if the database cannot be written; MLflow would try for minutes."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("CREATE TABLE is_it_writable (x)")
            database.execute("ROLLBACK")
    except sqlite3.DatabaseError as error:
        raise Unreachable(_unwritable(path, str(error))) from error


def _unwritable(path: Path, why: str | None) -> str:
    advice = "make it writable, end the process that locks it, remove it if it is damaged, or set MLFLOW_TRACKING_URI"
    return f"{path} cannot be used as a database ({why}); {advice}"
