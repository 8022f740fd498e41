"""The results as files (CSV, Markdown, JSON) and as a table for the terminal. The same results give the same bytes."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from inspo_core.files import write_json
from inspo_core.report.comparisons import RETURNS, THRESHOLDS, Comparisons, Difference
from inspo_core.report.marl_eval import marl_eval
from inspo_core.report.results import METRICS, POOLED, SCORES, Results, Row
from inspo_core.report.results_file import write_results
from inspo_core.report.wording import (
    METRIC_TITLES,
    STANDING_TITLES,
    contrast_cell,
    contrast_text,
    contrasts_title,
    dataset_title,
    differences_title,
    failed_runs_text,
    fewer_seeds_text,
    improvement_text,
    interval_text,
    iqm_text,
    mean_text,
    measured_text,
    missing_text,
    number_text,
    over_datasets_text,
    score_text,
    standings_title,
)
from inspo_core.statistics import Estimate

ESTIMATE = ["seeds", "mean", "std", "iqm", "low", "high"]


def write_tables(results: Results, rows: list[Row], comparisons: Comparisons, directory: Path) -> None:
    """Write the tables as CSV, for reading (``table.md``), for ``dvc metrics`` (``metrics.json``) and for marl-eval."""
    _write_csv(directory / "results.csv", ["dataset", "algorithm", "variant", "seed", "metric", "value"], _result_lines(results))
    _write_csv(
        directory / "summary.csv",
        ["dataset", "algorithm", "variant", "metric", *ESTIMATE],
        sorted(_summary_line(row) for row in rows),
    )
    _write_csv(
        directory / "differences.csv",
        ["dataset", "algorithm", "variant", "metric", *ESTIMATE],
        sorted(_summary_line(change) for change in comparisons.differences),
    )
    _write_csv(
        directory / "improvement.csv",
        ["dataset", "metric", "name", "other", "probability", "low", "high"],
        sorted((c.dataset, c.metric, c.name, c.other, *astuple(c.result)) for c in comparisons.improvements),
    )
    _write_csv(directory / "profiles.csv", ["name", "metric", "score", "share", "low", "high"], _profile_lines(comparisons))
    _write_csv(directory / "references.csv", ["dataset", "game", "random", "best"], _reference_lines(results))
    if results.failures:
        _write_csv(directory / "failures.csv", ["dataset", "algorithm", "variant", "seed", "reason"], _failure_lines(results))
    _write_csv(directory / "curves.csv", ["dataset", "algorithm", "variant", "seed", "step", *METRICS], _curve_lines(results))
    (directory / "table.md").write_text(markdown(results, rows, comparisons), encoding="utf-8")
    write_results(results, directory / "results.json")
    write_json(directory / "metrics.json", nested(rows))
    # Its keys stay in order: marl-eval takes the last one.
    (directory / "marl_eval.json").write_text(json.dumps(marl_eval(results)) + "\n", encoding="utf-8")


def _write_csv(path: Path, header: list[str], lines: Iterable[tuple[Any, ...]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _result_lines(results: Results) -> list[tuple[Any, ...]]:
    return sorted(
        (cell.dataset, cell.algorithm, cell.variant, seed, metric, float(value))
        for cell in results.cells
        for metric in METRICS
        for seed, value in zip(cell.seeds, cell.values[metric], strict=True)
    )


def _summary_line(row: Row | Difference) -> tuple[Any, ...]:
    e = row.estimate
    return (row.dataset, row.algorithm, row.variant, row.metric, e.seeds, e.mean, e.std, e.iqm, e.low, e.high)


def _curve_lines(results: Results) -> list[tuple[Any, ...]]:
    return sorted(
        (cell.dataset, cell.algorithm, cell.variant, seed, step, *(point[metric] for metric in METRICS))
        for cell in results.cells
        for seed, curve in zip(cell.seeds, cell.curves, strict=True)
        for step, point in curve.items()
    )


def _failure_lines(results: Results) -> list[tuple[Any, ...]]:
    cells = {(cell.dataset, cell.name): cell for cell in results.cells}
    failed = [(cells[dataset, name], seed, reason) for (dataset, name, seed), reason in results.failures.items()]
    return sorted((cell.dataset, cell.algorithm, cell.variant, seed, reason) for cell, seed, reason in failed)


def _profile_lines(comparisons: Comparisons) -> list[tuple[Any, ...]]:
    return sorted(
        (name, metric, round(float(threshold), 2), *(None if np.isnan(number) else float(number) for number in numbers))
        for (metric, name), found in comparisons.profiles.items()
        for threshold, numbers in zip(THRESHOLDS, found.T)
    )


def _reference_lines(results: Results) -> list[tuple[Any, ...]]:
    references = [(dataset, results.games[dataset], results.reference(dataset)) for dataset in results.datasets]
    return sorted((dataset, game, reference.random, reference.best) for dataset, game, reference in references)


def nested(rows: list[Row]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """dataset -> algorithm or variant -> metric -> {iqm, mean}."""
    tree: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for row in rows:
        metrics = tree.setdefault(row.dataset, {}).setdefault(row.name, {})
        metrics[row.metric] = {"iqm": row.estimate.iqm, "mean": row.estimate.mean}
    return tree


def markdown(results: Results, rows: list[Row], comparisons: Comparisons) -> str:
    """The whole of ``table.md``."""
    return "\n\n".join(["# Results", *markdown_blocks(results, rows, comparisons)]) + "\n"


def markdown_blocks(results: Results, rows: list[Row], comparisons: Comparisons, heading: str = "##") -> list[str]:
    """Paragraphs, and tables under a ``heading`` each: datasets down, algorithms across, one a metric; then the comparisons there are."""
    blocks = [f"{measured_text(results)}, then mean ± standard deviation over seeds."]
    if results.failures:
        blocks.append(f"{failed_runs_text(results)} The table at the end lists them.")
    blocks += [f"{heading} {title}\n\n{table}" for title, table in _metric_tables(results, rows)]
    blocks.append(score_text(results))
    blocks += [f"{heading} {title}\n\n{table}" for title, table in _comparison_tables(results, comparisons)]
    if results.failures:
        lines = [list(map(str, failed)) for failed in results.ordered_failures()]
        blocks.append(f"{heading} Runs that failed\n\n{markdown_table(['Dataset', 'Algorithm', 'Seed', 'Reason'], lines)}")
    return blocks


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(_pipe(line) for line in (header, ["---"] * len(header), *lines))


def _metric_tables(results: Results, rows: list[Row]) -> Iterator[tuple[str, str]]:
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    for metric in METRICS + SCORES:
        if not results.measured(metric):
            continue
        cells = {}
        for dataset in _rows_of(results, metric):
            for name in results.names:
                found = estimates.get((dataset, name, metric))
                cells[dataset, name] = _markdown_cell(results, found, metric) if found else missing_text(results, dataset, name, metric)
        yield METRIC_TITLES[metric], _grid("Dataset", cells)


def _comparison_tables(results: Results, comparisons: Comparisons) -> Iterator[tuple[str, str]]:
    for metric in RETURNS:
        if columns := comparisons.shown_standings(metric):
            found = {dataset: comparisons.standings_on(dataset, metric) for dataset in results.played}
            lines = [[dataset, *(", ".join(names[column]) for column in columns)] for dataset, names in found.items()]
            yield standings_title(results, metric), markdown_table(["Dataset", *(STANDING_TITLES[column] for column in columns)], lines)
    for metric in RETURNS:
        if contrasts := [contrast for contrast in comparisons.contrasts if contrast.has_interval(metric)]:
            lines = [[contrast_text(one), *(contrast_cell(one, dataset, metric) for dataset in results.played)] for one in contrasts]
            yield contrasts_title(results, metric), markdown_table(["Pair", *results.played], lines)
    if overall := comparisons.overall:
        cells = {(c.other, METRIC_TITLES[c.metric]): improvement_text(c.result) for c in overall}
        yield f"Probability that a run of {overall[0].name} is better, {over_datasets_text(results)}", _grid("than one of", cells)
    for metric in SCORES:
        cells = {(c.variant, c.dataset): _markdown_cell(results, c.estimate, metric) for c in comparisons.differences if c.metric == metric}
        if cells:
            yield differences_title(metric), _grid("Variant", cells)


def _grid(corner: str, cells: dict[tuple[str, str], str]) -> str:
    """``cells`` by row and column, both in the order of their first appearance."""
    down, across = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    lines = [[dataset_title(row), *(cells.get((row, column), "") for column in across)] for row in down]
    return markdown_table([corner, *map(dataset_title, across)], lines)


def _rows_of(results: Results, metric: str) -> list[str]:
    """The datasets, and all of them where ``metric`` is pooled."""
    return results.datasets + ([POOLED] if len(results.played) > 1 and not metric.startswith("return") else [])


def _pipe(columns: Iterable[str]) -> str:
    return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"


def _markdown_cell(results: Results, estimate: Estimate, metric: str) -> str:
    lines = [number_text(estimate.iqm, metric), interval_text(estimate, metric), mean_text(estimate, metric)]
    return "<br>".join(filter(None, [*lines, fewer_seeds_text(results, estimate)]))  # narrow: there may be many columns


def print_table(results: Results, rows: list[Row], file: TextIO | None = None) -> None:
    """Print dataset x algorithm as plain text, in colour on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=file)
    if not console.is_terminal:
        console.width = 140
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("dataset", no_wrap=True)
    table.add_column("algorithm", no_wrap=True)
    for metric in METRICS:
        table.add_column(METRIC_TITLES[metric].lower(), justify="right", no_wrap=True)
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    for dataset in _rows_of(results, METRICS[-1]):
        for place, name in enumerate(results.names):
            entries = {metric: estimates.get((dataset, name, metric)) for metric in METRICS if dataset in _rows_of(results, metric)}
            texts = [
                iqm_text(entry, metric) if entry else missing_text(results, dataset, name, metric) for metric, entry in entries.items()
            ]
            blank = [""] * (len(METRICS) - len(texts))
            fewer = next((fewer_seeds_text(results, entry) for entry in entries.values() if entry), "")
            named = f"{name} ({fewer})" if fewer else name
            table.add_row("" if place else dataset, named, *blank, *texts, end_section=place == len(results.names) - 1)
    console.print(table)
    console.print(f"{measured_text(results)}.", markup=False, highlight=False)
    if results.failures:
        console.print(f"\n{failed_runs_text(results)}", markup=False, highlight=False)
    for dataset, name, seed, reason in results.ordered_failures():
        console.print(f"failed: {dataset} {name} seed {seed}: {reason}", markup=False, highlight=False)
