"""The page of results: the tables and figures of the reports, and nothing that is not recorded."""

import re
import shutil
from pathlib import Path

import pytest

from inspo_core.errors import InspoError
from inspo_core.files import read_json, write_json
from inspo_core.publish.page import write_page
from inspo_core.records import write_record
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import read_results
from inspo_core.stages.report import write_report
from tests.report.tree import Tree


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment's folder with report, trainings, evaluations, behavior models and a ledger that lacks one training."""
    tree = Tree(tmp_path_factory.mktemp("runs") / "small", ["xor_c", "mne_imbalanced"], ["inspo", "inspo_product"], [0, 1, 2])
    write_report(read_results(tree.evaluations, tree.trainings, tree.params()), tree.root / "report", list(FIGURES))
    for dataset in ("xor_c", "mne_imbalanced"):
        for seed in (0, 1, 2):
            (folder := tree.root / f"behavior/{dataset}/seed_{seed}").mkdir(parents=True)
            write_record(folder, {"fingerprint": f"behavior-{dataset}-{seed}"})
    runs = {read_json(path)["fingerprint"]: 0 for path in tree.root.rglob("run.json")}
    del runs["xor_c-inspo_product-1"]
    origin = {"command": "python -m pipelines.local a.yaml --set 'x=1|2'", "git_commit": "0123456789abcdef", "git_dirty": "true"}
    origin |= {"processor": "Abacus 3", "cores": 4, "version_python": "3.11.7", "version_torch": "2.13.0"}
    write_json(tree.root / "provenance.json", {"origins": [origin], "runs": runs})
    return tree.root


@pytest.fixture
def experiment(made, tmp_path):
    """A copy to change."""
    return shutil.copytree(made, tmp_path / "runs/small")


def sections_of(page: Path) -> list[str]:
    return re.findall("^## (.*)", page.read_text(), re.MULTILINE)


def test_a_page_holds_the_tables_the_figures_and_where_the_runs_come_from(experiment, tmp_path):
    out = tmp_path / "docs/results.md"
    write_page([experiment], out)
    text = out.read_text()
    tables = (experiment / "report/table.md").read_text()
    assert all(line in text for line in tables.splitlines() if line.startswith("|"))
    assert "\n## small\n" in text and "\n### Return, greedy\n" in text
    for line in (line for line in text.splitlines() if line.startswith("![")):
        name = line.partition("(")[2].rstrip(")")
        copy, original = out.parent / name, experiment / "report/figures" / name.removeprefix("figures/small-")
        assert copy.read_bytes() == original.read_bytes()
    assert text.count("![small: ") == 7
    origin = "`python -m pipelines.local a.yaml --set 'x=1\\|2'` | Abacus 3, 4 cores | python 3.11.7, torch 2.13.0 |"
    assert f"| 29 | 0123456789ab, changed since | {origin}" in text
    assert "| 1 | not recorded | not recorded |" in text and "but with 2." in text
    first = out.read_bytes()
    write_page([experiment], out)
    assert out.read_bytes() == first


def test_an_experiment_without_report_or_with_a_missing_run_is_named(experiment, tmp_path):
    with pytest.raises(InspoError, match="nothing/report/results.json is missing; run the experiment with python -m pipelines.local"):
        write_page([experiment, tmp_path / "nothing"], tmp_path / "results.md")
    shutil.rmtree(experiment / "behavior/xor_c/seed_2")
    with pytest.raises(InspoError, match="behavior/xor_c/seed_2/run.json"):
        write_page([experiment], tmp_path / "results.md")
    assert not (tmp_path / "results.md").exists()


def test_sections_of_other_experiments_stay_as_they_are(experiment, tmp_path):
    out = tmp_path / "docs/results.md"
    first, second, third = (shutil.copytree(experiment, tmp_path / name) for name in ("first", "second", "third"))
    write_page([first, second], out)
    before = out.read_text()
    recorded = second / "report/results.json"
    recorded.write_text(recorded.read_text().replace('"episodes": 100', '"episodes": 7'))
    shutil.rmtree(first)
    write_page([second, third], out)
    text = out.read_text()
    assert sections_of(out) == ["first", "second", "third"]
    assert text.partition("\n## second\n")[0] == before.partition("\n## second\n")[0]
    of_second = text.partition("\n## second\n")[2].partition("\n## third\n")[0]
    assert "7 episodes a policy" in of_second and "7 episodes" not in before


def test_a_new_section_goes_before_the_next_one_of_the_call(experiment, tmp_path):
    out = tmp_path / "docs/results.md"
    first, second, third = (shutil.copytree(experiment, tmp_path / name) for name in ("first", "second", "third"))
    write_page([first, third], out)
    write_page([second, third], out)
    assert sections_of(out) == ["first", "second", "third"]
    write_page([third, second, first], out)
    assert sections_of(out) == ["first", "second", "third"]


def test_another_file_is_not_written_over(experiment, tmp_path):
    out = tmp_path / "notes.md"
    out.write_text("# Notes\n\n## small\n")
    with pytest.raises(
        InspoError, match="notes.md is no page of results: its first line is '# Notes', expected '# Results'; name another file"
    ):
        write_page([experiment], out)
    assert out.read_text() == "# Notes\n\n## small\n"
