"""The end of a pipeline's run, and records that reach MLflow through the shared store."""

import os

import pytest

from components.finish.__main__ import _status
from inspo_core.errors import InspoError
from inspo_core.tracking.finish import finish_pipeline
from tests.tracking.helpers import Store, break_database, expected_loss, follow, run_python, tracker, write_metrics

VANISHING = """
import os, socket
from pathlib import Path
socket.gethostname = lambda: "elsewhere"  # what is on this machine would be found dead, and ended, by the next stage
from tests.tracking.helpers import follow, tracker
with tracker(dataset={dataset!r}) as stage:
    stage.seed_started(0, "print-0", {{}}, Path("none.jsonl"))
    follow(stage)
    os._exit(1)
"""
PARAMS = {"train": {"alpha": 0.1}}  # those of tests.tracking.helpers.tracker


def vanish(dataset: str) -> None:
    """A stage whose process ends without a word, on a machine whose disk is lost."""
    run_python(VANISHING.format(dataset=dataset))
    run_python("import shutil; shutil.rmtree('outbox')")


def pipeline_of(store: Store) -> str:
    (status,) = [status for name, status in store.statuses().items() if name.startswith("pipeline ")]
    return status


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_the_pipelines_run_gets_the_state_and_nothing_stays_running(project, store, status):
    with tracker("behavior"):
        pass
    vanish("xor_b")
    assert pipeline_of(store) == store.statuses()["seed 0 inspo xor_b"] == "RUNNING"
    finish_pipeline("games", PARAMS, status, {})
    assert pipeline_of(store) == status
    assert store.statuses()["train inspo xor_b"] == store.statuses()["seed 0 inspo xor_b"] == "KILLED"
    assert store.statuses()["behavior inspo xor_b"] == "FINISHED"


@pytest.mark.parametrize("reported, failed, expected", [(True, False, "FINISHED"), (True, True, "KILLED"), (False, False, "FAILED")])
def test_without_a_state_the_runs_of_the_stages_say_how_it_ended(project, store, reported, failed, expected):
    with tracker("behavior"):
        pass
    if failed:
        vanish("xor_b")
    if reported:
        with tracker("report", dataset=None, algorithm=None, variant=None):
            pass
    finish_pipeline("games", PARAMS, None, {})
    assert pipeline_of(store) == expected


@pytest.mark.parametrize(
    "said, expected",
    [
        ("SUCCEEDED", "FINISHED"),
        ('{"state": "COMPLETE", "pipelineTaskName": "exit-handler-1"}', "FINISHED"),  # as Kubeflow 2.17 has it
        ('{"state": "FAILED", "error": {"message": "no"}}', "FAILED"),
        ('{"state": "CANCELED"}', "KILLED"),
        ('{"state": "RUNNING"}', None),
    ],
)
def test_kubeflows_states(said, expected, capsys):
    assert _status(said) == expected and capsys.readouterr().err == ""


def test_a_state_that_nobody_knows_is_said_and_decides_nothing(capsys):
    assert _status("LOST") is None and "--status is 'LOST', not one of SUCCEEDED, COMPLETE" in capsys.readouterr().err


def test_runs_of_another_dataset_go_on_and_so_does_their_pipeline(project, store):
    vanish("xor_b")
    with tracker(dataset="xor_c") as other:
        follow(other)
        finish_pipeline("games", PARAMS, "FAILED", {"dataset": "xor_b", "learner": "inspo"})
        assert store.statuses()["train inspo xor_b"] == "KILLED"
        assert store.statuses()["train inspo xor_c"] == pipeline_of(store) == "RUNNING"


def test_which_datasets_algorithms_and_seeds_are_run_does_not_make_another_pipeline(project, store):
    for experiment in ({"name": "games", "datasets": ["a"], "seeds": [0]}, {"name": "games", "datasets": ["a", "b"], "algorithms": ["bc"]}):
        with tracker(dataset=experiment["datasets"][-1], pipeline={"experiment": experiment, "train": {}}):
            pass
    finish_pipeline("games", {"experiment": {"name": "games"}, "train": {}}, "FAILED", {})
    assert pipeline_of(store) == "FAILED" and len(store.statuses()) == 3


def test_an_orchestrators_runs_are_left_and_what_hangs_below_its_tasks_is_ended(project, store, monkeypatch):
    """Kubeflow opens a run for the pipeline, and below it one for each task, which it hands to the task."""
    experiment = store.client.create_experiment("orchestrated")
    whole = store.client.create_run(experiment, run_name="whole").info.run_id
    tasks = {}
    for name in ("task train", "task finish"):
        tasks[name] = store.client.create_run(experiment, run_name=name, tags={"mlflow.parentRunId": whole}).info.run_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", tasks["task train"])
    vanish("xor_b")
    monkeypatch.setenv("MLFLOW_RUN_ID", tasks["task finish"])
    before = {name: store.runs()[name] for name in ("whole", *tasks)}
    finish_pipeline("games", PARAMS, "FAILED", {})
    assert {name: store.runs()[name].to_dictionary() for name in before} == {name: run.to_dictionary() for name, run in before.items()}
    assert store.statuses()["train inspo xor_b"] == store.statuses()["seed 0 inspo xor_b"] == "KILLED"
    assert store.runs()["train inspo xor_b"].data.tags["mlflow.parentRunId"] == tasks["task train"]


def test_without_a_run_or_a_store_it_warns(project, store, capsys):
    finish_pipeline("games", {"train": {"alpha": 9}}, "FINISHED", {})
    assert "has no run of this pipeline" in capsys.readouterr().err
    break_database(project / "mlflow.db")
    finish_pipeline("games", PARAMS, "FINISHED", {})
    assert "takes no records now" in capsys.readouterr().err


def test_what_could_not_be_delivered_comes_through_the_shared_store(project, store, monkeypatch, capsys):
    monkeypatch.setenv("INSPO_STORE", str(project / "shared"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////dev/null/mlflow.db")
    write_metrics(project / "metrics.jsonl", range(1, 11))
    for _ in range(2):  # two attempts leave the same records
        with tracker() as stage:
            stage.seed_started(0, "print-0", {}, project / "metrics.jsonl")
            follow(stage)
            stage.seed_finished(0, "FINISHED", {}, [], None)
    assert len(list((project / "shared/outbox").iterdir())) == 4 and os.listdir("outbox") == []
    assert "is left in" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    finish_pipeline("games", PARAMS, "FINISHED", {})
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 11))
    assert set(store.statuses().values()) == {"FINISHED"} and os.listdir("shared/outbox") == []


def test_patience_is_a_number(project, monkeypatch):
    monkeypatch.setenv("INSPO_DELIVERY_PATIENCE", "a while")
    with pytest.raises(InspoError, match="INSPO_DELIVERY_PATIENCE is 'a while', expected"):
        tracker()
