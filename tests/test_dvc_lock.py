"""What a DVC that was killed leaves does not stop the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inspo_core.dvc_lock import mend
from inspo_core.errors import InspoError
from tests.lab import ROOT, wait_until

WHOLE = b'{"write": {"runs/a": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}'


@pytest.fixture
def project(tmp_path) -> Path:
    """A DVC repository with one stage, which waits until it is told to go on."""
    dvc("init", "--no-scm", project=tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {wait: {cmd: 'while [ ! -e go ]; do sleep 0.05; done; echo > out', outs: [out]}}\n")
    return tmp_path


def dvc(*arguments: str, project: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=project, env=environment(project), capture_output=True, text=True)


def environment(project: Path) -> dict[str, str]:
    return os.environ | {"DVC_SITE_CACHE_DIR": str(project.parent / f"{project.name}-cache"), "DVC_NO_ANALYTICS": "1"}


@pytest.mark.parametrize("left", [b"", WHOLE[:30], b"[]", b"\xff\xfe", b"[" * 100_000], ids=["empty", "half", "list", "no text", "deep"])
def test_a_damaged_list_is_removed_and_dvc_works_again(project, capsys, left):
    (project / "go").touch()
    lock = project / ".dvc/tmp/rwlock"
    lock.write_bytes(left)
    assert dvc("repro", project=project).returncode != 0
    command = [sys.executable, "-m", "inspo_core.dvc_lock"]
    mended = subprocess.run(command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert mended.returncode == 0 and mended.stderr.startswith(f"warning: {lock}, DVC's list of what is being read and written")
    assert dvc("repro", project=project).returncode == 0 and (project / "out").exists()


def test_a_whole_list_stays_and_none_is_needed(tmp_path, capsys):
    mend(tmp_path)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    mend(tmp_path)
    lock = tmp_path / ".dvc/tmp/rwlock"
    lock.write_bytes(WHOLE)
    mend(tmp_path)
    assert lock.read_bytes() == WHOLE and capsys.readouterr().err == ""


def test_nothing_is_removed_while_a_dvc_works(project):
    lock = project / ".dvc/tmp/rwlock"
    working = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=project, env=environment(project), start_new_session=True)
    try:
        wait_until(lambda: lock.exists() and b"out" in lock.read_bytes())
        lock.write_bytes(b"")
        with pytest.raises(InspoError, match=rf"rwlock, .* is damaged, and process {working.pid} is a DVC that works here; wait until"):
            mend(project)
        assert lock.read_bytes() == b""
    finally:
        os.killpg(working.pid, signal.SIGKILL)
        working.wait()
    mend(project)
    assert not lock.exists()


def test_every_script_that_runs_dvc_mends_first():
    for script in (ROOT / "scripts").glob("*.sh"):
        lines = [line.strip() for line in script.read_text().splitlines()]
        if used := [number for number, line in enumerate(lines) if line.startswith("dvc ")]:
            assert "python -m inspo_core.dvc_lock" in lines[: used[0]], script
