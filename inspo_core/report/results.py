"""Collecting what the evaluate and train stages left, for the experiment that ``params.yaml`` names and nothing else."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inspo_core.config.learners import Learner, label, learner_of
from inspo_core.config.sections import Params, source_of
from inspo_core.errors import InspoError, quoted, shortened
from inspo_core.evaluations import BestPolicy, read_metrics
from inspo_core.files import hash_of
from inspo_core.parsing import parse_json
from inspo_core.records import check_run
from inspo_core.report.failures import Failures
from inspo_core.report.scores import Reference, reference_of
from inspo_core.statistics import Estimate, estimate

METRICS = ("return_greedy", "return_sampled", "success_greedy", "success_sampled")
SCORES = ("score_greedy", "score_sampled")  # the returns on a scale that the games share
CURVE_PREFIX = "evaluation/"
POOLED = "all"  # dataset column of a row that pools every dataset


@dataclass(frozen=True)
class Cell:
    """One algorithm or variant on one dataset, all seeds that did not fail; maybe none."""

    dataset: str
    algorithm: str
    variant: str
    seeds: list[int]  # in the order of the experiment, as in all that follows
    trainings: list[str]  # fingerprints of the seeds' trainings
    values: dict[str, np.ndarray]  # metric, and score where the game has references -> (S,), of the last policy
    curves: list[dict[int, dict[str, float]]]  # a seed: iteration -> metric -> value; empty if training was not evaluated
    config: dict[str, Any] = field(default_factory=dict)  # parameters of the trainings, the seed apart

    @property
    def name(self) -> str:
        return label(self.algorithm, self.variant)

    def at(self, seeds: Sequence[int], metric: str) -> np.ndarray:
        """The values (S,) of ``metric`` of some of its seeds."""
        return self.values[metric][[self.seeds.index(seed) for seed in seeds]]

    def curve(self, metric: str) -> tuple[list[int], np.ndarray]:
        """The iterations (T,) at which every seed was evaluated, and ``metric`` there, (S, T). There must be a seed."""
        steps = sorted(set.intersection(*(set(curve) for curve in self.curves)))
        return steps, np.array([[curve[step][metric] for step in steps] for curve in self.curves])


@dataclass(frozen=True)
class Row:
    """One line of the summary."""

    dataset: str
    algorithm: str
    variant: str
    metric: str
    estimate: Estimate

    @property
    def name(self) -> str:
        return label(self.algorithm, self.variant)


@dataclass(frozen=True)
class Results:
    """An experiment's evaluations: one cell for each of its datasets and algorithms, in their order in ``params.yaml``."""

    cells: list[Cell]
    games: dict[str, str]  # dataset -> game
    seeds: list[int]  # of the experiment
    episodes: int  # a policy and mode
    confidence: float
    resamples: int
    failures: Failures = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    @property
    def played(self) -> list[str]:
        """The datasets on which some run did not fail: those that pooled numbers are over."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells if cell.seeds))

    @property
    def names(self) -> list[str]:
        """Of the algorithms and variants."""
        return list(dict.fromkeys(cell.name for cell in self.cells))

    def cell(self, dataset: str, name: str) -> Cell:
        return next(cell for cell in self.cells if (cell.dataset, cell.name) == (dataset, name))

    def measured(self, metric: str) -> list[str]:
        """The played datasets that have ``metric``: all of them, and of a score those of games whose references are known."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells if cell.seeds and metric in cell.values))

    def column(self, name: str, metric: str) -> list[np.ndarray]:
        """The values (S,) of ``metric`` on every dataset that has it; seeds that failed are not among them."""
        return [self.cell(dataset, name).values[metric] for dataset in self.measured(metric)]

    def shared_seeds(self, metric: str, *names: str) -> list[int]:
        """The seeds that all of ``names`` have on every dataset that has ``metric``."""
        cells = [self.cell(dataset, name) for dataset in self.measured(metric) for name in names]
        return [seed for seed in self.seeds if all(seed in cell.seeds for cell in cells)]

    def pooled(self, name: str, metric: str) -> list[np.ndarray]:
        """The values (S,) of ``metric`` on every dataset that has it, of the seeds that are there on all: datasets weigh the same.

        Empty where there is no such seed or dataset.
        """
        seeds = self.shared_seeds(metric, name)
        return [self.cell(dataset, name).at(seeds, metric) for dataset in self.measured(metric)] if seeds else []

    def reference(self, dataset: str) -> Reference:
        return reference_of(self.games[dataset])

    def estimate(self, *strata: np.ndarray) -> Estimate:
        """Estimate with the experiment's confidence and number of resamples."""
        return estimate(strata, self.confidence, self.resamples)

    def ordered_failures(self) -> list[tuple[str, str, int, str]]:
        """Dataset, algorithm or variant, seed and reason of every failed run, in the order of the experiment."""
        places = [(cell.dataset, cell.name, seed) for cell in self.cells for seed in self.seeds]
        return [(*place, self.failures[place]) for place in places if place in self.failures]

    def content(self) -> dict[str, str]:
        """Hash of what was read and of the references, by input of the stage."""
        evaluated = [[c.dataset, c.algorithm, c.variant, c.seeds, {m: v.tolist() for m, v in c.values.items()}] for c in self.cells]
        trained = [[c.trainings, [sorted(curve.items()) for curve in c.curves]] for c in self.cells]
        failures = {"failures": hash_of(sorted(self.failures.items()))} if self.failures else {}
        references = hash_of({dataset: vars(self.reference(dataset)) for dataset in self.datasets})
        read = {"evaluations": hash_of([self.seeds, self.episodes, evaluated]), "trainings": hash_of(trained), "references": references}
        return read | failures

    def best_policies(self) -> list[BestPolicy]:
        """Of each dataset the seed's policy with the highest greedy return, then sampled return, then the one listed first."""
        choices = []
        for dataset in self.played:
            cells = [cell for cell in self.cells if cell.dataset == dataset]
            cell, place = max(
                ((cell, place) for cell in cells for place in range(len(cell.seeds))),
                key=lambda found: tuple(found[0].values[metric][found[1]] for metric in ("return_greedy", "return_sampled")),
            )
            choices.append(
                BestPolicy(
                    dataset=dataset,
                    algorithm=cell.algorithm,
                    variant=cell.variant,
                    seed=cell.seeds[place],
                    fingerprint=cell.trainings[place],
                    metric="return_greedy",
                    value=float(cell.values["return_greedy"][place]),
                )
            )
        return choices

    def summary(self) -> list[Row]:
        """Every cell's metrics and scores, then success rates and scores pooled over datasets, with each dataset as a stratum.

        Returns are not pooled: the games pay in different units. A cell without seeds has no row, its algorithm no pooled one. Scores are
        pooled over the datasets that have them.
        """
        rows = [
            Row(cell.dataset, cell.algorithm, cell.variant, metric, self.estimate(cell.values[metric]))
            for cell in self.cells
            for metric in METRICS + SCORES
            if cell.seeds and metric in cell.values
        ]
        if len(self.played) > 1:
            for name in self.names:
                cell = self.cell(self.datasets[0], name)
                for metric in METRICS + SCORES:
                    if not metric.startswith("return") and (strata := self.pooled(name, metric)):
                        rows.append(Row(POOLED, cell.algorithm, cell.variant, metric, self.estimate(*strata)))
        return rows


def read_results(evaluations: Path, trainings: Path, params: Params, failures: Failures | None = None) -> Results:
    """Read ``evaluations/<dataset>/<name>/seed_<k>`` and the same folders of ``trainings``, for algorithms and variants alike.

    Folders that are not of ``params.experiment`` are ignored, and so are those of the runs in ``failures``.

    Raises InspoError: a missing, damaged or changed evaluation or training, an evaluation of another training than the one that is
    there or of another algorithm or variant, evaluations that do not belong together (game, number or seed of the episodes), or
    no run that did not fail.
    """
    failures = failures or {}
    experiment = params.experiment
    cells: list[Cell] = []
    configs: dict[str, Path] = {}
    games: dict[str, str] = {}
    for dataset in experiment.datasets:
        played: dict[str, Path] = {}
        for name in experiment.algorithms:
            learner = learner_of(name, params)
            runs, curves, trained = [], [], []
            config: dict[str, Any] = {}
            seeds = [seed for seed in experiment.seeds if (dataset, name, seed) not in failures]
            for seed in seeds:
                place = Path(dataset) / name / f"seed_{seed}"
                metrics = _existing(evaluations / place / "metrics.json", "evaluate", dataset, name, seed)
                curve = _existing(trainings / place / "metrics.jsonl", "train", dataset, name, seed)
                run, training = _read_lineage(evaluations / place, trainings / place, learner)
                runs.append(read_metrics(metrics))
                curves.append(_read_curve(curve))
                trained.append(run["train_fingerprint"])
                config = {key: value for key, value in training["config"].items() if key != "seed"}
                played[run["env"]] = configs[json.dumps(run["config"], sort_keys=True)] = evaluations / place
            values = {metric: np.array([run[metric] for run in runs]) for metric in METRICS}
            cells.append(Cell(dataset, learner.algorithm, learner.variant, seeds, trained, values, curves, config))
        _agree(played, "games")
        games[dataset] = next(iter(played), None) or source_of(dataset, params.ingest.sources).env
        for cell in cells[-len(experiment.algorithms) :]:
            for mode in ("greedy", "sampled"):
                if (scores := reference_of(games[dataset]).score(cell.values[f"return_{mode}"])) is not None:
                    cell.values[f"score_{mode}"] = scores
    _agree(configs, "evaluate parameters")
    if not configs:
        raise InspoError(f"every run of the experiment failed, the first one so: {next(iter(failures.values()))}")
    episodes = json.loads(next(iter(configs)))["episodes"]
    return Results(cells, games, experiment.seeds, episodes, params.report.confidence, params.report.bootstrap, failures)


def _existing(path: Path, stage: str, dataset: str, name: str, seed: int) -> Path:
    if not path.is_file():
        raise InspoError(
            f"{path} is missing: dataset {dataset}, algorithm {name}, seed {seed} of params.experiment has no result of the "
            f"{stage} stage; run that stage, or take it out of experiment"
        )
    return path


def _read_lineage(evaluation: Path, training: Path, learner: Learner) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the two runs, which must be whole, say of themselves."""
    fields = {"algorithm": str, "variant": str, "env": str, "config": dict, "train_fingerprint": str}
    run = check_run(evaluation, "evaluate", **fields)
    trained = check_run(training, "train", fingerprint=str, config=dict)
    if type(run["config"].get("episodes")) is not int:
        raise InspoError(f"{evaluation / 'run.json'}: config has no number of episodes; run the evaluate stage again")
    for key in ("algorithm", "variant"):
        if run[key] != getattr(learner, key):
            raise InspoError(
                f"{evaluation / 'run.json'} says {key} {quoted(run[key])} where {getattr(learner, key)!r} is expected; "
                "run the train and evaluate stages again"
            )
    evaluated, held = run["train_fingerprint"], trained["fingerprint"]
    if evaluated != held:
        raise InspoError(
            f"{evaluation} evaluates training {shortened(evaluated)}, but {training} holds training {shortened(held)}; "
            "run the evaluate stage again"
        )
    return run, trained


def _agree(found: dict[str, Path], what: str) -> None:
    if len(found) > 1:
        (one, there), (other, elsewhere) = list(found.items())[:2]
        raise InspoError(
            f"{there} and {elsewhere} were made with different {what}: {shortened(one)} and {shortened(other)}; "
            "run the evaluate stage again"
        )


def _read_curve(path: Path) -> dict[int, dict[str, float]]:
    """The evaluated iterations of a training log; a resumed run may have logged one twice, the later line counts."""
    curve = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        place = f"{path}, line {number}"
        try:
            entry = parse_json(line, place)
        except InspoError as error:
            raise InspoError(f"{error}; run the train stage again") from error
        if isinstance(entry, dict) and CURVE_PREFIX + METRICS[0] not in entry:
            continue
        asked = ["step", *(CURVE_PREFIX + metric for metric in METRICS)]
        if not isinstance(entry, dict) or not all(type(entry.get(key)) in (int, float) for key in asked) or type(entry["step"]) is not int:
            raise InspoError(f"{place}, is not a line of metrics with {', '.join(asked)}; run the train stage again")
        point = curve[entry["step"]] = {metric: float(entry[CURVE_PREFIX + metric]) for metric in METRICS}
        if not all(math.isfinite(value) for value in point.values()):
            raise InspoError(f"{place}: an evaluation is not finite: {point}; the training diverged")
    return curve
