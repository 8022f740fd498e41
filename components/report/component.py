"""The report stage as a Kubeflow component."""

from typing import Any, Dict

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def report(
    evaluations: dsl.Input[dsl.Metrics],
    policies: dsl.Input[dsl.Model],
    overrides: Dict[str, Any],
    reports: dsl.Output[dsl.Artifact],
):
    """Aggregate the evaluations over seeds into tables and figures."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.report"],
        args=["--evaluations", evaluations.path, "--trainings", policies.path, "--out", reports.path, "--set", overrides],
    )
