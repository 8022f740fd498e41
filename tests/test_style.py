"""The tools that pyproject.toml configures say nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arguments", [["ruff", "format", "--check"], ["ruff", "check"], ["mypy"]], ids=" ".join)
def test_the_code_is_as_the_tools_want_it(arguments, tmp_path):
    cache = ["--cache-dir", str(tmp_path)] if arguments[0] == "mypy" else ["--no-cache", "."]
    done = subprocess.run([sys.executable, "-m", *arguments, *cache], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
