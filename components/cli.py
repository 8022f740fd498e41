"""What the stage commands share: parameters and options from the command line."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from components.executor import add_executor
from inspo_core.algorithms.table import ALGORITHMS
from inspo_core.code_hashes import check_code_hashes
from inspo_core.command import Parser
from inspo_core.config.reading import load_params
from inspo_core.config.sections import Params
from inspo_core.errors import InspoError, quoted
from inspo_core.section import LARGEST_SEED, check_name


def stage_parser(stage: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that every stage has: ``--params``, ``--set`` and ``--executor-input``."""
    parser = Parser(prog=f"python -m components.{stage}", description=description)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="parameter file (default: %(default)s)")
    add_overrides(parser)
    add_executor(parser)
    return parser


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add ``--set``."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one parameter, e.g. train.inspo.alpha=0.2; may be repeated; a JSON object sets several",
    )


def params_of(arguments: argparse.Namespace) -> Params:
    """The parameters that ``--params`` and ``--set`` name."""
    return load_params(arguments.params, arguments.overrides)


def checked_params(arguments: argparse.Namespace, stage: str, dataset: str = "", name: str = "") -> Params:
    """The parameters of a run of ``stage``, as :func:`params_of`; a ``code.yaml`` that is out of date for it is refused."""
    params = params_of(arguments)
    check_code_hashes(params, stage, dataset, name)
    return params


def add_dataset(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--dataset``."""
    parser.add_argument("--dataset", required=True, type=_name_of("--dataset"), metavar="NAME", help=help)


def add_algorithm(parser: argparse.ArgumentParser) -> None:
    """Add ``--algorithm``."""
    names = f"what learns: {', '.join(ALGORITHMS)}, or a name of the section variants in the parameters"
    parser.add_argument("--algorithm", required=True, metavar="NAME", help=names)


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Add ``--seeds``: ``0,1,2``, or a JSON list as Kubeflow hands it over."""
    parser.add_argument("--seeds", type=_seed_list, metavar="K,K,...", help="seeds to run (default: experiment.seeds of the parameters)")


def add_record(parser: argparse.ArgumentParser) -> None:
    """Add ``--record``."""
    parser.add_argument(
        "--record",
        default="",
        type=_name_of("--record"),
        metavar="KEY",
        help="tell the shared store (INSPO_STORE) under this key how every seed ended; failed seeds then fail the task only if all failed",
    )


def add_planned(parser: argparse.ArgumentParser) -> None:
    """Add ``--planned``."""
    parser.add_argument(
        "--planned",
        default="",
        type=_name_of("--planned"),
        metavar="KEY",
        help="key of the task in a pipeline's plan; code that is not what it was planned with is refused",
    )


def add_prune(parser: argparse.ArgumentParser) -> None:
    """Add ``--prune``."""
    parser.add_argument("--prune", action="store_true", help="remove the runs of other seeds from --out (default: they stay)")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", choices=["cpu", "cuda"], help="what computes (default: as the parameters say)")


def _name_of(option: str) -> Callable[[str], str]:
    """What reads a name; an empty one is none."""
    return lambda text: text and check_name(text, option)


def _seed_list(text: str) -> list[int]:
    parts = [part.strip().removesuffix(".0") for part in text.strip("[] ").split(",")]  # Kubeflow hands 3 over as 3.0
    seeds = [int(part) for part in parts if re.fullmatch(r"[0-9]{1,20}", part)]
    if len(set(seeds)) < len(parts) or max(seeds) > LARGEST_SEED:
        raise InspoError(f"--seeds is {quoted(text)}, expected different whole numbers from 0 to {LARGEST_SEED}, such as 0,1,2")
    return seeds
