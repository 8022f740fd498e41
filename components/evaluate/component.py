"""The evaluate stage as a Kubeflow component."""

from typing import List

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def evaluate(
    dataset: str,
    algorithm: str,
    policies: dsl.Input[dsl.Model],
    seeds: List[int],
    overrides: str,
    planned: str,
    record: str,
    evaluations: dsl.Output[dsl.Metrics],
):
    """Play episodes with every seed's policy; ``evaluations`` holds the results as <dataset>/<algorithm>/seed_<k>."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.evaluate"],
        args=[
            "--dataset", dataset,
            "--algorithm", algorithm,
            "--train", f"{policies.path}/{dataset}/{algorithm}",
            "--seeds", seeds,
            "--out", f"{evaluations.path}/{dataset}/{algorithm}",
            "--record", record,
            "--set", overrides,
            "--planned", planned,
            "--executor-input", "{{$}}",
        ],
    )  # fmt: skip
