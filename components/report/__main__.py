"""``python -m components.report``: tables and figures of the evaluations."""

from pathlib import Path

from components.cli import params_of, run, stage_parser
from inspo_core.report import print_table, read_results, write_report


def main() -> None:
    parser = stage_parser("report", "Write tables and figures of the evaluations of the experiment in the parameters.")
    parser.add_argument("--evaluations", type=Path, required=True, help="what the evaluate stages wrote: <dataset>/<algorithm>/seed_<k>")
    parser.add_argument("--trainings", type=Path, required=True, help="what the train stages wrote: <dataset>/<algorithm>/seed_<k>")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report; replaced as a whole")
    arguments = parser.parse_args()
    params = params_of(arguments)
    results = read_results(arguments.evaluations, arguments.trainings, params)
    rows = write_report(results, arguments.out)
    print_table(results, rows)
    print(f"Tables and figures: {arguments.out}. Every run: mlflow ui --backend-store-uri sqlite:///mlflow.db")


if __name__ == "__main__":
    run(main)
