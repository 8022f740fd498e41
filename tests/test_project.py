"""The project's folder, and what relative addresses mean."""

from pathlib import Path

import pytest

from inspo_core.project import in_project, project_root

RELATIVE = ("shared", "./shared", "file:shared", "file://shared", "local://shared", "a/../shared")
ODD = ("per%20cent", "que?stion", "%2F", "ha#sh", "sp ace", "ümlaut")


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
    monkeypatch.setenv("HOME", "/home/of/someone")
    assert in_project("/store") == in_project("file:///store") == "/store" and in_project("~/store") == "/home/of/someone/store"
    for address in ("s3://bucket/prefix", "memory://x", "http://u:p@host/x"):
        assert in_project(address) == address
