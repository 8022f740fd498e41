"""Seeds side by side: each is what it is alone, finished ones are kept, a failed one stops no other."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from inspo_core.errors import InspoError
from inspo_core.files import atomic_directory, write_json
from inspo_core.loop import Stopped
from inspo_core.seeds import SeedJob, batched_seeds, default_workers, prune, run_seeds
from inspo_core.stopping import stop_requested
from inspo_core.tracking import StageTracker
from tests.lab import contents, identities, leftovers


def test_two_seeds_differ(undisturbed):
    one, two = (contents(undisturbed("bridge_optimal") / f"seed_{seed}") for seed in (0, 1))
    assert one.keys() == two.keys() == {"metrics.json", "metrics.jsonl", "policy.json", "policy.safetensors", "run.json"}
    assert [name for name in one if one[name] == two[name]] == ["policy.json"]


def test_only_new_seeds_run_and_others_are_removed(lab):
    out = lab.place / "train"
    lab.train("bridge_optimal", "bc", "0").succeeded()
    before = identities(out)
    again = lab.train("bridge_optimal", "bc", "0", "--set", "report.bootstrap=7", "--set", "train.alpha=7").succeeded()
    assert "1 of 1 seeds are done already" in again.stdout and identities(out) == before
    more = lab.train("bridge_optimal", "bc", "0,2").succeeded()
    assert "1 of 2 seeds are done already" in more.stdout
    after = identities(out)
    assert {name: after[name] for name in before} == before
    assert {path.name for path in out.iterdir()} == {"seed_0", "seed_2"}
    lab.train("bridge_optimal", "bc", "2").succeeded()
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


def behave(manner: str, out: Path) -> None:
    """What a seed's process does in the test below."""
    if manner == "well":
        with atomic_directory(out) as aside:
            write_json(aside / "run.json", {"fingerprint": out.name})
    elif manner == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif manner == "stopped":
        raise Stopped
    elif manner == "full":
        Path("/dev/full").write_text("x")
    else:
        raise InspoError("bad.file: is bad, make it good") if manner == "bad" else ZeroDivisionError("a bug")


@pytest.fixture
def project(lab, monkeypatch):
    """The lab's folder as the current one; signals as they were afterwards."""
    lab.track()
    monkeypatch.chdir(lab.place)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "INSPO_"))]:
        monkeypatch.delenv(name)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield lab.place
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_every_end_that_a_seed_can_come_to(project, lab, capfd):
    manners = {0: "well", 1: "killed", 2: "stopped", 3: "full", 4: "bad", 5: "bad", 6: "bug"}
    jobs = []
    for seed, manner in manners.items():
        out = Path(f"out/seed_{seed}")
        jobs.append(SeedJob("train", seed, out.name, out, Path(f"work/{seed}"), {"manner": manner, "out": out}, {}, {}))
    with pytest.raises(InspoError) as raised, StageTracker("train", "games", "xor", "inspo", "default", {}, {}, "x") as tracker:
        run_seeds("tests.test_seeds:behave", jobs, tracker, "a stage", iterations=1)
    sentence = str(raised.value)
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


def wait_for_the_end(out: Path) -> None:
    out.mkdir()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if stop_requested():
            (out / "stopped").touch()
            raise Stopped
        time.sleep(0.01)


@pytest.mark.parametrize("trouble", [InspoError, KeyboardInterrupt])
def test_an_error_of_the_parent_leaves_no_seed_running(project, lab, trouble):
    class Tracker(StageTracker):
        def poll(self) -> None:
            if Path("0").exists() and Path("1").exists():
                raise trouble

    jobs = [SeedJob("train", seed, f"{seed}", Path("out"), Path("work"), {"out": Path(f"{seed}")}, {}, {}) for seed in (0, 1)]
    with pytest.raises(trouble), Tracker("train", "games", "xor", "inspo", "default", {}, {}, "x") as tracker:
        run_seeds("tests.test_seeds:wait_for_the_end", jobs, tracker, "a stage", iterations=1)
    assert not multiprocessing.active_children() and Path("0/stopped").exists() and Path("1/stopped").exists()
    assert lab.statuses() <= {"FAILED", "KILLED"}


def test_a_damaged_record_or_another_name_s_means_that_the_seed_is_not_done(tmp_path):
    job = SeedJob("train", 0, "name", tmp_path / "seed_0", tmp_path / "work", {}, {}, {"variant": "mine"})
    assert not job.is_done()
    job.out.mkdir()
    for content, done in [
        ('{"fingerprint": "name", "variant": "mine", "seed": 0}', True),
        ('{"fingerprint": "other", "variant": "mine"}', False),
        ('{"fingerprint": "name", "variant": "other"}', False),
        ('{"finger', False),
        ("[]", False),
    ]:
        (job.out / "run.json").write_text(content)
        assert job.is_done() == done


def test_prune_keeps_the_seeds_asked_for_and_what_is_no_seed(tmp_path):
    for name in ("seed_0", "seed_1", ".seed_0.new-12", ".seed_0.old-12"):
        (tmp_path / name).mkdir()
    (tmp_path / "summary.json").touch()
    prune(tmp_path, [SeedJob("train", 0, "name", tmp_path / "seed_0", tmp_path, {}, {}, {})])
    assert {path.name for path in tmp_path.iterdir()} == {"seed_0", "summary.json"}


def test_batched_seeds(monkeypatch):
    monkeypatch.delenv("INSPO_BATCHED_SEEDS", raising=False)
    assert batched_seeds() == 1
    monkeypatch.setenv("INSPO_BATCHED_SEEDS", "20")
    assert batched_seeds() == 20
    monkeypatch.setenv("INSPO_BATCHED_SEEDS", "all")
    with pytest.raises(InspoError, match="INSPO_BATCHED_SEEDS is 'all', expected how many .*whole number from 1"):
        batched_seeds()


def test_workers(monkeypatch):
    monkeypatch.delenv("INSPO_WORKERS", raising=False)
    assert default_workers() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("INSPO_WORKERS", "3")
    assert default_workers() == 3
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("INSPO_WORKERS", wrong)
        with pytest.raises(InspoError, match="INSPO_WORKERS is .*whole number from 1"):
            default_workers()
