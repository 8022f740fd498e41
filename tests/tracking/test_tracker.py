"""A stage as MLflow sees it: run tree, tags, parameters, curves, artifacts, statuses; in a real sqlite store."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from inspo_core.provenance import git_tags, provenance_tags
from inspo_core.tracking.__main__ import main as deliver
from inspo_core.tracking.mlflow.server import check_database
from tests.tracking.helpers import Store, break_database, expected_loss, follow, run_python, tracker, write_metrics


def run_stage(project, seeds=(0, 1), steps=range(1, 11), **changes):
    with tracker(**changes) as stage:
        for seed in seeds:
            metrics = project / f"work/{seed}/metrics.jsonl"
            stage.seed_started(seed, f"print-{seed}", {"train": {"alpha": 0.1}}, metrics)
            write_metrics(metrics, steps)
            follow(stage)
            stage.seed_finished(seed, "FINISHED", {"return_greedy": 1.0 + seed}, [metrics], None)
        stage.log_final({"return_mean": 1.5})


def test_runs_form_a_tree_of_pipeline_stage_and_seed(project, store):
    run_stage(project)
    with tracker("evaluate"):
        pass
    runs = store.runs()
    (pipeline,) = [name for name in runs if name.startswith("pipeline ")]
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()}
    assert parents == {
        pipeline: None,
        "train inspo xor_b": runs[pipeline].info.run_id,
        "evaluate inspo xor_b": runs[pipeline].info.run_id,
        "seed 0 inspo xor_b": runs["train inspo xor_b"].info.run_id,
        "seed 1 inspo xor_b": runs["train inspo xor_b"].info.run_id,
    }
    assert set(store.statuses().values()) == {"FINISHED"}
    assert list((project / "outbox").iterdir()) == []


def test_an_algorithm_has_a_run_beside_the_pipelines(project, store):
    for _ in range(2):  # a repeated report makes no second run and no second point
        with tracker("report", dataset=None, algorithm=None) as stage:
            for variant, value in (("default", 0.5), ("strong", 0.75)):
                stage.log_algorithm("inspo", variant, {"train": {"alpha": 0.1}}, {"score_sampled/xor_b": value})
    runs = store.runs()
    (pipeline,) = [name for name in runs if name.startswith("pipeline ")]
    number = pipeline.split()[1]
    assert set(runs) == {pipeline, "report", f"inspo {number}", f"strong {number}"}
    run = runs[f"strong {number}"]
    tags = {
        name: run.data.tags.get(name) for name in ("level", "stage", "algorithm", "variant", "learner", "pipeline", "mlflow.parentRunId")
    }
    assert tags == {
        "level": "algorithm",
        "stage": "report",
        "algorithm": "inspo",
        "variant": "strong",
        "learner": "strong",
        "pipeline": number,
        "mlflow.parentRunId": None,
    }
    assert store.points(run.info.run_name, "score_sampled/xor_b") == [(0, 0.75)] and run.data.params == {"train.alpha": "0.1"}
    assert set(store.statuses().values()) == {"FINISHED"}


def test_curves_arrive_whole_and_final_metrics_once(project, store):
    run_stage(project, steps=range(1, 1201))  # more than one batch
    assert store.points("seed 1 inspo xor_b", "loss") == expected_loss(range(1, 1201))
    assert store.points("seed 1 inspo xor_b", "final/return_greedy") == [(0, 2.0)]
    assert store.points("train inspo xor_b", "final/return_mean") == [(0, 1.5)]
    assert store.artifacts("seed 0 inspo xor_b") == {"metrics.jsonl"}


def test_tags_say_what_ran_and_where_it_comes_from(project, store, monkeypatch):
    monkeypatch.setenv("INSPO_IMAGE", "registry.example/inspo@sha256:1234")
    monkeypatch.setenv("INSPO_GIT_COMMIT", "c0ffee")
    (project / "data.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n")
    provenance_tags.cache_clear()
    run_stage(project, seeds=[3])
    provenance_tags.cache_clear()
    run = store.runs()["seed 3 inspo xor_b"]
    (pipeline,) = [run for name, run in store.runs().items() if name.startswith("pipeline ")]
    expected = {
        "level": "seed",
        "stage": "train",
        "dataset": "xor_b",
        "algorithm": "inspo",
        "variant": "default",
        "seed": "3",
        "fingerprint": "print-3",
        "git_commit": "c0ffee",
        "dvc_data": "0123456789abcdef0123456789abcdef.dir",
        "image": "registry.example/inspo@sha256:1234",
        "input_data": "d" * 16,
        "pipeline": pipeline.data.tags["inspo.key"][:7],
    }
    assert {name: run.data.tags.get(name) for name in expected} == expected
    assert {"host", "process", "version_python", "version_torch", "version_numpy", "version_mlflow", "version_inspo"} <= set(run.data.tags)
    assert run.data.params == {"train.alpha": "0.1"}
    assert store.runs()["train inspo xor_b"].data.params == {"train.alpha": "0.1", "train.hidden": "[8, 8]", "train.order": "random"}
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("xor_b", "01234567")


def test_git_commit_and_dirty_flag(project):
    assert git_tags() == {}
    (project / "dvc.lock").touch()
    (project / "code.py").touch()
    for command in ("init -q", "add dvc.lock code.py", "-c user.email=a@b -c user.name=a commit -qm x"):
        subprocess.run(["git", *command.split()], check=True)
    clean = git_tags()
    assert len(clean["git_commit"]) == 40 and clean["git_dirty"] == "false"
    (project / "dvc.lock").write_text("written by the pipeline run itself")
    assert git_tags()["git_dirty"] == "false"
    (project / "code.py").write_text("changed")
    assert git_tags()["git_dirty"] == "true"


def test_other_parameters_make_another_pipeline_run_and_the_same_ones_do_not(project, store):
    run_stage(project, seeds=[0])
    run_stage(project, seeds=[0], pipeline={"train": {"alpha": 0.2}}, variant="strong")
    run_stage(project, seeds=[1])
    runs = store.runs()
    assert sum(name.startswith("pipeline ") for name in runs) == 2
    first, second = runs["train inspo xor_b"], runs["train strong xor_b"]
    assert first.data.tags["mlflow.parentRunId"] != second.data.tags["mlflow.parentRunId"]
    assert runs["seed 1 inspo xor_b"].data.tags["mlflow.parentRunId"] == first.info.run_id


@pytest.mark.parametrize("error, status", [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")])
def test_status_of_stage_unfinished_seeds_and_pipeline_after_an_exception(project, store, error, status):
    with pytest.raises(error):
        with tracker() as stage:
            stage.seed_started(0, "print-0", {}, project / "none.jsonl")
            follow(stage)
            assert set(store.statuses().values()) == {"RUNNING"}
            raise error
    assert set(store.statuses().values()) == {status} and len(store.statuses()) == 3
    with tracker():
        pass
    statuses = store.statuses()
    assert statuses.pop("seed 0 inspo xor_b") == status and set(statuses.values()) == {"FINISHED"}


def test_a_seed_that_goes_on_after_a_stop_continues_its_curve(project, store):
    metrics = project / "metrics.jsonl"
    with tracker() as stage:
        stage.seed_started(0, "print", {}, metrics)
        write_metrics(metrics, range(1, 9))
        follow(stage)
        stage.seed_finished(0, "KILLED", {}, [], None)
    run_id = store.runs()["seed 0 inspo xor_b"].info.run_id
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:5]))  # the training loop goes on from its checkpoint at step 5
    with tracker() as stage:
        stage.seed_started(0, "print", {}, metrics)
        follow(stage)
        write_metrics(metrics, range(6, 13))
        stage.seed_finished(0, "FINISHED", {"return": 1.0}, [], None)
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 13))
    assert store.runs()["seed 0 inspo xor_b"].info.run_id == run_id
    assert store.statuses()["seed 0 inspo xor_b"] == "FINISHED"


def test_a_repeated_stage_doubles_nothing(project, store):
    for _ in range(2):
        (project / "work/0/metrics.jsonl").unlink(missing_ok=True)
        run_stage(project, seeds=[0])
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 11))
    assert len(store.points("seed 0 inspo xor_b", "final/return_greedy")) == 1


def test_strange_lines_do_not_break_delivery(project, store, capsys):
    metrics = project / "metrics.jsonl"
    lines = [
        '{"step": 1, "loss": NaN, "return": Infinity, "odd name (%)": 1}',
        "not json",
        '["no", "mapping"]',
        '{"loss": 1.0}',
        '{"step": 2, "note": "text", "gap": null, "loss": 0.5}',
        '{"step": 3, "loss": 0.2',
    ]
    metrics.write_text("\n".join(lines))
    with tracker() as stage:
        stage.seed_started(0, "print", {}, metrics)
        follow(stage)
        with open(metrics, "a") as file:
            file.write("5}\n")  # the torn line is completed
        follow(stage)
        stage.seed_finished(0, "FINISHED", {"bad": math.nan}, [project / "missing.csv"], None)
    points = store.points("seed 0 inspo xor_b", "loss")
    assert [step for step, _ in points] == [1, 2, 3] and math.isnan(points[0][1]) and points[1:] == [(2, 0.5), (3, 0.25)]
    names = store.runs()["seed 0 inspo xor_b"].data.metrics
    assert {"loss", "return", "odd name ___", "final/bad"} == set(names)
    assert "missing.csv is missing" in capsys.readouterr().err
    assert list((project / "outbox").iterdir()) == []


def test_an_interrupted_delivery_sends_nothing_twice(project, store):
    """The store got everything, but the note of that is lost: as after a kill between the two."""
    metrics = project / "metrics.jsonl"
    stage = tracker().__enter__()
    stage.seed_started(0, "print", {}, metrics)
    write_metrics(metrics, range(1, 11))
    follow(stage)
    journal = stage._seeds[0].journal
    begin_only = journal.state | {"position": next(journal.operations())[1]}
    for forgotten in (begin_only, {}):
        journal.state = forgotten
        stage.deliver()
    stage.seed_finished(0, "FINISHED", {"return": math.nan}, [], None)
    stage.__exit__(None, None, None)
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 11))
    assert set(store.statuses().values()) == {"FINISHED"}


def test_an_unusable_store_costs_one_warning_and_no_result(project, capsys, monkeypatch):
    kept = (project / "mlflow.db").read_bytes()
    break_database(project / "mlflow.db")
    run_stage(project)
    errors = capsys.readouterr().err
    assert errors.count("warning:") == 1 and str(project / "mlflow.db") in errors and "MLFLOW_TRACKING_URI" in errors
    assert deliver(["deliver"]) == 1
    assert str(project / "mlflow.db") in capsys.readouterr().err
    (project / "mlflow.db").rmdir()
    (project / "mlflow.db").write_bytes(kept)
    command = subprocess.run([sys.executable, "-m", "inspo_core.tracking", "deliver"], capture_output=True, text=True)
    assert (command.returncode, command.stderr, command.stdout) == (0, "", f"outbox delivered to {project}/mlflow.db\n")
    store = Store(f"sqlite:///{project}/mlflow.db")
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 11))
    assert set(store.statuses().values()) == {"FINISHED"}
    assert list((project / "outbox").iterdir()) == []


def test_a_read_only_database_is_named(project):
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "mlflow.db"
        check_database(database)  # may be written, even if it is not there yet
        os.chmod(folder, 0o777)
        os.chmod(database, 0o444)
        code = "import os, sys, pathlib; from inspo_core.tracking.mlflow.server import check_database\n"
        code += "if os.getuid() == 0: os.setuid(65534)\n"  # the superuser may write everything
        code += f"check_database(pathlib.Path({str(database)!r}))"
        assert f"Unreachable: {database} cannot be used as a database (attempt to write a readonly database)" in run_python(code).stderr


def test_an_unwritable_outbox_costs_one_warning(project, store, capsys):
    (project / "outbox").write_text("a file where a folder should be")
    run_stage(project, seeds=[0])
    assert capsys.readouterr().err.count("warning:") == 1
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 11))


def test_a_deleted_experiment_is_named(project, store, capsys):
    store.client.delete_experiment(store.client.create_experiment("games"))
    run_stage(project, seeds=[0])
    assert "'games' is deleted" in capsys.readouterr().err


def test_training_side_imports_no_mlflow(project):
    code = "import sys, inspo_core.tracking.tracker; print([m for m in sys.modules if m.split('.')[0] in ('mlflow', 'torch', 'pandas')])"
    assert run_python(code).stdout.strip() == "[]"


def test_secrets_of_uris_are_nowhere(project, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://alice:s3cret-word@127.0.0.1:9")
    monkeypatch.setenv("INSPO_IMAGE", "https://bob:s3cret-word@registry.example/inspo")
    provenance_tags.cache_clear()
    run_stage(project, seeds=[0], params={"source": "s3://key:s3cret-word@bucket/x"}, data={"source": "ftp://u:s3cret-word@host/data"})
    provenance_tags.cache_clear()
    errors = capsys.readouterr().err
    assert "127.0.0.1:9" in errors and "s3cret-word" not in errors
    written = "".join(path.read_text() for path in (project / "outbox").rglob("*") if path.is_file())
    assert json.loads(written.splitlines()[0])["op"] == "begin" and "s3cret-word" not in written
