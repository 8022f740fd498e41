"""The report stage as Kubeflow components: of one experiment, from artifacts, and of a benchmark, from the shared store."""

from typing import Dict, List

from kfp import dsl

from components.image import IMAGE

COMMAND = ["python", "-m", "components.report"]


@dsl.container_component
def report(
    dataset: str,
    algorithm: str,
    evaluations: dsl.Input[dsl.Metrics],
    policies: dsl.Input[dsl.Model],
    seeds: List[int],
    overrides: str,
    planned: str,
    tables: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Aggregate the evaluations of one dataset and one algorithm over seeds into tables and figures."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=COMMAND,
        args=[
            "--evaluations", evaluations.path,
            "--trainings", policies.path,
            "--out", tables.path,
            "--html", page.path,
            "--markdown", summary.path,
            "--set", overrides,
            "--set", f"experiment.datasets=[{dataset}]",
            "--set", f"experiment.algorithms=[{algorithm}]",
            "--set", f"experiment.seeds={seeds}",
            "--planned", planned,
            "--executor-input", "{{$}}",
        ],
    )  # fmt: skip


@dsl.container_component
def benchmark_report(
    plan: List[Dict],
    overrides: str,
    tables: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
):
    """Compare all that a benchmark's tasks left in the shared store; what is missing is listed as failed."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=COMMAND,
        args=[
            "--plan", plan,
            "--out", tables.path,
            "--html", page.path,
            "--markdown", summary.path,
            "--set", overrides,
            "--executor-input", "{{$}}",
        ],
    )  # fmt: skip
