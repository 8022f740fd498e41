"""The keys of tasks that have not run: what changes them, and what does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.config.reading import load_params
from inspo_core.envs.table import GAMES
from inspo_core.errors import InspoError
from inspo_core.identity import check_planned, code_of
from pipelines.placement import Placement
from pipelines.plan import benchmark_plan, experiment_keys
from tests.code_copies import copy_code
from tests.pipelines.compiled import ROOT

STAGES = ["ingest", "behavior", "train", "evaluate", "report"]
CPU, GPU = {"behavior": "cpu", "train": "cpu"}, {"behavior": "cpu", "train": "cuda"}
RUN = {"dataset": "xor_b", "algorithm": "inspo", "seeds": [0, 1], "data_hash": "aa.dir", "devices": CPU}
PLAN = f"""
import json, sys
from pathlib import Path
import pipelines.plan, pipelines.compile
from inspo_core.config.reading import load_params
params = load_params(Path("params.yaml"), ["experiment.datasets=[xor_b]"])
keys = pipelines.plan.experiment_keys(params, **{RUN!r})
pipelines.plan.benchmark_plan(params, {{"xor_b": "aa.dir"}}, {CPU!r})
print(json.dumps({{"keys": keys, "modules": sorted(sys.modules)}}))
"""


def keys(*overrides: str, **other) -> dict[str, str]:
    return experiment_keys(load_params(ROOT / "params.yaml", list(overrides)), **(RUN | other))


def differing(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [stage for stage in STAGES if before[stage] != after[stage]]


def changed(*overrides: str, **other) -> list[str]:
    return differing(keys(), keys(*overrides, **other))


def planned_in(place: Path, **environment: str) -> dict:
    """Keys, and the modules that making them has imported, with the code in ``place``."""
    command = [sys.executable, "-c", PLAN]
    ours = {name: value for name, value in os.environ.items() if not name.startswith("INSPO_")}
    done = subprocess.run(
        command, cwd=place, env=ours | {"PYTHONPATH": str(place)} | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what plans, to be changed and put back."""
    return copy_code(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def planned(checkout) -> dict:
    """What :func:`planned_in` says of the unchanged copy."""
    return planned_in(checkout, INSPO_IMAGE="registry.example/inspo@sha256:1")


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("ingest.sources.xor_b.env=mne", "ingest"),
        ("behavior.steps=100", "behavior"),
        ("train.inspo.alpha=0.3", "train"),
        ("train.gamma=0.9", "train"),
        ("train.iterations=5", "train"),
        ("train.evaluate_every=0", "train"),
        ("evaluate.episodes=5", "evaluate"),
    ],
)
def test_a_parameter_changes_its_stage_and_those_after_it(override, first):
    assert changed(override) == STAGES[STAGES.index(first) :]


@pytest.mark.parametrize(
    "override",
    [
        "train.omiga.alpha=3",  # another algorithm's
        "ingest.sources.xor_a.env=mne",  # another dataset's
        "experiment.seeds=[5]",  # the seeds are handed in
        "experiment.name=other",
        "variants.mine={algorithm: inspo, alpha: 3}",
        "behavior.device=cpu",  # the placement says what computes
        "train.device=cuda",
    ],
)
def test_what_a_run_does_not_use_changes_nothing(override):
    assert changed(override) == []


@pytest.mark.parametrize(
    ("other", "first"),
    [
        ({"data_hash": "bb.dir"}, "ingest"),
        ({"dataset": "xor_c"}, "ingest"),
        ({"seeds": [0]}, "behavior"),
        ({"devices": {"behavior": "cuda", "train": "cpu"}}, "behavior"),
        ({"algorithm": "bc"}, "train"),
        ({"algorithm": "inspo_product"}, "train"),
    ],
)
def test_data_devices_and_what_is_run_change_it(other, first):
    assert changed(**other) == STAGES[STAGES.index(first) :]


def test_a_gpu_for_training_changes_the_keys_from_training_on():
    placement = Placement.model_validate({"steps": {"train": {"gpu": {"count": 1}}}})
    devices = {step: placement.device(step) for step in ("behavior", "train")}
    assert devices == GPU and changed(devices=devices) == ["train", "evaluate", "report"]


def test_a_key_holds_the_name_of_the_code_that_its_task_needs():
    algorithm, game = ALGORITHMS["inspo"], GAMES["xor"]
    codes = {"behavior": code_of("behavior"), "train": code_of("train", algorithm, game), "evaluate": code_of("evaluate", game)}
    for stage, code in codes.items():
        assert keys()[stage].endswith(f"-{code.name}")
        check_planned(keys()[stage], code)
    with pytest.raises(InspoError, match="this step was planned with code"):
        check_planned(keys()["train"], codes["evaluate"])


@pytest.mark.parametrize(
    ("file", "old", "new", "first"),
    [
        ("inspo_core/datasets/card.py", "duplicate_rate", "duplicates", "ingest"),
        ("inspo_core/algorithms/behavior_estimation.py", "self._steps = 0", "self._steps = 1", "behavior"),
        ("inspo_core/algorithms/inspo/sweep.py", "self._sweep += 1", "self._sweep += 2", "train"),
        ("inspo_core/stages/evaluate.py", 'f"{quantity}_{mode}"', 'f"{mode}_{quantity}"', "evaluate"),
        ("inspo_core/report/tables.py", "table.md", "tables.md", "report"),
        ("inspo_core/algorithms/omiga.py", ".exp()", ".exp2()", None),
        ("inspo_core/envs/bridge.py", "self", "this", None),
        ("inspo_core/tracking/mlflow/runs.py", "self", "this", None),
        ("inspo_core/algorithms/inspo/sweep.py", '"""One sweep over all agents."""', '"""Other words."""  # and a comment', None),
    ],
)
def test_code_changes_the_stages_that_run_it(checkout, planned, file, old, new, first):
    path = checkout / file
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))
    try:
        after = planned_in(checkout)["keys"]
    finally:
        path.write_text(source)
    assert differing(planned["keys"], after) == (STAGES[STAGES.index(first) :] if first else [])


def test_another_image_changes_no_key(checkout, planned):
    assert planned_in(checkout, INSPO_IMAGE="registry.example/inspo@sha256:2")["keys"] == planned["keys"]


def test_planning_and_compiling_import_neither_torch_nor_what_plays_or_learns(planned):
    games = {game.target.partition(":")[0] for game in GAMES.values()}
    algorithms = {algorithm.target.partition(":")[0] for algorithm in ALGORITHMS.values()}
    assert {"torch", "mlflow", "dvc", "pandas", "scipy", "matplotlib", *games, *algorithms} & set(planned["modules"]) == set()


def test_a_benchmark_names_every_task_once():
    overrides = ["experiment.datasets=[xor_a, xor_b]", "experiment.algorithms=[inspo, bc]", "experiment.seeds=[0, 1, 2]"]
    params = load_params(ROOT / "params.yaml", overrides)
    plan = benchmark_plan(params, {"xor_a": "a", "xor_b": "aa.dir"}, CPU, seeds_per_task=2)
    assert [of_dataset["dataset"] for of_dataset in plan] == ["xor_a", "xor_b"]
    runs = [(run["algorithm"], run["seeds"]) for run in plan[1]["runs"]]
    assert runs == [("inspo", [0, 1]), ("inspo", [2]), ("bc", [0, 1]), ("bc", [2])]
    names = [of_dataset[stage] for of_dataset in plan for stage in ("ingest", "behavior")]
    names += [run[stage] for of_dataset in plan for run in of_dataset["runs"] for stage in ("train", "evaluate")]
    assert len(set(names)) == len(names) == 2 * 2 + 2 * 4 * 2
    assert plan[1]["ingest"] == keys()["ingest"]
    with pytest.raises(InspoError, match="chess"):
        benchmark_plan(load_params(ROOT / "params.yaml", ["experiment.datasets=[chess]"]), {"chess": "a"}, CPU)
