"""Collecting results: the experiment that is asked for, nothing else, nothing missing."""

import json
import shutil

import numpy as np
import pytest

from inspo_core.errors import InspoError
from inspo_core.files import read_json, write_json
from inspo_core.records import write_record
from inspo_core.report.results import METRICS, read_results
from inspo_core.report.results_file import load_results, write_results
from tests.lab import seal


def read(tree, **experiment):
    return read_results(tree.evaluations, tree.trainings, tree.params(**experiment))


def test_values_are_those_of_the_last_policy_in_the_order_of_the_parameters(tree):
    results = read(tree, datasets=["mne_imbalanced", "xor_c"], seeds=[4, 0, 2])
    assert [(cell.dataset, cell.algorithm) for cell in results.cells] == [
        ("mne_imbalanced", "inspo"),
        ("mne_imbalanced", "bc"),
        ("xor_c", "inspo"),
        ("xor_c", "bc"),
    ]
    expected = [
        read_json(tree.evaluations / "mne_imbalanced" / "bc" / f"seed_{seed}" / "metrics.json")["return_sampled"] for seed in (4, 0, 2)
    ]
    assert results.cells[1].values["return_sampled"].tolist() == expected
    assert results.episodes == 100


def test_the_best_over_training_is_not_the_result(tree):
    """A run that was at 5 half-way and ended at its evaluation's value is reported with the latter."""
    log = tree.trainings / "xor_c" / "inspo" / "seed_0" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if line["step"] == 30:
            line["evaluation/return_greedy"] = 5.0
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    seal(log.parent)
    results = read(tree)
    steps, values = results.cells[0].curve("return_greedy")
    assert values.max() == 5.0 and steps == [10, 20, 30, 40, 50, 60]
    assert max(row.estimate.mean for row in results.summary() if row.dataset == "xor_c") <= 1.0


def test_stale_folders_are_ignored(tree):
    before = read(tree).summary()
    tree.add("xor_c", "bc", seed=9, variant="old", episodes=7)
    tree.add("xor_c", "inspo_product", seed=0)
    shutil.copytree(tree.evaluations / "xor_c", tree.evaluations / "xor_z")
    shutil.copytree(tree.evaluations / "xor_c" / "bc", tree.evaluations / "xor_c" / "iql")
    assert read(tree).summary() == before


@pytest.mark.parametrize("part", ["evaluations", "trainings"])
def test_a_missing_run_is_named(tree, part):
    shutil.rmtree(getattr(tree, part) / "mne_imbalanced" / "bc" / "seed_3")
    with pytest.raises(InspoError, match=r"mne_imbalanced/bc/seed_3.* dataset mne_imbalanced, algorithm bc, seed 3 "):
        read(tree)
    assert len(read(tree, seeds=[0, 1]).cells) == 6  # it is not asked for here


def test_the_evaluation_of_an_earlier_training_is_refused(tree):
    seal(tree.trainings / "xor_c" / "bc" / "seed_1", fingerprint="trained-again")
    with pytest.raises(InspoError, match=r"xor_c/bc/seed_1 evaluates training xor_c-bc-1, but .* holds training trained-again"):
        read(tree)


@pytest.mark.parametrize(("change", "what"), [({"env": "bridge_partial"}, "games"), ({"episodes": 50}, "evaluate parameters")])
def test_runs_that_do_not_belong_together_are_refused(tree, change, what):
    tree.add("bridge_mixed", "inspo", seed=2, **change)
    with pytest.raises(InspoError, match=f"bridge_mixed/inspo/seed_.* different {what}"):
        read(tree)


@pytest.mark.parametrize("change", [{"variant": "inspo_product"}, {"algorithm": "bc"}])
def test_runs_of_another_algorithm_or_variant_are_refused(tree, change):
    tree.add("bridge_mixed", "inspo", seed=2, **change)
    with pytest.raises(InspoError, match=r"bridge_mixed/inspo/seed_2/run.json says .* is expected; run the train and evaluate"):
        read(tree)


def test_a_variant_is_read_from_its_own_folder(tree):
    for seed in range(5):
        tree.add("xor_c", "inspo_product", seed)
    results = read(tree, datasets=["xor_c"], algorithms=["inspo_product", "inspo"])
    assert [(cell.algorithm, cell.variant, cell.name) for cell in results.cells] == [
        ("inspo", "inspo_product", "inspo_product"),
        ("inspo", "default", "inspo"),
    ]
    assert results.column("inspo_product", "return_greedy")[0].max() < 1 == results.column("inspo", "return_greedy")[0].min()


def test_scores_lie_between_random_play_and_the_best_return(tree):
    results = read(tree)
    for dataset, best in [("xor_c", 1.0), ("mne_imbalanced", 20.0), ("bridge_mixed", -1.23545)]:
        reference = results.reference(dataset)
        assert reference.best == pytest.approx(best, abs=1e-5)
        for cell in (results.cell(dataset, name) for name in results.names):
            expected = (cell.values["return_sampled"] - reference.random) / (best - reference.random)
            np.testing.assert_allclose(cell.values["score_sampled"], expected, atol=1e-5)
    assert results.reference("xor_c").random == pytest.approx(0.0, abs=0.02)  # mean of the payoffs
    assert results.reference("mne_imbalanced").random == pytest.approx((5 + 10 + 20 - 6 * 20) / 9, abs=0.2)
    assert results.reference("bridge_mixed").random == pytest.approx(-17.6, abs=0.1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"step": 60, "evaluation/return_greedy": 1', r"line 61 is not valid JSON \(.*\); run the train stage again"),
        ('{"step": 60, "step": 60}', "line 61 is not valid JSON .*'step' is there twice"),
        ('{"step": 60, "evaluation/return_greedy": 1.0}', "line 61, is not a line of metrics"),
        ("[]]", "line 61 is not valid JSON"),
        ("\xff", "line 61 is not valid JSON"),
        ('{"step": 1e999, "evaluation/return_greedy": 1}', "line 61, is not a line of metrics"),
        ("7", "line 61, is not a line of metrics"),
    ],
)
def test_a_damaged_log_is_named(tree, line, message):
    with open(tree.trainings / "xor_c" / "bc" / "seed_0" / "metrics.jsonl", "ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    seal(tree.trainings / "xor_c" / "bc" / "seed_0")
    with pytest.raises(InspoError, match=rf"xor_c/bc/seed_0/metrics.jsonl, {message}"):
        read(tree)


def test_an_evaluation_that_is_not_finite_is_named(tree):
    log = tree.trainings / "xor_c" / "bc" / "seed_0" / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps(line | {"evaluation/success_sampled": float("nan")}) + "\n" for line in lines))
    seal(log.parent)
    with pytest.raises(InspoError, match=r"metrics.jsonl, line 10: an evaluation is not finite"):
        read(tree)


def test_curves_meet_at_the_iterations_that_every_seed_has(tree):
    log = tree.trainings / "xor_c" / "bc" / "seed_4" / "metrics.jsonl"
    log.write_text("\n".join(log.read_text().splitlines()[:40]) + "\n")
    seal(log.parent)
    cell = read(tree).cells[1]
    steps, values = cell.curve("return_greedy")
    assert steps == [10, 20, 30, 40] and values.shape == (5, 4)


def test_pooling_over_datasets(tree):
    results = read(tree)
    pooled = [row for row in results.summary() if row.dataset == "all"]
    assert {(row.algorithm, row.metric) for row in pooled} == {
        (algorithm, f"{what}_{mode}") for algorithm in ("inspo", "bc") for what in ("success", "score") for mode in ("greedy", "sampled")
    }
    bc = np.concatenate([cell.values["success_greedy"] for cell in results.cells if cell.algorithm == "bc"])
    found = next(row.estimate for row in pooled if (row.algorithm, row.metric) == ("bc", "success_greedy"))
    assert found.mean == pytest.approx(bc.mean())
    assert found.iqm == pytest.approx(np.sort(bc)[3:12].mean())
    assert [row for row in read(tree, datasets=["xor_c"]).summary() if row.dataset == "all"] == []


def test_the_best_policy_of_a_dataset(tree):
    """Highest greedy return, then highest sampled return, then the first in params.yaml."""
    for algorithm, seed, change in [
        ("inspo", 2, {"return_greedy": 30.0}),
        ("bc", 1, {"return_greedy": 30.0, "return_sampled": 29.0}),
        ("bc", 4, {"return_greedy": 30.0, "return_sampled": 29.0}),
    ]:
        path = tree.evaluations / "mne_imbalanced" / algorithm / f"seed_{seed}" / "metrics.json"
        write_json(path, {**read_json(path), **change})
        seal(path.parent)
    best = {choice.dataset: choice for choice in read(tree).best_policies()}
    assert list(best) == ["xor_c", "mne_imbalanced", "bridge_mixed"]
    found = best["mne_imbalanced"]
    assert (found.algorithm, found.seed, found.fingerprint) == ("bc", 1, "mne_imbalanced-bc-1")
    assert (found.metric, found.value) == ("return_greedy", 30.0)
    assert (best["xor_c"].algorithm, best["xor_c"].seed) == ("inspo", 0)  # all of inspo's are equal


def test_content_changes_with_what_was_read_and_with_nothing_else(tree):
    before = read(tree).content()
    tree.add("xor_c", "bc", seed=9)
    assert read(tree).content() == before
    path = tree.evaluations / "xor_c" / "bc" / "seed_0" / "metrics.json"
    write_json(path, {**read_json(path), "return_sampled": 0.125})
    seal(path.parent)
    after = read(tree).content()
    assert after["evaluations"] != before["evaluations"] and after["trainings"] == before["trainings"]
    with open(tree.trainings / "xor_c" / "bc" / "seed_0" / "metrics.jsonl", "a") as log:
        log.write(json.dumps({"step": 60, **{f"evaluation/{metric}": 0.5 for metric in METRICS}}) + "\n")
    seal(tree.trainings / "xor_c" / "bc" / "seed_0")
    assert read(tree).content()["trainings"] != before["trainings"]


def test_results_are_read_from_their_file_as_they_were_written(tree, tmp_path):
    failures = {("xor_c", "bc", 3): "lost", ("bridge_mixed", "inspo", 0): "preempted"}
    results = read_results(tree.evaluations, tree.trainings, tree.params(), failures)
    path = tmp_path / "results.json"
    write_results(results, path)
    found = load_results(path)
    assert found.content() == results.content() and found.summary() == results.summary()
    assert (found.games, found.seeds, found.episodes, found.failures) == (results.games, results.seeds, results.episodes, failures)
    for one, other in zip(found.cells, results.cells, strict=True):
        assert (one.dataset, one.name, one.curves, one.config) == (other.dataset, other.name, other.curves, other.config)
    for content in ("[]", "{}", path.read_text().replace('"trainings"', '"fingerprints"')):
        path.write_text(content)
        with pytest.raises(InspoError, match=r"results.json does not hold the results of a report .*; run the report stage again"):
            load_results(path)


RUN = {"algorithm": "bc", "variant": "default", "env": "xor", "config": {"episodes": 100}, "train_fingerprint": "t"}


DAMAGED = "is not what was written there, but damaged or changed"


@pytest.mark.parametrize("stage", ["evaluations", "trainings"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", DAMAGED),
        ("5", DAMAGED),
        ("[" * 100_000, DAMAGED),
        ('{"seed": 1, "seed": 1}', DAMAGED),
        ('{"a": ' + "9" * 5000 + "}", DAMAGED),
        (json.dumps(RUN | {"fingerprint": "t"}), "has not the hashes of the run's files"),
        (RUN | {"config": [1], "fingerprint": "t"}, "config is [1], expected dict"),
        ({**RUN, "config": "x" * 100_000, "fingerprint": "t"}, "100002 characters"),
    ],
    ids=range(8),
)
def test_a_record_that_is_none_is_named(tree, stage, content, words):
    path = getattr(tree, stage) / "xor_c" / "bc" / "seed_0" / "run.json"
    if isinstance(content, dict):
        write_record(path.parent, content)
    else:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InspoError) as raised:
        read(tree)
    said = str(raised.value)
    assert said.startswith(str(path)) and words in said and "\n" not in said and len(said) < 1000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"env": ["xor"]}, "env is ['xor'], expected str"),
        ({"algorithm": 5}, "algorithm is 5"),
        ({"config": {"seed": 1}}, "config has no number of episodes"),
        ({"train_fingerprint": None}, "train_fingerprint is None"),
    ],
)
def test_an_evaluation_whose_record_is_of_other_types_is_named(tree, change, words):
    seal(tree.evaluations / "xor_c" / "bc" / "seed_0", **change)
    with pytest.raises(InspoError, match="xor_c/bc/seed_0/run.json: ") as raised:
        read(tree)
    assert words in str(raised.value)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "1e400", "NaN", "true", '"1"', "null", "[]", "[" * 5000])
def test_a_metric_that_is_no_number_is_named(tree, value):
    path = tree.evaluations / "xor_c" / "bc" / "seed_0" / "metrics.json"
    text = json.dumps(read_json(path) | {"return_greedy": 77})
    path.write_text(text.replace("77", value), encoding="utf-8")
    with pytest.raises(InspoError, match=r"xor_c/bc/seed_0/metrics.json"):
        read(tree)
