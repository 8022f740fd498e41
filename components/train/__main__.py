"""``python -m components.train``: learn policies from a dataset."""

from pathlib import Path

from components.cli import add_algorithm, add_record, add_seeds, params_of, run, stage_parser
from components.executor import write_executor_output
from inspo_core.stages import train_stage
from inspo_core.task_records import run_stage


def main() -> None:
    parser = stage_parser("train", "Train one algorithm on one dataset, for every seed; a stopped run goes on where it was.")
    parser.add_argument("--dataset", required=True, help="name of the dataset")
    add_algorithm(parser)
    parser.add_argument("--data", type=Path, required=True, help="the dataset, as the ingest stage wrote it")
    parser.add_argument("--behavior", type=Path, required=True, help="its behavior models, as the behavior stage wrote them")
    parser.add_argument("--out", type=Path, required=True, help="folder for policies and curves, seed_<k> each")
    add_seeds(parser)
    add_record(parser)
    arguments = parser.parse_args()
    params = params_of(arguments)
    seeds = arguments.seeds or params.experiment.seeds

    def train(seeds: list[int]) -> None:
        train_stage(params, arguments.dataset, arguments.algorithm, arguments.data, arguments.behavior, seeds, arguments.out)

    run_stage(arguments.record, train, seeds, arguments.behavior, arguments.out)
    write_executor_output(arguments)


if __name__ == "__main__":
    run(main)
