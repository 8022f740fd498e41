"""``python -m components.behavior``: estimate the policies that collected a dataset."""

from pathlib import Path

from components.cli import add_dataset, add_device, add_planned, add_prune, add_record, add_seeds, checked_params, stage_parser
from components.executor import write_executor_output
from inspo_core.command import run
from inspo_core.stages.behavior import behavior_stage
from inspo_core.stages.outcomes import run_recorded
from inspo_core.stages.seeded import Call


def main() -> None:
    parser = stage_parser("behavior", "Estimate the behavior policies of a dataset: local clones and one joint model, for every seed.")
    add_dataset(parser, "name of the dataset")
    parser.add_argument("--data", type=Path, required=True, help="the dataset, as the ingest stage wrote it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the models, seed_<k> each")
    add_seeds(parser)
    add_record(parser)
    add_planned(parser)
    add_prune(parser)
    add_device(parser)
    arguments = parser.parse_args()
    params = checked_params(arguments, "behavior", arguments.dataset)
    seeds = arguments.seeds or params.experiment.seeds
    call = Call(arguments.device, arguments.planned, prune=arguments.prune)

    def behavior(seeds: list[int]) -> None:
        behavior_stage(params, arguments.dataset, arguments.data, seeds, arguments.out, call)

    run_recorded(arguments.record, behavior, seeds, None, arguments.out)
    write_executor_output(arguments)


if __name__ == "__main__":
    run(main)
