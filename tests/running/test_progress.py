"""What is shown while seeds are training."""

import json
import os
import pty
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from inspo_core.running import progress
from inspo_core.running.progress import Progress


def write(path: Path, *lines: dict, torn: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)
    return path


@pytest.fixture
def at_once(monkeypatch):
    """Plain lines without waiting."""
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)


def test_plain_lines_say_how_far_each_seed_is(tmp_path, capsys, at_once):
    curve = [{"step": 1, "policy_loss": 2.0, "evaluation/return_sampled": -3.5}, {"step": 5, "policy_loss": 1.25, "other": 9.0}]
    with Progress("train xor inspo", [0, 7], total=10) as shown:
        shown.update(0, write(tmp_path / "0", *curve))
        shown.update(7, write(tmp_path / "7", {"step": 10, "policy_loss": 0.5}))
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"train xor inspo: 25%, about \d+ s left; seed 0 5/10 loss 1.250 return -3.500", first)
    assert re.fullmatch(r"train xor inspo: 75%, about \d+ s left; seed 0 5/10 loss 1.250 return -3.500; seed 7 10/10 loss 0.500", second)


def test_nothing_is_said_too_often(tmp_path, capsys):
    with Progress("train", [0], total=10) as shown:
        for step in range(1, 11):
            shown.update(0, write(tmp_path / "0", {"step": step}))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("begin", ["missing", "empty", "torn"])
def test_a_run_that_has_hardly_begun(tmp_path, capsys, at_once, begin):
    path = tmp_path / "metrics.jsonl"
    if begin != "missing":
        write(path, torn='{"step": 1, "lo' if begin == "torn" else "")
    with Progress("train", [0], total=10) as shown:
        shown.update(0, path)
    assert capsys.readouterr().err.startswith("train: 0%")


def test_long_curves_are_read_from_their_end(tmp_path, capsys, at_once):
    path = write(tmp_path / "metrics.jsonl", *({"step": step, "policy_loss": float(step), "padding": "x" * 90} for step in range(1, 1001)))
    assert path.stat().st_size > 3 * progress.TAIL_BYTES
    with Progress("train", [0], total=1000) as shown:
        shown.update(0, path)
    assert "seed 0 1000/1000 loss 1000.000" in capsys.readouterr().err


def test_a_seed_that_goes_on_from_its_checkpoint(tmp_path, capsys, at_once):
    path = tmp_path / "metrics.jsonl"
    with Progress("train", [0], total=10) as shown:
        for steps in (6, 4, 8):  # the lines after the checkpoint are cut off and come again
            shown.update(0, write(path, *({"step": step} for step in range(1, steps + 1))))
    assert [line.split(":")[1][:4].strip() for line in capsys.readouterr().err.splitlines()] == ["60%", "40%", "80%"]


def test_zeros_that_a_power_cut_left(tmp_path, capsys, at_once):
    path = write(tmp_path / "metrics.jsonl", {"step": 4, "policy_loss": 1.0})
    path.write_bytes(path.read_bytes() + bytes(50) + b"\n")
    with Progress("train", [0], total=10) as shown:
        shown.update(0, path)
    assert "seed 0 4/10 loss 1.000" in capsys.readouterr().err


def test_bars_on_a_terminal(tmp_path, monkeypatch):
    outside, inside = pty.openpty()
    chunks = []

    def read_all():
        with suppress(OSError):  # how a terminal that is closed ends
            while chunk := os.read(outside, 4096):
                chunks.append(chunk)

    reader = threading.Thread(target=read_all)
    reader.start()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with os.fdopen(inside, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress("train xor", [0, 1], total=4) as shown:
            shown.update(0, write(tmp_path / "0", {"step": 3, "policy_loss": 0.5}))
            shown.update(1, write(tmp_path / "1", {"step": 4, "policy_loss": 0.25}))
    reader.join()
    os.close(outside)
    said = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", b"".join(chunks).decode())
    assert re.search(r"train xor seed 0 .*3/4 loss 0.500", said) and re.search(r"train xor seed 1 .*4/4 loss 0.250", said)
