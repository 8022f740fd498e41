"""The figures: they show the numbers, fit their space, and have the same bytes every time."""

from itertools import chain, pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from inspo_core.report.comparisons import THRESHOLDS, compare
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.figures import (
    curves_figure,
    differences_figure,
    improvement_figure,
    profiles_figure,
    returns_figure,
    scores_figure,
    write_figures,
)
from inspo_core.report.results import METRICS, SCORES, Cell, Results, read_results
from inspo_core.report.style import COLOURS, STYLE, looks_of


@pytest.fixture
def results(tree):
    return read_results(tree.evaluations, tree.trainings, tree.params())


def invented(algorithms: int, seeds: int = 3, steps: int = 1, datasets: int = 2, variants: bool = False) -> Results:
    """Results of many algorithms, or of one and its variants, without files."""
    rng = np.random.default_rng(0)
    cells = [
        Cell(
            f"dataset_{d}",
            "inspo" if variants else f"algorithm{a}",
            f"inspo_constant_thing{a}" if variants and a else "default",
            list(range(seeds)),
            ["trained"] * seeds,
            {metric: rng.normal(size=seeds) for metric in METRICS + SCORES},
            [{step: dict.fromkeys(METRICS, rng.normal()) for step in range(1, steps)} for _ in range(seeds)],
        )
        for d in range(datasets)
        for a in range(algorithms)
    ]
    games = {f"dataset_{d}": "xor" for d in range(datasets)}
    return Results(cells, games, list(range(seeds)), episodes=10, confidence=0.95, resamples=100)


def figures_of(results: Results):
    found = compare(results, results.summary())
    yield from (returns_figure(results), curves_figure(results, "greedy"), scores_figure(results), profiles_figure(results, found.profiles))
    if found.overall:
        yield improvement_figure(results, found.overall)
    if found.differences:
        yield differences_figure(results, found.differences)


def drawn(figure):
    figure.canvas.draw()
    return [axes for axes in figure.axes if axes.axison]


def test_returns_show_every_seed_the_iqm_and_the_interval(results):
    panels = drawn(returns_figure(results))
    assert [axes.get_title(loc="left") for axes in panels] == ["xor_c", "mne_imbalanced", "bridge_mixed"]
    axes = panels[1]
    cells = [cell for cell in results.cells if cell.dataset == "mne_imbalanced"]
    shown = {tuple(np.round(line.get_xdata(), 12)) for line in axes.lines}
    for cell in cells:
        for metric in ("return_greedy", "return_sampled"):
            assert tuple(np.round(cell.values[metric], 12)) in shown
            assert (round(results.estimate(cell.values[metric]).iqm, 12),) in shown
    ends = [tuple(segment[:, 0]) for bar in axes.collections for segment in bar.get_segments()]
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


@pytest.mark.parametrize(
    "shape", [{"algorithms": 1}, {"algorithms": 2, "datasets": 1}, {"algorithms": 10, "datasets": 12}, {"algorithms": 11, "variants": True}]
)
def test_labels_do_not_overlap_and_all_is_inside(shape):
    with matplotlib.rc_context(STYLE):
        for figure in figures_of(invented(steps=4, **shape)):
            panels = drawn(figure)
            ticks = [labels for axes in panels for labels in visible_ticks(axes)]
            for text in [*figure.texts, *figure.legends[0].get_texts(), *chain(*ticks)]:
                box = text.get_window_extent()
                assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, text.get_text()
            for labels in ticks:
                for one, other in pairwise(label.get_window_extent() for label in labels):
                    assert one.x1 < other.x0 or other.x1 < one.x0 or one.y1 < other.y0 or other.y1 < one.y0
            legend = figure.legends[0].get_window_extent()
            assert legend.y1 <= min(axes.get_tightbbox().y0 for axes in panels) and legend.x1 <= figure.bbox.x1


def test_many_algorithms_are_told_apart():
    looks = list(looks_of(invented(15)).values())
    assert all(look.colour != looks[0].colour for look in looks[1:])
    for place, one in enumerate(looks):
        for other in looks[place + 1 :]:
            assert one.marker != other.marker or one.line != other.line
            assert one.colour != other.colour or (one.line != other.line and one.marker != other.marker)


def test_profiles_improvement_and_differences_show_their_numbers(ablation):
    found = compare(ablation, ablation.summary())
    greedy, sampled = drawn(profiles_figure(ablation, found.profiles))
    for axes, metric in ((greedy, "score_greedy"), (sampled, "score_sampled")):
        for line, name in zip(axes.lines, ablation.names, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), THRESHOLDS)
            np.testing.assert_array_equal(line.get_ydata(), found.profiles[metric, name][0])
    (axes,) = drawn(improvement_figure(ablation, found.overall))
    shown = {tuple(line.get_xdata()) for line in axes.lines}
    assert {(comparison.result.probability,) for comparison in found.overall} <= shown
    panels = drawn(differences_figure(ablation, found.differences))
    assert [axes.get_title(loc="left") for axes in panels] == [*ablation.datasets, "all datasets"]
    for change in found.differences:
        axes = panels[[*ablation.datasets, "all"].index(change.dataset)]
        shown = {tuple(line.get_xdata()) for line in axes.lines}
        assert (change.estimate.iqm,) in shown and (change.dataset == "all") != (tuple(change.values) in shown)


def visible_ticks(axes):
    """The labels of each axis that are in sight."""
    for labels, (low, high), place in (
        (axes.get_xticklabels(), sorted(axes.get_xlim()), 0),
        (axes.get_yticklabels(), sorted(axes.get_ylim()), 1),
    ):
        yield [label for label in labels if low <= label.get_position()[place] <= high and label.get_text()]


def test_a_constant_is_drawn_as_a_constant():
    cell = Cell("d", "a", "default", [0, 1, 2, 3, 4], ["trained"] * 5, {metric: np.full(5, 20.0) for metric in METRICS}, [{}] * 5)
    low, high = drawn(returns_figure(Results([cell], {"d": "mne"}, [0, 1, 2, 3, 4], 1, 0.95, 100)))[0].get_xlim()
    assert low < 19.5 and high > 20.5


def test_files_have_the_same_bytes_every_time(tmp_path):
    small = invented(2, steps=3, datasets=1, variants=True)
    found = compare(small, small.summary())
    first, second = (write_figures(small, found, list(FIGURES), tmp_path / place) for place in "ab")
    names = ["curves_greedy", "curves_sampled", "differences", "improvement", "profiles", "returns", "scores"]
    assert sorted(path.name for path in first) == sorted(f"{name}.{suffix}" for name in names for suffix in ("pdf", "png", "svg"))
    for one, other in zip(first, second, strict=True):
        content = one.read_bytes()
        assert content == other.read_bytes()
        assert b"<dc:date>" not in content and b"Software" not in content[:200] and b"CreationDate" not in content
