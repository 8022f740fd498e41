"""The shared store: what one machine has finished or begun, another one takes over."""

import os
import signal

import pytest

from inspo_core.errors import InspoError
from inspo_core.files import write_json
from inspo_core.records import write_record
from inspo_core.running.shared_store import SharedStore
from tests.lab import Done, Lab, contents, wait_until


@pytest.fixture
def machines(lab, tmp_path) -> tuple[Lab, Lab]:
    """Two machines with nothing in common but the store."""
    (tmp_path / "other").mkdir()
    return lab, Lab(tmp_path / "other", lab.shared)


@pytest.fixture
def store(tmp_path) -> dict[str, str]:
    return {"INSPO_STORE": str(tmp_path / "store")}


def test_a_finished_seed_is_not_run_again_elsewhere(machines, store, tmp_path):
    here, there = machines
    here.train("xor_b", "inspo", "0", **store).succeeded()
    done = there.train("xor_b", "inspo", "0,1", **store).succeeded()
    assert "train xor_b inspo: 1 of 2 seeds are done already" in done.stdout
    assert contents(here.place / "train/seed_0") == contents(there.place / "train/seed_0")
    assert {path.name for path in (tmp_path / "store").iterdir()} <= {"train", "checkpoints", "outbox"}
    assert not list((tmp_path / "store").glob("checkpoints/*"))
    assert {record.parent.parent.name for record in (tmp_path / "store").rglob("run.json")} == {"train"}

    changed = there.train("xor_b", "inspo", "0", "--set", "train.inspo.alpha=0.3", **store).succeeded()
    assert "done already" not in changed.stdout  # another run, with another fingerprint


def test_a_variant_takes_over_an_equal_run_under_its_own_name(lab, store):
    same = ["--set", "variants.same={algorithm: bc}"]
    for name, place, environment in (("bc", "bc", store), ("same", "same", store), ("same", "alone", {})):
        trained = lab.train("xor_b", name, "0", *same, out=f"{place}/train", **environment).succeeded()
        run = ["--dataset", "xor_b", "--algorithm", name, "--seeds", "0", "--train", f"{place}/train", "--out", f"{place}/evaluate"]
        evaluated = lab.run("components.evaluate", *run, *same, **environment).succeeded()
        for done in (trained, evaluated):
            assert ("done already" in done.stdout) == (place == "same")
    assert contents(lab.place / "same") == contents(lab.place / "alone")


def test_a_dataset_takes_over_what_was_made_of_equal_data_under_its_own_name(lab, store):
    for name, place, environment in (("xor_b", "one", store), ("copy", "other", store), ("copy", "alone", {})):
        run = ["--dataset", name, "--data", lab.data("xor_b"), "--seeds", "0", "--out", place]
        done = lab.run("components.behavior", *run, **environment).succeeded()
        assert ("done already" in done.stdout) == (place == "other")
    assert contents(lab.place / "other") == contents(lab.place / "alone")


def test_what_could_not_be_shared_is_shared_by_the_next_command(lab, store, tmp_path):
    in_the_way = tmp_path / "store/train"
    in_the_way.parent.mkdir()
    in_the_way.touch()
    failed = lab.train("xor_b", "bc", "0", **store)
    assert failed.code == 2 and f"1 of 1 seeds failed; seed 0: cannot write {in_the_way}" in failed.stderr
    in_the_way.unlink()
    assert "1 of 1 seeds are done already" in lab.train("xor_b", "bc", "0", **store).succeeded().stdout
    (kept,) = in_the_way.iterdir()
    assert contents(kept) == contents(lab.place / "train/seed_0")


def test_a_killed_machine_s_run_goes_on_elsewhere(machines, store, tmp_path):
    here, there = machines
    here.behavior("xor_b")
    process = here.start("components.train", *here.train_arguments("xor_b", "inspo", "0"), "--set", "train.iterations=400", **store)
    wait_until(lambda: list((tmp_path / "store/checkpoints").rglob("checkpoint.pt")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    assert Done.of(process).code == -signal.SIGKILL
    (checkpoint,) = (tmp_path / "store/checkpoints").rglob("checkpoint.pt")
    whole = checkpoint.read_bytes()

    before = checkpoint.with_name("checkpoint.before.pt")
    kept = before.read_bytes() if before.exists() else None
    checkpoint.write_bytes(whole[: len(whole) // 2])
    before.unlink(missing_ok=True)
    taken = there.train("xor_b", "inspo", "0", "--set", "train.iterations=400", **store)
    assert taken.code == 2 and "checkpoint.pt is damaged" in taken.stderr  # so it is this checkpoint that is taken
    checkpoint.write_bytes(whole)
    if kept:
        before.write_bytes(kept)
    there.run("components.train", *there.train_arguments("xor_b", "inspo", "0", out="again"), "--set", "train.iterations=400",
              INSPO_CHECKPOINTS="elsewhere", **store).succeeded()  # fmt: skip
    here.train("xor_b", "inspo", "0", "--set", "train.iterations=400", out="undisturbed", INSPO_CHECKPOINTS="fresh").succeeded()
    assert contents(there.place / "again/seed_0") == contents(here.place / "undisturbed/seed_0")


def test_a_run_whose_last_file_is_missing_is_not_finished(tmp_path):
    store, run = SharedStore(str(tmp_path / "store")), tmp_path / "run"
    for name in ("inner/policy", "zebra"):
        write_json(run / name, {})
    write_record(run, {})
    store.keep("train", "f", run)
    (tmp_path / "store/train/f/run.json").unlink()
    assert not store.fetch("train", "f", tmp_path / "out", {}) and not (tmp_path / "out").exists()
    store.keep("train", "f", run)
    assert store.fetch("train", "f", tmp_path / "out", {}) and contents(tmp_path / "out") == contents(run)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("policy", lambda content: content[:-1], "policy is not what was written there"),
        ("policy", lambda content: content.replace(b"1.0", b"7.5"), "policy is not what was written there"),
        ("inner/curve", None, "inner/curve is missing"),
        ("run.json", lambda content: content.replace(b"seed", b"sead"), "run.json is not what was written there"),
        ("run.json", lambda content: b'{"seed": 0}', "run.json has not the hashes of the run's files"),
    ],
)
def test_a_damaged_copy_counts_for_nothing_until_it_is_written_anew(tmp_path, capsys, name, change, words):
    store, run = SharedStore(str(tmp_path / "store")), tmp_path / "run"
    write_json(run / "policy", {"weight": 1.0})
    write_json(run / "inner/curve", [1.0])
    write_record(run, {"seed": 0})
    store.keep("train", "f", run)
    assert store.holds("train", "f") and capsys.readouterr().err == ""
    copy = tmp_path / "store/train/f" / name
    content = copy.read_bytes()
    copy.unlink()
    if change:
        copy.write_bytes(change(content))
    assert not store.holds("train", "f") and not store.fetch("train", "f", tmp_path / "out", {}) and not (tmp_path / "out").exists()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(f"{tmp_path}/store/train/f/{words}" in line and "counts for nothing" in line for line in said)
    store.keep("train", "f", run)
    assert store.fetch("train", "f", tmp_path / "out", {}) and contents(tmp_path / "out") == contents(run)


def test_a_run_that_is_damaged_in_the_store_is_made_anew_and_shared(machines, store, tmp_path):
    here, there = machines
    here.train("xor_b", "bc", "0", **store).succeeded()
    (kept,) = (tmp_path / "store/train").iterdir()
    whole = contents(kept)
    (kept / "policy.safetensors").write_bytes(b"damaged")
    done = there.train("xor_b", "bc", "0", **store).succeeded()
    assert "done already" not in done.stdout and "policy.safetensors is not what was written there" in done.stderr
    assert contents(there.place / "train/seed_0") == contents(here.place / "train/seed_0") and contents(kept) == whole
    (kept / "metrics.jsonl").unlink()
    assert "done already" in here.train("xor_b", "bc", "0", **store).succeeded().stdout and contents(kept) == whole


def test_the_checkpoint_before_is_shared_too(tmp_path):
    store, work = SharedStore(str(tmp_path / "store")), tmp_path / "work"
    work.mkdir()
    for number, content in enumerate(("one", "two", "three"), start=1):
        for name in ("checkpoint.pt", "metrics.jsonl"):
            (work / name).write_text(content)
        os.utime(work / "checkpoint.pt", ns=(0, number))
        store.keep_checkpoint("f", work)
        store.keep_checkpoint("f", work)  # the same one again
    expected = {"checkpoint.pt": b"three", "checkpoint.before.pt": b"two", "metrics.jsonl": b"three"}
    SharedStore(str(tmp_path / "store")).fetch_checkpoint("f", tmp_path / "elsewhere")
    assert contents(tmp_path / "store/checkpoints/f") == contents(tmp_path / "elsewhere") == expected
    (tmp_path / "store/checkpoints/f/checkpoint.pt").unlink()  # killed between the two
    SharedStore(str(tmp_path / "store")).fetch_checkpoint("f", tmp_path / "other")
    assert contents(tmp_path / "other") == {name: content for name, content in expected.items() if name != "checkpoint.pt"}


def test_nothing_empty_is_left_in_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("INSPO_STORE", str(tmp_path / "store"))
    store, work = SharedStore.from_environment(), tmp_path / "work"
    assert store and not list((tmp_path / "store").iterdir())
    write_json(work / "checkpoint.pt", 1)
    write_json(work / "metrics.jsonl", 1)
    store.keep_checkpoint("f", work)
    write_record(work, {})
    store.keep("train", "f", work)
    assert not list((tmp_path / "store/checkpoints").iterdir())


def test_what_a_killed_machine_was_writing_is_not_fetched(tmp_path):
    store, run = SharedStore(str(tmp_path / "store")), tmp_path / "run"
    run.mkdir()
    write_record(run, {})
    store.keep("train", "f", run)
    (tmp_path / "store/train/f/.policy.new-12-ab").write_text("ha")
    assert store.fetch("train", "f", tmp_path / "out", {}) and contents(tmp_path / "out") == contents(run)

    (tmp_path / "store/checkpoints/f").mkdir(parents=True)
    (tmp_path / "store/checkpoints/f/.checkpoint.pt.new-12-ab").write_text("ha")
    store.keep("train", "f", run)
    assert not (tmp_path / "store/checkpoints/f").exists()


@pytest.mark.parametrize("place", ["/dev/null/store", "gopher://store"])
def test_a_store_that_cannot_be_used_is_named_at_once(lab, place):
    lab.train("xor_b", "bc", "0", INSPO_STORE=place).refused("INSPO_STORE" if "://" in place else "/dev/null/store")
    assert not (lab.place / "train").exists()


def test_a_checkpoint_that_cannot_be_shared_stops_nothing(tmp_path, capsys):
    (tmp_path / "store").mkdir()
    store, work = SharedStore(str(tmp_path / "store")), tmp_path / "work"
    work.mkdir()
    store.keep_checkpoint("f", work)  # none yet
    for content in ("one", "two"):
        (work / "checkpoint.pt").write_text(content)
        (work / "metrics.jsonl").write_text(content)
        (tmp_path / "store/checkpoints").write_text("in the way")
        store.keep_checkpoint("f", work)
        os.utime(work / "checkpoint.pt", ns=(0, len(content)))
    assert capsys.readouterr().err.count("warning: checkpoints are kept on this machine only") == 1
    write_json(tmp_path / "store/other/checkpoints/f/checkpoint.pt", "without its metrics")
    SharedStore(str(tmp_path / "store/other")).fetch_checkpoint("f", tmp_path / "fresh")
    assert not (tmp_path / "fresh/checkpoint.pt").exists()
    assert f"warning: the run in {tmp_path}/fresh starts anew, without a shared checkpoint; the store " in capsys.readouterr().err
    with pytest.raises(InspoError, match="cannot write"):
        store.keep("checkpoints", "f", work)
