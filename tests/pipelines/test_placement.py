"""A placement file ends up in the compiled pipeline, whole and unchanged; a mistake in it is one sentence."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp import compiler, dsl
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from inspo_core.errors import InspoError
from pipelines.placement import Placement, load_placement

PLACEMENTS = Path(__file__).resolve().parents[2] / "pipelines" / "placements"
EVERYTHING = """
service_account: runner
defaults:
  cpu: {request: 500m, limit: "2"}
  memory: {request: 1Gi}
  env: {INSPO_STORE: /store, SHARED: "1"}
  config_maps: {MLFLOW_TRACKING_URI: {config_map: settings, key: mlflow}}
  secrets: {AWS_SECRET_ACCESS_KEY: {secret: s3, key: secret}, AWS_ACCESS_KEY_ID: {secret: s3, key: id}}
  volumes: {store: /store}
  run_as_non_root: true
  image_pull_secrets: [registry]
  image_pull_policy: Always
  active_deadline_seconds: 600
  retries: {count: 2, backoff_seconds: 30, factor: 3, within_seconds: 90000}
  labels: {team: games}
steps:
  train:
    cpu: {limit: 3500m}
    gpu: {resource: amd.com/gpu, count: 2}
    shm: 1Gi
    env: {SHARED: "2"}
    node_selector: {disk: ssd, gpu: big}
    tolerations: [{key: gpu, operator: Exists, effect: NoSchedule}, {key: spot, value: "true", effect: NoExecute, seconds: 60}]
    volumes: {scratch: /scratch}
    active_deadline_seconds: 1200
    labels: {stage: train}
    annotations: {owner: nobody}
"""


@dsl.container_component
def step(seeds: list):
    return dsl.ContainerSpec(image="inspo@sha256:0123", command=["python"])


def compiled(placement: Placement, folder: Path) -> tuple[dict, dict, dict]:
    """Task, container and Kubernetes settings of a train step in a loop, which Kubeflow's own definitions have read."""

    @dsl.pipeline(name="placed")
    def pipeline():
        finish = step(seeds=[0])
        placement.apply(finish, "finish")
        with dsl.ExitHandler(finish), dsl.ParallelFor([[0], [1]]) as seeds:
            placement.apply(step(seeds=seeds), "train")

    compiler.Compiler().compile(pipeline, str(folder / "placed.yaml"))
    graph, platform = yaml.safe_load_all((folder / "placed.yaml").read_text())
    json_format.ParseDict(graph, PipelineSpec())
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for one in settings.values():
        json_format.ParseDict(one, KubernetesExecutorConfig())
    container = graph["deploymentSpec"]["executors"]["exec-step-2"]["container"]
    (loop,) = [component for name, component in graph["components"].items() if name.startswith("comp-for-loop")]
    return loop["dag"]["tasks"]["step-2"], container, settings["exec-step-2"]


def written(folder: Path, text: str) -> Path:
    (folder / "placement.yaml").write_text(text)
    return folder / "placement.yaml"


def test_every_setting_reaches_the_step(tmp_path):
    placement = load_placement(written(tmp_path, EVERYTHING))
    assert placement.service_account == "runner"
    task, container, kubernetes = compiled(placement, tmp_path)

    assert task["retryPolicy"] == {"maxRetryCount": 2, "backoffDuration": "30s", "backoffFactor": 3.0, "backoffMaxDuration": "90000s"}
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert environment == {
        "INSPO_IMAGE": "inspo@sha256:0123",
        "INSPO_WORKERS": "3",
        "INSPO_STORE": "/store",
        "SHARED": "2",
    }
    resources = container["resources"]
    assert (resources["resourceCpuRequest"], resources["resourceCpuLimit"]) == ("500m", "3500m")
    assert resources["resourceMemoryRequest"] == "1Gi" and "resourceMemoryLimit" not in resources
    assert (resources["accelerator"]["resourceType"], resources["accelerator"]["resourceCount"]) == ("amd.com/gpu", "2")

    def references(kind: str, name: str, key: str) -> dict[str, tuple[str, str]]:
        return {pair["envVar"]: (one[name], pair[key]) for one in kubernetes[kind] for pair in one["keyToEnv"]}

    assert references("configMapAsEnv", "configMapName", "configMapKey") == {"MLFLOW_TRACKING_URI": ("settings", "mlflow")}
    secrets = {"AWS_SECRET_ACCESS_KEY": ("s3", "secret"), "AWS_ACCESS_KEY_ID": ("s3", "id")}
    assert references("secretAsEnv", "secretName", "secretKey") == secrets
    assert {mount["constant"]: mount["mountPath"] for mount in kubernetes["pvcMount"]} == {"store": "/store", "scratch": "/scratch"}
    assert kubernetes["emptyDirMounts"] == [{"medium": "Memory", "mountPath": "/dev/shm", "sizeLimit": "1Gi", "volumeName": "shm"}]
    assert kubernetes["nodeSelector"]["labels"] == {"disk": "ssd", "gpu": "big"}
    assert kubernetes["tolerations"] == [
        {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoExecute", "tolerationSeconds": "60"},
    ]
    assert kubernetes["securityContext"] == {"runAsNonRoot": True}
    assert [secret["secretName"] for secret in kubernetes["imagePullSecret"]] == ["registry"]
    assert (kubernetes["imagePullPolicy"], kubernetes["activeDeadlineSeconds"]) == ("Always", "1200")
    assert kubernetes["podMetadata"] == {"labels": {"team": "games", "stage": "train"}, "annotations": {"owner": "nobody"}}


def test_an_empty_placement_adds_nothing_but_the_image(tmp_path):
    @dsl.pipeline(name="placed")
    def pipeline():
        load_placement(written(tmp_path, "{}")).apply(step(seeds=[0]), "train")

    compiler.Compiler().compile(pipeline, str(tmp_path / "placed.yaml"))
    (graph,) = yaml.safe_load_all((tmp_path / "placed.yaml").read_text())
    image = "inspo@sha256:0123"
    assert graph["deploymentSpec"]["executors"]["exec-step"]["container"] == {
        "command": ["python"],
        "env": [{"name": "INSPO_IMAGE", "value": image}],
        "image": image,
    }


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_of_the_placements_here_only_gpu_asks_for_gpus_and_only_for_training(name):
    placement = load_placement(PLACEMENTS / f"{name}.yaml")
    steps = ["ingest", "behavior", "train", "evaluate", "report", "finish"]
    assert [step for step in steps if placement.pod(step).gpu] == (["train"] if name == "gpu" else [])
    for step in steps:
        pod = placement.pod(step)
        assert pod.cpu.limit and pod.memory.limit and pod.active_deadline_seconds
        assert pod.retries.within_seconds > pod.active_deadline_seconds, "a pod that used its time could not be retried"
        assert placement.device(step) == ("cuda" if pod.gpu else "cpu")
        assert pod.env.keys() == {"INSPO_DELIVERY_PATIENCE"}, "what differs from cluster to cluster is in the config map"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("default: {}", ["unknown setting default", "did you mean defaults?"]),
        ("defaults: {cpus: 2}", ["unknown setting defaults.cpus", "did you mean cpu?"]),
        ("steps: {train: {gpu: {type: a100, count: 1}}}", ["unknown setting steps.train.gpu.type", "known: resource, count"]),
        ("{nodes: {}}", ["unknown setting nodes", "known: service_account, defaults, steps"]),
        ("steps: {trian: {}}", ["steps.trian", "'ingest', 'behavior', 'train'"]),
        ("defaults: {memory: {limit: 8 GB}}", ["defaults.memory.limit is '8 GB'"]),
        ("defaults: {env: {AWS_SECRET_ACCESS_KEY: hunter2}}", ["env.AWS_SECRET_ACCESS_KEY", "secrets.AWS_SECRET_ACCESS_KEY"]),
        ("defaults: {env: {MLFLOW_TRACKING_URI: 'http://me:hunter2@mlflow'}}", ["env.MLFLOW_TRACKING_URI"]),
        ("defaults: {secrets: {KEY: hunter2}}", ["defaults.secrets.KEY"]),
        ("{defaults: {env: {A: x}}, steps: {train: {secrets: {A: {secret: s, key: k}}}}}", ["variable A is given more than once"]),
        ("[]", ["one mapping"]),
        ("{", ["not valid YAML"]),
    ],
)
def test_a_mistake_is_one_sentence_that_repeats_no_secret(tmp_path, text, words):
    with pytest.raises(InspoError) as error:
        load_placement(written(tmp_path, text))
    sentence = str(error.value)
    assert all(word in sentence for word in ["placement.yaml", *words]), sentence
    assert "\n" not in sentence and "hunter2" not in sentence


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InspoError, match="cannot read the placement .*nowhere.yaml"):
        load_placement(tmp_path / "nowhere.yaml")
