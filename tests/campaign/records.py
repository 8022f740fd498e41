"""All that MLflow holds of an experiment, read through its client, without what differs between two runs that are the same."""

import hashlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo_core.tracking.mlflow.server import connect

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# What says when, where and by whom: times, machines and MLflow's own ids.
PASSING_TAGS = ("host", "process", "mlflow.parentRunId", "mlflow.user", "mlflow.log-model.history", "mlflow.loggedModelId")
COUNTED = ("points", "metrics")  # how often each is there
LEVELS = ("level", "stage", "dataset", "algorithm", "variant", "seed")


def read_records(database: Path) -> dict[str, Any]:
    """What the store at ``database`` says, by name of run, model and registered model, as JSON values; equal for equal experiments."""
    with tempfile.TemporaryDirectory() as place:  # MLflow keeps connections to a file by its name, also when there is another one
        for file in database.parent.glob(f"{database.name}*"):
            shutil.copyfile(file, Path(place) / file.name)
        return _read(connect(f"sqlite:///{place}/{database.name}"))


def _read(client: "MlflowClient") -> dict[str, Any]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=50_000)
    names = {run.info.run_id: " ".join(run.data.tags.get(tag, "-") for tag in LEVELS) for run in runs}
    models = {model.model_id: model for model in client.search_logged_models(experiments, max_results=1000)}
    of_models = {model.model_id: f"model of {names.get(model.source_run_id, 'no run')}" for model in models.values()}
    records: dict[str, Any] = {}
    for run in runs:
        history = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
        inputs, outputs = run.inputs, run.outputs
        add(records, names[run.info.run_id], {
            "status": run.info.status,
            "has an end": run.info.end_time is not None,
            "parent": names.get(run.data.tags.get("mlflow.parentRunId", ""), ""),
            "tags": {name: value for name, value in run.data.tags.items() if name not in PASSING_TAGS},
            "parameters": dict(run.data.params),
            "points": dict(Counter(f"{point.key} {point.step} {point.value!r}" for point in history)),
            "artifacts": hashes(client, run.info.run_id),
            "datasets": sorted(f"{given.dataset.name} {given.dataset.digest}" for given in inputs.dataset_inputs),
            "models used": sorted(of_models.get(given.model_id, "unknown") for given in inputs.model_inputs),
            "models made": sorted(of_models.get(made.model_id, "unknown") for made in (outputs.model_outputs if outputs else [])),
        })  # fmt: skip
    for model in models.values():
        place = Path(model.artifact_location.removeprefix("file://"))
        files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != "MLmodel")  # which holds times and ids
        add(records, of_models[model.model_id], {
            "status": str(model.status),
            "name": model.name,
            "tags": {name: value for name, value in model.tags.items() if not name.startswith("mlflow.")},
            "parameters": dict(model.params),
            "metrics": dict(Counter(f"{metric.key} {metric.step} {metric.value!r}" for metric in model.metrics or [])),
            "files": {path.relative_to(place).as_posix(): digest(path) for path in files},
        })  # fmt: skip
    for registered in client.search_registered_models():
        versions = client.search_model_versions(f"name = '{registered.name}'")
        add(records, f"registered model {registered.name}", {
            "versions": sorted(f"{version.version} of {names.get(version.run_id, 'no run')}" for version in versions),
            "aliases": dict(registered.aliases),
        })  # fmt: skip
    return records


def add(records: dict[str, Any], name: str, record: dict[str, Any]) -> None:
    while name in records:
        name += " (again)"
    records[name] = record


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def hashes(client: "MlflowClient", run_id: str, folder: str | None = None) -> dict[str, str]:
    """The run's artifacts by path; they lie in a folder of this machine."""
    found: dict[str, str] = {}
    root = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    for file in client.list_artifacts(run_id, folder):
        found |= hashes(client, run_id, file.path) if file.is_dir else {file.path: digest(root / file.path)}
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What ``found`` has not as ``expected``, a line each; points that are lost and points that are doubled are counted."""
    said = [f"{name}: missing" for name in expected if name not in found]
    said += [f"{name}: one too many" for name in found if name not in expected]
    for name in [name for name in expected if name in found]:
        for part, value in expected[name].items():
            other = found[name][part]
            if part in COUNTED:
                if lost := Counter(value) - Counter(other):
                    said.append(f"{name}: {lost.total()} of {sum(value.values())} {part} lost, such as {next(iter(lost))}")
                if more := Counter(other) - Counter(value):
                    said.append(f"{name}: {more.total()} {part} too many, such as {next(iter(more))}")
            elif isinstance(value, dict):
                keys = sorted(key for key in {*value, *other} if value.get(key) != other.get(key))
                said += [f"{name}: {part} {key} is {other.get(key, 'missing')}, expected {value.get(key, 'none')}" for key in keys]
            elif value != other:
                said.append(f"{name}: {part} is {other}, expected {value}")
    return said
