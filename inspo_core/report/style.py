"""How figures look: colours, marks and lines of the algorithms, panels with a title and a legend, files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from inspo_core.report.results import Results
from inspo_core.report.wording import counted

# Okabe and Ito, "Color Universal Design" (https://jfly.uni-koeln.de/color/), the darkest first, without yellow; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^vDPX*<>"
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)))  # solid, dashed, dotted: the next one when the colours are used up
STYLE: dict[Any, Any] = {
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
    "pdf.fonttype": 42,  # text stays text
}
FORMATS: dict[str, dict[str, Any]] = {  # without date and version, so that the same figure has the same bytes
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
PANEL = (2.7, 2.3)  # inches
COLUMNS = 4
HEAD, FOOT = 0.56, 0.2  # inches for the title and for a line of the legend
PNG_DPI = 150
MODES = {"greedy": "greedy actions", "sampled": "sampled actions"}


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn, the same in every figure."""

    colour: str
    marker: str
    line: Any
    width: float  # the later drawn, the narrower: where curves coincide, all are seen

    def curve(self) -> dict[str, Any]:
        """How matplotlib is to draw its curves."""
        size = 2.5 * self.width
        return {"color": self.colour, "linestyle": self.line, "linewidth": self.width, "marker": self.marker, "markersize": size}


def looks_of(results: Results) -> dict[str, Look]:
    """The look of every algorithm and variant, told apart by colour, marker and line; the first one's colour is its own."""
    others = [(colour, line) for line in LINES for colour in COLOURS[1:]]
    colours = chain([(COLOURS[0], LINES[0])], cycle(others))
    return {
        name: Look(colour, MARKERS[place % len(MARKERS)], line, width)
        for place, (name, (colour, line), width) in enumerate(zip(results.names, colours, np.linspace(2.4, 1.2, len(results.names))))
    }


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write a figure in every format; return the files."""
    written = []
    for suffix, metadata in FORMATS.items():
        written.append(directory / f"{name}.{suffix}")
        figure.savefig(written[-1], dpi=PNG_DPI, metadata=metadata)
    return written


def small_multiples(
    results: Results, title: str, panels: list[str], legend: list[Artist], height: float = PANEL[1], note: str = "", **subplots: Any
) -> tuple[Figure, dict[str, Axes]]:
    """An empty panel of ``height`` inches for each name in ``panels``, under a title and over a legend."""
    rows = math.ceil(len(panels) / COLUMNS)
    columns = math.ceil(len(panels) / rows)
    width = max(columns, 0.75 * COLUMNS) * PANEL[0]
    legend_columns = _legend_columns(legend, width)
    total = rows * height + HEAD + FOOT * (1 + math.ceil(len(legend) / legend_columns))
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - HEAD / total), w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=(width, total), layout=layout)
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.08 / total, title, fontsize=12, va="top")
    seeds = counted(len(results.seeds), "seed")
    if results.failures:
        seeds += f", without {counted(len(results.failures), 'failed run')}"
    figure.text(0.1 / width, 1 - 0.34 / total, seeds + (f"; {note}" if note else ""), color="#555555", va="top")
    figure.legend(handles=legend, loc="outside lower left", ncols=legend_columns, handletextpad=0.5, columnspacing=1.6)
    grid = figure.subplots(rows, columns, squeeze=False, **subplots)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    named = dict(zip(panels, grid.flat))
    for panel, axes in named.items():
        axes.set_title(panel, loc="left")
    return figure, named


def _legend_columns(legend: list[Artist], width: float) -> int:
    """The most columns, filled one after the other, that fit into ``width`` inches."""
    widths = [0.6 + 0.075 * len(str(handle.get_label())) for handle in legend]  # mark and gaps, letters of 9 points

    def fits(columns: int) -> bool:
        long, rest = divmod(len(widths), columns)
        ends = np.cumsum([long + (column < rest) for column in range(columns)])
        return bool(sum(max(column) for column in np.split(widths, ends[:-1])) < width)

    return next((columns for columns in range(len(legend), 1, -1) if fits(columns)), 1)


def mark(colour: str, mode: str, x: Sequence[float] = (), y: Sequence[float] = (), label: str = "") -> Line2D:
    """The mark of an estimate: a filled circle for greedy actions, an open diamond for sampled ones."""
    filled = mode == "greedy"
    return Line2D(
        x,
        y,
        marker="o" if filled else "D",
        markersize=6 if filled else 5,
        markerfacecolor=colour if filled else "white",
        markeredgecolor=colour,
        markeredgewidth=1.2,
        linestyle="",
        label=label,
    )


def interval_label(results: Results, what: str = "of the IQM") -> str:
    return f"{results.confidence * 100:g} % bootstrap interval {what}".rstrip()
