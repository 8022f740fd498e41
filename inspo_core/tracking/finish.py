"""The end of a pipeline: its run gets the true state, and no run below it stays RUNNING."""

from typing import Any

from inspo_core.errors import InspoError, warn
from inspo_core.tracking.description import experiment_record, pipeline_record
from inspo_core.tracking.handover import deliver_left
from inspo_core.tracking.mlflow.delivery import Delivery, patiently
from inspo_core.tracking.mlflow.server import Unreachable


def finish_pipeline(experiment: str, params: dict[str, Any], status: str | None, belonging: dict[str, str]) -> None:
    """End the pipeline's run with ``status`` (FINISHED, FAILED or KILLED; None: as :meth:`Runs.finish` finds it), after delivering what its
    machines have left in the store.

    Runs below it that are still RUNNING are those of machines that vanished, and end as KILLED. ``belonging``: tags (``dataset``,
    ``learner``) that tell them from those of another pipeline with the same parameters; while such ones run, so does the pipeline's run.
    A run that the orchestrator opened is left as it is. What cannot be done is a warning.
    """
    described = experiment_record(experiment)
    pipeline, delivery, troubles = pipeline_record(described, params), Delivery(warn), []

    def attempt() -> bool:
        try:
            try:
                deliver_left(delivery)
            except InspoError as error:
                warn(str(error))
            if not delivery.finish(described, pipeline, status, belonging):
                warn(f"MLflow at {delivery.place} has no run of this pipeline, so none is ended")
            return True
        except Unreachable as error:
            troubles.append(error)
            return False

    if not patiently(attempt):
        warn(f"MLflow at {delivery.place} takes no records now ({troubles[-1]}), so the pipeline's run is not ended there")
