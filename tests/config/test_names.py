"""Names and seeds: one rule each, wherever one is given; they become paths, addresses, words of a command and parts of file names."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inspo_core.command import run
from inspo_core.config.reading import load_params
from inspo_core.errors import InspoError
from inspo_core.records import write_record
from inspo_core.running.shared_store import SharedStore
from inspo_core.section import LARGEST_SEED, LONGEST_NAME, is_name
from inspo_core.stages.outcomes import PlannedDataset, gather

ROOT = Path(__file__).resolve().parents[2]
BAD = ["../x", "/abs/x", "a/b", "", ".", "..", "-x", "--out", "a b", "a;b", "$(b)", "a\nb", "xor_c; touch PWNED #", "ä", "a.b"]
BAD += ["CON", "nul", "com1", "x" * (LONGEST_NAME + 1)]
GOOD = ["xor_c", "a", "A-1_b", "0", "_", "train", "default", "null", "com10", "x" * LONGEST_NAME]
PLAN = [{"dataset": "xor_c", "behavior": "b", "runs": [{"algorithm": "bc", "train": "t", "evaluate": "e", "seeds": [0]}]}]


@pytest.fixture
def said(monkeypatch, capsys, tmp_path):
    """Run ``python -m <module> <arguments>`` here; the one sentence with which it refuses."""

    def call(module: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [module, *map(str, arguments)])
        monkeypatch.setenv("INSPO_STORE", str(tmp_path / "store"))
        with pytest.raises(SystemExit) as ended:
            run(importlib.import_module(f"{module}.__main__").main)
        err = capsys.readouterr().err
        assert ended.value.code == 2 and err.startswith("error: ") and err.count("\n") == 1 and len(err) < 1500, err
        return err

    monkeypatch.chdir(tmp_path)
    return call


def test_what_a_name_is():
    assert [name for name in BAD if is_name(name)] == [] and [name for name in GOOD if not is_name(name)] == []


@pytest.mark.parametrize("name", BAD)
def test_no_parameter_takes_another(name):
    source, variant = {"format": "native", "env": "xor"}, {"algorithm": "bc"}
    given = {
        "experiment.name": name,
        "experiment.datasets": ["xor_c", name],
        "ingest.sources": {name: source},
        "variants": {name: variant},
        "experiment.algorithms": [name],
    }
    for key, value in given.items():
        with pytest.raises(InspoError) as raised:
            load_params(ROOT / "params.yaml", [json.dumps({key: value})])
        assert key in str(raised.value) or "no algorithm or variant" in str(raised.value)
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 1500


def test_a_variant_is_neither_an_algorithm_nor_the_default():
    for name in ("default", "inspo"):
        with pytest.raises(InspoError, match=f"variants.{name}: expected a name "):
            load_params(ROOT / "params.yaml", [json.dumps({"variants": {name: {"algorithm": "bc"}}})])


@pytest.mark.parametrize("name", [name for name in BAD if name and not name.startswith("-")])
def test_no_command_takes_another(said, tmp_path, name):
    task = ["--params", ROOT / "params.yaml", "--out", "out"]
    trained = [*task, "--dataset", "xor_c", "--algorithm", "bc", "--data", "data", "--behavior", "models"]
    assert said("components.train", *trained, "--record", name).startswith(f"error: --record is {name[:50]!r}"[:40])
    assert "--planned is " in said("components.train", *trained, "--planned", name)
    assert "--dataset is " in said("components.behavior", *task, "--dataset", name, "--data", "data")
    for place, key in [((0,), "dataset"), ((0,), "behavior"), ((0, "runs", 0), "algorithm"), ((0, "runs", 0), "evaluate")]:
        plan = inner = json.loads(json.dumps(PLAN))
        for part in place:
            inner = inner[part]
        inner[key] = name
        where = ".".join(map(str, [*place, key]))
        assert f"--plan: entry {where} is " in said("components.report", *task, "--plan", json.dumps(plan))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("{}", "--plan: "),
        ("[5]", "entry 0"),
        ('[{"dataset": 5, "behavior": "b", "runs": []}]', "entry 0.dataset is 5"),
        (json.dumps(PLAN).replace('"bc"', '["bc"]'), "entry 0.runs.0.algorithm is ['bc']"),
        (json.dumps(PLAN).replace("[0]", "[Infinity]"), "entry 0.runs.0.seeds.0 is inf"),
        (json.dumps(PLAN).replace("[0]", "[1.5]"), "entry 0.runs.0.seeds.0 is 1.5"),
        (json.dumps(PLAN).replace("[0]", f"[{2**53}]"), f"entry 0.runs.0.seeds.0 is {2**53}"),
        (json.dumps(PLAN).replace("[0]", "[1e400]"), "entry 0.runs.0.seeds.0 is inf"),
        ("[" * 100_000, "--plan is not valid JSON"),
    ],
    ids=range(9),
)
def test_a_plan_is_read_whole(said, plan, words):
    assert words in said("components.report", "--params", ROOT / "params.yaml", "--out", "out", "--plan", plan)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("x", "is not valid JSON"),
        ("[1]", "should be a valid dictionary"),
        ('{"seeds": {"0": "../../x"}}', "seeds.0 is '../../x'"),
        ('{"seeds": {"0": 5}}', "seeds.0 is 5"),
        ('{"failures": [1]}', "failures is [1]"),
        ('{"seeds": {}, "seeds": {}}', "'seeds' is there twice"),
    ],
)
def test_a_damaged_record_of_a_task_is_named(tmp_path, record, words):
    store = SharedStore(str(tmp_path / "store"))
    (tmp_path / "store/tasks").mkdir(parents=True)
    (tmp_path / "store/tasks/e.json").write_text(record, encoding="utf-8")
    with pytest.raises(InspoError, match="tasks/e.json") as raised:
        gather([PlannedDataset.model_validate(PLAN[0])], store, tmp_path / "evaluations", tmp_path / "trainings")
    assert words in str(raised.value)


def test_an_evaluation_names_no_training_outside_the_store(tmp_path):
    store, folder = SharedStore(str(tmp_path / "store")), tmp_path / "made"
    folder.mkdir()
    for found, words in [("../../x", "is '../../x'"), (5, "train_fingerprint is 5")]:
        write_record(folder, {"train_fingerprint": found})
        store.keep("evaluate", "made", folder)
        store.write_record("e", {"seeds": {"0": "made"}, "failures": {}})
        with pytest.raises(InspoError) as raised:
            gather([PlannedDataset.model_validate(PLAN[0])], store, tmp_path / "evaluations", tmp_path / "trainings")
        assert words in str(raised.value)


def test_a_name_never_reaches_dvcs_shell(tmp_path):
    """dvc.yaml pastes names into commands; DVC runs none whose entry in code.yaml is missing, and none is written for such a name."""
    name = "xor_c; touch PWNED #"
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache", "config.local"))
    for file in ("dvc.yaml", "params.yaml", "code.yaml"):
        shutil.copy(ROOT / file, tmp_path / file)
    text = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    text = re.sub("  datasets: .*", f'  datasets: ["{name}"]', text).replace("    xor_c: {", f'    "{name}": {{')
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data" / name / "file").touch()
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)

    def call(*command: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode
        return done.stderr

    assert f"ingest.sources.{name} is " in call("inspo_core.code_hashes")
    assert f"'ingest.{name}' are missing from 'code.yaml'" in call("dvc", "repro")
    assert not (tmp_path / "PWNED").exists()


# Seeds

TOO_LARGE = [2**53, 20230807093130621, 10**40]


@pytest.mark.parametrize("seed", TOO_LARGE)
def test_a_seed_that_kubeflow_cannot_hand_over_is_refused_everywhere(said, tmp_path, seed):
    trained = ["--params", ROOT / "params.yaml", "--out", "out", "--dataset", "xor_c", "--algorithm", "bc"]
    for text in (f"0,{seed}", f"[{seed}]", f"[{seed}.0]"):
        assert f"--seeds is '{text}'" in said("components.train", *trained, "--data", "d", "--behavior", "b", "--seeds", text)
    for override in (f"experiment.seeds=[0, {seed}]", f"evaluate.seed={seed}", json.dumps({"experiment.seeds": [seed]})):
        with pytest.raises(InspoError, match=rf"seed.* is {seed}: input should be less than or equal to {LARGEST_SEED}"):
            load_params(ROOT / "params.yaml", [override])
    (tmp_path / "params.yaml").write_text(f"base: {ROOT}/params.yaml\nexperiment: {{seeds: [{seed}]}}\n", encoding="utf-8")
    with pytest.raises(InspoError, match=f"experiment.seeds.0 is {seed}"):
        load_params(tmp_path / "params.yaml")


def test_the_largest_seed_is_the_same_as_a_double():
    params = load_params(ROOT / "params.yaml", [json.dumps({"experiment.seeds": [float(LARGEST_SEED), float(LARGEST_SEED - 1)]})])
    assert params.experiment.seeds == [LARGEST_SEED, LARGEST_SEED - 1]


@pytest.mark.parametrize("text", ["9" * 5000, "٣", "0,,1", "1.5", "0x1", "1e3", "", "x" * 100_000])
def test_seeds_that_are_none(said, text):
    trained = ["--params", ROOT / "params.yaml", "--out", "out", "--dataset", "xor_c", "--algorithm", "bc"]
    assert "error: --seeds is '" in said("components.train", *trained, "--data", "d", "--behavior", "b", f"--seeds={text}")
