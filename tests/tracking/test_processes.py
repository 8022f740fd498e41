"""Stages in processes of their own: at the same time on a fresh store, killed, under an orchestrator; and a server that goes away."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from inspo_core.tracking.__main__ import main as deliver
from inspo_core.tracking.journal import Journal
from inspo_core.tracking.mlflow.runs import Runs
from inspo_core.tracking.process_identity import is_gone, process_identity
from tests.lab import Done
from tests.tracking.helpers import Store, count_points, expected_loss, follow, left_by, run_python, tracker, write_metrics

STAGE = """
import sys, time
from pathlib import Path
from tests.tracking.helpers import follow, tracker, write_metrics
name, seeds = sys.argv[1], [int(seed) for seed in sys.argv[2].split(",")]
with tracker(dataset=name) as stage:
    for seed in seeds:
        metrics = Path(f"work/{name}/{seed}/metrics.jsonl")
        write_metrics(metrics, range(1, 21))
        stage.seed_started(seed, f"print-{seed}", {}, metrics)
        follow(stage)
        stage.seed_finished(seed, "FINISHED", {}, [], None)
"""

HANGING_STAGE = """
import time
from pathlib import Path
from tests.tracking import helpers
with helpers.tracker() as stage:
    metrics = Path("metrics.jsonl")
    stage.seed_started(0, "print-0", {}, metrics)
    helpers.write_metrics(metrics, range(1, 6))
    helpers.follow(stage)
    helpers.write_metrics(metrics, range(6, 9))
    stage._seeds[0].read()  # in the journal, not delivered
    print("running", flush=True)
    time.sleep(100)
"""


def start(code: str, *arguments: str) -> subprocess.Popen:
    """Start Python code in a process group of its own, in the current folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], **pipes, start_new_session=True)


def test_four_processes_on_a_fresh_database(project):
    (project / "mlflow.db").unlink()
    stages = [start(STAGE, *arguments) for arguments in [("xor_a", "0,1"), ("xor_b", "0,1"), ("xor_c", "0"), ("xor_c", "1")]]
    for stage in stages:
        assert "warning" not in (said := Done.of(stage).succeeded().stderr), said
    store = Store(f"sqlite:///{project}/mlflow.db")
    statuses = store.statuses()  # which also finds every run once: one pipeline, and one stage for two processes on xor_c
    assert set(statuses.values()) == {"FINISHED"} and len(statuses) == 1 + 3 + 6
    for dataset in ("xor_a", "xor_b", "xor_c"):
        for seed in (0, 1):
            assert store.points(f"seed {seed} inspo {dataset}", "loss") == expected_loss(range(1, 21))
    assert list((project / "outbox").iterdir()) == []


@pytest.mark.parametrize("table", ["datasets", "params"])
def test_what_another_process_writes_at_the_same_moment_is_no_loss(project, store, capsys, table):
    written = []

    def write_first(session: Session, *_) -> None:
        rows = [row for row in session.new if row.__tablename__ == table]
        if rows and not written:  # MLflow has looked and not found them
            columns = rows[0].__table__.columns
            written.append({column.name: getattr(rows[0], column.name) for column in columns})
            with session.get_bind().begin() as other:
                other.execute(sqlalchemy.insert(rows[0].__table__), written)

    sqlalchemy.event.listen(Session, "before_flush", write_first)
    try:
        with tracker():
            pass
    finally:
        sqlalchemy.event.remove(Session, "before_flush", write_first)
    run = store.runs()["train inspo xor_b"]
    assert written and capsys.readouterr().err == ""
    assert [given.dataset.digest for given in run.inputs.dataset_inputs] == ["01234567"]
    assert set(run.data.params) == {"train.alpha", "train.hidden", "train.order"}


def test_a_run_that_ends_while_others_look_for_dead_ones_stays_as_it_ended(project, store):
    stage = tracker().__enter__()
    follow(stage)
    run = store.runs()["train inspo xor_b"].info

    def ends_and_goes(host: str, process: str) -> bool:
        stage.__exit__(None, None, None)
        return True

    Runs(store.client, store.uri).reap(run.experiment_id, ends_and_goes)
    assert set(store.statuses().values()) == {"FINISHED"}


def test_a_stage_belongs_to_the_process_whose_seeds_still_run(project, store):
    process = process_identity(os.getppid())
    with tracker() as last:
        last.seed_started(0, "print-0", {}, project / "metrics.jsonl")
        follow(last)
        store.client.set_tag(store.runs()["seed 0 inspo xor_b"].info.run_id, "process", process)
        with tracker() as first:
            follow(first)
        stage = store.runs()["train inspo xor_b"]
        assert stage.info.status == "RUNNING" and stage.data.tags["process"] == process
        last.seed_finished(0, "FINISHED", {}, [], None)
    assert set(store.statuses().values()) == {"FINISHED"}


@pytest.fixture
def killed_stage(project, store):
    """A stage that was killed while points of it were on the way."""
    stage = start(HANGING_STAGE)
    assert stage.stdout.readline() == "running\n", stage.communicate()
    assert set(store.statuses().values()) == {"RUNNING"}
    os.kill(stage.pid, signal.SIGKILL)
    stage.communicate()


def test_runs_of_a_killed_process_end_as_killed_with_all_their_points(killed_stage, project, store):
    with tracker("evaluate"):
        pass
    statuses = store.statuses()
    assert statuses["train inspo xor_b"] == statuses["seed 0 inspo xor_b"] == "KILLED"
    assert statuses["evaluate inspo xor_b"] == "FINISHED"
    assert next(status for name, status in statuses.items() if name.startswith("pipeline")) == "KILLED"
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 9))
    assert [path.name for path in (project / "outbox").iterdir()] == [".begun-" + store.runs()["train inspo xor_b"].data.tags["inspo.key"]]


def test_runs_of_a_dead_process_are_ended_even_if_its_outbox_is_lost(project, store):
    dead = subprocess.Popen(["true"])
    identity = process_identity(dead.pid)
    dead.wait()
    stage = tracker().__enter__()
    follow(stage)
    store.client.set_tag(store.runs()["train inspo xor_b"].info.run_id, "process", identity)
    shutil.rmtree("outbox")
    with tracker("evaluate"):
        pass
    statuses = store.statuses()
    assert statuses.pop("evaluate inspo xor_b") == "FINISHED" and set(statuses.values()) == {"KILLED"}


def test_a_killed_stage_that_is_run_again_goes_on_in_its_runs(killed_stage, project, store):
    before = store.runs()["seed 0 inspo xor_b"].info.run_id
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "metrics.jsonl")
        write_metrics(project / "metrics.jsonl", range(9, 13))
        follow(stage)
        stage.seed_finished(0, "FINISHED", {}, [], None)
    assert store.runs()["seed 0 inspo xor_b"].info.run_id == before
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 13))
    assert set(store.statuses().values()) == {"FINISHED"}


def test_delivering_leaves_running_stages_alone(project, store, capsys):
    with tracker() as stage:
        follow(stage)
        assert deliver(["deliver"]) == 0
        assert "still running: train-inspo-xor_b" in capsys.readouterr().out
        assert store.statuses()["train inspo xor_b"] == "RUNNING"


def test_processes_are_told_apart(project):
    host, mine = socket.gethostname(), process_identity(os.getpid())
    assert not is_gone(host, mine)
    assert not is_gone("another-host", "999999999")
    pid, start_time, *rest = mine.split()
    assert is_gone(host, " ".join([pid, "1", *rest]))  # another process had this number before
    assert not is_gone(host, " ".join([pid, "1", "another-container", rest[1]]))
    ended = subprocess.Popen(["true"])
    identity = process_identity(ended.pid)
    ended.wait()
    assert is_gone(host, identity)


def test_a_journal_has_one_holder_and_loses_a_torn_line(project):
    (journal,) = left_by(lambda: tracker())
    path, lines = journal / "journal.jsonl", (journal / "journal.jsonl").read_bytes()
    path.write_bytes(lines + b'{"op": "po')
    held = Journal.open(journal)
    assert path.read_bytes() == lines and Journal.open(journal) is None
    code = f"from pathlib import Path; from inspo_core.tracking.journal import Journal; print(Journal.open(Path({str(journal)!r})))"
    assert run_python(code).stdout == "None\n"
    held.close()
    assert "Journal object" in run_python(code).stdout
    held = Journal.open(journal)
    held.append({"op": "end", "time": 1, "status": "KILLED"})
    assert [operation["op"] for operation, _ in held.operations()] == ["begin", "end", "end"]
    held.close()


def test_an_orchestrators_run_is_the_parent_and_is_left_as_it_is(project, store, monkeypatch):
    experiment = store.client.create_experiment("orchestrated")
    parent = store.client.create_run(experiment, run_name="from outside").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "none.jsonl")
        follow(stage)
        stage.seed_finished(0, "FINISHED", {}, [], None)
    runs = store.runs()
    assert set(runs) == {"from outside", "train inspo xor_b", "seed 0 inspo xor_b"}
    assert runs["from outside"].info.status == "RUNNING" and set(runs["from outside"].data.tags) == {"mlflow.runName"}
    assert runs["train inspo xor_b"].data.tags["mlflow.parentRunId"] == parent
    assert {run.info.experiment_id for run in runs.values()} == {experiment}


def test_experiment_by_name_and_by_id_from_the_environment(project, store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    with tracker("ingest"):
        pass
    assert store.runs()["ingest inspo xor_b"].info.experiment_id == store.client.get_experiment_by_name("named").experiment_id
    experiment = store.client.create_experiment("by id")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    with tracker("report"):
        pass
    assert store.runs()["report inspo xor_b"].info.experiment_id == experiment


def test_a_server_that_dies_in_the_middle_gets_every_point_once(server, project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    metrics = project / "metrics.jsonl"
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, metrics)
        write_metrics(metrics, range(1, 301))
        follow(stage)
        server.kill()
        write_metrics(metrics, range(301, 601))
        began = time.monotonic()
        follow(stage)
        stage.seed_finished(0, "FINISHED", {"return": 2.0}, [metrics], None)
    assert time.monotonic() - began < 100  # MLflow's own default is four minutes
    assert capsys.readouterr().err.count("warning:") == 1
    assert deliver(["deliver"]) == 1
    server.start()
    assert deliver(["deliver"]) == 0
    store = Store(server.uri)
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 601))
    assert count_points(server.folder / "server.db") == 2 * 600 + 1
    assert set(store.statuses().values()) == {"FINISHED"}
    assert store.artifacts("seed 0 inspo xor_b") == {"metrics.jsonl"}
    assert list((project / "outbox").iterdir()) == []


def test_two_processes_on_one_server_share_the_pipeline_run(shared_server, project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared_server.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared pipeline")
    stages = [start(STAGE, dataset, "0") for dataset in ("xor_a", "xor_b")]
    for stage in stages:
        assert "warning" not in (said := Done.of(stage).succeeded().stderr), said
    runs = Store(shared_server.uri, "shared pipeline").runs()
    (pipeline,) = [run.info.run_id for name, run in runs.items() if name.startswith("pipeline ")]
    assert {runs[f"train inspo {name}"].data.tags["mlflow.parentRunId"] for name in ("xor_a", "xor_b")} == {pipeline}
