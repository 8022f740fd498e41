"""A real PostgreSQL server with a data directory of its own, on loopback."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.tools import free_port, listens, require, stop, wait_for

PACKAGES = "postgresql"
PROGRAMS = "/usr/lib/postgresql"  # Debian's place, a folder a version
USER = "inspo"


class Postgres:
    """The server; its one user may do everything."""

    def __init__(self, port: int, password: str):
        self.port, self.password = port, password

    def database(self, template: str = "template1") -> str:
        """The name of a new database, a copy of ``template``."""
        import psycopg2

        name = f"d{secrets.token_hex(6)}"
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname="postgres")
        connection.autocommit = True  # CREATE DATABASE is no part of a transaction
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        connection.close()
        return name

    def uri(self, database: str) -> str:
        """What SQLAlchemy wants; it has the password in it."""
        return f"postgresql+psycopg2://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = max(Path(PROGRAMS).glob("*/bin"), default=Path(PROGRAMS))
    require([str(programs / "initdb"), str(programs / "postgres")], PACKAGES)
    # PostgreSQL refuses to be run by root, and pytest's folders are for their owner alone.
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="inspo-postgres-"))
    port, password = free_port(), secrets.token_hex(12)
    (folder / "password").write_text(password)
    if owner:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    data, log = folder / "data", folder / "log"
    make = [programs / "initdb", "-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync"]
    serve = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
    try:
        subprocess.run(make, cwd=folder, check=True, capture_output=True, **owner)
        with open(log, "wb") as said:
            process = subprocess.Popen(serve, cwd=folder, stdout=said, stderr=said, start_new_session=True, **owner)
        try:
            wait_for("PostgreSQL", lambda: listens(port), log)
            yield Postgres(port, password)
        finally:
            stop(process, signal.SIGINT)  # fast shutdown: it does not wait for clients
    finally:
        shutil.rmtree(folder)
