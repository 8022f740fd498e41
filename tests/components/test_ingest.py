"""The command ``python -m components.ingest``, run as users run it."""

import json
import os
import sqlite3
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


def command(place: Path, *arguments: object) -> subprocess.CompletedProcess:
    """Run in the folder ``place``, where mlflow.db and the outbox go."""
    line = [sys.executable, "-m", "components.ingest", "--params", ROOT / "params.yaml", "--out", place / "out", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([str(part) for part in line], cwd=place, env=environment, capture_output=True, text=True, timeout=120)


def test_it_writes_dataset_card_and_run_and_is_seen_in_mlflow(raw, tmp_path):
    done = command(tmp_path, "--dataset", "xor_b", "--raw", raw)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "xor_b: 480 episodes, 480 transitions" in done.stdout
    assert read_dataset(tmp_path / "out").n_transitions == 480
    assert {path.name for path in (tmp_path / "out/card").iterdir()} == {"card.json", "card.md", "returns.png"}
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        [(run, status)] = database.execute("select run_uuid, status from runs where name = 'ingest xor_b'").fetchall()
        metrics = dict(database.execute("select key, value from latest_metrics where run_uuid = ?", [run]).fetchall())
        tags = dict(database.execute("select key, value from tags where run_uuid = ?", [run]).fetchall())
    assert status == "FINISHED"
    assert metrics["final/n_transitions"] == 480 and metrics["final/return_mean"] == 1 and metrics["final/distinct_episodes"] == 2
    assert tags["fingerprint"] == json.loads((tmp_path / "out/run.json").read_text())["fingerprint"]
    assert list((tmp_path / "mlartifacts").rglob("card/returns.png"))


def test_bad_input_is_one_sentence_and_status_2(raw, tmp_path):
    for dataset, override, words in [
        ("xor_x", "ingest.sources.xor_b.env=xor", "ingest.sources has no dataset 'xor_x'"),
        ("xor_b", "ingest.sources.xor_b.env=mne", "the parameters say 'mne'"),
    ]:
        done = command(tmp_path, "--dataset", dataset, "--raw", raw, "--set", override)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and words in done.stderr
        assert not (tmp_path / "out").exists()
