"""Seeds side by side: each is what it is alone, finished ones are kept, a failed one stops no other."""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inspo_core.errors import InspoError
from inspo_core.identity import Code, Identity
from inspo_core.running.loop import Stopped
from inspo_core.running.processes import SeedJob, SeedsFailed, prune, run_seeds, seeds_a_process, soft_stop
from inspo_core.stopping import stop_on, stop_requested
from inspo_core.tracking.description import StageRun
from inspo_core.tracking.tracker import StageTracker
from tests.lab import contents, identities, leftovers, seal


def test_two_seeds_differ(undisturbed):
    one, two = (contents(undisturbed("bridge_optimal") / f"seed_{seed}") for seed in (0, 1))
    assert one.keys() == two.keys() == {"metrics.json", "metrics.jsonl", "policy.json", "policy.safetensors", "run.json"}
    assert [name for name in one if one[name] == two[name]] == ["policy.json"]


def test_only_new_seeds_run_and_others_stay_unless_they_are_to_go(lab):
    out = lab.place / "train"
    lab.train("bridge_optimal", "bc", "0").succeeded()
    before = identities(out)
    again = lab.train("bridge_optimal", "bc", "0", "--set", "report.bootstrap=7", "--set", "train.inspo.alpha=7").succeeded()
    assert "1 of 1 seeds are done already" in again.stdout and identities(out) == before
    more = lab.train("bridge_optimal", "bc", "0,2").succeeded()
    assert "1 of 2 seeds are done already" in more.stdout
    after = identities(out)
    assert {name: after[name] for name in before} == before
    assert {path.name for path in out.iterdir()} == {"seed_0", "seed_2"}
    named = lab.train_arguments("bridge_optimal", "bc", "2")
    for narrowed in (named, [*named[:4], *named[6:], "--set", "experiment.seeds=[2]"]):
        assert "1 of 1 seeds are done already" in lab.run("components.train", *narrowed).succeeded().stdout
        assert identities(out) == after
    pruned = lab.train("bridge_optimal", "bc", "2", "--prune").succeeded()
    assert "removing train/seed_0: seed 0 is none of those asked for" in pruned.stdout
    assert {path.name for path in out.iterdir()} == {"seed_2"}
    assert {f"seed_2/{name}": identity for name, identity in identities(out / "seed_2").items()}.items() <= after.items()


def test_a_failed_seed_is_named_and_runs_again_alone_as_beside_another(lab, undisturbed):
    lab.track()
    models, out = lab.place / "behavior", lab.place / "train"
    shutil.copytree(lab.behavior("bridge_optimal"), models)
    damaged = models / "seed_1/behavior.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-100])
    lab.train("bridge_optimal", "inspo", "0,1", behavior=models).refused(
        "1 of 2 seeds failed; seed 1: ", str(models / "seed_1"), "run the behavior stage again"
    )
    assert {path.name for path in out.iterdir()} == {"seed_0"} and not leftovers(lab.place)
    assert lab.statuses() == {"FINISHED", "FAILED"}
    before = identities(out)
    damaged.write_bytes(whole)
    lab.train("bridge_optimal", "inspo", "0,1", behavior=models, INSPO_WORKERS="1").succeeded()
    assert before.items() <= identities(out).items()
    assert contents(out) == contents(undisturbed("bridge_optimal"))
    assert not list((lab.place / "checkpoints").iterdir())


def test_seeds_of_one_batched_model_are_those_of_processes_side_by_side(lab, undisturbed):
    lab.track()
    models, out = lab.place / "behavior", lab.place / "train"
    shutil.copytree(lab.behavior("bridge_optimal"), models)
    (models / "seed_2/behavior.safetensors").write_bytes(b"")
    lab.train("bridge_optimal", "inspo", "0,2,1", behavior=models, INSPO_BATCHED_SEEDS="3", INSPO_WORKERS="1").refused(
        "1 of 3 seeds failed; seed 2: ", "run the behavior stage again"
    )
    assert contents(out) == contents(undisturbed("bridge_optimal"))
    assert lab.statuses() == {"FINISHED", "FAILED"}


def fields(seed: int, out: Path, device: str = "cpu", hidden: Sequence[int] = (64,), batch: int = 32, **labels: str) -> dict[str, Any]:
    """Those that every job has."""
    identity = Identity(
        "train", {"seed": seed, "device": device, "hidden": list(hidden), "batch_size": batch}, {}, Code("of the tests", {})
    )
    return {"seed": seed, "identity": identity, "labels": labels, "out": out}


@dataclass(frozen=True, kw_only=True)
class Behaving(SeedJob):
    """A seed that comes to its end in some ``manner``."""

    manner: str = "well"

    def run(self) -> None:
        if self.manner == "well":
            with self.result():
                pass
        elif self.manner == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.manner == "stopped":
            raise Stopped
        elif self.manner == "full":
            Path("/dev/full").write_text("x")
        else:
            raise InspoError("bad.file: is bad, make it good") if self.manner == "bad" else ZeroDivisionError("a bug")


@dataclass(frozen=True, kw_only=True)
class Waiting(SeedJob):
    """A seed that goes on until it is asked to stop."""

    def run(self) -> None:
        self.out.mkdir()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if stop_requested():
                (self.out / "stopped").touch()
                raise Stopped
            time.sleep(0.01)


STAGE = StageRun(
    stage="train", experiment="games", dataset="xor", algorithm="inspo", variant="default", params={}, inputs={}, fingerprint="x"
)


@pytest.fixture
def project(lab, monkeypatch) -> Path:
    """The lab's folder as the current one."""
    lab.track()
    monkeypatch.chdir(lab.place)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "INSPO_"))]:
        monkeypatch.delenv(name)
    return lab.place


def test_every_end_that_a_seed_can_come_to(project, lab, capfd):
    manners = {0: "well", 1: "killed", 2: "stopped", 3: "full", 4: "bad", 5: "bad", 6: "bug"}
    jobs = [Behaving(manner=manner, **fields(seed, Path(f"out/seed_{seed}"))) for seed, manner in manners.items()]
    with pytest.raises(SeedsFailed) as raised, StageTracker(STAGE) as tracker:
        run_seeds(jobs, tracker, "a stage", 1, None, batches_seeds=False)
    sentence = str(raised.value)
    assert sorted(raised.value.reasons) == [1, 2, 3, 4, 5, 6]
    assert sentence.startswith("a stage: 6 of 7 seeds failed; ")
    for part in (
        "seed 1: its process ended with status -9 (killed: out of memory?)",
        "seed 2: it was stopped; run the same command again",
        "seed 4, 5: bad.file: is bad",
        "seed 6: ZeroDivisionError: a bug",
    ):
        assert part in sentence
    assert "seed 3: cannot write " in sentence and "No space left on device; free space there" in sentence
    assert capfd.readouterr().err.count("Traceback") == 1  # of the bug
    assert [job.seed for job in jobs if job.is_done()] == [0]
    assert lab.statuses() == {"FINISHED", "KILLED", "FAILED"}


@pytest.mark.parametrize("trouble", [InspoError, KeyboardInterrupt])
def test_an_error_of_the_parent_leaves_no_seed_running(project, lab, trouble):
    class Tracker(StageTracker):
        def poll(self) -> None:
            if Path("0").exists() and Path("1").exists():
                raise trouble("of the parent")

    jobs = [Waiting(**fields(seed, Path(f"{seed}"))) for seed in (0, 1)]
    with pytest.raises(trouble), Tracker(STAGE) as tracker:
        run_seeds(jobs, tracker, "a stage", 1, None, batches_seeds=False)
    assert not multiprocessing.active_children() and Path("0/stopped").exists() and Path("1/stopped").exists()
    assert lab.statuses() <= {"FAILED", "KILLED"}


def test_a_damaged_record_or_another_name_s_means_that_the_seed_is_not_done(tmp_path):
    job = Behaving(**fields(0, tmp_path / "seed_0", variant="mine"))
    assert not job.is_done()
    with job.result():
        pass
    assert job.is_done()
    name = job.fingerprint
    for change in ({"fingerprint": "other"}, {"variant": "other"}):
        seal(job.out, **change)
        assert not job.is_done()
        seal(job.out, fingerprint=name, variant="mine")
        assert job.is_done()
    for content in ('{"finger', "[]", "5", "{}", f'{{"fingerprint": "{name}", "variant": "mine", "seed": 0}}'):
        (job.out / "run.json").write_text(content)
        assert not job.is_done()


def test_a_result_is_there_as_a_whole_or_not_at_all(tmp_path):
    job = Behaving(**fields(0, tmp_path / "seed_0"))
    with pytest.raises(ZeroDivisionError), job.result() as aside:
        (aside / "metrics.json").touch()
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_prune_keeps_the_seeds_asked_for_and_what_is_no_seed_and_says_what_goes(tmp_path, capsys):
    for name in ("seed_0", "seed_1", "seed_12"):
        (tmp_path / name).mkdir()
    (tmp_path / "summary.json").touch()
    prune(tmp_path, [Behaving(**fields(0, tmp_path / "seed_0"))])
    assert {path.name for path in tmp_path.iterdir()} == {"seed_0", "summary.json"}
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [f"removing {tmp_path}/seed_{k}" for k in (1, 12)]


@pytest.mark.parametrize(
    "seeds, workers, device, hidden, asked, batched",
    [
        (5, 2, "cpu", [64, 64], "", 3),  # 3 and 2: both workers are busy to the end
        (5, 1, "cpu", [64], "", 5),
        (2, 8, "cpu", [64], "", 1),
        (5, 2, "cpu", [64, 256], "", 1),  # wide networks are faster one by one
        (5, 2, "cpu", [64, 8], "", 1),  # of tiny ones the last bits would differ
        (5, 2, "cuda", [256, 256], "", 5),
        (5, 2, "cpu", [256], "2", 2),
        (5, 2, "cuda", [64], "1", 1),
    ],
)
def test_how_many_seeds_a_process_batches(monkeypatch, tmp_path, seeds, workers, device, hidden, asked, batched):
    monkeypatch.setenv("INSPO_BATCHED_SEEDS", asked)
    jobs = [Behaving(**fields(seed, tmp_path / f"seed_{seed}", device, hidden)) for seed in range(seeds)]
    assert seeds_a_process(jobs, workers) == batched


@pytest.fixture
def own_handlers() -> Iterator[dict[signal.Signals, Any]]:
    """Handlers of a program that has some; afterwards as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: None)
    yield {number: signal.getsignal(number) for number in before}
    stop_on()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("error", [None, InspoError, SystemExit])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_ask_to_stop_in_the_block_and_are_handled_as_before_after_it(own_handlers, number, error):
    with pytest.raises(error) if error else nullcontext():
        with soft_stop():
            assert not stop_requested()
            signal.raise_signal(number)
            assert stop_requested()
            if error:
                raise error("trouble")
    assert {number: signal.getsignal(number) for number in own_handlers} == own_handlers
