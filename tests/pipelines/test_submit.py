"""The submit command against a server that takes what KFP 2.17 defines, through the real kfp.Client."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from google.protobuf import json_format
from kfp.compiler.pipeline_spec_builder import to_protobuf_value
from pydantic import TypeAdapter

from inspo_core.config.reading import load_params, whole
from inspo_core.stages.outcomes import PlannedDataset
from pipelines.benchmark import benchmark
from pipelines.experiment import experiment
from pipelines.placement import Placement
from pipelines.plan import benchmark_plan, experiment_keys
from tests.pipelines.kubeflow_server import KubeflowServer, Unfit, decoded
from tests.pipelines.submitting import BENCHMARK, COMMIT, DATA, EXPERIMENT, IMAGE, ROOT, SMALL, refused

CHOSEN = '{"experiment.datasets": ["xor_c"], "experiment.algorithms": ["inspo"], "experiment.seeds": [0, 1]}'
DEVICES = {"behavior": "cpu", "train": "cpu"}


def params_of(*overrides: str):
    return load_params(ROOT / "params.yaml", overrides)


def cache_keys(pipeline_spec: dict) -> dict[str, str]:
    """The cache key of every task that has one, at any depth."""
    components = [pipeline_spec["root"], *pipeline_spec["components"].values()]
    tasks = [task for component in components for task in component.get("dag", {}).get("tasks", {}).items()]
    return {name: task["cachingOptions"]["cacheKey"] for name, task in tasks if "cacheKey" in task.get("cachingOptions", {})}


def test_an_experiment_is_sent_whole_with_its_keys_as_cache_keys(submit):
    server = KubeflowServer()
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--set", "train.inspo.alpha=0.2")
    assert (code, err, server.problems) == (0, "", [])
    (sent,) = server.runs
    assert sent.display_name == "xor_c inspo train.inspo.alpha=0.2" and f"run r1: {sent.display_name}" in out
    assert server.experiments[0].display_name == "inspo-games"
    assert sent.service_account == "inspo-runner"

    given = sent.runtime_config.parameters
    assert (given["data_repo"], given["data_rev"], given["data_remote"]) == ("https://git.example/data", COMMIT, "")
    assert (given["dataset"], given["algorithm"], given["seeds"]) == ("xor_c", "inspo", [0, 1])
    keys = experiment_keys(params_of("train.inspo.alpha=0.2"), "xor_c", "inspo", [0, 1], "xor_c", DEVICES)
    assert cache_keys(sent.pipeline_spec["pipeline_spec"]) == keys


def test_the_overrides_leave_nothing_to_the_parameter_file_in_the_image(submit, tmp_path):
    server = KubeflowServer()
    with server.serve() as host:
        assert submit(*EXPERIMENT, "--host", host, "--set", "variants.inspo_product.alpha=0.3")[0] == 0
    overrides = server.runs[0].runtime_config.parameters["overrides"]
    other = yaml.safe_load((ROOT / "params.yaml").read_text())
    other["train"]["inspo"]["alpha"], other["variants"] = 0.7, {}
    del other["train"]["omiga"], other["ingest"]["sources"]["xor_c"]
    other["experiment"] |= {"datasets": ["xor_a"], "algorithms": ["bc"], "name": "another"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(other))
    assert load_params(tmp_path / "params.yaml", [overrides]) == params_of("variants.inspo_product.alpha=0.3", CHOSEN)


def test_a_benchmark_brings_its_plan(submit):
    server = KubeflowServer()
    with server.serve() as host:
        code, _, err = submit(*BENCHMARK, "--host", host, "--seeds-per-task", "2", "--name", "all of them")
    assert (code, err, server.problems) == (0, "", [])
    (sent,) = server.runs
    assert sent.display_name == "all of them"
    assert sent.runtime_config.parameters["plan"] == benchmark_plan(params_of(SMALL), {"xor_c": "xor_c", "xor_b": "xor_b"}, DEVICES, 2)


@pytest.mark.parametrize(("placement", "device"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_it_is_said_on_which_device_steps_compute(submit, placement, device):
    code, out, err = submit(*EXPERIMENT, "--dry-run", "--placement", f"pipelines/placements/{placement}.yaml")
    assert (code, err) == (0, "")
    assert out.startswith(f"# behavior on cpu, train on {device}, as pipelines/placements/{placement}.yaml says")
    keys = experiment_keys(params_of(), "xor_c", "inspo", [0, 1], "xor_c", {"behavior": "cpu", "train": device})
    assert all(f"# key {stage}: {key}\n" in out for stage, key in keys.items())


def test_a_recurring_run_has_the_schedule_and_the_pipeline(submit):
    server = KubeflowServer()
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--recurring", "0 0 3 * * 1-5", "--name", "nightly")
    assert (code, err, server.problems, server.runs) == (0, "", [], [])
    (sent,) = server.recurring
    assert (sent.display_name, sent.trigger.cron_schedule.cron, sent.mode, sent.no_catchup) == ("nightly", "0 0 3 * * 1-5", "ENABLE", True)
    assert sent.runtime_config.parameters["dataset"] == "xor_c" and sent.service_account == "inspo-runner"
    assert "recurring run s1: nightly" in out


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(submit):
    server = KubeflowServer()
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--dry-run")
    assert (code, err, server.requests) == (0, "", [])
    spec, platform = yaml.safe_load_all(out)
    keys = cache_keys(spec)
    assert set(keys) == {"ingest", "behavior", "train", "evaluate", "report"}
    assert all(f"# key {stage}: {key}\n" in out for stage, key in keys.items())
    assert f'# parameter data_rev: "{COMMIT}"' in out and "kubernetes" in platform["platforms"]


def test_a_dry_run_of_a_benchmark_names_every_task(submit):
    code, out, _ = submit(*BENCHMARK, "--seeds-per-task", "3", "--dry-run")
    named = [line.partition(": ")[0] for line in out.splitlines() if line.startswith("# key ")]
    assert code == 0 and "# key train xor_b inspo_product 0,1,2" in named and "# key train xor_b inspo_product 3,4" in named
    assert len(named) == len(set(named)) == 2 * (2 + 2 * 2 * 2)


@pytest.mark.parametrize("kind", ["token", "cookies", "service account"])
def test_every_request_says_who_asks_and_nothing_else_does(submit, monkeypatch, tmp_path, kind):
    secret = "s3cr3t-of-the-test"
    expected = {"cookies": f"authservice_session={secret}"} if kind == "cookies" else {"token": secret}
    if kind == "service account":
        (tmp_path / "token").write_text(f"{secret}\n")
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    else:
        monkeypatch.setenv(f"KF_PIPELINES_{kind.upper()}", *expected.values())
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABASE_URL"):
        monkeypatch.setenv(name, f"{secret}-{name}")
    server = KubeflowServer(namespaces=("team",), **expected)
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--namespace", "team", "--watch")
        dry = submit(*BENCHMARK, "--dry-run")
    assert (code, err, server.problems) == (0, "", [])
    assert server.experiments[0].namespace == "team"
    addresses_and_bodies = json.dumps([(target, body) for _, target, _, body in server.requests])
    assert secret not in addresses_and_bodies + out + err + dry[1] + dry[2]


def test_a_benchmark_that_may_be_too_large_for_kubeflow_is_said_to_be(submit):
    headline = ["benchmark", *DATA, "--params", "experiments/headline.yaml", "--dry-run"]
    code, _, err = submit(*headline)
    assert code == 0 and err.startswith("warning: the run has 180 steps") and "--seeds-per-task" in err
    assert submit(*headline, "--set", "experiment.datasets=[xor_b, xor_c, xor_d]")[2] == ""
    refused(*submit(*headline, "--seeds-per-task", "1")[::2], "the benchmark's plan has", "fewer datasets")


@pytest.mark.usefixtures("alone")
def test_a_branch_is_pinned_to_its_commit(tmp_path):
    """As a user types it, with a real data repository and another image."""

    def git(*words: str) -> str:
        name = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        return subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    def dvc(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *words, "-q"], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    dvc("init")
    (tmp_path / "data" / "xor_c").mkdir(parents=True)
    (tmp_path / "data" / "xor_c" / "raw.txt").write_text("raw")
    dvc("add", "data")
    git("add", "."), git("commit", "-q", "-m", "data")
    git("tag", "-a", "v1", "-m", "one")
    commit, image = git("rev-parse", "HEAD"), "registry.example/inspo@sha256:01"

    def dry_run(rev: str) -> subprocess.CompletedProcess:
        what = ["--data-repo", tmp_path, "--data-rev", rev, "--dataset", "xor_c", "--algorithm", "bc", "--image", image]
        command = [sys.executable, "-m", "pipelines.submit", "experiment", *what, "--dry-run"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    for rev in ("main", "v1"):
        done = dry_run(rev)
        assert done.returncode == 0, done.stderr
        assert f'# parameter data_rev: "{commit}"' in done.stdout
    executors = next(yaml.safe_load_all(done.stdout))["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {image}
    unknown = dry_run("mian")
    refused(unknown.returncode, unknown.stderr, "'mian'", "no branch or tag")


def test_the_commands_of_the_walk_through_are_understood(submit):
    text = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^python -m pipelines\.submit (.+)$", text, re.MULTILINE)
    assert {command.split()[0] for command in commands} == {"experiment", "benchmark"}
    values = {"$REPO": "https://git.example/data", "$REV": COMMIT, "$IMAGE": IMAGE, "$NAMESPACE": "team"}
    for command in commands:
        words = [values.get(word, word) for word in shlex.split(command)]
        dry = [word for word in words if word not in ("--watch", "--dry-run")] + ["--dry-run"]
        assert submit(*dry)[0] == 0, command


def test_the_server_of_these_tests_is_strict():
    decoded({"display_name": "a", "runtime_config": {"parameters": {"x": 1}}}, "V2beta1Run")
    for wrong in ({"name": "a"}, {"display_name": []}, {"state": "DONE"}, {"runtime_config": {"params": {}}}):
        with pytest.raises(Unfit):
            decoded(wrong, "V2beta1Run")


def test_what_kubeflow_hands_to_a_step_is_what_was_meant(submit):
    """Its parameters are doubles where they are numbers, at any depth, and its local runner takes no null."""
    options = {"timeout_at": None, "more": {"deep": [2**60 + 1, None]}}
    changes = {
        "variants.quick": {"algorithm": "inspo", "policy_steps": 4, "hidden": [16], "alpha": 1.0},
        "ingest.sources.xor_c": {"format": "native", "env": "xor", "options": options},
        "experiment.seeds": [2**53 - 1, 7],
    }
    server = KubeflowServer()
    with server.serve() as host:
        code, _, err = submit("benchmark", *DATA, "--set", SMALL, "--set", json.dumps(changes), "--host", host)
    assert (code, err, server.problems) == (0, "", [])
    given = server.runs[0].runtime_config.parameters
    handed = {name: json_format.MessageToDict(to_protobuf_value(value)) for name, value in given.items()}
    meant = params_of(SMALL, json.dumps(changes))
    assert load_params(ROOT / "params.yaml", [handed["overrides"]]) == meant
    assert meant.variants["quick"].changes["hidden"] == [16] and meant.ingest.sources["xor_c"].options == options
    plan = TypeAdapter(list[PlannedDataset]).validate_python(whole(handed["plan"]))
    assert [run.seeds for of_dataset in plan for run in of_dataset.runs] == [[2**53 - 1, 7]] * 4


@pytest.mark.parametrize("pipeline", [experiment(Placement()), benchmark(Placement())], ids=lambda pipeline: pipeline.name)
def test_no_parameter_of_a_pipeline_is_a_dictionary(pipeline):
    spec = json_format.MessageToDict(pipeline.pipeline_spec)
    found = re.findall(r"'(\w+)': \{[^{}]*'parameterType': '(\w+)'", str(spec))
    assert ("overrides", "STRING") in found and not [name for name, kind in found if kind == "STRUCT"]


def test_a_message_about_parameters_names_the_file_that_holds_them(submit, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"base: {ROOT}/params.yaml\nexperiment: {{datasets: [xor_z]}}\n", encoding="utf-8")
    code, _, err = submit("benchmark", *DATA, "--params", tmp_path / "mine.yaml", "--dry-run")
    refused(code, err, "ingest.sources has no dataset 'xor_z'")
    assert "params.yaml" not in err


@pytest.mark.parametrize(("datasets", "said"), [(["xor_c"], "1 dataset, 2 algorithms, 1 seed"), (["xor_c", "xor_b"], "2 datasets, 2 ")])
def test_a_benchmark_is_named_after_its_size(submit, datasets, said):
    chosen = json.dumps({"experiment.datasets": datasets, "experiment.algorithms": ["inspo", "bc"], "experiment.seeds": [3]})
    assert f"# benchmark: {said}" in submit("benchmark", *DATA, "--set", chosen, "--dry-run")[1]
