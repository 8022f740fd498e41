"""The train stage as a Kubeflow component."""

from typing import List

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def train(
    dataset: str,
    algorithm: str,
    data: dsl.Input[dsl.Dataset],
    clones: dsl.Input[dsl.Model],
    seeds: List[int],
    overrides: str,
    device: str,
    planned: str,
    record: str,
    policies: dsl.Output[dsl.Model],
):
    """Learn one policy a seed; ``policies`` holds them as <dataset>/<algorithm>/seed_<k>, the tree that the report reads."""
    # An f-string, not dsl.ConcatPlaceholder: Kubeflow's launcher replaces placeholders inside an argument but leaves Concat unresolved.
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.train"],
        args=[
            "--dataset", dataset,
            "--algorithm", algorithm,
            "--data", data.path,
            "--behavior", clones.path,
            "--seeds", seeds,
            "--out", f"{policies.path}/{dataset}/{algorithm}",
            "--device", device,
            "--planned", planned,
            "--record", record,
            "--set", overrides,
            "--executor-input", "{{$}}",
        ],
    )  # fmt: skip
