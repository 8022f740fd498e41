"""Real MLflow stores and servers, a stage to track, and a small real policy."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Run

from inspo_core.tracking.description import StageRun
from inspo_core.tracking.mlflow.server import connect
from inspo_core.tracking.tracker import StageTracker
from tests.services.mlflow_server import MlflowServer

if TYPE_CHECKING:
    from inspo_core.algorithms.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
N, O, A = 2, 8, 5  # noqa: E741  the letters of the shapes


class Store:
    """What a test asks of an MLflow store."""

    def __init__(self, uri: str, experiment: str = "%"):
        self.uri, self._experiment = uri, experiment
        self.client = connect(uri)

    def runs(self) -> dict[str, Run]:
        """Runs by name; two runs of one name are an error."""
        experiments = self.client.search_experiments(filter_string=f"name LIKE '{self._experiment}'")
        found = self.client.search_runs([experiment.experiment_id for experiment in experiments])
        names = Counter(run.info.run_name for run in found)
        assert not [name for name, count in names.items() if count > 1], names
        return {run.info.run_name: run for run in found}

    def statuses(self) -> dict[str, str]:
        return {name: run.info.status for name, run in self.runs().items()}

    def points(self, name: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of all points of a run's metric, doubles included."""
        run_id = self.runs()[name].info.run_id
        return sorted((point.step, point.value) for point in self.client.get_metric_history(run_id, metric))

    def artifacts(self, name: str) -> set[str]:
        return {file.path for file in self.client.list_artifacts(self.runs()[name].info.run_id)}


def tracker(stage: str = "train", **changes) -> StageTracker:
    """A tracker of a stage on xor_b."""
    arguments = {
        "stage": stage,
        "experiment": "games",
        "dataset": "xor_b",
        "algorithm": "inspo",
        "variant": "default",
        "params": {"train": {"alpha": 0.1, "hidden": [8, 8], "order": "random"}},
        "inputs": {"data": "d" * 64},
        "fingerprint": f"{stage}-print",
        "data": {"digest": "0123456789abcdef", "source": "runs/ingest/xor_b", "episodes": 3},
        "pipeline": {"train": {"alpha": 0.1}},
    }
    return StageTracker(StageRun(**(arguments | changes)))


def follow(stage: StageTracker) -> None:
    """What its seeds have written is read, and MLflow has been told."""
    stage.poll()
    stage.deliver()


def write_metrics(path: Path, steps: range) -> None:
    """Append a line for each step; ``loss`` = 1 / step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "loss": 1 / step, "evaluation/return": float(step)}) + "\n")


def expected_loss(steps: range) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in steps]


def random_policy(folder: Path, seed: int = 0, memory: int = 0) -> "Policy":
    """A real policy with random weights, saved in ``folder``; its actions depend on the observations."""
    import torch  # most processes of these tests do without it

    from inspo_core.algorithms.networks import Standardizer
    from inspo_core.algorithms.policy import Policy
    from inspo_core.algorithms.recurrent import stacked
    from inspo_core.stages.artifacts import save_policy

    generator = torch.Generator().manual_seed(seed)
    network = stacked(N, [O, 12, 16, A], memory, generator, "cpu")
    network.parameters.mul_(3)
    policy = Policy(network, Standardizer(torch.randn(N, 1, O, generator=generator), torch.rand(N, 1, O, generator=generator) + 0.5))
    folder.mkdir(parents=True, exist_ok=True)
    save_policy(policy, folder)
    return policy


def left_by(stage: Callable[[], StageTracker]) -> list[Path]:
    """The journals that the stage leaves in the outbox, because MLflow is out of reach."""
    before = set(Path("outbox").glob("*"))
    with away(), stage():
        pass
    return sorted(set(Path("outbox").absolute().glob("*")) - {path.absolute() for path in before})


@contextlib.contextmanager
def away() -> Iterator[None]:
    """MLflow is out of reach in the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
        yield


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own, in the current folder."""
    return subprocess.run([sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=120)


class Server(MlflowServer):
    """A server on a copy of an empty database."""

    def __init__(self, folder: Path, database: Path):
        folder.mkdir()
        shutil.copyfile(database, folder / "server.db")
        super().__init__(folder, "sqlite:///server.db", str(folder / "artifacts"))


def break_database(path: Path) -> None:
    """Make a database unusable in a way that holds for the superuser too."""
    path.unlink()
    path.mkdir()


def count_points(database: Path) -> int:
    """All points in a store, as its table counts them."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT COUNT(*) FROM metrics").fetchone()[0]
