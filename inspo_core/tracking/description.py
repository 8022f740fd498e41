"""How a run is described: its place under a pipeline run, tags, parameters and dataset, as JSON values without secrets."""

import getpass
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspo_core.files import file_hash, hash_of
from inspo_core.identity import STAGE_WORK, code_of
from inspo_core.provenance import dvc_data_hash, provenance_tags
from inspo_core.redaction import redact
from inspo_core.tracking.process_identity import process_tags

_LONGEST = 5000  # characters of a tag or a parameter that are kept; MLflow refuses longer ones


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """A stage's run, as it is recorded.

    ``params``: what the run shows as parameters, nested or flat. ``inputs``: content hash of each input, by name.
    ``data``: description of the dataset (JSON values) for MLflow's dataset inputs; ``digest`` and ``source`` in it are used.
    ``pipeline``: all parameters; runs with the same ones, the same code and data belong to one pipeline run (None: params.yaml).
    ``tags``: more tags of the stage's own run.
    """

    stage: str
    experiment: str
    fingerprint: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    dataset: str | None = None
    algorithm: str | None = None
    variant: str | None = None
    data: Mapping[str, Any] | None = None
    pipeline: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def key_of(*identity: Any) -> str:
    """A short name for a run, from what makes it that run."""
    return hash_of(identity)[:16]


def common_tags() -> dict[str, str]:
    """The tags of every run of this process."""
    tags = provenance_tags() | process_tags() | {"mlflow.source.type": "JOB" if os.environ.get("KUBERNETES_SERVICE_HOST") else "LOCAL"}
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc_experiment"] = experiment
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):
        pass  # a container's numeric user has no name
    return tags


def experiment_record(name: str) -> dict[str, str | None]:
    """The experiment ``{"name", "id", "run_id"}`` that runs go to: MLFLOW_EXPERIMENT_NAME, _ID and RUN_ID come before ``name``."""
    return {
        "name": os.environ.get("MLFLOW_EXPERIMENT_NAME") or name,
        "id": os.environ.get("MLFLOW_EXPERIMENT_ID") or None,
        "run_id": os.environ.get("MLFLOW_RUN_ID") or None,
    }


def pipeline_record(experiment: dict[str, Any], params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The run above the stages: the orchestrator's ``{"run_id"}``, or one whose key says what is run.

    Stages with the same experiment, parameters (None: params.yaml), code and data share it, whoever starts them and when. Which datasets,
    algorithms and seeds are run does not count: it says which stages there are, and a step of a pipeline need not know it.
    """
    if experiment["run_id"]:
        return {"run_id": experiment["run_id"]}
    if params:
        params = {section: _lasting(values) if section == "experiment" else values for section, values in params.items()}
    file = Path("params.yaml")
    what = params if params is not None else file_hash(file) if file.exists() else None
    # New figures do not make a new pipeline run; what an algorithm or a game is made of tells the runs below it apart.
    code = {stage: code_of(stage).digest for stage in STAGE_WORK if stage != "report"}
    key = key_of(experiment["id"] or experiment["name"], what, code, dvc_data_hash())
    tags = {name: value for name, value in common_tags().items() if name not in ("host", "process")}
    return {
        "key": key,
        "name": " ".join(filter(None, ["pipeline", os.environ.get("DVC_EXP_NAME"), key[:7]])),
        "tags": texts({"level": "pipeline", "pipeline": key[:7]} | tags | {"mlflow.source.name": "pipeline"}),
        "params": flat(params or {}),
    }


def _lasting(experiment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in experiment.items() if key not in ("datasets", "algorithms", "seeds")}


def dataset_record(name: str, data: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, str]:
    """A dataset in the fields of MLflow's ``Dataset``; without a ``digest`` in ``data`` it is that of ``inputs``."""
    return {
        "name": name,
        "digest": str(data.get("digest") or key_of(inputs))[:8],
        "source_type": "local",
        "source": redact(json.dumps({"uri": str(data.get("source", ""))})),
        "profile": redact(json.dumps(dict(data))),
    }


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as ``section.key`` -> text; lists as JSON."""
    result: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return texts(result)


def texts(values: dict[str, str]) -> dict[str, str]:
    """Values fit for tags and parameters: without secrets, not too long."""
    return {key: redact(value)[:_LONGEST] for key, value in values.items()}
