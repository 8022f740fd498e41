"""The pipelines in real containers, with Kubeflow's local runner: they give what ``dvc repro`` gives, whatever happens under way."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from inspo_core.config import load_params
from inspo_core.datasets.fetch import data_hashes
from inspo_core.tracking.store import connect
from pipelines.plan import benchmark_plan, experiment_keys
from tests.e2e.clone import ALGORITHMS, DATASET, ROOT, SEEDS, SMALL, Clone
from tests.lab import contents

pytestmark = pytest.mark.slow


class Cluster:
    """A place where pipelines run: a shared folder, an MLflow server and a Docker engine."""

    def __init__(self, place: Path, docker, server, repo: Clone, experiment: str):
        self.docker, self.server, self.repo = docker, server, repo
        self.root, self.experiment = place / "root", experiment
        self.store = self.root / "store"
        for folder in (self.root, self.store):
            folder.mkdir()
            folder.chmod(0o777)
        self.rev = repo.run("git", "rev-parse", "HEAD").stdout.strip()
        self.placement = place / "placement.yaml"
        env = {"INSPO_STORE": str(self.store), "MLFLOW_TRACKING_URI": server.uri, "INSPO_DELIVERY_PATIENCE": "120"}
        defaults = {"env": env, "retries": {"count": 2, "backoff_seconds": 1}}
        self.placement.write_text(yaml.safe_dump({"defaults": defaults}))
        self.place = place

    def overrides(self, **more) -> dict:
        return SMALL | {"experiment.name": self.experiment} | more

    def start(self, pipeline: str, overrides: dict, **arguments) -> subprocess.Popen:
        """Start a pipeline; what it prints goes to the file ``log``."""
        params = load_params(ROOT / "params.yaml", [json.dumps(overrides)])
        hashes, keys = data_hashes(str(self.repo.path), self.rev, params.experiment.datasets), None
        if pipeline == "experiment":
            keys = experiment_keys(params, **arguments, data_hash=hashes[arguments["dataset"]], image=self.docker.image)
        else:
            arguments |= {"plan": benchmark_plan(params, hashes, self.docker.image)}
        data = {"data_repo": str(self.repo.path), "data_rev": self.rev}
        task = {"pipeline": pipeline, "placement": str(self.placement), "root": str(self.root), "keys": keys}
        task |= {"arguments": data | {"overrides": overrides} | arguments, "mounts": [str(self.repo.path)]}
        (self.place / "task.json").write_text(json.dumps(task))
        self.log = self.place / "log"
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
def cluster(tmp_path, docker, mlflow_server, first_run, request) -> Cluster:
    tmp_path.chmod(0o755)
    return Cluster(tmp_path, docker, mlflow_server, first_run[0], request.node.name)


def test_an_experiment_in_containers_is_that_of_dvc(cluster, copy):
    arguments = {"dataset": DATASET, "algorithm": "inspo", "seeds": list(SEEDS)}
    overrides = cluster.overrides(**{"experiment.algorithms": ["inspo"]})
    log = cluster.run("experiment", overrides, **arguments)
    copy.set_params({"experiment.algorithms": ["inspo"]})
    copy.repro("report")
    assert contents(cluster.outputs("results.csv")[-1].parent)["results.csv"] == (copy.path / "reports/results.csv").read_bytes()
    print(log[-3000:])
