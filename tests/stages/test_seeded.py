"""A training run that is stopped, however it is stopped, and run again gives the bytes of one that was never stopped."""

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import torch

from tests.lab import Done, Lab, contents, group_members, leftovers, wait_until

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
    (lab.place / "train" / ".seed_0.new-1").mkdir()  # as if it had been killed while it wrote its result
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


def test_seeds_whose_parent_is_killed_stop_by_themselves(lab):
    process = start_and_wait_for_checkpoints(lab, "bridge_optimal")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not group_members(process.pid))
    Done.of(process)
    assert len(lab.checkpoints()) == 2 and not finished(lab)
