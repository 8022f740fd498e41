"""The model registry: a registered model a dataset, whose alias ``best`` names the policy that did best in evaluation."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.tracking import MlflowClient

ALIAS = "best"


def registered_name(experiment: str, dataset: str) -> str:
    """The registered model's name; MLflow forbids some characters in it."""
    return re.sub(r"[^\w.-]+", "-", f"{experiment}-{dataset}")


def register(client: "MlflowClient", experiment_id: str, choice: dict[str, Any]) -> str | None:
    """Make the chosen policy a version of its dataset's registered model, once, and let the alias name it.

    ``choice`` has the fields of :class:`~inspo_core.evaluations.BestPolicy` and ``name``. Returns a sentence if its model is
    not in this store.
    """
    logged = logged_model(client, experiment_id, choice["fingerprint"])
    if logged is None:
        return (
            f"{choice['name']}: the policy of {choice['algorithm']} seed {choice['seed']} was not trained into this MLflow store, "
            "so it is not registered; train it again with the store in place"
        )
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
    return None


def logged_model(client: "MlflowClient", experiment_id: str, fingerprint: str) -> "LoggedModel | None":
    """The model of the training run with that fingerprint; the newest one, if it was trained in several pipeline runs."""
    found = client.search_logged_models(
        [experiment_id],
        filter_string=f"tags.fingerprint = '{fingerprint}'",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )
    return next((logged for logged in found if str(logged.status) == "READY"), None)
