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

from inspo_core.algorithms.networks import Policy
from inspo_core.envs import make_env
from tests.e2e.clone import ALL_STAGES, CELLS, SMALL, Clone

FEWER = {"experiment.datasets": ["xor_c"]}
TRAINED = {"stage": "train", "level": "seed"}
LOAD_BEST = """
import json, sys
import mlflow, numpy as np
print(json.dumps(mlflow.pyfunc.load_model(sys.argv[1]).predict(dict(np.load("inputs.npz"))).tolist()))
"""


def cells_of(stage: str) -> set[str]:
    return {f"{stage}@{cell}" for cell in CELLS}


# --- the first run


def test_the_first_run_makes_everything_and_changes_only_the_lock_file(first_run):
    clone, stages = first_run
    assert stages == ALL_STAGES
    assert set(clone.run("git", "status", "--porcelain").stdout.split()) <= {"??", "M", "dvc.lock"}
    assert len(read_results(clone)) == len(CELLS) * len(SMALL["experiment.seeds"]) * 4
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
    stages, seeds = finished.runs(level="stage"), finished.runs(level="seed")
    assert len(finished.runs()) == 1 + len(stages) + len(seeds)
    cell = ("stage", "dataset", "algorithm")
    named = ["@".join(filter(None, (run.tags[cell[0]], "-".join(run.tags[key] for key in cell[1:] if key in run.tags)))) for run in stages]
    assert sorted(named) == sorted(ALL_STAGES)
    assert {run.tags["mlflow.parentRunId"] for run in stages} == {pipeline.id}
    ids = {run.id for run in stages if run.tags["stage"] in ("behavior", "train", "evaluate")}
    assert {run.tags["mlflow.parentRunId"] for run in seeds} == ids and len(seeds) == len(ids) * len(SMALL["experiment.seeds"])
    assert pipeline.tags["git_dirty"] == "false"
    assert pipeline.tags["dvc_data"] in (finished.path / "data.dvc").read_text()


def test_a_seeds_runs_have_its_parameters_curves_and_final_metrics(finished):
    identity = {"dataset": "bridge_optimal", "algorithm": "inspo", "seed": "1"}
    (training,), (evaluation,) = finished.runs(**TRAINED, **identity), finished.runs(stage="evaluate", level="seed", **identity)
    place = finished.path / "runs"
    record = json.loads((place / "train/bridge_optimal/inspo/seed_1/run.json").read_text())
    assert training.tags["fingerprint"] == record["fingerprint"]
    assert training.params["train.alpha"] == json.dumps(record["config"]["alpha"])
    assert training.params["train.iterations"] == str(SMALL["train.iterations"])
    metrics = json.loads((place / "evaluate/bridge_optimal/inspo/seed_1/metrics.json").read_text())
    assert {f"final/{name}": value for name, value in metrics.items()}.items() <= evaluation.metrics.items()
    curve = [json.loads(line) for line in (place / "train/bridge_optimal/inspo/seed_1/metrics.jsonl").read_text().splitlines()]
    assert training.metrics["evaluation/return_sampled"] == curve[-1]["evaluation/return_sampled"]


def test_the_best_registered_model_loads_and_acts_as_the_policy_does(finished, tmp_path):
    env = make_env("bridge")
    observation = env.reset(np.arange(5))
    inputs = {"observations": observation.observations, "available_actions": observation.available_actions}
    np.savez(tmp_path / "inputs.npz", **inputs)
    (tmp_path / "load.py").write_text(LOAD_BEST)
    shutil.copy(finished.path / "mlflow.db", tmp_path)  # looking at a store must not change the one that other tests look at
    elsewhere = Clone(tmp_path)
    uri = "models:/inspo-games-bridge_optimal@best"
    actions = np.array(json.loads(elsewhere.run(sys.executable, "load.py", uri, MLFLOW_TRACKING_URI=elsewhere.store).stdout))
    env.step(actions)

    returns = {}
    for algorithm in ("inspo", "bc"):
        for seed in SMALL["experiment.seeds"]:
            place = Path("bridge_optimal") / algorithm / f"seed_{seed}"
            metrics = json.loads((finished.path / "runs/evaluate" / place / "metrics.json").read_text())
            returns[place] = (metrics["return_greedy"], metrics["return_sampled"])
    best = max(returns, key=returns.get)
    policy = Policy.load(finished.path / "runs/train" / best)
    expected = policy.log_probs(*(torch.from_numpy(values) for values in inputs.values())).argmax(-1)
    assert actions.tolist() == expected.tolist()


def test_metrics_and_plots_show_the_report(finished, tmp_path):
    shown = json.loads(finished.dvc("metrics", "show", "--json"))[""]["data"]["reports/metrics.json"]["data"]
    assert shown == json.loads((finished.path / "reports/metrics.json").read_text())
    assert set(shown) == {*SMALL["experiment.datasets"], "all"} and set(shown["xor_c"]) == {"inspo", "bc"}
    finished.dvc("plots", "show", "--out", tmp_path / "plots")
    page = (tmp_path / "plots/index.html").read_text()
    specs = {spec["title"]["text"]: spec for spec in map(json.loads, re.findall(r"var spec = (.*);\n", page))}
    assert set(specs) == {"Return over training, greedy", "Return over training, sampled"}
    for title, spec in specs.items():
        field = "return_" + title.split()[-1]
        assert field in json.dumps(spec["spec"]) and "DVC_METRIC" not in json.dumps(spec)
        points = {(point["dataset"], point["algorithm"], point["seed"], point["step"]) for point in spec["data"]["values"]}
        assert len(points) == len(CELLS) * len(SMALL["experiment.seeds"]) * SMALL["train.iterations"]
    (image,) = re.findall(r'<img src="([^"]*returns[^"]*)"', page)
    assert (tmp_path / "plots" / image).read_bytes() == (finished.path / "reports/figures/returns.png").read_bytes()


def test_a_parameter_touches_only_the_stages_that_read_it(copy):
    """What comes after them is decided by their results; the seeds that it does not concern are done already."""
    behavior = {f"behavior@{dataset}" for dataset in SMALL["experiment.datasets"]}
    train, evaluate = cells_of("train"), cells_of("evaluate")
    other_format = {"xor_c": {"format": "alberdice", "env": "xor"}, "bridge_optimal": {"format": "native", "env": "bridge"}}
    original = (copy.path / "params.yaml").read_text()
    for name, value, stages in [
        ("experiment.name", "other", set()),
        ("experiment.seeds", [0], behavior | train | evaluate | {"report"}),
        ("ingest.sources", other_format, {"ingest@xor_c"}),
        ("train.device", "cpu", behavior | train),
        ("train.variant", "other", train | evaluate),
        ("evaluate.episodes", 11, evaluate),
        ("report.bootstrap", 101, evaluate | {"report"}),
    ]:
        copy.set_params({name: value})
        assert copy.changed_stages() == stages, name
        (copy.path / "params.yaml").write_text(original)


# --- copies of it, changed


@pytest.mark.slow
def test_a_clone_at_another_place_gives_the_same_bytes(finished, tmp_path):
    other = Clone.of_project(tmp_path / "a place with a longer name")
    other.dvc("pull", "data.dvc")
    other.run("dvc", "repro", INSPO_WORKERS="1", PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    ours, theirs = finished.hashes("runs", "reports"), other.hashes("runs", "reports")
    assert sum(name.endswith("policy.safetensors") for name in ours) == len(CELLS) * len(SMALL["experiment.seeds"])
    assert {name for name in ours | theirs if ours.get(name) != theirs.get(name)} == set()
    assert (other.path / "dvc.lock").read_bytes() == (finished.path / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_a_new_seed_runs_alone(copy):
    before = {path: path.stat().st_mtime_ns for path in (copy.path / "runs/train/xor_c").rglob("policy.safetensors")}
    results = [row for row in read_results(copy) if row["dataset"] == "xor_c"]
    copy.set_params(FEWER | {"experiment.seeds": [0, 1, 2]})
    assert copy.repro() == {stage for stage in ALL_STAGES if "xor_c" in stage or stage == "report"} - {"ingest@xor_c"}
    assert before == {path: path.stat().st_mtime_ns for path in before}
    trained = copy.runs(**TRAINED)
    assert sorted((run.tags["algorithm"], run.tags["seed"]) for run in trained) == [("bc", "2"), ("inspo", "2")]
    with_new = read_results(copy)
    assert [row for row in with_new if row["seed"] != "2"] == results
    assert len(with_new) == len(results) * 3 // 2
    copy.set_params({"experiment.seeds": [0, 1]})
    copy.repro()
    assert read_results(copy) == results and not list((copy.path / "runs").rglob("seed_2"))


@pytest.mark.slow
def test_an_experiment_runs_what_it_changes_and_is_compared(copy):
    ran = copy.repro("-S", "train.alpha=0.2", "--name", "higher-alpha", command=("exp", "run"))
    # Behavior cloning has no alpha: its stage looks, finds its seeds done, and nothing after it runs.
    assert ran == cells_of("train") | {stage for stage in cells_of("evaluate") if stage.endswith("inspo")} | {"report"}
    assert {run.tags["algorithm"] for run in copy.runs(**TRAINED)} == {"inspo"}
    assert {run.params["train.alpha"] for run in copy.runs(**TRAINED)} == {"0.2"}
    (pipeline,) = copy.runs(level="pipeline")
    assert pipeline.name == "pipeline higher-alpha" and pipeline.tags["dvc_experiment"] == "higher-alpha"

    shown = json.loads(copy.dvc("exp", "show", "--json"))
    (experiment,) = [entry for state in shown for listed in state["experiments"] or [] for entry in listed["revs"]]
    assert experiment["name"] == "higher-alpha"
    assert experiment["data"]["params"]["params.yaml"]["data"]["train"]["alpha"] == 0.2
    reported = json.loads((copy.path / "reports/metrics.json").read_text())
    assert experiment["data"]["metrics"]["reports/metrics.json"]["data"] == reported
    assert json.loads(copy.dvc("params", "diff", "--json")) == {"params.yaml": {"train.alpha": {"old": 0.1, "new": 0.2, "diff": 0.1}}}
    difference = json.loads(copy.dvc("metrics", "diff", "--all", "--json"))["reports/metrics.json"]
    change = difference["bridge_optimal.inspo.return_sampled.iqm"]
    assert change["new"] == reported["bridge_optimal"]["inspo"]["return_sampled"]["iqm"]
    assert difference["bridge_optimal.bc.return_sampled.iqm"]["diff"] == 0
    copy.dvc("plots", "diff", "HEAD", "--out", "plots")
    page = (copy.path / "plots/index.html").read_text()
    assert set(re.findall(r'"rev": "(\w+)"', page)) == {"HEAD", "workspace"}
    assert len(re.findall(r'<img src="[^"]*returns[^"]*"', page)) == 2


@pytest.mark.slow
def test_an_experiment_in_a_temporary_copy_is_recorded_in_the_same_store(copy):
    overrides = ["-S", "experiment.datasets=[xor_c]", "-S", "experiment.algorithms=[bc]", "-S", "train.learning_rate=0.01"]
    before = copy.hashes("runs", "reports")
    assert copy.repro("--temp", *overrides, command=("exp", "run")) == {"train@xor_c-bc", "evaluate@xor_c-bc", "report"}
    assert copy.hashes("runs", "reports") == before and list((copy.path / "outbox").iterdir()) == []
    runs = copy.runs()
    assert len(runs) == 8 and {run.status for run in runs} == {"FINISHED"}  # pipeline, three stages, two seeds each
    ((name, run),) = copy.best().items()
    assert name == "inspo-games-xor_c" and run in {trained.id for trained in copy.runs(**TRAINED)}


@pytest.mark.slow
def test_a_failing_stage_leaves_all_earlier_results(copy):
    before = copy.hashes("runs", "reports")
    raw = copy.path / "data/xor_c/rewards.npy"
    raw.write_bytes(raw.read_bytes()[:-4])
    failed = copy.run("dvc", "repro", check=False)
    assert failed.returncode != 0
    (sentence,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert "data/xor_c" in sentence
    assert copy.hashes("runs", "reports") == before
    copy.run("git", "checkout", "data.dvc")
    copy.dvc("checkout", "--force", "data.dvc")
    assert copy.repro() == set()

    code = copy.path / "inspo_core/training.py"
    code.write_text(code.read_text() + "\n\ndef train_seed(seed, **_):\n    raise RuntimeError(f'seed {seed} of this checkout')\n")
    copy.set_params(FEWER)
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
