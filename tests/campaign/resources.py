"""Resource faults: full disks, limits of a process, a tracking database that fails, a clock set back, two commands at once.

Each check runs a real command under the fault, looks at how it ends, takes the fault away, runs the same command again and compares
with an undisturbed run: the same bytes, and all records in MLflow.
"""

import contextlib
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.campaign.kills import COMMANDS, SETTINGS, Bench
from tests.campaign.records import differences, read_records
from tests.campaign.sentences import faults_of
from tests.e2e.clone import Clone
from tests.lab import SECONDS, Done, Lab, contents, leftovers, make_shared

DATASET, ALGORITHM = "xor_c", "bc"
DELIVER = ("inspo_core.tracking", "deliver")
STAGES = ("ingest", "behavior", "train", "evaluate", "report")
EXPERIMENT = ["--set", f'{{"experiment.datasets": ["{DATASET}"], "experiment.algorithms": ["{ALGORITHM}"], "experiment.seeds": [0, 1]}}']


class Skipped(Exception):
    """The machine has not what the check needs; says what."""


class Place:
    """A folder of stages' outputs that an undisturbed run has made, and labs that start from it."""

    def __init__(self, out: Path):
        self.out, self._shared, self._ready = out, out / "shared", out / "undisturbed"
        self._numbers = 0
        if not self._ready.exists():
            shutil.rmtree(self._shared, ignore_errors=True)
            self._shared.mkdir(parents=True)
            make_shared(self._shared)
            lab = Lab(_new(out / "making"), self._shared)
            for stage in STAGES:
                lab.run(*self.command(lab, stage)).succeeded()
            for stage in STAGES:
                shutil.copytree(lab.place / stage, self._ready / stage)

    def lab(self) -> Lab:
        """A new one; the outputs of all stages lie in ``ready`` there."""
        self._numbers += 1
        lab = Lab(_new(self.out / f"lab-{self._numbers}"), self._shared)
        shutil.copytree(self._ready, lab.place / "ready")
        return lab

    def command(self, lab: Lab, stage: str, out: str = "") -> list:
        """A stage's module and arguments; what comes before it lies in ``ready``, or beside it."""
        before = "ready/" if (lab.place / "ready").exists() else ""
        of_runs = ["--dataset", DATASET, "--seeds", "0,1"]
        runs = f"{DATASET}/{ALGORITHM}"
        arguments = {
            "ingest": ["--dataset", DATASET, "--raw", lab.data(DATASET)],
            "behavior": [*of_runs, "--data", f"{before}ingest"],
            "train": [*of_runs, "--algorithm", ALGORITHM, "--data", f"{before}ingest", "--behavior", f"{before}behavior"],
            "evaluate": [*of_runs, "--algorithm", ALGORITHM, "--train", f"{before}train/{runs}"],
            "report": [*EXPERIMENT, "--evaluations", f"{before}evaluate", "--trainings", f"{before}train"],
        }
        places = {"train": f"train/{runs}", "evaluate": f"evaluate/{runs}"}
        return [f"components.{stage}", *arguments[stage], "--out", out or places.get(stage, stage)]

    def expected(self, stage: str) -> dict[str, bytes]:
        folder = self._ready / stage
        return contents(folder / DATASET / ALGORITHM if stage in ("train", "evaluate") else folder)


def _new(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


@contextlib.contextmanager
def small_disk(place: Path, kilobytes: int) -> Iterator[Callable[[str], None]]:
    """A disk of that size at ``place``; what is yielded mounts it with other options."""
    place.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], capture_output=True).returncode:
        raise Skipped("a small disk of its own needs the right to mount one")
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
    finally:
        subprocess.run(["umount", place], check=True)


def ended_well(done: Done, named: tuple[str, ...]) -> list[str]:
    """Faults of an end that is neither success with short warnings nor one sentence."""
    said = "".join(f"{line}\n" for line in done.stderr.splitlines() if "%" not in line)  # without progress
    if done.code:
        return [f"refused, but {fault}: {said[-300:]!r}" for fault in faults_of(said, done.code, named, (), ())]
    lines = [line for line in said.splitlines() if not line.startswith("warning: ") or len(line) > 600]
    return [f"ends with 0, and says more than short warnings: {lines[0][:200]!r}"] if lines else []


def same(place: Place, stage: str, out: Path) -> list[str]:
    found, expected = contents(out), place.expected(stage)
    return [f"{name} is not as undisturbed" for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)][:3]


def again(place: Place, lab: Lab, stage: str, out: Path) -> list[str]:
    """The same command without the fault."""
    done = lab.run(*place.command(lab, stage, str(out)))
    return ([f"the same command without the fault ends with {done.code}: {done.stderr[-200:]!r}"] if done.code else []) + same(
        place, stage, out
    )


def full_disk(place: Place, draw: random.Random, stage: str) -> list[str]:
    lab, size = place.lab(), sum(len(content) for content in place.expected(stage).values())
    kilobytes = max(4, 4 * draw.randint(0, max(1, size // 4096)))
    with small_disk(lab.place / "disk", kilobytes) as mount:
        out = Path("disk/out")
        faults = ended_well(lab.run(*place.command(lab, stage, str(out))), ("disk",))
        faults += [f"left over: {path.name}" for path in leftovers(lab.place)]
        mount("size=64m")
        return faults + again(place, lab, stage, lab.place / out)


def no_room_for_checkpoints(place: Place, draw: random.Random) -> list[str]:
    lab = place.lab()
    with small_disk(lab.place / "checkpoints", 4 * draw.randint(1, 12)) as mount:
        faults = ended_well(lab.run(*place.command(lab, "train", "out")), ("checkpoints",))
        faults += [f"left over: {path.name}" for path in leftovers(lab.place)]
        mount("size=64m")
        return faults + again(place, lab, "train", lab.place / "out")


def no_room_for_records(place: Place, draw: random.Random) -> list[str]:
    """Neither for the outbox nor for MLflow's database, which has a few kilobytes."""
    lab, outside = place.lab(), place.lab()
    command = place.command(outside, "ingest", str(outside.place / "out"))
    lab.track()
    database = (lab.place / "mlflow.db").read_bytes()
    with small_disk(lab.place / "disk", len(database) // 1024 + 4 * draw.randint(1, 30)) as mount:
        home = lab.place
        lab.place = home / "disk"
        shutil.copyfile(home / "params.yaml", lab.place / "params.yaml")
        (lab.place / "mlflow.db").write_bytes(database)
        done = lab.run(*command)
        faults = ended_well(done, ("disk", "out")) + ([f"the stage ends with {done.code}: {done.stderr[-200:]!r}"] if done.code else [])
        faults += same(place, "ingest", outside.place / "out")
        mount("size=64m")
        return faults + delivered(lab)


def delivered(lab: Lab, *, points: int | None = None) -> list[str]:
    """What is wrong when the outbox is delivered and all is to be there."""
    done = lab.run(*DELIVER)
    faults = [f"deliver ends with {done.code}: {done.stderr[-200:]!r}"] if done.code else []
    faults += [f"outbox: {path.name} left" for path in (lab.place / "outbox").glob("*")]
    if lab.statuses() != {"FINISHED"}:
        faults.append(f"runs are {', '.join(sorted(lab.statuses())) or 'missing'}")
    if points is not None and (found := _points(lab)) != points:
        faults.append(f"{found} points in MLflow, expected {points}")
    return faults


def _points(lab: Lab) -> int:
    with contextlib.closing(sqlite3.connect(lab.place / "mlflow.db")) as store:
        return store.execute("select count(*) from metrics").fetchone()[0]


def limited(place: Place, draw: random.Random, kind: int, amount: int, stage: str) -> list[str]:
    """``amount`` of the resource ``kind`` for every process of a stage."""
    lab = place.lab()
    done = lab.run(*place.command(lab, stage, "out"), limit=lambda: resource.setrlimit(kind, (amount, amount)))
    named = ("memory", "files", "out", "checkpoints", "No file", "descriptor")
    faults = ended_well(done, named)
    if done.code:
        faults += [f"left over: {path.name}" for path in leftovers(lab.place)]
    return faults + again(place, lab, stage, lab.place / "out")


def broken_database(place: Place, draw: random.Random, how: str) -> list[str]:
    """MLflow's database cannot be used while a stage runs; afterwards there is a good one again, and everything is delivered."""
    good, lab = place.lab(), place.lab()
    for one in (good, lab):
        one.track()
    good.run(*place.command(good, "train", "out")).succeeded()
    file = lab.place / "mlflow.db"
    kept = file.read_bytes()
    with contextlib.ExitStack() as stack:
        if how == "header":
            file.write_bytes(bytes(100) + kept[100:])
        elif how == "holes":
            damaged = bytearray(kept)
            for _ in range(60):
                start = draw.randrange(len(kept))
                damaged[start : start + 64] = draw.randbytes(len(damaged[start : start + 64]))
            file.write_bytes(damaged)
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "folder":
            file.unlink()
            file.mkdir()
        elif how == "locked":
            held = stack.enter_context(contextlib.closing(sqlite3.connect(file, isolation_level=None)))
            held.execute("begin exclusive")
        elif how == "read-only":
            file.unlink()
            mount = stack.enter_context(small_disk(lab.place / "disk", 8192))
            (lab.place / "disk/mlflow.db").write_bytes(kept)
            mount("ro")
        settings = {"MLFLOW_TRACKING_URI": f"sqlite:///{lab.place}/disk/mlflow.db"} if how == "read-only" else {}
        done = lab.run(*place.command(lab, "train", "out"), **settings)
    faults = ended_well(done, ("mlflow.db",)) + ([f"the stage ends with {done.code}: {done.stderr[-200:]!r}"] if done.code else [])
    faults += same(place, "train", lab.place / "out")
    if how != "locked" and not (how == "empty" and file.stat().st_size):
        if file.is_dir():
            file.rmdir()
        file.write_bytes(kept)
    return faults + delivered(lab, points=_points(good))


def clock_set_back(place: Place, draw: random.Random) -> list[str]:
    """A stage whose clock is days before that of the stage before it."""
    if not shutil.which("faketime"):
        raise Skipped("faketime is not installed")
    lab = place.lab()
    lab.track()
    lab.run(*place.command(lab, "behavior", "models")).succeeded()
    module, *arguments = place.command(lab, "train", "out")
    preload = subprocess.check_output(["faketime", "-f", "-2d", "printenv", "LD_PRELOAD"], text=True).strip()
    done = lab.run(module, *arguments, LD_PRELOAD=preload, FAKETIME=f"-{draw.randint(1, 3)}d")
    faults = ended_well(done, ()) + same(place, "train", lab.place / "out") + delivered(lab)
    with contextlib.closing(sqlite3.connect(lab.place / "mlflow.db")) as store:
        backwards = store.execute("select name from runs where end_time < start_time").fetchall()
    return faults + [f"the run {name} ends before it began" for (name,) in backwards]


def two_at_once(place: Place, draw: random.Random, stage: str) -> list[str]:
    """The same stage twice in one folder."""
    lab, good = place.lab(), place.lab()
    for one in (lab, good):
        one.track()
    good.run(*place.command(good, stage, "out")).succeeded()
    first = lab.start(*place.command(lab, stage, "out"))
    time.sleep(3 * draw.random())
    second = lab.start(*place.command(lab, stage, "out"))
    ends = [Done.of(second), Done.of(first)]
    faults = sum((ended_well(done, ("out", "checkpoints")) for done in ends), [])
    if all(done.code for done in ends):
        faults.append("neither of the two succeeds")
    faults += again(place, lab, stage, lab.place / "out") + [f"left over: {path.name}" for path in leftovers(lab.place)]
    faults += delivered(lab)
    return faults + differences(read_records(good.place / "mlflow.db"), read_records(lab.place / "mlflow.db"))[:5]


def two_clones_one_store(place: Place, draw: random.Random) -> list[str]:
    labs = [place.lab(), place.lab()]
    store = str(labs[0].place.parent / "store")
    shutil.rmtree(store, ignore_errors=True)
    started = []
    for lab in labs:
        started.append(lab.start(*place.command(lab, "train", "out"), INSPO_STORE=store))
        time.sleep(2 * draw.random())
    faults = []
    for lab, process in zip(labs, started):
        done = Done.of(process)
        faults += ended_well(done, ("out", "store")) + ([f"one ends with {done.code}: {done.stderr[-200:]!r}"] if done.code else [])
        faults += same(place, "train", lab.place / "out")
    faults += [f"left over in the store: {path.name}" for path in leftovers(Path(store))]
    return faults + [f"left over in the store: {path.name}" for path in (Path(store) / "checkpoints").rglob("*.*")]


def two_repros(place: Place, draw: random.Random) -> list[str]:
    """``dvc repro`` twice in one clone: DVC refuses one of them, the other is right."""
    bench = Bench(place.out / "kills")
    bench.prepare("dvc repro from train on")
    bench.restore("before dvc repro from train on")
    environment = Clone(bench.place).environment(**SETTINGS)
    started = []
    for _ in range(2):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
        started.append(subprocess.Popen(COMMANDS["dvc repro"], cwd=bench.place, env=environment, **pipes))
        time.sleep(10 * draw.random())
    ends = [process.wait(SECONDS * 2) for process in started]
    faults = [] if 0 in ends else [f"both fail: {ends}"]
    again_ = subprocess.run(COMMANDS["dvc repro"], cwd=bench.place, env=environment, capture_output=True, text=True, timeout=SECONDS * 2)
    faults += [f"dvc repro afterwards ends with {again_.returncode}: {again_.stderr[-200:]!r}"] if again_.returncode else []
    return faults + bench.unlike("dvc repro from train on")


@dataclass(frozen=True)
class Check:
    name: str
    run: Callable[[Place, random.Random], list[str]]


GIGA = 10**9
CHECKS = [
    *[Check(f"disk full: {stage}", partial(full_disk, stage=stage)) for stage in STAGES],
    Check("disk full: checkpoints", no_room_for_checkpoints),
    Check("disk full: records and MLflow's database", no_room_for_records),
    *[
        Check(f"address space of {amount / GIGA} GB: {stage}", partial(limited, kind=resource.RLIMIT_AS, amount=int(amount), stage=stage))
        for amount in (0.3 * GIGA, 0.7 * GIGA, 1.5 * GIGA)
        for stage in ("train", "report")
    ],
    *[
        Check(f"{amount} file descriptors: {stage}", partial(limited, kind=resource.RLIMIT_NOFILE, amount=amount, stage=stage))
        for amount in (12, 20, 32, 64)
        for stage in ("train", "report")
    ],
    *[
        Check(f"MLflow's database: {how}", partial(broken_database, how=how))
        for how in ("header", "holes", "empty", "folder", "locked", "read-only")
    ],
    Check("clock set back", clock_set_back),
    *[Check(f"twice at once in one folder: {stage}", partial(two_at_once, stage=stage)) for stage in STAGES],
    Check("two clones, one store", two_clones_one_store),
    Check("dvc repro twice at once", two_repros),
]


def run_resources(seed: int, count: int, out: Path, only: list[str]) -> int:
    """All checks, or those of ``only``, ``count`` at most; what is random in a check depends on the seed and its name."""
    if unknown := set(only) - {check.name for check in CHECKS}:
        raise SystemExit(f"no such check: {', '.join(sorted(unknown))}; there are: {', '.join(check.name for check in CHECKS)}")
    os.environ["OMP_NUM_THREADS"] = "1"
    place, lines, failed = Place(out / "resources"), [], False
    for check in [check for check in CHECKS if not only or check.name in only][:count]:
        try:
            faults = check.run(place, random.Random(f"{seed}/{check.name}"))
            end = "; ".join(faults) if faults else "as it should"
            failed |= bool(faults)
        except Skipped as reason:
            end = f"skipped: {reason}"
        lines.append(f"| {check.name} | {end[:300]} |")
        print(f"{check.name}: {end}", flush=True)
        for lab in place.out.glob("lab-*"):
            shutil.rmtree(lab, ignore_errors=True)
    print("\n| tried | how it ended |\n| --- | --- |")
    print("\n".join(lines))
    return int(failed)
