"""Compile the pipelines to the YAML that Kubeflow takes: ``python -m pipelines.compile``."""

from collections.abc import Callable
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from inspo_core.command import Parser, run
from pipelines.benchmark import benchmark
from pipelines.experiment import experiment
from pipelines.placement import Placement, load_placement

PIPELINES: dict[str, Callable[[Placement], BaseComponent]] = {"experiment": experiment, "benchmark": benchmark}
PLACEMENTS = Path(__file__).parent / "placements"


def main() -> None:
    """Write every pipeline with every placement; ``INSPO_IMAGE`` in the environment names the image."""
    parser = Parser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("pipelines/compiled"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--placement",
        type=Path,
        action="append",
        metavar="FILE",
        help="what runs where; may be repeated (default: all in pipelines/placements)",
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file in arguments.placement or sorted(PLACEMENTS.glob("*.yaml")):
        placement = load_placement(file)
        for name, pipeline in PIPELINES.items():
            out = arguments.out / f"{name}-{file.stem}.yaml"
            compiler.Compiler().compile(pipeline(placement), str(out))
            print(f"wrote {out}")


if __name__ == "__main__":
    run(main)
