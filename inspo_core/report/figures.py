"""The figures. The same results give the same bytes, as PNG, SVG and PDF."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from inspo_core.report.comparisons import THRESHOLDS, Comparison, Comparisons, Difference
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import POOLED, SCORES, Results
from inspo_core.report.style import MODES, STYLE, Look, interval_label, looks_of, mark, save, small_multiples
from inspo_core.report.wording import EVERY_SEED_FAILED, NOT_EVALUATED_DURING_TRAINING, NOT_ON_EVERY_DATASET, counted
from inspo_core.statistics import Estimate

ROW = 0.3  # inches that an algorithm needs in a panel with one line each
OFFSETS = {"greedy": 0.17, "sampled": -0.17}  # of a mode from the middle of that line
GREY = "#555555"
SCORE = "score: 0 random play, 1 best return"


def write_figures(results: Results, comparisons: Comparisons, names: list[str], directory: Path) -> list[Path]:
    """Draw those of the figures ``names`` that the experiment has data for into ``directory``, in every format; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with matplotlib.rc_context(STYLE):
        for name in names:
            if figure := FIGURES.entry(name).load()(results, comparisons):
                files += save(figure, directory, name)
    return files


def draw_returns(results: Results, comparisons: Comparisons) -> Figure:
    return returns_figure(results)


def draw_greedy_curves(results: Results, comparisons: Comparisons) -> Figure:
    return curves_figure(results, "greedy")


def draw_sampled_curves(results: Results, comparisons: Comparisons) -> Figure:
    return curves_figure(results, "sampled")


def draw_scores(results: Results, comparisons: Comparisons) -> Figure | None:
    return scores_figure(results) if results.measured(SCORES[0]) else None


def draw_profiles(results: Results, comparisons: Comparisons) -> Figure | None:
    return profiles_figure(results, comparisons.profiles) if results.measured(SCORES[0]) else None


def draw_improvement(results: Results, comparisons: Comparisons) -> Figure | None:
    return improvement_figure(results, comparisons.overall) if comparisons.overall else None


def draw_differences(results: Results, comparisons: Comparisons) -> Figure | None:
    return differences_figure(results, comparisons.differences) if comparisons.differences else None


def returns_figure(results: Results) -> Figure:
    """A panel a dataset, a line an algorithm: every seed's return (small), their IQM (large) and its interval, greedy and sampled."""
    figure, panels = small_multiples(
        results,
        "Return of the last policy",
        results.datasets,
        _mode_legend(results),
        *_by_line(results.names, "axes differ between panels"),
    )
    for dataset, axes in panels.items():
        _name_lines(axes, results.names)
        for place, (name, look) in enumerate(looks_of(results).items()):
            cell = results.cell(dataset, name)
            if not cell.seeds:
                _say_in_line(axes, place, EVERY_SEED_FAILED)
                continue
            for mode in MODES:
                values = cell.values[f"return_{mode}"]
                _draw_estimate(axes, place, mode, results.estimate(values), look.colour, values)
        _leave_room(axes)
        axes.set_xlabel("return (sum of rewards)")
    return figure


def scores_figure(results: Results) -> Figure:
    """One line an algorithm: the IQM of its scores over all runs on all datasets that have them, and its interval."""
    title = f"Score over {counted(len(results.measured(SCORES[0])), 'dataset')}"
    legend = [handle for handle in _mode_legend(results) if handle.get_label() != "one seed"]
    figure, panels = small_multiples(results, title, [""], legend, *_by_line(results.names))
    (axes,) = panels.values()
    _name_lines(axes, results.names)
    for place, (name, look) in enumerate(looks_of(results).items()):
        if not results.shared_seeds(SCORES[0], name):
            _say_in_line(axes, place, NOT_ON_EVERY_DATASET)
            continue
        for mode in MODES:
            _draw_estimate(axes, place, mode, results.estimate(*results.pooled(name, f"score_{mode}")), look.colour)
    axes.set_xlabel(f"IQM of the {SCORE}")
    return figure


def curves_figure(results: Results, mode: str) -> Figure:
    """A panel a dataset: return against training iteration, IQM over seeds as the line and its interval as the band."""
    looks = looks_of(results)
    legend = _line_legend(looks)
    if len(results.seeds) > 1:
        legend.append(Patch(color="#999999", alpha=0.3, linewidth=0, label=interval_label(results)))
    figure, panels = small_multiples(
        results, f"Return during training, {MODES[mode]}", results.datasets, legend, note="axes differ between panels"
    )
    for dataset, axes in panels.items():
        drawn = [_draw_curve(axes, results, dataset, name, mode, look) for name, look in looks.items()]
        if not any(drawn):
            said = NOT_EVALUATED_DURING_TRAINING.replace(" during", "\nduring")
            axes.text(0.5, 0.5, said, ha="center", va="center", transform=axes.transAxes)
            axes.set_yticks([])
        axes.set_xlabel("training iteration")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _leave_room(axes, "y")
    for axes in panels.values():
        if _is_first_column(axes):
            axes.set_ylabel("return (sum of rewards)")
    return figure


def profiles_figure(results: Results, profiles: dict[tuple[str, str], np.ndarray]) -> Figure:
    """A panel a mode: the share of runs, over all datasets, that score above a threshold; the further up, the better."""
    looks = looks_of(results)
    legend = _line_legend(looks)
    if len(results.seeds) > 1:
        legend.append(Patch(color="#999999", alpha=0.3, linewidth=0, label=interval_label(results, "")))
    figure, panels = small_multiples(results, "Performance profile", list(MODES.values()), legend, 3.0, sharey=True)
    for mode, axes in zip(MODES, panels.values()):
        for place, (name, look) in enumerate(looks.items()):
            if (f"score_{mode}", name) not in profiles:
                continue
            share, low, high = profiles[f"score_{mode}", name]
            every = (4 * place % 20, 20)  # marks of different algorithms at different places
            axes.plot(THRESHOLDS, share, markevery=every, **look.curve())
            axes.fill_between(THRESHOLDS, low, high, color=look.colour, alpha=0.15, linewidth=0)
        axes.set_xlabel(SCORE)
        axes.set_ylim(-0.03, 1.03)
    next(iter(panels.values())).set_ylabel("share of runs above")
    return figure


def improvement_figure(results: Results, compared: list[Comparison]) -> Figure:
    """A line for each other algorithm: how probably a run of the first one is better."""
    others = list(dict.fromkeys(comparison.other for comparison in compared))
    title = f"Probability that a run of {compared[0].name} is better"
    legend = [handle for handle in _mode_legend(results, "") if handle.get_label() != "one seed"]
    legend.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="equally good"))
    figure, panels = small_multiples(results, title, [""], legend, *_by_line(others))
    (axes,) = panels.values()
    _name_lines(axes, others)
    looks = looks_of(results)
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    for comparison in compared:
        mode, result = comparison.metric.removeprefix("return_"), comparison.result
        y = others.index(comparison.other) - OFFSETS[mode]
        _draw_interval(axes, y, mode, result.probability, result.low, result.high, looks[comparison.other].colour)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel(f"probability that {compared[0].name} is better, ties half")
    return figure


def differences_figure(results: Results, changed: list[Difference]) -> Figure:
    """A panel a dataset, and one for all, a line a variant: how its score differs from that of its algorithm, seed by seed."""
    variants = list(dict.fromkeys(change.variant for change in changed))
    datasets = list(dict.fromkeys(change.dataset for change in changed))
    base = " and ".join(dict.fromkeys(change.algorithm for change in changed))
    titles = {dataset: "all datasets" if dataset == POOLED else dataset for dataset in datasets}
    figure, panels = small_multiples(
        results,
        f"What each variant changes: its score minus that of {base}",
        list(titles.values()),
        _mode_legend(results),
        *_by_line(variants),
        sharex=True,
    )
    looks = looks_of(results)
    for axes in panels.values():
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        _name_lines(axes, variants)
        axes.set_xlabel("difference of scores")
        axes.tick_params(axis="x", labelbottom=True)
    for change in changed:
        mode, axes = change.metric.removeprefix("score_"), panels[titles[change.dataset]]
        seeds = change.values if change.dataset != POOLED else None
        _draw_estimate(axes, variants.index(change.variant), mode, change.estimate, looks[change.variant].colour, seeds)
    return figure


def _mode_legend(results: Results, what: str = "of the IQM") -> list[Artist]:
    legend: list[Artist] = [mark(GREY, mode, label=label) for mode, label in MODES.items()]
    legend.append(Line2D([], [], marker="o", linestyle="", markersize=3, color="#999999", label="one seed"))
    if len(results.seeds) > 1:
        legend.append(Line2D([], [], color=GREY, linewidth=1.6, label=interval_label(results, what)))
    return legend


def _line_legend(looks: dict[str, Look]) -> list[Artist]:
    return [Line2D([], [], label=name, **look.curve()) for name, look in looks.items()]


def _by_line(names: list[str], note: str = "") -> tuple[float, str]:
    """Height of a panel with a line for each of ``names``, and the note below the title."""
    return max(1.3, 0.75 + ROW * len(names)), note


def _name_lines(axes: Axes, names: list[str]) -> None:
    """A line for each name, the first on top; the names stand in the first column alone."""
    axes.set_yticks(range(len(names)), names if _is_first_column(axes) else [""] * len(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(4))


def _is_first_column(axes: Axes) -> bool:
    place = axes.get_subplotspec()
    return place is not None and place.is_first_col()


def _draw_estimate(axes: Axes, line: int, mode: str, found: Estimate, colour: str, seeds: np.ndarray | None = None) -> None:
    y = line - OFFSETS[mode]  # the axis points down: greedy above sampled
    if seeds is not None:  # beside one another, not on top: seeds often share a value
        beside = y + np.linspace(0.07, 0.13, len(seeds))
        axes.plot(seeds, beside, "o", markersize=2.2, color=colour, alpha=0.45, markeredgewidth=0)
    _draw_interval(axes, y, mode, found.iqm, found.low, found.high, colour)


def _draw_interval(axes: Axes, y: float, mode: str, value: float, low: float | None, high: float | None, colour: str) -> None:
    if low is not None and high is not None:
        axes.hlines(y, low, high, color=colour, linewidth=1.6)
    axes.add_line(mark(colour, mode, [value], [y]))


def _draw_curve(axes: Axes, results: Results, dataset: str, name: str, mode: str, look: Look) -> bool:
    cell = results.cell(dataset, name)
    steps, values = cell.curve(f"return_{mode}") if cell.seeds else ([], np.empty(0))
    if not steps:
        return False
    estimates = [results.estimate(values[:, place]) for place in range(len(steps))]
    iqms, lows, highs = zip(*((e.iqm, e.low, e.high) for e in estimates))
    every = max(1, len(steps) // 6)
    axes.plot(steps, iqms, markevery=every, **look.curve())
    if len(cell.seeds) > 1:
        axes.fill_between(steps, lows, highs, color=look.colour, alpha=0.15, linewidth=0)
    return True


def _say_in_line(axes: Axes, place: int, what: str) -> None:
    axes.text(0.02, place, what, color=GREY, va="center", transform=axes.get_yaxis_transform())


def _leave_room(axes: Axes, axis: str = "x") -> None:
    """Show a constant as a constant: the axis spans at least a tenth of the values' size."""
    axes.autoscale_view()
    low, high = getattr(axes, f"get_{axis}lim")()
    missing = 0.1 * max(abs(low), abs(high), 1e-3) - (high - low)
    if missing > 0:
        getattr(axes, f"set_{axis}lim")(low - missing / 2, high + missing / 2)
