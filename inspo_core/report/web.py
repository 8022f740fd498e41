"""``report.html``: the whole report as one file, for a browser, MLflow's artifact page and Kubeflow's HTML artifacts.

Here is what it shows, ``templates/`` have how; they escape all text.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from inspo_core.files import file_hash, hash_of
from inspo_core.report.comparisons import RETURNS, Comparisons
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import METRICS, POOLED, SCORES, Results, Row
from inspo_core.report.wording import (
    FAILED,
    METRIC_TITLES,
    NOT_ON_EVERY_DATASET,
    STANDING_TITLES,
    contrast_cell,
    contrast_text,
    contrasts_title,
    dataset_title,
    differences_title,
    failed_runs_text,
    fewer_seeds_text,
    game_text,
    improvement_text,
    improvements_title,
    interval_text,
    mean_text,
    measured_text,
    missing_text,
    no_score_text,
    number_text,
    origin_texts,
    over_datasets_text,
    results_title,
    score_text,
    standings_title,
    trainings_text,
)
from inspo_core.statistics import Estimate

Origins = Sequence[tuple[dict[str, Any] | None, int]]  # as inspo_core.provenance.origins_of returns them
Estimates = dict[tuple[str, str, str], Estimate]  # by dataset, name and metric

TEMPLATES = Path(__file__).with_name("templates")
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def templates_hash() -> str:
    """What the templates hold, whatever they are called: they are no code that the identity of a report could follow."""
    return hash_of(sorted(file_hash(path) for path in TEMPLATES.iterdir()))


@dataclass(frozen=True)
class Label:
    """What names a line or a column; a dataset's leads to its own table."""

    text: str
    is_dataset: bool = False


@dataclass(frozen=True)
class Shown:
    """What a cell shows: words, or an IQM with what belongs to it."""

    text: str
    kind: str  # its classes in style.css
    interval: str = ""
    mean: str = ""
    fewer_seeds: str = ""
    share: int | None = None  # of a bar, in percent


@dataclass(frozen=True)
class Table:
    header: list[Label]
    lines: list[tuple[Label, list[Shown]]]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure as base64 of its SVG file."""

    name: str
    title: str
    caption: str
    data: str


def web_page(results: Results, rows: list[Row], comparisons: Comparisons, figures: Path, origins: Origins) -> str:
    """The page. ``figures``: the folder with the SVG files; ``origins``: where the trainings come from."""
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    return _ENVIRONMENT.get_template("page.html").render(
        title=results_title(results),
        measured=measured_text(results),
        scores=score_text(results),
        failed_runs_text=failed_runs_text(results),
        overview=_overview(results, estimates, comparisons),
        compared_with=results.names[0] if comparisons.overall else "",
        scores_by_dataset=_scores_by_dataset(results, estimates),
        figures=_drawings(figures),
        comparisons=_comparisons(results, comparisons),
        datasets=[_dataset(results, estimates, dataset) for dataset in results.datasets],
        named={"Datasets": results.datasets, "Algorithms and variants": results.names, "Seeds": results.seeds}.items(),
        trainings=trainings_text(results),
        origins=_origins(origins),
        parameters=_parameters(results),
        failed_runs=_failed_runs(results),
    )


def _overview(results: Results, estimates: Estimates, comparisons: Comparisons) -> Table:
    dataset = POOLED if len(results.played) > 1 else results.played[0]
    metrics = [metric for metric in SCORES + METRICS if results.measured(metric) and not metric.startswith("return")]
    first = results.names[0]
    better = {(c.other, c.metric): improvement_text(c.result) for c in comparisons.overall}
    compared = list(dict.fromkeys(metric for _, metric in better))
    header = ["Algorithm", *(METRIC_TITLES[metric] for metric in metrics)]
    header += [f"{first} better, {metric.removeprefix('return_')}" for metric in compared]
    lines = []
    for name in results.names:
        cells = [_estimate_cell(results, estimates, dataset, name, metric) for metric in metrics]
        for metric in compared:
            known = "" if name == first else better.get((name, metric))
            cells.append(_missing(missing_text(results, dataset, name, metric)) if known is None else _number(known))
        lines.append((Label(name), cells))
    return Table(_labels(header), lines, f"Algorithms {over_datasets_text(results)}")


def _scores_by_dataset(results: Results, estimates: Estimates) -> list[Table]:
    if len(results.played) == 1:
        return []
    return [
        Table(
            _labels(["Dataset", *results.names]),
            [
                (Label(dataset, True), [_estimate_cell(results, estimates, dataset, name, metric) for name in results.names])
                for dataset in results.datasets
            ],
            f"{METRIC_TITLES[metric]}, by dataset",
        )
        for metric in SCORES
        if results.measured(metric)
    ]


def _drawings(folder: Path) -> list[Drawing]:
    files = {name: folder / f"{name}.svg" for name in FIGURES}
    return [
        Drawing(name, FIGURES[name].title, FIGURES[name].caption, base64.b64encode(file.read_bytes()).decode())
        for name, file in files.items()
        if file.exists()
    ]


def _comparisons(results: Results, comparisons: Comparisons) -> list[Table]:
    tables = []
    for metric in RETURNS:
        if columns := comparisons.shown_standings(metric):
            found = {dataset: comparisons.standings_on(dataset, metric) for dataset in results.played}
            lines = [(Label(dataset, True), _texts(", ".join(names[column]) for column in columns)) for dataset, names in found.items()]
            header = _labels(["Dataset", *(STANDING_TITLES[column] for column in columns)])
            tables.append(Table(header, lines, standings_title(results, metric)))
    for metric in RETURNS:
        if contrasts := [contrast for contrast in comparisons.contrasts if contrast.has_interval(metric)]:
            lines = [
                (Label(contrast_text(one)), _texts(contrast_cell(one, dataset, metric) for dataset in results.played)) for one in contrasts
            ]
            header = [Label("Pair"), *(Label(dataset, True) for dataset in results.played)]
            tables.append(Table(header, lines, contrasts_title(results, metric)))
    for metric in RETURNS:
        improvements = {(c.dataset, c.other): _number(improvement_text(c.result)) for c in comparisons.improvements if c.metric == metric}
        if improvements:
            title = improvements_title(results, metric)
            tables.append(_grid(title, "Dataset", improvements, lambda dataset: NOT_ON_EVERY_DATASET if dataset == POOLED else FAILED))
    for metric in SCORES:
        changes = [change for change in comparisons.differences if change.metric == metric]
        if changes:
            cells = {(change.variant, change.dataset): _estimate(results, change.estimate, metric) for change in changes}
            tables.append(_grid(differences_title(metric), "Variant", cells, lambda _: FAILED))
    return tables


def _grid(title: str, corner: str, cells: dict[tuple[str, str], Shown], missing: Callable[[str], str]) -> Table:
    """``cells`` by line and column, both in the order of their first appearance; ``missing``: what a line shows where it has no cell."""
    down, across = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    lines = [(Label(dataset_title(line)), [cells.get((line, column)) or _missing(missing(line)) for column in across]) for line in down]
    return Table(_labels([corner, *map(dataset_title, across)]), lines, title)


def _dataset(results: Results, estimates: Estimates, dataset: str) -> Table:
    metrics = METRICS if no_score_text(results, dataset) else METRICS + SCORES
    lines = []
    for name in results.names:
        seeds = _number(f"{len(results.cell(dataset, name).seeds)} of {len(results.seeds)}")
        lines.append((Label(name), [seeds, *(_estimate_cell(results, estimates, dataset, name, metric) for metric in metrics)]))
    header = _labels(["Algorithm", "Seeds", *(METRIC_TITLES[metric] for metric in metrics)])
    return Table(header, lines, dataset, game_text(results, dataset))


def _origins(origins: Origins) -> Table | None:
    if not any(origin for origin, _ in origins):
        return None
    lines = [(Label(commit), _texts([*rest, str(count)])) for origin, count in origins for commit, *rest in [origin_texts(origin)]]
    return Table(_labels(["Commit", "Command", "Machine", "Versions", "Trainings"]), lines)


def _parameters(results: Results) -> Table:
    """A line for each parameter and value that some training had, and who had it."""
    users: dict[str, dict[str, list[str]]] = {}
    for cell in results.cells:
        for parameter, value in cell.config.items():
            names = users.setdefault(parameter, {}).setdefault(str(value), [])
            if parameter != "algorithm" and cell.name not in names:
                names.append(cell.name)
    lines = [
        (Label(parameter), _texts([value, "all" if len(names) == len(results.names) else ", ".join(names)]))
        for parameter, values in sorted(users.items())
        for value, names in values.items()
        if names
    ]
    return Table(_labels(["Parameter", "Value", "Algorithms"]), lines)


def _failed_runs(results: Results) -> Table | None:
    lines = [(Label(dataset), _texts([name, str(seed), reason])) for dataset, name, seed, reason in results.ordered_failures()]
    return Table(_labels(["Dataset", "Algorithm", "Seed", "Reason"]), lines) if lines else None


def _labels(texts: Iterable[str]) -> list[Label]:
    return [Label(text) for text in texts]


def _texts(texts: Iterable[str]) -> list[Shown]:
    return [Shown(text, "long") for text in texts]


def _number(text: str) -> Shown:
    return Shown(text, "number")


def _missing(text: str) -> Shown:
    return Shown(text, "number failed" if text in (FAILED, NOT_ON_EVERY_DATASET) else "number soft")


def _estimate_cell(results: Results, estimates: Estimates, dataset: str, name: str, metric: str) -> Shown:
    """An estimate or why there is none; what lies between 0 and 1 has a bar of that length."""
    found = estimates.get((dataset, name, metric))
    if found is None:
        return _missing(missing_text(results, dataset, name, metric))
    if metric.startswith("return"):
        return _estimate(results, found, metric)
    share = round(100 * min(1.0, max(0.0, found.iqm)))
    return replace(_estimate(results, found, metric), kind="number share", share=share)


def _estimate(results: Results, estimate: Estimate, metric: str) -> Shown:
    return Shown(
        number_text(estimate.iqm, metric),
        "number",
        interval_text(estimate, metric),
        mean_text(estimate, metric),
        fewer_seeds_text(results, estimate),
    )
