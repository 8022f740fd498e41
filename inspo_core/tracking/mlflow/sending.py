"""Turns one journal's operations into MLflow calls. Repeating an operation that was sent before changes nothing."""

import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo_core.tracking.journal import Journal
from inspo_core.tracking.mlflow import model, registry
from inspo_core.tracking.mlflow.runs import MODEL, Runs
from inspo_core.tracking.mlflow.server import reason

if TYPE_CHECKING:
    from mlflow.entities import Metric

BATCH = 1000  # metric values in one request: MLflow's limit

# Errors of one operation, which no repetition mends; all others are troubles of the store.
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}


class Replay:
    """Sends one journal to one store, and notes in the journal's state how far it came."""

    def __init__(self, journal: Journal, runs: Runs, store: str, warn: Callable[[str], None]):
        """``store`` names the store; a state that belongs to another one does not count. ``warn`` takes one sentence."""
        self._journal, self._runs, self._client, self._warn = journal, runs, runs.client, warn
        known = journal.state
        self._state: dict[str, Any] = known if known.get("store") == store else {"store": store, "position": 0}
        self._batch: list[Metric] = []

    def send(self, *, end: bool) -> None:
        """Send what was not sent; ``end=False`` holds back what ends the run, and the registrations, which need the models of other runs.

        What is left of a run that was deleted is dropped. Raises what the store raises; then a later call goes on from there.
        """
        position = self._state["position"]
        deleted = "run_id" in self._state and self._runs.is_deleted(self._run_id)
        if deleted:
            self._warn(f"the run of {self._journal.folder.name} was deleted in MLflow, so the rest of its records is dropped")
        for operation, after in self._journal.operations(position):
            deleted = deleted and operation["op"] != "begin"  # a stage that is run again makes a new run
            if deleted and operation["op"] != "end":
                pass
            elif operation["op"] == "points":
                points = self._new_points(operation)
                if len(self._batch) + len(points) > BATCH:
                    self._flush(position)
                self._batch += points
            else:
                self._flush(position)
                if not end and (operation["op"] == "register" or (operation["op"] == "end" and after == self._journal.size())):
                    return
                if not deleted:
                    getattr(self, f"_{operation['op']}")(operation)
                if operation["op"] == "end" and (pipeline := self._state["pipeline_run_id"]):
                    self._runs.settle(pipeline, self._state["experiment_id"])
                self._flush(after)
            position = after
        self._flush(position)

    def _flush(self, position: int) -> None:
        batch, self._batch = self._batch, []
        for start in range(0, len(batch), BATCH):
            metrics = batch[start : start + BATCH]
            self._unless_refused("metrics", lambda: self._runs.log_metrics(self._run_id, metrics))
        self._state["position"] = position
        self._journal.state = self._state

    @property
    def _run_id(self) -> str:
        return self._state["run_id"]

    def _unless_refused(self, what: str, act: Callable[[], Any]) -> None:
        from mlflow.exceptions import MlflowException

        try:
            act()
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            self._warn(f"MLflow refuses {what} of {self._journal.folder.name} ({reason(error)}); the run goes without")

    def _begin(self, operation: dict[str, Any]) -> None:
        experiment = self._runs.experiment(operation["experiment"])
        parent = self._runs.parent(operation, experiment)
        tags = operation["tags"] | ({"mlflow.parentRunId": parent} if parent else {})
        tags |= {MODEL: operation["model"]} if operation["model"] else {}
        key, name, start = operation["key"], operation["name"], operation["time"]
        run, found = self._runs.find_or_create(experiment, key, name, tags, start, operation["shared"])
        self._state.pop("model_id", None)
        self._state |= {
            "run_id": run.info.run_id,
            "experiment_id": experiment,
            "is_stage": operation["pipeline"] is not None,
            "pipeline_run_id": parent if operation["pipeline"] and "key" in operation["pipeline"] else None,
            "found": found,
            "dataset": operation["dataset"] and {f"dataset_{key}": operation["dataset"][key] for key in ("name", "digest")},
            "model": operation["model"],
        }
        if found:
            self._runs.reopen(run, tags)
        self._unless_refused("parameters", lambda: self._runs.log_params(run, operation["params"]))
        if operation["dataset"]:
            self._unless_refused("the dataset", lambda: self._runs.log_dataset(self._run_id, operation["dataset"], tags["stage"]))
        self._use_model()

    def _use_model(self) -> None:
        """Link the run and the model that it uses, if the store has that by now; :meth:`_model` does it when the model comes later."""
        fingerprint = self._state.get("model")
        if fingerprint and "model_id" not in self._state:
            experiment = self._state["experiment_id"]
            if logged := registry.logged_model(self._client, experiment, fingerprint):
                self._runs.use_model(self._run_id, logged.model_id)
                self._state["model_id"] = logged.model_id

    def _new_points(self, operation: dict[str, Any]) -> list["Metric"]:
        from mlflow.entities import Metric

        # A run that was there before (stopped and gone on with, or repeated) has its points under other times.
        existing = self._runs.existing_points(self._run_id) if self._state["found"] else ()
        named = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in operation["values"].items()}
        belonging = self._belonging() if operation["op"] == "final" else {}
        return [
            # MLflow stores infinity as 1.8e308, beside which the rest of a curve is flat; NaN is left out of the chart.
            Metric(name, value if math.isfinite(value) else math.nan, operation["time"], operation["step"], **belonging)
            for name, value in named.items()
            if (name, operation["step"]) not in existing
        ]

    def _belonging(self) -> dict[str, Any]:
        model_id = self._state.get("model_id")
        return {"model_id": model_id, "run_id": self._run_id} | (self._state["dataset"] or {}) if model_id else {}

    def _final(self, operation: dict[str, Any]) -> None:
        self._use_model()
        self._batch = self._new_points(operation)

    def _artifact(self, operation: dict[str, Any]) -> None:
        kept = self._journal.kept(operation["name"])
        self._client.log_artifact(self._run_id, str(kept), kept.name if kept.is_dir() else None)

    def _model(self, operation: dict[str, Any]) -> None:
        from mlflow.entities import LoggedModelOutput

        experiment = self._state["experiment_id"]
        same = f"source_run_id = '{self._run_id}' AND tags.policy = '{operation['tags']['policy']}'"
        logged = next(iter(self._client.search_logged_models([experiment], filter_string=same, max_results=1)), None)
        if logged is None:
            logged = self._client.create_logged_model(
                experiment, operation["name"], self._run_id, operation["tags"], operation["params"], model_type="policy"
            )
        if str(logged.status) != "READY":
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) / "model"
                model.write(self._journal.kept(operation["folder"]), folder, logged.model_id, self._run_id, logged.artifact_location)
                self._client.log_model_artifacts(logged.model_id, str(folder))
            self._client.finalize_logged_model(logged.model_id, "READY")
        outputs = self._client.get_run(self._run_id).outputs
        if logged.model_id not in [output.model_id for output in (outputs and outputs.model_outputs) or []]:
            self._client.log_outputs(self._run_id, [LoggedModelOutput(logged.model_id, operation["step"])])
        self._state["model_id"] = logged.model_id
        for run in self._runs.that_use(operation["tags"]["fingerprint"], experiment):
            self._runs.use_model(run.info.run_id, logged.model_id)
        registry.register_waiting(self._client, experiment, operation["tags"]["fingerprint"])

    def _register(self, operation: dict[str, Any]) -> None:
        if problem := registry.register(self._client, self._state["experiment_id"], operation["choice"]):
            self._warn(problem)

    def _end(self, operation: dict[str, Any]) -> None:
        self._use_model()  # the model may have come while the final metrics were on the way
        may_wait = self._state["is_stage"] and operation["status"] == "FINISHED"
        if may_wait and (other := self._runs.running_child(self._run_id, self._state["experiment_id"])):
            self._runs.hand_over(self._run_id, other)
        else:
            self._client.set_terminated(self._run_id, operation["status"], operation["time"])
