"""The tables: exact columns, the right numbers, the same bytes every time."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dvc_render.vega import VegaRenderer

from inspo_core.report.comparisons import compare
from inspo_core.report.results import METRICS, read_results
from inspo_core.report.tables import markdown, print_table, write_tables
from inspo_core.report.wording import iqm_text, mean_text
from inspo_core.statistics import Estimate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def results(tree):
    return read_results(tree.evaluations, tree.trainings, tree.params())


@pytest.fixture
def tables(results, tmp_path):
    directory = tmp_path / "tables"
    directory.mkdir()
    write_tables(results, results.summary(), compare(results, results.summary()), directory)
    return directory


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_results_csv(results, tables):
    content = (tables / "results.csv").read_bytes()
    assert content.startswith(b"dataset,algorithm,variant,seed,metric,value\nbridge_mixed,bc,default,0,return_greedy,")
    assert b"\r" not in content and content.endswith(b"\n")
    rows = rows_of(tables / "results.csv")
    assert len(rows) == 3 * 2 * 5 * 4
    keys = [(row["dataset"], row["algorithm"], row["variant"], int(row["seed"]), row["metric"]) for row in rows]
    assert keys == sorted(keys)
    values = {(key[0], key[1], key[3], key[4]): float(row["value"]) for key, row in zip(keys, rows)}
    for cell in results.cells:
        for metric in METRICS:
            found = [values[cell.dataset, cell.algorithm, seed, metric] for seed in results.seeds]
            assert found == cell.values[metric].tolist()  # bit for bit


def test_summary_csv_follows_from_results_csv(tables):
    values = {}
    for row in rows_of(tables / "results.csv"):
        values.setdefault((row["dataset"], row["algorithm"], row["variant"], row["metric"]), []).append(float(row["value"]))
    rows = rows_of(tables / "summary.csv")
    assert list(rows[0]) == ["dataset", "algorithm", "variant", "metric", "seeds", "mean", "std", "iqm", "low", "high"]
    single = {(r["dataset"], r["algorithm"], r["variant"], r["metric"]): r for r in rows if r["dataset"] != "all"}
    assert single.keys() >= values.keys() and {key[3] for key in single.keys() - values.keys()} == {"score_greedy", "score_sampled"}
    references = {row["dataset"]: row for row in rows_of(tables / "references.csv")}
    for (dataset, algorithm, variant, metric), row in single.items():
        if metric.startswith("score"):
            random, best = (float(references[dataset][name]) for name in ("random", "best"))
            returns = single[dataset, algorithm, variant, metric.replace("score", "return")]
            assert float(row["iqm"]) == pytest.approx((float(returns["iqm"]) - random) / (best - random))
    for key in values:
        row = single[key]
        assert float(row["mean"]) == pytest.approx(np.mean(values[key]))
        assert float(row["std"]) == pytest.approx(np.std(values[key], ddof=1))
        assert float(row["iqm"]) == pytest.approx(np.mean(sorted(values[key])[1:4]))
        assert min(values[key]) <= float(row["low"]) <= float(row["high"]) <= max(values[key])
        assert row["seeds"] == "5"


def test_curves_csv_and_metrics_json(results, tables):
    rows = rows_of(tables / "curves.csv")
    assert list(rows[0])[:5] == ["dataset", "algorithm", "variant", "seed", "step"]
    assert len(rows) == 3 * 2 * 5 * 6
    for cell in results.cells:
        for seed, curve in zip(results.seeds, cell.curves):
            mine = [r for r in rows if (r["dataset"], r["algorithm"], r["seed"]) == (cell.dataset, cell.algorithm, str(seed))]
            assert {int(r["step"]): float(r["return_sampled"]) for r in mine} == {s: p["return_sampled"] for s, p in curve.items()}
    metrics = json.loads((tables / "metrics.json").read_text())
    found = metrics["mne_imbalanced"]["bc"]["return_greedy"]
    summary = next(
        row.estimate for row in results.summary() if (row.dataset, row.algorithm, row.metric) == ("mne_imbalanced", "bc", "return_greedy")
    )
    assert found == {"iqm": summary.iqm, "mean": summary.mean}


def test_dvc_draws_the_curves_with_the_projects_template(tables):
    points = [{**row, "rev": "workspace"} for row in rows_of(tables / "curves.csv")]
    renderer = VegaRenderer(points, "curves", template="curves", template_dir=str(ROOT / ".dvc" / "plots"), x="step", y="return_sampled")
    drawn = renderer.get_filled_template()
    assert drawn["data"]["values"] == points
    fields = set(re.findall(r'"field": "([^"]+)"', json.dumps(drawn["facet"]) + json.dumps(drawn["spec"])))
    assert fields == {"dataset", "name", "seed", "step", "return_sampled", "rev"}
    (named,) = drawn["transform"]
    read = set(re.findall(r"datum\.(\w+)", named["calculate"]))
    assert named["as"] == "name" and read == {"algorithm", "variant"}
    assert (fields - {"name"}) | read <= set(points[0])


def test_markdown_says_what_it_is_and_every_line_has_every_column(results):
    text = markdown(results, results.summary(), compare(results, results.summary()))
    assert "last policy" in text and "5 seeds (0, 1, 2, 3, 4), 100 episodes" in text
    assert "[95 % bootstrap interval, 500 resamples over seeds]" in text
    assert "| mne_imbalanced | 20.000<br>[20.000, 20.000]<br>20.000 ± 0.000 |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    wide = [line for line in lines if line.count("|") == 7]
    assert len(wide) == 2 * (2 + 3)  # who stands where
    assert len(lines) - len(wide) == 2 * (2 + 3) + 4 * (2 + 4) + 3  # returns; success rates and scores with the pooled line; improvement
    assert {line.count("|") for line in lines} == {4, 7}
    assert "## Probability that a run of inspo is better, over 3 datasets" in text and "variant minus algorithm" not in text


def test_variants_have_columns_of_their_own_and_a_table_of_what_they_change(ablation):
    text = markdown(ablation, ablation.summary(), compare(ablation, ablation.summary()))
    assert "| Dataset | inspo | inspo_product |" in text
    table = text.partition("## Score, greedy: variant minus algorithm, seed by seed\n\n")[2].splitlines()
    assert table[0] == "| Variant | xor_c | mne_imbalanced | bridge_mixed | all, pooled |"
    assert table[2].startswith("| inspo_product | -")


def estimated(iqm: float, low: float | None, high: float | None) -> Estimate:
    return Estimate(mean=iqm, std=0.1, iqm=iqm, low=low, high=high, seeds=5)


def test_who_is_ahead_of_the_first_algorithm_is_said(results):
    ours, theirs = estimated(1.0, 0.8, 1.2), {"xor_c": estimated(1.5, 1.3, 1.6), "mne_imbalanced": estimated(0.9, 0.7, 1.0)}
    rows = [replace(row, estimate=ours if row.name == "inspo" else theirs.get(row.dataset, ours)) for row in results.summary()]
    table = markdown(results, rows, compare(results, rows)).partition(
        "## Return, greedy: the others' interquartile means beside that of inspo\n\n"
    )[2]
    header, _, *lines = table.splitlines()[:5]
    columns = [name.strip() for name in header.split("|")[1:-1]]
    found = {cells[0]: columns[cells.index("bc")] for line in lines if (cells := [cell.strip() for cell in line.split("|")[1:-1]])}
    assert found == {"xor_c": "above, intervals apart", "mne_imbalanced": "below, intervals overlap", "bridge_mixed": "level"}
    alone = [replace(row, estimate=estimated(1.0, None, None)) for row in rows]
    assert "beside that of" not in markdown(results, alone, compare(results, alone))


def test_numbers():
    whole = Estimate(mean=-0.0004, std=0.05, iqm=0.12345, low=-0.00001, high=1.0, seeds=5)
    assert iqm_text(whole, "return_greedy") == "0.123 [0.000, 1.000]"
    assert mean_text(whole, "return_greedy") == "0.000 ± 0.050"
    alone = Estimate(mean=0.5, std=None, iqm=0.5, low=None, high=None, seeds=1)
    assert (iqm_text(alone, "success_greedy"), mean_text(alone, "success_greedy")) == ("0.50", "0.50")


def test_terminal_table_without_a_terminal(results):
    out = io.StringIO()
    print_table(results, results.summary(), file=out)
    text = out.getvalue()
    assert "\x1b" not in text and "…" not in text
    estimates = {(row.dataset, row.algorithm, row.metric): row.estimate for row in results.summary()}
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["mne_imbalanced", "inspo"])
    for line, algorithm in zip(lines[start : start + 2], ("inspo", "bc")):
        for metric in ("return_greedy", "return_sampled", "success_greedy", "success_sampled"):
            assert iqm_text(estimates["mne_imbalanced", algorithm, metric], metric) in line
    assert "[95 % bootstrap interval, 500 resamples over seeds]" in " ".join(text.split())
