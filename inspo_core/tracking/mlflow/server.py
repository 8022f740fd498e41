"""Which MLflow store the runs go to, and how to reach it: without waiting long, without showing its password."""

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from inspo_core.redaction import database_of, redact

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"

# MLflow's own defaults wait four minutes for a dead server, draw progress bars, report usage and print tracebacks.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}


class Unreachable(Exception):
    """The store cannot be used now; the message says why and, where it is in the user's hands, what to do. No secrets in it."""


class Refused(Unreachable):
    """The store answers, but does not take one journal; it may take others."""


def project_root() -> Path:
    """The project's folder: the current one, or the one outside for an experiment that DVC runs in a temporary copy."""
    here = Path.cwd()
    for place in here.parents:
        if (place / ".dvc" / "tmp" / "exps") in here.parents:
            return place
    return here


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the database ``mlflow.db`` in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project_root() / DATABASE}"


@contextlib.contextmanager
def as_default(uri: str) -> Iterator[None]:
    """Make ``uri`` MLflow's default in the block: a database's registry looks models up in that store, not in its own."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


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
        raise Unreachable(reason(error)) from error


def reason(error: BaseException) -> str:
    """What went wrong, in one line and without secrets."""
    text = str(error)
    for marker in ("Caused by ", "Response body: "):
        text = text.partition(marker)[2] or text
    return redact(" ".join(text.split()))[:300] or type(error).__name__


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
    """Hold ``<path>.lock``. Raises Unreachable if it cannot be made."""
    try:
        lock = open(f"{path}.lock", "a", encoding="utf-8")
    except OSError as error:
        raise Unreachable(_unwritable(path, error.strerror)) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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
