"""``python -m components.behavior``: estimate the policies that collected a dataset."""

from pathlib import Path

from components.cli import add_seeds, params_of, run, stage_parser
from inspo_core.stages import behavior_stage


def main() -> None:
    parser = stage_parser("behavior", "Estimate the behavior policies of a dataset: local clones and one joint model, for every seed.")
    parser.add_argument("--dataset", required=True, help="name of the dataset")
    parser.add_argument("--data", type=Path, required=True, help="the dataset, as the ingest stage wrote it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models, seed_<k> each")
    add_seeds(parser)
    arguments = parser.parse_args()
    params = params_of(arguments)
    behavior_stage(params, arguments.dataset, arguments.data, arguments.seeds or params.experiment.seeds, arguments.out)


if __name__ == "__main__":
    run(main)
