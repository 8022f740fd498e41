"""The behavior stage as a Kubeflow component."""

from typing import List

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def behavior(
    dataset: str,
    data: dsl.Input[dsl.Dataset],
    seeds: List[int],
    overrides: str,
    device: str,
    planned: str,
    record: str,
    clones: dsl.Output[dsl.Model],
):
    """Model the policies that collected a dataset: a clone an agent and the joint model, for every seed.

    Under the key ``record``, if there is one, the shared store is told how every seed ended; so with train and evaluate.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.behavior"],
        args=[
            "--dataset", dataset,
            "--data", data.path,
            "--seeds", seeds,
            "--out", clones.path,
            "--device", device,
            "--planned", planned,
            "--record", record,
            "--set", overrides,
            "--executor-input", "{{$}}",
        ],
    )  # fmt: skip
