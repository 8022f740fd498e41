"""``python -m components.evaluate``: play episodes with trained policies."""

from pathlib import Path

from components.cli import add_algorithm, add_dataset, add_planned, add_prune, add_record, add_seeds, checked_params, stage_parser
from components.executor import write_executor_output
from inspo_core.command import run
from inspo_core.files import read_json
from inspo_core.stages.evaluate import evaluate_stage
from inspo_core.stages.outcomes import run_recorded
from inspo_core.stages.seeded import Call


def main() -> None:
    parser = stage_parser("evaluate", "Play episodes with the last policy of every seed, greedily and by sampling.")
    add_dataset(parser, "name of the dataset that the policies were trained on")
    add_algorithm(parser)
    parser.add_argument("--train", type=Path, required=True, help="the policies, as the train stage wrote them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, seed_<k> each")
    add_seeds(parser)
    add_record(parser)
    add_planned(parser)
    add_prune(parser)
    arguments = parser.parse_args()
    params = checked_params(arguments, "evaluate", arguments.dataset, arguments.algorithm)
    seeds = arguments.seeds or params.experiment.seeds
    call = Call(planned=arguments.planned, prune=arguments.prune)

    def evaluate(seeds: list[int]) -> None:
        evaluate_stage(params, arguments.dataset, arguments.algorithm, arguments.train, seeds, arguments.out, call)

    run_recorded(arguments.record, evaluate, seeds, arguments.train, arguments.out)
    summary = read_json(arguments.out / "summary.json")
    write_executor_output(arguments, evaluations={f"{metric}_iqm": estimate["iqm"] for metric, estimate in summary.items()})


if __name__ == "__main__":
    run(main)
