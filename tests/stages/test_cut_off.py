"""What a process that is stopped, or killed, had done is in MLflow and in the store once the command has run again, or already."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.lab import Done, Lab, group_members, wait_until
from tests.tracking.helpers import Store


@pytest.fixture
def tracked(lab) -> Lab:
    lab.track()
    return lab


def arguments(lab: Lab, stage: str) -> list:
    raw = ["--dataset", "xor_c", "--raw", lab.data("xor_c"), "--out", "ingest"]
    behavior = ["--dataset", "xor_c", "--data", lab.data("xor_c"), "--seeds", "0,1", "--out", "behavior"]
    evaluate = ["--dataset", "xor_c", "--algorithm", "bc", "--seeds", "0,1", "--train", "train", "--out", "evaluate"]
    stages = {"ingest": raw, "behavior": behavior, "evaluate": evaluate, "train": lab.train_arguments("xor_c", "bc", "0,1")}
    return stages[stage]


def told(lab: Lab) -> dict[str, tuple]:
    """What MLflow holds, by run: status, parameters, points, artifacts and the policies that it made or used."""
    store = Store(f"sqlite:///{lab.place}/mlflow.db")
    runs = store.runs()
    return {
        name.partition(" ")[0] if name.startswith("pipeline") else name: (
            run.info.status,
            run.data.params,
            {metric: store.points(name, metric) for metric in run.data.metrics},
            store.artifacts(name),
            len((run.inputs and run.inputs.model_inputs) or []) + len((run.outputs and run.outputs.model_outputs) or []),
        )
        for name, run in runs.items()
    }


@pytest.mark.parametrize("stage", ["ingest", "train", "evaluate"])
def test_what_was_killed_between_a_result_and_its_record_is_recorded(tracked, stage):
    if stage == "evaluate":
        tracked.run("components.train", *arguments(tracked, "train")).succeeded()
    before = tracked.place / "before.db"
    shutil.copyfile(tracked.place / "mlflow.db", before)
    tracked.run(f"components.{stage}", *arguments(tracked, stage)).succeeded()
    expected = told(tracked)

    shutil.rmtree(tracked.place / stage)
    shutil.copyfile(before, tracked.place / "mlflow.db")
    results = [Path("run.json")] if stage == "ingest" else [Path(f"seed_{seed}/run.json") for seed in (0, 1)]
    process = tracked.start(f"components.{stage}", *arguments(tracked, stage))
    wait_until(lambda: process.poll() is not None or all((tracked.place / stage / result).exists() for result in results))
    os.killpg(process.pid, signal.SIGKILL)
    assert Done.of(process).code == -signal.SIGKILL
    wait_until(lambda: not group_members(process.pid))
    assert told(tracked) != expected

    tracked.run(f"components.{stage}", *arguments(tracked, stage)).succeeded()
    assert told(tracked) == expected
    assert not list((tracked.place / "outbox").iterdir())


def test_what_another_machine_has_left_in_the_store_is_recorded_here(tracked, shared, tmp_path):
    (tmp_path / "there").mkdir()
    there = Lab(tmp_path / "there", shared)
    there.track()
    told_of = {}
    for machine in (tracked, there):
        done = machine.run("components.train", *arguments(machine, "train"), INSPO_STORE=str(tmp_path / "store")).succeeded()
        told_of[machine] = told(machine)
    assert "2 of 2 seeds are done already" in done.stdout
    assert told_of[there] == told_of[tracked]


def test_the_stage_s_run_does_not_depend_on_which_seeds_were_left_to_do(tracked):
    tracked.run("components.train", *arguments(tracked, "train")).succeeded()
    expected = told(tracked)
    shutil.rmtree(tracked.place / "train/seed_1")
    tracked.run("components.train", *arguments(tracked, "train")).succeeded()
    assert told(tracked) == expected


def test_a_stop_that_comes_after_all_is_done_stops_nothing(tracked):
    """The seeds are finished and the stage waits for MLflow's database: then the signal comes."""
    with open(tracked.place / "mlflow.db.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = tracked.start("components.train", *arguments(tracked, "train"))
        results = [tracked.place / f"train/seed_{seed}/run.json" for seed in (0, 1)]
        wait_until(lambda: process.poll() is not None or all(result.exists() for result in results))
        wait_until(lambda: process.poll() is not None or not list((tracked.place / "checkpoints").iterdir()))  # they are told of
        os.kill(process.pid, signal.SIGTERM)
    done = Done.of(process)
    assert done.code == 0 and "stopped" not in done.stderr
    tracked.run("inspo_core.tracking", "deliver").succeeded()  # a stage that was asked to stop does not wait long for that
    assert {status for status, *_ in told(tracked).values()} == {"FINISHED"}


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
            except OSError:  # closed
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


def test_a_server_that_never_answers_delays_neither_checkpoints_nor_the_end(lab, tmp_path):
    with silent_server() as address:
        environment = {"MLFLOW_TRACKING_URI": address, "INSPO_STORE": str(tmp_path / "store")}
        process = lab.start("components.train", *lab.train_arguments("bridge_optimal", "inspo", "0,1"), **environment)
        shared = lambda: list((tmp_path / "store").glob("checkpoints/*/checkpoint.pt"))  # noqa: E731
        wait_until(lambda: len(shared()) == 2 or process.poll() is not None)
        assert process.poll() is None
        asked = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        done = Done.of(process)
        assert done.code == 128 + signal.SIGTERM and time.monotonic() - asked < 15
    assert {path.read_bytes() for path in shared()} == {path.read_bytes() for path in lab.checkpoints()}


@pytest.mark.parametrize("megabytes", [0.1, 10])
def test_a_checkpoint_is_in_the_store_when_the_machine_is_taken_away(lab, tmp_path, megabytes):
    """As Kubernetes does it where whoever reads our output dies of the signal: nobody reads, and little time is left."""
    hidden = [16] if megabytes < 1 else [1024, 512]
    settings = ["--set", f"train.hidden={hidden}", "--set", "train.iterations=5000", "--set", "train.evaluate_every=0"]
    environment = {"INSPO_STORE": str(tmp_path / "store"), "INSPO_CHECKPOINT_EVERY": "1"}
    process = lab.start("components.train", *lab.train_arguments("xor_c", "bc", "0"), *settings, **environment)
    wait_until(lambda: bool(lab.checkpoints()) or process.poll() is not None)
    process.stdout.close()
    process.stderr.close()
    time.sleep(0.5)
    (local,) = lab.checkpoints()
    at_the_signal = torch.load(local)["iteration"]
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=0.3)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (shared,) = (tmp_path / "store").glob("checkpoints/*/checkpoint.pt")
    assert megabytes < 1 or shared.stat().st_size > 5e6
    assert torch.load(shared)["iteration"] >= at_the_signal
