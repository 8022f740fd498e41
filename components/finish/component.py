"""The end of a pipeline as a Kubeflow component, for its exit handler."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def finish(overrides: str, dataset: str, algorithm: str, status: dsl.PipelineTaskFinalStatus):
    """Close the pipeline's run in MLflow with the state that the pipeline ended in.

    A pipeline of one dataset and one algorithm names them; empty, they are those of ``experiment`` in the parameters.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.finish"],
        args=["--status", status, "--dataset", dataset, "--algorithm", algorithm, "--set", overrides],
    )
