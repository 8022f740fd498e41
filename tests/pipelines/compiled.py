"""The compiled pipeline as the tests of this folder see it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "pipelines" / "experiment.yaml"


def compile_pipeline(out: Path, *options: str, **environment: str) -> dict:
    """Run the compile command and return the pipeline that it wrote."""
    inherited = {name: value for name, value in os.environ.items() if name != "INSPO_IMAGE"}
    command = [sys.executable, "-m", "pipelines.compile", "--out", out, *options]
    subprocess.run(command, cwd=ROOT, env=inherited | environment, check=True, capture_output=True, timeout=60)
    (pipeline,) = yaml.safe_load_all(out.read_text())
    return pipeline


def containers(pipeline: dict) -> dict[str, dict]:
    """The container of each stage."""
    executors = pipeline["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items() if "container" in executor}


def resolve(container: dict, paths: dict[str, Path], parameters: dict) -> list[str]:
    """A container's command line as Kubeflow's launcher makes it: placeholders replaced inside each argument, nothing else."""

    def replace(found: re.Match) -> str:
        if found["artifact"]:
            return str(paths[found["artifact"]])
        value = parameters[found["parameter"]]
        return value if isinstance(value, str) else json.dumps(value)

    pattern = r"\{\{\$\.(?:inputs|outputs)\.(?:artifacts\['(?P<artifact>\w+)'\]\.path|parameters\['(?P<parameter>\w+)'\])\}\}"
    return [re.sub(pattern, replace, word) for word in container["command"] + container["args"]]
