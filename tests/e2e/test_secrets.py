"""Marked secrets in every place that may hold one: nothing that a run prints, sends or leaves has one of them."""

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from tests.e2e.clone import Clone
from tests.lab import Done, Lab, contents
from tests.services.docker import Docker

MARK = "Zq7Mark"
HARD = f"{MARK}/a '{MARK}\"?{MARK}@{MARK}"  # a password as no address should hold it
QUERY = f"token={MARK}&password={MARK}&X-Amz-Signature={MARK}"
GIVEN = {
    "AWS_ACCESS_KEY_ID": f"{MARK}ID",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}/key+{MARK}",
    "AWS_SESSION_TOKEN": f"{MARK}/session==",
    "MLFLOW_TRACKING_USERNAME": "me",
    "MLFLOW_TRACKING_PASSWORD": HARD,
    "KF_PIPELINES_TOKEN": f"{MARK}.token",
    "KF_PIPELINES_COOKIES": f"session={MARK}",
    "HTTP_PROXY": f"http://me:{MARK}@127.0.0.1:9",
    "NO_PROXY": "*",
}
TINY = """
base: params.yaml
experiment: {name: tiny, datasets: [xor_b], algorithms: [bc], seeds: [0]}
train: {iterations: 2, evaluate_every: 1}
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(place: Path, *arguments: object) -> None:
    private = {"GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(place), "DVC_NO_ANALYTICS": "true"}
    private |= {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    line = [sys.executable, "-m", *arguments] if arguments[0] == "dvc" else ["git", *arguments]
    subprocess.run([str(part) for part in line], cwd=place, env=os.environ | private, check=True, capture_output=True)


def keep_secrets(place: Path) -> None:
    """Write them where git and DVC keep such things beside a project."""
    git(place, "remote", "add", "far", f"https://me:{quote(HARD)}@git.example/x?token={MARK}")
    local = configparser.ConfigParser(interpolation=None)
    local["'remote \"far\"'"] = {"url": f"http://me:{MARK}/{MARK}@127.0.0.1:9/x?token={MARK}", "user": "me", "password": MARK}
    with open(place / ".dvc/config.local", "w") as file:
        local.write(file)
    (place / ".netrc").write_text(f"machine 127.0.0.1 login me password {MARK}\n")


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A data repository; of its two remotes one works, the other is far away."""
    place = tmp_path_factory.mktemp("data") / "repository"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    git(place, "dvc", "init", "-q")
    git(place, "dvc", "remote", "add", "-q", "-d", "inside", "store")
    git(place, "dvc", "remote", "add", "-q", "far", f"http://me:{quote(HARD, safe='')}@127.0.0.1:9/x?token={MARK}")
    write_dataset(SETS["xor_b"](), place / "data/xor_b")
    git(place, "dvc", "add", "-q", "data")
    git(place, "dvc", "push", "-q")
    git(place, "add", ".")
    git(place, "commit", "-qm", "data")
    shutil.rmtree(place / ".dvc/cache")
    keep_secrets(place)
    return place


class Watched:
    """A project with secrets around it, whose commands' output is kept."""

    def __init__(self, lab: Lab):
        self.lab, self.said = lab, {}
        os.symlink(lab.shared / "data", lab.place / "data")
        (lab.place / "tiny.yaml").write_text(TINY)
        git(lab.place, "init", "-q")
        git(lab.place, "dvc", "init", "-q")
        self.placed = {path: path.read_bytes() for path in lab.place.rglob("*") if path.is_file()}
        keep_secrets(lab.place)
        self.placed = {path for path in lab.place.rglob("*") if path.is_file() and path.read_bytes() != self.placed.get(path)}

    def start(self, module: str, *arguments: object, **environment: str) -> tuple[str, subprocess.Popen]:
        name = f"{module} {' '.join(map(str, arguments))} {environment}"
        return name, self.lab.start(module, *arguments, **(GIVEN | {"HOME": str(self.lab.place)} | environment))

    def finish(self, started: tuple[str, subprocess.Popen]) -> Done:
        name, process = started
        done = Done.of(process)
        self.said[name] = done.stdout + done.stderr
        return done

    def run(self, module: str, *arguments: object, **environment: str) -> Done:
        return self.finish(self.start(module, *arguments, **environment))

    def marked(self) -> Iterator[str]:
        """Which outputs and files have a secret in them, and where."""
        files = {
            path.relative_to(self.lab.place): path.read_bytes()
            for path in self.lab.place.rglob("*")
            if path.is_file() and path not in self.placed
        }
        for name, content in [*((name, text.encode()) for name, text in self.said.items()), *files.items()]:
            for mark in (MARK, quote(MARK), MARK.lower()):
                if (at := content.find(mark.encode())) >= 0:
                    yield f"{name}: ...{content[max(0, at - 200) : at + 100]!r}"


@pytest.fixture
def watched(lab) -> Watched:
    return Watched(lab)


@pytest.mark.slow
def test_a_run_leaves_no_secret(watched, repository):
    lab = watched.lab
    lab.track()
    image = {"INSPO_IMAGE": f"https://me:{HARD}@registry.example/inspo?{QUERY}", "INSPO_STORE": "store"}
    watched.run("pipelines.local", "tiny.yaml", **image).succeeded()
    source = ["--repo", f"file://me:{MARK}:'{MARK}@{repository}", "--rev", "main", "--remote", "inside"]
    watched.run("components.ingest", "--params", "tiny.yaml", "--dataset", "xor_b", *source, "--out", "runs/fetched", **image).succeeded()
    watched.run("pipelines.compile", "--out", "compiled").succeeded()
    dry = ["experiment", "--params", "tiny.yaml", "--dataset", "xor_b", "--algorithm", "bc", "--dry-run"]
    watched.run("pipelines.submit", *dry, "--data-repo", repository, "--data-rev", "main").succeeded()
    watched.run("inspo_core.tracking", "deliver").succeeded()
    left = contents(lab.place)
    for kind in (
        "runs/tiny/report/results.csv",
        "runs/tiny/provenance.json",
        "mlflow.db",
        "compiled/experiment-cpu.yaml",
        "runs/fetched/run.json",
    ):
        assert left[kind]
    assert [name for name in left if name.startswith("mlartifacts/")] and [name for name in left if name.startswith("store/train/")]
    assert lab.statuses() == {"FINISHED"} and b"registry.example/inspo" in left["mlflow.db"]
    assert {path.name for path in watched.placed} == {"config", "config.local", ".netrc"}
    assert all(MARK.encode() in path.read_bytes() for path in watched.placed)
    assert list(watched.marked()) == []


ADDRESS = f"http://me:{HARD}@127.0.0.1:9/x?{QUERY}"
OTHERS = {
    "slash": f"http://me:{MARK}/{MARK}@127.0.0.1:9/x",
    "token": f"http://127.0.0.1:9/x?{QUERY}",
    "user": f"https://{MARK}@127.0.0.1:9/x",
    "encoded": f"http://me:{quote(HARD, safe='')}@127.0.0.1:9/x",
}
TRAIN = ["pipelines.local", "tiny.yaml", "--set", "experiment.seeds=[0]"]
INGEST = ["components.ingest", "--params", "tiny.yaml", "--dataset", "xor_b", "--rev", "main", "--out", "out"]
SEND = ["pipelines.submit", "experiment", "--params", "tiny.yaml", "--dataset", "xor_b", "--algorithm", "bc", "--data-rev", COMMIT]
FAILURES = {
    **{f"repo with {name}": ([*INGEST, "--repo", address], {}, 2) for name, address in {"all": ADDRESS, **OTHERS}.items()},
    "a far remote": ([*INGEST, "--repo", "{repository}", "--remote", "far"], {}, 2),
    "store in S3": (TRAIN, {"INSPO_STORE": f"s3://{MARK}KEY:{HARD}@bucket/x", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 2),
    "store over HTTP": (TRAIN, {"INSPO_STORE": ADDRESS}, 2),
    "store of an unknown kind": (TRAIN, {"INSPO_STORE": f"nowhere://me:{HARD}@x"}, 2),
    "MLflow's server": (TRAIN, {"MLFLOW_TRACKING_URI": ADDRESS}, 0),
    "MLflow's server, slash": (TRAIN, {"MLFLOW_TRACKING_URI": OTHERS["slash"]}, 0),
    "MLflow's database": (TRAIN, {"MLFLOW_TRACKING_URI": f"postgresql+psycopg2://me:{HARD}@127.0.0.1:9/x?password={MARK}"}, 0),
    "deliver": (["inspo_core.tracking", "deliver"], {"MLFLOW_TRACKING_URI": ADDRESS}, 1),
    "data repository of a pipeline": ([*SEND, "--data-repo", ADDRESS, "--dry-run"], {}, 2),
    "Kubeflow": ([*SEND, "--data-repo", "/nowhere", "--host", OTHERS["token"]], {}, 2),
    "an override": ([*TRAIN, "--set", f"experiment.seeds={ADDRESS}"], {}, 2),
    "an override's name": ([*TRAIN, "--set", f"train.password={HARD}"], {}, 2),
    "an unknown option": ([*TRAIN, f"--repo={ADDRESS}"], {}, 2),
    "a parameter file": (["pipelines.local", f"https://me:{HARD}@host/tiny.yaml"], {}, 2),
}
FEW = ("repo with all", "store in S3", "MLflow's server", "a far remote", "data repository of a pipeline")


@pytest.mark.parametrize("cases", [FEW, pytest.param(tuple(name for name in FAILURES if name not in FEW), marks=pytest.mark.slow)])
def test_errors_say_where_and_no_secret(watched, repository, cases):
    for name in cases:
        (module, *arguments), environment, code = FAILURES[name]
        done = watched.run(module, *(str(part).replace("{repository}", str(repository)) for part in arguments), **environment)
        assert done.code == code and "Traceback" not in done.stderr, (name, done.code, done.stderr)
        assert "error: " in done.stderr or "warning: " in done.stderr, name
    assert list(watched.marked()) == []


@pytest.mark.slow
def test_no_layer_of_the_image_holds_a_secret(docker: Docker, tmp_path):
    clone = Clone.of_project(tmp_path / "project").path
    keep_secrets(clone)
    for name in (".env", ".git-credentials", ".pypirc", "pipelines/.env", "credentials.json", "inspo_core/.netrc"):
        (clone / name).write_text(MARK)
    image = docker.build(clone, COMMIT=COMMIT)
    saved = tmp_path / "image"
    docker.command("save", "--output", tmp_path / "image.tar", image).succeeded()
    saved.mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "image.tar", "-C", saved], check=True)
    history = docker.command("history", "--no-trunc", image).succeeded().stdout
    assert COMMIT in history and MARK not in history

    def holding(word: str) -> list[str]:
        return subprocess.run(["grep", "-rlaF", word, saved], capture_output=True, text=True).stdout.split()

    assert holding("what every message, tag, parameter and note goes through")  # of redaction.py: layers can be searched
    assert holding(MARK) == []
