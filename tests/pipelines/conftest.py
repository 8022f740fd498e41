"""The submit command, run as a user would who has nothing set."""

import os
import sys

import pytest

import pipelines.client
from inspo_core.command import run
from pipelines.submit import main
from tests.pipelines.submitting import IMAGE, ROOT


@pytest.fixture
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
def submit(alone, monkeypatch, capsys):
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
