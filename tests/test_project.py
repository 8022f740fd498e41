"""What must outlive a process lies in the project's folder, also where DVC runs an experiment in a temporary copy of it."""

import os
import signal
from pathlib import Path

import pytest

from inspo_core.project import in_project, project_root
from inspo_core.redaction import database_of
from inspo_core.running import machine
from inspo_core.running.shared_store import SharedStore
from inspo_core.tracking.mlflow.server import tracking_uri
from tests.lab import Done, Lab, contents, wait_until

RELATIVE = ("shared", "./shared", "file:shared", "file://shared", "local://shared", "a/../shared")
ODD = ("per%20cent", "que?stion", "%2F", "ha#sh", "sp ace", "ümlaut")
COPIES = [".dvc/tmp/exps/standalone/tmp1a", ".dvc/tmp/exps/tmp1a"]  # of `dvc exp run --temp`, and of its queue


@pytest.fixture(params=COPIES)
def project(request, tmp_path, monkeypatch) -> Path:
    """The project's folder; the current one is a temporary copy of it."""
    (tmp_path / request.param).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / request.param)
    for name in [name for name in os.environ if name.startswith(("INSPO_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    return tmp_path


def test_relative_places_are_in_the_project(project, monkeypatch):
    assert project_root() == project
    assert machine.checkpoints() == project / "checkpoints" and database_of(tracking_uri()) == project / "mlflow.db"
    monkeypatch.setenv("INSPO_CHECKPOINTS", "unfinished/mine")
    assert machine.checkpoints() == project / "unfinished/mine"
    monkeypatch.setenv("INSPO_STORE", "shared")
    store = SharedStore.from_environment()
    assert store
    store.write_record("key", 1)
    assert (project / "shared/tasks/key.json").exists() and not list(Path.cwd().iterdir())


@pytest.mark.parametrize("place", ["/elsewhere/store", "s3://bucket/prefix", "memory://store"])
def test_other_places_stay_as_they_are(project, place):
    assert in_project(place) == place


def test_a_run_in_a_temporary_copy_that_is_stopped_goes_on_in_another(lab):
    homes = [lab.place / COPIES[0], lab.place / ".dvc/tmp/exps/standalone/tmp2b"]
    for home in homes:
        home.mkdir(parents=True)
    first, second = (Lab(home, lab.shared) for home in homes)
    train = [*lab.train_arguments("bridge_optimal", "inspo", "0"), "--set", "train.iterations=400"]
    process = first.start("components.train", *train, INSPO_STORE="shared")
    wait_until(lambda: bool(list(lab.place.glob("shared/checkpoints/*/checkpoint.pt"))) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert Done.of(process).code == 128 + signal.SIGTERM
    assert len(lab.checkpoints()) == 1 and not (first.place / "checkpoints").exists() and not (first.place / "shared/checkpoints").exists()
    second.run("components.train", *train, INSPO_STORE="shared").succeeded()
    assert list(lab.place.glob("shared/train/*/run.json")) and not lab.checkpoints()
    lab.run("components.train", *train).succeeded()
    assert contents(second.place / "train") == contents(lab.place / "train")


@pytest.mark.parametrize("inside", [".", ".dvc/tmp/exps/abc", ".dvc/tmp/exps/abc/deeper"])
@pytest.mark.parametrize("name", ["plain", *ODD])
def test_relative_addresses_belong_to_the_projects_folder_in_dvcs_copies_too(tmp_path, monkeypatch, name, inside):
    place = tmp_path / name / inside
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    assert project_root() == tmp_path / name
    assert {Path(in_project(address)).resolve() for address in RELATIVE} == {tmp_path / name / "shared"}
    assert in_project(name) == str(tmp_path / name / name)


def test_absolute_addresses_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert in_project("/store") == in_project("file:///store") == "/store" and in_project("~/store") == f"{tmp_path}/store"
    for address in ("s3://bucket/prefix", "memory://x", "http://u:p@host/x"):
        assert in_project(address) == address
