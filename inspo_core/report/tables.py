"""The results as files (CSV, Markdown, JSON) and as a table for the terminal. The same results give the same bytes."""

import csv
import json
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import TextIO

import numpy as np

from inspo_core.files import write_json
from inspo_core.report.comparisons import RETURNS, THRESHOLDS, Comparisons, Difference, contrasts, standings
from inspo_core.report.marl_eval import marl_eval
from inspo_core.report.results import METRICS, POOLED, SCORES, Results, Row
from inspo_core.statistics import Estimate, Improvement

TITLES = {
    "return_greedy": "Return, greedy",
    "return_sampled": "Return, sampled",
    "success_greedy": "Success rate, greedy",
    "success_sampled": "Success rate, sampled",
    "score_greedy": "Score, greedy",
    "score_sampled": "Score, sampled",
}
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
    (directory / "table.md").write_text(markdown(results, rows, comparisons))
    write_json(directory / "metrics.json", nested(rows))
    (directory / "marl_eval.json").write_text(json.dumps(marl_eval(results)) + "\n")  # keys stay in order: marl-eval takes the last one


def _write_csv(path: Path, header: list[str], lines: Iterable[tuple]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _result_lines(results: Results) -> list[tuple]:
    return sorted(
        (cell.dataset, cell.algorithm, cell.variant, seed, metric, float(value))
        for cell in results.cells
        for metric in METRICS
        for seed, value in zip(cell.seeds, cell.values[metric], strict=True)
    )


def _summary_line(row: Row | Difference) -> tuple:
    e = row.estimate
    return (row.dataset, row.algorithm, row.variant, row.metric, e.seeds, e.mean, e.std, e.iqm, e.low, e.high)


def _curve_lines(results: Results) -> list[tuple]:
    return sorted(
        (cell.dataset, cell.algorithm, cell.variant, seed, step, *(point[metric] for metric in METRICS))
        for cell in results.cells
        for seed, curve in zip(cell.seeds, cell.curves, strict=True)
        for step, point in curve.items()
    )


def _failure_lines(results: Results) -> list[tuple]:
    cells = {(cell.dataset, cell.name): cell for cell in results.cells}
    failed = [(cells[dataset, name], seed, reason) for (dataset, name, seed), reason in results.failures.items()]
    return sorted((cell.dataset, cell.algorithm, cell.variant, seed, reason) for cell, seed, reason in failed)


def _profile_lines(comparisons: Comparisons) -> list[tuple]:
    return sorted(
        (name, metric, round(float(threshold), 2), *(None if np.isnan(number) else float(number) for number in numbers))
        for (metric, name), found in comparisons.profiles.items()
        for threshold, numbers in zip(THRESHOLDS, found.T)
    )


def _reference_lines(results: Results) -> list[tuple]:
    references = [(dataset, results.games[dataset], results.reference(dataset)) for dataset in results.datasets]
    return sorted((dataset, game, reference.random, reference.best) for dataset, game, reference in references)


def nested(rows: list[Row]) -> dict:
    """dataset -> algorithm or variant -> metric -> {iqm, mean}."""
    tree: dict = {}
    for row in rows:
        metrics = tree.setdefault(row.dataset, {}).setdefault(row.name, {})
        metrics[row.metric] = {"iqm": row.estimate.iqm, "mean": row.estimate.mean}
    return tree


def markdown(results: Results, rows: list[Row], comparisons: Comparisons) -> str:
    """A table a metric, datasets down and algorithms across; then the comparisons that there are."""
    parts = ["# Results", f"{what(results)}, then mean ± standard deviation over seeds."]
    if results.failures:
        parts += [f"{left_out(results)} The table at the end lists them."]
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    for metric in METRICS + SCORES:
        cells = {}
        for dataset in rows_of(results, metric):
            for name in results.names:
                found = estimates.get((dataset, name, metric))
                cells[dataset, name] = missing(dataset) if found is None else _markdown_cell(results, found, metric)
        parts.append(_table(TITLES[metric], "Dataset", cells))
    parts.append("A score is a return on a scale where uniformly random play has 0 and the best return 1.")
    for metric in RETURNS:
        if cells := standings(results, rows, metric):
            parts.append(_table(standings_title(results, metric), "Dataset", cells))
    for metric in RETURNS:
        if cells := contrasts(results, rows, metric):
            parts.append(_table(contrasts_title(results, metric), "Pair", cells))
    if overall := comparisons.overall:
        cells = {(c.other, TITLES[c.metric]): improvement_cell(c.result) for c in overall}
        over = f"over {len(results.played)} datasets" if len(results.played) > 1 else f"on {results.played[0]}"
        parts.append(_table(f"Probability that a run of {overall[0].name} is better, {over}", "than one of", cells))
    for metric in SCORES:
        cells = {(c.variant, c.dataset): _markdown_cell(results, c.estimate, metric) for c in comparisons.differences if c.metric == metric}
        if cells:
            parts.append(_table(f"{TITLES[metric]}: variant minus algorithm, seed by seed", "Variant", cells))
    if results.failures:
        lines = [_pipe(map(str, failed)) for failed in ordered_failures(results)]
        parts.append("\n".join(["## Runs that failed", "", _pipe(["Dataset", "Algorithm", "Seed", "Reason"]), _pipe(["---"] * 4), *lines]))
    return "\n\n".join(parts) + "\n"


def _table(title: str, corner: str, cells: dict[tuple[str, str], str]) -> str:
    """``cells`` by row and column, both in the order of their first appearance."""
    down, across = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    named = {POOLED: "all, pooled"}
    header = [corner, *(named.get(column, column) for column in across)]
    lines = [f"## {title}", "", _pipe(header), _pipe(["---"] * len(header))]
    lines += [_pipe([named.get(row, row), *(cells.get((row, column), "") for column in across)]) for row in down]
    return "\n".join(lines)


def standings_title(results: Results, metric: str) -> str:
    return f"{TITLES[metric]}: the others' interquartile means beside that of {results.names[0]}"


def contrasts_title(results: Results, metric: str) -> str:
    return f"{TITLES[metric]}: pairs without {results.names[0]} that differ in one parameter"


def improvement_cell(found: Improvement) -> str:
    interval = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.probability:.2f}{interval}"


def what(results: Results) -> str:
    """One paragraph: what the numbers are, and over what they were taken."""
    seeds = results.seeds
    interval = f"[{results.confidence * 100:g} % bootstrap interval, {results.resamples} resamples over seeds]"
    return (
        f"The last policy of every training run, {_count(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), "
        f"{_count(results.episodes, 'episode')} a policy and mode; returns are undiscounted. "
        f"Each entry: interquartile mean over seeds {interval}"
    )


def left_out(results: Results) -> str:
    """One paragraph: how many runs failed, and what that does to the numbers."""
    total = len(results.cells) * len(results.seeds)
    return (
        f"{len(results.failures)} of {_count(total, 'run')} failed and are left out. An entry over fewer than all seeds says how many; "
        "numbers over all datasets are over the seeds that an algorithm has on every one of them."
    )


def ordered_failures(results: Results) -> list[tuple[str, str, int, str]]:
    """Dataset, algorithm or variant, seed and reason of every failed run, in the order of the experiment."""
    places = [(cell.dataset, cell.name, seed) for cell in results.cells for seed in results.seeds]
    return [(*place, results.failures[place]) for place in places if place in results.failures]


def rows_of(results: Results, metric: str) -> list[str]:
    """The datasets, and all of them where ``metric`` is pooled."""
    return results.datasets + ([POOLED] if len(results.played) > 1 and not metric.startswith("return") else [])


def missing(dataset: str) -> str:
    """What stands where there is no estimate."""
    return "not on every dataset" if dataset == POOLED else "failed"


def fewer_seeds(results: Results, found: Estimate) -> str:
    """``n of N seeds``, or nothing where these are all."""
    return f"{found.seeds} of {_count(len(results.seeds), 'seed')}" if found.seeds < len(results.seeds) else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _pipe(columns: Iterable[str]) -> str:
    return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"


def _markdown_cell(results: Results, estimate: Estimate, metric: str) -> str:
    lines = [with_interval(estimate, metric).replace(" [", "<br>["), with_spread(estimate, metric), fewer_seeds(results, estimate)]
    return "<br>".join(filter(None, lines))  # narrow: there may be many columns


def with_interval(estimate: Estimate, metric: str) -> str:
    """``IQM [low, high]``, or the IQM alone where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return number(estimate.iqm, metric)
    return f"{number(estimate.iqm, metric)} [{number(estimate.low, metric)}, {number(estimate.high, metric)}]"


def with_spread(estimate: Estimate, metric: str) -> str:
    """``mean ± std``, or the mean alone where there is no spread."""
    mean = number(estimate.mean, metric)
    return mean if estimate.std is None else f"{mean} ± {number(estimate.std, metric)}"


def number(value: float, metric: str) -> str:
    digits = 3 if metric.startswith("return") else 2
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.00"


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
        table.add_column(TITLES[metric].lower(), justify="right", no_wrap=True)
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    for dataset in rows_of(results, METRICS[-1]):
        for place, name in enumerate(results.names):
            entries = {metric: estimates.get((dataset, name, metric)) for metric in METRICS if dataset in rows_of(results, metric)}
            texts = [missing(dataset) if entry is None else with_interval(entry, metric) for metric, entry in entries.items()]
            blank = [""] * (len(METRICS) - len(texts))
            fewer = next((fewer_seeds(results, entry) for entry in entries.values() if entry), "")
            named = f"{name} ({fewer})" if fewer else name
            table.add_row("" if place else dataset, named, *blank, *texts, end_section=place == len(results.names) - 1)
    console.print(table)
    console.print(f"{what(results)}.", markup=False, highlight=False)
    if results.failures:
        console.print(f"\n{left_out(results)}", markup=False, highlight=False)
    for dataset, name, seed, reason in ordered_failures(results):
        console.print(f"failed: {dataset} {name} seed {seed}: {reason}", markup=False, highlight=False)
