"""What a stranger's installation rests on: exact pins, scripts that say what is missing, an image recipe that names files that exist."""

import importlib.metadata
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_are_exact_versions_without_build_path_or_host():
    assert pins()["kfp"] == pins()["kfp-pipeline-spec"] == pins()["kfp-server-api"]
    for name, version in pins().items():
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) and re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{name}=={version}"


def test_every_dependency_is_pinned_and_tested_as_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    pinned = {canonical(name): version for name, version in pins().items()}
    for name in {canonical(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for requirement in direct} - {project["name"]}:
        assert importlib.metadata.version(name).partition("+")[0] == pinned[name], name


@pytest.fixture
def bare_clone(tmp_path):
    """The files of ``setup.sh`` without an environment, and a PATH with nothing but a shell's basic tools."""
    for file in ("pyproject.toml", "constraints.txt", "scripts/setup.sh", "scripts/install.sh"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "dirname", "git"):
        (tools / tool).symlink_to(shutil.which(tool))
    return tmp_path


def run_setup(place: Path) -> subprocess.CompletedProcess:
    return subprocess.run([place / "scripts/setup.sh"], env={"PATH": str(place / "bin")}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("missing", "sentence"), [("python", "Python 3.11"), ("git", "git is missing")])
def test_setup_says_what_is_missing(bare_clone, missing, sentence):
    (bare_clone / "bin" / "env").symlink_to(shutil.which("env"))
    if missing == "git":
        (bare_clone / "bin" / "git").unlink()
    done = run_setup(bare_clone)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert sentence in line and "apt-get install" in line
    assert not (bare_clone / ".venv").exists()


def test_setup_does_nothing_when_nothing_changed(bare_clone):
    """With the stamp of the same files it must not touch the environment: the PATH has no Python to do so."""
    python = bare_clone / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/usr/bin/env false\n")
    python.chmod(0o755)
    files = [(bare_clone / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "scripts/install.sh")]
    digest = subprocess.check_output(["git", "hash-object", "--stdin"], input=b"".join(files)).decode()
    (bare_clone / ".venv/.installed").write_text(f"{bare_clone}  {digest}")
    assert run_setup(bare_clone).returncode == 0

    with open(bare_clone / "constraints.txt", "a") as constraints:
        constraints.write("more==1.0\n")
    assert run_setup(bare_clone).returncode == 1


def test_the_image_copies_what_is_there_and_not_ignored():
    recipe = (ROOT / "Dockerfile").read_text()
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", recipe, re.MULTILINE) for word in line.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source.rstrip("/") == name or name.startswith(source) for name in allowed), source
    assert re.findall(r"^USER (.*)$", recipe, re.MULTILINE) == ["1000"]
