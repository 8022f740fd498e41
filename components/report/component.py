"""The report stage as a Kubeflow component."""

from typing import Any, Dict, List

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def report(
    dataset: str,
    algorithm: str,
    evaluations: dsl.Input[dsl.Metrics],
    policies: dsl.Input[dsl.Model],
    seeds: List[int],
    overrides: Dict[str, Any],
    reports: dsl.Output[dsl.Artifact],
):
    """Aggregate the evaluations of one dataset and one algorithm over seeds into tables and figures."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.report"],
        args=[
            "--evaluations", evaluations.path,
            "--trainings", policies.path,
            "--out", reports.path,
            "--set", f"experiment.datasets=[{dataset}]",
            "--set", f"experiment.algorithms=[{algorithm}]",
            "--set", f"experiment.seeds={seeds}",
            "--set", overrides,
        ],
    )  # fmt: skip
