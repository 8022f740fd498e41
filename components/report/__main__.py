"""``python -m components.report``: tables and figures of the evaluations."""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from components.cli import add_planned, checked_params, stage_parser
from components.executor import write_executor_output
from inspo_core.command import run
from inspo_core.config.reading import whole
from inspo_core.config.sections import Params
from inspo_core.errors import InspoError
from inspo_core.parsing import parse_json
from inspo_core.redaction import shown
from inspo_core.report.failures import read_failures
from inspo_core.report.results import Results, Row
from inspo_core.report.tables import print_table
from inspo_core.running.shared_store import SharedStore
from inspo_core.section import sentences
from inspo_core.stages.outcomes import PlannedDataset, gather
from inspo_core.stages.report import report_stage


def main() -> None:
    parser = stage_parser("report", "Write tables and figures of the evaluations of the experiment in the parameters.")
    parser.add_argument("--evaluations", type=Path, help="what the evaluate stages wrote: <dataset>/<algorithm>/seed_<k>")
    parser.add_argument("--trainings", type=Path, help="what the train stages wrote: <dataset>/<algorithm>/seed_<k>")
    parser.add_argument(
        "--plan", type=_plan, metavar="JSON", help="a benchmark's plan, whose tasks left both in the shared store (INSPO_STORE)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the report; replaced as a whole")
    parser.add_argument(
        "--failures", type=Path, metavar="FILE", help="JSON list of runs to report as failed: dataset, algorithm, seed, reason"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="put a copy of report.html here, for Kubeflow to show")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the same for table.md")
    add_planned(parser)
    arguments = parser.parse_args()
    params = checked_params(arguments, "report")
    results, rows = _from_plan(arguments, params) if arguments.plan is not None else _from_folders(arguments, params)
    for name, copy in (("report.html", arguments.html), ("table.md", arguments.markdown)):
        if copy:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(arguments.out / name, copy)
    print_table(results, rows)
    print(f"Tables and figures: {arguments.out}. {_where_the_runs_are()}")
    write_executor_output(arguments)


def _from_folders(arguments: argparse.Namespace, params: Params) -> tuple[Results, list[Row]]:
    if not (arguments.evaluations and arguments.trainings):
        raise InspoError("a report needs --evaluations and --trainings, or --plan")
    failures = read_failures(arguments.failures, params.experiment) if arguments.failures else None
    return report_stage(arguments.evaluations, arguments.trainings, arguments.out, params, failures, arguments.planned)


def _from_plan(arguments: argparse.Namespace, params: Params) -> tuple[Results, list[Row]]:
    store = SharedStore.from_environment()
    if store is None:
        raise InspoError("--plan needs the shared store of the benchmark; set INSPO_STORE")
    with tempfile.TemporaryDirectory() as place:
        evaluations, trainings = Path(place, "evaluate"), Path(place, "train")
        failures = gather(arguments.plan, store, evaluations, trainings)
        return report_stage(evaluations, trainings, arguments.out, params, failures)


def _plan(text: str) -> list[PlannedDataset]:
    expected = "expected the JSON that `python -m pipelines.submit benchmark --dry-run` prints"
    try:
        return TypeAdapter(list[PlannedDataset]).validate_python(whole(parse_json(text, "--plan")))
    except ValidationError as error:
        raise InspoError(f"--plan: {sentences(error, 'entry', lambda _: ())}; {expected}") from error


def _where_the_runs_are() -> str:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("http"):
        return f"Every run: {shown(uri)}"
    store = '"$MLFLOW_TRACKING_URI"' if uri else "sqlite:///mlflow.db"
    return f"Every run: mlflow ui --backend-store-uri {store}"


if __name__ == "__main__":
    run(main)
