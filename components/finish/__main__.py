"""``python -m components.finish``: end a pipeline's run in MLflow with the state that the pipeline ended in."""

from components.cli import params_of, stage_parser
from inspo_core.command import run
from inspo_core.errors import InspoError, quoted, warn
from inspo_core.parsing import parse_json
from inspo_core.tracking.finish import finish_pipeline

# MLflow's states for those of Kubeflow's runs, and for those of ML Metadata, which Kubeflow 2.17's exit handlers are told.
STATES = {
    "SUCCEEDED": "FINISHED",
    "COMPLETE": "FINISHED",
    "CACHED": "FINISHED",
    "FAILED": "FAILED",
    "ERROR": "FAILED",
    "CANCELED": "KILLED",
    "CANCELLED": "KILLED",
}
# What ML Metadata still says of a pipeline whose last step came from Kubeflow's cache, or in which a pod could not be made.
UNDECIDED = ("RUNNING", "NEW", "UNKNOWN")


def main() -> None:
    parser = stage_parser("finish", "End a pipeline's run in MLflow, and the runs below it that vanished machines left running.")
    known = ", ".join([*STATES, *UNDECIDED])
    parser.add_argument("--status", required=True, metavar="STATE", help=f"{known}, or Kubeflow's JSON with one as state")
    parser.add_argument("--dataset", default="", help="the pipeline's dataset, if it has but one")
    parser.add_argument("--algorithm", default="", help="its algorithm or variant, if it has but one")
    arguments = parser.parse_args()
    params, status = params_of(arguments), _status(arguments.status)
    belonging = {"dataset": arguments.dataset, "learner": arguments.algorithm}
    named = {tag: value for tag, value in belonging.items() if value}
    finish_pipeline(params.experiment.name, params.model_dump(mode="json"), status, named)


def _status(text: str) -> str | None:
    """MLflow's state for Kubeflow's, which is a word or a PipelineTaskFinalStatus in JSON; None where that does not say how it ended."""
    state = text
    if text.lstrip().startswith("{"):
        try:
            state = parse_json(text, "--status")["state"]
        except KeyError as error:
            raise InspoError(f"--status is {quoted(text)}, expected Kubeflow's JSON with a state") from error
    state = str(state).upper()
    if state not in STATES and state not in UNDECIDED:
        warn(f"--status is {quoted(state)}, not one of {', '.join(STATES)}; taken from what its stages have recorded")
    return STATES.get(state)


if __name__ == "__main__":
    run(main)
