"""A training run that is stopped, however it is stopped, and run again gives the bytes of one that was never stopped."""

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from inspo_core.files import read_json, write_json
from tests.lab import Done, Lab, abandon, contents, group_members, identities, leftovers, wait_until

ONE = json.dumps({"experiment.datasets": ["xor_b"], "experiment.algorithms": ["inspo"], "experiment.seeds": [0]})
GAMES = ["bridge_optimal", pytest.param("xor_c", marks=pytest.mark.slow)]


def start_and_wait_for_checkpoints(lab: Lab, dataset: str, batched: int = 1):
    """Start the training of seeds 0 and 1, ``batched`` in a process; return when both have a checkpoint and neither is done."""
    process = lab.start("components.train", *lab.train_arguments(dataset, "inspo", "0,1"), INSPO_BATCHED_SEEDS=str(batched))
    wait_until(lambda: len(lab.checkpoints()) == 2 or process.poll() is not None)
    assert process.poll() is None and not finished(lab)
    return process


def finished(lab: Lab) -> list[Path]:
    return list(lab.place.glob("train/seed_*"))


def run_again(lab: Lab, dataset: str, expected, batched: int = 1) -> None:
    """Run the same command once more and compare."""
    lab.train(dataset, "inspo", "0,1", INSPO_BATCHED_SEEDS=str(batched)).succeeded()
    assert contents(lab.place / "train") == contents(expected(dataset))
    assert not list((lab.place / "checkpoints").iterdir())
    assert lab.statuses() == {"FINISHED"}


@pytest.mark.parametrize("batched", [1, 2])
@pytest.mark.parametrize("dataset", GAMES)
def test_killed_without_warning(lab, undisturbed, dataset, batched):
    lab.track()
    process = start_and_wait_for_checkpoints(lab, dataset, batched)
    os.killpg(process.pid, signal.SIGKILL)
    assert Done.of(process).code == -signal.SIGKILL
    wait_until(lambda: not group_members(process.pid))
    assert len(lab.checkpoints()) == 2 and not finished(lab)
    for name in ("seed_0", "seed_7"):  # as if it, and an earlier one, had been killed while they wrote a result
        abandon(lab.place / "train" / name)
    run_again(lab, dataset, undisturbed, batched)
    assert not leftovers(lab.place)


STOPS = [
    ("SIGTERM", "group", 1),
    ("SIGTERM", "process", 2),
    pytest.param("SIGTERM", "process", 1, marks=pytest.mark.slow),
    pytest.param("SIGINT", "group", 1, marks=pytest.mark.slow),
]


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal to this process waits for it to run again."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"ShdPnd:\s*(\w+)", status)[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("name, to, batched", STOPS)
def test_asked_to_stop(lab, undisturbed, name, to, batched):
    lab.track()
    process = start_and_wait_for_checkpoints(lab, "bridge_optimal", batched)
    others = [pid for pid in group_members(process.pid) if pid != process.pid]
    for pid in others:  # the seeds may not finish before the stage, busy with its records, hands the signal on
        os.kill(pid, signal.SIGSTOP)
    (os.killpg if to == "group" else os.kill)(process.pid, signal.Signals[name])
    wait_until(lambda: sum(is_pending(pid, signal.SIGTERM) for pid in others) >= 2 // batched or process.poll() is not None)
    for pid in others:
        os.kill(pid, signal.SIGCONT)
    done = Done.of(process)
    assert done.code == 128 + signal.SIGTERM
    assert "run the same command again to go on" in done.stderr and "Traceback" not in done.stderr
    wait_until(lambda: not group_members(process.pid))
    assert len(lab.checkpoints()) == 2 and not finished(lab)
    for checkpoint in lab.checkpoints():  # made at the stop, not only after so many iterations: nothing is lost
        assert torch.load(checkpoint)["metrics_bytes"] == checkpoint.with_name("metrics.jsonl").stat().st_size
    assert lab.statuses() == {"KILLED"}
    run_again(lab, "bridge_optimal", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1, 2])
def test_stopped_while_it_starts(lab, undisturbed, seconds):
    lab.track()
    process = lab.start("components.train", *lab.train_arguments("xor_c", "inspo", "0,1"))
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    done = Done.of(process)
    assert done.code in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and "Traceback" not in done.stderr
    wait_until(lambda: not group_members(process.pid))
    run_again(lab, "xor_c", undisturbed)


@pytest.mark.parametrize("file", ["policy.safetensors", "policy.json", "metrics.json", "metrics.jsonl", "run.json"])
def test_a_result_that_was_damaged_or_changed_since_is_made_anew(lab, file):
    lab.train("xor_b", "bc", "0,1").succeeded()
    whole, kept = contents(lab.place / "train"), identities(lab.place / "train/seed_1")
    path = lab.place / "train/seed_0" / file
    path.write_bytes(path.read_bytes()[:-2] + b"7\n")
    again = lab.train("xor_b", "bc", "0,1").succeeded()
    assert f"warning: train/seed_0/{file} is not what was written there, but damaged or changed; seed 0 is made anew" in again.stderr
    assert "1 of 2 seeds are done already" in again.stdout
    assert contents(lab.place / "train") == whole and identities(lab.place / "train/seed_1") == kept
    assert "warning: train" not in lab.train("xor_b", "bc", "0,1").succeeded().stderr


def test_what_a_stage_reads_is_what_was_written_or_the_command_that_mends_it_is_named(lab):
    lab.run("components.ingest", "--dataset", "xor_b", "--raw", lab.data("xor_b"), "--out", "data").succeeded()
    commands = {
        "ingest": ["--dataset", "xor_b", "--raw", lab.data("xor_b"), "--out", "data"],
        "behavior": ["--dataset", "xor_b", "--seeds", "0", "--data", "data", "--out", "behavior"],
        "train": lab.train_arguments("xor_b", "inspo", "0", data="data", behavior="behavior", out="train/xor_b/inspo"),
        "evaluate": ["--dataset", "xor_b", "--algorithm", "inspo", "--seeds", "0", "--train", "train/xor_b/inspo",
                     "--out", "evaluate/xor_b/inspo"],
    }  # fmt: skip
    report = ["--evaluations", "evaluate", "--trainings", "train", "--out", "reports", "--set", ONE]
    for stage, arguments in commands.items():
        lab.run(f"components.{stage}", *arguments).succeeded()
    lab.run("components.report", *report).succeeded()

    def outputs() -> dict[str, bytes]:
        """Without the summary, which is of the seeds that finished."""
        return {name: content for name, content in lab.outputs().items() if not name.endswith("/summary.json")}

    before = outputs()
    for writer, file, reader, arguments in (
        ("ingest", "data/rewards.npy", "behavior", [*commands["behavior"], "--set", "behavior.steps=20"]),
        ("behavior", "behavior/seed_0/behavior.safetensors", "train", [*commands["train"], "--set", "train.iterations=2"]),
        ("train", "train/xor_b/inspo/seed_0/policy.safetensors", "evaluate", [*commands["evaluate"], "--set", "evaluate.episodes=2"]),
        ("train", "train/xor_b/inspo/seed_0/metrics.jsonl", "report", report),
        ("evaluate", "evaluate/xor_b/inspo/seed_0/metrics.json", "report", report),
    ):
        path = lab.place / file
        content = bytearray(path.read_bytes())
        content[-8] ^= 1  # of the same size, and often of a form that can be read
        path.write_bytes(content)
        changed = outputs()
        refused = lab.run(f"components.{reader}", *arguments)
        last = refused.stderr.splitlines()[-1]
        assert refused.code == 2 and "Traceback" not in refused.stderr
        assert last.endswith(f"{file} is not what was written there, but damaged or changed; run the {writer} stage again"), last
        assert outputs() == changed
        mended = lab.run(f"components.{writer}", *commands[writer]).succeeded()
        assert f"warning: {file} is not what was written there" in mended.stderr and outputs() == before


def test_a_run_of_a_version_without_hashes_is_made_anew(lab):
    lab.train("xor_b", "bc", "0").succeeded()
    whole, record = contents(lab.place / "train"), lab.place / "train/seed_0/run.json"
    write_json(record, {key: value for key, value in read_json(record).items() if key != "hashes"})
    again = lab.train("xor_b", "bc", "0").succeeded()
    assert "warning: train/seed_0/run.json has not the hashes of the run's files" in again.stderr
    assert contents(lab.place / "train") == whole


def test_what_a_killed_process_has_left_is_removed_by_the_next_one_that_writes_there(lab):
    lab.train("xor_b", "bc", "0", out="train/xor_b/bc").succeeded()
    evaluate = ["--dataset", "xor_b", "--algorithm", "bc", "--seeds", "0", "--train", "train/xor_b/bc", "--out", "evaluate/xor_b/bc"]
    ingest = ["--dataset", "xor_b", "--raw", lab.data("xor_b"), "--out", "ingest/xor_b"]
    only = json.dumps({"experiment.datasets": ["xor_b"], "experiment.algorithms": ["bc"], "experiment.seeds": [0]})
    report = ["--evaluations", "evaluate", "--trainings", "train", "--out", "reports", "--set", only]
    for place in ("evaluate/xor_b/bc/summary.json", "evaluate/xor_b/bc/seed_3", "ingest/xor_b", "reports"):
        abandon(lab.place / place)
    assert len(leftovers(lab.place)) == 4
    for stage, arguments in (("evaluate", evaluate), ("ingest", ingest), ("report", report)):
        lab.run(f"components.{stage}", *arguments).succeeded()
    assert not leftovers(lab.place)


def test_seeds_whose_parent_is_killed_stop_by_themselves(lab):
    process = start_and_wait_for_checkpoints(lab, "bridge_optimal")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not group_members(process.pid))
    Done.of(process)
    assert len(lab.checkpoints()) == 2 and not finished(lab)
