"""Where and how the steps of a pipeline run in the cluster: one YAML file, applied to the tasks of a graph that says nothing of it.

Moving a step to another node, or giving it more memory, makes no result anew. Only the device that computes is part of what a result is: a
step that asks for a GPU is told to compute there.
"""

from pathlib import Path
from typing import Annotated, Literal

from kfp import dsl, kubernetes
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from inspo_core.config.reading import merge
from inspo_core.errors import InspoError
from inspo_core.parsing import parse_yaml
from inspo_core.redaction import holds_secret, is_secret
from inspo_core.section import sentences

NVIDIA = "nvidia.com/gpu"
Step = Literal["ingest", "behavior", "train", "evaluate", "report", "finish"]
Count = Annotated[int, Field(le=2**31 - 1)]  # what a field of Kubeflow's or Kubernetes' holds
Cores = Annotated[str, StringConstraints(pattern=r"^([0-9]+(\.[0-9]+)?|[0-9]+m)$", max_length=20)]
Bytes = Annotated[str, StringConstraints(pattern=r"^[0-9]+([EPTGMK]i?)?$", max_length=20)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]  # of an object in Kubernetes
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/.+")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Processors(_Settings):
    request: Cores | None = None
    limit: Cores | None = None


class Memory(_Settings):
    request: Bytes | None = None
    limit: Bytes | None = None


class Gpu(_Settings):
    resource: str = NVIDIA  # the device plugin's name for it
    count: Count = Field(gt=0)


class Toleration(_Settings):
    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: Count | None = None  # of NoExecute


class SecretKey(_Settings):
    secret: Name
    key: str


class ConfigMapKey(_Settings):
    config_map: Name
    key: str


class Retries(_Settings):
    """How often a step that ended with an error starts again, and after how long: ``backoff_seconds``, times ``factor`` each time.

    No retry is made later than ``within_seconds`` after the first start, running time included (kubeflow/pipelines#14245):
    Kubeflow's own hour would leave a long training without any.
    """

    count: Count = Field(ge=0)
    backoff_seconds: Count = Field(default=60, ge=0)
    factor: float = Field(default=2.0, ge=1)
    within_seconds: Count = Field(default=7 * 24 * 3600, gt=0)


class Pod(_Settings):
    """What one step's pod gets; everything may be left out."""

    cpu: Processors = Processors()
    memory: Memory = Memory()
    gpu: Gpu | None = None
    shm: Bytes | None = None  # size of a /dev/shm in memory, which counts towards the memory limit
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    volumes: dict[Name, AbsolutePath] = {}  # PersistentVolumeClaim -> where it is mounted
    env: dict[Variable, str] = {}
    config_maps: dict[Variable, ConfigMapKey] = {}  # environment variables whose values the cluster holds
    secrets: dict[Variable, SecretKey] = {}  # the same, for what nobody may read
    run_as_non_root: bool | None = None  # has Kubernetes refuse a root user, as namespaces with the standard "restricted" ask
    image_pull_secrets: list[Name] = []
    image_pull_policy: Literal["Always", "Never", "IfNotPresent"] | None = None
    active_deadline_seconds: Count | None = Field(default=None, gt=0)
    retries: Retries | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @model_validator(mode="after")
    def _nothing_secret_in_plain_sight(self) -> "Pod":
        for name, value in self.env.items():
            if is_secret(name) or holds_secret(value):
                raise ValueError(f"env.{name} would be readable in the compiled pipeline: name a secret under secrets.{name}")
        for name in [*self.env, *self.config_maps, *self.secrets]:
            if sum(name in place for place in (self.env, self.config_maps, self.secrets)) > 1:
                raise ValueError(f"the variable {name} is given more than once among env, config_maps and secrets")
        return self


PARTS: dict[str, type[_Settings]] = {
    "cpu": Processors,
    "memory": Memory,
    "gpu": Gpu,
    "tolerations": Toleration,
    "config_maps": ConfigMapKey,
    "secrets": SecretKey,
    "retries": Retries,
}


class Placement(_Settings):
    """A placement file: what all steps get, and in what single steps differ."""

    service_account: Name | None = None  # of a run's pods; None is the one that Kubeflow takes by itself
    defaults: Pod = Pod()
    steps: dict[Step, Pod] = {}

    def pod(self, step: str) -> Pod:
        """The settings of ``step``: its mappings are merged with the defaults' key by key, its other values replace them."""
        own = next((pod for name, pod in self.steps.items() if name == step), Pod())
        return Pod.model_validate(merge(*(pod.model_dump(exclude_unset=True) for pod in (self.defaults, own))))

    def device(self, step: str) -> str:
        """What computes in ``step``: ``cuda`` if its pod asks for a GPU, else ``cpu``."""
        return "cuda" if self.pod(step).gpu else "cpu"

    def apply(self, task: dsl.PipelineTask, step: str) -> None:
        """Give ``task``, which runs a container, what the file says of ``step``.

        The step's command also learns its image (``INSPO_IMAGE``, for MLflow) and how many seeds may run side by side
        (``INSPO_WORKERS``, one a core): a container sees the processors of the whole node, not those of its limit.
        """
        pod = self.pod(step)
        environment = {"INSPO_IMAGE": task.container_spec.image}
        if cores := pod.cpu.limit or pod.cpu.request:
            environment["INSPO_WORKERS"] = str(max(1, int(float(cores.removesuffix("m")) / (1000 if cores.endswith("m") else 1))))
        for name, value in (environment | pod.env).items():
            task.set_env_variable(name, value)
        _set_resources(task, pod)
        _set_kubernetes(task, pod)
        if pod.retries and pod.retries.count:
            backoff, within = f"{pod.retries.backoff_seconds}s", f"{pod.retries.within_seconds}s"
            task.set_retry(pod.retries.count, backoff_duration=backoff, backoff_factor=pod.retries.factor, backoff_max_duration=within)


def load_placement(path: Path) -> Placement:
    """Read a placement file. Raises InspoError: unreadable, no YAML, a key twice, unknown key, a value that cannot be one."""
    try:
        values = parse_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise InspoError(f"cannot read the placement {path}: {error.strerror}") from error
    if not isinstance(values, dict):
        raise InspoError(f"{path} must hold one mapping with the keys {', '.join(Placement.model_fields)}")
    try:
        placement = Placement.model_validate(values)
        for step in placement.steps:
            placement.pod(step)  # a step and the defaults may be right only each by itself
    except ValidationError as error:
        # What was found there may be a secret.
        raise InspoError(f"{path}: {sentences(error, 'setting', _known, is_secret=lambda location: 'secrets' in location)}") from error
    return placement


def _set_resources(task: dsl.PipelineTask, pod: Pod) -> None:
    for amount, setter in (
        (pod.cpu.request, task.set_cpu_request),
        (pod.cpu.limit, task.set_cpu_limit),
        (pod.memory.request, task.set_memory_request),
        (pod.memory.limit, task.set_memory_limit),
    ):
        if amount:
            setter(amount)
    if pod.gpu:
        task.set_accelerator_type(pod.gpu.resource).set_accelerator_limit(pod.gpu.count)


def _set_kubernetes(task: dsl.PipelineTask, pod: Pod) -> None:
    """What Kubeflow keeps apart from the graph, in the second document of the compiled file."""
    for label, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, label, value)
    for taint in pod.tolerations:
        kubernetes.add_toleration(task, taint.key, taint.operator, taint.value, taint.effect, taint.seconds)
    for claim, path in pod.volumes.items():
        kubernetes.mount_pvc(task, claim, path)
    if pod.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=pod.shm)
    for variable, held in pod.config_maps.items():
        kubernetes.use_config_map_as_env(task, held.config_map, {held.key: variable})
    for variable, secret in pod.secrets.items():
        kubernetes.use_secret_as_env(task, secret.secret, {secret.key: variable})
    if pod.run_as_non_root is not None:
        kubernetes.set_security_context(task, run_as_non_root=pod.run_as_non_root)
    if pod.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, pod.image_pull_secrets)
    if pod.image_pull_policy:
        kubernetes.set_image_pull_policy(task, pod.image_pull_policy)
    if pod.active_deadline_seconds:
        kubernetes.set_timeout(task, pod.active_deadline_seconds)
    for name, value in pod.labels.items():
        kubernetes.add_pod_label(task, name, value)
    for name, value in pod.annotations.items():
        kubernetes.add_pod_annotation(task, name, value)


def _known(location: tuple[int | str, ...]) -> list[str]:
    """The settings at a place in the file."""
    inside = next((part for part in reversed(location) if part in PARTS), None)
    settings: type[_Settings] = PARTS[str(inside)] if inside else Pod if location else Placement
    return list(settings.model_fields)
