"""The policy as an MLflow model: loaded elsewhere it acts as the policy does; the best one is found by its alias."""

import json

import numpy as np
import pytest
import torch

from inspo_core.evaluations import BestPolicy
from inspo_core.tracking.mlflow import model
from tests.tracking.helpers import A, N, O, Store, random_policy, run_python, tracker

LOAD = """
import json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model({uri!r})
inputs = dict(np.load("inputs.npz"))
answers = {{
    "greedy": model.predict(inputs).tolist(),
    "sampled": model.predict(inputs, params={{"greedy": False, "seed": 1}}).tolist(),
    "again": model.predict(inputs, params={{"greedy": False, "seed": 1}}).tolist(),
    "other": model.predict(inputs, params={{"greedy": False, "seed": 2}}).tolist(),
    "loaded": [name for name in ("torch", "inspo_core") if name in sys.modules],
}}
print(json.dumps(answers))
"""


@pytest.fixture
def inputs(project) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    available = random.random((500, N, A)) < 0.5
    available[:, :, 0] |= ~available.any(-1)
    inputs = {"observations": random.normal(size=(500, N, O)).astype(np.float32), "available_actions": available}
    np.savez(project / "inputs.npz", **inputs)
    return inputs


def log_policies(project, fingerprints: list[str], stage: str = "train"):
    with tracker(stage) as stage_tracker:
        for seed, fingerprint in enumerate(fingerprints):
            stage_tracker.seed_started(seed, fingerprint, {"train": {"alpha": 0.1}}, project / "none.jsonl")
            random_policy(project / f"runs/{seed}", seed)
            stage_tracker.seed_finished(seed, "FINISHED", {"return_greedy": -1.5}, [], project / f"runs/{seed}")


def test_a_model_loads_without_project_or_torch_and_acts_as_the_policy(project, store, inputs):
    log_policies(project, ["print-0"])
    (logged,) = store.client.search_logged_models(["1"])
    finished = run_python(LOAD.format(uri=f"models:/{logged.model_id}"), MLFLOW_TRACKING_URI=store.uri, PYTHONPATH="")
    assert finished.returncode == 0, finished.stderr
    answers = json.loads(finished.stdout)
    policy = random_policy(project / "same")
    expected = policy.log_probs(torch.from_numpy(inputs["observations"]), torch.from_numpy(inputs["available_actions"]))
    top = expected.topk(2).values
    assert (top[..., 0] - top[..., 1]).min() > 1e-5  # no tie decides
    assert answers["greedy"] == expected.argmax(-1).tolist()
    assert len(np.unique(answers["greedy"])) == A
    chosen = np.take_along_axis(inputs["available_actions"], np.array(answers["sampled"])[..., None], -1)
    assert chosen.all() and answers["sampled"] == answers["again"] != answers["other"] and answers["sampled"] != answers["greedy"]
    assert answers["loaded"] == []


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_a_policy_with_memory_is_served_the_episode_so_far(project, steps):
    policy = random_policy(project / "policy", memory=4)
    model.write(project / "policy", project / "model", "m-1", "r-1", "here")
    import mlflow

    served = mlflow.pyfunc.load_model(str(project / "model"))
    seen = np.random.default_rng(1).normal(size=(300, steps, N, O)).astype(np.float32)
    available = np.ones((300, N, A), bool)
    actions = served.predict({"observations": seen, "available_actions": available})
    log_probs = policy.log_probs(torch.from_numpy(seen))
    assert log_probs.topk(2).values.diff().abs().min() > 1e-6  # no tie decides
    assert actions.tolist() == log_probs.argmax(-1).tolist()
    first, last = (served.predict({"observations": part, "available_actions": available}) for part in (seen[:, :1], seen[:, -1:]))
    assert steps == 1 or not (np.array_equal(actions, first) or np.array_equal(actions, last))


def test_probabilities_and_samples_are_the_policys(project):
    policy = random_policy(project / "policy")
    model.write(project / "policy", project / "model", "m-1", "r-1", "here")
    import mlflow

    served = mlflow.pyfunc.load_model(str(project / "model"))
    observation = np.random.default_rng(1).normal(size=(1, N, O)).astype(np.float32)
    batch = {"observations": observation.repeat(20_000, 0), "available_actions": np.ones((20_000, N, A), bool)}
    many = np.random.default_rng(2).normal(size=(300, N, O)).astype(np.float32)
    logits = torch.from_numpy(served.unwrap_python_model().logits(many))
    torch.testing.assert_close(logits.log_softmax(-1), policy.log_probs(torch.from_numpy(many)), rtol=1e-5, atol=1e-5)
    actions = served.predict(batch, params={"greedy": False, "seed": 3})
    assert actions.dtype == np.int64 and actions.shape == (20_000, N)
    probabilities = policy.log_probs(torch.from_numpy(observation)).exp()[0]
    frequencies = np.stack([np.bincount(actions[:, agent], minlength=A) / 20_000 for agent in range(N)])
    assert np.abs(frequencies - probabilities.numpy()).max() < 0.015
    nothing = batch | {"available_actions": np.zeros((20_000, N, A), bool)}  # padding, dead agents: some action, no error
    assert served.predict(nothing).shape == (20_000, N)


def test_the_model_page_has_metrics_parameters_dataset_and_run(project, store):
    log_policies(project, ["print-0"])
    (logged,) = store.client.search_logged_models(["1"])
    run = store.runs()["seed 0 inspo xor_b"]
    assert logged.name == "inspo-xor_b-seed-0" and str(logged.status) == "READY" and logged.source_run_id == run.info.run_id
    assert [(metric.key, metric.value, metric.dataset_name) for metric in logged.metrics] == [("final/return_greedy", -1.5, "xor_b")]
    assert logged.params == {"train.alpha": "0.1"} and logged.tags["seed"] == "0"
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]


def test_an_evaluation_appears_on_the_models_page(project, store):
    log_policies(project, ["print-0"])
    for _ in range(2):  # the repetition changes nothing
        with tracker("evaluate") as stage:
            stage.seed_started(0, "evaluation-0", {}, project / "none.jsonl", model="print-0")
            stage.seed_finished(0, "FINISHED", {"success_greedy": 0.25}, [], None)
    (logged,) = store.client.search_logged_models(["1"])
    evaluation = store.runs()["seed 0 evaluate inspo xor_b"]
    shown = [(metric.value, metric.run_id) for metric in logged.metrics if metric.key == "final/success_greedy"]
    assert shown == [(0.25, evaluation.info.run_id)]
    inputs = store.client.get_run(evaluation.info.run_id).inputs
    assert [used.model_id for used in inputs.model_inputs] == [logged.model_id]


def test_requirements_are_pinned_and_nothing_is_pickled(project):
    random_policy(project / "policy")
    model.write(project / "policy", project / "model", "m-1", "r-1", "here")
    requirements = [line.split("==") for line in (project / "model/requirements.txt").read_text().split()]
    assert [name for name, version in requirements if version] == ["mlflow", "numpy", "safetensors"]
    assert not [path for path in (project / "model").rglob("*") if path.suffix in (".pkl", ".pickle")]


def test_repeating_a_stage_logs_its_model_once(project, store):
    log_policies(project, ["print-0"])
    log_policies(project, ["print-0"])
    assert len(store.client.search_logged_models(["1"])) == 1


def choice(seed: int, fingerprint: str, value: float) -> BestPolicy:
    return BestPolicy("xor_b", "inspo", "default", seed, fingerprint, "return_greedy", value)


def report(choices: list[BestPolicy]):
    with tracker("report", algorithm=None, variant=None, dataset=None) as stage:
        stage.register_models(choices)


def test_the_best_policy_is_registered_once_and_the_alias_follows(project, store, capsys):
    log_policies(project, ["print-0", "print-1"])
    for _ in range(2):
        report([choice(0, "print-0", 0.5)])
    assert [version.version for version in store.client.search_model_versions("name = 'games-xor_b'")] == [1]
    report([choice(1, "print-1", 0.75)])
    best = store.client.get_model_version_by_alias("games-xor_b", "best")
    assert (best.version, best.tags["seed"], best.description) == (
        2,
        "1",
        "inspo (default), seed 1: return_greedy 0.75 in the evaluation of last policies.",
    )
    report([choice(0, "print-0", 0.9)])
    assert store.client.get_model_version_by_alias("games-xor_b", "best").version == 1
    report([choice(5, "unknown", 1.0)])
    assert "the policy of inspo seed 5 is not in this MLflow store" in capsys.readouterr().err


def test_models_and_registry_through_a_server(shared_server, project, inputs, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared_server.uri)
    log_policies(project, ["print-0"])
    for _ in range(2):
        report([choice(0, "print-0", 0.5)])
    assert len(Store(shared_server.uri).client.search_model_versions("name = 'games-xor_b'")) == 1
    finished = run_python(LOAD.format(uri="models:/games-xor_b@best"), MLFLOW_TRACKING_URI=shared_server.uri, PYTHONPATH="")
    assert finished.returncode == 0, finished.stderr
    assert np.array(json.loads(finished.stdout)["greedy"]).shape == (500, N)
