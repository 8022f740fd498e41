"""Games whose best or random return is not known, or that are not in the table: their returns count, their scores are left out in words."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inspo_core.envs.table import GAMES
from inspo_core.report.comparisons import compare
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.figures import curves_figure
from inspo_core.report.results import SCORES, Results, read_results
from inspo_core.report.scores import Reference
from inspo_core.report.tables import print_table
from inspo_core.report.wording import game_text, no_score_text
from inspo_core.stages.report import write_report
from tests.lab import seal
from tests.report.tree import Tree

ROOT = Path(__file__).resolve().parents[2]
SEEDS = [0, 1, 2]
UNKNOWN = "no score: best return not known"


def read(root, *unknown: str) -> Results:
    """Three datasets, of which ``unknown`` were collected in a game that is not in the table."""
    tree = Tree(root, ["xor_c", "mne_imbalanced", "bridge_mixed"], ["inspo", "inspo_product"], SEEDS)
    for dataset in unknown:
        for name in ("inspo", "inspo_product"):
            for seed in SEEDS:
                tree.add(dataset, name, seed, env="harvest")
    return read_results(tree.evaluations, tree.trainings, tree.params())


@pytest.fixture
def some(tmp_path) -> Results:
    return read(tmp_path / "some", "mne_imbalanced")


def test_a_score_needs_both_references():
    returns = np.array([0.0, 5.0])
    assert Reference(0.0, 10.0).score(returns).tolist() == [0.0, 0.5]
    assert Reference(None, 10.0).score(returns) is None and Reference(0.0, None).score(returns) is None


def test_scores_are_pooled_over_the_datasets_that_have_them(some):
    assert some.measured("score_greedy") == ["xor_c", "bridge_mixed"] and some.measured("success_greedy") == some.datasets
    estimates = {(row.dataset, row.name, row.metric): row.estimate for row in some.summary()}
    assert not [place for place in estimates if place[0] == "mne_imbalanced" and place[2] in SCORES]
    scores = [some.cell(dataset, "inspo").values["score_greedy"] for dataset in ("xor_c", "bridge_mixed")]
    assert estimates["all", "inspo", "score_greedy"] == some.estimate(*scores)
    successes = [some.cell(dataset, "inspo").values["success_greedy"] for dataset in some.datasets]
    assert estimates["all", "inspo", "success_greedy"] == some.estimate(*successes)


def test_everything_else_is_as_before(some, tmp_path):
    scored = read(tmp_path / "scored")
    with_them, without = (compare(results, results.summary()) for results in (scored, some))
    assert without.improvements == with_them.improvements and without.standings == with_them.standings
    alike = [row for row in scored.summary() if row.metric not in SCORES]
    assert [row for row in some.summary() if row.metric not in SCORES] == alike
    differences = {(change.dataset, change.metric): change.estimate for change in without.differences}
    expected = {(change.dataset, change.metric): change.estimate for change in with_them.differences}
    assert {dataset for dataset, _ in differences} == {"xor_c", "bridge_mixed", "all"}
    assert differences["xor_c", "score_greedy"] == expected["xor_c", "score_greedy"]


def test_the_report_says_which_scores_there_are_not(some, tmp_path):
    write_report(some, tmp_path / "reports", list(FIGURES))
    text, page = ((tmp_path / "reports" / name).read_text() for name in ("table.md", "report.html"))
    assert f"| mne_imbalanced | {UNKNOWN} | {UNKNOWN} |" in text
    said = f"Without one: mne_imbalanced ({UNKNOWN}); scores over all datasets are over the 2 that have one."
    assert said in text and said in page
    assert f"Game harvest: {UNKNOWN}." in page and game_text(some, "mne_imbalanced") == f"Game harvest: {UNKNOWN}."
    assert no_score_text(some, "xor_c") == ""
    references = {row["dataset"]: row for row in csv.DictReader((tmp_path / "reports/references.csv").open())}
    assert references["mne_imbalanced"] == {"dataset": "mne_imbalanced", "game": "harvest", "random": "", "best": ""}
    assert set(json.loads((tmp_path / "reports/marl_eval.json").read_text())) == {"xor", "harvest", "bridge"}
    print_table(some, some.summary(), out := io.StringIO())
    assert "mne_imbalanced" in out.getvalue()


def test_without_any_score_there_are_returns_and_no_figure_of_scores(tmp_path):
    results = read(tmp_path / "none", "xor_c", "mne_imbalanced", "bridge_mixed")
    write_report(results, tmp_path / "reports", list(FIGURES))
    figures = {path.stem for path in (tmp_path / "reports/figures").iterdir()}
    assert figures == {"returns", "improvement", "curves_greedy", "curves_sampled"}
    text = (tmp_path / "reports/table.md").read_text()
    assert "## Return, greedy" in text and "## Score" not in text and "variant minus algorithm" not in text
    assert f"Without one: xor_c ({UNKNOWN}), mne_imbalanced ({UNKNOWN}), bridge_mixed ({UNKNOWN})." in text
    assert "Score, greedy" not in (tmp_path / "reports/report.html").read_text()


def test_a_report_imports_no_game(tmp_path):
    tree = Tree(tmp_path / "tree", ["xor_c", "bridge_mixed"], ["inspo", "bc"], SEEDS)
    program = f"""
import sys
from pathlib import Path
from inspo_core.config.reading import load_params
from inspo_core.report.results import read_results
from inspo_core.stages.report import write_report
params = load_params(Path("params.yaml"), sys.argv[1:])
results = read_results(Path({str(tree.evaluations)!r}), Path({str(tree.trainings)!r}), params)
write_report(results, Path({str(tree.out)!r}), params.report.figures)
print(*sys.modules)
"""
    overrides = json.dumps({f"experiment.{key}": value for key, value in tree.experiment.items()})
    command = [sys.executable, "-c", program, overrides, "report.bootstrap=100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "inspo_core.envs.table" in imported
    assert not imported & {"torch", *(game.target.partition(":")[0] for game in GAMES.values())}


def test_trainings_that_were_not_evaluated_have_no_curve(tmp_path):
    tree = Tree(tmp_path / "tree", ["xor_c", "bridge_mixed"], ["inspo", "bc"], SEEDS)
    for log in tree.trainings.glob("*/*/*/metrics.jsonl"):
        log.write_text("".join(json.dumps({"step": step, "critic_loss": 0.1}) + "\n" for step in (1, 2)))
        seal(log.parent)
    results = read_results(tree.evaluations, tree.trainings, tree.params())
    assert results.cell("xor_c", "bc").curve("return_greedy")[0] == []
    write_report(results, tree.out, list(FIGURES))
    assert (tree.out / "curves.csv").read_text().count("\n") == 1
    said = [axes.texts[0].get_text() for axes in curves_figure(results, "sampled").axes if axes.axison]
    assert said == ["no evaluation\nduring training"] * 2
    runs = json.loads((tree.out / "marl_eval.json").read_text())["xor"]["xor_c"]["bc"]
    assert [list(run) for run in runs.values()] == [["absolute_metrics"]] * len(SEEDS)
