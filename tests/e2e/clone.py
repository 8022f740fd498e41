"""A clone of the project in which DVC runs a very small experiment, as a stranger would who has just installed it."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DATASET, ALGORITHMS, SEEDS = "bridge_optimal", ("inspo", "bc"), (0, 1)
SMALL = {
    "experiment.datasets": [DATASET],
    "experiment.algorithms": list(ALGORITHMS),
    "experiment.seeds": list(SEEDS),
    "behavior.device": "cpu",
    "behavior.hidden": [8],
    "behavior.steps": 4,
    "behavior.check_every": 2,
    "train.device": "cpu",
    "train.iterations": 2,
    "train.evaluate_every": 1,
    "train.evaluate_episodes": 4,
    "train.hidden": [16],
    "train.batch_size": 32,
    "train.critic_steps": 3,
    "train.inspo.policy_steps": 3,
    "train.inspo.refit_steps": 1,
    "train.inspo.pool_size": 64,
    "train.bc.policy_steps": 3,
    "evaluate.episodes": 10,
    "report.bootstrap": 100,
}
ALL = ("ingest", "behavior", "train", "evaluate")
NOWHERE = "http://127.0.0.1:9"  # whatever asks the network for something fails


def stages(*names: str, dataset: str = DATASET) -> set[str]:
    """DVC's names of the stages ``names``, such as ``train``, of a dataset and all algorithms."""
    each = [f"-{algorithm}" for algorithm in ALGORITHMS]
    return {f"{name}@{dataset}{part}" for name in names for part in ([""] if name in ("ingest", "behavior") else each)}


@dataclass(frozen=True)
class Run:
    """A run in MLflow."""

    id: str
    name: str
    status: str
    tags: dict[str, str] = field(repr=False)
    params: dict[str, str] = field(repr=False)
    metrics: dict[str, float] = field(repr=False)  # last values


class Clone:
    """A checkout in ``path``, and what one does in it."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def of_project(cls, path: Path) -> "Clone":
        """Clone the project as it is in the working tree, with the small experiment as its parameters, all committed."""
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(path)], check=True)
        listed = ["git", "ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"]
        for name in set(subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")) - {"", "dvc.lock"}:
            (path / name).unlink(missing_ok=True)
            if (ROOT / name).exists():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        clone = cls(path)
        clone.set_params(SMALL)
        clone.commit()
        return clone

    def copy(self, path: Path) -> "Clone":
        """Another checkout with the same outputs and a new MLflow store."""
        shutil.copytree(self.path, path, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts", "outbox"))
        return Clone(path)

    def environment(self, **more: str) -> dict[str, str]:
        """That of a command in the checkout: nothing of this process's settings, offline; and ``more``."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "INSPO_", "PYTHON", "GIT_"))}
        ours |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(self.path.parent / "dvc"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "OMP_NUM_THREADS": "1",
        }
        ours |= {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        ours |= {name: NOWHERE for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
        return ours | more

    def run(self, *command: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Run a command in the checkout, in the environment above; it must succeed if ``check``."""
        finished = subprocess.run(
            [str(part) for part in command],
            cwd=self.path,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert not check or finished.returncode == 0, f"{' '.join(finished.args)}\n{finished.stdout}\n{finished.stderr}"
        return finished

    def dvc(self, *arguments: object) -> str:
        """What a ``dvc`` command prints."""
        return self.run("dvc", *arguments).stdout

    def repro(self, *arguments: object, command: tuple[str, ...] = ("repro",)) -> set[str]:
        """Run ``dvc repro``, or another command that runs stages; the stages that ran."""
        return set(re.findall(r"^Running stage '([^']+)'", self.dvc(*command, *arguments), re.MULTILINE))

    def changed_stages(self) -> set[str]:
        """The stages of which ``dvc status`` says that they have changed."""
        return set(json.loads(self.dvc("status", "dvc.yaml", "--json")))

    def set_params(self, values: dict[str, Any]) -> None:
        """Set ``section.key``, or ``train.<algorithm>.key``, in ``params.yaml``."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for name, value in values.items():
            *sections, key = name.split(".")
            place = params
            for section in sections:
                place = place[section]
            assert key in place, name
            place[key] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self) -> None:
        """Commit everything."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "a state")

    def hashes(self, *folders: str) -> dict[str, str]:
        """Content of every file in ``folders``."""
        files = [path for folder in folders for path in (self.path / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    @property
    def store(self) -> str:
        """The URI of the checkout's MLflow store."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    def runs(self, **tags: str) -> list[Run]:
        """The runs in MLflow that have these tags."""
        with closing(sqlite3.connect(self.path / "mlflow.db")) as store:
            found = store.execute("select run_uuid, name, status from runs where lifecycle_stage = 'active'").fetchall()
            tables = ("tags", "params", "latest_metrics")
            runs = [
                Run(*run, *(dict(store.execute(f"select key, value from {table} where run_uuid = ?", run[:1])) for table in tables))
                for run in found
            ]
        return [run for run in runs if tags.items() <= run.tags.items()]

    def best(self) -> dict[str, str]:
        """Registered models, each with the id of the run that trained what its alias ``best`` names."""
        query = (
            "select a.name, v.run_id from registered_model_aliases a join model_versions v on a.name = v.name and a.version = v.version "
            "where a.alias = 'best'"
        )
        with closing(sqlite3.connect(self.path / "mlflow.db")) as store:
            return dict(store.execute(query).fetchall())
