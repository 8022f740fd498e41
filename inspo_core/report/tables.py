"""The results as files (CSV, Markdown, JSON) and as a table for the terminal. The same results give the same bytes."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from inspo_core.files import write_json
from inspo_core.report.results import METRICS, POOLED, Results, Row
from inspo_core.statistics import Estimate

TITLES = {
    "return_greedy": "Return, greedy",
    "return_sampled": "Return, sampled",
    "success_greedy": "Success rate, greedy",
    "success_sampled": "Success rate, sampled",
}


def write_tables(results: Results, rows: list[Row], directory: Path) -> None:
    """Write ``results.csv``, ``summary.csv``, ``curves.csv``, ``table.md`` and ``metrics.json`` (for ``dvc metrics``)."""
    _write_csv(directory / "results.csv", ["dataset", "algorithm", "variant", "seed", "metric", "value"], _result_lines(results))
    _write_csv(
        directory / "summary.csv",
        ["dataset", "algorithm", "variant", "metric", "seeds", "mean", "std", "iqm", "low", "high"],
        sorted(_summary_line(row) for row in rows),
    )
    _write_csv(directory / "curves.csv", ["dataset", "algorithm", "seed", "step", *METRICS], _curve_lines(results))
    (directory / "table.md").write_text(markdown(results, rows))
    write_json(directory / "metrics.json", nested(rows))


def _write_csv(path: Path, header: list[str], lines: Iterable[tuple]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def _result_lines(results: Results) -> list[tuple]:
    return sorted(
        (cell.dataset, cell.algorithm, cell.variant, seed, metric, float(value))
        for cell in results.cells
        for metric, values in cell.values.items()
        for seed, value in zip(results.seeds, values, strict=True)
    )


def _summary_line(row: Row) -> tuple:
    e = row.estimate
    return (row.dataset, row.algorithm, row.variant, row.metric, e.seeds, e.mean, e.std, e.iqm, e.low, e.high)


def _curve_lines(results: Results) -> list[tuple]:
    return sorted(
        (cell.dataset, cell.algorithm, seed, step, *(point[metric] for metric in METRICS))
        for cell in results.cells
        for seed, curve in zip(results.seeds, cell.curves, strict=True)
        for step, point in curve.items()
    )


def nested(rows: list[Row]) -> dict:
    """dataset -> algorithm -> metric -> {iqm, mean}."""
    tree: dict = {}
    for row in rows:
        metrics = tree.setdefault(row.dataset, {}).setdefault(row.algorithm, {})
        metrics[row.metric] = {"iqm": row.estimate.iqm, "mean": row.estimate.mean}
    return tree


def markdown(results: Results, rows: list[Row]) -> str:
    """One table a metric, datasets down, algorithms across."""
    labels = algorithm_labels(results)
    parts = ["# Results", f"{what(results)}, then mean ± standard deviation over seeds."]
    for metric in METRICS:
        cells = {(row.dataset, row.algorithm): _markdown_cell(row.estimate, metric) for row in rows if row.metric == metric}
        header = ["Dataset", *labels.values()]
        lines = [f"## {TITLES[metric]}", ""]
        lines += [_pipe(header), _pipe(["---"] * len(header))]
        for dataset in dict.fromkeys(dataset for dataset, _ in cells):
            title = "all, pooled" if dataset == POOLED else dataset
            lines.append(_pipe([title, *(cells[dataset, algorithm] for algorithm in labels)]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def what(results: Results) -> str:
    """One paragraph: what the numbers are, and over what they were taken."""
    seeds = results.seeds
    interval = f"[{results.confidence * 100:g} % bootstrap interval, {results.resamples} resamples over seeds]"
    return (
        f"The last policy of every training run, {_count(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), "
        f"{_count(results.episodes, 'episode')} a policy and mode; returns are undiscounted. "
        f"Each entry: interquartile mean over seeds {interval}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def algorithm_labels(results: Results) -> dict[str, str]:
    """Algorithm -> its name in tables and figures, with the variant unless that is ``default``."""
    labels = {}
    for algorithm in results.algorithms:
        variants = sorted({cell.variant for cell in results.cells if cell.algorithm == algorithm})
        labels[algorithm] = algorithm if variants == ["default"] else f"{algorithm} ({'+'.join(variants)})"
    return labels


def _pipe(columns: Iterable[str]) -> str:
    return "| " + " | ".join(column.replace("|", "\\|") for column in columns) + " |"


def _markdown_cell(estimate: Estimate, metric: str) -> str:
    return f"{with_interval(estimate, metric)}<br>{with_spread(estimate, metric)}"


def with_interval(estimate: Estimate, metric: str) -> str:
    """``IQM [low, high]``, or the IQM alone where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return _number(estimate.iqm, metric)
    return f"{_number(estimate.iqm, metric)} [{_number(estimate.low, metric)}, {_number(estimate.high, metric)}]"


def with_spread(estimate: Estimate, metric: str) -> str:
    """``mean ± std``, or the mean alone where there is no spread."""
    mean = _number(estimate.mean, metric)
    return mean if estimate.std is None else f"{mean} ± {_number(estimate.std, metric)}"


def _number(value: float, metric: str) -> str:
    digits = 2 if metric.startswith("success") else 3
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.00"


def print_table(results: Results, rows: list[Row], file: TextIO | None = None) -> None:
    """Print dataset x algorithm as plain text, in colour on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(file=file)
    if not console.is_terminal:
        console.width = 140
    labels = algorithm_labels(results)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("dataset", no_wrap=True)
    table.add_column("algorithm", no_wrap=True)
    for metric in METRICS:
        table.add_column(TITLES[metric].lower(), justify="right", no_wrap=True)
    estimates = {(row.dataset, row.algorithm, row.metric): row.estimate for row in rows}
    for dataset in dict.fromkeys(row.dataset for row in rows):
        for place, (algorithm, label) in enumerate(labels.items()):
            entries = [estimates.get((dataset, algorithm, metric)) for metric in METRICS]
            texts = ["" if entry is None else with_interval(entry, metric) for entry, metric in zip(entries, METRICS)]
            table.add_row("" if place else dataset, label, *texts, end_section=place == len(labels) - 1)
    console.print(table)
    console.print(f"{what(results)}.", markup=False, highlight=False)
