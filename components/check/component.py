"""What a pod of a run sees, as a Kubeflow component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def check(commit: str, device: str):
    """Try image, device, store and MLflow from inside a pod, and print what was found."""
    return dsl.ContainerSpec(image=IMAGE, command=["python", "-m", "components.check"], args=["--commit", commit, "--device", device])
