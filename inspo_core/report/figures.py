"""The figures: returns of the last policies, and learning curves. The same results give the same bytes, as PNG and as SVG."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from inspo_core.report.results import Cell, Results
from inspo_core.report.tables import algorithm_labels

# Okabe and Ito, "Color Universal Design" (https://jfly.uni-koeln.de/color/), the darkest first, without yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLE = {
    "svg.hashsalt": "inspo",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
}
MARKERS = "os^vPX"  # of the curves, so that lines which coincide are told apart without colour too
PANEL = (2.7, 2.3)  # inches, at least
WIDTH = 4 * PANEL[0]
ROOM = 0.95  # inches that an algorithm needs in a panel of returns
HEAD, FOOT = 0.56, 0.2  # inches for the title and for a line of the legend
PNG_DPI = 150
MODES = {"greedy": "greedy actions", "sampled": "sampled actions"}


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn, the same in every figure."""

    label: str
    colour: str
    marker: str


def write_figures(results: Results, directory: Path) -> list[Path]:
    """Draw every figure into ``directory`` as ``.png`` and ``.svg``; return the files."""
    drawings: dict[str, Callable[[Results], Figure]] = {
        "returns": returns_figure,
        "curves_greedy": lambda results: curves_figure(results, "greedy"),
        "curves_sampled": lambda results: curves_figure(results, "sampled"),
    }
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in drawings.items():
            figure = draw(results)
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                path = directory / f"{name}.{suffix}"
                figure.savefig(path, dpi=PNG_DPI, metadata=metadata)
                written.append(path)
    return written


def returns_figure(results: Results) -> Figure:
    """A panel a dataset: every seed's return (small), their IQM (large) and its interval, greedy and sampled side by side."""
    looks = _looks(results)
    legend: list[Artist] = [_mark("#555555", mode, label=label) for mode, label in MODES.items()]
    legend.append(Line2D([], [], marker="o", linestyle="", markersize=3, color="#999999", label="one seed"))
    if len(results.seeds) > 1:
        legend.append(Line2D([], [], color="#555555", linewidth=1.6, label=f"{_interval(results)} (large mark)"))
    figure, panels = _small_multiples(results, "Return of the last policy", legend, ROOM * len(looks))
    for dataset, axes in panels.items():
        for place, (algorithm, look) in enumerate(looks.items()):
            cell = _cell(results, dataset, algorithm)
            for mode, shift in (("greedy", -0.2), ("sampled", 0.2)):
                _draw_return(axes, place + shift, cell.values[f"return_{mode}"], results, look.colour, mode)
        axes.set_xticks(range(len(looks)), [look.label.replace(" ", "\n", 1) for look in looks.values()])
        axes.set_xlim(-0.6, len(looks) - 0.4)
        axes.tick_params(axis="x", length=0)
        _leave_room(axes)
    return figure


def curves_figure(results: Results, mode: str) -> Figure:
    """A panel a dataset: return against training iteration, IQM over seeds as the line and its interval as the band."""
    looks = _looks(results)
    legend: list[Artist] = [
        Line2D([], [], color=look.colour, linewidth=1.8, marker=look.marker, markersize=4, label=look.label) for look in looks.values()
    ]
    if len(results.seeds) > 1:
        legend.append(Patch(color="#999999", alpha=0.3, linewidth=0, label=_interval(results)))
    figure, panels = _small_multiples(results, f"Return during training, {MODES[mode]}", legend)
    for dataset, axes in panels.items():
        drawn = [_draw_curve(axes, _cell(results, dataset, algorithm), results, mode, look) for algorithm, look in looks.items()]
        if not any(drawn):
            axes.text(0.5, 0.5, "no evaluation\nduring training", ha="center", va="center", transform=axes.transAxes)
            axes.set_yticks([])
        axes.set_xlabel("training iteration")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _leave_room(axes)
    return figure


def _small_multiples(results: Results, title: str, legend: list[Artist], panel_width: float = 0) -> tuple[Figure, dict[str, Axes]]:
    """An empty panel for each dataset, under a title and over a legend."""
    datasets = results.datasets
    panel_width = max(panel_width, PANEL[0])
    columns = min(max(1, int(WIDTH / panel_width)), len(datasets))
    rows = math.ceil(len(datasets) / columns)
    width = max(columns * panel_width, 0.75 * WIDTH)
    legend_columns = _legend_columns(legend, width)
    height = rows * PANEL[1] + HEAD + FOOT * (1 + math.ceil(len(legend) / legend_columns))
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - HEAD / height), w_pad=0.06, h_pad=0.06)
    figure.text(0.1 / width, 1 - 0.08 / height, title, fontsize=12, va="top")
    seeds = f"{len(results.seeds)} seed{'' if len(results.seeds) == 1 else 's'}"
    note = "; axes differ between panels" if len(datasets) > 1 else ""
    figure.text(0.1 / width, 1 - 0.34 / height, seeds + note, color="#555555", va="top")
    figure.legend(handles=legend, loc="outside lower left", ncols=legend_columns, handletextpad=0.5, columnspacing=1.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(datasets) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("return (sum of rewards)")
    panels = dict(zip(datasets, grid.flat))
    for dataset, axes in panels.items():
        axes.set_title(dataset, loc="left")
    return figure, panels


def _legend_columns(legend: list[Artist], width: float) -> int:
    """All entries side by side if they fit into ``width`` inches, else as many equal columns as fit."""
    widths = [0.45 + 0.07 * len(str(handle.get_label())) for handle in legend]  # mark and gaps, letters of 9 points
    return len(legend) if sum(widths) < width else max(1, int(width / max(widths)))


def _draw_return(axes: Axes, x: float, values: np.ndarray, results: Results, colour: str, mode: str) -> None:
    estimate = results.estimate(values)
    # Side by side, not on top of one another: seeds often share a return.
    beside = x + (np.linspace(0.1, 0.22, len(values)) if len(values) > 1 else 0.1)
    axes.plot(beside, values, "o", markersize=2.6, color=colour, alpha=0.55, markeredgewidth=0)
    if estimate.low is not None and estimate.high is not None:
        axes.vlines(x, estimate.low, estimate.high, color=colour, linewidth=1.6)
    axes.add_line(_mark(colour, mode, [x], [estimate.iqm]))


def _mark(colour: str, mode: str, x: list[float] = [], y: list[float] = [], label: str = "") -> Line2D:
    filled = mode == "greedy"
    return Line2D(
        x,
        y,
        marker="o" if filled else "D",
        markersize=7 if filled else 6,
        markerfacecolor=colour if filled else "white",
        markeredgecolor=colour,
        markeredgewidth=1.4,
        linestyle="",
        label=label,
    )


def _draw_curve(axes: Axes, cell: Cell, results: Results, mode: str, look: Look) -> bool:
    steps, values = cell.curve(f"return_{mode}")
    if not steps:
        return False
    estimates = [results.estimate(column) for column in values.T]
    iqms, lows, highs = zip(*((e.iqm, e.low, e.high) for e in estimates))
    every = max(1, len(steps) // 6)
    axes.plot(steps, iqms, color=look.colour, linewidth=1.8, marker=look.marker, markersize=4, markevery=every)
    if len(results.seeds) > 1:
        axes.fill_between(steps, lows, highs, color=look.colour, alpha=0.22, linewidth=0)
    return True


def _leave_room(axes: Axes) -> None:
    """Show a constant as a constant: the axis spans at least a tenth of the values' size."""
    low, high = axes.get_ylim()
    missing = 0.1 * max(abs(low), abs(high), 1e-3) - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def _looks(results: Results) -> dict[str, Look]:
    return {
        algorithm: Look(label, COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])
        for place, (algorithm, label) in enumerate(algorithm_labels(results).items())
    }


def _cell(results: Results, dataset: str, algorithm: str) -> Cell:
    return next(cell for cell in results.cells if (cell.dataset, cell.algorithm) == (dataset, algorithm))


def _interval(results: Results) -> str:
    return f"{results.confidence * 100:g} % bootstrap interval of the IQM"
