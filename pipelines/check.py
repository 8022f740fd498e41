"""Is everything there that runs in a cluster need: ``python -m pipelines.check --host URL``, before the first of them."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

import urllib3

from inspo_core.command import Parser, run
from inspo_core.errors import InspoError
from inspo_core.provenance import git_tags
from inspo_core.redaction import redact, shown
from pipelines.placement import Placement, Pod, Step, load_placement
from pipelines.submit import add_server, check_server

if TYPE_CHECKING:
    from pipelines.client import Kubeflow

TESTED = "2.17"  # of Kubeflow Pipelines
STEPS = get_args(Step)
WHAT_TO_DO = "docs/cluster.md, step 3"
ANSWER_SECONDS = 20
RUN_SECONDS = 600  # for the run of a minute: a node that has never had the image pulls it first
# What Kubeflow's driver and launcher and Argo's executor do in a run, as the role in deploy/base/runner.yaml allows it.
RIGHTS = (
    ("", "configmaps", "kfp-launcher", ("get", "list", "watch")),
    ("", "secrets", "mlpipeline-minio-artifact", ("get",)),
    ("", "pods", None, ("get", "list", "watch")),
    ("argoproj.io", "workflows", None, ("get", "list", "watch")),
    ("argoproj.io", "workflowtaskresults", None, ("create", "patch")),
    ("argoproj.io", "workflowtasksets", None, ("get", "list", "watch", "patch")),
    ("argoproj.io", "workflowtasksets/status", None, ("get", "list", "watch", "patch")),
)


@dataclass(frozen=True)
class Finding:
    """One line of the answer: ``WRONG`` says what to do, ``unseen`` why it could not be looked at."""

    state: Literal["ok", "WRONG", "unseen"]
    what: str
    says: str

    def __str__(self) -> str:
        return redact(f"{self.state:<7} {self.what}: {self.says}")


def main() -> None:
    arguments = _parse()
    if arguments.image:
        os.environ["INSPO_IMAGE"] = arguments.image  # before components.image is imported
    placement, wrong = load_placement(arguments.placement), False
    for finding in _findings(arguments, placement):
        print(finding, flush=True)
        wrong |= finding.state == "WRONG"
    sys.exit(1 if wrong else 0)


def _parse() -> argparse.Namespace:
    parser = Parser(
        prog="python -m pipelines.check",
        description="Look for all that runs in a cluster need. Exit status 0: nothing is wrong, 1: something is, 2: bad input.",
        epilog="The cluster is asked as kubectl would ask it (KUBECONFIG), or as the service account of the pod in which this runs.",
    )
    add_server(parser)
    parser.add_argument("--pods-in", metavar="NS", default="kubeflow", help="where a Kubeflow of one user runs them (%(default)s)")
    parser.add_argument("--run", action="store_true", help="also send a run of a minute, whose pod tries image, device, store and MLflow")
    arguments = parser.parse_args()
    check_server(arguments)
    return arguments


def _findings(arguments: argparse.Namespace, placement: Placement) -> Iterator[Finding]:
    namespace, kubeflow = arguments.namespace or arguments.pods_in, None
    try:
        kubeflow = _connect(arguments)
        newer = "" if kubeflow.version.startswith(TESTED) else f"; this project is tested with {TESTED}"
        yield Finding("ok", "Kubeflow", f"{arguments.host} answers, release {kubeflow.version}{newer}")
    except InspoError as error:
        yield Finding("WRONG", "Kubeflow", str(error))
    cluster = Cluster(namespace)
    yield from cluster.findings(placement)
    if not arguments.run:
        yield Finding("unseen", "image, device, store and MLflow from inside", "only a pod can tell: add --run")
    elif kubeflow is None:
        yield Finding("unseen", "image, device, store and MLflow from inside", "no run can be sent")
    else:
        yield from _one_minute(kubeflow, cluster, placement)


def _connect(arguments: argparse.Namespace) -> "Kubeflow":
    from pipelines.client import Kubeflow

    return Kubeflow(arguments.host, arguments.namespace)


class Unseen(Exception):
    """The Kubernetes API does not tell; the message says why."""


class Cluster:
    """A namespace as the Kubernetes API shows it. Of secrets only the names of keys are looked at."""

    def __init__(self, namespace: str):
        self._namespace = namespace
        self._api: Any = None

    def findings(self, placement: Placement) -> Iterator[Finding]:
        """What ``placement`` names and the cluster has or has not."""
        from kubernetes import client

        try:
            self._connect()
            there = self._asked(client.CoreV1Api(self._api).read_namespace, self._namespace)
        except Unseen as error:
            yield Finding("unseen", "namespace", str(error))
            if self._api is None:
                return
        else:
            if there is None:
                advice = f"name yours, or kubectl create namespace {self._namespace}"
                yield Finding("WRONG", "namespace", f"there is no {self._namespace}: {advice}")
                return
            yield Finding("ok", "namespace", self._namespace)
        self._core = client.CoreV1Api(self._api)
        pods = [placement.pod(step) for step in STEPS]
        yield self._look("service account", lambda: self._service_account(placement.service_account))
        keys = {("secret", held.secret, held.key) for pod in pods for held in pod.secrets.values()}
        keys |= {("config map", held.config_map, held.key) for pod in pods for held in pod.config_maps.values()}
        for kind, name in sorted({(kind, name) for kind, name, _ in keys}):
            wanted = {key for of, named, key in keys if (of, named) == (kind, name)}
            yield self._look(f"{kind} {name}", lambda: self._keys(kind, name, wanted))
        for name in sorted({name for pod in pods for name in pod.image_pull_secrets}):
            yield self._look(f"secret {name}", lambda: self._keys("secret", name, {".dockerconfigjson"}))
        for claim in sorted({claim for pod in pods for claim in pod.volumes}):
            yield self._look(f"volume claim {claim}", lambda: self._claim(claim))
        yield self._look("store", lambda: self._store(placement.pod("train")))
        yield self._look("nodes", lambda: self._nodes(placement))

    def waiting(self, run_id: str) -> str:
        """What the pods of a run wait for; empty if nothing is said."""
        pods = self._asked(self._core.list_namespaced_pod, self._namespace, label_selector=f"pipeline/runid={run_id}")
        reasons = []
        for pod in pods.items if pods else []:
            states = [status.state and status.state.waiting for status in pod.status.container_statuses or []]
            conditions = [one for one in pod.status.conditions or [] if one.status == "False" and one.reason == "Unschedulable"]
            reasons += [f"{found.reason}: {found.message}" for found in [*states, *conditions] if found and found.message]
        return "; ".join(dict.fromkeys(reasons))

    def _connect(self) -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        try:
            config.load_kube_config(client_configuration=settings)
        except config.ConfigException as error:
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                raise Unseen(f"no cluster is configured for kubectl ({error}): set KUBECONFIG") from error
        settings.retries = False
        self._api = client.ApiClient(settings)

    def _asked(self, call: Callable[..., Any], *names: str, **more: Any) -> Any:
        """The answer to a request; None if what is asked for is not there. Raises Unseen."""
        from kubernetes.client import ApiException

        try:
            return call(*names, **more, _request_timeout=ANSWER_SECONDS)
        except ApiException as error:
            if error.status == 404:
                return None
            try:
                message = json.loads(error.body)["message"]
            except (TypeError, ValueError, KeyError):
                message = error.reason
            raise Unseen(f"the cluster does not tell ({error.status}: {message})") from error
        except urllib3.exceptions.HTTPError as error:
            place, self._api = self._api.configuration.host, None
            reason = str(getattr(error, "reason", None) or error).partition("\n")[0].rpartition(": ")[2]
            raise Unseen(f"the cluster at {place} does not answer ({reason})") from error

    def _look(self, what: str, look: Callable[[], str]) -> Finding:
        if self._api is None:
            return Finding("unseen", what, "the cluster no longer answers")
        try:
            return Finding("ok", what, look())
        except InspoError as error:
            return Finding("WRONG", what, str(error))
        except Unseen as error:
            return Finding("unseen", what, str(error))

    def _service_account(self, name: str | None) -> str:
        from kubernetes import client

        if name is None:
            return "the placement names none, so runs act as the one that Kubeflow takes by itself"
        if self._asked(self._core.read_namespaced_service_account, name, self._namespace) is None:
            raise InspoError(f"there is no {name} in {self._namespace}: apply deploy/ ({WHAT_TO_DO}), or name another in the placement")
        review = client.AuthorizationV1Api(self._api).create_namespaced_local_subject_access_review
        missing = []
        for group, resource, of, verbs in RIGHTS:
            kind, _, below = resource.partition("/")
            for verb in verbs:
                wanted = {"verb": verb, "group": group, "resource": kind, "name": of, "subresource": below or None}
                spec = client.V1SubjectAccessReviewSpec(
                    user=f"system:serviceaccount:{self._namespace}:{name}",
                    groups=["system:serviceaccounts", f"system:serviceaccounts:{self._namespace}", "system:authenticated"],
                    resource_attributes=client.V1ResourceAttributes(namespace=self._namespace, **wanted),
                )
                body = client.V1LocalSubjectAccessReview(metadata=client.V1ObjectMeta(namespace=self._namespace), spec=spec)
                answer = self._asked(review, self._namespace, body=body)
                if answer is None or not answer.status.allowed:
                    missing.append(f"{verb} {resource}" + (f" {of}" if of else ""))
        if missing:
            raise InspoError(f"{name} may not {', '.join(missing)}: compare its role with deploy/base/runner.yaml")
        return f"{name} may do what a run does"

    def _keys(self, kind: str, name: str, wanted: set[str]) -> str:
        read = self._core.read_namespaced_secret if kind == "secret" else self._core.read_namespaced_config_map
        found = self._asked(read, name, self._namespace)
        if found is None:
            raise InspoError(f"it is not in {self._namespace}: {WHAT_TO_DO}, makes it")
        if missing := sorted(wanted - (found.data or {}).keys()):
            raise InspoError(f"it has no {', '.join(missing)}, which the placement takes from it: make it anew ({WHAT_TO_DO})")
        return f"it has {', '.join(sorted(wanted))}"

    def _claim(self, name: str) -> str:
        found = self._asked(self._core.read_namespaced_persistent_volume_claim, name, self._namespace)
        if found is None:
            raise InspoError(f"it is not in {self._namespace}: {WHAT_TO_DO}, makes it; a store in S3 needs none")
        modes, phase = ", ".join(found.spec.access_modes or []), found.status.phase
        if phase == "Lost":
            raise InspoError("its volume is lost: remove the claim and make it anew")
        if "ReadWriteMany" not in modes and len(self._ready_nodes()) > 1:
            raise InspoError(f"its access mode is {modes}, so pods on other nodes would wait for it: ReadWriteMany, or a store in S3")
        return f"{phase}, {modes}" + ("" if phase == "Bound" else "; bound when the first pod uses it, if its storage class says so")

    def _store(self, pod: Pod) -> str:
        """Where ``INSPO_STORE`` of a step is, and whether that outlives the pod."""
        uri = pod.env.get("INSPO_STORE", "")
        if held := pod.config_maps.get("INSPO_STORE"):
            found = self._asked(self._core.read_namespaced_config_map, held.config_map, self._namespace)
            uri = (found.data or {}).get(held.key, "") if found else ""
        if not uri:
            raise InspoError("INSPO_STORE is not set: checkpoints are lost with their pods, and a benchmark's report finds nothing")
        if "://" not in uri and not any(PurePosixPath(uri).is_relative_to(mount) for mount in pod.volumes.values()):
            raise InspoError(f"INSPO_STORE is {uri}, where the placement mounts no volume: what is kept there is lost with the pod")
        return f"{shown(uri)}; whether pods may write there says --run"

    def _nodes(self, placement: Placement) -> str:
        nodes, fitting = self._ready_nodes(), {}
        for step in STEPS:
            pod = placement.pod(step)
            fitting[step] = sum(_fits(pod, node) for node in nodes)
            if not fitting[step]:
                wanted = ", ".join(f"{amount} {what}" for what, amount in _requests(pod).items())
                raise InspoError(
                    f"none of {len(nodes)} takes a pod of {step} ({wanted}, its selector and tolerations): change the placement"
                )
        return ", ".join(f"{count} of {len(nodes)} for {step}" for step, count in fitting.items())

    def _ready_nodes(self) -> list[Any]:
        found = self._asked(self._core.list_node)
        return [node for node in found.items if not node.spec.unschedulable] if found else []


def _requests(pod: Pod) -> dict[str, str]:
    amounts = {"cpu": pod.cpu.request or pod.cpu.limit, "memory": pod.memory.request or pod.memory.limit}
    gpus = {pod.gpu.resource: str(pod.gpu.count)} if pod.gpu else {}
    return {what: amount for what, amount in (amounts | gpus).items() if amount}


def _fits(pod: Pod, node: Any) -> bool:
    """Whether a node that has nothing else to do would take the pod."""
    from kubernetes.utils import parse_quantity

    labels, allocatable = node.metadata.labels or {}, node.status.allocatable or {}
    repelling = [taint for taint in node.spec.taints or [] if taint.effect in ("NoSchedule", "NoExecute")]
    return (
        pod.node_selector.items() <= labels.items()
        and all(parse_quantity(allocatable.get(what, "0")) >= parse_quantity(amount) for what, amount in _requests(pod).items())
        and all(any(_tolerates(one, taint) for one in pod.tolerations) for taint in repelling)
    )


def _tolerates(toleration: Any, taint: Any) -> bool:
    same = toleration.operator == "Exists" or (toleration.value or "") == (taint.value or "")
    return same and toleration.key in (None, taint.key) and toleration.effect in (None, taint.effect)


def _one_minute(kubeflow: "Kubeflow", cluster: Cluster, placement: Placement) -> Iterator[Finding]:
    """Send the step ``check``, placed as a training is, and tell what it found."""
    from components.check.__main__ import MARK
    from pipelines.client import ENDED, POLL_SECONDS

    given = {"commit": git_tags().get("git_commit", ""), "device": placement.device("train")}
    try:
        with tempfile.TemporaryDirectory() as folder:
            package = _compiled(placement, Path(folder))
            run_id = kubeflow.start(package, "check", "inspo-check", given, placement.service_account)
        deadline = time.monotonic() + RUN_SECONDS
        while (described := kubeflow.run(run_id)).state not in ENDED and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if described.state not in ENDED:
            kubeflow.end(run_id)
            waits = f"{run_id} had not ended after {RUN_SECONDS // 60} minutes, and was ended"
            yield Finding("WRONG", "run", f"{waits}: {_why(cluster, run_id)}")
            return
        log = kubeflow.log(run_id, _node(described))
    except InspoError as error:
        yield Finding("WRONG", "run", str(error))
        return
    told = [json.loads(line.partition(MARK)[2]) for line in log.splitlines() if MARK in line]
    for finding in told:
        yield Finding(**finding)
    if not told:
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "it is empty")
        why = f"its log says nothing of what was tried; its last line: {last[:300]}; is the image of this commit?"
        yield Finding("WRONG", "run", f"{run_id} {described.state}: {why}")
    else:
        yield Finding("ok", "run", f"{run_id} {described.state}")


def _compiled(placement: Placement, folder: Path) -> Path:
    from kfp import compiler, dsl, kubernetes

    from components.check.component import check

    def pipeline(commit: str, device: str) -> None:
        task = check(commit=commit, device=device)
        task.set_caching_options(False)
        placement.apply(task, "train")
        task.set_retry(0)
        kubernetes.set_timeout(task, RUN_SECONDS)

    compiler.Compiler().compile(dsl.pipeline(name="inspo-check")(pipeline), str(folder / "check.yaml"))
    return folder / "check.yaml"


def _node(described: Any) -> str:
    """Argo's node whose pod ran the step: the last attempt of the run's one executor. Raises InspoError: there was none."""
    tasks = (described.run_details and described.run_details.task_details) or []
    attempts = [child.pod_name for task in tasks if task.display_name == "executor" for child in task.child_tasks or []]
    if not attempts:
        raise InspoError(f"{described.run_id} {described.state} without having started its pod: look at it in Kubeflow")
    return str(attempts[-1])


def _why(cluster: Cluster, run_id: str) -> str:
    try:
        return cluster.waiting(run_id) or "its pods do not say why"
    except Unseen as error:
        return str(error)


if __name__ == "__main__":
    run(main)
