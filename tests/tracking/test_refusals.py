"""What MLflow or the disk does not take: deleted runs and experiments, other users' journals, a full disk. Stages go on."""

import os
import resource
import shutil
import signal
import tarfile
import tempfile
from pathlib import Path

import pytest

from inspo_core.tracking.__main__ import main as deliver
from inspo_core.tracking.finish import finish_pipeline
from inspo_core.tracking.journal import Journal
from tests.tracking.helpers import expected_loss, follow, run_python, tracker, write_metrics

VANISHING = """
import os
from pathlib import Path
from tests.tracking.helpers import follow, tracker, write_metrics
with tracker() as stage:
    stage.seed_started(0, "print-0", {}, Path("metrics.jsonl"))
    follow(stage)
    write_metrics(Path("metrics.jsonl"), range(1, 6))
    stage._seeds[0].read()  # in the journal, not delivered
    os._exit(1)
"""

ANOTHER_USER = """
import os
from pathlib import Path
from tests.tracking.helpers import follow, tracker
with tracker("ingest"):  # imports everything, which another user may not be able to
    pass
stage = tracker().__enter__()  # will be run again by another user
follow(stage)
stage._journal.close()
for path in [Path("."), *Path(".").rglob("*")]:
    path.chmod(0o777)
(stage._journal.folder / ".lock").chmod(0)
stages = [tracker(dataset=dataset) for dataset in ("xor_b", "xor_c")]  # reads the project's code, as above
if os.getuid() == 0:
    os.setuid(65534)  # the superuser may open everything
for stage in stages:
    with stage:
        follow(stage)
"""


@pytest.fixture
def file_size():
    """Limits the size of the files that this process writes, which then fails in mid-line as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size=hard: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    signal.signal(signal.SIGXFSZ, handler)


def delete(store, name: str) -> None:
    store.client.delete_run(store.runs()[name].info.run_id)


def pipeline_name(store) -> str:
    (name,) = [name for name in store.runs() if name.startswith("pipeline ")]
    return name


def waiting() -> list[str]:
    return [name for name in os.listdir("outbox") if not name.startswith(".begun-")]


def test_a_seeds_run_that_is_deleted_while_it_runs_costs_one_warning(project, store, capsys):
    metrics = project / "metrics.jsonl"
    with tracker() as stage:
        for seed in (0, 1):
            stage.seed_started(seed, f"print-{seed}", {}, metrics)
        follow(stage)
        delete(store, "seed 0 inspo xor_b")
        for last in (5, 10):
            write_metrics(metrics, range(last - 4, last + 1))
            follow(stage)
        for seed in (0, 1):
            stage.seed_finished(seed, "FINISHED", {"return": 1.0}, [metrics], None)
    said = capsys.readouterr().err
    assert said.count("warning:") == 1 and "was deleted in MLflow" in said and "seed-0" in said
    assert waiting() == [] and store.points("seed 1 inspo xor_b", "loss") == expected_loss(range(1, 11))
    assert set(store.statuses().values()) == {"FINISHED"} and len(store.statuses()) == 3


@pytest.mark.parametrize("level", ["stage", "pipeline"])
def test_a_stages_or_pipelines_run_that_is_deleted_while_it_runs_blocks_nothing(project, store, capsys, level):
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "none.jsonl")
        follow(stage)
        delete(store, "train inspo xor_b" if level == "stage" else pipeline_name(store))
        stage.seed_finished(0, "FINISHED", {}, [], None)
    assert capsys.readouterr().err.count("warning:") == (level == "stage")  # of a pipeline's run, only its status is lost
    assert waiting() == [] and set(store.statuses().values()) == {"FINISHED"} and len(store.statuses()) == 2


def test_runs_that_are_deleted_before_they_are_delivered_stop_no_others(project, store, monkeypatch, capsys):
    run_python(VANISHING)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    with tracker(dataset="xor_c"):
        pass
    assert deliver(["deliver"]) == 1 and len(waiting()) == 3  # the store is away: all is kept
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    for name in ("seed 0 inspo xor_b", "train inspo xor_b"):
        delete(store, name)
    capsys.readouterr()
    with tracker("evaluate"):
        pass
    said = capsys.readouterr().err
    assert said.count("warning:") == said.count("was deleted in MLflow") == 2 and waiting() == []
    assert set(store.statuses()) == {pipeline_name(store), "train inspo xor_c", "evaluate inspo xor_b"}
    assert set(store.statuses().values()) == {"FINISHED"}


def test_a_stage_that_is_run_again_after_its_runs_were_deleted_makes_new_ones(project, store):
    run_python(VANISHING)
    for name in ("seed 0 inspo xor_b", "train inspo xor_b"):
        delete(store, name)
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "metrics.jsonl")
        write_metrics(project / "metrics.jsonl", range(6, 11))
        stage.seed_finished(0, "FINISHED", {}, [], None)
    assert waiting() == [] and set(store.statuses().values()) == {"FINISHED"}
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(6, 11))  # the first five were dropped with the old run


def test_records_of_a_deleted_experiment_are_kept_and_stop_no_others(project, store, monkeypatch, capsys):
    monkeypatch.setenv("INSPO_STORE", str(project / "shared"))
    deleted = store.client.create_experiment("deleted")
    store.client.delete_experiment(deleted)
    with tracker(experiment="deleted"):  # goes to the shared store
        pass
    monkeypatch.delenv("INSPO_STORE")
    with tracker(experiment="deleted"):  # stays here
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    with tracker(dataset="xor_c"):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    capsys.readouterr()
    with tracker("evaluate"):
        pass
    said = capsys.readouterr().err
    assert said.count("warning:") == 1 and "its experiment 'deleted' is deleted; restore it" in said
    assert set(store.statuses()) == {pipeline_name(store), "train inspo xor_c", "evaluate inspo xor_b"} and len(waiting()) == 1
    monkeypatch.setenv("INSPO_STORE", str(project / "shared"))
    finish_pipeline("games", {"train": {"alpha": 0.1}}, "FINISHED", {})
    assert len(list((project / "shared/outbox").iterdir())) == 1
    assert deliver(["deliver"]) == 1 and "not delivered: train-inspo-xor_b" in capsys.readouterr().err
    store.client.restore_experiment(deleted)
    assert deliver(["deliver"]) == 0 and waiting() == [] and not list((project / "shared/outbox").iterdir())


@pytest.mark.parametrize(("name", "link"), [("../stranger", None), ("{project}/stranger", None), ("stranger", "{project}/mlflow.db")])
def test_what_reaches_out_of_a_left_journal_is_refused(project, store, monkeypatch, capsys, name, link):
    monkeypatch.setenv("INSPO_STORE", str(project / "shared"))
    left = project / "shared/outbox/train-inspo-xor_b.0.tar.gz"
    left.parent.mkdir(parents=True)
    member = tarfile.TarInfo(name.format(project=project))
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link.format(project=project)
    with tarfile.open(left, "w:gz") as archive:
        archive.addfile(member)
    assert deliver(["deliver"]) == 1
    assert f"'{member.name}' in it is not a file or folder of its own" in capsys.readouterr().err
    assert left.exists() and not (project / "stranger").exists()


def test_another_users_journal_is_left_alone(project, empty_database, monkeypatch):
    with tempfile.TemporaryDirectory() as folder:  # others may not enter pytest's folders
        shutil.copy(empty_database, folder)
        monkeypatch.chdir(folder)
        done = run_python(ANOTHER_USER)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("warning:") == done.stderr.count("so it is left as it is") == 2, done.stderr  # once a stage
        (left,) = waiting()
        assert left.startswith("train-inspo-xor_b")
        monkeypatch.chdir(project)


def test_a_damaged_journal_is_left_alone(project, store, capsys):
    journal = Journal.open(project / "outbox/damaged")
    journal.append({"op": "begin"})
    journal.close()
    with open(project / "outbox/damaged/journal.jsonl", "a") as file:
        file.write("\0\0\0\n")
    with tracker():
        pass
    assert capsys.readouterr().err.count("warning:") == 1
    assert waiting() == ["damaged"] and set(store.statuses().values()) == {"FINISHED"}


def test_a_disk_that_is_full_for_a_while_loses_no_point(project, store, file_size, capsys):
    metrics = project / "metrics.jsonl"
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, metrics)
        write_metrics(metrics, range(1, 11))
        follow(stage)
        file_size(stage._seeds[0].journal.size() + 100)
        for last in (20, 30):
            write_metrics(metrics, range(last - 9, last + 1))
            follow(stage)
        file_size()
        follow(stage)
        stage.seed_finished(0, "FINISHED", {}, [], None)
    said = capsys.readouterr().err
    assert said.count("warning:") == 1 and "does not take all records ([Errno 27] File too large" in said
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 31))
    assert waiting() == [] and set(store.statuses().values()) == {"FINISHED"}


def test_a_disk_that_stays_full_costs_one_warning(project, store, file_size, capsys):
    metrics, policy = project / "metrics.jsonl", project / "policy"
    write_metrics(metrics, range(1, 101))
    policy.mkdir()
    for name in ("policy.json", "policy.safetensors"):
        (policy / name).write_text("x" * 1000)
    file_size(500)
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, metrics)
        follow(stage)
        stage.log_artifacts([metrics])
        stage.log_algorithm("inspo", "default", {}, {"score": 1.0})
        stage.seed_finished(0, "FINISHED", {"return": 1.0}, [metrics], policy)
    assert capsys.readouterr().err.count("warning:") == 1
    file_size()
    with tracker("evaluate"):  # what is left is no trouble for others
        pass
    assert capsys.readouterr().err == "" and waiting() == []


def test_an_outbox_that_vanishes_costs_warnings_and_no_stage(project, store, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null")
    with tracker() as stage:
        shutil.rmtree("outbox")
        Path("outbox").write_text("a file where a folder should be")
        stage.seed_started(0, "print-0", {}, project / "none.jsonl")
        follow(stage)
        stage.log_algorithm("inspo", "default", {}, {"score": 1.0})
        stage.seed_finished(0, "FINISHED", {}, [], None)
    said = capsys.readouterr().err
    assert said.count("warning:") == 2 and said.count("does not take all records") == said.count("takes no records now") == 1
