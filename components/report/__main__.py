"""``python -m components.report``: tables and figures of the evaluations."""

import os
from pathlib import Path

from components.cli import params_of, run, stage_parser
from inspo_core.report import print_table, read_failures, run_report
from inspo_core.tracking.store import shown


def main() -> None:
    parser = stage_parser("report", "Write tables and figures of the evaluations of the experiment in the parameters.")
    parser.add_argument("--evaluations", type=Path, required=True, help="what the evaluate stages wrote: <dataset>/<algorithm>/seed_<k>")
    parser.add_argument("--trainings", type=Path, required=True, help="what the train stages wrote: <dataset>/<algorithm>/seed_<k>")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report; replaced as a whole")
    parser.add_argument("--failures", type=Path, metavar="FILE", help="JSON list of runs to report as failed: dataset, algorithm, seed, reason")
    arguments = parser.parse_args()
    params = params_of(arguments)
    failures = read_failures(arguments.failures, params.experiment) if arguments.failures else None
    results, rows = run_report(arguments.evaluations, arguments.trainings, arguments.out, params, failures)
    print_table(results, rows)
    print(f"Tables and figures: {arguments.out}. {_where_the_runs_are()}")


def _where_the_runs_are() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("http"):
        return f"Every run: {shown(uri)}"
    store = '"$MLFLOW_TRACKING_URI"' if uri else "sqlite:///mlflow.db"
    return f"Every run: mlflow ui --backend-store-uri {store}"


if __name__ == "__main__":
    run(main)
