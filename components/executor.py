"""What Kubeflow's executor is told at the end of a task: which artifacts the command has written, and what to show of them."""

import argparse
import json
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError
from inspo_core.files import write_json


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
    outputs = arguments.executor_input["outputs"]
    artifacts = {name: found["artifacts"][0] for name, found in outputs.get("artifacts", {}).items()}
    for name, artifact in artifacts.items():
        artifact["metadata"] = artifact.get("metadata", {}) | metadata.get(name, {})
    write_json(Path(outputs["outputFile"]), {"artifacts": {name: {"artifacts": [artifact]} for name, artifact in artifacts.items()}})


def _described(text: str) -> dict[str, Any]:
    try:
        described = json.loads(text)
        described["outputs"]["outputFile"]
    except (ValueError, KeyError, TypeError) as error:
        raise InspoError(f"--executor-input is {text[:80]!r}, expected Kubeflow's JSON with outputs.outputFile") from error
    return described
