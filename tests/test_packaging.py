"""What a stranger's installation rests on: exact pins, scripts that say what is missing, an image recipe that names files that exist."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9"


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


def test_set_up_takes_the_pythons_that_the_package_promises():
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    oldest, newest = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", promised).groups()
    setup = (ROOT / "scripts/setup.sh").read_text()
    assert f"(3, {oldest}) <= sys.version_info[:2] < (3, {newest})" in setup
    assert set(re.findall(r"python3\.(\d+)", setup)) == {str(minor) for minor in range(int(oldest), int(newest))}


@pytest.fixture
def bare_clone(tmp_path):
    """The files of ``setup.sh`` without an environment, and a PATH with nothing but a shell's basic tools."""
    for file in ("pyproject.toml", "constraints.txt", "scripts/setup.sh", "scripts/install.sh"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "dirname", "env", "git", "mktemp", "rm", "sed"):
        (tools / tool).symlink_to(shutil.which(tool))
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitconfig").write_text("[user]\nname = Some One\nemail = one@example.org\n", encoding="utf-8")
    return tmp_path


def run_setup(place: Path, script: str = "scripts/setup.sh", *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    """Run a script of the clone without a network: uv's cache is empty, and every connection is refused."""
    environment = {"PATH": str(place / "bin"), "UV_CACHE_DIR": str(place / "cache"), "UV_HTTP_RETRIES": "0", "HOME": str(place)}
    environment |= {"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE}
    return subprocess.run([place / script, *arguments], env=environment | settings, capture_output=True, text=True, timeout=60)


def the_error(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ") and "http" not in line]
    return line


def add_uv(place: Path) -> None:
    (place / "bin/uv").symlink_to(Path(sys.prefix) / "bin/uv")


def add_python(place: Path, name: str) -> None:
    """This Python, under that name."""
    (place / "bin" / name).write_text(f'#!/usr/bin/env bash\nexec {sys._base_executable} "$@"\n')
    (place / "bin" / name).chmod(0o755)


def add_shim(place: Path, name: str) -> None:
    """What pyenv leaves for a Python that is not the one in use."""
    (place / "bin" / name).write_text(f"#!/usr/bin/env bash\necho 'pyenv: {name}: command not found' >&2\nexit 127\n")
    (place / "bin" / name).chmod(0o755)


@pytest.mark.parametrize(
    ("uv", "missing", "sentence"),
    [
        (False, "git", "git is missing"),
        (False, "python3", "neither uv nor a Python with venv or pip is here"),
        (True, "python3", "Python 3.11, 3.12 or 3.13 is missing, and uv could not fetch one"),
    ],
)
def test_setup_says_what_is_missing(bare_clone, uv, missing, sentence):
    if uv:
        add_uv(bare_clone)
    add_shim(bare_clone, "python3")
    if missing == "git":
        (bare_clone / "bin" / "git").unlink()
    line = the_error(run_setup(bare_clone))
    assert sentence in line and f"apt-get install {missing}" in line
    assert not (bare_clone / ".venv").exists()


@pytest.mark.parametrize(
    ("pythons", "shims", "named", "chosen"),
    [
        (["python3", "python3.13", "python3.12"], [], "", "python3"),
        (["python3.11", "python3.12", "python3.13"], ["python3"], "", "python3.13"),
        (["python3.11", "python3.12"], ["python3", "python3.13"], "", "python3.12"),
        (["python3.11"], ["python3", "python3.12", "python3.13"], "", "python3.11"),
        (["python3", "mine"], [], "mine", "mine"),
    ],
)
def test_setup_takes_the_python_that_is_named_or_the_first_that_runs(bare_clone, pythons, shims, named, chosen):
    add_uv(bare_clone)
    for name in pythons:
        add_python(bare_clone, name)
    for name in shims:
        add_shim(bare_clone, name)
    done = run_setup(bare_clone, PYTHON=named)
    assert done.stdout == f"Python {platform.python_version()}, of {bare_clone}/bin/{chosen}, in .venv\n"
    assert os.path.samefile(bare_clone / ".venv/bin/python", sys._base_executable)
    assert done.returncode != 0 and not (bare_clone / ".venv/.installed").exists()  # nothing can be installed without a network


def test_setup_takes_no_other_python_than_the_one_that_is_named(bare_clone):
    add_python(bare_clone, "python3")
    add_shim(bare_clone, "python3.12")
    (bare_clone / ".venv").mkdir()
    assert "PYTHON=python3.12 is not a Python 3.11, 3.12 or 3.13 that runs" in the_error(run_setup(bare_clone, PYTHON="python3.12"))
    assert (bare_clone / ".venv").exists()


def test_setup_says_first_that_dvc_will_miss_a_repository_of_git(bare_clone):
    shutil.rmtree(bare_clone / ".git")
    line = the_error(run_setup(bare_clone))
    assert f"{bare_clone} is not the folder of a git repository" in line and "get the project with git clone" in line
    subprocess.run(["git", "init", "--quiet", bare_clone / "scripts"], check=True)
    (bare_clone / "scripts/.git").rename(bare_clone.parent / ".git")  # one of a folder above is none
    try:
        assert "is not the folder of a git repository" in the_error(run_setup(bare_clone))
    finally:
        shutil.rmtree(bare_clone.parent / ".git")
    assert not (bare_clone / ".venv").exists()


def test_setup_notes_first_that_experiments_of_dvc_need_a_name_for_commits(bare_clone):
    note = "note: git has no name and address for commits, without which `dvc exp run` fails"
    assert note not in run_setup(bare_clone).stderr
    (bare_clone / ".gitconfig").write_text("[user]\nuseConfigOnly = true\n", encoding="utf-8")
    assert run_setup(bare_clone).stderr.startswith(note)


@pytest.fixture
def set_up(bare_clone):
    """The clone with an environment without packages, stamped as ``PYTHON=mine scripts/setup.sh`` would."""
    add_uv(bare_clone)
    add_python(bare_clone, "mine")
    add_python(bare_clone, "python3")
    assert "bin/mine" in run_setup(bare_clone, PYTHON="mine").stdout
    files = [(bare_clone / name).read_bytes() for name in ("pyproject.toml", "constraints.txt", "scripts/install.sh")]
    digest = subprocess.check_output(["git", "hash-object", "--stdin"], input=b"".join(files)).decode()
    (bare_clone / ".venv/.settings").write_text("mine \n")
    (bare_clone / ".venv/.installed").write_text(f"{bare_clone} Python {platform.python_version()} {digest}")
    (bare_clone / ".venv/bin/uv").symlink_to(Path(sys.prefix) / "bin/uv")
    (bare_clone / ".venv/mark").touch()
    return bare_clone


@pytest.mark.parametrize("settings", [{}, {"PYTHON": "mine"}])
def test_setup_does_nothing_when_nothing_changed(set_up, settings):
    """Neither with the same settings nor without any; whatever it would do fails without a network."""
    done = run_setup(set_up, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_setup_installs_again_what_changed(set_up):
    with open(set_up / "constraints.txt", "a") as constraints:
        constraints.write("more==1.0\n")
    done = run_setup(set_up)
    assert done.returncode != 0 and done.stdout == "" and (set_up / ".venv/mark").exists()


@pytest.mark.parametrize("settings", [{"PYTHON": "python3"}, {"PYTHON": "mine", "TORCH_BACKEND": "cpu"}])
def test_setup_makes_the_environment_anew_with_other_settings(set_up, settings):
    done = run_setup(set_up, **settings)
    assert f"bin/{settings['PYTHON']}, in .venv" in done.stdout and not (set_up / ".venv/mark").exists()


@pytest.fixture
def without_pytorchs_index(bare_clone):
    """An empty environment, and an index of one's own that has PyTorch's name and version; any other address is refused."""
    add_uv(bare_clone)
    add_python(bare_clone, "python3")
    run_setup(bare_clone)
    torch, page = f"torch-{pins()['torch']}", bare_clone / "index/torch"
    page.mkdir(parents=True)
    wheel = f"{torch}-py3-none-any.whl"
    with zipfile.ZipFile(page / wheel, "w") as archive:
        archive.writestr(f"{torch}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {pins()['torch']}\n")
        archive.writestr(f"{torch}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{torch}.dist-info/RECORD", "")
    (page / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')

    def install(**settings: str) -> tuple[subprocess.CompletedProcess, bool]:
        """Run ``install.sh``, and whether PyTorch is there then."""
        settings |= {"UV_DEFAULT_INDEX": (bare_clone / "index").as_uri(), "VIRTUAL_ENV": str(bare_clone / ".venv")}
        done = run_setup(bare_clone, "scripts/install.sh", "torch", **settings)
        return done, bool(list(bare_clone.glob(".venv/lib/*/site-packages/torch-*")))

    return install


def test_where_pytorchs_index_cannot_be_reached_pypis_build_is_taken_and_its_size_said(without_pytorchs_index):
    done, installed = without_pytorchs_index()
    (note,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert "package index cannot be read" in note and "2.7 GB to download" in note
    assert done.returncode == 0 and installed


def test_a_build_that_is_asked_for_is_not_replaced_by_pypis(without_pytorchs_index):
    done, installed = without_pytorchs_index(TORCH_BACKEND="cpu")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "package index cannot be read" in line and "TORCH_BACKEND=cpu asks for a build of it" in line
    assert done.returncode == 1 and not installed


def test_the_image_copies_what_is_there_and_not_ignored():
    recipe = (ROOT / "Dockerfile").read_text()
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", recipe, re.MULTILINE) for word in line.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source.rstrip("/") == name or name.startswith(source) for name in allowed), source
    assert re.findall(r"^USER (.*)$", recipe, re.MULTILINE) == ["1000"]
