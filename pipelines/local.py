"""``python -m pipelines.local FILE``: every stage of an experiment on this machine, in one go."""

import argparse
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.cli import add_overrides, run
from inspo_core.config import Params, load_params
from inspo_core.datasets.ingest import identity_of, run_ingest
from inspo_core.errors import InspoError
from inspo_core.files import read_json
from inspo_core.fingerprint import STAGE_CODE, code_hash, fingerprint
from inspo_core.report import print_table, run_report
from inspo_core.seeds import EXIT_STOPPED
from inspo_core.stages import behavior_stage, evaluate_stage, seeds_in, train_stage
from inspo_core.stopping import stop_requested
from inspo_core.tracking import record_runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.local", description="Run an experiment; what is done is not done again.")
    parser.add_argument("params", type=Path, metavar="FILE", help="its parameters, e.g. experiments/headline.yaml")
    add_overrides(parser)
    arguments = parser.parse_args()
    params = load_params(arguments.params, arguments.overrides)
    name = params.experiment.name
    if not re.fullmatch(r"[\w-][\w.-]*", name) or name in STAGE_CODE:
        raise InspoError(f"{arguments.params}: experiment.name is {name!r}, expected a folder's name that is no stage's")
    os.environ.setdefault("INSPO_CHECKPOINTS", f"checkpoints/{name}")  # two experiments may train the same run at the same time
    Experiment(params, Path("runs") / name, f"python -m pipelines.local {shlex.join(sys.argv[1:])}").run()


class Experiment:
    """The stages of an experiment, with their outputs in ``folder``; what fails does not stop the rest."""

    def __init__(self, params: Params, folder: Path, command: str):
        self._params, self._folder = params, folder
        self._note = lambda fingerprints: record_runs(folder / "provenance.json", fingerprints, command)
        self._failures: list[str] = []
        self._code = _code()

    def run(self) -> None:
        """Run all stages; the report is of the datasets of which every run is there.

        Raises InspoError naming all that failed, or because the code was changed meanwhile; SystemExit when stopped by a signal.
        """
        whole = []
        for dataset in self._params.experiment.datasets:
            before = len(self._failures)
            self._run_dataset(dataset)
            if len(self._failures) == before:
                whole.append(dataset)
        if whole:
            self._attempt("report", self._report, whole)
        if self._failures:
            raise InspoError(f"{self._folder} is not complete: {'; '.join(self._failures)}")

    def _run_dataset(self, dataset: str) -> None:
        params, seeds = self._params, self._params.experiment.seeds
        data, models = self._folder / "ingest" / dataset, self._folder / "behavior" / dataset
        if not self._attempt(f"ingest {dataset}", self._ingest, dataset, data):
            return
        self._attempt(f"behavior {dataset}", behavior_stage, params, dataset, data, seeds, models, self._note)
        for name in params.experiment.algorithms:
            trained, evaluated = (self._folder / stage / dataset / name for stage in ("train", "evaluate"))
            if able := seeds_in(models, seeds):
                self._attempt(f"train {dataset} {name}", train_stage, params, dataset, name, data, models, able, trained, self._note)
            if able := seeds_in(trained, able):
                self._attempt(f"evaluate {dataset} {name}", evaluate_stage, params, dataset, name, trained, able, evaluated, self._note)

    def _attempt(self, title: str, stage: Callable[..., None], *arguments: Any) -> bool:
        if stop_requested():
            sys.exit(EXIT_STOPPED)
        if _code() != self._code:  # what this process has imported is not what the fingerprints would say
            raise InspoError(f"the code was changed while {self._folder} was made; run the same command again, finished runs are kept")
        try:
            stage(*arguments)
        except InspoError as error:
            self._failures.append(str(error) if str(error).startswith(title) else f"{title}: {error}")
            print(f"failed, going on with the rest: {self._failures[-1]}", file=sys.stderr, flush=True)
            return False
        return True

    def _ingest(self, dataset: str, out: Path) -> None:
        raw = Path("data") / dataset
        name = fingerprint("ingest", *identity_of(dataset, self._params.ingest.sources, raw))
        if (out / "run.json").exists() and read_json(out / "run.json").get("fingerprint") == name:
            print(f"ingest {dataset}: done already")
            return
        run_ingest(dataset, self._params, raw, out)

    def _report(self, datasets: list[str]) -> None:
        for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(number, handler)  # no seed is left to be stopped
        experiment = self._params.experiment.model_copy(update={"datasets": datasets})
        params = self._params.model_copy(update={"experiment": experiment})
        print_table(*run_report(self._folder / "evaluate", self._folder / "train", self._folder / "report", params))
        print(f"Tables and figures: {self._folder / 'report'}")


def _code() -> dict[str, str]:
    return {stage: code_hash(stage) for stage in STAGE_CODE}


if __name__ == "__main__":
    run(main)
