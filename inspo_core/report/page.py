"""``python -m inspo_core.report.page runs/headline runs/ablations``: a page of results, made from recorded runs and nothing else."""

import argparse
import csv
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from inspo_core.config import label
from inspo_core.errors import InspoError
from inspo_core.files import atomic_file, read_json
from inspo_core.report.exact import PAIR, exact_rows
from inspo_core.report.web import FIGURES, origin_texts
from inspo_core.tracking.ledger import origin, origins_of

TITLE = "# Results"


def main() -> None:
    description = "Write experiments' sections of a page of results from their runs. Sections of other experiments stay as they are."
    parser = argparse.ArgumentParser(prog="python -m inspo_core.report.page", description=description)
    parser.add_argument("experiments", type=Path, nargs="+", metavar="FOLDER", help="what pipelines.local wrote, e.g. runs/headline")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"), help="the page; figures go to figures/ beside it (%(default)s)")
    arguments = parser.parse_args()
    write_page(arguments.experiments, arguments.out)
    print(f"wrote {arguments.out}")


def write_page(experiments: list[Path], out: Path) -> None:
    """Write the sections of ``experiments`` in ``out`` from their reports, and copy their figures to ``figures/`` beside it.

    A section that is there keeps its place; a new one goes before the next of ``experiments`` that is there, else to the end.
    Raises InspoError: a folder without a report, or one whose runs are not all there; an ``out`` that is something else.
    """
    command = f"python -m inspo_core.report.page {' '.join(map(str, experiments))} --out {out}"
    here = origin(command)  # before figures are copied, which changes the checkout
    sections = _written(out) if out.exists() else {}
    order = list(sections)
    for place, experiment in enumerate(experiments):
        sections[experiment.name] = "\n\n".join(_section(experiment, out.parent / "figures", here))
        if experiment.name not in order:
            after = (order.index(later.name) for later in experiments[place + 1 :] if later.name in order)
            order.insert(next(after, len(order)), experiment.name)
    intro = (
        f"Each section is written by `python -m inspo_core.report.page runs/<experiment> --out {out}` from recorded runs, not by hand. What the "
        "numbers mean: [statistics.md](statistics.md). All are results of this implementation, none is the paper's."
    )
    with atomic_file(out) as aside:
        aside.write_text("\n\n".join([TITLE, intro, *(sections[name] for name in order)]) + "\n")


def _written(page: Path) -> dict[str, str]:
    """The sections that are there, by experiment."""
    intro, *sections = re.split("^(?=## )", page.read_text(), flags=re.MULTILINE)
    if (found := intro.partition("\n")[0]) != TITLE:
        raise InspoError(f"{page} is no page of results: its first line is {found!r}, expected {TITLE!r}; name another file")
    return {section.partition("\n")[0].removeprefix("## "): section.strip() for section in sections}


def _section(experiment: Path, figures: Path, here: dict[str, Any]) -> list[str]:
    report = experiment / "report"
    if not (report / "table.md").is_file():
        raise InspoError(f"{report / 'table.md'} is missing; run the experiment with python -m pipelines.local, or name another folder")
    tables = (report / "table.md").read_text().partition("\n")[2].strip()
    parts = [f"## {experiment.name}", re.sub("^##", "###", tables, flags=re.MULTILINE)]
    for name, title in FIGURES.items():
        if (report / "figures" / f"{name}.png").exists():
            figures.mkdir(parents=True, exist_ok=True)
            copy = figures / f"{experiment.name}-{name}.png"
            shutil.copyfile(report / "figures" / f"{name}.png", copy)
            parts.append(f"![{experiment.name}: {title}]({figures.name}/{copy.name})")
    runs = _runs(experiment)
    if set(PAIR) <= {name for _, name, _ in runs}:
        datasets, seeds = ([*dict.fromkeys(run[field] for run in runs)] for field in (0, 2))
        parts += exact_rows(experiment, datasets, [int(seed) for seed in seeds])
        parts += ["Computed when this page was written:", _table([["Commit", "Command", "Machine", "Versions"], _cells(here)])]
    return parts + _origins(experiment, runs)


def _runs(experiment: Path) -> list[tuple[str, str, str]]:
    """Dataset, algorithm or variant, and seed of every run of the report."""
    with open(experiment / "report" / "results.csv", newline="") as file:
        return list(dict.fromkeys((row["dataset"], label(row["algorithm"], row["variant"]), row["seed"]) for row in csv.DictReader(file)))


def _origins(experiment: Path, runs: list[tuple[str, str, str]]) -> list[str]:
    """Where the runs of a report come from: a line for each combination of command, code, machine and libraries."""
    places = [Path(stage) / dataset / name / f"seed_{seed}" for dataset, name, seed in runs for stage in ("train", "evaluate")]
    places += [Path("behavior") / dataset / f"seed_{seed}" for dataset, seed in dict.fromkeys((run[0], run[2]) for run in runs)]
    found = origins_of(experiment / "provenance.json", [read_json(experiment / place / "run.json")["fingerprint"] for place in places])
    parts = [f"### Where the runs of {experiment.name} come from"]
    commits = {None if noted is None else (noted.get("git_commit"), noted.get("git_dirty")) for noted, _ in found}
    if len(commits) > 1:
        parts.append(f"**They were not all made with the same state of the code, but with {len(commits)}.**")
    header = ["Runs", "Commit", "Command", "Machine", "Versions"]
    parts.append(_table([header, *([str(count), *_cells(noted)] for noted, count in found)]))
    parts.append("Runs are those of the stages behavior, train and evaluate, a seed each; a run has one thread, and as many run as there are cores.")
    return parts


def _table(lines: list[list[str]]) -> str:
    """A Markdown table; the first line is its header."""
    header, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rest])


def _cells(noted: dict[str, Any] | None) -> list[str]:
    commit, command, machine, versions = origin_texts(noted)
    return [commit, "`" + command.replace("|", "\\|") + "`" if noted else command, machine, versions]


if __name__ == "__main__":
    try:
        main()
    except InspoError as error:
        sys.exit(f"error: {error}")
