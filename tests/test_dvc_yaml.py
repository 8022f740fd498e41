"""dvc.yaml against the code: what a stage runs is what makes DVC and the fingerprints run it again."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from inspo_core.config import Params, load_params
from inspo_core.fingerprint import STAGE_CODE

ROOT = Path(__file__).resolve().parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ENTRIES = {  # the function that makes a stage's result, without the wiring around it
    "ingest": "inspo_core/datasets/ingest.py",
    "behavior": "inspo_core/behavior.py",
    "train": "inspo_core/training.py",
    "evaluate": "inspo_core/evaluation.py",
    "report": "inspo_core/report/__init__.py",
}
# Code that can change no result: it reads, checks, names, stops and records.
WITHOUT_EFFECT = {
    "inspo_core/__init__.py",
    "inspo_core/algorithm_configs.py",
    "inspo_core/algorithm_configs.py",
    "inspo_core/config.py",
    "inspo_core/datasets/__init__.py",
    "inspo_core/datasets/validation.py",
    "inspo_core/errors.py",
    "inspo_core/files.py",
    "inspo_core/fingerprint.py",
    "inspo_core/stopping.py",
    "inspo_core/tracking/",
}
NOT_FOLLOWED = {"report": {"inspo_core/evaluation.py"}}  # of which it takes a reader alone; what plays the games is not run


def imported(file: Path) -> set[Path]:
    """The project's files that ``file`` imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = [ROOT / name.replace(".", "/") for name in names if name.startswith("inspo_core")]
    found = [place for path in paths for place in (path.with_suffix(".py"), path / "__init__.py")]
    return {place for place in found if place.exists()}


def reached(stage: str) -> set[str]:
    """The stage's own file, what it imports, and what that imports, except through code without effect."""
    seen, waiting = set(), [ROOT / ENTRIES[stage]]
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if name not in seen and not any(name.startswith(other) for other in WITHOUT_EFFECT):
            seen.add(name)
            waiting += imported(path) if name not in NOT_FOLLOWED.get(stage, ()) else ()
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_and_the_fingerprints_name_the_same_code(stage):
    assert [path for path in STAGES[stage]["deps"] if path.startswith("inspo_core/")] == STAGE_CODE[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_all_the_code_that_can_change_its_result(stage):
    files = reached(stage)
    assert ENTRIES[stage] in files and len(files) > 3
    unnamed = {name for name in files if not any(name == path or name.startswith(f"{path}/") for path in STAGE_CODE[stage])}
    assert not unnamed, f"add to STAGE_CODE and dvc.yaml, or say here that they have no effect: {sorted(unnamed)}"


def test_the_commands_are_the_components():
    for stage, entry in STAGES.items():
        assert entry["cmd"].startswith(f"python -m components.{stage} ")


def test_every_output_persists_so_that_finished_seeds_are_there_and_a_failure_leaves_what_was():
    for stage, entry in STAGES.items():
        (output,) = entry["outs"]
        assert isinstance(output, dict) and list(output.values()) == [{"persist": True}], stage


def test_every_parameter_that_changes_a_result_is_some_stages():
    named = {name.partition("$")[0].rstrip(".") for entry in STAGES.values() for name in entry["params"]}
    for section, values in load_params(ROOT / "params.yaml").model_dump().items():
        for key in values:
            known = section in named or f"{section}.{key}" in named
            assert known != (section == "experiment" and key == "name"), f"{section}.{key}"  # the name says only where runs are recorded


# experiments/dvc.yaml
EXPERIMENTS = yaml.safe_load((ROOT / "experiments/dvc.yaml").read_text())["stages"]


def test_an_experiment_depends_on_the_code_of_all_stages_and_on_its_own_parameters():
    entry = EXPERIMENTS["run"]
    code = {path for stage in STAGE_CODE.values() for path in stage}
    within = {path for path in code if any(path.startswith(f"{folder}/") for folder in code)}  # named with its folder
    own, named = "experiments/${item.name}.yaml", entry["deps"]
    assert set(named) == code - within | {"data", own} and named == sorted(named)
    assert set(entry["params"]) == set(Params.model_fields) - {"experiment"}
    assert entry["cmd"] == f"python -m pipelines.local {own}"
    assert entry["outs"] == [{"runs/${item.name}": {"cache": False, "persist": True}}]
    files = {path.stem for path in (ROOT / "experiments").glob("*.yaml")} - {"dvc"}
    assert set(entry["matrix"]["name"]) == files


def test_the_page_of_results_is_that_of_all_experiments():
    runs = [f"runs/{name}" for name in EXPERIMENTS["run"]["matrix"]["name"]]
    entry = EXPERIMENTS["page"]
    assert entry["cmd"] == f"python -m inspo_core.report.page {' '.join(runs)} --out docs/results.md"
    assert set(runs) == {path for path in entry["deps"] if path.startswith("runs/")}
    sections = re.findall("^## (.*)", (ROOT / "docs/results.md").read_text(), re.MULTILINE)
    assert sections == [Path(run).name for run in runs if Path(run).name in sections]
