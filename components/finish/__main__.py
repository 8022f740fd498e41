"""``python -m components.finish``: end a pipeline's run in MLflow with the state that the pipeline ended in."""

import json

from components.cli import params_of, run, stage_parser
from inspo_core.errors import InspoError
from inspo_core.tracking.finish import finish_pipeline
from inspo_core.tracking.tracker import warn

# Kubeflow's states, and MLflow's for them.
STATES = {"SUCCEEDED": "FINISHED", "FAILED": "FAILED", "ERROR": "FAILED", "CANCELED": "KILLED", "CANCELLED": "KILLED"}


def main() -> None:
    parser = stage_parser("finish", "End a pipeline's run in MLflow, and the runs below it that vanished machines left running.")
    parser.add_argument("--status", required=True, metavar="STATE", help=f"{', '.join(STATES)}, or Kubeflow's JSON with one as state")
    parser.add_argument("--dataset", default="", help="the pipeline's dataset, if it has but one")
    parser.add_argument("--algorithm", default="", help="its algorithm or variant, if it has but one")
    arguments = parser.parse_args()
    params, status = params_of(arguments), _status(arguments.status)
    belonging = {"dataset": arguments.dataset, "learner": arguments.algorithm}
    named = {tag: value for tag, value in belonging.items() if value}
    finish_pipeline(params.experiment.name, params.model_dump(mode="json"), status, named)


def _status(text: str) -> str:
    """MLflow's state for Kubeflow's, which is a word or a PipelineTaskFinalStatus in JSON."""
    state = text
    if text.lstrip().startswith("{"):
        try:
            state = json.loads(text)["state"]
        except (ValueError, KeyError) as error:
            raise InspoError(f"--status is {text[:80]!r}, expected Kubeflow's JSON with a state") from error
    if str(state).upper() not in STATES:
        warn(f"--status is {state!r}, not one of {', '.join(STATES)}; taken as a pipeline that was stopped")
    return STATES.get(str(state).upper(), "KILLED")


if __name__ == "__main__":
    run(main)
