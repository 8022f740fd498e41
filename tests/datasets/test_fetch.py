"""Raw files out of a DVC repository: which bytes, and the one sentence for each way in which they cannot be had."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from inspo_core.datasets.fetch import data_hashes, fetch, file_hashes, folder_hash
from inspo_core.errors import InspoError
from tests.lab import ROOT, contents

PRIVATE = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.example", "DVC_NO_ANALYTICS": "true"}
PRIVATE |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.example"}


def call(place: Path, *command: str, **environment: str) -> str:
    line = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    done = subprocess.run(line, cwd=place, env=os.environ | PRIVATE | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout.strip()


def make_repository(place: Path) -> None:
    """A repository with two datasets in one tracked folder, its remote inside; the branch ``old`` has one of them only."""
    place.mkdir()
    call(place, "git", "init", "-q", "-b", "main")
    call(place, "dvc", "init", "-q")
    call(place, "dvc", "remote", "add", "-q", "-d", "inside", "store")
    for name, branch in (("xor_b", "old"), ("xor_c", None)):
        write_dataset(SETS[name](), place / "data" / name)
        call(place, "dvc", "add", "-q", "data")
        call(place, "dvc", "push", "-q")
        call(place, "git", "add", ".")
        call(place, "git", "commit", "-qm", name)
        if branch:
            call(place, "git", "branch", branch)
    shutil.rmtree(place / "data")
    shutil.rmtree(place / ".dvc/cache")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Not to be changed."""
    place = tmp_path_factory.mktemp("original") / "repository"
    make_repository(place)
    return place


@pytest.fixture
def repository(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "repository")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("raw") / "xor_b"
    write_dataset(SETS["xor_b"](), place)
    return place


@pytest.mark.parametrize("address, rev", [("{}", "main"), ("file://{}", "main"), ("file://{}", "old")])
def test_the_bytes_are_those_that_were_added(original, raw, tmp_path, address, rev):
    assert fetch("xor_b", address.format(original), rev, None, tmp_path / "out") == tmp_path / "out"
    assert contents(tmp_path / "out") == contents(raw)
    assert os.listdir(tmp_path) == ["out"]


def test_git_is_not_needed(original, raw, tmp_path):
    call = f"fetch('xor_b', 'file://{original}', 'main', 'inside', Path('out'))"
    code = f"from inspo_core.datasets.fetch import fetch; from pathlib import Path; {call}"
    environment = {"PATH": "/nowhere", "PYTHONPATH": str(ROOT), "HOME": "/nowhere", "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert contents(tmp_path / "out") == contents(raw)
    assert os.listdir(tmp_path / "tmp") == []  # neither DVC's clone nor its cache


def test_hashes_are_those_of_dvc(original, raw, tmp_path):
    call(tmp_path, "git", "init", "-q")
    call(tmp_path, "dvc", "init", "-q")
    shutil.copytree(raw, tmp_path / "xor_b")
    call(tmp_path, "dvc", "add", "-q", "xor_b")
    assert f"md5: {folder_hash(file_hashes(raw))}\n" in (tmp_path / "xor_b.dvc").read_text()
    found = data_hashes(str(original), "main", ["xor_b", "xor_c"])
    assert found["xor_b"] == folder_hash(file_hashes(raw)) != found["xor_c"]
    assert data_hashes(f"file://{original}", "old", ["xor_b"]) == {"xor_b": found["xor_b"]}


def test_a_folder_that_is_tracked_by_itself(repository, raw, tmp_path):
    call(repository, "git", "rm", "-q", "data.dvc", ".gitignore")
    shutil.copytree(raw, repository / "data/mine")
    call(repository, "dvc", "add", "-q", "data/mine")
    call(repository, "git", "add", ".")
    call(repository, "git", "commit", "-qm", "apart")
    assert contents(fetch("mine", str(repository), "HEAD", None, tmp_path / "out")) == contents(raw)  # from the cache: it was never pushed
    assert data_hashes(str(repository), "HEAD", ["mine"]) == {"mine": folder_hash(file_hashes(raw))}


def stored(repository: Path, raw: Path) -> Path:
    """Where the remote has ``meta.json`` of xor_b."""
    md5 = file_hashes(raw)["meta.json"]
    return repository / "store/files/md5" / md5[:2] / md5[2:]


def change(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"damaged")


REFUSALS: dict[str, tuple[Callable[[Path, Path], None] | None, dict[str, str], tuple[str, ...]]] = {
    "no such folder": (None, {"repo": "{}-x"}, ("the repository ", "cannot be read", "No git repository")),
    "no such address": (None, {"repo": "http://me:secret@127.0.0.1:9/x.git"}, ("http://127.0.0.1:9/x.git cannot be read", "refused")),
    "unknown branch": (None, {"rev": "nope"}, ("has no revision 'nope'",)),
    "unknown commit": (None, {"rev": "0" * 40}, ("has no revision",)),
    "unknown branch at an address": (None, {"repo": "file://{}", "rev": "nope"}, ("has no revision 'nope'",)),
    "no such dataset": (None, {"dataset": "xor_z"}, ("data/xor_z is not a folder that DVC tracks in",)),
    "not there yet": (None, {"dataset": "xor_c", "rev": "old"}, ("data/xor_c is not a folder that DVC tracks in", "at old")),
    "unknown remote": (None, {"remote": "nope"}, ("has no DVC remote 'nope'; it has inside",)),
    "lost object": (lambda place, raw: stored(place, raw).unlink(), {}, ("the DVC remote inside", "does not have data/xor_b/meta.json")),
    "lost remote": (lambda place, raw: shutil.rmtree(place / "store"), {}, ("the DVC remote inside", "does not have the listing of data")),
    "damaged object": (lambda place, raw: change(stored(place, raw)), {}, ("data/xor_b/meta.json: its md5 is", "damaged")),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_sentence_and_leave_nothing(repository, raw, tmp_path, case):
    prepare, changes, words = REFUSALS[case]
    if prepare:
        prepare(repository, raw)
    asked = {"dataset": "xor_b", "repo": "{}", "rev": "main", "remote": None} | changes
    asked["repo"] = asked["repo"].format(repository)
    with pytest.raises(InspoError) as refused:
        fetch(**asked, into=tmp_path / "out")
    said = str(refused.value)
    assert all(word in said for word in words) and "\n" not in said and "secret" not in said, said
    assert not [path for path in tmp_path.iterdir() if path != repository]


def test_a_damaged_listing_is_refused(repository, tmp_path):
    listing = next(path for path in (repository / "store").rglob("*.dir") if b"xor_c" in path.read_bytes())
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes().replace(b"xor_c", b"xor_d"))
    with pytest.raises(InspoError, match="the listing of data in .* is damaged"):
        data_hashes(str(repository), "main", ["xor_b"])


@pytest.mark.slow
def test_the_stage_gives_the_bytes_of_local_data_and_records_the_origin(original, raw, tmp_path, lab):
    lab.track()
    lab.run("components.ingest", "--dataset", "xor_b", "--raw", raw, "--out", "local").succeeded()
    named = ["--repo", f"file://user:secret@{original}", "--rev", "main"]
    lab.run("components.ingest", "--dataset", "xor_b", *named, "--remote", "", "--out", "pod", "--set", "experiment.name=pods").succeeded()
    assert contents(lab.place / "pod") == contents(lab.place / "local")
    with closing(sqlite3.connect(lab.place / "mlflow.db")) as database:
        found = dict(database.execute("select key, value from tags where key glob 'data_*'").fetchall())
        sources = {source for (source,) in database.execute("select dataset_source from datasets").fetchall()}
    place = f"file://{original}"
    assert found == {"data_repo": place, "data_rev": "main", "data_md5": folder_hash(file_hashes(raw))}
    assert json.dumps({"uri": place}) in sources and b"user:secret" not in (lab.place / "mlflow.db").read_bytes()


def test_the_command_wants_one_place(lab):
    lab.run("components.ingest", "--dataset", "xor_b", "--out", "out").refused("either --raw, or --repo and --rev")
    lab.run("components.ingest", "--dataset", "xor_b", "--repo", "x", "--out", "out").refused("either --raw, or --repo and --rev")
    lab.run("components.ingest", "--dataset", "xor_q", "--repo", "x", "--rev", "y", "--out", "out").refused("xor_q")
