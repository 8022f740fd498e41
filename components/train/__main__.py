"""``python -m components.train``: learn policies from a dataset."""

from pathlib import Path

from components.cli import (
    add_algorithm,
    add_dataset,
    add_device,
    add_planned,
    add_prune,
    add_record,
    add_seeds,
    checked_params,
    stage_parser,
)
from components.executor import write_executor_output
from inspo_core.command import run
from inspo_core.stages.outcomes import run_recorded
from inspo_core.stages.seeded import Call
from inspo_core.stages.train import train_stage


def main() -> None:
    parser = stage_parser("train", "Train one algorithm on one dataset, for every seed; a stopped run goes on where it was.")
    add_dataset(parser, "name of the dataset")
    add_algorithm(parser)
    parser.add_argument("--data", type=Path, required=True, help="the dataset, as the ingest stage wrote it")
    parser.add_argument("--behavior", type=Path, required=True, help="its behavior models, as the behavior stage wrote them")
    parser.add_argument("--out", type=Path, required=True, help="folder for policies and curves, seed_<k> each")
    add_seeds(parser)
    add_record(parser)
    add_planned(parser)
    add_prune(parser)
    add_device(parser)
    arguments = parser.parse_args()
    params = checked_params(arguments, "train", arguments.dataset, arguments.algorithm)
    seeds = arguments.seeds or params.experiment.seeds
    call = Call(arguments.device, arguments.planned, prune=arguments.prune)

    def train(seeds: list[int]) -> None:
        train_stage(params, arguments.dataset, arguments.algorithm, arguments.data, arguments.behavior, seeds, arguments.out, call)

    run_recorded(arguments.record, train, seeds, arguments.behavior, arguments.out)
    write_executor_output(arguments)


if __name__ == "__main__":
    run(main)
