"""The ingest stage as a Kubeflow component."""

from typing import Any, Dict

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def ingest(dataset: str, raw: dsl.Input[dsl.Dataset], overrides: Dict[str, Any], data: dsl.Output[dsl.Dataset]):
    """Turn the raw files of a dataset into validated episodes in the native format."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.ingest"],
        args=["--dataset", dataset, "--raw", raw.path, "--out", data.path, "--set", overrides],
    )
