"""``report.html``: the whole report as one file, for a browser, MLflow's artifact page and Kubeflow's HTML artifacts."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from inspo_core.report.comparisons import RETURNS, Comparisons, contrasts, standings
from inspo_core.report.results import METRICS, POOLED, SCORES, Results, Row
from inspo_core.report.tables import (
    TITLES,
    contrasts_title,
    fewer_seeds,
    improvement_cell,
    left_out,
    missing,
    number,
    ordered_failures,
    rows_of,
    standings_title,
    what,
    with_interval,
    with_spread,
)
from inspo_core.report.web_style import PAGE, STYLE
from inspo_core.statistics import Estimate

FIGURES = {  # in their order on a page
    "scores": "Scores over all datasets",
    "returns": "Returns of the last policies",
    "differences": "What each variant changes",
    "improvement": "Probability of improvement",
    "profiles": "Performance profiles",
    "curves_greedy": "Returns during training, greedy actions",
    "curves_sampled": "Returns during training, sampled actions",
}
CAPTIONS = {
    "scores": "IQM of the scores of all runs on all datasets, with its interval; datasets weigh the same.",
    "returns": "Every seed's return (small dots), their IQM and its interval.",
    "differences": "Score of the variant minus that of its algorithm, seed by seed: left of the dotted line the variant is worse.",
    "improvement": "How probably a run of the first algorithm is better than one of the other; 0.5 is a draw.",
    "profiles": "Share of all runs that score above a threshold; the further up, the better.",
    "curves_greedy": "IQM over seeds at every evaluation. Nothing is chosen by these evaluations: the last policy is the result.",
    "curves_sampled": "The same with every agent drawing from its policy.",
}

Origins = Sequence[tuple[dict[str, Any] | None, int]]  # as inspo_core.tracking.ledger.origins_of returns them


class Html(str):
    """Text that is HTML already; all other text is escaped."""


def web_page(results: Results, rows: list[Row], comparisons: Comparisons, figures: Path, origins: Origins) -> str:
    """The page. ``figures``: the folder with the SVG files; ``origins``: where the trainings come from."""
    sections = {
        "overview": ("Overview", _overview(results, rows, comparisons)),
        "figures": ("Figures", _figures(figures)),
        "comparisons": ("Comparisons", _comparisons(results, rows, comparisons)),
        "datasets": ("Datasets", _datasets(results, rows)),
        "run": ("What was run", _what_was_run(results, origins)),
    }
    if results.failures:
        sections["failed"] = ("Failed runs", _failures(results))
    algorithms, datasets = results.names, results.datasets
    title = f"Results: {_few(algorithms, 'algorithms')} on {_few(datasets, 'datasets')}"
    return PAGE.substitute(
        title=escape(title),
        style=STYLE,
        summary=_summary(results),
        navigation=_list(Html(f'<a href="#{place}">{escape(name)}</a>') for place, (name, _) in sections.items()),
        sections="\n".join(
            f'<section id="{place}">\n<h2>{escape(name)}</h2>\n{body}\n</section>' for place, (name, body) in sections.items()
        ),
    )


def _few(names: list[str], noun: str) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} {noun}"


def _summary(results: Results) -> str:
    parts = [f"<p>{escape(what(results))}, below it mean ± standard deviation.</p>"]
    parts.append("<p>A score is a return on a scale where uniformly random play has 0 and the best return 1.</p>")
    if results.failures:
        parts.append(f'<p class="warning">{escape(left_out(results))} <a href="#failed">Which, and why</a></p>')
    return "\n".join(parts)


def _overview(results: Results, rows: list[Row], comparisons: Comparisons) -> str:
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    several = len(results.played) > 1
    dataset = POOLED if several else results.played[0]
    metrics = [*SCORES, *(metric for metric in METRICS if not metric.startswith("return"))]
    first = results.names[0]
    better = {(c.other, c.metric): improvement_cell(c.result) for c in comparisons.overall}
    compared = list(dict.fromkeys(metric for _, metric in better))
    header = ["Algorithm", *(TITLES[metric] for metric in metrics)]
    header += [f"{first} better, {metric.removeprefix('return_')}" for metric in compared]
    lines = [
        [name, *(_share(results, estimates.get((dataset, name, metric)), metric, dataset) for metric in metrics)]
        + [_number_cell("" if name == first else better.get((name, metric), missing(dataset))) for metric in compared]
        for name in results.names
    ]
    over = f"over {len(results.played)} datasets" if several else f"on {dataset}"
    parts = [f"<h3>Algorithms {escape(over)}</h3>", _table(header, lines)]
    if compared:
        meaning = f"“{first} better”: probability that a run of {first} has the higher return, ties half."
        parts.append(f"<p><small>{escape(meaning)}</small></p>")
    for metric in SCORES if several else ():
        lines = [
            [_link(line), *(_share(results, estimates.get((line, name, metric)), metric, line) for name in results.names)]
            for line in results.datasets
        ]
        parts += [f"<h3>{TITLES[metric]}, by dataset</h3>", _table(["Dataset", *results.names], lines)]
    return "\n".join(parts)


def _figures(folder: Path) -> str:
    parts = []
    for name, title in FIGURES.items():
        file = folder / f"{name}.svg"
        if file.exists():
            data = base64.b64encode(file.read_bytes()).decode()
            parts.append(
                f'<figure id="figure-{name}">\n<figcaption><h3>{escape(title)}</h3>{escape(CAPTIONS[name])}</figcaption>\n'
                f'<div><img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}"></div>\n</figure>'
            )
    return "\n".join(parts)


def _comparisons(results: Results, rows: list[Row], comparisons: Comparisons) -> str:
    parts = []
    for metric in RETURNS:
        if found := standings(results, rows, metric):
            across = list(dict.fromkeys(standing for _, standing in found))
            lines = [[_link(dataset), *(found[dataset, standing] for standing in across)] for dataset in results.played]
            parts += [f"<h3>{escape(standings_title(results, metric))}</h3>", _table(["Dataset", *across], lines)]
    for metric in RETURNS:
        if found := contrasts(results, rows, metric):
            lines = [[pair, *(found.get((pair, name), "failed") for name in results.played)] for pair in dict.fromkeys(pair for pair, _ in found)]
            parts += [f"<h3>{escape(contrasts_title(results, metric))}</h3>", _table(["Pair", *map(_link, results.played)], lines)]
    for metric in METRICS:
        found = {(c.dataset, c.other): improvement_cell(c.result) for c in comparisons.improvements if c.metric == metric}
        if found:
            title = f"Probability that a run of {results.names[0]} is better: {TITLES[metric].lower()}"
            parts += [f"<h3>{escape(title)}</h3>", _grid("Dataset", found, missing)]
    for metric in SCORES:
        found = {(c.variant, c.dataset): _estimate(results, c.estimate, metric) for c in comparisons.differences if c.metric == metric}
        if found:
            parts += [f"<h3>{TITLES[metric]}: variant minus algorithm, seed by seed</h3>", _grid("Variant", found, lambda _: "failed")]
    return "\n".join(parts) or "<p>There is one algorithm, hence nothing to compare it with.</p>"


def _grid(corner: str, cells: dict[tuple[str, str], str], otherwise: Any) -> str:
    down, across = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    lines = [[_named(line), *(_number_cell(cells.get((line, column), otherwise(line))) for column in across)] for line in down]
    return _table([corner, *map(_named, across)], lines)


def _datasets(results: Results, rows: list[Row]) -> str:
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in rows}
    metrics = METRICS + SCORES
    parts = [_list((_link(dataset) for dataset in results.datasets), "places")] if len(results.datasets) > 1 else []
    for dataset in results.datasets:
        reference = results.reference(dataset)
        scale = [number(value, METRICS[0]) for value in (reference.random, reference.best)]
        lines = []
        for name in results.names:
            seeds = f"{len(results.cell(dataset, name).seeds)} of {len(results.seeds)}"
            found = [estimates.get((dataset, name, metric)) for metric in metrics]
            lines.append([name, _number_cell(seeds), *(_share(results, entry, metric, dataset) for entry, metric in zip(found, metrics))])
        parts += [
            f'<h3 id="dataset-{escape(dataset)}">{escape(dataset)}</h3>',
            f"<p><small>Game {escape(results.games[dataset])}: random play returns {scale[0]}, the best return is {scale[1]}.</small></p>",
            _table(["Algorithm", "Seeds", *(TITLES[metric] for metric in metrics)], lines),
        ]
    return "\n".join(parts)


def _what_was_run(results: Results, origins: Origins) -> str:
    runs = sum(len(cell.seeds) for cell in results.cells)
    parts = [
        "<dl>" + "".join(f"<dt><b>{name}</b></dt><dd>{escape(', '.join(map(str, values)))}</dd>" for name, values in (
            ("Datasets", results.datasets), ("Algorithms and variants", results.names), ("Seeds", results.seeds)
        )) + "</dl>",
        f"<p>{runs} trainings, each evaluated over {results.episodes} episodes, greedy and sampled. Intervals: "
        f"{results.confidence * 100:g} % percentile bootstrap with {results.resamples} resamples.</p>",
        "<h3>Code, machine and libraries of the trainings</h3>",
    ]  # fmt: skip
    if any(origin for origin, _ in origins):
        header = ["Commit", "Command", "Machine", "Versions", "Trainings"]
        parts.append(_table(header, [[*origin_texts(origin), str(count)] for origin, count in origins]))
    else:
        parts.append("<p>Not noted beside the outputs; the runs in MLflow have commit, image and versions as tags.</p>")
    parts += ["<h3>Training parameters</h3>", _parameters(results)]
    return "\n".join(parts)


def origin_texts(origin: dict[str, Any] | None) -> tuple[str, str, str, str]:
    """Commit, command, machine and versions of an origin (inspo_core.tracking.ledger)."""
    if origin is None:
        return ("not recorded",) * 4
    commit = origin.get("git_commit", "not recorded")[:12] + (", changed since" if origin.get("git_dirty") == "true" else "")
    versions = [f"{name.removeprefix('version_')} {value}" for name, value in origin.items() if name.startswith("version_")]
    return commit, origin["command"], f"{origin['processor']}, {origin['cores']} cores", ", ".join(versions)


def _parameters(results: Results) -> str:
    """A line for each parameter and value that some training had, and who had it."""
    users: dict[str, dict[str, list[str]]] = {}
    for cell in results.cells:
        for parameter, value in cell.config.items():
            named = users.setdefault(parameter, {}).setdefault(str(value), [])
            if parameter != "algorithm" and cell.name not in named:
                named.append(cell.name)
    lines = [
        [parameter, value, "all" if len(names) == len(results.names) else ", ".join(names)]
        for parameter, values in sorted(users.items())
        for value, names in values.items()
        if names
    ]
    if not lines:
        return "<p>Not recorded.</p>"
    return f"<details>\n<summary>{len(lines)} values</summary>\n{_table(['Parameter', 'Value', 'Algorithms'], lines)}\n</details>"


def _failures(results: Results) -> str:
    lines = [[dataset, name, str(seed), reason] for dataset, name, seed, reason in ordered_failures(results)]
    return _table(["Dataset", "Algorithm", "Seed", "Reason"], lines)


def _share(results: Results, found: Estimate | None, metric: str, dataset: str) -> str:
    """A table's cell; behind what lies between 0 and 1 there is a bar of that length."""
    if found is None or metric.startswith("return"):
        return _number_cell(missing(dataset) if found is None else _estimate(results, found, metric))
    share = 100 * min(1.0, max(0.0, found.iqm))
    return Html(f'<td class="number share" style="--share:{share:.0f}">{_estimate(results, found, metric)}</td>')


def _estimate(results: Results, found: Estimate, metric: str) -> Html:
    value, _, interval = with_interval(found, metric).partition(" ")
    lines = [f"<b>{value}</b> {interval}".strip(), f"<small>{with_spread(found, metric)}</small>"]
    if fewer := fewer_seeds(results, found):
        lines.append(f'<small class="failed">{fewer}</small>')
    return Html("<br>".join(lines))


def _number_cell(text: str) -> Html:
    kind = "number" if isinstance(text, Html) or not text or text[0].isdigit() else "number failed"
    return Html(f'<td class="{kind}">{_safe(text)}</td>')


def _link(dataset: str) -> Html:
    return Html(f'<a href="#dataset-{escape(dataset)}">{escape(dataset)}</a>')


def _named(name: str) -> str:
    return "all, pooled" if name == POOLED else name


def _safe(text: str) -> str:
    return text if isinstance(text, Html) else escape(text)


def _list(items: Iterable[str], kind: str = "") -> str:
    return f"<ul{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>" + "".join(f"<li>{_safe(item)}</li>" for item in items) + "</ul>"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Each line's first cell names it. Cells are text, HTML, or whole ``<td>`` elements."""
    head = "".join(f'<th scope="col">{_safe(cell)}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{_safe(line[0])}</th>'
        + "".join(cell if isinstance(cell, Html) and cell[:3] == "<td" else f'<td class="long">{_safe(cell)}</td>' for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'
