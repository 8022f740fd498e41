"""``python -m pipelines.local FILE``: every stage of an experiment on this machine, in one go."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.cli import add_overrides
from inspo_core.command import Parser, run
from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params, source_of
from inspo_core.datasets.fetch import DATA
from inspo_core.envs.table import GAMES
from inspo_core.errors import InspoError
from inspo_core.identity import STAGE_WORK, code_of, is_code_unchanged
from inspo_core.provenance import record_runs
from inspo_core.report.tables import print_table
from inspo_core.running.processes import EXIT_STOPPED
from inspo_core.stages.behavior import behavior_stage
from inspo_core.stages.evaluate import evaluate_stage
from inspo_core.stages.ingest import ingest_stage
from inspo_core.stages.outcomes import run_able
from inspo_core.stages.report import report_stage
from inspo_core.stages.seeded import Call
from inspo_core.stages.train import train_stage
from inspo_core.stopping import stop_requested


def main() -> None:
    parser = Parser(prog="python -m pipelines.local", description="Run an experiment; what is done is not done again.")
    parser.add_argument("params", type=Path, metavar="FILE", help="its parameters, e.g. experiments/headline.yaml")
    add_overrides(parser)
    arguments = parser.parse_args()
    params = load_params(arguments.params, arguments.overrides)
    name = params.experiment.name
    if name in STAGE_WORK:
        raise InspoError(f"{arguments.params}: experiment.name is {name!r}, expected a name that is no stage's")
    here = Path.cwd()
    project = next((folder for folder in (here, *here.parents) if (folder / "params.yaml").exists()), here)
    if project != here and not Path(DATA).exists():
        raise InspoError(f"{here} has no {DATA}/ and is no place for runs/; run the command in the project's folder, {project}")
    os.environ.setdefault("INSPO_CHECKPOINTS", f"checkpoints/{name}")  # two experiments may train the same run at the same time
    Experiment(params, Path("runs") / name, ["python", "-m", "pipelines.local", *sys.argv[1:]]).run()


class Experiment:
    """The stages of an experiment, with their outputs in ``folder``; what fails does not stop the rest."""

    def __init__(self, params: Params, folder: Path, command: list[str]):
        self._params, self._folder = params, folder
        self._call = Call(note=lambda fingerprints: record_runs(folder / "provenance.json", fingerprints, command))
        self._failures: list[str] = []
        games = [GAMES.entry(source_of(dataset, params.ingest.sources).env) for dataset in params.experiment.datasets]
        for stage in STAGE_WORK:  # as it is now, before any of it is imported
            for game in games:
                code_of(stage, game)
            for name in params.experiment.algorithms:
                code_of(stage, learner_of(name, params).entry)

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
            self._attempt("report", lambda: self._report(whole))
        if self._failures:
            raise InspoError(f"{self._folder} is not complete: {'; '.join(self._failures)}")

    def _run_dataset(self, dataset: str) -> None:
        params, seeds, call = self._params, self._params.experiment.seeds, self._call
        data, models = self._folder / "ingest" / dataset, self._folder / "behavior" / dataset
        if not self._attempt(f"ingest {dataset}", lambda: ingest_stage(params, dataset, Path(DATA) / dataset, data)):
            return
        self._seeds(f"behavior {dataset}", lambda able: behavior_stage(params, dataset, data, able, models, call), seeds, None)
        for name in params.experiment.algorithms:
            trained, evaluated = (self._folder / stage / dataset / name for stage in ("train", "evaluate"))
            self._seeds(
                f"train {dataset} {name}", lambda able: train_stage(params, dataset, name, data, models, able, trained, call), seeds, models
            )
            self._seeds(
                f"evaluate {dataset} {name}",
                lambda able: evaluate_stage(params, dataset, name, trained, able, evaluated, call),
                seeds,
                trained,
            )

    def _seeds(self, title: str, stage: Callable[[list[int]], None], seeds: list[int], before: Path | None) -> None:
        def attempt() -> None:
            _, failures = run_able(stage, seeds, before)
            self._failures += [f"{title} seed {seed}: {reason}" for seed, reason in failures.items()]

        self._attempt(title, attempt)

    def _attempt(self, title: str, act: Callable[[], Any]) -> bool:
        if stop_requested():
            sys.exit(EXIT_STOPPED)
        if not is_code_unchanged():  # what this process has imported is not what the fingerprints would say
            raise InspoError(f"the code was changed while {self._folder} was made; run the same command again, finished runs are kept")
        try:
            act()
        except InspoError as error:
            self._failures.append(str(error) if str(error).startswith(title) else f"{title}: {error}")
            print(f"failed, going on with the rest: {self._failures[-1]}", file=sys.stderr, flush=True)
            return False
        return True

    def _report(self, datasets: list[str]) -> None:
        experiment = self._params.experiment.model_copy(update={"datasets": datasets})
        params = self._params.model_copy(update={"experiment": experiment})
        print_table(*report_stage(self._folder / "evaluate", self._folder / "train", self._folder / "report", params))
        print(f"Tables and figures: {self._folder / 'report'}")


if __name__ == "__main__":
    run(main)
