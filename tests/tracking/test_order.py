"""Records that arrive late, several times, or in another order than that of the events end as if each had come at once."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inspo_core.evaluations import BestPolicy
from inspo_core.tracking.__main__ import main as deliver
from tests.tracking.helpers import Store, away, expected_loss, follow, random_policy, run_python, tracker, write_metrics

FINALS = """
import os
from tests.tracking.helpers import follow, tracker
from pathlib import Path
with tracker() as stage:
    stage.seed_started(0, "print-0", {{}}, Path("none.jsonl"))
    follow(stage)
    if {begun_only}:
        os._exit(0)
    stage.log_final({{"mean": 1.5}})
    stage.seed_finished(0, "FINISHED", {{"return": 2.5}}, [], None)
    if {killed}:
        os._exit(0)
"""


def train(project: Path, experiment: str = "games") -> None:
    random_policy(project / "policy")
    with tracker(experiment=experiment) as stage:
        stage.seed_started(0, "print-0", {}, project / "none.jsonl")
        stage.seed_finished(0, "FINISHED", {"return": 1.0}, [], project / "policy")


def evaluate(between: Callable[[], None] = lambda: None) -> None:
    with tracker("evaluate") as stage:
        stage.seed_started(0, "print-1", {}, Path("none.jsonl"), model="print-0")
        follow(stage)
        between()
        stage.seed_finished(0, "FINISHED", {"success": 0.25}, [], None)


def report(seed: int = 0, fingerprint: str = "print-0", value: float = 0.5) -> None:
    with tracker("report", algorithm=None, variant=None, dataset=None) as stage:
        follow(stage)
        stage.register_models([BestPolicy("xor_b", "inspo", "default", seed, fingerprint, "return_greedy", value)])


def waits(project: Path) -> None:
    with away():
        train(project)
    evaluate()
    report()


def comes_last(project: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, away():
        patch.setenv("INSPO_STORE", "shared")
        train(project)
    evaluate()
    report()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSPO_STORE", "shared")
        assert deliver(["deliver"]) == 0


def all_wait(project: Path) -> None:
    with away():
        train(project)
        evaluate()
        report()
    assert deliver(["deliver"]) == 0


def all_wait_backwards(project: Path) -> None:
    with away():
        report()
        evaluate()
        train(project)
    assert deliver(["deliver"]) == 0


def comes_between(project: Path) -> None:
    evaluate(lambda: train(project))
    report()


def under_another_name(project: Path) -> None:
    train(project, "earlier")
    evaluate()
    report()


def used_models(store: Store) -> list[str]:
    evaluation = store.runs()["seed 0 evaluate inspo xor_b"].info.run_id
    return [used.model_id for used in store.client.get_run(evaluation).inputs.model_inputs]  # a search leaves them out


ORDERS = [waits, comes_last, all_wait, all_wait_backwards, comes_between, under_another_name]


@pytest.mark.parametrize("order", ORDERS)
def test_an_evaluation_has_its_model_and_the_best_is_registered_however_they_come(project, store, order):
    order(project)
    (trained,) = store.client.search_logged_models([known.experiment_id for known in store.client.search_experiments()])
    assert used_models(store) == [trained.model_id]
    shown = sorted((metric.key, metric.value, metric.dataset_name) for metric in trained.metrics)
    assert shown == [("final/return", 1.0, "xor_b"), ("final/success", 0.25, "xor_b")]
    assert store.points("seed 0 evaluate inspo xor_b", "final/success") == [(0, 0.25)]
    best = store.client.get_model_version_by_alias("games-xor_b", "best")
    assert best.source == f"models:/{trained.model_id}" and best.version == 1
    assert {run.info.status for run in store.runs().values()} == {"FINISHED"} and os.listdir("outbox") == []
    tags = [name for known in store.client.search_experiments() for name in known.tags]
    assert not [name for name in tags if name.startswith("inspo.waiting")]


@pytest.mark.parametrize("order", [all_wait, all_wait_backwards, under_another_name])
def test_nothing_is_said_of_a_model_that_comes_with_the_rest(project, store, capsys, order):
    order(project)
    assert "is not in this MLflow store" not in capsys.readouterr().err


def test_of_two_reports_the_later_ones_choice_waits(project, store, capsys):
    report(value=0.5)
    report(seed=1, fingerprint="print-1", value=0.75)
    assert capsys.readouterr().err.count("is not in this MLflow store; it is registered when the records of its training arrive") == 2
    train(project)  # print-0
    assert not store.client.search_registered_models()


def test_final_values_are_there_once_after_stops_before_their_delivery(project, store):
    run_python(FINALS.format(begun_only=True, killed=True))
    run_python(FINALS.format(begun_only=False, killed=True), MLFLOW_TRACKING_URI="sqlite:////dev/null/mlflow.db")
    done = run_python(FINALS.format(begun_only=False, killed=False))
    assert done.returncode == 0, done.stderr
    assert store.points("train inspo xor_b", "final/mean") == [(0, 1.5)]
    assert store.points("seed 0 inspo xor_b", "final/return") == [(0, 2.5)]
    assert set(store.statuses().values()) == {"FINISHED"}


def test_attempts_that_left_the_same_points_give_each_once(project, store, monkeypatch):
    monkeypatch.setenv("INSPO_STORE", "shared")
    for attempt in (1, 2, 3):
        metrics = project / f"{attempt}.jsonl"
        write_metrics(metrics, range(1, 5 * attempt + 1))
        with away(), tracker("behavior") as stage:
            stage.seed_started(0, "print-0", {}, metrics)
            follow(stage)
            stage.log_final({"mean": 1.5})
            stage.seed_finished(0, "FINISHED", {"return": 2.5}, [], None)
    assert deliver(["deliver"]) == 0
    assert store.points("seed 0 behavior inspo xor_b", "loss") == expected_loss(range(1, 16))
    assert store.points("seed 0 behavior inspo xor_b", "final/return") == [(0, 2.5)]
    assert store.points("behavior inspo xor_b", "final/mean") == [(0, 1.5)]


def test_a_server_takes_late_models_too(server, project, monkeypatch):
    for name, value in {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": "late"}.items():
        monkeypatch.setenv(name, value)
    comes_last(project)
    store = Store(server.uri, "late")
    (used,) = used_models(store)
    logged = store.client.get_logged_model(used)
    assert sorted((metric.key, metric.value) for metric in logged.metrics) == [("final/return", 1.0), ("final/success", 0.25)]
    assert store.client.get_model_version_by_alias("late-xor_b", "best").source == f"models:/{logged.model_id}"
