"""``python -m tests.e2e.kfp_local FILE``: run a pipeline with Kubeflow's own local runner, every step in a container.

FILE is JSON: ``pipeline`` (experiment or benchmark), ``placement`` (a file), ``root`` (a folder that the containers share),
``arguments`` (the pipeline's parameters), ``keys`` (cache keys, of an experiment), ``cache`` (whether Kubeflow's cache is used) and
``mounts`` (folders here that the containers may read, and where).
DOCKER_HOST names the engine, INSPO_IMAGE the image.
"""

import json
import os
import sys
from pathlib import Path

from docker.types import Mount
from kfp import local

from pipelines.benchmark import benchmark
from pipelines.experiment import experiment
from pipelines.placement import load_placement


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    os.umask(0)  # the containers' user is another one
    mounts = [Mount(target=there, source=here, type="bind", read_only=True) for here, there in task["mounts"].items()]
    # A cluster puts a component's command in the place of the image's entry point; the local runner would append it.
    runner = local.DockerRunner(network_mode="host", mounts=mounts, entrypoint=[""])
    local.init(runner, pipeline_root=task["root"], enable_caching=task["cache"])
    placement = load_placement(Path(task["placement"]))
    made = experiment(placement, task["keys"]) if task["pipeline"] == "experiment" else benchmark(placement)
    made(**task["arguments"])


if __name__ == "__main__":
    main()
