"""Mutated inputs: what every target is given, and what becomes of it, in this process.

A try is a folder as it was, with some files, arguments or variables of the environment changed, and a command's main function called on it.
It ends accepted, and then the target compares what came out with what it reads there by other means, or in a refusal that satisfies
:mod:`tests.campaign.sentences`. All else is a fault: another exception, a hang, something half-written, a file outside of the folder.
"""

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from inspo_core.command import run
from tests.campaign.sentences import ERROR, faults_of, shape_of
from tests.lab import OWN_RECORDS, contents, leftovers

SECONDS = 20.0  # after which a try hangs
PRIVATE = ("MLFLOW_", "INSPO_", "DVC_", "KF_PIPELINES_", "AWS_")
ESCAPED = Path(tempfile.gettempdir()) / f"inspo-campaign-escaped-{os.getpid()}"  # where an absolute name leads
OFFLINE = {
    "MLFLOW_TRACKING_URI": "sqlite:////dev/null/mlflow.db",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "INSPO_WORKERS": "1",
}


@dataclass
class Case:
    """One try's input."""

    what: str  # was changed, for readers
    files: dict[str, bytes | None] = field(default_factory=dict)  # by relative name; None: not there
    arguments: list[str] | None = None  # None: the target's
    environment: dict[str, str] = field(default_factory=dict)
    named: tuple[str, ...] = ()  # the files or options of which a refusal is to name one
    fields: tuple[str, ...] = ()  # the same of fields
    found: tuple[str, ...] = ()  # and of ways to repeat what was found


class Target(ABC):
    """A kind of input and the command that reads it."""

    name: str
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    refusal_status = 2

    @abstractmethod
    def prepare(self, place: Path) -> None:
        """Make in ``place`` what every try starts from."""

    @abstractmethod
    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        """Inputs for what :meth:`prepare` has made."""

    def watched(self) -> tuple[str, ...]:
        """How the names begin of what a refusal may not change."""
        return ("",)

    def check_always(self, case: Case, place: Path) -> str | None:
        """The same, of accepted and refused inputs alike."""
        return None

    @abstractmethod
    def call(self, case: Case) -> None:
        """What the command does; the current folder is the try's."""

    @abstractmethod
    def check(self, case: Case, place: Path, said: str) -> str | None:
        """What is wrong with what an accepted input gave; None if nothing is."""


class Hang(BaseException):
    pass


@dataclass
class Outcome:
    kind: str  # accepted | refused | fault
    said: str  # standard error
    faults: list[str]
    seconds: float


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def end(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def as_command(place: Path, environment: dict[str, str], arguments: Sequence[str]) -> Iterator[None]:
    """Folder, environment and arguments of a command of its own."""
    here, kept, argv = Path.cwd(), dict(os.environ), sys.argv
    limit = sys.getrecursionlimit()
    for name in kept:
        if name.startswith(PRIVATE):
            del os.environ[name]
    os.environ.update(OFFLINE | environment)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # as commands have it, which import MLflow later
    os.chdir(place)
    sys.argv = ["command", *arguments]
    try:
        yield
    finally:
        sys.argv = argv
        os.chdir(here)
        os.environ.clear()
        os.environ.update(kept)
        sys.setrecursionlimit(limit)


def where(error: BaseException) -> str:
    """The exception's type and the project's line that it went through last."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/tests/" not in frame.filename and "site-packages" not in frame.filename
    ]
    own = [frame for frame in frames if "inspo_core" in frame.filename or "components" in frame.filename or "pipelines" in frame.filename]
    return f"{type(error).__name__} in {'/'.join(Path(own[-1].filename).parts[-2:])} {own[-1].name}" if own else type(error).__name__


def attempt(target: Target, case: Case, base: Path, root: Path) -> Outcome:
    """Carry a try out in ``root/a/b/work``, made of ``base``."""
    place = root / "a" / "b" / "work"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(base, place)
    for name, content in case.files.items():
        path = place / name
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    before = _outputs(place)
    said, told, began = io.StringIO(), io.StringIO(), time.monotonic()
    kind, faults = "accepted", []
    with (
        as_command(place, target.environment | case.environment, target.arguments if case.arguments is None else case.arguments),
        warnings.catch_warnings(),
    ):
        for kind_ in (ResourceWarning, DeprecationWarning, PendingDeprecationWarning):  # which Python hides by itself
            warnings.simplefilter("ignore", kind_)
        try:
            with time_limit(SECONDS), contextlib.redirect_stderr(said), contextlib.redirect_stdout(told):
                run(lambda: target.call(case))
        except SystemExit as ended:
            if ended.code:
                kind, faults = "refused", faults_of(said.getvalue(), ended.code, case.named, case.fields, case.found, target.refusal_status)
        except Hang:
            kind, faults = "fault", [f"hang: more than {SECONDS:.0f} s"]
        except Exception as error:
            kind, faults = "fault", [f"exception: {where(error)}: {str(error)[:100]}"]
    seconds = time.monotonic() - began
    if kind == "accepted":
        try:
            wrong = target.check(case, place, said.getvalue())
        except Exception as error:  # what was written cannot be read by other means
            wrong = f"the output cannot be read: {type(error).__name__}: {str(error)[:100]}"
        faults += [f"inconsistent: {wrong}"] if wrong else []
    else:
        after = _outputs(place)
        if changed := sorted(
            name for name in {*before, *after} if before.get(name) != after.get(name) and name.startswith(target.watched())
        ):
            faults.append(f"half-written: {', '.join(changed[:3])}")
    if kind != "fault" and (wrong := target.check_always(case, place)):
        faults.append(f"inconsistent: {wrong}")
    if left := [path.name for path in leftovers(place)]:
        faults.append(f"left over: {left[0]}")
    if ESCAPED.exists():
        faults.append("outside of its folder: an absolute path")
        shutil.rmtree(ESCAPED)
    if escaped := [path for path in root.rglob("*") if place not in (path, *path.parents) and path not in place.parents]:
        faults.append(f"outside of its folder: {escaped[0].relative_to(root)}")
    return Outcome("fault" if faults else kind, said.getvalue(), faults, seconds)


def _outputs(place: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(place).items() if name.split("/")[0] not in OWN_RECORDS}


@dataclass
class Tally:
    """What became of a target's tries."""

    target: str
    tries: int = 0
    accepted: int = 0
    refused: int = 0
    longest: float = 0.0
    kinds: Counter = field(default_factory=Counter)
    first: dict[str, tuple[int, Case, Outcome]] = field(default_factory=dict)  # kind of fault -> its first try

    def add(self, number: int, case: Case, outcome: Outcome) -> None:
        self.tries += 1
        self.accepted += outcome.kind == "accepted"
        self.refused += outcome.kind == "refused"
        self.longest = max(self.longest, outcome.seconds)
        for fault in outcome.faults:
            of_sentence = not fault.startswith(("exception", "hang", "half-written", "left over", "inconsistent", "outside"))
            kind = f"{self.target}: {f'{fault} [{shape_of(_sentence(outcome.said))}]' if of_sentence else shape_of(fault)}"
            self.kinds[kind] += 1
            self.first.setdefault(kind, (number, case, outcome))

    def count(self, *beginnings: str) -> int:
        return sum(number for kind, number in self.kinds.items() if kind.removeprefix(f"{self.target}: ").startswith(beginnings))


def _sentence(said: str) -> str:
    return next((line for line in said.splitlines() if line.startswith(ERROR)), said[-200:])


def try_inputs(
    target: Target, base: Path, scratch: Path, seed_: int, count: int, heard: Callable[[int, Case, Outcome], None] = lambda *_: None
) -> Tally:
    """Try ``count`` inputs of a target, the same ones for the same seed and code; ``heard`` is told of each."""
    tally = Tally(target.name)

    @seed(seed_)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    @given(target.cases(base))
    def tried(case: Case) -> None:
        number = tally.tries
        outcome = attempt(target, case, base, scratch)
        tally.add(number, case, outcome)
        heard(number, case, outcome)

    tried()
    return tally


def save_case(target: str, number: int, case: Case, outcome: Outcome, folder: Path) -> Path:
    """Keep a try's input, so that it can be tried again on other code."""
    place = folder / f"{target}-{number}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for position, content in enumerate(case.files.values()):
        if content is not None:
            (place / str(position)).write_bytes(content)
    described = {
        "target": target,
        "what": case.what,
        "files": [[name, None if content is None else str(position)] for position, (name, content) in enumerate(case.files.items())],
        "arguments": case.arguments,
        "environment": case.environment,
        "named": case.named,
        "fields": case.fields,
        "found": case.found,
        "faults": outcome.faults,
        "said": outcome.said[-2000:],
    }
    (place / "case.json").write_text(json.dumps(described, indent=2))
    return place


def load_case(place: Path) -> tuple[str, Case]:
    """The target's name and the input that :func:`save_case` kept; what only the check of accepted ones needs is not kept."""
    found = json.loads((place / "case.json").read_text())
    files = {name: None if position is None else (place / position).read_bytes() for name, position in found["files"]}
    lists = {key: tuple(found[key]) for key in ("named", "fields", "found")}
    return found["target"], Case(found["what"], files, found["arguments"], found["environment"], **lists)
