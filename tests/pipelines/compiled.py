"""The compiled pipelines as the tests of this folder see them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "pipelines" / "compiled"


def compile_pipelines(out: Path, *options: str, **environment: str) -> None:
    """Run the compile command."""
    inherited = {name: value for name, value in os.environ.items() if name != "INSPO_IMAGE"}
    command = [sys.executable, "-m", "pipelines.compile", "--out", out, *options]
    subprocess.run(command, cwd=ROOT, env=inherited | environment, check=True, capture_output=True, timeout=60)


def read(path: Path) -> tuple[dict, dict]:
    """The pipeline in a compiled file, and what it says to Kubernetes."""
    pipeline, platform = yaml.safe_load_all(path.read_text())
    return pipeline, platform


def containers(pipeline: dict) -> dict[str, dict]:
    """The container of each step."""
    return {name.removeprefix("exec-"): executor["container"] for name, executor in pipeline["deploymentSpec"]["executors"].items()}


def resolve(container: dict, paths: dict[str, Path], parameters: dict) -> list[str]:
    """A container's command line as Kubeflow's launcher makes it: placeholders replaced inside each argument, nothing else."""

    def replace(found: re.Match) -> str:
        if found["artifact"]:
            return str(paths[found["artifact"]])
        value = parameters[found["parameter"]]
        return value if isinstance(value, str) else json.dumps(value)

    pattern = r"\{\{\$\.(?:inputs|outputs)\.(?:artifacts\['(?P<artifact>\w+)'\]\.path|parameters\['(?P<parameter>\w+)'\])\}\}"
    described = json.dumps({"outputs": {"outputFile": "/executor_output.json"}})
    return [re.sub(pattern, replace, word).replace("{{$}}", described) for word in container["command"] + container["args"]]
