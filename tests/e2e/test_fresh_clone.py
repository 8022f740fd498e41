"""What a stranger finds in a fresh clone of the last commit before anything has run there."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.clone import ROOT, Clone


@pytest.fixture(scope="module")
def pulled(tmp_path_factory) -> Clone:
    """A clone of the project as it is in the working tree, with its data and recorded outputs."""
    place = tmp_path_factory.mktemp("fresh") / "inspo"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    for name in subprocess.check_output(["git", "ls-files", "-z", "--modified"], cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).exists():
            shutil.copy2(ROOT / name, place / name)
    clone = Clone(place)
    clone.dvc("pull")
    return clone


@pytest.fixture
def clone(pulled, tmp_path) -> Clone:
    return pulled.copy(tmp_path / "inspo")


def test_everything_is_up_to_date(pulled):
    assert pulled.dvc("status").strip() == "Data and pipelines are up to date."
    assert pulled.repro() == set()


def test_metrics_and_plots_are_there_at_once(pulled):
    metrics = json.loads(pulled.dvc("metrics", "show", "--json"))
    assert "bridge_mixed" in json.dumps(metrics)
    assert pulled.dvc("metrics", "diff", "HEAD").strip() == ""
    page = pulled.dvc("plots", "show").strip().removeprefix("file://")
    assert "returns.png" in Path(page).read_text()


def test_code_that_means_the_same_leaves_it_clean(clone):
    networks = clone.path / "inspo_core/algorithms/networks.py"
    networks.write_text("# A comment.\n" + networks.read_text().replace('"""Networks of all agents', '"""All networks of the agents'))
    (clone.path / "inspo_core/envs/another.py").write_text("NEW = True\n")
    clone.run("python", "-m", "inspo_core.code_hashes")
    assert clone.changed_stages() == set()


def test_a_changed_formula_is_refused_until_it_is_recorded_and_then_changes_what_it_can_reach(clone):
    cloning = clone.path / "inspo_core/algorithms/bc.py"
    before = cloning.read_text()
    cloning.write_text(before.replace("losses.mean(1)", "(2 * losses.mean(1))"))
    assert cloning.read_text() != before
    shutil.rmtree(clone.path / "runs/train/xor_a/bc")
    refused = clone.run("dvc", "repro", "train@xor_a-bc", check=False)
    assert refused.returncode != 0 and "code.yaml is out of date: train.bc is " in refused.stderr
    clone.run("python", "-m", "inspo_core.code_hashes")
    changed = {name for name in clone.changed_stages() if not name.endswith(("evaluate", "report"))}
    assert {name for name in changed if name.startswith(("ingest", "behavior")) or name.endswith("-inspo")} == set()
    assert {name for name in changed if name.startswith("train")} == {f"train@{dataset}-bc" for dataset in datasets(clone)}


def datasets(clone: Clone) -> list[str]:
    return [path.name for path in (clone.path / "runs/ingest").iterdir()]
