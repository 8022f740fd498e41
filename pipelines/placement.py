"""Where steps run in the cluster: applied to the tasks of a graph, which itself says nothing of hardware."""

from kfp import dsl

NVIDIA = "nvidia.com/gpu"


def on_gpus(task: dsl.PipelineTask, count: int, resource: str = NVIDIA) -> None:
    """Ask for ``count`` GPUs of the Kubernetes resource name ``resource``; 0 leaves the task on any node's CPU."""
    if count:
        task.set_accelerator_type(resource).set_accelerator_limit(count)
