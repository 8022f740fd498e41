"""``python -m components.ingest``: raw files of a dataset to validated episodes in the native format."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from components.cli import add_dataset, add_planned, checked_params, stage_parser
from components.executor import write_executor_output
from inspo_core.command import run
from inspo_core.config.sections import Params, source_of
from inspo_core.datasets.fetch import fetch, origin_of
from inspo_core.errors import InspoError
from inspo_core.stages.ingest import ingest_stage


def main() -> None:
    parser = stage_parser("ingest", "Turn the raw files of a dataset into validated episodes in the native format, with a card.")
    add_dataset(parser, "name of the dataset, a key of ingest.sources in the parameters")
    parser.add_argument("--raw", type=Path, help="folder with the raw files")
    parser.add_argument("--repo", metavar="URL", help="instead: a DVC repository, URL or path, that has the raw files in data/<dataset>")
    parser.add_argument("--rev", metavar="REV", help="its revision: a commit, a tag or a branch")
    parser.add_argument("--remote", default="", metavar="NAME", help="which of its DVC remotes holds the files (default: its default)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the dataset; replaced as a whole")
    add_planned(parser)
    arguments = parser.parse_args()
    if bool(arguments.raw) == bool(arguments.repo) or bool(arguments.repo) != bool(arguments.rev):
        raise InspoError("ingest needs either --raw, or --repo and --rev: where the raw files are")
    card = _ingest(arguments, checked_params(arguments, "ingest", arguments.dataset))
    print(f"{card['name']}: {card['n_episodes']} episodes, {card['n_transitions']} transitions; card: {arguments.out / 'card' / 'card.md'}")
    write_executor_output(arguments)


def _ingest(arguments: argparse.Namespace, params: Params) -> dict[str, Any]:
    name = arguments.dataset
    if arguments.raw:
        return ingest_stage(params, name, arguments.raw, arguments.out, planned=arguments.planned)
    source_of(name, params.ingest.sources)  # an unknown name is said before anything is fetched
    with tempfile.TemporaryDirectory() as scratch:
        raw = fetch(name, arguments.repo, arguments.rev, arguments.remote, Path(scratch) / name)
        origin = origin_of(arguments.repo, arguments.rev, raw)
        return ingest_stage(params, name, raw, arguments.out, origin, arguments.planned)


if __name__ == "__main__":
    run(main)
