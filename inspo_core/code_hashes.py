"""``code.yaml``: the code of every stage in a word, for DVC: ``python -m inspo_core.code_hashes`` writes it anew.

DVC compares files, to which a comment is a change and a formula three imports away is none. So its stages depend on the
entries of this small file, which say by meaning what a stage can reach (``identity.py``). It is committed; a test and every command
compare it with the code, and refuse one that is out of date.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.command import Parser, run
from inspo_core.config.learners import learner_of
from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params, source_of
from inspo_core.datasets.formats.table import FORMATS
from inspo_core.envs.table import GAMES
from inspo_core.errors import InspoError
from inspo_core.files import atomic_file, hash_of
from inspo_core.identity import code_of, code_of_entry
from inspo_core.parsing import dump_yaml, parse_yaml
from inspo_core.stages import report

FILE = Path("code.yaml")
WRITE = "python -m inspo_core.code_hashes"
HEADER = f"""# What each stage can reach of the code, by meaning, with the releases of the libraries that make its numbers.
# dvc.yaml's stages depend on it. Written by: {WRITE}
"""


def code_hashes(params: Params) -> dict[str, Any]:
    """The whole file: ``ingest`` and ``games`` by dataset, ``train`` by algorithm or variant, ``references`` (of scores) by dataset."""
    sources = params.ingest.sources
    learners = [*(name for name in ALGORITHMS if name in params.train.blocks), *params.variants]
    return {
        "ingest": {dataset: ingest_hash(params, dataset) for dataset in sources},
        "behavior": code_of("behavior").name,
        "train": {name: train_hash(params, name) for name in learners},
        "evaluate": code_of("evaluate").name,
        "report": report_hash(params),
        "games": {dataset: game_hash(params, dataset) for dataset in sources},
        "references": {dataset: _references(params, dataset) for dataset in sources},
    }


def ingest_hash(params: Params, dataset: str) -> str:
    """What reads the raw files of ``dataset``."""
    source = source_of(dataset, params.ingest.sources)
    return code_of("ingest", FORMATS.entry(source.format, f"parameter ingest.sources.{dataset}.format")).name


def train_hash(params: Params, name: str) -> str:
    """What trains the algorithm or variant ``name``, the game apart."""
    return code_of("train", learner_of(name, params).entry).name


def game_hash(params: Params, dataset: str) -> str:
    """The game of ``dataset``: its code and its rules; nothing of one that is not in the table, and can so not be played."""
    env = source_of(dataset, params.ingest.sources).env
    return hash_of([code_of_entry(GAMES[env]).name, GAMES[env].rules])[:16] if env in GAMES else "none"


def report_hash(params: Params) -> str:
    """What writes the report: tables, the figures that are asked for, and the page's templates."""
    made = report.identity(params.report, {})
    return hash_of([made.code.name, dict(made.inputs)])[:16]


def check_code_hashes(params: Params, stage: str, dataset: str = "", name: str = "") -> None:
    """Raise InspoError if ``code.yaml``, where there is one, is out of date in what a run of ``stage`` depends on."""
    if not FILE.exists():
        return
    written = _read()
    if name and name not in written.get("train", {}):  # a variant of the command line alone: it runs its algorithm's code
        name = learner_of(name, params).algorithm
    for place, now in _entries(params, stage, dataset, name):
        found: Any = written
        for key in place:
            found = found.get(key) if isinstance(found, dict) else None
        if found != now:
            raise InspoError(
                f"{FILE} is out of date: {'.'.join(place)} is {found!r}, and the code that is here is {now!r}; write it anew with: {WRITE}"
            )


def _entries(params: Params, stage: str, dataset: str, name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    if stage == "ingest":
        yield ("ingest", dataset), ingest_hash(params, dataset)
    elif stage == "train":
        yield ("train", name), train_hash(params, name)
    else:
        yield (stage,), report_hash(params) if stage == "report" else code_of(stage).name
    if stage in ("train", "evaluate"):
        yield ("games", dataset), game_hash(params, dataset)
    if stage == "report":
        for played in params.experiment.datasets:
            yield ("references", played), _references(params, played)


def _references(params: Params, dataset: str) -> str:
    game = GAMES.get(source_of(dataset, params.ingest.sources).env)
    return f"random {game.random}, best {game.best}" if game else "none"


def _read() -> Any:
    try:
        return parse_yaml(FILE.read_bytes(), str(FILE))
    except OSError as error:
        raise InspoError(f"{FILE} cannot be read ({error.strerror}); write it anew with: {WRITE}") from error
    except InspoError as error:
        raise InspoError(f"{error}; write it anew with: {WRITE}") from error


def main() -> None:
    parser = Parser(prog=WRITE, description="Write code.yaml, the code of every stage in a word, for DVC.")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="parameter file (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 2 and a sentence if the file is out of date")
    arguments = parser.parse_args()
    now = code_hashes(load_params(arguments.params))
    if arguments.check:
        if not FILE.exists() or _read() != now:
            raise InspoError(f"{FILE} is missing or out of date; write it anew with: {WRITE}")
        return
    with atomic_file(FILE) as aside:
        aside.write_text(HEADER + dump_yaml(now), encoding="utf-8")


if __name__ == "__main__":
    run(main)
