"""The submit command against a server that takes what KFP 2.17 defines, through the real kfp.Client."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

import pipelines.client
from components.cli import run
from inspo_core.config import load_params
from pipelines.plan import benchmark_plan, experiment_keys
from pipelines.submit import main
from tests.pipelines.kubeflow_server import KubeflowServer, Unfit, decoded

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = ["--data-repo", "https://git.example/data", "--data-rev", COMMIT]
EXPERIMENT = ["experiment", *DATA, "--dataset", "xor_c", "--algorithm", "inspo", "--seeds", "0,1"]
SMALL = '{"experiment.datasets": ["xor_c", "xor_b"], "experiment.algorithms": ["inspo", "inspo_product"]}'
BENCHMARK = ["benchmark", *DATA, "--set", SMALL]
CHOSEN = '{"experiment.datasets": ["xor_c"], "experiment.algorithms": ["inspo"], "experiment.seeds": [0, 1]}'
IMAGE = "inspo:0.1.0"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No token, cookie or context of whoever runs the tests; a data repository whose hashes are its datasets' names."""
    for name in [name for name in os.environ if name.startswith(("KF_PIPELINES_", "INSPO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INSPO_IMAGE", IMAGE)  # is set back afterwards, whatever the command makes of it
    monkeypatch.setattr(pipelines.client.kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    monkeypatch.setattr("inspo_core.datasets.fetch.data_hashes", lambda repo, rev, datasets, remote=None: {name: name for name in datasets})
    monkeypatch.setattr(pipelines.client, "POLL_SECONDS", 0)
    monkeypatch.chdir(ROOT)


@pytest.fixture
def submit(monkeypatch, capsys):
    """Run the command; returns exit status, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["submit", *map(str, arguments)])
        code = 0
        try:
            run(main)
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


def params_of(*overrides: str):
    return load_params(ROOT / "params.yaml", overrides)


def cache_keys(pipeline_spec: dict) -> dict[str, str]:
    """The cache key of every task that has one, at any depth."""
    components = [pipeline_spec["root"], *pipeline_spec["components"].values()]
    tasks = [task for component in components for task in component.get("dag", {}).get("tasks", {}).items()]
    return {name: task["cachingOptions"]["cacheKey"] for name, task in tasks if "cacheKey" in task.get("cachingOptions", {})}


def test_an_experiment_is_sent_whole_with_the_fingerprints_as_cache_keys(submit):
    server = KubeflowServer()
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--set", "train.alpha=0.2")
    assert (code, err, server.problems) == (0, "", [])
    (sent,) = server.runs
    assert sent.display_name == "xor_c inspo train.alpha=0.2" and f"run r1: {sent.display_name}" in out
    assert server.experiments[0].display_name == "inspo-games"
    assert sent.service_account == "inspo-runner"

    given = sent.runtime_config.parameters
    assert (given["data_repo"], given["data_rev"], given["data_remote"]) == ("https://git.example/data", COMMIT, "")
    assert (given["dataset"], given["algorithm"], given["seeds"]) == ("xor_c", "inspo", [0, 1])
    keys = experiment_keys(params_of("train.alpha=0.2"), "xor_c", "inspo", [0, 1], "xor_c", IMAGE)
    assert cache_keys(sent.pipeline_spec["pipeline_spec"]) == keys


def test_the_overrides_leave_nothing_to_the_parameter_file_in_the_image(submit, tmp_path):
    server = KubeflowServer()
    with server.serve() as host:
        assert submit(*EXPERIMENT, "--host", host, "--set", "variants.inspo_product.alpha=0.3")[0] == 0
    overrides = server.runs[0].runtime_config.parameters["overrides"]
    other = yaml.safe_load((ROOT / "params.yaml").read_text())
    other["train"]["alpha"], other["variants"], other["ingest"]["sources"] = 0.7, {}, {"xor_a": other["ingest"]["sources"]["xor_a"]}
    other["experiment"] |= {"datasets": ["xor_a"], "algorithms": ["bc"], "name": "another"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(other))
    assert load_params(tmp_path / "params.yaml", [json.dumps(overrides)]) == params_of("variants.inspo_product.alpha=0.3", CHOSEN)


def test_a_benchmark_brings_its_plan(submit):
    server = KubeflowServer()
    with server.serve() as host:
        code, _, err = submit(*BENCHMARK, "--host", host, "--seeds-per-task", "2", "--name", "all of them")
    assert (code, err, server.problems) == (0, "", [])
    (sent,) = server.runs
    assert sent.display_name == "all of them"
    assert sent.runtime_config.parameters["plan"] == benchmark_plan(params_of(SMALL), {"xor_c": "xor_c", "xor_b": "xor_b"}, IMAGE, 2)


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
    assert all(f"# fingerprint {stage}: {key}\n" in out for stage, key in keys.items())
    assert f'# parameter data_rev: "{COMMIT}"' in out and "kubernetes" in platform["platforms"]


def test_a_dry_run_of_a_benchmark_names_every_task(submit):
    code, out, _ = submit(*BENCHMARK, "--seeds-per-task", "3", "--dry-run")
    named = [line.partition(": ")[0] for line in out.splitlines() if line.startswith("# fingerprint ")]
    assert code == 0 and "# fingerprint train xor_b inspo_product 0,1,2" in named and "# fingerprint train xor_b inspo_product 3,4" in named
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


def test_watching_tells_each_change_once_and_the_end(submit):
    def tasks(**states: str) -> dict:
        return {"task_details": [{"task_id": name, "display_name": name, "state": state} for name, state in states.items()]}

    server = KubeflowServer()
    server.states = [
        {"state": "PENDING"},
        {"state": "RUNNING", "run_details": tasks(**{"train-driver": "SUCCEEDED", "train": "RUNNING"})},
        503,
        {"state": "RUNNING", "run_details": tasks(ingest="SUCCEEDED", train="RUNNING")},
        {"state": "FAILED", "run_details": tasks(ingest="SUCCEEDED", train="FAILED"), "error": {"message": "train said no"}},
    ]
    with server.serve() as host:
        code, out, err = submit(*EXPERIMENT, "--host", host, "--watch")
    assert (code, err, server.problems) == (1, "", [])
    told = out[out.index("run r1: xor_c inspo") :].splitlines()[1:]
    assert told == [
        "run r1: PENDING",
        "  train: RUNNING",
        "run r1: RUNNING",
        "  ingest: SUCCEEDED",
        "  train: FAILED",
        "run r1: FAILED",
        "  train said no",
    ]


def test_an_interrupted_watch_leaves_the_run_alone(submit, monkeypatch):
    server = KubeflowServer()
    server.states = [{"state": "RUNNING"}]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines.client.time, "sleep", interrupt)
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, "--watch")
    assert code == 130 and "the run r1 goes on" in err
    assert {method for method, *_ in server.requests[-1:]} == {"GET"}


def test_a_server_that_stays_away_is_not_waited_for_for_ever(submit, monkeypatch):
    monkeypatch.setattr(pipelines.client, "PATIENCE", 3)
    server = KubeflowServer()
    server.states = [503]
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, "--watch")
    refused(code, err, "503", "the run r1 goes on")
    assert sum("/runs/" in target for _, target, *_ in server.requests) == 3


def test_a_benchmark_that_may_be_too_large_for_kubeflow_is_said_to_be(submit):
    headline = ["benchmark", *DATA, "--params", "experiments/headline.yaml", "--dry-run"]
    code, _, err = submit(*headline)
    assert code == 0 and err.startswith("warning: the run has 240 steps") and "--seeds-per-task" in err
    assert submit(*headline, "--set", "experiment.datasets=[xor_b, xor_c, xor_d]")[2] == ""
    refused(*submit(*headline, "--seeds-per-task", "1")[::2], "the benchmark's plan has", "fewer datasets")


def test_a_token_that_expires_under_way_does_not_hide_that_the_run_goes_on(submit):
    server = KubeflowServer()
    server.states = [{"state": "RUNNING"}, 500, 429, 401]
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, "--watch")
    refused(code, err, "401", "the run r1 goes on")
    assert sum("/runs/" in target for _, target, *_ in server.requests) == 4


def refused(code: int, err: str, *words: str) -> None:
    """Exit status 2 and one sentence with all ``words``."""
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    assert not [word for word in words if word not in err], err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "train.alhpa=1"], ["train.alhpa", "did you mean alpha"]),
        (["--set", "train.alpha=much"], ["train.alpha is 'much'"]),
        (["--dataset", "xor_z"], ["no dataset 'xor_z'"]),
        (["--algorithm", "insop"], ["'insop'", "inspo"]),
        (["--placement", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--host", "pipelines.example"], ["--host is 'pipelines.example'", "https://"]),
        (["--host", "https://me:hunter2@pipelines.example"], ["--host holds a user name or password"]),
        (["--data-repo", "https://hunter2@git.example/data"], ["--data-repo holds a user name or password"]),
        (["--recurring", "0 3 * * *", "--name", "nightly"], ["six fields"]),
        (["--recurring", "0 0 3 * * *"], ["--name"]),
        (["--recurring", "0 0 3 * * *", "--name", "nightly", "--watch"], ["--watch"]),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_sent(submit, arguments, words):
    server = KubeflowServer()
    with server.serve() as host:
        code, _, err = submit(*EXPERIMENT, "--host", host, *arguments)
    refused(code, err, *words)
    assert "hunter2" not in err and server.requests == []


def test_nobody_there(submit):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there
        host = f"http://127.0.0.1:{held.getsockname()[1]}"
        refused(*submit(*EXPERIMENT, "--host", host)[::2], f"cannot reach {host}", "Connection refused")


def test_a_server_without_tls(submit):
    with KubeflowServer().serve() as host:
        refused(*submit(*EXPERIMENT, "--host", host.replace("http", "https"))[::2], "cannot reach https://", "SSL")


@pytest.mark.parametrize(("given", "words"), [("wrong", ["rejected the token"]), (None, ["who asks", "KF_PIPELINES_TOKEN"])])
def test_a_wrong_or_missing_token(submit, monkeypatch, given, words):
    if given:
        monkeypatch.setenv("KF_PIPELINES_TOKEN", given)
    server = KubeflowServer(token="right")
    with server.serve() as host:
        refused(*submit(*EXPERIMENT, "--host", host)[::2], *words, "401")
    assert len(server.requests) == 1, "it was asked again and again"


def test_a_service_account_without_its_token(submit, monkeypatch, tmp_path):
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "nowhere"))
    refused(*submit(*EXPERIMENT, "--host", "http://127.0.0.1:9")[::2], "nowhere", "KF_PIPELINES_SA_TOKEN_PATH")


@pytest.mark.parametrize(
    ("namespaces", "arguments", "words"),
    [
        (("team",), [], ["--namespace"]),
        (("team",), ["--namespace", "taem"], ["no access to namespace 'taem'", "does it exist"]),
        ((), ["--namespace", "team"], ["single user", "leave it out"]),
    ],
)
def test_a_missing_namespace(submit, namespaces, arguments, words):
    server = KubeflowServer(namespaces=namespaces)
    with server.serve() as host:
        refused(*submit(*EXPERIMENT, "--host", host, *arguments)[::2], *words)
    assert server.runs == []


@contextmanager
def something_else(status: int, content: bytes, **headers: str):
    """A server that is not Kubeflow and answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "content", "headers", "words"),
    [
        (200, b"<html>Welcome</html>", {"Content_Type": "text/html"}, ["not as Kubeflow Pipelines"]),
        (200, b'["welcome"]', {"Content_Type": "application/json"}, ["not as Kubeflow Pipelines"]),
        (404, b"not found", {}, ["not as Kubeflow Pipelines"]),
        (302, b"", {"Location": "/dex/auth?state=x"}, ["a person logs in", "KF_PIPELINES_COOKIES"]),
        (503, b"no healthy upstream", {}, ["503", "is it running"]),
    ],
)
def test_a_host_that_is_not_kubeflow(submit, status, content, headers, words):
    with something_else(status, content, **headers) as host:
        refused(*submit(*EXPERIMENT, "--host", host)[::2], *words)


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
