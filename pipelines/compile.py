"""Compile the experiment pipeline to the YAML that Kubeflow takes: ``python -m pipelines.compile``."""

import argparse
from pathlib import Path

from kfp import compiler

from pipelines.experiment import experiment
from pipelines.placement import NVIDIA


def main() -> None:
    """Write the compiled pipeline; ``INSPO_IMAGE`` in the environment names its image."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("pipelines/experiment.yaml"), metavar="FILE", help="default: %(default)s")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of the train step; 0 trains on CPU (default: %(default)s)")
    parser.add_argument("--gpu-resource", default=NVIDIA, metavar="NAME", help="their Kubernetes resource name (default: %(default)s)")
    arguments = parser.parse_args()
    compiler.Compiler().compile(experiment(arguments.gpus, arguments.gpu_resource), str(arguments.out))
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
