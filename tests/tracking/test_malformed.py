"""Journals that are not as expected, here and in the shared store: one warning each, left as they are, and others are delivered."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inspo_core.tracking.__main__ import main as deliver
from inspo_core.tracking.journal import Journal
from tests.lab import contents
from tests.tracking.helpers import away, expected_loss, random_policy, tracker, write_metrics

NAME = "seed-0-inspo-xor_b"


def change(operation: str, **changes) -> Callable[[Path, Path], None]:
    """Change fields of a kind of operation."""

    def act(journal: Path, project: Path) -> None:
        path = journal / "journal.jsonl"
        operations = [json.loads(line) for line in path.read_text().splitlines()]
        assert operation in [known["op"] for known in operations]
        given = {name: value.format(project=project) if isinstance(value, str) else value for name, value in changes.items()}
        lines = [json.dumps(known | given if known["op"] == operation else known) for known in operations]
        path.write_text("".join(f"{line}\n" for line in lines))

    return act


def lose(operation: str, name: str) -> Callable[[Path, Path], None]:
    def act(journal: Path, project: Path) -> None:
        path = journal / "journal.jsonl"
        operations = [json.loads(line) for line in path.read_text().splitlines()]
        for known in operations:
            if known["op"] == operation:
                del known[name]
        path.write_text("".join(f"{json.dumps(known)}\n" for known in operations))

    return act


def write(name: str, content: bytes) -> Callable[[Path, Path], None]:
    return lambda journal, project: (journal / name).write_bytes(content) and None


def without_beginning(journal: Path, project: Path) -> None:
    path = journal / "journal.jsonl"
    path.write_bytes(path.read_bytes().partition(b"\n")[2])


def link_out(journal: Path, project: Path) -> None:
    (journal / "files/metrics.jsonl").unlink()
    (journal / "files/metrics.jsonl").symlink_to(project / "secret")


def state_is_a_folder(journal: Path, project: Path) -> None:
    (journal / "state.json").unlink(missing_ok=True)
    (journal / "state.json").mkdir()


MALFORMED = {
    "number": write("journal.jsonl", b"5\n"),
    "null": write("journal.jsonl", b"null\n"),
    "object": write("journal.jsonl", b"{}\n"),
    "list": write("journal.jsonl", b"[]\n"),
    "begin-only": write("journal.jsonl", b'{"op":"begin"}\n'),
    "deep": write("journal.jsonl", b"[" * 100_000 + b"\n"),
    "bytes": write("journal.jsonl", b"\xff\xfe\x00\n"),
    "digits": write("journal.jsonl", b'{"op":"begin","time":' + b"9" * 5000 + b"}\n"),
    "no-beginning": without_beginning,
    "no-key": lose("begin", "key"),
    "no-status": lose("end", "status"),
    "unknown": change("final", op="shell"),
    "key": change("begin", key=5),
    "tags": change("begin", tags=["stage"]),
    "no-stage": change("begin", tags={"level": "seed"}),
    "pipeline": change("begin", pipeline={"run_id": 3}),
    "time": change("begin", time="now"),
    "nul": change("begin", name="a\0b"),
    "surrogate": change("begin", name="\ud800"),
    "step": change("points", step=2**70),
    "values": change("points", values={"loss": "low"}),
    "huge": change("final", values={"final/return": 10**400}),
    "status": change("end", status="DONE"),
    "above": change("artifact", name="../../../secret"),
    "absolute": change("artifact", name="{project}/secret"),
    "itself": change("artifact", name="."),
    "model-above": change("model", folder="../../../policy"),
    "model-absolute": change("model", folder="{project}/policy"),
    "link": link_out,
    "no-file": lambda journal, project: (journal / "files/metrics.jsonl").unlink(),
    "no-files": lambda journal, project: shutil.rmtree(journal / "files"),
    "no-policy": lambda journal, project: (journal / "files/.policy/policy.safetensors").unlink(),
    "no-architecture": lambda journal, project: (journal / "files/.policy/policy.json").unlink(),
    "policy-list": write("files/.policy/policy.json", b"[]"),
    "policy-sizes": write("files/.policy/policy.json", b'{"n_agents": 2, "sizes": [], "memory": 0}'),
    "state-folder": state_is_a_folder,
}
STATES = (
    b"3",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b'{"store": "{place}", "position": 7}',
    b'{"store": "{place}", "position": 1e9, "run_id": 3}',
)


@pytest.fixture
def good(project, store) -> Path:
    """The outbox with the journals of a stage and its seed, which MLflow has not got."""
    (project / "secret").write_text("s3cret")
    random_policy(project / "policy")
    write_metrics(project / "metrics.jsonl", range(1, 6))
    with away(), tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "metrics.jsonl")
        stage.seed_finished(0, "FINISHED", {"return": 1.0}, [project / "metrics.jsonl"], project / "policy")
    return project / "outbox"


def spoil(outbox: Path, project: Path) -> None:
    """Put every malformed journal beside the good ones; their runs would be called as their folders."""
    (seed,) = outbox.glob(f"{NAME}-*")
    for name, act in MALFORMED.items():
        journal = outbox / f"bad-{name}"
        shutil.copytree(seed, journal)
        change("begin", key=name, name=f"bad {name}")(journal, project)
        act(journal, project)


def test_malformed_journals_are_warned_of_and_left_and_stop_no_others(good, project, store, capsys):
    spoil(good, project)
    before = {name: content for name, content in contents(good).items() if name.startswith("bad-")}
    capsys.readouterr()
    with tracker("evaluate"):
        pass
    said = capsys.readouterr().err
    assert said.count("warning:") == said.count("its journal is malformed") == len(MALFORMED), said
    assert "s3cret" not in said and max(map(len, said.splitlines())) < 500
    assert not [name for name in MALFORMED if f"bad-{name} is not delivered (" not in said]
    assert store.statuses()["evaluate inspo xor_b"] == store.statuses()["seed 0 inspo xor_b"] == "FINISHED"
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 6))
    assert deliver(["deliver"]) == 1
    assert set(capsys.readouterr().err.splitlines()[-1].removeprefix("error: not delivered: ").split(", ")) == {
        path.name for path in good.iterdir()
    }
    after = {name: content for name, content in contents(good).items() if "state.json" not in name}
    assert after == {name: content for name, content in before.items() if "state.json" not in name}
    assert not [path for path in (project / "mlartifacts").rglob("*") if path.name == "secret"]


@pytest.mark.parametrize("state", STATES)
def test_a_damaged_note_of_what_was_delivered_delivers_everything_again_and_doubles_nothing(good, project, store, capsys, state):
    for journal in good.iterdir():
        (journal / "state.json").write_bytes(state.replace(b"{place}", str(project / "mlflow.db").encode()))
    capsys.readouterr()
    assert deliver(["deliver"]) == 0 and "warning" not in capsys.readouterr().err and list(good.iterdir()) == []
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 6))


def test_a_stage_whose_own_journal_is_malformed_writes_another(good, project, store, capsys):
    for journal in good.iterdir():
        (journal / "journal.jsonl").write_bytes(b"5\n")
    capsys.readouterr()
    with tracker() as stage:
        stage.seed_started(0, "print-0", {}, project / "metrics.jsonl")
        stage.seed_finished(0, "FINISHED", {}, [], None)
    assert capsys.readouterr().err.count("warning:") == 2 and len(list(good.iterdir())) == 2
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 6))
    assert set(store.statuses().values()) == {"FINISHED"}


def test_damaged_archives_in_the_store_are_warned_of_and_left_and_stop_no_others(good, project, store, monkeypatch, capsys):
    monkeypatch.setenv("INSPO_STORE", "shared")
    spoil(good, project)
    left = project / "shared/outbox"
    left.mkdir(parents=True)
    for journal in good.iterdir():
        with tarfile.open(left / f"{journal.name}.0.tar.gz", "w:gz") as archive:
            archive.add(journal, ".", filter=lambda member: None if member.issym() else member)
    shutil.rmtree(good)
    whole = next(left.glob(f"{NAME}-*")).read_bytes()
    damaged = {"text": b"no archive", "empty": b"", "half": whole[: len(whole) // 2], "turned": whole[:200] + bytes(100) + whole[300:]}
    with io.BytesIO() as packed:
        tarfile.open(fileobj=packed, mode="w:gz").close()
        damaged["nothing"] = packed.getvalue()
    for name, content in damaged.items():
        (left / f"archive-{name}.tar.gz").write_bytes(content)
    before = {name: content for name, content in contents(left).items() if name.startswith(("bad-", "archive-"))}
    capsys.readouterr()
    assert deliver(["deliver"]) == 1
    said = capsys.readouterr().err
    assert said.count("cannot be unpacked") == len(damaged) and said.count("is malformed") == len(MALFORMED)
    assert contents(left) == before
    assert store.points("seed 0 inspo xor_b", "loss") == expected_loss(range(1, 6))


@pytest.mark.parametrize("name", ["metrics.jsonl", ".policy"])
def test_what_is_kept_is_found_inside(good, name):
    (folder,) = good.glob(f"{NAME}-*")
    journal = Journal.open(folder, create=False)
    assert journal.kept(name) == folder / "files" / name
    journal.close()
