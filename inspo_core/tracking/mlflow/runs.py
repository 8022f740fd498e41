"""Finding, making and ending runs in an MLflow store; a run's identity is its tag ``inspo.key``."""

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from inspo_core.tracking.mlflow.server import Refused, artifact_location

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from mlflow.tracking import MlflowClient

KEY = "inspo.key"
MODEL = "inspo.model"  # tag of a run that uses a policy: the fingerprint of its training
FINAL = "final/"
PROCESS = ("host", "process")  # tags that say who writes a run

# On a server, two machines may make the same run at once: both wait this long, longer if the server is slow, look again and take the
# older one.
SETTLE_SECONDS = 0.5
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # the view with runs, charts and models
    "mlflow.note.content": "To compare algorithms, filter by `tags.level='algorithm'` and open the chart view; `report.html` among the "
    "artifacts of the run `report` has tables and figures. A pipeline run holds a run for each stage, and that one for each seed. For "
    "learning curves, filter by `tags.stage='train' and tags.level='seed' and tags.dataset='bridge_mixed'` and group by the tag `learner`.",
}
_CHILDREN = 50_000  # MLflow's limit of one search
PARAMETERS = 100  # MLflow's limit of one request


class Runs:
    """The runs of one store. Every method may raise whatever the store raises."""

    def __init__(self, client: "MlflowClient", uri: str):
        self.client = client
        self._uri = uri
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered of the store."""
        self._experiments: dict[str, str] = {}
        self._existing: dict[str, set[tuple[str, int]]] = {}

    def experiment(self, wanted: dict[str, Any]) -> str:
        """The id of the experiment ``{"name", "id", "run_id"}``: given, or that of the run, or the one of that name, made if missing."""
        if wanted["id"]:
            return wanted["id"]
        name = wanted["run_id"] or wanted["name"]
        if name not in self._experiments:
            if wanted["run_id"]:
                self._experiments[name] = self.client.get_run(name).info.experiment_id
            else:
                self._experiments[name] = self._named_experiment(name)
        return self._experiments[name]

    def _named_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name, artifact_location(self._uri, name), _EXPERIMENT_TAGS)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            raise Refused(f"its experiment {name!r} is deleted; restore it there, or choose another experiment.name")
        return found.experiment_id

    def parent(self, operation: dict[str, Any], experiment: str) -> str | None:
        """The run under which a ``begin`` operation's run belongs; a pipeline run that is not there yet is made.

        A parent that an orchestrator has opened is taken as it is. None if a seed's stage run is not in the store, and for a run
        that belongs under no other.
        """
        pipeline = operation["pipeline"]
        if pipeline is None:
            run = self._find(experiment, operation["stage_key"]) if operation["stage_key"] else None
            return run.info.run_id if run else None
        if "run_id" in pipeline:
            return pipeline["run_id"]
        run, found = self.find_or_create(experiment, pipeline["key"], pipeline["name"], pipeline["tags"], operation["time"], shared=True)
        if found:
            self.client.update_run(run.info.run_id, status="RUNNING")
        self.log_params(run, pipeline["params"])
        return run.info.run_id

    def log_params(self, run: "Run", params: dict[str, str]) -> None:
        """Log the parameters that ``run`` does not have; MLflow refuses to change one."""
        from mlflow.entities import Param

        missing = [Param(key, value) for key, value in params.items() if key not in run.data.params]
        for start in range(0, len(missing), PARAMETERS):
            some = missing[start : start + PARAMETERS]
            _despite_others(lambda: self.client.log_batch(run.info.run_id, params=some, synchronous=True))

    def log_dataset(self, run_id: str, dataset: dict[str, str], context: str) -> None:
        """Log a dataset as a run's input; ``dataset`` has the fields of MLflow's ``Dataset``."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [DatasetInput(Dataset(**dataset), [InputTag("mlflow.data.context", context)])]
        _despite_others(lambda: self.client.log_inputs(run_id, inputs))

    def reopen(self, run: "Run", tags: dict[str, str]) -> None:
        """Set a run to RUNNING under another process."""
        from mlflow.entities import RunTag

        self.client.update_run(run.info.run_id, status="RUNNING")
        self.client.log_batch(run.info.run_id, tags=[RunTag(*item) for item in tags.items()], synchronous=True)

    def existing_points(self, run_id: str) -> set[tuple[str, int]]:
        """The (metric, step) pairs that the run has."""
        if run_id not in self._existing:
            names = self.client.get_run(run_id).data.metrics
            history = [point for name in names for point in self.client.get_metric_history(run_id, name)]
            self._existing[run_id] = {(point.key, point.step) for point in history}
        return self._existing[run_id]

    def log_metrics(self, run_id: str, metrics: list["Metric"]) -> None:
        """Log points, at most MLflow's limit of one request."""
        self.client.log_batch(run_id, metrics=metrics, synchronous=True)
        if run_id in self._existing:
            self._existing[run_id] |= {(point.key, point.step) for point in metrics}

    def use_model(self, run_id: str, model_id: str) -> None:
        """Make a model an input of a run, and show the run's final metrics on the model's page. Repeating it changes nothing."""
        from mlflow.entities import LoggedModelInput, Metric

        run = self.client.get_run(run_id)
        of_dataset = {}
        if run.inputs and run.inputs.dataset_inputs:
            dataset = run.inputs.dataset_inputs[0].dataset
            of_dataset = {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
        finals = [
            Metric(point.key, point.value, point.timestamp, point.step, model_id=model_id, run_id=run_id, **of_dataset)
            for name in run.data.metrics
            if name.startswith(FINAL)
            for point in self.client.get_metric_history(run_id, name)
        ]
        if finals:
            self.client.log_batch(run_id, metrics=finals, synchronous=True)
        if model_id not in [used.model_id for used in (run.inputs and run.inputs.model_inputs) or []]:
            _despite_others(lambda: self.client.log_inputs(run_id, models=[LoggedModelInput(model_id)]))

    def that_use(self, fingerprint: str, experiment: str) -> list["Run"]:
        """The runs of an experiment that use the policy with that fingerprint."""
        return self._search(experiment, f"tags.`{MODEL}` = '{fingerprint}'")

    def find_or_create(self, experiment: str, key: str, name: str, tags: dict[str, str], start: int, shared: bool) -> tuple["Run", bool]:
        """The run with that key, and whether it was there.

        ``shared``: other processes may look for it at the same moment; they all get the same run.
        """
        if not shared:
            found = self._find(experiment, key)
            return (found, True) if found else (self._create(experiment, key, name, tags, start), False)
        before = time.monotonic()
        if found := self._find(experiment, key):
            return found, True
        made = self._create(experiment, key, name, tags, start)
        if not self._uri.startswith("http"):
            return made, False
        time.sleep(max(SETTLE_SECONDS, 2 * (time.monotonic() - before)))
        eldest = self._find(experiment, key) or made
        if eldest.info.run_id == made.info.run_id:
            return made, False
        self.client.delete_run(made.info.run_id)
        return eldest, True

    def _find(self, experiment: str, key: str) -> "Run | None":
        found = self.client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=10, order_by=["attributes.start_time ASC"])
        return min(found, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    def _create(self, experiment: str, key: str, name: str, tags: dict[str, str], start: int) -> "Run":
        return self.client.create_run(experiment, start, tags | {KEY: key}, name)

    def is_deleted(self, run_id: str) -> bool:
        """Whether somebody has deleted the run, which MLflow keeps but does not change any more."""
        return self.client.get_run(run_id).info.lifecycle_stage == "deleted"

    def running_child(self, run_id: str, experiment: str) -> "Run | None":
        """A run under this one that is RUNNING."""
        return next((child for child in self._children(run_id, experiment) if child.info.status == "RUNNING"), None)

    def hand_over(self, stage_id: str, seed: "Run") -> None:
        """Leave a stage's run to the process of one of its seeds, which will end it."""
        from mlflow.entities import RunTag

        tags = [RunTag(name, seed.data.tags[name]) for name in PROCESS if name in seed.data.tags]
        self.client.log_batch(stage_id, tags=tags, synchronous=True)

    def settle(self, run_id: str, experiment: str) -> None:
        """Give a pipeline run the status that its stages have together; of a stage that ran twice, the later run counts.

        A pipeline run that was deleted stays as it is.
        """
        latest = {}
        for child in sorted(self._children(run_id, experiment), key=lambda child: child.info.start_time):
            latest[tuple(child.data.tags.get(tag) for tag in ("stage", "dataset", "algorithm", "variant"))] = child.info.status
        statuses = set(latest.values())
        if "RUNNING" not in statuses and not self.is_deleted(run_id):
            self.client.set_terminated(run_id, next((bad for bad in ("FAILED", "KILLED") if bad in statuses), "FINISHED"))

    def finish(self, experiment: str, pipeline: dict[str, Any], status: str | None, belonging: dict[str, str]) -> bool:
        """End a pipeline's run with ``status``, and as KILLED the runs of its stages and seeds that are RUNNING; False without such a run.

        Without a status it gets the one that its stages have together, or FAILED if none of them is a finished report.

        ``pipeline``: as :func:`pipeline_record` describes it. ``belonging``: tags; a run with another value of one is not ended, and keeps
        the pipeline's run as it is. An orchestrator's run, and those that it opened beside it for other steps, are left as they are.
        """
        if "key" in pipeline:
            run, names = self._find(experiment, pipeline["key"]), [pipeline["tags"]["pipeline"]]
            if run is None:
                return False
        else:
            run, above = None, self.client.get_run(pipeline["run_id"]).data.tags.get("mlflow.parentRunId", pipeline["run_id"])
            names = [above, *(child.info.run_id for child in self._children(above, experiment))]
        others = False
        for name in names:
            left_running = f"attributes.status = 'RUNNING' and tags.pipeline = '{name}' and tags.level != 'pipeline'"
            for left in self._search(experiment, left_running):
                if all(left.data.tags.get(tag, value) == value for tag, value in belonging.items()):
                    self.client.set_terminated(left.info.run_id, "KILLED")
                else:
                    others = True
        if run and status is None and not self._has_report(run.info.run_id, experiment):
            status = "FAILED"
        if run and not others and status is None:
            self.settle(run.info.run_id, experiment)
        elif run and not others and run.info.status != status:
            self.client.set_terminated(run.info.run_id, status)
        return True

    def _has_report(self, run_id: str, experiment: str) -> bool:
        children = self._children(run_id, experiment)
        return any(child.data.tags.get("stage") == "report" and child.info.status == "FINISHED" for child in children)

    def _children(self, run_id: str, experiment: str) -> list["Run"]:
        return self._search(experiment, f"tags.`mlflow.parentRunId` = '{run_id}'")

    def _search(self, experiment: str, filters: str) -> list["Run"]:
        return self.client.search_runs([experiment], filters, max_results=_CHILDREN)

    def reap(self, experiment: str, is_gone: Callable[[str, str], bool]) -> None:
        """Set runs to KILLED that are RUNNING although their process is gone, and settle the pipelines above them."""
        filters = f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"
        parents: set[str] = set()
        for run in self._search(experiment, filters):
            tags = run.data.tags
            if KEY in tags and is_gone(tags["host"], tags.get("process", "")):
                now = self.client.get_run(run.info.run_id)  # before it went, its process may have ended the run, or handed it over
                if now.info.status == "RUNNING" and all(now.data.tags.get(name) == tags.get(name) for name in PROCESS):
                    self.client.set_terminated(run.info.run_id, "KILLED")
                    parents |= {tags["mlflow.parentRunId"]} if "mlflow.parentRunId" in tags else set()
        for parent in parents:
            if self.client.get_run(parent).data.tags.get("level") == "pipeline":
                self.settle(parent, experiment)


def _despite_others(write: Callable[[], object]) -> None:
    """Write what other processes may write at the same moment.

    MLflow looks what is there and writes the rest, so the database refuses it to one of two; that one finds it there the next time.
    """
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write()
