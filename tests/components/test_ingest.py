"""The command ``python -m components.ingest``, run as users run it."""

import subprocess
import sys
from pathlib import Path

import pytest

from inspo_core.datasets import read_dataset, write_dataset
from inspo_core.datasets.build import SETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("raw") / "xor_b"
    write_dataset(SETS["xor_b"](), directory)
    return directory


def command(*arguments: object) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "components.ingest", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_it_writes_dataset_card_and_run(raw, tmp_path):
    done = command("--dataset", "xor_b", "--raw", raw, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "xor_b: 480 episodes, 480 transitions" in done.stdout
    assert read_dataset(tmp_path / "out").n_transitions == 480
    assert {path.name for path in (tmp_path / "out/card").iterdir()} == {"card.json", "card.md", "returns.png"}


def test_bad_input_is_one_sentence_and_status_2(raw, tmp_path):
    for dataset, override, words in [
        ("xor_x", "ingest.sources.xor_b.env=xor", "ingest.sources has no dataset 'xor_x'"),
        ("xor_b", "ingest.sources.xor_b.env=mne", "params.yaml says 'mne'"),
    ]:
        done = command("--dataset", dataset, "--raw", raw, "--out", tmp_path / "out", "--set", override)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and words in done.stderr
        assert not (tmp_path / "out").exists()
