"""``python -m inspo_core.publish.page runs/headline runs/ablations``: a page of results, made from recorded runs and nothing else."""

import re
import shutil
from pathlib import Path
from typing import Any

from inspo_core.command import Parser, run
from inspo_core.errors import InspoError
from inspo_core.files import atomic_file
from inspo_core.provenance import origin, origins_of
from inspo_core.publish.exact import compare_experiment, exact_blocks, has_both_updates
from inspo_core.records import read_record
from inspo_core.report.comparisons import compare
from inspo_core.report.figure_table import FIGURES
from inspo_core.report.results import Results
from inspo_core.report.results_file import load_results
from inspo_core.report.tables import markdown_blocks, markdown_table
from inspo_core.report.wording import origin_texts

TITLE = "# Results"


def main() -> None:
    description = (
        "Write experiments' sections of a page of results from their runs. Sections of other experiments stay as they are. Of an "
        "experiment with sequential and simultaneous updates both are also solved exactly, without networks, which takes minutes."
    )
    parser = Parser(prog="python -m inspo_core.publish.page", description=description)
    parser.add_argument("experiments", type=Path, nargs="+", metavar="FOLDER", help="what pipelines.local wrote, e.g. runs/headline")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results.md"), help="the page; figures go to figures/ beside it (%(default)s)"
    )
    arguments = parser.parse_args()
    write_page(arguments.experiments, arguments.out)
    print(f"wrote {arguments.out}")


def write_page(experiments: list[Path], out: Path) -> None:
    """Write the sections of ``experiments`` in ``out`` from their reports, and copy their figures to ``figures/`` beside it.

    A section that is there keeps its place; a new one goes before the next of ``experiments`` that is there, else to the end.
    What is solved exactly for a section (:mod:`inspo_core.publish.exact`) is solved before anything is written.
    Raises InspoError: a folder without a report, or one whose runs are not all there; an ``out`` that is something else.
    """
    command = ["python", "-m", "inspo_core.publish.page", *map(str, experiments), "--out", str(out)]
    here = origin(command)  # before figures are copied, which changes the checkout
    sections = _written(out) if out.exists() else {}
    blocks = {experiment: _blocks(experiment, here) for experiment in experiments}
    order = list(sections)
    for place, experiment in enumerate(experiments):
        before, after_figures = blocks[experiment]
        figures = _copy_figures(experiment, out.parent / "figures")
        sections[experiment.name] = "\n\n".join([f"## {experiment.name}", *before, *figures, *after_figures])
        if experiment.name not in order:
            after = (order.index(later.name) for later in experiments[place + 1 :] if later.name in order)
            order.insert(next(after, len(order)), experiment.name)
    intro = (
        f"Each section is written by `python -m inspo_core.publish.page runs/<experiment> --out {out}` from recorded runs, not by hand. "
        "What the numbers mean: [statistics.md](statistics.md). All are results of this implementation, none is the paper's."
    )
    with atomic_file(out) as aside:
        aside.write_text("\n\n".join([TITLE, intro, *(sections[name] for name in order)]) + "\n", encoding="utf-8")


def _written(page: Path) -> dict[str, str]:
    """The sections that are there, by experiment."""
    intro, *sections = re.split("^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if (found := intro.partition("\n")[0]) != TITLE:
        raise InspoError(f"{page} is no page of results: its first line is {found!r}, expected {TITLE!r}; name another file")
    return {section.partition("\n")[0].removeprefix("## "): section.strip() for section in sections}


def _blocks(experiment: Path, here: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What stands before the figures, and what after them."""
    recorded = experiment / "report" / "results.json"
    if not recorded.is_file():
        raise InspoError(f"{recorded} is missing; run the experiment with python -m pipelines.local, or name another folder")
    results = load_results(recorded)
    rows = results.summary()
    tables, after = markdown_blocks(results, rows, compare(results, rows), "###"), _origins(experiment, results)
    if has_both_updates(results):
        exact = exact_blocks(*compare_experiment(experiment, results), len(results.seeds))
        exact += ["Computed when this page was written:", markdown_table(["Commit", "Command", "Machine", "Versions"], [_cells(here)])]
        after = exact + after
    return tables, after


def _copy_figures(experiment: Path, figures: Path) -> list[str]:
    """Copy the report's figures into ``figures``; return what shows them."""
    shown = []
    for name, title in ((name, figure.title) for name, figure in FIGURES.items()):
        drawn = experiment / "report" / "figures" / f"{name}.png"
        if drawn.exists():
            figures.mkdir(parents=True, exist_ok=True)
            copy = figures / f"{experiment.name}-{name}.png"
            shutil.copyfile(drawn, copy)
            shown.append(f"![{experiment.name}: {title}]({figures.name}/{copy.name})")
    return shown


def _origins(experiment: Path, results: Results) -> list[str]:
    """Where the runs of a report come from: a line for each combination of command, code, machine and libraries."""
    cells = sorted(results.cells, key=lambda cell: (cell.dataset, cell.algorithm, cell.variant))
    runs = [(cell.dataset, cell.name, seed) for cell in cells for seed in sorted(cell.seeds)]
    places = [Path(stage) / dataset / name / f"seed_{seed}" for dataset, name, seed in runs for stage in ("train", "evaluate")]
    places += [Path("behavior") / dataset / f"seed_{seed}" for dataset, seed in dict.fromkeys((run[0], run[2]) for run in runs)]
    records = [read_record(experiment / place, "same", fingerprint=str) for place in places]
    found = origins_of(experiment / "provenance.json", [record["fingerprint"] for record in records])
    parts = [f"### Where the runs of {experiment.name} come from"]
    commits = {None if noted is None else (noted.get("git_commit"), noted.get("git_dirty")) for noted, _ in found}
    if len(commits) > 1:
        parts.append(f"**They were not all made with the same state of the code, but with {len(commits)}.**")
    header = ["Runs", "Commit", "Command", "Machine", "Versions"]
    parts.append(markdown_table(header, ([str(count), *_cells(noted)] for noted, count in found)))
    parts.append(
        "Runs are those of the stages behavior, train and evaluate, a seed each; a run has one thread, and as many run as there are cores."
    )
    return parts


def _cells(noted: dict[str, Any] | None) -> list[str]:
    commit, command, machine, versions = origin_texts(noted)
    return [commit, f"`{command}`" if noted else command, machine, versions]


if __name__ == "__main__":
    run(main)
