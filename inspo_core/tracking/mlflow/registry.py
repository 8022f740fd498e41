"""The model registry: a registered model a dataset, whose alias ``best`` names the policy that did best in evaluation."""

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from inspo_core.files import hash_of
from inspo_core.tracking import forms
from inspo_core.tracking.forms import Malformed

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

ALIAS = "best"
WAITING = "inspo.waiting."  # tags of an experiment: policies to register whose models have not come yet


def registered_name(experiment: str, dataset: str) -> str:
    """The registered model's name; MLflow forbids some characters in it."""
    return re.sub(r"[^\w.-]+", "-", f"{experiment}-{dataset}")


def register(client: "MlflowClient", experiment_id: str, choice: dict[str, Any]) -> str | None:
    """Make the chosen policy a version of its dataset's registered model, once, and let the alias name it.

    ``choice`` has the fields of :class:`~inspo_core.evaluations.BestPolicy` and ``name``. If its model is not in this store, the choice
    waits for it in a tag of the experiment, in the place of an earlier one; then this returns a sentence that says so.
    """
    waiting = WAITING + hash_of(choice["name"])[:16]
    logged = logged_model(client, experiment_id, choice["fingerprint"])
    if logged is None:
        client.set_experiment_tag(experiment_id, waiting, json.dumps(choice))
        logged = logged_model(client, experiment_id, choice["fingerprint"])  # it may have come in between, and seen no tag
    if logged is None:
        return (
            f"{choice['name']}: the policy of {choice['algorithm']} seed {choice['seed']} is not in this MLflow store; it is "
            "registered when the records of its training arrive, and if there are none, after training it again with the store in place"
        )
    _register(client, choice, logged)
    if waiting in client.get_experiment(experiment_id).tags:
        client.delete_experiment_tag(experiment_id, waiting)
    return None


def register_waiting(client: "MlflowClient", experiment_id: str, fingerprint: str) -> None:
    """Register what waits for the model of the training run with that fingerprint, which has just come."""
    for name, value in client.get_experiment(experiment_id).tags.items():
        if name.startswith(WAITING):
            with suppress(Malformed):  # somebody else's writing
                choice = forms.choice(value)
                if choice["fingerprint"] == fingerprint:
                    register(client, experiment_id, choice)


def _register(client: "MlflowClient", choice: dict[str, Any], logged: "LoggedModel") -> None:
    name = choice["name"]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(
            name, {"dataset": choice["dataset"]}, f"Policies trained on {choice['dataset']}; alias `{ALIAS}`: best final evaluation."
        )
    versions = client.search_model_versions(f"name = '{name}'")
    source = f"models:/{logged.model_id}"
    version = next((known for known in versions if known.source == source), None)
    if version is None:
        version = client.create_model_version(
            name,
            source,
            logged.source_run_id,
            tags={key: str(choice[key]) for key in ("dataset", "algorithm", "variant", "seed", "fingerprint")},
            description=f"{choice['algorithm']} ({choice['variant']}), seed {choice['seed']}: {choice['metric']} {choice['value']:.6g} "
            "in the evaluation of last policies.",
            model_id=logged.model_id,
        )
    if str(client.get_registered_model(name).aliases.get(ALIAS)) != str(version.version):
        client.set_registered_model_alias(name, ALIAS, version.version)


def logged_model(client: "MlflowClient", experiment_id: str, fingerprint: str) -> "LoggedModel | None":
    """The model of the training run with that fingerprint; the newest one, if it was trained in several pipeline runs.

    If the experiment has none, that of another: seeds that are done are not trained again under another name of the experiment.
    """

    def newest(experiments: list[str]) -> "LoggedModel | None":
        found = client.search_logged_models(
            experiments,
            filter_string=f"tags.fingerprint = '{fingerprint}'",
            order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        )
        return next((logged for logged in found if str(logged.status) == "READY"), None)

    return newest([experiment_id]) or newest([known.experiment_id for known in client.search_experiments()])
