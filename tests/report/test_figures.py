"""The figures: they show the numbers, fit their space, and have the same bytes every time."""

from itertools import chain, pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from inspo_core.report import read_results
from inspo_core.report.figures import COLOURS, STYLE, curves_figure, returns_figure, write_figures
from inspo_core.report.results import METRICS, Cell, Results


@pytest.fixture
def results(tree):
    return read_results(tree.evaluations, tree.trainings, tree.params())


def invented(algorithms: int, seeds: int = 3, variant: str = "default", steps: int = 1) -> Results:
    """Results of many algorithms on two datasets, without files."""
    rng = np.random.default_rng(0)
    cells = [
        Cell(
            f"dataset_{d}",
            f"algorithm{a}",
            variant,
            ["trained"] * seeds,
            {metric: rng.normal(size=seeds) for metric in METRICS},
            [{step: dict.fromkeys(METRICS, rng.normal()) for step in range(1, steps)} for _ in range(seeds)],
        )
        for d in range(2)
        for a in range(algorithms)
    ]
    return Results(cells, list(range(seeds)), episodes=10, confidence=0.95, resamples=100)


def drawn(figure):
    figure.canvas.draw()
    return [axes for axes in figure.axes if axes.axison]


def test_returns_show_every_seed_the_iqm_and_the_interval(results):
    panels = drawn(returns_figure(results))
    assert [axes.get_title(loc="left") for axes in panels] == ["xor_c", "mne_imbalanced", "bridge_mixed"]
    axes = panels[1]
    cells = [cell for cell in results.cells if cell.dataset == "mne_imbalanced"]
    shown = {tuple(np.round(line.get_ydata(), 12)) for line in axes.lines}
    for cell in cells:
        for metric in ("return_greedy", "return_sampled"):
            assert tuple(np.round(cell.values[metric], 12)) in shown
            assert (round(results.estimate(cell.values[metric]).iqm, 12),) in shown
    ends = [tuple(segment[:, 1]) for bar in axes.collections for segment in bar.get_segments()]
    bc = results.estimate(cells[1].values["return_greedy"])
    assert any(np.allclose(pair, (bc.low, bc.high)) for pair in ends)


def test_curves_show_the_iqm_over_seeds_at_every_evaluation(results):
    for mode in ("greedy", "sampled"):
        axes = drawn(curves_figure(results, mode))[2]
        for line, cell in zip(axes.lines, [cell for cell in results.cells if cell.dataset == "bridge_mixed"], strict=True):
            steps, values = cell.curve(f"return_{mode}")
            assert line.get_xdata().tolist() == steps
            np.testing.assert_allclose(line.get_ydata(), np.sort(values, axis=0)[1:4].mean(axis=0))
        assert len(axes.collections) == 2  # a band each
        assert [to_hex(line.get_color()).upper() for line in axes.lines] == list(COLOURS[:2])


def test_one_seed_has_no_band_and_no_interval():
    one = invented(2, seeds=1, steps=4)
    assert all(not axes.collections for axes in drawn(curves_figure(one, "greedy")) + drawn(returns_figure(one)))


def test_no_evaluation_during_training_is_said():
    panels = drawn(curves_figure(invented(2), "greedy"))
    assert all(axes.texts[0].get_text() == "no evaluation\nduring training" for axes in panels)


@pytest.mark.parametrize("algorithms", [1, 2, 6])
@pytest.mark.parametrize("variant", ["default", "simultaneous"])
def test_labels_do_not_overlap_and_all_is_inside(algorithms, variant):
    results = invented(algorithms, variant=variant, steps=4)
    with matplotlib.rc_context(STYLE):
        for figure in (returns_figure(results), curves_figure(results, "greedy")):
            panels = drawn(figure)
            ticks = [visible_ticks(axes) for axes in panels]
            for text in [*figure.texts, *figure.legends[0].get_texts(), *chain(*ticks)]:
                box = text.get_window_extent()
                assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
            for labels in ticks:
                for left, right in pairwise(label.get_window_extent() for label in labels):
                    assert left.x1 < right.x0
            legend = figure.legends[0].get_window_extent()
            assert legend.y1 <= min(axes.get_tightbbox().y0 for axes in panels)


def visible_ticks(axes):
    low, high = axes.get_xlim()
    return [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]


def test_a_constant_is_drawn_as_a_constant():
    cell = Cell("d", "a", "default", ["trained"] * 5, {metric: np.full(5, 20.0) for metric in METRICS}, [{}] * 5)
    low, high = drawn(returns_figure(Results([cell], [0, 1, 2, 3, 4], 1, 0.95, 100)))[0].get_ylim()
    assert low < 19.5 and high > 20.5


def test_files_have_the_same_bytes_every_time(results, tmp_path):
    first, second = write_figures(results, tmp_path / "a"), write_figures(results, tmp_path / "b")
    assert sorted(path.name for path in first) == [
        "curves_greedy.png",
        "curves_greedy.svg",
        "curves_sampled.png",
        "curves_sampled.svg",
        "returns.png",
        "returns.svg",
    ]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert b"<dc:date>" not in one.read_bytes() and b"Software" not in one.read_bytes()[:200]
