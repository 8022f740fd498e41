"""What makes a run the same run: its parameters, the content of its inputs, and the code and libraries that make its numbers.

Never where, how often or in how many processes: settings of the machine are in ``running/machine.py`` and no part of it. A stage has one
function that says what its runs are (``identity`` in ``stages/<stage>.py``); the stage uses it and so does the plan of a cluster run.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from inspo_core.code_graph import reach
from inspo_core.errors import InspoError
from inspo_core.files import hash_of
from inspo_core.tables import Entry

# What does a stage's work, without the wiring around it. What these are handed must be plain data, or made by one of them.
STAGE_WORK: dict[str, tuple[str, ...]] = {
    "ingest": ("inspo_core.stages.ingest:convert",),
    "behavior": ("inspo_core.stages.behavior:BehaviorJob",),
    "train": ("inspo_core.stages.train:TrainJob",),
    "evaluate": ("inspo_core.stages.evaluate:EvaluateJob",),
    "report": ("inspo_core.report.results:read_results", "inspo_core.stages.report:write_report"),
}

# Libraries whose releases change numbers, by the name under which they are imported. A table's entry may name more.
NUMERIC = {"numpy": "numpy", "scipy": "scipy", "torch": "torch"}

# Code that can change no result: it reads, checks, names, waits, stops and records. Tables are here because of them only the entry counts
# that a run uses; what such an entry names is added to the code of the run.
WITHOUT_EFFECT = (
    "inspo_core.config",
    "inspo_core.datasets.validation",
    "inspo_core.errors",
    "inspo_core.files",
    "inspo_core.identity",
    "inspo_core.parsing",
    "inspo_core.project",
    "inspo_core.provenance",
    "inspo_core.records",
    "inspo_core.redaction",
    "inspo_core.running.device",
    "inspo_core.running.machine",
    "inspo_core.running.processes",
    "inspo_core.running.progress",
    "inspo_core.running.shared_store",
    "inspo_core.section",
    "inspo_core.stopping",
    "inspo_core.tables",
    "inspo_core.tracking",
    "inspo_core.algorithms.configs",
    "inspo_core.algorithms.table:ALGORITHMS",
    "inspo_core.datasets.formats.table:FORMATS",
    "inspo_core.envs.table:GAMES",
    "inspo_core.report.figure_table:FIGURES",
    "inspo_core.running.loop:_lock",
)


@dataclass(frozen=True)
class Code:
    """Code that can be reached, by meaning, and the releases of the libraries with which it makes numbers."""

    digest: str
    libraries: Mapping[str, str]

    @property
    def name(self) -> str:
        """Code and releases in 16 hexadecimal digits."""
        return hash_of([self.digest, dict(self.libraries)])[:16]


@dataclass(frozen=True)
class Identity:
    """What a run is. ``section``: its resolved parameters (JSON values); ``inputs``: a hash of each input, by name."""

    stage: str
    section: Mapping[str, Any]
    inputs: Mapping[str, str]
    code: Code

    @property
    def fingerprint(self) -> str:
        """The name of the run: 16 hexadecimal digits."""
        what = {"stage": self.stage, "section": dict(self.section), "inputs": dict(self.inputs)}
        return hash_of(what | {"code": self.code.digest, "libraries": dict(self.code.libraries)})[:16]


def code_of(stage: str, *entries: Entry) -> Code:
    """The code that a run of ``stage`` can reach: what does the stage's work, and the table entries that the run uses.

    Raises InspoError if a library is not installed.
    """
    return _told_once((*STAGE_WORK[stage], *(entry.target for entry in entries)), _libraries(*entries))


def code_of_entry(entry: Entry) -> Code:
    """The code that one entry of a table can reach."""
    return _told_once((entry.target,), _libraries(entry))


def is_code_unchanged() -> bool:
    """Whether all code of which this process has been told is still what it was then."""
    return all(_code(*asked) == code for asked, code in _told.items())


_told: dict[tuple[tuple[str, ...], tuple[str, ...]], Code] = {}


def _told_once(targets: tuple[str, ...], libraries: tuple[str, ...]) -> Code:
    if (targets, libraries) not in _told:
        _told[targets, libraries] = _code(targets, libraries)
    return _told[targets, libraries]


def _code(targets: tuple[str, ...], libraries: tuple[str, ...]) -> Code:
    packages = {target.partition(":")[0].partition(".")[0] for target in targets} | {"inspo_core"}
    reached = [reach(target, cut=WITHOUT_EFFECT, packages=sorted(packages)) for target in targets]
    used = {NUMERIC[name] for found in reached for name in found.libraries if name in NUMERIC}
    return Code(hash_of([found.digest for found in reached]), releases(used | set(libraries)))


def _libraries(*entries: Entry) -> tuple[str, ...]:
    return tuple(name for entry in entries for name in entry.libraries)


def releases(libraries: Iterable[str]) -> dict[str, str]:
    """The installed release of each distribution, without a build's suffix: 2.13.0 of 2.13.0+cpu. Raises InspoError if one is missing."""
    found = {}
    for name in sorted(libraries):
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError as error:
            raise InspoError(f"{name} is not installed here, and its release is part of what a run is; install it") from error
    return found


def planned_key(what: Any, code: Code) -> str:
    """The name of a task that is planned, ``<what>-<code>``: ``what`` it makes (JSON values), and the code that it needs for that."""
    return f"{hash_of([what, code.name])[:16]}-{code.name}"


def check_planned(key: str, code: Code) -> None:
    """Raise InspoError unless ``code`` is that of the task whose :func:`planned_key` is ``key``; an empty key asks for nothing."""
    if key and key.rpartition("-")[2] != code.name:
        here = ", ".join([f"code {code.name}", *(f"{name} {release}" for name, release in code.libraries.items())])
        raise InspoError(
            f"this step was planned with code {key.rpartition('-')[2]}, and what is installed here is another ({here}): build the image "
            "from the commit that submits, or submit from the image's commit, with the same releases of the libraries"
        )
