"""The stage commands, run as users run them, with small networks on the sample data."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from inspo_core.config.reading import load_params
from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from inspo_core.files import read_json
from inspo_core.records import HASHES, RECORD, write_record
from inspo_core.tracking.mlflow.server import connect

ROOT = Path(__file__).resolve().parents[1]
SEEDS = (0, 1, 2)  # of the behavior models
SECONDS = 300  # after which a command hangs, however slow the machine
NOWHERE = "sqlite:////dev/null/mlflow.db"
UNTRACKED = "warning: MLflow at /dev/null/mlflow.db takes no records now"
LEFTOVERS = (".new-", ".old-")
OWN_RECORDS = ("outbox", "checkpoints", "mlflow.db", "mlflow.db.lock", "mlartifacts")

SMALL = {
    "behavior.device": "cpu",
    "behavior.hidden": [16],
    "behavior.batch_size": 32,
    "behavior.steps": 40,
    "behavior.check_every": 20,
    "train.device": "cpu",
    "train.iterations": 100,
    "train.evaluate_every": 20,
    "train.evaluate_episodes": 4,
    "train.hidden": [16],
    "train.batch_size": 32,
    "train.critic_steps": 5,
    "train.inspo.policy_steps": 5,
    "train.inspo.pool_size": 256,
    "train.inspo.refit_steps": 3,
    "train.bc.policy_steps": 5,
    "evaluate.episodes": 5,
    "report.bootstrap": 100,
}

SETTINGS = {"INSPO_WORKERS": "2", "INSPO_CHECKPOINT_EVERY": "5"}  # of the machine, unless a test has others


class Lab:
    """A project folder of its own. Data and behavior models lie in ``shared`` and are not to be changed.

    Until :meth:`track`, the MLflow store is out of reach, which saves the seconds that it takes to open one.
    """

    def __init__(self, place: Path, shared: Path):
        self.place, self.shared = place, shared
        self._store = {"MLFLOW_TRACKING_URI": NOWHERE}
        shutil.copyfile(shared / "params.yaml", place / "params.yaml")

    def track(self) -> None:
        """From now on, runs are recorded in a new database here."""
        empty = self.shared / "mlflow.db"
        if not empty.exists():
            connect(f"sqlite:///{empty}")
        shutil.copyfile(empty, self.place / "mlflow.db")
        self._store = {}

    def start(self, module: str, *arguments: object, limit: Callable[[], None] | None = None, **environment: str) -> subprocess.Popen:
        """Start ``python -m module`` here, in a process group of its own; ``limit`` is called in it first."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "INSPO_", "DVC_"))}
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=self.place,
            env=inherited | {"PYTHONPATH": str(ROOT)} | SETTINGS | self._store | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=limit,
        )

    def run(self, module: str, *arguments: object, limit: Callable[[], None] | None = None, **environment: str) -> "Done":
        return Done.of(self.start(module, *arguments, limit=limit, **environment))

    def data(self, dataset: str) -> Path:
        return self.shared / "data" / dataset

    def behavior(self, dataset: str) -> Path:
        """Behavior models of the seeds in ``SEEDS``, estimated when they are first asked for."""
        models = self.shared / "behavior" / dataset
        if not models.exists():
            seeds = ",".join(map(str, SEEDS))
            elsewhere = Lab(Path(tempfile.mkdtemp(dir=self.shared)), self.shared)  # whose records are not this lab's
            elsewhere.run(
                "components.behavior", "--dataset", dataset, "--data", self.data(dataset), "--seeds", seeds, "--out", models
            ).succeeded()
        return models

    def train_arguments(self, dataset: str, algorithm: str, seeds: str, **places: object) -> list:
        """``places``: ``data``, ``behavior`` or ``out``, where it is not the usual one."""
        named = ["--dataset", dataset, "--algorithm", algorithm, "--seeds", seeds]
        data, behavior = places.get("data") or self.data(dataset), places.get("behavior") or self.behavior(dataset)
        return [*named, "--data", data, "--behavior", behavior, "--out", places.get("out", "train")]

    def train(self, dataset: str, algorithm: str, seeds: str, *more: object, **settings) -> "Done":
        """``settings``: places as above, ``limit`` or environment variables."""
        places = {name: settings.pop(name) for name in ("data", "behavior", "out") if name in settings}
        return self.run("components.train", *self.train_arguments(dataset, algorithm, seeds, **places), *more, **settings)

    def statuses(self) -> set[str]:
        """The statuses that the runs in the MLflow store have, each named once."""
        with sqlite3.connect(self.place / "mlflow.db") as database:
            return {status for (status,) in database.execute("select status from runs")}

    def outputs(self) -> dict[str, bytes]:
        """Every file here, but checkpoints and what MLflow and its outbox keep."""
        return {name: content for name, content in contents(self.place).items() if name.split("/")[0] not in OWN_RECORDS}

    def checkpoints(self) -> list[Path]:
        return sorted(self.place.glob("checkpoints/*/checkpoint.pt"))


class Done:
    """A command that has ended."""

    def __init__(self, code: int, stdout: str, stderr: str):
        self.code, self.stdout, self.stderr = code, stdout, stderr

    @classmethod
    def of(cls, process: subprocess.Popen, timeout: float = SECONDS) -> "Done":
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return cls(process.returncode, stdout, stderr)

    def succeeded(self) -> "Done":
        assert self.code == 0, self.stderr
        return self

    def refused(self, *words: str, code: int = 2) -> None:
        """Assert one sentence, at the end of what is said, with all ``words`` in it."""
        *before, last = self.stderr.splitlines() or [""]
        assert self.code == code, (self.code, self.stderr)
        assert last.startswith("error: "), self.stderr
        assert "Traceback" not in self.stderr and "error: " not in "".join(before), self.stderr
        assert not [line for line in before if "%" not in line and UNTRACKED not in line], f"more than progress: {self.stderr}"
        assert not [word for word in words if word not in last], last


def contents(folder: Path) -> dict[str, bytes]:
    """The files below ``folder`` by their relative names."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again, even with the same bytes."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def seal(folder: Path, **changes: object) -> None:
    """Write ``run.json`` with ``changes``, and as if the run had written the files that are there now."""
    record = read_json(folder / RECORD)
    record.pop(HASHES, None)
    write_record(folder, record | changes)


def abandon(path: Path) -> None:
    """Have a process killed while it writes the folder ``path``."""
    script = """
import os, pathlib, sys
from inspo_core.files import atomic_directory
with atomic_directory(pathlib.Path(sys.argv[1])):
    os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", script, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL and list(path.parent.glob(f".{path.name}.new-*"))


def leftovers(folder: Path) -> list[Path]:
    """Files and folders that were to be renamed when they were whole."""
    return [path for path in folder.rglob("*") if any(mark in path.name for mark in LEFTOVERS)]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not so after {SECONDS} s")
        time.sleep(0.01)


def group_members(group: int) -> list[int]:
    """The living processes of a process group."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != "Z":
            members.append(int(stat.parent.name))
    return members


def make_shared(place: Path) -> None:
    """What every :class:`Lab` starts from: parameters and data."""
    params = load_params(ROOT / "params.yaml", [json.dumps(SMALL)])
    (place / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    for name in ("xor_b", "xor_c", "bridge_optimal"):
        write_dataset(SETS[name](), place / "data" / name)
