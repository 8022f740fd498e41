"""What is looked for before the first run in a cluster, and what is said of it."""

import json
import sqlite3
import sys
from collections.abc import Callable

import pytest
import yaml

import pipelines.check
from inspo_core.command import run
from inspo_core.provenance import git_tags
from pipelines.check import main
from pipelines.placement import load_placement
from tests.lab import Lab
from tests.pipelines.kubeflow_server import KubeflowServer
from tests.pipelines.kubernetes_server import NAMESPACE, KubernetesServer, write_kubeconfig
from tests.pipelines.submitting import ROOT, refused

PLACEMENTS = ROOT / "pipelines/placements"
SECRET_VALUE = "c2VjcmV0LW9mLXRoZS10ZXN0"
NODE = {"cpu": "8", "memory": "32Gi", "pods": "110"}
RIGHTS = next(one["rules"] for one in yaml.safe_load_all((ROOT / "deploy/base/runner.yaml").read_text()) if one["kind"] == "Role")
Check = Callable[..., tuple[int, str, str]]


def add_node(cluster: KubernetesServer, name: str, allocatable: dict, labels: dict | None = None, taints: list | None = None) -> None:
    cluster.add("Node", name, spec={"taints": taints or []}, status={"allocatable": allocatable})
    cluster.objects["Node", name]["metadata"]["labels"] = labels or {}


def add_claim(cluster: KubernetesServer, mode: str) -> None:
    cluster.add("PersistentVolumeClaim", "inspo-store", spec={"accessModes": [mode]}, status={"phase": "Bound"})


@pytest.fixture
def cluster() -> KubernetesServer:
    """A namespace as ``deploy/`` and docs/cluster.md make it."""
    cluster = KubernetesServer(RIGHTS)
    cluster.add("Namespace", NAMESPACE)
    cluster.add("ServiceAccount", "inspo-runner")
    placement = load_placement(PLACEMENTS / "cpu.yaml").pod("train")
    for held in placement.secrets.values():
        known = cluster.objects.get(("Secret", held.secret), {"data": {}})["data"]
        cluster.add("Secret", held.secret, type="Opaque", data=known | {held.key: SECRET_VALUE})
    config = next(yaml.safe_load_all((ROOT / "deploy/base/config.yaml").read_text()))
    cluster.add("ConfigMap", "inspo", data=config["data"])
    add_claim(cluster, "ReadWriteMany")
    for name in ("one", "two"):
        add_node(cluster, name, NODE)
    return cluster


@pytest.fixture
def check(alone, monkeypatch, capsys, tmp_path) -> Check:
    """Run the command on a cluster and a Kubeflow: exit status, standard output, standard error."""

    def call(cluster: KubernetesServer | None, *arguments: object, kubeflow: KubeflowServer | None = None) -> tuple[int, str, str]:
        kubeconfig = tmp_path / "kubeconfig"
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))
        kubeflow = kubeflow or KubeflowServer()
        with kubeflow.serve() as host:
            monkeypatch.setattr(sys, "argv", ["check", "--host", host, *map(str, arguments)])
            code = 0
            try:
                if cluster:
                    with cluster.serve(kubeconfig):
                        run(main)
                else:
                    run(main)
            except SystemExit as end:
                code = end.code
        assert kubeflow.problems == []
        return code, *capsys.readouterr()

    return call


def lines(out: str, state: str) -> dict[str, str]:
    """What is said of each thing that is in this state."""
    said = [line.split(maxsplit=1) for line in out.splitlines()]
    return dict(rest.split(": ", 1) for found, rest in said if found == state)


def test_nothing_is_wrong_with_what_deploy_makes(check, cluster):
    code, out, err = check(cluster)
    assert (code, err, lines(out, "WRONG")) == (0, "", {})
    assert lines(out, "ok").keys() == {
        "Kubeflow",
        "namespace",
        "service account",
        "config map inspo",
        "secret inspo-mlflow-client",
        "secret inspo-s3",
        "volume claim inspo-store",
        "store",
        "nodes",
    }
    assert "release 2.17.0" in out and "/store/inspo" in lines(out, "ok")["store"]
    assert lines(out, "unseen") == {"image, device, store and MLflow from inside": "only a pod can tell: add --run"}
    assert SECRET_VALUE not in out and "secret-of-the-test" not in out


def without(kind: str, name: str) -> Callable[[KubernetesServer], object]:
    return lambda cluster: cluster.objects.pop((kind, name))


def changed(kind: str, name: str, field: str, value: dict) -> Callable[[KubernetesServer], object]:
    return lambda cluster: cluster.objects[kind, name].update({field: value})


def of_two_nodes_small(cluster: KubernetesServer) -> None:
    for name in ("one", "two"):
        add_node(cluster, name, NODE | {"cpu": "3900m"})


WRONG = {
    "no namespace": (without("Namespace", NAMESPACE), "namespace", ["there is no kubeflow", "kubectl create namespace"]),
    "no service account": (without("ServiceAccount", "inspo-runner"), "service account", ["no inspo-runner", "deploy/"]),
    "a right too few": (lambda cluster: cluster.role.pop(3), "service account", ["may not get workflows", "runner.yaml"]),
    "no secret": (without("Secret", "inspo-s3"), "secret inspo-s3", ["not in kubeflow", "docs/cluster.md"]),
    "no key": (
        changed("Secret", "inspo-s3", "data", {"access_key_id": SECRET_VALUE}),
        "secret inspo-s3",
        ["has no secret_access_key", "docs/cluster.md"],
    ),
    "an empty secret": (changed("Secret", "inspo-s3", "data", None), "secret inspo-s3", ["has no access_key_id, secret_access_key"]),
    "no config map": (without("ConfigMap", "inspo"), "config map inspo", ["not in kubeflow"]),
    "a store beside the volume": (
        changed("ConfigMap", "inspo", "data", {"INSPO_STORE": "/tmp/store", "MLFLOW_TRACKING_URI": "x", "AWS_ENDPOINT_URL": "x"}),
        "store",
        ["/tmp/store", "mounts no volume"],
    ),
    "no claim": (without("PersistentVolumeClaim", "inspo-store"), "volume claim inspo-store", ["not in kubeflow", "S3"]),
    "a claim for one node": (lambda cluster: add_claim(cluster, "ReadWriteOnce"), "volume claim inspo-store", ["ReadWriteOnce", "S3"]),
    "small nodes": (of_two_nodes_small, "nodes", ["none of 2 takes a pod of behavior", "4 cpu, 4Gi memory"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_with_what_to_do(check, cluster, case):
    change, what, words = WRONG[case]
    cluster.role = list(cluster.role)
    change(cluster)
    code, out, err = check(cluster)
    assert (code, err) == (1, "") and lines(out, "WRONG").keys() >= {what}, out
    assert not [word for word in words if word not in lines(out, "WRONG")[what]], out


def test_a_claim_for_one_node_is_enough_on_one(check, cluster):
    cluster.objects.pop(("Node", "two"))
    add_claim(cluster, "ReadWriteOnce")
    assert check(cluster)[0] == 0


@pytest.mark.parametrize(
    ("allocatable", "taints", "fits"),
    [
        ({"nvidia.com/gpu": "1"}, [], True),
        ({"nvidia.com/gpu": "2"}, [{"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}], True),
        ({"nvidia.com/gpu": "2"}, [{"key": "reserved", "effect": "NoSchedule"}], False),
        ({"nvidia.com/gpu": "0"}, [], False),
        ({}, [], False),
    ],
)
def test_gpus_must_be_on_a_node_that_takes_the_pod(check, cluster, allocatable, taints, fits):
    add_node(cluster, "two", NODE | allocatable, taints=taints)
    code, out, _ = check(cluster, "--placement", PLACEMENTS / "gpu.yaml")
    assert (code == 0) == fits, out
    assert ("1 of 2 for train" in lines(out, "ok")["nodes"]) if fits else ("1 nvidia.com/gpu" in lines(out, "WRONG")["nodes"])


def test_what_may_not_be_seen_is_not_wrong(check, cluster):
    cluster.forbidden = {"nodes", "secrets", "namespaces"}
    code, out, _ = check(cluster)
    assert code == 0 and lines(out, "unseen").keys() >= {"namespace", "nodes", "secret inspo-s3", "secret inspo-mlflow-client"}
    assert 'User "me" cannot get resource "nodes"' in lines(out, "unseen")["nodes"] and "config map inspo" in lines(out, "ok")


def test_without_a_cluster_that_answers_only_kubeflow_is_looked_at(check, tmp_path):
    code, out, err = check(None)
    assert (code, err) == (0, "") and "KUBECONFIG" in lines(out, "unseen")["namespace"] and list(lines(out, "ok")) == ["Kubeflow"]
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    code, out, err = check(None)
    assert (code, err) == (0, "") and "127.0.0.1:9 does not answer" in lines(out, "unseen")["namespace"]


def test_a_kubeflow_that_does_not_answer_is_wrong_and_the_rest_is_looked_at(check, cluster):
    code, out, _ = check(cluster, "--run", kubeflow=KubeflowServer(token="right"))
    assert code == 1 and "KF_PIPELINES_TOKEN" in lines(out, "WRONG")["Kubeflow"] and "nodes" in lines(out, "ok")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--placement", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--host", "pipelines.example"], ["--host is 'pipelines.example'"]),
        (["--host", "https://me:hunter2@pipelines.example"], ["--host holds"]),
    ],
)
def test_bad_input_is_one_sentence(check, arguments, words):
    refused(*check(None, *arguments)[::2], *words)


def test_the_rights_are_those_that_deploy_gives():
    wanted = {(group, resource, name, frozenset(verbs)) for group, resource, name, verbs in pipelines.check.RIGHTS}
    given = {
        (group, resource, name, frozenset(rule["verbs"]))
        for rule in RIGHTS
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [None])
    }
    assert wanted == given


def ended(state: str) -> dict:
    """A run of one step as Kubeflow 2.17 describes it: a node of Argo's each, of which the executor's attempts have the logs."""
    nodes = {"root": ["n-1"], "check-driver": ["n-2"], "check": ["n-3"], "executor": ["n-4", "n-5"], "executor(0)": []}
    tasks = [
        {"task_id": name, "display_name": name, "state": state, "child_tasks": [{"pod_name": node} for node in children]}
        for name, children in nodes.items()
    ]
    return {"state": state, "run_details": {"task_details": tasks}}


def said_inside(lab: Lab, *arguments: object, **environment: str) -> str:
    done = lab.run("components.check", *arguments, **environment)
    assert "Traceback" not in done.stderr
    return f"I1128 launcher: starting\n{done.stdout}I1128 launcher: ended\n"


def test_the_run_of_a_minute_tells_what_its_pod_sees(check, cluster, lab, capsys):
    lab.track()
    capsys.readouterr()  # what MLflow says of a new database
    commit, store = git_tags()["git_commit"], lab.place / "store"
    uri = f"sqlite:///{lab.place / 'mlflow.db'}"
    here = {"INSPO_STORE": str(store), "MLFLOW_TRACKING_URI": uri, "INSPO_IMAGE": "inspo:0.1.0", "INSPO_GIT_COMMIT": commit}
    kubeflow = KubeflowServer()
    kubeflow.states = [{"state": "RUNNING"}, ended("SUCCEEDED")]
    kubeflow.logs = {"n-5": said_inside(lab, "--commit", commit, **here)}
    code, out, err = check(cluster, "--run", kubeflow=kubeflow)
    assert (code, err, lines(out, "WRONG"), lines(out, "unseen")) == (0, "", {}, {}), out
    inside = lines(out, "ok")
    assert inside.keys() >= {"image", "device", "store from inside", "MLflow from inside", "run"}
    assert commit[:12] in inside["image"] and str(lab.place / "mlflow.db") in inside["MLflow from inside"]
    (sent,) = kubeflow.runs
    assert sent.runtime_config.parameters == {"commit": commit, "device": "cpu"} and sent.service_account == "inspo-runner"
    with sqlite3.connect(lab.place / "mlflow.db") as database:
        assert database.execute("select lifecycle_stage, status from runs").fetchall() == [("deleted", "FINISHED")]


def test_a_pod_says_all_that_is_wrong(check, cluster, lab):
    here = {"INSPO_STORE": "s3://me:hunter2@bucket", "MLFLOW_TRACKING_URI": "http://me:hunter2/x@127.0.0.1:9"}
    kubeflow = KubeflowServer()
    kubeflow.states = [ended("FAILED")]
    kubeflow.logs = {"n-5": said_inside(lab, "--commit", "f" * 40, "--device", "cuda", INSPO_GIT_COMMIT="e" * 40, **here)}
    code, out, _ = check(cluster, "--run", kubeflow=kubeflow)
    wrong = lines(out, "WRONG")
    assert code == 1 and {"image", "store from inside", "MLflow from inside"} <= wrong.keys() <= {*wrong, "device"}
    assert "eeeeeeeeeeee" in wrong["image"] and "127.0.0.1:9" in wrong["MLflow from inside"] and "hunter2" not in out


def test_an_image_without_the_check_is_of_another_commit(check, cluster):
    kubeflow = KubeflowServer()
    kubeflow.states = [ended("FAILED")]
    kubeflow.logs = {"n-5": "/opt/venv/bin/python: No module named components.check\n"}
    code, out, _ = check(cluster, "--run", kubeflow=kubeflow)
    assert code == 1 and "No module named components.check; is the image of this commit?" in lines(out, "WRONG")["run"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"containerStatuses": [{"name": "main", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}}}]},
            "ImagePullBackOff: Back-off pulling",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}]},
            "Unschedulable: 0/2 nodes are available",
        ),
    ],
)
def test_a_run_that_does_not_start_is_ended_and_its_pods_say_why(check, cluster, monkeypatch, status, words):
    monkeypatch.setattr(pipelines.check, "RUN_SECONDS", 0)
    for one in status.get("containerStatuses", []):
        one |= {"image": "inspo:0.1.0", "imageID": "", "ready": False, "restartCount": 0}
    cluster.add("Pod", "inspo-check-abc", spec={"containers": [{"name": "main"}]}, status=status)
    kubeflow = KubeflowServer()
    kubeflow.states = [{"state": "RUNNING"}]
    code, out, _ = check(cluster, "--run", kubeflow=kubeflow)
    assert code == 1 and words in lines(out, "WRONG")["run"]
    assert [
        target for method, target, *_ in kubeflow.requests if target.endswith(":terminate")
    ] and "labelSelector=pipeline" in cluster.requests[-1]


def test_the_step_fails_where_it_finds_no_address_of_mlflow(lab):
    done = lab.run("components.check", MLFLOW_TRACKING_URI="", INSPO_GIT_COMMIT="e" * 40)
    told = {found["what"]: found for found in (json.loads(line.removeprefix("inspo-check ")) for line in done.stdout.splitlines())}
    assert done.code == 1 and told["image"]["state"] == told["device"]["state"] == "ok"
    assert "MLFLOW_TRACKING_URI" in told["MLflow from inside"]["says"] and "INSPO_STORE" in told["store from inside"]["says"]
