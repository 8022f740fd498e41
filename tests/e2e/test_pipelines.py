"""The pipelines in real containers, with Kubeflow's local runner: they give what ``dvc repro`` gives, whatever happens under way."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from inspo_core.config import load_params
from inspo_core.datasets.fetch import data_hashes
from inspo_core.tracking.store import connect
from pipelines.plan import benchmark_plan, experiment_keys
from tests.e2e.clone import DATASET, ROOT, SEEDS, SMALL
from tests.lab import contents
from tests.services.docker import Docker
from tests.services.git_server import serve_git
from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow


class Cluster:
    """A place where pipelines run: a Docker engine, an MLflow server, a repository with the data, and a shared store."""

    def __init__(self, place: Path, image: Docker, server: MlflowServer, repo: str, rev: str, experiment: str):
        self.docker, self.server, self.repo, self.rev = image, server, repo, rev
        self.place, self.root, self.log, self.experiment = place, place / "root", place / "log", experiment
        self.mounts: dict[str, str] = {}
        for folder in (self.root, self.root / "store"):
            folder.mkdir()
            folder.chmod(0o777)  # the containers' user is another one
        self.use_store(str(self.root / "store"))

    def use_store(self, uri: str, **env: str) -> None:
        """Make ``uri`` the shared store; ``env``: what it takes to reach it."""
        env |= {"INSPO_STORE": uri, "MLFLOW_TRACKING_URI": self.server.uri, "INSPO_DELIVERY_PATIENCE": "120"}
        defaults = {"env": env, "retries": {"count": 2, "backoff_seconds": 1}}
        (self.place / "placement.yaml").write_text(yaml.safe_dump({"defaults": defaults}))

    def overrides(self, **more) -> dict:
        return SMALL | {"experiment.name": self.experiment} | more

    def start(self, pipeline: str, overrides: dict, **arguments) -> subprocess.Popen:
        """Start a pipeline; what it prints goes to the file ``log``."""
        params = load_params(ROOT / "params.yaml", [json.dumps(overrides)])
        hashes, keys = data_hashes(self.repo, self.rev, params.experiment.datasets), None
        if pipeline == "experiment":
            keys = experiment_keys(params, **arguments, data_hash=hashes[arguments["dataset"]], image=self.docker.image)
        else:
            arguments |= {"plan": benchmark_plan(params, hashes, self.docker.image)}
        arguments |= {"data_repo": self.repo, "data_rev": self.rev, "overrides": overrides}
        task = {"pipeline": pipeline, "placement": str(self.place / "placement.yaml"), "root": str(self.root), "keys": keys}
        (self.place / "task.json").write_text(json.dumps(task | {"arguments": arguments, "mounts": self.mounts}))
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "INSPO_", "DVC_"))}
        with open(self.log, "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.kfp_local", self.place / "task.json"],
                cwd=ROOT,
                env=environment | {"DOCKER_HOST": self.docker.host, "INSPO_IMAGE": self.docker.image},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, pipeline: str, overrides: dict, **arguments) -> str:
        """Run a pipeline to its good end; what it printed."""
        process = self.start(pipeline, overrides, **arguments)
        assert process.wait(timeout=1200) == 0, self.log.read_text()[-5000:]
        return self.log.read_text()

    def outputs(self, name: str) -> list[Path]:
        """The files of that name that report steps have written, the newest last."""
        return sorted(self.root.rglob(f"tables/{name}"), key=lambda path: path.stat().st_mtime)

    def runs(self) -> list:
        client = connect(self.server.uri)
        return client.search_runs([client.get_experiment_by_name(self.experiment).experiment_id], max_results=1000)


def steps_that_ran(log: str) -> list[str]:
    return sorted(re.findall(r"Executing task .*?'([\w-]+)'", log))


@pytest.fixture
def cluster(tmp_path, docker, mlflow_server, finished, request) -> Iterator[Cluster]:
    rev = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    with serve_git(finished.path) as repo:
        yield Cluster(tmp_path, docker, mlflow_server, repo, rev, request.node.name)


def test_an_experiment_in_containers_is_that_of_dvc(cluster, copy):
    arguments = {"dataset": DATASET, "algorithm": "inspo", "seeds": list(SEEDS)}
    overrides = cluster.overrides(**{"experiment.algorithms": ["inspo"]})
    log = cluster.run("experiment", overrides, **arguments)
    copy.set_params({"experiment.algorithms": ["inspo"]})
    copy.repro("report")
    assert contents(cluster.outputs("results.csv")[-1].parent)["results.csv"] == (copy.path / "reports/results.csv").read_bytes()
    print(log[-3000:])
