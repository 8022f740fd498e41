"""What Kubeflow's executor is told at the end of a task: which artifacts the command has written, and what to show of them."""

import argparse
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from inspo_core.errors import InspoError, quoted
from inspo_core.files import write_json
from inspo_core.parsing import parse_json


class _Found(BaseModel):
    """What Kubeflow knows under the name of an output: descriptions of artifacts, of which the first counts."""

    artifacts: list[dict[str, Any]] = Field(min_length=1)


class _Outputs(BaseModel):
    """What is read of Kubeflow's description of a task."""

    outputFile: str
    artifacts: dict[str, _Found] = {}


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Add ``--executor-input``, for which Kubeflow puts in its description of the task."""
    parser.add_argument(
        "--executor-input", type=_described, metavar="JSON", help="Kubeflow's description of the task; other callers leave it out"
    )


def write_executor_output(arguments: argparse.Namespace, **metadata: dict[str, Any]) -> None:
    """Write ``executor_output.json`` where the description of the task says; nothing without one.

    ``metadata`` is shown with the output artifact of that name, e.g. the metrics of a ``dsl.Metrics``. Kubeflow's local runner
    hands only those artifacts to the next task that are named here; a cluster's launcher knows them anyway.
    """
    if arguments.executor_input is None:
        return
    outputs: _Outputs = arguments.executor_input
    artifacts = {name: found.artifacts[0] for name, found in outputs.artifacts.items()}
    for name, artifact in artifacts.items():
        artifact["metadata"] = artifact.get("metadata", {}) | metadata.get(name, {})
    write_json(Path(outputs.outputFile), {"artifacts": {name: {"artifacts": [artifact]} for name, artifact in artifacts.items()}})


def _described(text: str) -> _Outputs:
    described = parse_json(text, "--executor-input")
    try:
        return _Outputs.model_validate(described.get("outputs") if isinstance(described, dict) else None)
    except ValidationError as error:
        raise InspoError(f"--executor-input is {quoted(text)}, expected Kubeflow's JSON with outputs.outputFile") from error
