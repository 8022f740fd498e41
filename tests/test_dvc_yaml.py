"""dvc.yaml, code.yaml and dvc.lock against the code and the parameters: what a stage runs is what makes DVC run it again."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from inspo_core.code_hashes import FILE, check_code_hashes, code_hashes
from inspo_core.config.reading import load_params
from inspo_core.errors import InspoError
from inspo_core.identity import STAGE_WORK

ROOT = Path(__file__).resolve().parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def params_of(stage: str, file: str) -> list[str]:
    """The keys of ``file`` that a stage depends on."""
    listed = STAGES[stage]["params"]
    if file == "params.yaml":
        return [key for key in listed if isinstance(key, str)]
    return [key for of_file in listed if isinstance(of_file, dict) for key in of_file.get(file, [])]


def test_the_stages_are_those_that_have_an_identity():
    assert list(STAGES) == list(STAGE_WORK)


def test_the_commands_are_the_components():
    for stage, entry in STAGES.items():
        assert entry["cmd"].startswith(f"python -m components.{stage} ")


def test_every_output_persists_so_that_finished_seeds_are_there_and_a_failure_leaves_what_was():
    for stage, entry in STAGES.items():
        (output,) = entry["outs"]
        assert isinstance(output, dict) and list(output.values()) == [{"persist": True}], stage


def test_every_parameter_that_changes_a_result_is_some_stages():
    named = {name.partition("$")[0].rstrip(".") for stage in STAGES for name in params_of(stage, "params.yaml")}
    for section, values in load_params(ROOT / "params.yaml").model_dump().items():
        for key in values:
            known = section in named or f"{section}.{key}" in named
            assert known != (section == "experiment" and key == "name"), f"{section}.{key}"  # the name says only where runs are recorded


def test_no_stage_depends_on_a_folder_of_code_and_all_depend_on_their_own_in_a_word():
    for stage, entry in STAGES.items():
        assert not [path for path in entry["deps"] if path.startswith(("inspo_core", "components", "pipelines"))]
        first = params_of(stage, "code.yaml")[0]
        assert first.partition(".")[0] == stage
    for stage in ("train", "evaluate"):
        assert "games.${item.dataset}" in params_of(stage, "code.yaml")
    assert "references" in params_of("report", "code.yaml")


def test_the_hashes_of_the_code_are_up_to_date():
    params = load_params(ROOT / "params.yaml")
    assert yaml.safe_load((ROOT / FILE).read_text()) == code_hashes(params), "write code.yaml anew: python -m inspo_core.code_hashes"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with a copy of params.yaml and code.yaml, to work in."""
    for name in ("params.yaml", "code.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "stage, dataset, name, key",
    [
        ("ingest", "xor_b", "", "ingest.xor_b"),
        ("behavior", "xor_b", "", "behavior"),
        ("train", "xor_b", "inspo", "train.inspo"),
        ("train", "xor_b", "inspo_product", "train.inspo_product"),
        ("train", "bridge_mixed", "bc", "games.bridge_mixed"),
        ("evaluate", "xor_b", "bc", "evaluate"),
        ("report", "", "", "report"),
        ("report", "", "", "references.xor_a"),
    ],
)
def test_a_stale_hash_is_refused_by_the_stages_that_depend_on_it(elsewhere, stage, dataset, name, key):
    params = load_params(elsewhere / "params.yaml")
    check_code_hashes(params, stage, dataset, name)
    written = yaml.safe_load(FILE.read_text())
    place, *below = key.split(".")
    if below:
        written[place][below[0]] = "stale"
    else:
        written[place] = "stale"
    FILE.write_text(yaml.safe_dump(written))
    with pytest.raises(
        InspoError, match=f"code.yaml is out of date: {key} is 'stale', .* write it anew with: python -m inspo_core.code_hashes"
    ):
        check_code_hashes(params, stage, dataset, name)


def test_a_variant_of_the_command_line_runs_its_algorithms_code(elsewhere):
    params = load_params(elsewhere / "params.yaml", ["variants.mine={algorithm: bc}"])
    check_code_hashes(params, "train", "xor_b", "mine")
    FILE.write_text(FILE.read_text().replace("  bc: ", "  bc: stale  # "))
    with pytest.raises(InspoError, match="train.bc is "):
        check_code_hashes(params, "train", "xor_b", "mine")


def test_a_folder_without_the_file_is_not_looked_at(elsewhere):
    FILE.unlink()
    check_code_hashes(load_params(elsewhere / "params.yaml"), "behavior")


def test_the_command_writes_the_file_and_checks_it(elsewhere):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "inspo_core.code_hashes", *arguments], capture_output=True, text=True, timeout=120)

    assert run("--check").returncode == 0
    FILE.write_text("ingest: {}\n")
    refused = run("--check")
    assert (
        refused.returncode == 2
        and refused.stderr == f"error: {FILE} is missing or out of date; write it anew with: python -m inspo_core.code_hashes\n"
    )
    assert run().returncode == 0 and FILE.read_text() == (ROOT / "code.yaml").read_text()


# dvc.lock

LOCK = ROOT / "dvc.lock"
TEXT = (".csv", ".html", ".json", ".jsonl", ".md", ".svg")


def resolved(stage: str, name: str) -> dict[str, dict[str, object]]:
    """What the stage ``name``, such as train@xor_b-inspo, depends on in each parameter file now."""
    item = dict(zip(("dataset", "algorithm"), name.partition("@")[2].split("-", 1)))
    found: dict[str, dict[str, object]] = {}
    for file in ("params.yaml", "code.yaml"):
        values = yaml.safe_load((ROOT / file).read_text())
        for key in params_of(stage, file):
            key = re.sub(r"\$\{item\.(\w+)\}", lambda match: item[match[1]], key)
            value = values
            for part in key.split("."):
                value = value[part]
            found.setdefault(file, {})[key] = value
    return found


def test_the_lock_is_of_the_parameters_and_the_code_that_are_here():
    locked = yaml.safe_load(LOCK.read_text())["stages"]
    chosen = load_params(ROOT / "params.yaml").experiment
    expected = {f"{stage}@{dataset}" for stage in ("ingest", "behavior") for dataset in chosen.datasets} | {"report"}
    expected |= {
        f"{stage}@{dataset}-{name}" for stage in ("train", "evaluate") for dataset in chosen.datasets for name in chosen.algorithms
    }
    assert set(locked) == expected
    for name, entry in locked.items():
        assert entry["params"] == resolved(name.partition("@")[0], name), f"{name}: run dvc repro and commit dvc.lock"


def test_what_the_lock_names_is_in_the_remote_and_says_nothing_of_who_made_it():
    """Every output of the main job can be pulled, and is small; none holds a host name, a user's name or a path."""
    store, total = ROOT / "dvcstore/files/md5", 0
    names = [socket.gethostname(), "localhost", *filter(None, [os.environ.get("USER")])]
    private = re.compile(
        rf"/(home|root|tmp|Users)/|{re.escape(str(ROOT))}|(?<![\w/+=])({'|'.join(map(re.escape, names))})(?![\w/+=])".encode()
    )
    for name, entry in yaml.safe_load(LOCK.read_text())["stages"].items():
        (output,) = entry["outs"]
        listing = store / output["md5"][:2] / output["md5"][2:]
        assert listing.exists(), f"{name}: {output['path']} is not in dvcstore; run dvc push"
        for file in yaml.safe_load(listing.read_text()):
            path = store / file["md5"][:2] / file["md5"][2:]
            content = path.read_bytes()
            total += len(content)
            if file["relpath"].endswith(TEXT) and (found := private.search(content)):
                pytest.fail(f"{output['path']}/{file['relpath']} holds {found[0].decode()}")
    assert total < 20_000_000
