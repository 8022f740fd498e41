"""The tables: exact columns, the right numbers, the same bytes every time."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from dvc_render.vega import VegaRenderer

from inspo_core.report import print_table, read_results
from inspo_core.report.tables import markdown, with_interval, with_spread, write_tables
from inspo_core.statistics import Estimate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def results(tree):
    return read_results(tree.evaluations, tree.trainings, tree.params())


@pytest.fixture
def tables(results, tmp_path):
    directory = tmp_path / "tables"
    directory.mkdir()
    write_tables(results, results.summary(), directory)
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
        for metric, expected in cell.values.items():
            assert [values[cell.dataset, cell.algorithm, seed, metric] for seed in results.seeds] == expected.tolist()  # bit for bit


def test_summary_csv_follows_from_results_csv(tables):
    values = {}
    for row in rows_of(tables / "results.csv"):
        values.setdefault((row["dataset"], row["algorithm"], row["variant"], row["metric"]), []).append(float(row["value"]))
    rows = rows_of(tables / "summary.csv")
    assert list(rows[0]) == ["dataset", "algorithm", "variant", "metric", "seeds", "mean", "std", "iqm", "low", "high"]
    single = {(r["dataset"], r["algorithm"], r["variant"], r["metric"]): r for r in rows if r["dataset"] != "all"}
    assert single.keys() == values.keys()
    for key, row in single.items():
        assert float(row["mean"]) == pytest.approx(np.mean(values[key]))
        assert float(row["std"]) == pytest.approx(np.std(values[key], ddof=1))
        assert float(row["iqm"]) == pytest.approx(np.mean(sorted(values[key])[1:4]))
        assert min(values[key]) <= float(row["low"]) <= float(row["high"]) <= max(values[key])
        assert row["seeds"] == "5"


def test_curves_csv_and_metrics_json(results, tables):
    rows = rows_of(tables / "curves.csv")
    assert list(rows[0])[:4] == ["dataset", "algorithm", "seed", "step"]
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
    assert fields == {"dataset", "algorithm", "seed", "step", "return_sampled", "rev"} <= set(points[0])


def test_markdown_says_what_it_is_and_every_line_has_every_column(results):
    text = markdown(results, results.summary())
    assert "last policy" in text and "5 seeds (0, 1, 2, 3, 4), 100 episodes" in text
    assert "[95 % bootstrap interval, 500 resamples over seeds]" in text
    assert "| mne_imbalanced | 20.000 [20.000, 20.000]<br>20.000 ± 0.000 |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 * (2 + 3) + 2 * (2 + 4)  # two tables of returns, two of success rates with the pooled line
    assert {line.count("|") for line in lines} == {4}


def test_variant_is_named(tree, make_tree):
    for seed in range(5):
        tree.add("xor_c", "inspo", seed, variant="product")
    results = read_results(tree.evaluations, tree.trainings, tree.params(datasets=["xor_c"]))
    assert "| Dataset | inspo (product) | bc |" in markdown(results, results.summary())


def test_numbers():
    whole = Estimate(mean=-0.0004, std=0.05, iqm=0.12345, low=-0.00001, high=1.0, seeds=5)
    assert with_interval(whole, "return_greedy") == "0.123 [0.000, 1.000]"
    assert with_spread(whole, "return_greedy") == "0.000 ± 0.050"
    alone = Estimate(mean=0.5, std=None, iqm=0.5, low=None, high=None, seeds=1)
    assert (with_interval(alone, "success_greedy"), with_spread(alone, "success_greedy")) == ("0.50", "0.50")


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
            assert with_interval(estimates["mne_imbalanced", algorithm, metric], metric) in line
    assert "[95 % bootstrap interval, 500 resamples over seeds]" in " ".join(text.split())
