"""Kills: the small project's commands, killed at seeded moments and gone on with, against an undisturbed run.

Every try lies at the same path, since MLflow keeps absolute ones, and starts from a state that an undisturbed run has left there.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from inspo_core.files import read_json, write_json
from tests.campaign.processes import living, of_kind
from tests.campaign.records import differences, read_records
from tests.e2e.clone import Clone
from tests.lab import leftovers

DATASET, ALGORITHMS, SEEDS = "xor_c", ("inspo", "bc"), (0, 1)
PARAMETERS = {
    "experiment.datasets": [DATASET],
    "experiment.algorithms": list(ALGORITHMS),
    "experiment.seeds": list(SEEDS),
    "behavior.device": "cpu",
    "behavior.hidden": [32],
    "behavior.batch_size": 64,
    "behavior.steps": 200,
    "behavior.check_every": 20,
    "train.device": "cpu",
    "train.iterations": 60,
    "train.evaluate_every": 10,
    "train.evaluate_episodes": 4,
    "train.hidden": [32],
    "train.batch_size": 64,
    "train.critic_steps": 5,
    "train.inspo.policy_steps": 5,
    "train.inspo.refit_steps": 2,
    "train.inspo.pool_size": 256,
    "train.bc.policy_steps": 20,
    "evaluate.episodes": 20,
    "report.bootstrap": 100,
    "report.figures": ["returns"],
}
OF_DATASET = ["--dataset", DATASET]
DATA, MODELS = f"runs/ingest/{DATASET}", f"runs/behavior/{DATASET}"


def component(stage: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"components.{stage}", *arguments]


def of_learner(stage: str, algorithm: str, *inputs: str) -> list[str]:
    return component(stage, *OF_DATASET, "--algorithm", algorithm, *inputs, "--out", f"runs/{stage}/{DATASET}/{algorithm}")


# In order; before each lies the state that those before it have left.
STAGES: dict[str, list[str]] = {
    "ingest": component("ingest", *OF_DATASET, "--raw", f"data/{DATASET}", "--out", DATA),
    "behavior": component("behavior", *OF_DATASET, "--data", DATA, "--out", MODELS),
    **{f"train {name}": of_learner("train", name, "--data", DATA, "--behavior", MODELS) for name in ALGORITHMS},
    **{f"evaluate {name}": of_learner("evaluate", name, "--train", f"runs/train/{DATASET}/{name}") for name in ALGORITHMS},
    "report": component("report", "--evaluations", "runs/evaluate", "--trainings", "runs/train", "--out", "reports"),
}
REPRO = {"dvc repro": ["dvc", "repro"], "dvc repro from train on": ["dvc", "repro"]}
COMMANDS = STAGES | REPRO
KINDS = ("group", "stage", "seed", "fork server")
# After which file appears a kill may be aimed: what lies between a result and its record, or in the middle of a write.
RECORDS = ("outbox/*/journal.jsonl", "outbox/*/state.json")
OF_SEEDS = ("runs/**/seed_0/run.json", "runs/**/seed_1/run.json", "runs/**/.*.new-*")
ANCHORS = {
    "ingest": (*RECORDS, "mlflow.db", "runs/**/.*.new-*", "runs/**/run.json"),
    "behavior": (*RECORDS, *OF_SEEDS, "checkpoints/*/checkpoint.pt"),
    "train": (*RECORDS, *OF_SEEDS, "checkpoints/*/checkpoint.pt"),
    "evaluate": (*RECORDS, *OF_SEEDS, "runs/**/.summary.json.new-*"),
    "report": (*RECORDS, ".reports.new-*", "reports/table.md"),
    "dvc": (*RECORDS, *OF_SEEDS, "checkpoints/*/checkpoint.pt", ".reports.new-*", "dvc.lock", ".dvc/tmp/rwlock"),
}
SETTINGS = {"INSPO_WORKERS": "2", "INSPO_CHECKPOINT_EVERY": "2"}
GRACE_SECONDS = 20.0  # in which an orphaned seed is to notice that it is one
LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Plan:
    """A try, all of it drawn from its number."""

    number: int
    command: str
    kind: str
    moments: list[
        tuple[str, float]
    ]  # of each kill: after which file appears ("": the start), and seconds (a share of the command's, for "")
    store: bool
    batched: str  # INSPO_BATCHED_SEEDS; empty: not set

    @classmethod
    def of(cls, seed: int, number: int) -> "Plan":
        draw = random.Random(f"{seed}/{number}")
        command = draw.choice([*STAGES, "train inspo", "train bc", *REPRO])
        kind = draw.choice(("group", "group", *KINDS[1:])) if number else "nothing"  # number 0 shows that undisturbed runs are equal
        if kind in ("seed", "fork server") and command in ("ingest", "report"):
            kind = "stage"  # which have none
        moments = []
        for _ in range(draw.choice((1, 1, 2)) if number else 0):
            anchor = draw.choice(("", "", *ANCHORS[command.split()[0]]))
            moments.append((anchor, draw.random() if not anchor else draw.choice((0.0, 0.05, 0.3, 1.0)) * draw.random()))
        return cls(number, command, kind, moments, draw.random() < 0.3, draw.choice(("", "", "1", "2")))

    def __str__(self) -> str:
        moments = ", ".join(f"{share:.2f} s after {anchor}" if anchor else f"at {share:.0%}" for anchor, share in self.moments)
        more = ", with a store" * self.store + f", {self.batched} seeds a process" * bool(self.batched)
        return f"{self.command}: {self.kind} killed {moments}{more}" if self.moments else f"{self.command}: nothing killed{more}"


@dataclass
class Result:
    plan: Plan
    hits: int = 0
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """The place of all tries, the states that they start from, and what an undisturbed run leaves."""

    def __init__(self, out: Path):
        self.place, self._states = out / "bench" / "inspo", out / "states"
        self._file = self._states / "undisturbed.json"

    def prepare(self, command: str) -> None:
        """Make what a try of ``command`` needs and is not there yet."""
        self._known: dict[str, dict[str, Any]] = read_json(self._file) if self._file.exists() else {}
        if not self._known:
            shutil.rmtree(self._states, ignore_errors=True)
            shutil.rmtree(self.place.parent, ignore_errors=True)
            self.place.parent.mkdir(parents=True)
            clone = Clone.of_project(self.place)
            clone.set_params(PARAMETERS)
            clone.run(sys.executable, "-m", "inspo_core.code_hashes")  # the report's depends on its figures
            clone.commit()
            clone.dvc("pull", "data.dvc")
            for name in ("ingest", "dvc repro"):
                self._save(f"before {name}")
        after = dict(pairwise(STAGES))
        if command in STAGES:
            for name in list(STAGES)[: list(STAGES).index(command) + 1]:
                self._run_undisturbed(name, [f"before {after[name]}"] if name in after else [])
        elif command != "dvc repro" and command not in self._known:
            self.restore("before dvc repro")
            Clone(self.place).dvc("repro", f"behavior@{DATASET}")
            self._save(f"before {command}")
        self._run_undisturbed(command, [])

    def _run_undisturbed(self, command: str, then: list[str]) -> None:
        """Note what a command leaves, and save it as the states ``then``."""
        if command in self._known:
            return
        print(f"undisturbed: {command}", file=sys.stderr, flush=True)
        self.restore(f"before {command}")
        began = time.monotonic()
        Clone(self.place).run(*COMMANDS[command], **SETTINGS)
        seconds = time.monotonic() - began
        for state in then:
            self._save(state)
        self._known[command] = {"seconds": seconds, "outputs": self.outputs(), "records": read_records(self.place / "mlflow.db")}
        write_json(self._file, self._known)

    def _save(self, state: str) -> None:
        shutil.rmtree(self._states / state, ignore_errors=True)
        shutil.copytree(self.place, self._states / state, symlinks=True)

    def restore(self, state: str) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(self.place.parent / "store", ignore_errors=True)
        shutil.copytree(self._states / state, self.place, symlinks=True)

    def outputs(self) -> dict[str, str]:
        return Clone(self.place).hashes("runs", "reports") | {
            "dvc.lock": (self.place / "dvc.lock").read_text() if (self.place / "dvc.lock").exists() else ""
        }

    def attempt(self, plan: Plan) -> Result:
        """Carry the try out: kill, go on with the same command to its end, compare."""
        self.prepare(plan.command)
        result, began, known = Result(plan), time.monotonic(), self._known[plan.command]
        self.restore(f"before {plan.command}")
        environment = SETTINGS | ({"INSPO_BATCHED_SEEDS": plan.batched} if plan.batched else {})
        if plan.store:
            environment["INSPO_STORE"] = str(self.place.parent / "store")
        sessions = []
        for anchor, share in plan.moments:
            process = self._start(plan.command, environment, said_in=os.devnull)
            sessions.append(process.pid)
            result.hits += self._kill(process, plan.kind, anchor, share, known["seconds"])
            process.wait(LIMIT_SECONDS)
        said = self.place.parent / "said"
        process = self._start(plan.command, environment, said_in=str(said))
        sessions.append(process.pid)
        try:
            if process.wait(LIMIT_SECONDS):
                result.differences.append(f"the command that goes on ends with {process.returncode}: {said.read_text().strip()[-300:]!r}")
        except subprocess.TimeoutExpired:
            result.differences.append(f"the command that goes on hangs: not done after {LIMIT_SECONDS:.0f} s")
        result.differences += self.unlike(plan.command)
        result.differences += self._processes_left(sessions)
        result.seconds = time.monotonic() - began
        return result

    def _start(self, command: str, environment: dict[str, str], said_in: str) -> subprocess.Popen:
        """In a session of its own; what it says goes to a file, so that no orphan waits for a reader."""
        with open(said_in, "wb") as said:
            return subprocess.Popen(
                COMMANDS[command],
                cwd=self.place,
                env=Clone(self.place).environment(**environment),
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def _kill(self, process: subprocess.Popen, kind: str, anchor: str, share: float, seconds: float) -> bool:
        """Kill at the moment; False if the command had ended before."""
        before = set(self.place.glob(anchor)) if anchor else set()
        began = time.monotonic()

        def is_time() -> bool:
            return bool(set(self.place.glob(anchor)) - before) if anchor else time.monotonic() - began >= share * seconds

        while process.poll() is None and not is_time():
            time.sleep(0.01)
        time.sleep(share if anchor else 0)
        while process.poll() is None:
            if victims := of_kind(kind, process.pid):
                for pid in victims if kind == "group" else [victims[len(victims) // 2]]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return True
            time.sleep(0.01)
        return False

    def unlike(self, command: str) -> list[str]:
        """What is not here as an undisturbed run of ``command`` leaves it."""
        known = self._known[command]
        found, expected = self.outputs(), known["outputs"]
        said = [
            f"output {name} {_how(expected.get(name), found.get(name))}"
            for name in sorted({*expected, *found})
            if expected.get(name) != found.get(name)
        ]
        said += [f"MLflow: {one}" for one in differences(known["records"], read_records(self.place / "mlflow.db"))]
        if left := sorted(path.name for path in (self.place / "outbox").glob("*")):
            said.append(f"outbox: {', '.join(left)} left")
        said += [f"left over: {path.relative_to(self.place)}" for path in leftovers(self.place) if ".git/" not in str(path)]
        said += [f"left over: {path.relative_to(self.place)}" for path in (self.place / "checkpoints").glob("*/*")]
        lock = self.place / ".dvc/tmp/rwlock"
        if lock.exists() and not _is_json(lock):
            said.append("DVC's rwlock is left broken")
        if (store := self.place.parent / "store").exists():
            said += [f"left over in the store: {path.relative_to(store)}" for path in leftovers(store)]
            said += [
                f"left over in the store: {path.relative_to(store)}"
                for name in ("checkpoints", "outbox")
                for path in (store / name).rglob("*.*")
            ]
        return said

    def _processes_left(self, sessions: list[int]) -> list[str]:
        """Processes of the try that still run when their time is up; they are ended."""
        end = time.monotonic() + GRACE_SECONDS
        while (left := [process for process in living() if process.session in sessions]) and time.monotonic() < end:
            time.sleep(0.2)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return [f"process left: {process.command[:120]}" for process in left]


def _how(expected: str | None, found: str | None) -> str:
    return "is missing" if found is None else "is one too many" if expected is None else "differs"


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
        return True
    except ValueError:
        return False


# How the differences are counted; the first that fits.
CLASSES: dict[str, Callable[[str], bool]] = {
    "the command that goes on does not end with 0": lambda one: one.startswith("the command"),
    "outputs (`runs/`, `reports/`, `dvc.lock`) differ": lambda one: one.startswith("output"),
    "MLflow: metric points lost": lambda one: " points lost" in one or " metrics lost" in one,
    "MLflow: metric points doubled": lambda one: "too many, such as" in one,
    "MLflow: a status that is not FINISHED": lambda one: ": status is" in one,
    "MLflow: an evaluation not linked to its model": lambda one: ": models used" in one,
    "MLflow: models or registered versions missing or other": lambda one: "odel" in one,
    "MLflow: parameters, tags or artifacts differ": lambda one: any(part in one for part in (": parameters ", ": tags ", ": artifacts ")),
    "MLflow: anything else": lambda one: one.startswith("MLflow"),
    "outbox not empty": lambda one: one.startswith("outbox"),
    "files left over": lambda one: one.startswith("left over"),
    "DVC's rwlock broken": lambda one: "rwlock" in one,
    "processes left": lambda one: one.startswith("process left"),
}


def run_kills(seed: int, count: int, out: Path, only: list[int]) -> int:
    """Tries 0 to ``count`` - 1 of ``seed``, or those of ``only``; 1 if any differs."""
    bench = Bench(out)
    results = []
    with open(out / "kills.jsonl", "a") as kept:
        for number in only or range(count):
            result = bench.attempt(Plan.of(seed, number))
            results.append(result)
            print(f"{number} {result.plan} ({result.hits} of {len(result.plan.moments)} hit, {result.seconds:.0f} s): "
                  f"{'the same' if not result.differences else f'{len(result.differences)} differences'}", flush=True)  # fmt: skip
            for one in result.differences:
                print(f"    {one[:400]}", flush=True)
            kept.write(json.dumps({"seed": seed, "number": number, "plan": str(result.plan), "differences": result.differences}) + "\n")
            kept.flush()
    print_kills(seed, results)
    return int(any(result.differences for result in results))


def print_kills(seed: int, results: list[Result]) -> None:
    hit = [result for result in results if result.hits]
    kinds, commands = Counter(result.plan.kind for result in hit), Counter(result.plan.command for result in results)
    print(f"\n| seed {seed} | tries |\n| --- | --- |")
    print(f"| tries ({', '.join(f'{count} {name}' for name, count in commands.items())}) | {len(results)} |")
    print(f"| in which a kill hit a live process ({', '.join(f'{count} {name}' for name, count in kinds.items())}) | {len(hit)} |")
    print(f"| of them twice in a row | {sum(result.hits > 1 for result in hit)} |")
    print(f"| of them with a shared store, with INSPO_BATCHED_SEEDS | {sum(result.plan.store for result in hit)}, "
          f"{sum(bool(result.plan.batched) for result in hit)} |")  # fmt: skip
    print(f"| everything the same as undisturbed | {sum(not result.differences for result in results)} |")
    rest = {result.plan.number: list(result.differences) for result in results}
    for name, fits in CLASSES.items():
        numbers = [number for number, said in rest.items() if any(fits(one) for one in said)]
        rest = {number: [one for one in said if not fits(one)] for number, said in rest.items()}
        print(f"| {name}{f' (numbers {chr(44).join(map(str, numbers))})' if numbers else ''} | {len(numbers)} |")
