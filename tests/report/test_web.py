"""``report.html``: whole, by itself, with the numbers of the tables and nothing unescaped."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from inspo_core.report.comparisons import Standing, compare
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import read_results
from inspo_core.report.web import web_page
from inspo_core.report.wording import iqm_text, standings_title
from inspo_core.stages.report import write_report
from tests.lab import seal
from tests.report.tree import Tree

ORIGIN = {"command": "python -m pipelines.local a.yaml --set 'x=<1>'", "git_commit": "0123456789abcdef", "git_dirty": "true"}
ORIGIN |= {"processor": "Abacus 3", "cores": 4, "version_torch": "2.13.0"}
FAILURE = "<script>alert(1)</script>"
EMPTY = {"meta", "img", "br"}


class Page(HTMLParser):
    """Names, links and table cells; fails where an element is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.names, self.links, self.images, self.rows = [], set(), [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.names += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if "href" in given else []
        self.images += [given["src"]] if "src" in given else []
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "tr" and "tr" in self.open:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Results with a failed cell and a failed seed, and the page as it was written."""
    tree = Tree(tmp_path_factory.mktemp("web"), ["xor_c", "mne_imbalanced"], ["inspo", "inspo_product"], [0, 1, 2])
    failures = {("xor_c", "inspo_product", seed): FAILURE for seed in (0, 1, 2)} | {("xor_c", "inspo", 2): "lost"}
    results = read_results(tree.evaluations, tree.trainings, tree.params(), failures)
    write_report(results, tree.out, list(FIGURES), [(ORIGIN, 7), (None, 1)])
    return results, (tree.out / "report.html").read_text(), tree


def test_the_page_needs_nothing_from_elsewhere(written):
    results, text, tree = written
    page = Page(text)
    assert not page.tags & {"link", "iframe", "object"} and "@import" not in text and "url(" not in text
    assert text.count(" src=") == len(page.images)
    assert not re.findall(r"https?://", text) and str(tree.root) not in text
    assert [link for link in page.links if not link.startswith("#")] == []
    assert {link[1:] for link in page.links} <= set(page.names) and len(set(page.names)) == len(page.names)
    figures = [name for name in FIGURES if (tree.out / f"figures/{name}.svg").exists()]
    drawn = [base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")) for source in page.images]
    assert drawn == [(tree.out / f"figures/{name}.svg").read_bytes() for name in figures] and len(figures) >= 5


def test_the_page_holds_the_numbers_and_says_what_is_missing(written):
    results, text, _ = written
    page = Page(text)
    rows = {tuple(row[:1]): row for row in page.rows}
    for row in results.summary():
        assert iqm_text(row.estimate, row.metric) in text.replace("<b>", "").replace("</b>", ""), row
    overview = next(row for row in page.rows if row[0] == "inspo_product")
    assert overview[1] == "not on every dataset"
    assert "2 of 3 seeds" in rows[("xor_c",)][1] or any("2 of 3 seeds" in cell for row in page.rows for cell in row)
    assert any(row[:2] == ["inspo_product", "0 of 3"] and set(row[2:]) == {"failed"} for row in page.rows)
    assert ["xor_c", "inspo", "2", "lost"] in page.rows and ["xor_c", "inspo_product", "0", FAILURE] in page.rows
    assert "4 of 12 runs failed" in text and "&lt;script&gt;" in text and text.count("<script") == 1


def test_the_page_says_where_the_runs_come_from(written):
    assert ["0123456789ab, changed since", ORIGIN["command"], "Abacus 3, 4 cores", "torch 2.13.0", "7"] in Page(written[1]).rows
    assert ["not recorded"] * 4 + ["1"] in Page(written[1]).rows


def test_parameters_are_named_once_where_all_have_the_same(tree):
    for number, name in enumerate(("inspo", "bc")):
        for path in tree.trainings.glob(f"*/{name}/seed_*"):
            seal(path, config={"seed": 3, "iterations": 50, "alpha": number / 10})
    results = read_results(tree.evaluations, tree.trainings, tree.params())
    page = Page(web_page(results, results.summary(), compare(results, results.summary()), tree.root, []))
    assert [row for row in page.rows if row[0] in ("alpha", "iterations", "seed")] == [
        ["alpha", "0.0", "inspo"],
        ["alpha", "0.1", "bc"],
        ["iterations", "50", "all"],
    ]


def test_names_of_datasets_and_variants_are_escaped(written, tmp_path):
    results, _, _ = written
    dataset, variant = "<script>alert('d')</script>", '"><img src=x>'
    names = {"xor_c": dataset, "inspo_product": variant}
    renamed = replace(
        results,
        cells=[
            replace(cell, dataset=names.get(cell.dataset, cell.dataset), variant=names.get(cell.variant, cell.variant))
            for cell in results.cells
        ],
        games={names.get(name, name): game for name, game in results.games.items()},
        failures={(names.get(place[0], place[0]), names.get(place[1], place[1]), place[2]): why for place, why in results.failures.items()},
    )
    text = web_page(renamed, renamed.summary(), compare(renamed, renamed.summary()), tmp_path, [])
    page = Page(text)
    assert text.count("<script") == 1 and page.images == [] and f"#dataset-{dataset}" in page.links
    assert [row for row in page.rows if row[:2] == [dataset, variant]] == [[dataset, variant, str(seed), FAILURE] for seed in (0, 1, 2)]


def test_the_page_has_the_same_bytes_every_time(written, tmp_path):
    results, text, _ = written
    write_report(results, tmp_path / "elsewhere", list(FIGURES), [(ORIGIN, 7), (None, 1)])
    assert (tmp_path / "elsewhere/report.html").read_text() == text


def test_who_is_ahead_of_the_first_algorithm_is_in_the_page_too(written):
    results, text, _ = written
    found = compare(results, results.summary())
    assert found.standings_on("xor_c", "return_greedy") == {standing: [] for standing in Standing}  # all its runs failed there
    assert found.standings_on("mne_imbalanced", "return_greedy")[Standing.BELOW_APART] == ["inspo_product"]
    assert f"<h3>{standings_title(results, 'return_greedy')}</h3>".replace("'", "&#39;") in text
    rows = [row for row in Page(text).rows if row[0] in results.datasets and len(row) == 6]
    assert rows[:2] == [["xor_c", "", "", "", "", ""], ["mne_imbalanced", "", "", "", "", "inspo_product"]]
