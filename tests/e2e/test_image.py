"""The image: what is in it and what is not, who may write where, and that a stage in it does what it does outside."""

import json
import os
import re
import shutil
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from inspo_core import __version__
from tests.e2e.image_probe import __file__ as PROBE
from tests.lab import contents
from tests.services.docker import Docker
from tests.services.tools import free_port, wait_for
from tests.test_packaging import canonical, pins

pytestmark = pytest.mark.slow
ADDED_BYTES = 1.6e9  # to the base image, CPU
WRITABLE = ("/inspo", "/home/inspo", "/tmp", "/var/tmp", "/run/lock")  # the last three are the base image's, for everybody
DEVELOPMENT = {"pytest", "kubernetes-validate", "pip", "uv", "wheel", "psycopg2-binary"}
TOOLS = {"gcc", "g++", "cc", "c++", "clang", "ld", "make", "uv", "git"}
ANY_USER = ("--read-only", "--tmpfs=/tmp")


def inspected(docker: Docker, image: str) -> dict:
    return json.loads(docker.command("image", "inspect", image).succeeded().stdout)[0]


@pytest.fixture(scope="module")
def recipe(docker) -> dict:
    """What ``docker image inspect`` says."""
    return inspected(docker, docker.image)


@pytest.fixture(scope="module")
def found(docker) -> dict:
    """What the image's own user sees in it."""
    done = docker.run("/probe.py", volumes={Path(PROBE): "/probe.py:ro"}, options=("--entrypoint=python",))
    return json.loads(done.succeeded().stdout)


def test_the_entry_point_runs_any_stage(docker):
    for stage in ("ingest", "behavior", "train", "evaluate", "report"):
        assert f"python -m components.{stage}" in docker.run(f"components.{stage}", "--help").succeeded().stdout


def test_bad_input_is_one_sentence(docker):
    docker.run("components.ingest", "--dataset", "nowhere", "--raw", "/raw", "--out", "/tmp/out").refused("nowhere")


@pytest.mark.parametrize(("user", "options"), [(None, ()), ("12345:0", ANY_USER), ("12345:12345", ANY_USER)])
def test_a_stage_writes_the_same_bytes_as_outside(docker, lab, user, options):
    """As the image's user, and with ids that nobody has given a name, on a file system that nobody can write to."""
    lab.run("components.ingest", "--dataset", "xor_b", "--raw", lab.data("xor_b"), "--out", "outside").succeeded()
    inside = lab.place / "inside"
    inside.mkdir()
    inside.chmod(0o777)
    raw = shutil.copytree(lab.data("xor_b"), lab.place / "raw")
    volumes = {raw: "/raw:ro", inside: "/out", lab.place / "params.yaml": "/params.yaml:ro"}
    arguments = ["--params", "/params.yaml", "--dataset", "xor_b", "--raw", "/raw", "--out", "/out/xor_b"]
    done = docker.run("components.ingest", *arguments, volumes=volumes, user=user, options=options).succeeded()
    assert "480 episodes" in done.stdout
    assert contents(inside / "xor_b") == contents(lab.place / "outside")
    assert {path.stat().st_uid for path in inside.rglob("*")} == {int((user or "1000").partition(":")[0])}


def test_its_user_labels_and_commit(docker, recipe):
    config = recipe["Config"]
    assert (config["User"], config["Entrypoint"], config["WorkingDir"]) == ("1000", ["python", "-m"], "/inspo")
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("inspo", __version__, docker.commit)
    assert f"INSPO_GIT_COMMIT={docker.commit}" in config["Env"]


def test_nothing_can_be_written_outside_its_places(docker, found):
    assert {"/inspo", "/home/inspo", "/tmp"} <= set(found["writable"])
    assert not [path for path in found["writable"] if path not in WRITABLE]
    seen = docker.run("/", "-xdev", "-writable", "!", "-type", "l", user="12345:0", options=("--entrypoint=find",)).stdout.split()
    assert not [path for path in seen if path not in WRITABLE]


def test_no_path_of_root_is_open_to_others(docker, found):
    shared = {"/tmp", "/var/tmp", "/run/lock"}
    assert set(found["open"]) <= shared
    modes = docker.run("--format=%a", *shared & set(found["open"]), options=("--entrypoint=stat",)).succeeded().stdout.split()
    assert set(modes) == {"1777"}  # nobody can replace what is another's


def test_no_secret_no_index_and_no_repository(docker, found, recipe):
    names = re.compile(r"(^|/)(\.netrc|pip\.conf|uv\.toml|\.pypirc|\.aws|\.git|\.dvc|\.ssh|\.docker|config\.local|direct_url\.json)$")
    assert not [path for path in found["paths"] if names.search(path)]
    assert not [
        path for path in found["paths"] if path.startswith(("/root/.cache/", "/home/inspo/", "/wheels", "/build", "/inspo/.", "/tmp/"))
    ]
    secret = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL|^(PIP|UV|AWS|SSL)_|PROXY$|INDEX", re.IGNORECASE)
    given = {line.partition("=")[0] for line in recipe["Config"]["Env"]} | set(found["environment"])
    assert not [name for name in given if secret.search(name) and name != "GPG_KEY"]  # with which Python's makers sign
    ours = "/opt/inspo /inspo /etc /home /root /usr/local/etc /opt/venv/pyvenv.cfg"
    hosts = [urlsplit(value).hostname for name, value in os.environ.items() if re.match(r"(PIP|UV)_.*INDEX", name)]
    words = ["AKIA[0-9A-Z]{16}", "aws_secret_access_key *=", "BEGIN [A-Z ]*PRIVATE KEY", *(re.escape(host) for host in hosts if host)]
    search = f"grep -rlE '{'|'.join(words)}' {ours} 2>/dev/null; true"
    assert docker.run("-c", search, user="0", options=("--entrypoint=sh",)).succeeded().stdout == ""


def test_it_holds_the_pinned_packages_and_none_for_development(found):
    installed = {canonical(name): version for name, version in found["versions"].items()}
    assert installed["torch"].endswith("+cpu")
    unpinned = {name: version for name, version in installed.items() if version.partition("+")[0] != pins().get(name)}
    assert not unpinned
    assert not DEVELOPMENT & set(installed) and "dvc-s3" in installed
    assert not [path for path in found["paths"] if path.startswith("/opt/") and path.endswith(("/tests", "/torch/include"))]
    programs = {Path(path).name for path in found["paths"] if Path(path).parent.name in ("bin", "sbin")}
    assert not programs & TOOLS


def test_its_code_is_compiled(found):
    assert found["slow_to_import"] == []


def test_its_size(docker, recipe):
    base = inspected(docker, docker.bases.get("BASE", "python:3.11-slim"))
    added = recipe["Size"] - base["Size"]
    assert 0.5e9 < added < ADDED_BYTES, f"{added / 1e9:.2f} GB"


def test_the_mlflow_servers_image(docker, tmp_path):
    """``EXTRAS=s3,server``: the same image, in which MLflow's server finds PostgreSQL's and S3's drivers, for any user id."""
    image = docker.build(EXTRAS="s3,server")
    docker.run("-c", "import boto3, psycopg2", image=image, options=("--entrypoint=python",)).succeeded()
    port, name = free_port(), f"inspo-mlflow-{tmp_path.name}"
    options = ["--rm", "--name", name, "--network=host", "--user=12345:0", *ANY_USER]
    store = ["--backend-store-uri", "sqlite:////tmp/mlflow.db", "--serve-artifacts", "--artifacts-destination", "/tmp/artifacts"]
    docker.command("run", "--detach", *options, image, "mlflow", "server", "--port", port, *store).succeeded()
    try:
        wait_for("MLflow's server", lambda: answers(f"http://127.0.0.1:{port}/health"), tmp_path / "log")
    finally:
        log = docker.command("logs", name)
        docker.command("rm", "--force", name)
    assert "Traceback" not in log.stdout + log.stderr


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False
