"""The compiled pipeline's commands, run for real one after the other, each on the artifacts of those before it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from inspo_core.datasets.build import SETS
from inspo_core.datasets.format import write_dataset
from tests.pipelines.compiled import GOLDEN, ROOT, containers, resolve

SEEDS = [0, 1]
OVERRIDES = {
    "behavior.steps": 20,
    "behavior.check_every": 10,
    "train.device": "cpu",
    "train.iterations": 2,
    "train.evaluate_every": 1,
    "train.checkpoint_every": 1,
    "train.policy_steps": 2,
    "train.critic_steps": 2,
    "train.refit_steps": 2,
    "evaluate.episodes": 5,
    "report.bootstrap": 100,
}


def in_order(tasks: dict[str, dict]) -> list[str]:
    """Task names, each after the tasks that it depends on."""
    done: list[str] = []
    while len(done) < len(tasks):
        done += [name for name in tasks if name not in done and set(tasks[name].get("dependentTasks", [])) <= set(done)]
    return done


def run_pipeline(pipeline: dict, raw: Path, parameters: dict, root: Path) -> dict[tuple[str, str], Path]:
    """Run every task as Kubeflow does, in the folder ``root``: the path of each output artifact by task and name."""
    tasks = pipeline["root"]["dag"]["tasks"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    artifacts = {("importer", "artifact"): raw}
    for name in in_order(tasks):
        if name == "importer":
            continue
        inputs = tasks[name]["inputs"]
        sources = {key: source["taskOutputArtifact"] for key, source in inputs["artifacts"].items()}
        paths = {key: artifacts[source["producerTask"], source["outputArtifactKey"]] for key, source in sources.items()}
        for output in pipeline["components"][f"comp-{name}"]["outputDefinitions"]["artifacts"]:
            paths[output] = artifacts[name, output] = root / "artifacts" / name / output
            paths[output].parent.mkdir(parents=True)
        values = {key: parameters[source["componentInputParameter"]] for key, source in inputs["parameters"].items()}
        command = resolve(containers(pipeline)[name], paths, values)
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{name}: {done.stderr}"
    return artifacts


@pytest.mark.slow
def test_every_step_finds_what_the_steps_before_it_wrote(tmp_path):
    write_dataset(SETS["xor_c"](), tmp_path / "raw")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    parameters = {"dataset": "xor_c", "algorithm": "inspo", "seeds": SEEDS, "overrides": OVERRIDES}
    artifacts = run_pipeline(yaml.safe_load(GOLDEN.read_text()), tmp_path / "raw", parameters, tmp_path)

    for seed in SEEDS:
        place = Path("xor_c", "inspo", f"seed_{seed}")
        trained = json.loads((artifacts["train", "policies"] / place / "run.json").read_text())
        assert (trained["dataset"], trained["algorithm"], trained["seed"]) == ("xor_c", "inspo", seed)
        assert trained["config"]["iterations"] == 2
        assert (artifacts["evaluate", "evaluations"] / place / "metrics.json").exists()
    summary = (artifacts["report", "reports"] / "summary.csv").read_text()
    assert "xor_c" in summary and "inspo" in summary and "bridge" not in summary
