"""Pods of one pipeline, and a real MLflow server on PostgreSQL and S3: one tree of runs, whatever happens to the server.

A pod is a process with a folder of its own; it sees of the others what Kubeflow hands over, their outputs.
"""

import json
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.entities import Run

from inspo_core.stages.artifacts import load_policy
from inspo_core.tracking.mlflow.server import connect
from tests.lab import Done, Lab, wait_until
from tests.services.mlflow_server import MlflowServer

pytestmark = pytest.mark.slow
LONG = 1500  # iterations: they go on for several times as long as it takes until MLflow has the seed's run


class Cluster:
    """Where pods run. ``experiment`` is their experiment in MLflow."""

    def __init__(self, place: Path, shared: Path, server: MlflowServer, experiment: str):
        self.place, self.shared, self.server, self.experiment = place, shared, server, experiment
        self.iterations = 200
        self.client = connect(server.uri)
        self.environment = {"MLFLOW_TRACKING_URI": server.uri, "INSPO_DELIVERY_PATIENCE": "300", "INSPO_IMAGE": "inspo@sha256:0"}

    def start(self, pod: str, command: str, *arguments: object, **environment: str):
        """Start ``python -m components.<command>`` in the folder ``pod``."""
        folder = self.place / pod
        folder.mkdir()
        lab = Lab(folder, self.shared)
        named = ("--set", f"experiment.name={self.experiment}", "--set", json.dumps({"train.iterations": self.iterations}))
        return lab.start(f"components.{command}", *arguments, *named, **(self.environment | environment))

    def run(self, pod: str, command: str, *arguments: object, **environment: str) -> Done:
        return Done.of(self.start(pod, command, *arguments, **environment)).succeeded()

    def runs(self) -> list[Run]:
        experiment = self.client.get_experiment_by_name(self.experiment)
        return self.client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []

    def of(self, **tags: str) -> list[Run]:
        return [run for run in self.runs() if all(run.data.tags.get(name) == value for name, value in tags.items())]

    def is_complete(self, run: Run, metrics: Path) -> bool:
        """Whether the run has each point of a metrics file once, and no other."""
        lines = [json.loads(line) for line in metrics.read_text().splitlines()]
        names = {name for line in lines for name in line} - {"step"}
        assert names and len(lines) == self.iterations
        for name in names:
            written = sorted((line["step"], line[name]) for line in lines if name in line)
            known = sorted((point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name))
            if known != written:
                return False
        return {name for name in run.data.metrics if not name.startswith("final/")} == names


@pytest.fixture
def cluster(tmp_path, shared, mlflow_server, request) -> Cluster:
    return Cluster(tmp_path, shared, mlflow_server, re.sub(r"[^\w-]", "-", request.node.name))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory, shared, mlflow_server) -> Cluster:
    """A cluster in which the pods of one pipeline have run, those of a kind all at once. Not to be changed."""
    cluster = Cluster(tmp_path_factory.mktemp("pods"), shared, mlflow_server, "pipeline")
    lab = Lab(tmp_path_factory.mktemp("given"), shared)
    of_data = ("--dataset", "xor_b")
    at_once = {
        "ingest-b": ("ingest", *of_data, "--raw", lab.data("xor_b"), "--out", "out"),
        "ingest-c": ("ingest", "--dataset", "xor_c", "--raw", lab.data("xor_c"), "--out", "out"),
        "behavior": ("behavior", *of_data, "--data", lab.data("xor_b"), "--seeds", "0", "--out", "out"),
        "train": ("train", *lab.train_arguments("xor_b", "inspo", "0,1", out="xor_b/inspo")),
        "train-2": ("train", *lab.train_arguments("xor_b", "inspo", "2", out="xor_b/inspo")),
        "train-bc": ("train", *lab.train_arguments("xor_b", "bc", "0,1", out="xor_b/bc")),
    }
    pods = [cluster.start(pod, *command) for pod, command in at_once.items()]
    for done in [Done.of(pod) for pod in pods]:
        assert not done.succeeded().stderr.count("warning"), done.stderr
    trained = cluster.place / "train/xor_b/inspo"
    cluster.run("evaluate", "evaluate", *of_data, "--algorithm", "inspo", "--train", trained, "--seeds", "0,1", "--out", "xor_b/inspo")
    chosen = {"experiment.datasets": ["xor_b"], "experiment.algorithms": ["inspo"], "experiment.seeds": [0, 1]}
    places = ("--evaluations", cluster.place / "evaluate", "--trainings", cluster.place / "train", "--out", "out")
    cluster.run("report", "report", *places, "--set", json.dumps(chosen))
    cluster.run("finish", "finish", "--status", '{"state": "SUCCEEDED", "pipelineTaskName": "exit-handler-1"}', *of_data)
    return cluster


def test_pods_that_write_at_once_make_one_tree(pipeline):
    levels = Counter(run.data.tags["level"] for run in pipeline.runs())
    assert levels == {"pipeline": 1, "stage": 8, "seed": 1 + 5 + 2, "algorithm": 1}
    stages = Counter(run.info.run_name for run in pipeline.of(level="stage"))
    expected = ["ingest xor_b", "ingest xor_c", "behavior xor_b", "train inspo xor_b", "train inspo xor_b", "train bc xor_b"]
    assert stages == Counter([*expected, "evaluate inspo xor_b", "report"])
    (top,) = pipeline.of(level="pipeline")
    runs = {run.info.run_id: run for run in pipeline.runs()}
    for run in pipeline.runs():
        parent = runs.get(run.data.tags.get("mlflow.parentRunId"))
        above = {"pipeline": None, "algorithm": None, "stage": "pipeline", "seed": "stage"}[run.data.tags["level"]]
        assert (parent and parent.data.tags["level"]) == above
        if above == "stage":
            assert parent.data.tags["stage"] == run.data.tags["stage"] and parent.data.tags.get("learner") == run.data.tags.get("learner")
        assert run.data.tags["pipeline"] == top.data.tags["pipeline"] and run.data.tags["image"] == "inspo@sha256:0"
        assert run.info.status == "FINISHED"


def test_no_point_is_lost_or_doubled(pipeline):
    for pod, learner, seeds in (("train", "inspo", "01"), ("train-2", "inspo", "2"), ("train-bc", "bc", "01")):
        for seed in seeds:
            (run,) = pipeline.of(stage="train", level="seed", learner=learner, seed=seed)
            assert pipeline.is_complete(run, pipeline.place / pod / "xor_b" / learner / f"seed_{seed}/metrics.jsonl")


def test_a_policy_comes_back_from_s3_through_the_server_and_acts(pipeline, s3, monkeypatch):
    import mlflow

    (run,) = pipeline.of(stage="train", level="seed", learner="inspo", seed="1")
    (logged,) = pipeline.client.search_logged_models([run.info.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'")
    assert logged.artifact_location.startswith("mlflow-artifacts:")
    bucket = pipeline.server.artifacts.split("/")[2]
    assert [key for key in s3.objects(bucket) if logged.model_id in key and key.endswith("policy.safetensors")]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", pipeline.server.uri)
    served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    policy = load_policy(pipeline.place / "train/xor_b/inspo/seed_1")
    generator = np.random.default_rng(0)
    (_, n, size), actions = served.metadata.signature.inputs.inputs[0].shape, served.metadata.signature.inputs.inputs[1].shape[-1]
    observations = generator.normal(size=(50, n, size)).astype(np.float32)
    available = np.ones((50, n, actions), bool)
    expected = policy.log_probs(torch.from_numpy(observations), torch.from_numpy(available)).argmax(-1)
    assert served.predict({"observations": observations, "available_actions": available}).tolist() == expected.tolist()
    best = pipeline.client.get_model_version_by_alias("pipeline-xor_b", "best")
    assert best.run_id in {run.info.run_id for run in pipeline.of(stage="train", level="seed", learner="inspo")}


def test_a_run_that_kubeflow_opened_is_the_parent_and_stays_as_it_is(cluster):
    """Kubeflow's own integration: one run for the pipeline, one below it for each task, whose id the task gets."""
    experiment = cluster.client.create_experiment(cluster.experiment)
    whole = cluster.client.create_run(experiment, run_name="whole").info.run_id
    opened = {"whole": whole}
    for task in ("behavior", "finish"):
        opened[task] = cluster.client.create_run(experiment, run_name=task, tags={"mlflow.parentRunId": whole}).info.run_id
    before = {run_id: cluster.client.get_run(run_id).to_dictionary() for run_id in opened.values()}

    def injected(task: str) -> dict[str, str]:
        return {"MLFLOW_RUN_ID": opened[task], "MLFLOW_EXPERIMENT_ID": experiment, "MLFLOW_TRACKING_URI": cluster.server.uri}

    data = ("--dataset", "xor_b", "--data", cluster.shared / "data/xor_b")
    cluster.run("behavior", "behavior", *data, "--seeds", "0", "--out", "out", "--set", "experiment.name=ignored", **injected("behavior"))
    cluster.run("finish", "finish", "--status", "FAILED", **injected("finish"))
    assert {run_id: cluster.client.get_run(run_id).to_dictionary() for run_id in opened.values()} == before
    (stage,), (seed,) = cluster.of(level="stage"), cluster.of(level="seed")
    assert stage.data.tags["mlflow.parentRunId"] == opened["behavior"] and seed.data.tags["mlflow.parentRunId"] == stage.info.run_id
    assert stage.info.status == seed.info.status == "FINISHED" and len(cluster.runs()) == 5


@pytest.mark.parametrize("patience", [300, 0])
def test_a_server_that_is_killed_in_mid_run_loses_no_point(cluster, s3, patience):
    """With patience the stage waits for the server at its end; without, the end of the pipeline brings the rest."""
    cluster.iterations = LONG
    cluster.environment |= s3.environment(INSPO_STORE=f"s3://{s3.bucket()}/store", INSPO_DELIVERY_PATIENCE=str(patience))
    lab = Lab(cluster.place, cluster.shared)
    training = cluster.start("train", "train", *lab.train_arguments("xor_b", "inspo", "0", out="out"))
    finished = cluster.place / "train/out/seed_0/run.json"
    wait_until(lambda: bool(cluster.of(level="seed")) or training.poll() is not None)
    assert not finished.exists(), "too quick: it was not in mid-run"
    cluster.server.kill()
    try:
        wait_until(finished.exists)
        if patience:
            time.sleep(3)
            assert training.poll() is None  # it waits
        else:
            assert "is left in s3://" in Done.of(training).succeeded().stderr
    finally:
        cluster.server.start()
    if patience:
        Done.of(training).succeeded()
    else:
        assert cluster.of(level="seed")[0].info.status == "RUNNING"
        cluster.run("finish", "finish", "--status", "SUCCEEDED")
    (seed,) = cluster.of(level="seed")
    assert cluster.is_complete(seed, cluster.place / "train/out/seed_0/metrics.jsonl")
    assert {run.info.status for run in cluster.runs()} == {"FINISHED"} and len(cluster.runs()) == 3
    assert not s3.objects(cluster.environment["INSPO_STORE"].split("/")[2], "store/outbox")


def test_a_pod_that_is_killed_and_its_second_attempt_are_one_run(cluster):
    """The second pod has nothing of the first but the checkpoint in the shared store."""
    store = cluster.place / "store"
    cluster.iterations = LONG
    cluster.environment |= {"INSPO_STORE": str(store)}
    lab = Lab(cluster.place, cluster.shared)
    arguments = ("train", *lab.train_arguments("xor_b", "inspo", "0", out="out"))
    first = cluster.start("first", *arguments)
    wait_until(lambda: bool(list(store.glob("checkpoints/*/checkpoint.pt")) and cluster.of(level="seed")) or first.poll() is not None)
    assert first.poll() is None, "too quick: it was not in mid-run"
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert cluster.of(level="seed")[0].info.status == "RUNNING"
    cluster.run("second", *arguments)
    (seed,) = cluster.of(level="seed")
    assert cluster.is_complete(seed, cluster.place / "second/out/seed_0/metrics.jsonl")
    assert {run.info.status for run in cluster.runs()} == {"FINISHED"} and len(cluster.runs()) == 3


def test_a_server_that_stays_away_fails_nothing(cluster):
    cluster.environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "INSPO_DELIVERY_PATIENCE": "1"}
    done = cluster.run("finish", "finish", "--status", "SUCCEEDED")
    assert "so the pipeline's run is not ended there" in done.stderr
