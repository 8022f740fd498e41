"""The ingest stage as a Kubeflow component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def ingest(
    dataset: str,
    data_repo: str,
    data_rev: str,
    data_remote: str,
    overrides: str,
    planned: str,
    data: dsl.Output[dsl.Dataset],
):
    """Turn the raw files of a dataset, read from a DVC repository, into validated episodes in the native format.

    ``planned``, the task's key, tells Kubeflow's cache what is made, by being a parameter, and the command with what code; so with
    the other components. None of them has a default: Kubeflow 2.17.0 does not find the value of a parameter that a task leaves out
    (kubeflow/pipelines#14175).
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["python", "-m", "components.ingest"],
        args=[
            "--dataset", dataset,
            "--repo", data_repo,
            "--rev", data_rev,
            "--remote", data_remote,
            "--out", data.path,
            "--set", overrides,
            "--planned", planned,
            "--executor-input", "{{$}}",
        ],
    )  # fmt: skip
