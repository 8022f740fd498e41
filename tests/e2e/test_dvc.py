"""The pipeline as DVC runs it: from a clone, offline, again and again, with changes, failures and experiments."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from inspo_core.envs import make_env
from inspo_core.stages.artifacts import load_policy
from tests.e2e.clone import ALGORITHMS, ALL, DATASET, SEEDS, SMALL, Clone, stages

TRAINED = {"stage": "train", "level": "seed"}
LOAD_BEST = """
import json, sys
import mlflow, numpy as np
print(json.dumps(mlflow.pyfunc.load_model(sys.argv[1]).predict(dict(np.load("inputs.npz"))).tolist()))
"""


# --- the first run


def test_the_first_run_makes_everything_and_changes_only_the_lock_file(first_run):
    clone, ran = first_run
    assert ran == stages(*ALL) | {"report"}
    assert set(clone.run("git", "status", "--porcelain").stdout.split()) <= {"??", "M", "dvc.lock"}
    assert len(read_results(clone)) == len(ALGORITHMS) * len(SEEDS) * 4
    assert list((clone.path / "outbox").iterdir()) == [] and list((clone.path / "checkpoints").iterdir()) == []


def test_a_second_run_runs_nothing(finished):
    before, runs = finished.hashes("runs", "reports"), finished.runs()
    assert list((finished.path / "inspo_core").rglob("*.pyc")), "without byte code beside the sources this shows nothing"
    assert finished.repro() == set()
    assert finished.changed_stages() == set()
    assert finished.hashes("runs", "reports") == before and finished.runs() == runs


def test_every_run_is_in_mlflow_and_has_ended(finished):
    assert {run.status for run in finished.runs()} == {"FINISHED"}
    (pipeline,) = finished.runs(level="pipeline")
    of_stages, of_seeds = finished.runs(level="stage"), finished.runs(level="seed")
    of_algorithms = finished.runs(level="algorithm")
    assert sorted(run.tags["learner"] for run in of_algorithms) == sorted(ALGORITHMS)
    assert len(finished.runs()) == 1 + len(of_stages) + len(of_seeds) + len(of_algorithms)
    identities = [tuple(run.tags.get(tag) for tag in ("stage", "dataset", "algorithm")) for run in of_stages]
    assert sorted(identities, key=str) == sorted(
        [(stage, DATASET, None) for stage in ("ingest", "behavior")]
        + [(stage, DATASET, algorithm) for stage in ("train", "evaluate") for algorithm in ALGORITHMS]
        + [("report", None, None)],
        key=str,
    )
    assert {run.tags["mlflow.parentRunId"] for run in of_stages} == {pipeline.id}
    parents = {run.id for run in of_stages if run.tags["stage"] in ("behavior", "train", "evaluate")}
    assert {run.tags["mlflow.parentRunId"] for run in of_seeds} == parents and len(of_seeds) == len(parents) * len(SEEDS)
    assert {run.tags["git_commit"] for run in finished.runs()} == {finished.run("git", "rev-parse", "HEAD").stdout.strip()}
    assert pipeline.tags["git_dirty"] == "false"
    assert pipeline.tags["dvc_data"] in (finished.path / "data.dvc").read_text()


def test_a_seeds_runs_have_its_parameters_curves_and_final_metrics(finished):
    identity = {"dataset": DATASET, "algorithm": "inspo", "seed": "1"}
    (training,), (evaluation,) = finished.runs(**TRAINED, **identity), finished.runs(stage="evaluate", level="seed", **identity)
    train, evaluate = (finished.path / "runs" / stage / DATASET / "inspo/seed_1" for stage in ("train", "evaluate"))
    record = json.loads((train / "run.json").read_text())
    assert training.tags["fingerprint"] == record["fingerprint"]
    assert training.params["train.alpha"] == json.dumps(record["config"]["alpha"])
    assert training.params["train.iterations"] == str(SMALL["train.iterations"])
    metrics = json.loads((evaluate / "metrics.json").read_text())
    assert {f"final/{name}": value for name, value in metrics.items()}.items() <= evaluation.metrics.items()
    curve = [json.loads(line) for line in (train / "metrics.jsonl").read_text().splitlines()]
    assert training.metrics["evaluation/return_sampled"] == curve[-1]["evaluation/return_sampled"]


def test_the_best_registered_model_loads_and_acts_as_the_policy_does(finished, tmp_path):
    env = make_env("bridge")
    observation = env.reset(np.arange(5))
    inputs = {"observations": observation.observations, "available_actions": observation.available_actions}
    np.savez(tmp_path / "inputs.npz", **inputs)
    (tmp_path / "load.py").write_text(LOAD_BEST)
    shutil.copy(finished.path / "mlflow.db", tmp_path)  # looking at a store must not change the one that other tests look at
    elsewhere = Clone(tmp_path)
    uri = f"models:/inspo-games-{DATASET}@best"
    actions = np.array(json.loads(elsewhere.run(sys.executable, "load.py", uri, MLFLOW_TRACKING_URI=elsewhere.store).stdout))
    env.step(actions)

    returns = {}
    for place in (Path(DATASET) / algorithm / f"seed_{seed}" for algorithm in ALGORITHMS for seed in SEEDS):
        metrics = json.loads((finished.path / "runs/evaluate" / place / "metrics.json").read_text())
        returns[place] = (metrics["return_greedy"], metrics["return_sampled"])
    best = max(returns, key=returns.get)
    policy = load_policy(finished.path / "runs/train" / best)
    expected = policy.log_probs(*(torch.from_numpy(values) for values in inputs.values())).argmax(-1)
    assert actions.tolist() == expected.tolist()


def test_metrics_and_plots_show_the_report(finished, tmp_path):
    shown = json.loads(finished.dvc("metrics", "show", "--json"))[""]["data"]["reports/metrics.json"]["data"]
    assert shown == json.loads((finished.path / "reports/metrics.json").read_text())
    assert list(shown) == [DATASET] and set(shown[DATASET]) == set(ALGORITHMS)
    finished.dvc("plots", "show", "--out", tmp_path / "plots")
    page = (tmp_path / "plots/index.html").read_text()
    specs = {spec["title"]["text"]: spec for spec in map(json.loads, re.findall(r"var spec = (.*);\n", page))}
    assert set(specs) == {"Return over training, greedy", "Return over training, sampled"}
    for title, spec in specs.items():
        field = "return_" + title.split()[-1]
        assert field in json.dumps(spec["spec"]) and "DVC_METRIC" not in json.dumps(spec)
        points = {(point["dataset"], point["algorithm"], point["seed"], point["step"]) for point in spec["data"]["values"]}
        assert len(points) == len(ALGORITHMS) * len(SEEDS) * SMALL["train.iterations"]
    (image,) = re.findall(r'<img src="([^"]*returns[^"]*)"', page)
    assert (tmp_path / "plots" / image).read_bytes() == (finished.path / "reports/figures/returns.png").read_bytes()


def test_a_parameter_touches_only_the_stages_that_read_it(copy):
    """What comes after them is decided by their results; the seeds that it does not concern are done already."""
    sources = {name: {"format": "native", "env": name.partition("_")[0]} for name in (DATASET, "xor_c")}
    original = (copy.path / "params.yaml").read_text()
    for name, value, expected in [
        ("experiment.name", "other", set()),
        ("experiment.seeds", [0], stages("behavior", "train", "evaluate") | {"report"}),
        ("ingest.sources", sources | {"xor_c": {"format": "alberdice", "env": "mne"}}, set()),
        ("ingest.sources", sources | {DATASET: {"format": "alberdice", "env": "bridge"}}, stages("ingest")),
        ("behavior.device", "auto", stages("behavior")),
        ("train.device", "auto", stages("train")),
        ("train.omiga.alpha", 2.0, stages("train")),
        ("variants.inspo_product", {"algorithm": "inspo", "alpha": 0.5}, stages("train")),
        ("evaluate.episodes", 11, stages("evaluate")),
        ("report.bootstrap", 101, stages("evaluate") | {"report"}),
    ]:
        copy.set_params({name: value})
        assert copy.changed_stages() == expected, name
        (copy.path / "params.yaml").write_text(original)


# --- copies of it, changed


@pytest.mark.slow
def test_a_clone_at_another_place_gives_the_same_bytes(finished, tmp_path):
    other = Clone.of_project(tmp_path / "a place with a longer name")
    other.dvc("pull", "data.dvc")
    other.run("dvc", "repro", INSPO_WORKERS="1", PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    ours, theirs = finished.hashes("runs", "reports"), other.hashes("runs", "reports")
    assert sum(name.endswith("policy.safetensors") for name in ours) == len(ALGORITHMS) * len(SEEDS)
    assert {name for name in ours | theirs if ours.get(name) != theirs.get(name)} == set()
    assert (other.path / "dvc.lock").read_bytes() == (finished.path / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_a_new_seed_runs_alone(copy):
    before = {path: path.stat().st_mtime_ns for path in (copy.path / "runs/train").rglob("policy.safetensors")}
    results = read_results(copy)
    copy.set_params({"experiment.seeds": [*SEEDS, 2]})
    assert copy.repro() == stages("behavior", "train", "evaluate") | {"report"}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    trained = copy.runs(**TRAINED)
    assert sorted((run.tags["algorithm"], run.tags["seed"]) for run in trained) == [("bc", "2"), ("inspo", "2")]
    with_new = read_results(copy)
    assert [row for row in with_new if row["seed"] != "2"] == results
    assert len(with_new) == len(results) * 3 // 2
    copy.set_params({"experiment.seeds": list(SEEDS)})
    copy.repro()
    assert read_results(copy) == results and not list((copy.path / "runs").rglob("seed_2"))


@pytest.mark.slow
def test_a_new_dataset_runs_alone(copy):
    before, results = copy.hashes("runs"), read_results(copy)
    copy.set_params({"experiment.datasets": [DATASET, "xor_c"]})
    assert copy.repro() == stages(*ALL, dataset="xor_c") | {"report"}
    assert before.items() <= copy.hashes("runs").items()
    assert {run.tags.get("dataset") for run in copy.runs(level="stage")} == {"xor_c", None}  # none: the report
    assert [row for row in read_results(copy) if row["dataset"] == DATASET] == results
    shown = json.loads(copy.dvc("metrics", "show", "--json"))[""]["data"]["reports/metrics.json"]["data"]
    assert set(shown) == {DATASET, "xor_c", "all"}


@pytest.mark.slow
def test_an_experiment_runs_what_it_changes_and_is_compared(copy):
    alpha = yaml.safe_load((copy.path / "params.yaml").read_text())["train"]["inspo"]["alpha"]
    ran = copy.repro("-S", f"train.inspo.alpha={2 * alpha}", "--name", "higher-alpha", command=("exp", "run"))
    # Behavior cloning has no alpha: its stage looks, finds its seeds done, and nothing after it runs.
    assert ran == stages("train") | {f"evaluate@{DATASET}-inspo", "report"}
    assert {run.tags["algorithm"] for run in copy.runs(**TRAINED)} == {"inspo"}
    assert {run.params["train.alpha"] for run in copy.runs(**TRAINED)} == {str(2 * alpha)}
    (pipeline,) = copy.runs(level="pipeline")
    assert pipeline.name.startswith("pipeline higher-alpha") and pipeline.tags["dvc_experiment"] == "higher-alpha"

    shown = json.loads(copy.dvc("exp", "show", "--json"))
    (experiment,) = [entry for state in shown for listed in state["experiments"] or [] for entry in listed["revs"]]
    assert experiment["name"] == "higher-alpha"
    assert experiment["data"]["params"]["params.yaml"]["data"]["train"]["inspo"]["alpha"] == 2 * alpha
    reported = json.loads((copy.path / "reports/metrics.json").read_text())
    assert experiment["data"]["metrics"]["reports/metrics.json"]["data"] == reported
    ((file, changes),) = json.loads(copy.dvc("params", "diff", "--json")).items()
    assert (file, list(changes)) == ("params.yaml", ["train.inspo.alpha"])
    assert (changes["train.inspo.alpha"]["old"], changes["train.inspo.alpha"]["new"]) == (alpha, 2 * alpha)
    difference = json.loads(copy.dvc("metrics", "diff", "--all", "--json"))["reports/metrics.json"]
    change = difference[f"{DATASET}.inspo.return_sampled.iqm"]
    assert change["new"] == reported[DATASET]["inspo"]["return_sampled"]["iqm"]
    assert difference[f"{DATASET}.bc.return_sampled.iqm"]["diff"] == 0
    copy.dvc("plots", "diff", "HEAD", "--out", "plots")
    page = (copy.path / "plots/index.html").read_text()
    assert set(re.findall(r'"rev": "(\w+)"', page)) == {"HEAD", "workspace"}
    assert len(re.findall(r'<img src="[^"]*returns[^"]*"', page)) == 2


@pytest.mark.slow
def test_an_experiment_in_a_temporary_copy_is_recorded_in_the_same_store(copy):
    overrides = ["-S", "experiment.algorithms=[bc]", "-S", "train.learning_rate=0.01"]
    before = copy.hashes("runs", "reports")
    assert copy.repro("--temp", *overrides, command=("exp", "run")) == {f"train@{DATASET}-bc", f"evaluate@{DATASET}-bc", "report"}
    assert copy.hashes("runs", "reports") == before and list((copy.path / "outbox").iterdir()) == []
    runs = copy.runs()
    assert len(runs) == 9 and {run.status for run in runs} == {"FINISHED"}  # pipeline, three stages, two seeds each, the algorithm
    ((name, run),) = copy.best().items()
    assert name == f"inspo-games-{DATASET}" and run in {trained.id for trained in copy.runs(**TRAINED)}


@pytest.mark.slow
def test_a_failing_stage_leaves_all_earlier_results(copy):
    before = copy.hashes("runs", "reports")
    raw = copy.path / "data" / DATASET / "rewards.npy"
    raw.write_bytes(raw.read_bytes()[:-4])
    failed = copy.run("dvc", "repro", check=False)
    assert failed.returncode != 0
    (sentence,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert f"data/{DATASET}" in sentence
    assert copy.hashes("runs", "reports") == before
    copy.run("git", "checkout", "data.dvc")
    copy.dvc("checkout", "--force", "data.dvc")
    assert copy.repro() == set()

    code, first = copy.path / "inspo_core/stages/train.py", "        loop, device = self.learner.loop"
    assert first in code.read_text()
    code.write_text(code.read_text().replace(first, f"        raise RuntimeError(f'seed {{self.seed}} of this checkout')\n{first}"))
    copy.run(sys.executable, "-m", "inspo_core.code_hashes")
    failed = copy.run("dvc", "repro", check=False)
    assert failed.returncode != 0
    assert "2 of 2 seeds failed" in failed.stderr and "seed 1 of this checkout" in failed.stderr
    assert copy.hashes("runs", "reports") == before
    (stage,) = copy.runs(stage="train", level="stage")
    assert stage.status == "FAILED" and {run.status for run in copy.runs(**TRAINED)} == {"FAILED"}
    assert "RUNNING" not in {run.status for run in copy.runs()}


@pytest.mark.slow
def test_outputs_come_back_from_cache_and_remote_without_running(copy, tmp_path):
    before = copy.hashes("runs", "reports")
    for folder in ("runs", "reports"):
        shutil.rmtree(copy.path / folder)
    copy.dvc("checkout")
    assert copy.hashes("runs", "reports") == before and copy.repro() == set()

    copy.dvc("remote", "add", "--default", "mine", tmp_path / "store")
    copy.dvc("push")
    copy.commit()
    copy.run("git", "clone", "--quiet", ".", tmp_path / "colleague")
    colleague = Clone(tmp_path / "colleague")
    colleague.dvc("pull")
    assert colleague.hashes("runs", "reports") == before and colleague.repro() == set()
    assert not (colleague.path / "mlflow.db").exists()


def read_results(clone: Clone) -> list[dict[str, str]]:
    with open(clone.path / "reports/results.csv", newline="") as file:
        return list(csv.DictReader(file))
