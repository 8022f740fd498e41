"""Where records go: folders with odd names, relative addresses, DVC's temporary copies, pods; what is said of a database of no use."""

import fcntl
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from inspo_core.tracking.finish import finish_pipeline
from inspo_core.tracking.mlflow import server as module
from inspo_core.tracking.mlflow.server import Unreachable, connect, database_uri, tracking_uri
from tests.lab import contents
from tests.tracking.helpers import Store, away, random_policy, run_python, tracker

ODD = ("per%20cent", "que?stion", "%2F", "ha#sh", "sp ace", "ümlaut", "plus+and&semi;colon")
RELATIVE = ("sqlite:///db/mlflow.db", "sqlite:///./db/mlflow.db", "sqlite+pysqlite:///db/mlflow.db", "sqlite:///db/mlflow.db?timeout=9")


def record(project: Path) -> None:
    random_policy(project / "policy")
    (project / "table.csv").write_text("a\n")
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "none.jsonl")
        stage.seed_finished(0, "FINISHED", {"return": 1.0}, [project / "table.csv"], project / "policy")


@pytest.mark.parametrize(("name", "uri"), [*((name, None) for name in ODD), ("per%20cent?", "sqlite:///mlflow.db")])
def test_a_folders_name_may_be_anything(project, empty_database, monkeypatch, capsys, name, uri):
    (project / "mlflow.db").unlink()
    place = project / name
    place.mkdir()
    shutil.copyfile(empty_database, place / "mlflow.db")
    monkeypatch.chdir(place)
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    record(place)
    assert "warning" not in capsys.readouterr().err and os.listdir(project) == [name]
    assert {path.name for path in place.iterdir()} == {"mlartifacts", "mlflow.db", "mlflow.db.lock", "outbox", "policy", "table.csv"}
    store = Store(database_uri(place / "mlflow.db"))
    assert store.artifacts("seed 0 inspo xor_b") == {"table.csv"} and set(store.statuses().values()) == {"FINISHED"}
    assert {path.rpartition("/")[2] for path in contents(place / "mlartifacts")} >= {"table.csv", "MLmodel", "policy.safetensors"}


def test_a_database_of_that_name_is_made_there(project, monkeypatch):
    (project / "mlflow.db").unlink()
    place = project / "new %41?#"
    place.mkdir()
    monkeypatch.chdir(place)
    with tracker():
        pass
    assert os.listdir(project) == ["new %41?#"] and (place / "mlflow.db").stat().st_size > 0


@pytest.mark.parametrize("uri", RELATIVE)
def test_a_relative_address_belongs_to_the_project_in_dvcs_copies_too(project, monkeypatch, uri):
    (project / "db").mkdir()
    (project / "mlflow.db").rename(project / "db/mlflow.db")
    copy = project / ".dvc/tmp/exps/tmp1234"
    copy.mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(copy)
    with tracker():
        pass
    assert list(copy.iterdir()) == [] and set(Store(f"sqlite:///{project}/db/mlflow.db").statuses().values()) == {"FINISHED"}


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mlruns", "file://{}/mlruns"),
        ("./ml runs", "file://{}/ml%20runs"),
        ("ml%20runs", "file://{}/ml%2520runs"),  # a path is no URI
        ("file:mlruns", "file://{}/mlruns"),
        ("file:ml%20runs", "file://{}/ml%20runs"),
        ("file:///ml%20runs", "file:///ml%20runs"),
        ("/mlruns", "file:///mlruns"),
        ("http://user:word@host:5000/x?y=z", "http://user:word@host:5000/x?y=z"),
        ("postgresql+psycopg2://user:word@host/x", "postgresql+psycopg2://user:word@host/x"),
        ("databricks", "databricks"),
    ],
)
def test_other_addresses_are_read_as_mlflow_does(project, monkeypatch, uri, expected):
    copy = project / ".dvc/tmp/exps/tmp1234"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri() == expected.format(project)


def test_records_go_to_the_projects_shared_store_from_dvcs_copies_and_are_found_there(project, store, monkeypatch):
    copy = project / ".dvc/tmp/exps/tmp1234"
    copy.mkdir(parents=True)
    monkeypatch.setenv("INSPO_STORE", "sha%20red")
    monkeypatch.chdir(copy)
    with away(), tracker():
        pass
    assert list(copy.iterdir()) == [] and len(os.listdir(project / "sha%20red/outbox")) == 1
    finish_pipeline("games", {"train": {"alpha": 0.1}}, "FINISHED", {})
    assert os.listdir(project / "sha%20red/outbox") == [] and set(store.statuses().values()) == {"FINISHED"}


@pytest.mark.parametrize(("pod", "uri", "warned"), [(True, None, True), (False, None, False), (True, "sqlite:///mlflow.db", False)])
def test_a_pod_without_an_address_is_warned(project, monkeypatch, capsys, pod, uri, warned):
    if pod:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with tracker():
        pass
    said = capsys.readouterr().err
    assert said.count("warning: MLFLOW_TRACKING_URI is not set in this pod, so runs are recorded in") == warned == said.count("warning:")


def test_a_database_of_another_version_is_named_with_the_command_that_mends_it(project, capsys):
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    database.close()
    with tracker():
        pass
    said = capsys.readouterr().err
    command = f"mlflow db upgrade {shlex.quote(database_uri(project / 'mlflow.db'))}"
    assert said.count("warning:") == 1 and "Take a backup of your database" in said and command in said


def test_what_a_database_says_is_shown_without_its_statements(project):
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("DROP TABLE experiments")
    database.close()
    with pytest.raises(Unreachable) as refusal:
        connect(f"sqlite:///{project}/mlflow.db")
    assert "sqlite3.OperationalError" in str(refusal.value) and "SQL: " not in str(refusal.value) and len(str(refusal.value)) <= 500


def test_a_database_that_another_process_holds_costs_one_sentence(project, monkeypatch, capsys):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.2)
    with open(project / "mlflow.db.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with tracker():
            pass
    assert capsys.readouterr().err.count(f"another process has held {project}/mlflow.db") == 1


def test_three_writers_of_a_new_database_say_nothing(project):
    (project / "mlflow.db").unlink()
    code = "from tests.tracking.helpers import follow, tracker\nimport sys\nwith tracker(dataset={!r}) as stage:\n    follow(stage)"
    stages = [subprocess.Popen(["python", "-c", code.format(f"xor_{n}")], stderr=subprocess.PIPE, text=True) for n in "abc"]
    said = [stage.communicate()[1] for stage in stages]
    assert "warning" not in "".join(said) and run_python("import os; assert os.listdir('outbox') == []").returncode == 0
    assert set(Store(f"sqlite:///{project}/mlflow.db").statuses().values()) == {"FINISHED"}


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "mysql+pymysql"])
def test_a_database_server_that_is_away_is_known_at_once(project, scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(Unreachable, match="refused"):
        connect(f"{scheme}://u:S/3cret@127.0.0.1:{port}/runs")
    assert time.monotonic() - began < 10
