"""``python -m inspo_core.exact``."""

import subprocess
import sys

import pytest

from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "inspo_core.exact", *arguments], capture_output=True, text=True, timeout=60)


def test_a_line_a_sweep_and_the_result(tmp_path):
    write_dataset(SETS["xor_b"](), tmp_path / "coordination")
    done = call("--dataset", str(tmp_path / "coordination"), "--start", "random", "--sweeps", "3", "--order", "fixed")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["sweep", "1", "2", "3"]
    assert "return within 1 steps: sampled 1.0000, greedy 1.0000; QRE residual 0.0e+00" in lines[4]
    assert len(lines) == 7
    assert call("--dataset", "xor_b", "--start", "random", "--sweeps", "3", "--order", "fixed").stdout == done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--dataset", "nowhere"], "nowhere is missing"), (["--dataset", "xor_b", "--alpha", "0"], "alpha is 0.0, expected more than 0")],
)
def test_bad_input_ends_in_one_sentence(arguments, words):
    done = call(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_numpy_is_all_it_needs():
    code = "import sys, inspo_core.exact.__main__; print([name for name in ('torch', 'mlflow', 'scipy', 'dvc') if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
