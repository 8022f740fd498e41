"""``python -m components.check``: what only a pod of a run can see. ``pipelines.check --run`` sends it and reads what it prints."""

import json
import os
import sys
from collections.abc import Callable

from inspo_core.command import Parser, run
from inspo_core.errors import InspoError
from inspo_core.provenance import git_tags
from inspo_core.redaction import redact, shown
from inspo_core.running.device import resolve_device
from inspo_core.running.shared_store import SharedStore
from inspo_core.tracking.mlflow.server import Unreachable, connect, reason, tracking_uri

MARK = "inspo-check "  # before each finding, among what Kubeflow's launcher prints
EXPERIMENT = "check"


def main() -> None:
    parser = Parser(prog="python -m components.check", description="Try image, device, store and MLflow, and print what was found.")
    parser.add_argument("--commit", default="", help="that the image should be of; empty: any")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="that must be usable")
    arguments = parser.parse_args()
    findings = {
        "image": lambda: _image(arguments.commit),
        "device": lambda: _device(arguments.device),
        "store from inside": _store,
        "MLflow from inside": _mlflow,
    }
    wrong = [what for what, look in findings.items() if not _tell(what, look)]
    sys.exit(1 if wrong else 0)


def _tell(what: str, look: Callable[[], str]) -> bool:
    try:
        state, says = "ok", look()
    except InspoError as error:
        state, says = "WRONG", str(error)
    print(MARK + json.dumps({"state": state, "what": what, "says": redact(says)}), flush=True)
    return state == "ok"


def _image(commit: str) -> str:
    name, made_of = os.environ.get("INSPO_IMAGE", "of no name"), git_tags().get("git_commit", "")
    if not made_of:
        raise InspoError(f"{name} does not say of which commit it is: build it with --build-arg COMMIT=$(git rev-parse HEAD)")
    if commit and made_of != commit:
        raise InspoError(
            f"{name} is of commit {made_of[:12]}, this checkout is at {commit[:12]}: build the image anew, or check that commit out"
        )
    return f"{name}, of commit {made_of[:12]}"


def _device(device: str) -> str:
    return f"{resolve_device(device, '--device')} computes"


def _store() -> str:
    store = SharedStore.from_environment()  # which writes there
    return (
        f"{shown(os.environ['INSPO_STORE'])} can be written" if store else "none, as INSPO_STORE is not set: enough for experiments alone"
    )


def _mlflow() -> str:
    """Records a run with an artifact, which is what fails where the server does not reach its object store, and deletes it."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise InspoError("MLFLOW_TRACKING_URI is not set, so records would be lost with the pod: name it in the placement")
    uri = tracking_uri()
    try:
        client = connect(uri)
        found = client.get_experiment_by_name(EXPERIMENT)
        made = client.create_run(found.experiment_id if found else client.create_experiment(EXPERIMENT)).info.run_id
        client.log_text(made, "written by pipelines.check", "check.txt")
        client.set_terminated(made)
        client.delete_run(made)
    except Unreachable as error:
        raise InspoError(f"{shown(uri)} cannot be used ({error}): look at MLflow's log, and at its network policy") from error
    except Exception as error:  # each kind of store fails with errors of its own
        raise InspoError(f"{shown(uri)} answers, but does not take a run with an artifact ({reason(error)}): look at its log") from error
    return f"{shown(uri)} takes runs and artifacts"


if __name__ == "__main__":
    run(main)
