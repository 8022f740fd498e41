"""Runs that are reported as failed: the others count, and every table and figure says what is missing."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from inspo_core.errors import InspoError
from inspo_core.files import read_json, write_json
from inspo_core.report.comparisons import compare
from inspo_core.report.failures import read_failures
from inspo_core.report.figures import curves_figure, returns_figure, scores_figure
from inspo_core.report.marl_eval import marl_eval
from inspo_core.report.results import read_results
from inspo_core.report.tables import print_table, write_tables
from tests.lab import seal
from tests.report.tree import Tree

SEEDS = [0, 1, 2, 3, 4]


@pytest.fixture
def some(tree):
    """Two seeds of one cell and one of another failed: nothing is there of them but half a training."""
    failures = {("xor_c", "bc", 0): "out of memory", ("xor_c", "bc", 3): "a < b | c", ("bridge_mixed", "inspo", 2): "preempted"}
    for dataset, name, seed in failures:
        shutil.rmtree(tree.evaluations / dataset / name / f"seed_{seed}")
    return read_results(tree.evaluations, tree.trainings, tree.params(), failures)


@pytest.fixture
def none_left(tree):
    """Every run of BC on xor_c failed."""
    return read_results(tree.evaluations, tree.trainings, tree.params(), {("xor_c", "bc", seed): "diverged" for seed in SEEDS})


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_other_seeds_count(some, tree):
    assert [(cell.dataset, cell.name, cell.seeds) for cell in some.cells if cell.seeds != SEEDS] == [
        ("xor_c", "bc", [1, 2, 4]),
        ("bridge_mixed", "inspo", [0, 1, 3, 4]),
    ]
    cell, whole = some.cell("xor_c", "bc"), read_json(tree.evaluations / "xor_c/bc/seed_2/metrics.json")
    assert cell.at([2], "return_sampled").tolist() == [whole["return_sampled"]]
    assert cell.curve("return_greedy")[1].shape == (3, 6)
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in some.summary()}
    assert estimates["xor_c", "bc", "return_greedy"].seeds == 3 and estimates["mne_imbalanced", "bc", "return_greedy"].seeds == 5
    found = estimates["all", "bc", "score_greedy"]  # of seeds 1, 2 and 4 on every dataset
    expected = [some.cell(dataset, "bc").at([1, 2, 4], "score_greedy") for dataset in some.datasets]
    assert found == some.estimate(*expected) and found.seeds == 3
    with pytest.raises(InspoError, match="xor_c/bc/seed_0/metrics.json is missing"):
        read_results(tree.evaluations, tree.trainings, tree.params(), {("xor_c", "bc", 3): "failed"})


def test_comparisons_use_the_runs_that_are_there(some):
    found = {(c.dataset, c.metric): c.result.probability for c in compare(some, some.summary()).improvements}
    ours, theirs = (some.cell("xor_c", name).values["return_sampled"] for name in ("inspo", "bc"))
    assert (len(ours), len(theirs)) == (5, 3)
    assert found["xor_c", "return_sampled"] == np.mean([(x > y) + (x == y) / 2 for x in ours for y in theirs])
    assert ("all", "return_sampled") in found


def test_a_variant_is_compared_on_the_seeds_that_both_have(tmp_path):
    tree = Tree(tmp_path, ["xor_c", "mne_imbalanced"], ["inspo", "inspo_product"], SEEDS)
    failures = {("xor_c", "inspo", 1): "failed", ("xor_c", "inspo_product", 4): "failed", ("mne_imbalanced", "inspo", 0): "failed"}
    results = read_results(tree.evaluations, tree.trainings, tree.params(), failures)
    changes = {c.dataset: c for c in compare(results, results.summary()).differences if c.metric == "score_greedy"}
    product, default = (results.cell("xor_c", name).at([0, 2, 3], "score_greedy") for name in ("inspo_product", "inspo"))
    np.testing.assert_array_equal(changes["xor_c"].values, product - default)
    assert len(changes["mne_imbalanced"].values) == 4
    assert len(changes["all"].values) == 2 * 2  # seeds 2 and 3


def test_the_best_policy_is_named_by_its_own_seed(tree):
    path = tree.evaluations / "mne_imbalanced/bc/seed_3/metrics.json"
    write_json(path, {**read_json(path), "return_greedy": 30.0})
    seal(path.parent)
    results = read_results(tree.evaluations, tree.trainings, tree.params(), {("mne_imbalanced", "bc", 1): "failed"})
    best = {choice.dataset: choice for choice in results.best_policies()}["mne_imbalanced"]
    assert (best.seed, best.fingerprint) == (3, "mne_imbalanced-bc-3")


def test_marl_eval_gets_the_same_runs_on_every_task_of_a_game(tmp_path, monkeypatch):
    tree = Tree(tmp_path, ["xor_c", "mne_imbalanced"], ["inspo", "bc"], SEEDS)
    failures = {("xor_c", "bc", 1): "failed"} | {("mne_imbalanced", "bc", seed): "failed" for seed in SEEDS}
    found = marl_eval(read_results(tree.evaluations, tree.trainings, tree.params(), failures))
    assert {name: list(runs) for name, runs in found["xor"]["xor_c"].items()} == {
        name: ["seed_0", "seed_2", "seed_3", "seed_4"] for name in ("inspo", "bc")
    }
    assert {name: len(runs) for name, runs in found["mne"]["mne_imbalanced"].items()} == {"inspo": 5}


def test_an_algorithm_without_a_run_is_left_out_of_the_statistics(none_left):
    found = compare(none_left, none_left.summary())
    assert {(row.dataset, row.name) for row in none_left.summary()} == {
        *((dataset, "inspo") for dataset in [*none_left.datasets, "all"]),
        *((dataset, "bc") for dataset in ("mne_imbalanced", "bridge_mixed")),
    }
    assert {c.dataset for c in found.improvements} == {"mne_imbalanced", "bridge_mixed"} and found.overall == []
    assert {name for _, name in found.profiles} == {"inspo"}
    (axes, *_) = returns_figure(none_left).axes
    assert [text.get_text() for text in axes.texts] == ["every seed failed"]
    assert [text.get_text() for text in scores_figure(none_left).axes[0].texts] == ["not on every dataset"]
    assert len(curves_figure(none_left, "greedy").axes[0].lines) == 1


def test_a_dataset_without_a_run_is_shown_as_failed(tree, tmp_path):
    failures = {("xor_c", name, seed): "no data" for name in ("inspo", "bc") for seed in SEEDS}
    results = read_results(tree.evaluations, tree.trainings, tree.params(), failures)
    write_tables(results, results.summary(), compare(results, results.summary()), tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| xor_c | failed | failed |" in table and "inspo is better, over 2 datasets" in table
    pooled = {row.name: row.estimate for row in results.summary() if (row.dataset, row.metric) == ("all", "score_greedy")}
    assert pooled["bc"] == results.estimate(*(results.cell(dataset, "bc").values["score_greedy"] for dataset in results.played))
    assert [choice.dataset for choice in results.best_policies()] == ["mne_imbalanced", "bridge_mixed"]
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"mne_imbalanced", "bridge_mixed", "all"}
    everything = {(dataset, name, seed): "no data" for dataset in results.datasets for name in results.names for seed in SEEDS}
    with pytest.raises(InspoError, match="every run of the experiment failed, the first one so: no data"):
        read_results(tree.evaluations, tree.trainings, tree.params(), everything)


def test_the_files_say_what_failed(some, tmp_path):
    write_tables(some, some.summary(), compare(some, some.summary()), tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "3 of 30 runs failed and are left out." in table
    line = next(line for line in table.splitlines() if line.startswith("| xor_c |"))
    assert line.count("3 of 5 seeds") == 1 and line.count("|") == 4
    assert "\n| xor_c | bc | 3 | a < b \\| c |\n| bridge_mixed | inspo | 2 | preempted |\n" in table
    assert [(row["dataset"], row["seed"], row["reason"]) for row in rows(tmp_path / "failures.csv")] == [
        ("bridge_mixed", "2", "preempted"),
        ("xor_c", "0", "out of memory"),
        ("xor_c", "3", "a < b | c"),
    ]
    counted = {row["seed"] for row in rows(tmp_path / "results.csv") if (row["dataset"], row["algorithm"]) == ("xor_c", "bc")}
    assert counted == {"1", "2", "4"}
    assert {row["seeds"] for row in rows(tmp_path / "summary.csv") if row["dataset"] == "xor_c"} == {"5", "3"}


def test_the_terminal_says_what_failed(some):
    out = io.StringIO()
    print_table(some, some.summary(), file=out)
    text = out.getvalue()
    assert "bc (3 of 5 seeds)" in text and "inspo (4 of 5 seeds)" in text and "3 of 30 runs failed" in text
    assert "failed: bridge_mixed inspo seed 2: preempted\n" in text


def test_a_failure_is_part_of_what_the_report_is_of(tree):
    def content(failures):
        return read_results(tree.evaluations, tree.trainings, tree.params(), failures).content()

    assert len({json.dumps(content(failures)) for failures in ({}, {("xor_c", "bc", 1): "a"}, {("xor_c", "bc", 1): "b"})}) == 3


def test_a_file_of_failures(tree, tmp_path):
    path, experiment = tmp_path / "failures.json", tree.params().experiment
    entry = {"dataset": "xor_c", "algorithm": "bc", "seed": 1, "reason": "out\nof  memory"}
    path.write_text(json.dumps([entry | {"reason": "earlier"}, entry, entry | {"seed": 2, "reason": " "}]))
    assert read_failures(path, experiment) == {("xor_c", "bc", 1): "out of memory", ("xor_c", "bc", 2): "no reason given"}
    for content, message in [
        (entry, "holds dict, expected a list of objects with dataset, algorithm, seed, reason"),
        ([{"dataset": "xor_c"}], "entry 0: found .*, expected an object with"),
        ([entry, entry | {"seed": "1"}], "entry 1: seed is '1', expected int"),
        ([entry | {"seed": 9}], "entry 0: seed 9 is not in the experiment, expected one of"),
        ([entry | {"dataset": "xor_d"}], "entry 0: dataset 'xor_d' is not in the experiment"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(InspoError, match=f"failures.json.* {message}|failures.json, {message}"):
            read_failures(path, experiment)
    with pytest.raises(InspoError, match="nothing.json"):
        read_failures(tmp_path / "nothing.json", experiment)
