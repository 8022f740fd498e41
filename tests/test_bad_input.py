"""Bad input and unusable places end in one sentence and a status, and leave what was there as it was."""

import json
import resource
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from inspo_core.command import run
from inspo_core.errors import InspoError
from inspo_core.files import file_hash, write_json
from inspo_core.records import write_record
from tests.lab import UNTRACKED, contents, leftovers, seal

DATASET = "bridge_optimal"


@pytest.fixture
def earlier(lab, undisturbed) -> Path:
    """``train`` in the lab's folder: the results of seeds 0 and 1, under the names that other runs will not take for theirs."""
    for path in (undisturbed(DATASET)).iterdir():
        shutil.copytree(path, lab.place / "train" / path.name)
    return lab.place / "train"


def forget(out: Path) -> None:
    """Make finished seeds look like those of other parameters, so that they are to run again."""
    for seed in out.glob("seed_*"):
        seal(seed, fingerprint="of other parameters")


# Parameters

PARAMETERS = [
    (["--set", "train.inspo.alhpa=1"], ["--set train.inspo.alhpa", "params.yaml", "did you mean alpha"]),
    (["--set", "train.inspo.alpha=much"], ["params.yaml", "train.inspo.alpha is 'much'", "valid number"]),
    (
        ["--set", "train.inspo.q=global", "--set", "train.inspo.support_threshold=1"],
        ["train.inspo.q is 'global'", "'local' or 'joint'", "train.inspo.support_threshold is 1", "less than 1"],
    ),
    (["--params", "nothing.yaml"], ["cannot read the parameters nothing.yaml", "No such file"]),
    (["--seeds", "0,0"], ["--seeds is '0,0'", "different whole numbers"]),
]


@pytest.mark.parametrize("arguments, words", PARAMETERS)
def test_parameters(lab, earlier, arguments, words):
    before = lab.outputs()
    lab.train(DATASET, "inspo", "0,1", *arguments).refused(*words)
    assert lab.outputs() == before and not leftovers(lab.place) and not (lab.place / "outbox").exists()


MISTYPED = [
    ("held_out", "heldout", ["unknown parameter behavior.heldout", "did you mean held_out?", "behavior.held_out is missing"]),
    ("gamma", "gama", ["unknown parameter train.gama", "did you mean gamma?"]),
    ("refit_steps", "refitsteps", ["unknown parameter train.inspo.refitsteps", "did you mean refit_steps"]),
]


@pytest.mark.parametrize("key, mistyped, words", MISTYPED)
def test_a_mistyped_key_in_the_file(lab, earlier, key, mistyped, words):
    text = (lab.place / "params.yaml").read_text()
    (lab.place / "params.yaml").write_text(text.replace(f" {key}: ", f" {mistyped}: "))
    before = lab.outputs()
    lab.train(DATASET, "inspo", "0").refused("params.yaml: ", *words)
    assert lab.outputs() == before


# Data


def missing(data: Path) -> list[str]:
    shutil.rmtree(data)
    return [str(data), "is missing", "dvc pull data.dvc"]


def truncated(data: Path) -> list[str]:
    content = (data / "observations.npy").read_bytes()
    (data / "observations.npy").write_bytes(content[:-64])
    return [f"{data}/observations.npy holds {len(content) - 64} bytes", f"says {len(content)}", "get the dataset anew"]


def bit_flipped(data: Path) -> list[str]:
    content = bytearray((data / "rewards.npy").read_bytes())
    content[-6] ^= 4
    (data / "rewards.npy").write_bytes(content)
    return [f"{data}/rewards.npy is damaged", "SHA-256", "get the dataset anew"]


def of_another_version(data: Path) -> list[str]:
    write_json(data / "meta.json", json.loads((data / "meta.json").read_text()) | {"schema_version": 7})
    return [f"{data}/meta.json", "schema_version is 7", "this version reads 1"]


def rewrite(data: Path, name: str, values: np.ndarray) -> None:
    """Put ``values`` in the place of a field, with its right hash."""
    path = data / f"{name}.npy"
    np.save(path, values)
    meta = json.loads((data / "meta.json").read_text())
    meta["files"][path.name] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
    write_json(data / "meta.json", meta)


def with_nan(data: Path) -> list[str]:
    rewards = np.load(data / "rewards.npy")
    rewards[17] = np.nan
    rewrite(data, "rewards", rewards)
    return [str(data), "rewards[17] is nan", "expected a finite number"]


def with_an_action_outside_its_mask(data: Path) -> list[str]:
    masks = np.ones((len(np.load(data / "observations.npy")), 2, 5), dtype=bool)
    action = np.load(data / "actions.npy")[3, 1]
    masks[3, 1, action] = False
    rewrite(data, "available_actions", masks)
    return [str(data), f"actions[3, 1] is {action}", "available_actions allows"]


def with_offsets_out_of_order(data: Path) -> list[str]:
    offsets = np.load(data / "episode_offsets.npy")
    offsets[[4, 5]] = offsets[[5, 4]]
    rewrite(data, "episode_offsets", offsets)
    return [str(data), f"episode_offsets[5] is {offsets[5]}", "more than the offset before it"]


DAMAGES = [missing, truncated, bit_flipped, of_another_version, with_nan, with_an_action_outside_its_mask, with_offsets_out_of_order]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_raw_data(lab, damage):
    data = lab.place / "data"
    shutil.copytree(lab.data(DATASET), data)
    shutil.copytree(lab.data("xor_b"), lab.place / "out")  # earlier output
    write_record(lab.place / "out", {"stage": "ingest", "dataset": "xor_b"})
    words = damage(data)
    before = lab.outputs()
    lab.run("components.ingest", "--dataset", DATASET, "--raw", data, "--out", "out").refused(*words)
    assert lab.outputs() == before and not leftovers(lab.place)


def test_a_failure_is_recorded(lab):
    lab.track()
    shutil.copytree(lab.data(DATASET), lab.place / "data")
    words = truncated(lab.place / "data")
    lab.run("components.ingest", "--dataset", DATASET, "--raw", "data", "--out", "out").refused(words[-1])
    assert lab.statuses() == {"FAILED"}


def test_native_data_that_were_cut_off_since(lab, earlier):
    data = lab.place / "data"
    shutil.copytree(lab.data(DATASET), data)
    words = truncated(data)
    forget(earlier)
    before = lab.outputs()
    lab.train(DATASET, "inspo", "0,1", data=data).refused("train bridge_optimal inspo: 2 of 2 seeds failed; seed 0, 1: ", *words)
    assert lab.outputs() == before and not leftovers(lab.place)


# What earlier stages made


def test_behavior_models_that_are_missing(lab, earlier):
    forget(earlier)
    before = lab.outputs()
    lab.train(DATASET, "inspo", "0,7").refused(f"{lab.behavior(DATASET)}/seed_7/run.json is missing", "run the behavior stage again")
    assert lab.outputs() == before


def test_behavior_models_of_other_data(lab, earlier):
    forget(earlier)
    before = lab.outputs()
    lab.train("xor_b", "inspo", "0,1", behavior=lab.behavior(DATASET)).refused(
        f"{lab.behavior(DATASET)}/seed_0/run.json", f"behavior models of {lab.data('xor_b')}", "run the behavior stage on it"
    )
    assert lab.outputs() == before


def test_policies_of_another_dataset(lab, earlier):
    arguments = ["--dataset", "bridge_mixed", "--algorithm", "inspo", "--train", "train", "--seeds", "0,1", "--out", "evaluate"]
    before = lab.outputs()
    lab.run("components.evaluate", *arguments).refused(
        "train/seed_0/run.json says dataset 'bridge_optimal' where 'bridge_mixed' is to be evaluated", "give the folder of that training"
    )
    assert lab.outputs() == before and not leftovers(lab.place)


# Checkpoints


def test_checkpoints_that_are_damaged_or_of_another_configuration(lab, earlier):
    names = [json.loads((earlier / f"seed_{seed}/run.json").read_text())["fingerprint"] for seed in (0, 1)]
    forget(earlier)
    foreign, damaged = (lab.place / "checkpoints" / name / "checkpoint.pt" for name in names)
    for path in (foreign, damaged):
        path.parent.mkdir(parents=True)
        path.with_name("metrics.jsonl").write_bytes(b'{"step":1}\n')
        metrics = {"metrics_bytes": 11, "metrics_sha256": file_hash(path.with_name("metrics.jsonl"))}
        torch.save({"fingerprint": "0123456789abcdef", "iteration": 1, **metrics, "state": {}}, path)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    before, kept = lab.outputs(), contents(lab.place / "checkpoints")
    lab.train(DATASET, "inspo", "0,1").refused(
        f"{foreign.relative_to(lab.place)} belongs to another configuration ",
        f"(fingerprint 0123456789abcdef, this run's is {foreign.parent.name})",
        f"{damaged.relative_to(lab.place)} is damaged",
        f"remove {damaged.parent} to start this run anew",
    )
    assert lab.outputs() == before and contents(lab.place / "checkpoints") == kept


# Places


def test_an_output_folder_below_a_file(lab, earlier):
    before = lab.outputs()
    lab.train(DATASET, "inspo", "0", out="params.yaml/train").refused(
        "cannot write params.yaml/train/seed_0: Not a directory", "choose another place"
    )
    assert lab.outputs() == before and not (lab.place / "outbox").exists()  # said before anything is trained


def mounted(place: Path, size: str) -> Path:
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("a small disk of its own needs the right to mount one")
    return place


@pytest.fixture
def small_disk(tmp_path):
    place = mounted(tmp_path / "disk", "128k")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_read_only_disk(lab, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    lab.train(DATASET, "inspo", "0", out="disk/train").refused(
        "cannot write disk/train/seed_0: Read-only file system", "choose another place"
    )
    assert not list(small_disk.iterdir())


@pytest.mark.slow
def test_a_full_disk(lab, small_disk, undisturbed):
    shutil.copytree(undisturbed(DATASET) / "seed_0", small_disk / "seed_0")
    forget(small_disk)
    before = lab.outputs()
    wide = ["--set", "train.hidden=[128,128]", "--set", "train.iterations=1"]
    lab.train(DATASET, "inspo", "0", *wide, out="disk").refused("cannot write disk/seed_0: No space left on device; free space there")
    assert lab.outputs() == before and not leftovers(lab.place)


def test_no_room_for_a_checkpoint(lab, earlier):
    """As on a full disk, but anywhere: no file may grow beyond a size."""
    forget(earlier)
    before = lab.outputs()
    size = 2**20
    wide = ["--set", "train.hidden=[256,256]", "--set", "train.iterations=5"]
    done = lab.train(DATASET, "inspo", "0", *wide, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    done.refused(f"cannot write {lab.place}/checkpoints/", "checkpoint.pt: File too large; free space there")
    assert lab.outputs() == before and not leftovers(lab.place)


def test_no_room_for_records_either(lab, small_disk):
    with pytest.raises(OSError):
        (small_disk / "filler").write_bytes(bytes(2**18))
    out, params, lab.place = lab.place / "out", lab.place / "params.yaml", small_disk
    done = lab.run("components.ingest", "--params", params, "--dataset", DATASET, "--raw", lab.data(DATASET), "--out", out).succeeded()
    assert f"{small_disk}/outbox does not take all records ([Errno 28] No space left on device" in done.stderr
    assert (out / "card/card.json").is_file()


@pytest.mark.parametrize(
    "raised, code, said",
    [
        (InspoError("a.json: x is 1, expected 2"), 2, "error: a.json: x is 1, expected 2\n"),
        (OSError(28, "No space left on device", "some/file"), 2, "error: cannot use some/file: No space left on device; free space there"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda part: type(part).__name__,
)
def test_how_commands_end(capsys, raised, code, said):
    def main():
        raise raised

    with pytest.raises(SystemExit) as ended:
        run(main)
    message = capsys.readouterr().err
    assert ended.value.code == code and message.startswith(said) and message.count("\n") == bool(said)


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


# MLflow


@pytest.mark.slow
def test_a_store_that_is_full(lab):
    lab.track()
    size = (lab.place / "mlflow.db").stat().st_size
    arguments = ["--dataset", DATASET, "--raw", lab.data(DATASET), "--out", "out"]
    done = lab.run("components.ingest", *arguments, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))).succeeded()
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(f"warning: MLflow at {lab.place}/mlflow.db takes no records now") and "disk I/O error" in warning
    lab.run("inspo_core.tracking", "deliver").succeeded()
    assert lab.statuses() == {"FINISHED"} and not contents(lab.place / "outbox")


def test_a_store_that_cannot_be_used(lab):
    done = lab.run("components.ingest", "--dataset", DATASET, "--raw", lab.data(DATASET), "--out", "out").succeeded()
    assert (lab.place / "out/meta.json").exists()
    (warning,) = done.stderr.splitlines()
    assert warning.startswith(UNTRACKED) and "python -m inspo_core.tracking deliver" in warning
    kept = contents(lab.place / "outbox")
    assert any(name.endswith("journal.jsonl") for name in kept)
    lab.run("inspo_core.tracking", "deliver").refused("MLflow at /dev/null/mlflow.db takes no records", str(lab.place / "outbox"), code=1)
    assert contents(lab.place / "outbox") == kept
    lab.track()
    lab.run("inspo_core.tracking", "deliver").succeeded()
    assert lab.statuses() == {"FINISHED"} and not contents(lab.place / "outbox")
