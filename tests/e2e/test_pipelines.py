"""The pipelines in real containers, with Kubeflow's local runner: they give what ``dvc repro`` gives, whatever happens under way."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from inspo_core.config.reading import load_params
from inspo_core.datasets.fetch import data_hashes
from inspo_core.tracking.mlflow.server import connect
from pipelines.plan import benchmark_plan, experiment_keys
from tests.e2e.clone import ALGORITHMS, DATASET, ROOT, SEEDS, SMALL
from tests.lab import contents, wait_until
from tests.services.docker import Docker
from tests.services.git_server import serve_git
from tests.services.mlflow_server import MlflowServer
from tests.services.s3 import S3

pytestmark = pytest.mark.slow
STAGES = ["ingest", "behavior", "train", "evaluate", "report"]
DEVICES = {"behavior": "cpu", "train": "cpu"}


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
        env |= {"INSPO_BATCHED_SEEDS": "2", "INSPO_CHECKPOINT_EVERY": "1"}
        defaults = {"env": env, "retries": {"count": 2, "backoff_seconds": 1}}
        (self.place / "placement.yaml").write_text(yaml.safe_dump({"defaults": defaults}))

    def use_s3(self, s3: S3, bucket: str) -> None:
        """Make a bucket the shared store; the containers find credentials in a file, as nobody may read them in the pipeline."""
        (self.place / "aws").mkdir()
        (self.place / "aws/config").write_text(f"[default]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n")
        self.mounts[str(self.place / "aws")] = "/aws"
        self.use_store(f"s3://{bucket}/store", AWS_CONFIG_FILE="/aws/config", AWS_ENDPOINT_URL=s3.endpoint, AWS_DEFAULT_REGION="us-east-1")

    def overrides(self, **more) -> dict:
        return SMALL | {"experiment.name": self.experiment} | more

    def start(self, pipeline: str, overrides: dict, cache: bool = True, **arguments) -> subprocess.Popen:
        """Start a pipeline; what it prints goes to the file ``log``."""
        params = load_params(ROOT / "params.yaml", [json.dumps(overrides)])
        hashes, keys = data_hashes(self.repo, self.rev, params.experiment.datasets), None
        if pipeline == "experiment":
            keys = experiment_keys(params, **arguments, data_hash=hashes[arguments["dataset"]], devices=DEVICES)
        else:
            arguments |= {"plan": benchmark_plan(params, hashes, DEVICES)}
        arguments |= {"data_repo": self.repo, "data_rev": self.rev, "overrides": json.dumps(overrides)}
        task = {"pipeline": pipeline, "placement": str(self.place / "placement.yaml"), "root": str(self.root), "keys": keys}
        (self.place / "task.json").write_text(json.dumps(task | {"arguments": arguments, "mounts": self.mounts, "cache": cache}))
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

    def report(self, name: str) -> bytes:
        """The file of that name which the latest report step has written."""
        return max(self.root.rglob(f"tables/{name}"), key=lambda path: path.stat().st_mtime).read_bytes()

    def training(self) -> list[str]:
        """The containers in which a training runs."""
        listed = self.docker.command("ps", "--no-trunc", "--format", "{{.ID}} {{.Command}}").stdout.splitlines()
        return [line.split()[0] for line in listed if "components.train" in line]

    def statuses(self, **tags: str) -> list[str]:
        """How the runs in MLflow with these tags ended."""
        client = connect(self.server.uri)
        experiment = client.get_experiment_by_name(self.experiment).experiment_id
        wanted = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        return sorted(run.info.status for run in client.search_runs([experiment], wanted, max_results=1000))


def steps_that_ran(log: str) -> list[str]:
    """A step that was tried again is named again; one that Kubeflow's cache had is not."""
    return sorted(re.findall(r"Executing task \S*?'([\w-]+)'", log))


@pytest.fixture
def cluster(tmp_path, docker, mlflow_server, finished, request) -> Iterator[Cluster]:
    rev = finished.run("git", "rev-parse", "HEAD").stdout.strip()
    with serve_git(finished.path) as repo:
        yield Cluster(tmp_path, docker, mlflow_server, repo, rev, request.node.name)


def test_an_experiment_is_that_of_dvc_and_runs_once(cluster, copy):
    run = {"dataset": DATASET, "algorithm": "inspo", "seeds": list(SEEDS)}
    overrides = cluster.overrides(**{"experiment.algorithms": ["inspo"]})
    assert steps_that_ran(cluster.run("experiment", overrides, **run)) == sorted([*STAGES, "finish"])
    copy.set_params({"experiment.algorithms": ["inspo"]})
    copy.repro("report")
    assert cluster.report("results.csv") == (copy.path / "reports/results.csv").read_bytes()
    assert cluster.report("report.html").startswith(b"<!DOCTYPE html>")
    assert cluster.statuses(level="pipeline") == ["FINISHED"]
    assert cluster.statuses(level="stage") == ["FINISHED"] * len(STAGES)
    assert cluster.statuses(level="seed") == ["FINISHED"] * len(SEEDS) * 3

    assert steps_that_ran(cluster.run("experiment", overrides, **run)) == ["finish"]
    changed = overrides | {"train.inspo.alpha": 0.3}
    assert steps_that_ran(cluster.run("experiment", changed, **run)) == ["evaluate", "finish", "report", "train"]


def test_a_benchmark_on_s3_is_that_of_dvc(cluster, s3, finished):
    cluster.use_s3(s3, s3.bucket())
    cluster.run("benchmark", cluster.overrides())
    assert cluster.report("results.csv") == (finished.path / "reports/results.csv").read_bytes()
    assert cluster.statuses(level="pipeline") == ["FINISHED"]
    assert cluster.statuses(level="stage", stage="train") == ["FINISHED"] * len(ALGORITHMS)
    assert cluster.statuses(level="seed", stage="train") == ["FINISHED"] * len(ALGORITHMS) * len(SEEDS)


def test_a_failed_algorithm_is_reported_as_failed_and_the_others_count(cluster, finished):
    bad = {"experiment.algorithms": ["bc", "diverging"], "variants": {"diverging": {"algorithm": "inspo", "learning_rate": 1e30}}}
    process = cluster.start("benchmark", cluster.overrides(**bad))
    assert process.wait(timeout=1200) != 0
    ours = [line for line in (finished.path / "reports/results.csv").read_text().splitlines() if ",inspo," not in line]
    assert cluster.report("results.csv").decode().splitlines() == ours
    assert cluster.report("table.md").decode().count(f"| {DATASET} | diverging | ") >= len(SEEDS)  # each with its reason
    assert cluster.statuses(level="pipeline") == ["FAILED"]


def test_a_killed_training_is_tried_again_and_gives_the_same_bytes(cluster, copy):
    longer = {"experiment.algorithms": ["inspo"], "train.iterations": 150}
    run = {"dataset": DATASET, "algorithm": "inspo", "seeds": list(SEEDS)}
    process = cluster.start("experiment", cluster.overrides(**longer), **run)
    wait_until(lambda: list(cluster.root.rglob("store/checkpoints/*/checkpoint.pt")) and cluster.training() or process.poll() is not None)
    (container,) = cluster.training()
    cluster.docker.command("kill", container).succeeded()
    ended, log = process.wait(timeout=1200), cluster.log.read_text()
    if ended != 0:
        # To the local runner a container that is gone before it is asked how it ended has succeeded: then nobody has tried again.
        assert "'policies' from task 'train', but task 'train' not found" in log, log[-5000:]
        process = cluster.start("experiment", cluster.overrides(**longer), cache=False, **run)
        assert process.wait(timeout=1200) == 0, cluster.log.read_text()[-5000:]
        log += cluster.log.read_text()
    assert steps_that_ran(log).count("train") == 2
    copy.set_params(longer)
    copy.repro()
    assert cluster.report("results.csv") == (copy.path / "reports/results.csv").read_bytes()
    place = f"{DATASET}/inspo/seed_1"
    (trained,) = cluster.root.rglob(f"train/policies/{place}")
    assert contents(trained) == contents(copy.path / "runs/train" / place) and (trained / "policy.safetensors").exists()
