"""A run's folder is what its record says, or does not count."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inspo_core.errors import InspoError
from inspo_core.files import write_json
from inspo_core.records import check_run, content_of, damage, holds_run, read_record, relabel, write_record
from tests.lab import contents

SAID = {"stage": "train", "seed": 0, "config": {"sizes": (1, 2), "alpha": 0.1}, "variant": None}


@pytest.fixture
def run(tmp_path) -> Path:
    write_json(tmp_path / "run/metrics.json", {"return": 1.0})
    write_json(tmp_path / "run/inner/policy", [0.5])
    write_record(tmp_path / "run", SAID)
    return tmp_path / "run"


def test_a_record_says_what_the_run_is_and_what_its_files_are(run):
    assert holds_run(run, SAID) and damage(run) is None
    record = check_run(run, "train")
    assert record == read_record(run, "train") == {**json.loads(json.dumps(SAID)), "hashes": record["hashes"]}
    assert set(record["hashes"]) == {"metrics.json", "inner/policy", "run.json"}
    assert not holds_run(run, SAID | {"seed": 1})
    before = contents(run)
    write_record(run, SAID)
    assert contents(run) == before
    (run / "notes.txt").write_text("a user's own")
    assert holds_run(run, SAID)


def flip(name: str, bit: int = 0) -> Callable[[Path], object]:
    def change(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[len(content) // 2] ^= 1 << bit
        (run / name).write_bytes(content)

    return change


@pytest.mark.parametrize(
    "change, words",
    [
        (flip("metrics.json"), "metrics.json is not what was written there, but damaged or changed"),
        (lambda run: (run / "metrics.json").write_text('{"return": 7.5}'), "metrics.json is not what was written there"),
        (lambda run: (run / "inner/policy").unlink(), "inner/policy is missing"),
        (lambda run: (run / "inner/policy").write_bytes(b""), "inner/policy is not what was written there"),
        (lambda run: (run / "run.json").unlink(), "run.json is missing"),
        (lambda run: write_json(run / "run.json", SAID), "run.json has not the hashes of the run's files"),
        *[(flip("run.json", bit), "run.json ") for bit in range(8)],
        *[
            (lambda run, text=text: (run / "run.json").write_bytes(text), "run.json is not what was written there")
            for text in (b"", b"[]", b"5", b"{", b"\xff", b"[" * 100_000, b'{"hashes": []}', b'{"hashes": {"run.json": NaN}, "a": NaN}')
        ],
        (
            lambda run: (run / "run.json").write_text((run / "run.json").read_text().replace('"seed": 0', '"seed": 1')),
            "run.json is not what was written there",
        ),
    ],
)
def test_whatever_is_changed_is_told_with_the_stage_that_mends_it(run, change, words):
    change(run)
    assert not holds_run(run, SAID)
    with pytest.raises(InspoError, match=rf"^{run}/.*{words}.*; run the train stage again$"):
        check_run(run, "train")
    if "run.json" in words:
        with pytest.raises(InspoError, match=rf"{words}.*; run the train stage again$"):
            read_record(run, "train")
    else:
        assert read_record(run, "train")["seed"] == 0


def test_another_name_changes_no_content(run, tmp_path):
    content = content_of(read_record(run, "train"))
    relabel(run, {"variant": "mine"})
    assert holds_run(run, SAID | {"variant": "mine"}) and content_of(read_record(run, "train")) == content
    write_json(run / "metrics.json", {"return": 2.0})
    write_record(run, SAID)
    assert content_of(read_record(run, "train")) != content
