"""The manifests: Kubernetes takes each, nothing in them is secret or runs as root, and their names are those that pods of runs use."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from inspo_core import __version__
from pipelines.placement import load_placement
from tests.services.postgres import Postgres
from tests.services.tools import free_port, wait_for

ROOT = Path(__file__).resolve().parents[1]
BASE, EXAMPLE = ROOT / "deploy" / "base", ROOT / "deploy" / "overlays" / "example"
KUBERNETES = "1.33"
PLACEMENTS = sorted((ROOT / "pipelines" / "placements").glob("*.yaml"))
STEPS = ["ingest", "behavior", "train", "evaluate", "report", "finish"]
POD_OF = {"Deployment", "StatefulSet", "Job"}


def documents() -> list[dict]:
    files = sorted(path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def named(kind: str) -> dict[str, dict]:
    return {document["metadata"]["name"]: document for document in documents() if document["kind"] == kind}


def pods() -> dict[str, dict]:
    return {document["metadata"]["name"]: document["spec"]["template"]["spec"] for document in documents() if document["kind"] in POD_OF}


def references() -> set[tuple[str, str, str]]:
    """Every (kind, name, key) from which a container of the manifests or a step of a placement gets an environment variable."""
    found = set()
    for pod in pods().values():
        for variable in [variable for container in pod["containers"] for variable in container.get("env", []) if "valueFrom" in variable]:
            ((kind, place),) = variable["valueFrom"].items()
            found.add((kind, place["name"], place["key"]))
    for pod in [load_placement(file).pod(step) for file in PLACEMENTS for step in STEPS]:
        found |= {("secretKeyRef", place.secret, place.key) for place in pod.secrets.values()}
        found |= {("configMapKeyRef", place.config_map, place.key) for place in pod.config_maps.values()}
    return found


@pytest.mark.parametrize("document", documents(), ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_kubernetes_takes_it(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)  # raises SchemaNotFoundError where the kind is unknown


def test_the_validation_finds_mistakes():
    for wrong in ({"spec": {"replicsa": 1}}, {"kind": "Deplyoment"}):
        with pytest.raises((kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError)):
            kubernetes_validate.validate(named("Deployment")["inspo-mlflow"] | wrong, KUBERNETES, strict=True)


def test_kustomize_is_told_of_every_file():
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert listed == sorted(path.name for path in BASE.iterdir() if path.name != "kustomization.yaml")
    assert yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["resources"] == ["../../base"]


def test_no_secret_is_in_the_files():
    files = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    assert files and not named("Secret")
    for path in files:
        assert not re.search(r"://[^/\s@]*:[^/\s]*@", path.read_text()), f"{path}: a password in a URL"
    for pod in pods().values():
        for variable in [variable for container in pod["containers"] for variable in container.get("env", [])]:
            if re.search("PASSWORD|SECRET|ACCESS_KEY", variable["name"]):
                assert set(variable["valueFrom"]) == {"secretKeyRef"}, variable["name"]


@pytest.mark.parametrize("name", pods())
def test_a_pod_may_little_and_says_what_it_needs(name):
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    assert not pod.get("hostNetwork") and not [volume for volume in pod.get("volumes", []) if "hostPath" in volume]
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for resource in ("cpu", "memory"):
            assert container["resources"]["requests"][resource] and container["resources"]["limits"][resource]
        assert re.search(r":\d+\.\d+", container["image"]), "an image is named by its version"
        if pod.get("restartPolicy") != "Never":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_the_images_are_of_this_version():
    images = {container["image"] for pod in pods().values() for container in pod["containers"]}
    assert {image for image in images if image.startswith("inspo")} == {f"inspo-mlflow:{__version__}"}
    assert yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["images"][0]["newTag"] == __version__


def test_config_maps_have_what_is_read_from_them():
    assert all(key in named("ConfigMap")[name]["data"] for kind, name, key in references() if kind == "configMapKeyRef")


def test_the_walk_through_makes_every_secret():
    text = (ROOT / "docs" / "cluster.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"create secret generic (\S+) (.*)", text)
    made = {name: set(re.findall(r"--from-literal=(\w+)", options)) for name, options in commands}
    needed: dict[str, set[str]] = {}
    for kind, name, key in references():
        if kind == "secretKeyRef":
            needed.setdefault(name, set()).add(key)
    assert made == needed


@pytest.mark.parametrize("file", PLACEMENTS, ids=lambda file: file.stem)
def test_a_placement_names_what_is_deployed(file):
    placement, store = load_placement(file), named("ConfigMap")["inspo"]["data"]["INSPO_STORE"]
    assert placement.service_account in named("ServiceAccount")
    for pod in (placement.pod(step) for step in STEPS):
        assert set(pod.volumes) <= set(named("PersistentVolumeClaim"))
        assert [path for path in pod.volumes.values() if store.startswith(f"{path}/")], "INSPO_STORE is on no volume"
        admitted = named("NetworkPolicy")["inspo-mlflow"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
        assert admitted.items() <= pod.labels.items(), "the network policy keeps the step from MLflow"


def test_services_policies_and_roles_meet_what_they_are_for():
    templates = [document["spec"]["template"]["metadata"] for document in documents() if document["kind"] in ("Deployment", "StatefulSet")]
    labels = [template["labels"] for template in templates]
    selectors = [service["spec"]["selector"] for service in named("Service").values()]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in named("NetworkPolicy").values()]
    assert all(any(selector.items() <= one.items() for one in labels) for selector in selectors)
    (binding,) = named("RoleBinding").values()
    assert binding["roleRef"]["name"] in named("Role") and binding["subjects"][0]["name"] in named("ServiceAccount")
    data = named("ConfigMap")["inspo"]["data"]
    assert data["MLFLOW_TRACKING_URI"] == "http://inspo-mlflow:5000" and "inspo-mlflow:5000" in data["MLFLOW_SERVER_ALLOWED_HOSTS"]


def test_the_example_renders_in_its_namespace():
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not here")
    rendered = subprocess.run([kubectl, "kustomize", EXAMPLE], capture_output=True, text=True, check=True, timeout=60).stdout
    found = list(yaml.safe_load_all(rendered))
    assert sorted((one["kind"], one["metadata"]["name"]) for one in found) == sorted(
        (one["kind"], one["metadata"]["name"]) for one in documents()
    )
    for one in found:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
        assert one["metadata"]["namespace"] == "inspo"
        if one["kind"] in POD_OF:
            assert one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/part-of"] == "inspo"
    assert "registry.example.org/inspo-mlflow:" in rendered


@pytest.fixture
def deployed(tmp_path, postgres: Postgres) -> Iterator[tuple[str, dict[str, str]]]:
    """The MLflow server of the manifest, with its command, settings and database of users, here: address and secrets by name/key."""
    pytest.importorskip("flask_wtf", reason="MLflow's authentication needs Flask-WTF")
    port, database = free_port(), postgres.database()
    values = {f"{name}/{key}": secrets.token_hex(8) for kind, name, key in references() if kind == "secretKeyRef"}
    values["inspo-postgres/password"] = postgres.password
    config = named("ConfigMap")["inspo"]["data"] | {"MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts")}
    here = {
        "mlflow@inspo-postgres:5432/mlflow": f"inspo@127.0.0.1:{postgres.port}/{database}",
        "inspo-mlflow:5000": f"127.0.0.1:{port}",
        "/etc/mlflow": str(tmp_path),
    }
    (tmp_path / "basic_auth.ini").write_text(moved(named("ConfigMap")["inspo-mlflow-auth"]["data"]["basic_auth.ini"], here))
    (container,) = pods()["inspo-mlflow"]["containers"]
    arguments = [str(port) if word == "5000" else "127.0.0.1" if word == "0.0.0.0" else word for word in container["args"]]
    log = tmp_path / "log"
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=tmp_path,
            env=environment(container, values, config, here),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        return status(f"http://127.0.0.1:{port}/health") == 200

    try:
        wait_for("the MLflow server", answers, log)
        yield f"http://127.0.0.1:{port}", values
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the group that was made for it
        process.wait()


def moved(text: str, here: dict[str, str]) -> str:
    for there, place in here.items():
        text = text.replace(there, place)
    return text


def environment(container: dict, values: dict[str, str], config: dict[str, str], here: dict[str, str]) -> dict[str, str]:
    """What the container would see, and what Python needs here."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    for variable in container["env"]:
        if "value" in variable:
            found[variable["name"]] = moved(variable["value"], here)
        else:
            ((kind, place),) = variable["valueFrom"].items()
            name, key = place["name"], place["key"]
            found[variable["name"]] = values[f"{name}/{key}"] if kind == "secretKeyRef" else moved(config[key], here)
    return found


def status(url: str, user: str = "", password: str = "", **headers: str) -> int:
    login = {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()} if user else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=login | headers), timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
def test_the_server_lets_in_the_user_of_runs_and_nobody_else(deployed, tmp_path):
    uri, values = deployed
    admin, client = values["inspo-mlflow-server/admin_password"], values["inspo-mlflow-client/password"]
    name, search = values["inspo-mlflow-client/username"], f"{uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    assert status(search) == 401 and status(search, "admin", "guess") == 401
    assert status(search, "admin", admin) == 200
    assert status(search, "admin", admin, Host="elsewhere.example") == 403

    (job,) = pods()["inspo-mlflow-user"]["containers"]
    assert status(search, name, client) == 401
    for _ in range(2):  # it may run again
        config = named("ConfigMap")["inspo"]["data"]
        made = subprocess.run(
            [sys.executable, *job["command"][1:]],
            env=environment(job, values, config, {"inspo-mlflow:5000": uri.removeprefix("http://")}),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert made.returncode == 0, made.stderr
        assert client not in made.stdout + made.stderr
    assert status(search, name, client) == 200

    code = (
        "import mlflow; mlflow.set_experiment('games'); run = mlflow.start_run(); mlflow.log_metric('a', 1);"
        "mlflow.log_text('text', 'file.txt'); print(mlflow.artifacts.load_text(run.info.artifact_uri + '/file.txt'))"
    )
    login = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": client}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | login, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "text", done.stderr
    assert list((tmp_path / "artifacts").rglob("file.txt")), "artifacts went past the server"
