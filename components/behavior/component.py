"""The behavior stage as a Kubeflow component."""

from typing import Any, Dict, List

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def behavior(
    dataset: str,
    data: dsl.Input[dsl.Dataset],
    seeds: List[int],
    overrides: Dict[str, Any],
    clones: dsl.Output[dsl.Model],
):
    """Model the policies that collected a dataset: a clone an agent and the joint model, for every seed."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.behavior"],
        args=["--dataset", dataset, "--data", data.path, "--seeds", seeds, "--out", clones.path, "--set", overrides],
    )
