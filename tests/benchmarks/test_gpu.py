"""The measurements for a GPU, tried on a CPU: every row is there, in the table and in the file."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def gpu(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "benchmarks.gpu", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_every_case_is_a_row_of_the_table_and_of_the_file(tmp_path):
    ran = gpu("--device", "cpu", "--quick", "--seeds", "1", "2", "--out", str(tmp_path / "results.json"))
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["torch"] == torch.__version__ and results["left_out"] == []
    measured = {(row["algorithm"], row["size"], row["seeds"], row["graphs"]): row for row in results["rows"]}
    wanted = product(("inspo", "inspo_product", "omiga", "cfcql"), ("game", "2s3z"), ((1, True), (1, False), (2, True)))
    assert measured.keys() == {(algorithm, size, *case) for algorithm, size, case in wanted}
    for (algorithm, _, seeds, graphs), row in measured.items():
        assert row["processes"] == (1 if algorithm.startswith("inspo") else seeds)
        assert 0 < row["step_ms"] < row["iteration_ms"] and row["allocated_mib"] is None
        assert row["total"] == 1 if seeds == 1 and graphs else row["total"] > 0
    _, header, *lines = ran.stdout.splitlines()
    assert header.split()[:5] == ["algorithm", "size", "seeds", "processes", "graphs"]
    printed = [line.split()[:5] for line in lines[: len(measured)]]
    assert printed == [
        [row["algorithm"], row["size"], str(row["seeds"]), str(row["processes"]), "yes" if row["graphs"] else "no"]
        for row in results["rows"]
    ]


def test_what_there_is_no_time_for_is_named(tmp_path):
    ran = gpu("--device", "cpu", "--quick", "--seeds", "1", "--seconds", "0", "--out", str(tmp_path / "results.json"))
    assert ran.returncode == 0, ran.stderr
    left_out = json.loads((tmp_path / "results.json").read_text())["left_out"]
    assert len(left_out) == 16 and left_out[1] == "inspo game 1 seed without graphs"
    assert "0 s are over; left out: " + "; ".join(left_out) in ran.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_so(tmp_path):
    ran = gpu("--out", str(tmp_path / "results.json"))
    assert ran.returncode == 1 and not list(tmp_path.iterdir())
    assert ran.stderr == "error: torch finds no usable GPU; --device cpu --quick tries the script without one\n"
