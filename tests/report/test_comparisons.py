"""Algorithms against one another: the right pairs on the right datasets, and the numbers of the files."""

import csv
import json
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from inspo_core.envs.table import GAMES
from inspo_core.report.comparisons import THRESHOLDS, Comparisons, Contrast, Standing, compare
from inspo_core.report.marl_eval import marl_eval
from inspo_core.report.results import METRICS, Results, read_results
from inspo_core.report.scores import Reference, reference_of
from inspo_core.report.tables import markdown, write_tables
from inspo_core.report.web import web_page
from inspo_core.report.wording import contrast_text, contrasts_title
from tests.lab import seal
from tests.report.tree import GAMES as DATASETS
from tests.report.tree import Tree


@pytest.fixture
def results(tree):
    return read_results(tree.evaluations, tree.trainings, tree.params())


def compared(results: Results) -> Comparisons:
    return compare(results, results.summary())


def test_the_first_algorithm_is_compared_with_each_other_one_on_every_dataset_and_over_all(results):
    found = compared(results)
    assert {(c.dataset, c.metric, c.name, c.other) for c in found.improvements} == {
        (dataset, metric, "inspo", "bc") for dataset in [*results.datasets, "all"] for metric in ("return_greedy", "return_sampled")
    }
    probability = {c.dataset: c.result.probability for c in found.improvements if c.metric == "return_sampled"}
    ours, theirs = (results.cell("xor_c", name).values["return_sampled"] for name in ("inspo", "bc"))
    assert probability["xor_c"] == np.mean([(x > y) + (x == y) / 2 for x in ours for y in theirs])
    assert probability["all"] == pytest.approx(np.mean([probability[dataset] for dataset in results.datasets]))
    assert [c.dataset for c in found.overall] == ["all", "all"] and found.differences == []


def test_one_algorithm_has_nothing_to_be_compared_with(tree):
    alone = read_results(tree.evaluations, tree.trainings, tree.params(algorithms=["bc"], datasets=["xor_c"]))
    assert compared(alone).overall == [] and set(compared(alone).profiles) == {("score_greedy", "bc"), ("score_sampled", "bc")}


def test_a_variant_is_compared_with_its_algorithm_seed_by_seed(ablation):
    changes = {(c.dataset, c.metric): c for c in compared(ablation).differences}
    assert set(changes) == {(dataset, f"score_{mode}") for dataset in [*ablation.datasets, "all"] for mode in ("greedy", "sampled")}
    for dataset in ablation.datasets:
        product, default = (ablation.cell(dataset, name).values["score_greedy"] for name in ("inspo_product", "inspo"))
        found = changes[dataset, "score_greedy"]
        assert (found.algorithm, found.variant) == ("inspo", "inspo_product")
        np.testing.assert_array_equal(found.values, product - default)
        assert found.estimate.mean == pytest.approx((product - default).mean())
    assert len(changes["all", "score_greedy"].values) == 15


def test_other_pairs_that_differ_in_one_parameter_are_set_side_by_side(tmp_path):
    tree = Tree(tmp_path / "pairs", ["xor_c"], ["inspo", "inspo_product", "inspo_simultaneous", "bc"], [0, 1, 2, 3, 4])
    read = read_results(tree.evaluations, tree.trainings, tree.params())

    def configured(**configs: dict):
        return replace(read, cells=[replace(cell, config=configs.get(cell.name, {})) for cell in read.cells])

    product = {"behavior": "product", "update": "sequential"}
    alike = configured(inspo=product, inspo_product=product, inspo_simultaneous=product, bc={**product, "update": "none"})
    apart = configured(inspo=product, inspo_product=product, inspo_simultaneous={"behavior": "joint", "update": "simultaneous"})
    assert [compared(results).contrasts for results in (alike, apart)] == [[], []]
    results = configured(inspo=product, inspo_product=product, inspo_simultaneous={**product, "update": "simultaneous"}, bc=product)
    comparisons = compared(results)
    above = {("xor_c", metric): Standing.ABOVE_APART for metric in ("return_greedy", "return_sampled")}
    assert comparisons.contrasts == [Contrast("inspo_product", "inspo_simultaneous", "update", "sequential", "simultaneous", above)]
    pair, title = contrast_text(comparisons.contrasts[0]), contrasts_title(results, "return_greedy")
    assert pair == "inspo_simultaneous beside inspo_product (update: simultaneous, not sequential)"
    text = markdown(results, results.summary(), comparisons)
    assert f"## {title}\n\n| Pair | xor_c |\n| --- | --- |\n| {pair} | above, intervals apart |\n" in text
    page = web_page(results, results.summary(), comparisons, tmp_path, [])
    assert title in page and f'<th scope="row">{pair}</th><td class="long">above, intervals apart</td>' in page


def test_without_an_interval_there_is_no_standing_and_that_is_said(tmp_path):
    """One seed is left of a variant on xor_c, none on bridge_mixed."""
    tree = Tree(tmp_path / "pairs", list(DATASETS), ["bc", "inspo", "inspo_product"], [0, 1, 2])
    failures = {("xor_c", "inspo_product", seed): "lost" for seed in (1, 2)}
    failures |= {("bridge_mixed", "inspo_product", seed): "lost" for seed in (0, 1, 2)}
    for path in tree.trainings.glob("*/inspo*/seed_*"):
        seal(path, config={"behavior_model": "joint" if "product" not in str(path) else "product"})
    results = read_results(tree.evaluations, tree.trainings, tree.params(), failures)
    comparisons = compared(results)
    assert [comparisons.standings["xor_c", "return_greedy", name] for name in ("inspo", "inspo_product")] == [
        Standing.ABOVE_APART,
        Standing.NO_INTERVAL,
    ]
    assert ("bridge_mixed", "return_greedy", "inspo_product") not in comparisons.standings
    (contrast,) = comparisons.contrasts
    assert contrast.standings["xor_c", "return_sampled"] is Standing.NO_INTERVAL
    text, page = markdown(results, results.summary(), comparisons), web_page(results, results.summary(), comparisons, tmp_path, [])
    pair = contrast_text(contrast)
    assert f"| {pair} | no interval | below, intervals apart | failed |" in text
    said = ("no interval", "below, intervals apart", "failed")
    assert f'<th scope="row">{pair}</th>' + "".join(f'<td class="long">{cell}</td>' for cell in said) in page
    assert "| below, intervals apart | no interval |\n" in text and "| xor_c | inspo |  |  |  |  | inspo_product |" in text

    alone = read_results(tree.evaluations, tree.trainings, tree.params(seeds=[0]))
    assert set(compared(alone).standings.values()) == {Standing.NO_INTERVAL}
    assert "beside" not in markdown(alone, alone.summary(), compared(alone))


def test_a_profile_counts_the_runs_of_all_datasets(results):
    share, low, high = compared(results).profiles["score_greedy", "bc"]
    scores = list(chain(*results.column("bc", "score_greedy")))
    for place in (0, 30, 60):
        assert share[place] == np.mean([score > THRESHOLDS[place] for score in scores])
    assert (low <= share).all() and (share <= high).all() and (np.diff(share) <= 0).all()


def test_the_files_hold_the_same_numbers(ablation, tmp_path):
    comparisons = compared(ablation)
    write_tables(ablation, ablation.summary(), comparisons, tmp_path)
    rows = {name: list(csv.DictReader(open(tmp_path / f"{name}.csv"))) for name in ("improvement", "differences", "profiles", "references")}
    for comparison in comparisons.improvements:
        (row,) = [row for row in rows["improvement"] if (row["dataset"], row["metric"]) == (comparison.dataset, comparison.metric)]
        assert (row["name"], row["other"]) == ("inspo", "inspo_product")
        found = [float(row[name]) for name in ("probability", "low", "high")]
        assert found == [comparison.result.probability, comparison.result.low, comparison.result.high]
    for change in comparisons.differences:
        (row,) = [row for row in rows["differences"] if (row["dataset"], row["metric"]) == (change.dataset, change.metric)]
        assert (float(row["iqm"]), row["variant"]) == (change.estimate.iqm, "inspo_product")
    assert len(rows["profiles"]) == 2 * 2 * 101
    assert [(row["dataset"], row["game"]) for row in rows["references"]] == [
        (f"{game}_{rest}", game) for game, rest in [("bridge", "mixed"), ("mne", "imbalanced"), ("xor", "c")]
    ]


def test_marl_eval_finds_environments_tasks_algorithms_runs_and_steps(results, tmp_path):
    write_tables(results, results.summary(), compared(results), tmp_path)
    tree = json.loads((tmp_path / "marl_eval.json").read_text())
    assert tree == marl_eval(results)
    assert {game: list(tasks) for game, tasks in tree.items()} == {"xor": ["xor_c"], "mne": ["mne_imbalanced"], "bridge": ["bridge_mixed"]}
    for tasks in tree.values():
        for algorithms in tasks.values():
            assert list(algorithms) == ["inspo", "bc"]
            for runs in algorithms.values():
                assert list(runs) == [f"seed_{seed}" for seed in range(5)]
                for run in runs.values():
                    *steps, last = run
                    assert steps == [f"step_{number}" for number in range(1, 7)] and last == "absolute_metrics"  # it takes the last key
                    counts = [run[step].pop("step_count") for step in steps]
                    assert counts == [10, 20, 30, 40, 50, 60] and all(type(count) is int for count in counts)
                    for metrics in run.values():
                        assert set(metrics) == set(METRICS) and all(len(value) == 1 for value in metrics.values())
    cell = results.cell("mne_imbalanced", "bc")
    run = tree["mne"]["mne_imbalanced"]["bc"]["seed_3"]
    assert run["absolute_metrics"]["return_sampled"] == [cell.values["return_sampled"][3]]
    assert run["step_2"]["success_greedy"] == [cell.curves[3][20]["success_greedy"]]


def test_marl_eval_gets_equally_many_steps_of_all_runs_of_a_game(tree):
    log = tree.trainings / "xor_c" / "bc" / "seed_4" / "metrics.jsonl"
    log.write_text("\n".join(log.read_text().splitlines()[:40]) + "\n")
    seal(log.parent)
    found = marl_eval(read_results(tree.evaluations, tree.trainings, tree.params()))
    assert {len(run) for runs in found["xor"]["xor_c"].values() for run in runs.values()} == {4 + 1}
    assert {len(run) for runs in found["mne"]["mne_imbalanced"].values() for run in runs.values()} == {6 + 1}


def test_every_game_has_returns_that_score_0_and_1():
    for name in GAMES:
        reference = reference_of(name)
        assert reference.random < reference.best and reference_of(name) == reference, name
    assert reference_of("chess") == Reference(None, None)  # of a game that is not in the table nothing is known
