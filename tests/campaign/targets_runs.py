"""Mutated checkpoints and records of runs. Seeds run in this process; all else is as the commands do it."""

import io
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hypothesis import strategies as st

import components.behavior.__main__ as behavior
import components.evaluate.__main__ as evaluate
import components.report.__main__ as report
import components.train.__main__ as train
from inspo_core.datasets import write_dataset
from inspo_core.datasets.build import SETS
from inspo_core.errors import InspoError
from inspo_core.running import loop, machine
from inspo_core.running.processes import SeedJob, SeedsFailed
from tests.campaign.inputs import Case, Target, as_command
from tests.campaign.mutations import ODD, at, bytes_changed, json_changed, places
from tests.campaign.reading import dvc_reads, json_lines
from tests.campaign.sentences import ways_to_say
from tests.campaign.targets_config import ROOT, dumped
from tests.lab import contents

DATASET, ALGORITHM, SEEDS = "xor_c", "bc", (0, 1)
PARAMETERS: dict[str, dict[str, Any]] = {
    "experiment": {"datasets": [DATASET], "algorithms": [ALGORITHM], "seeds": list(SEEDS)},
    "behavior": {"device": "cpu", "hidden": [8], "batch_size": 32, "steps": 4, "check_every": 2},
    "train": {
        "device": "cpu",
        "iterations": 10,
        "evaluate_every": 2,
        "evaluate_episodes": 4,
        "hidden": [8],
        "batch_size": 16,
        "critic_steps": 1,
        "inspo": {"policy_steps": 1, "pool_size": 64, "refit_steps": 1},
        "bc": {"policy_steps": 2},
    },
    "evaluate": {"episodes": 4},
    "report": {"bootstrap": 50, "figures": []},
}
OF_DATASET = ("--dataset", DATASET, "--seeds", "0,1")
OF_RUNS = (*OF_DATASET, "--algorithm", ALGORITHM)
BEHAVIOR = (*OF_DATASET, "--data", f"data/{DATASET}", "--out", "behavior")
TRAIN = (*OF_RUNS, "--data", f"data/{DATASET}", "--behavior", "behavior", "--out", f"train/{DATASET}/{ALGORITHM}")
EVALUATE = (*OF_RUNS, "--train", f"train/{DATASET}/{ALGORITHM}", "--out", f"evaluate/{DATASET}/{ALGORITHM}")
REPORT = ("--evaluations", "evaluate", "--trainings", "train", "--out", "reports")


def run_seeds_here(jobs: Sequence[SeedJob], *_: object, **__: object) -> None:
    """What ``run_seeds`` does, one seed after the other in this process, where an error that is no sentence is not hidden."""
    machine.workers(), machine.batched_seeds()
    reasons = {}
    for job in jobs:
        try:
            job.run()
        except InspoError as error:
            reasons[job.seed] = str(error)
    if reasons:
        raise SeedsFailed("; ".join(f"seed {seed}: {reason}" for seed, reason in reasons.items()), reasons)


# No process is forked, so none need be made ready: it would keep the standard error of the first try.
seeds_here = patch.multiple("inspo_core.stages.seeded", run_seeds=run_seeds_here, soft_stop=nullcontext)


def make_runs(place: Path) -> None:
    """Parameters, data, and the runs of all stages but the report."""
    params = dvc_reads(ROOT / "params.yaml")
    for section, values in PARAMETERS.items():
        for key, value in values.items():
            params[section][key] = params[section][key] | value if isinstance(value, dict) else value
    (place / "params.yaml").write_bytes(dumped(params))
    write_dataset(SETS[DATASET]().episodes(0, 60), place / "data" / DATASET)
    torch.set_num_threads(1)
    for stage, arguments in ((behavior, BEHAVIOR), (train, TRAIN), (evaluate, EVALUATE)):
        with as_command(place, {}, arguments), seeds_here:
            stage.main()


# What else a sentence about a field may speak of.
AKIN = {"config": ("parameters",), "env": ("game",), "fingerprint": ("training",), "train_fingerprint": ("training",)}


def _with_akin(names: tuple[str, ...]) -> tuple[str, ...]:
    return names + sum((AKIN.get(name, ()) for name in names), ())


def record_cases(place: Path, names: Sequence[str]) -> st.SearchStrategy[Case]:
    """Changes to JSON files, to files of JSON lines, and to others."""

    def case(name: str) -> st.SearchStrategy[Case]:
        content = (place / name).read_bytes()
        short = Path(name).name
        named = (name, short, str(Path(name).parent))
        missing = st.just(Case(f"{name} is missing", {name: None}, named=named))
        if name.endswith(".json"):
            changed = json_changed(content).map(
                lambda found: Case(
                    f"{name}: {found[1]}",
                    {name: found[0]},
                    named=named,
                    fields=_with_akin(found[2]),
                    found=sum(map(ways_to_say, found[3]), ()),
                )
            )
        elif name.endswith(".jsonl"):
            lines = content.split(b"\n")

            def of_line(number: int) -> st.SearchStrategy[Case]:
                def with_line(found: tuple[bytes, str, tuple[str, ...], tuple[Any, ...]]) -> Case:
                    try:
                        line = json.dumps(json.loads(found[0])).encode()
                    except (ValueError, RecursionError):
                        line = found[0]
                    changed_lines = b"\n".join([*lines[:number], line, *lines[number + 1 :]])
                    return Case(f"{name}, line {number + 1}: {found[1]}", {name: changed_lines}, named=named)

                return json_changed(lines[number] or b"{}").map(with_line)

            texts = bytes_changed(content).map(lambda found: Case(f"{name}: {found[1]}", {name: found[0]}, named=named))
            changed = st.one_of(st.integers(0, len(lines) - 1).flatmap(of_line), texts)
        else:
            changed = bytes_changed(content).map(lambda found: Case(f"{name}: {found[1]}", {name: found[0]}, named=named))
        return st.one_of(*[changed] * 9, missing)

    return st.sampled_from(list(names)).flatmap(case)


class CheckpointsTarget(Target):
    """An unfinished training goes on; every accepted checkpoint is to give the bytes of a training that was never stopped."""

    name = "checkpoints"
    environment = {"INSPO_CHECKPOINT_EVERY": "3"}
    arguments = TRAIN
    at_iteration = 8

    def prepare(self, place: Path) -> None:
        make_runs(place)
        (place / "train").rename(place / "expected")
        lines, write_line = 0, loop.canonical_json

        class Cut(BaseException):
            pass

        def cut(line: dict[str, Any]) -> str:
            nonlocal lines
            lines += 1
            if lines == self.at_iteration:
                raise Cut
            return write_line(line)

        with as_command(place, self.environment, [*TRAIN, "--seeds", "0"]), seeds_here, patch.object(loop, "canonical_json", cut):
            try:
                train.main()
            except Cut:
                pass
        assert list(place.glob("checkpoints/*/*.pt"))

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        names = [
            path.relative_to(place).as_posix() for path in sorted(place.glob("checkpoints/*/*")) if path.is_file() and path.stat().st_size
        ]
        records = record_cases(place, names)
        states = [_states(name, (place / name).read_bytes()) for name in names if name.endswith(".pt")]
        return st.one_of(records, *states)

    def call(self, case: Case) -> None:
        with seeds_here:
            train.main()

    def check(self, case: Case, place: Path, said: str) -> str | None:
        same = contents(place / "train") == contents(place / "expected")
        return None if same else "the training that went on gives other bytes"


@st.composite
def _states(draw: st.DrawFn, name: str, content: bytes) -> Case:
    """A checkpoint that is whole, with right checksums, and holds something else."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    there = list(places(state))
    where = draw(st.sampled_from([place for place in there if len(place) <= draw(st.sampled_from([1, 2, 9]))]))
    parent, key = at(state, where[:-1]), where[-1]
    value = parent[key]
    what = draw(
        st.sampled_from(
            ["removed", "odd", "renamed"] + (["shape", "type", "not finite", "zero"] if isinstance(value, torch.Tensor) else [])
        )
    )
    if what == "removed":
        del parent[key]
    elif what == "odd":
        parent[key] = draw(st.sampled_from([odd for odd in ODD if not isinstance(odd, int) or abs(odd) < 2**63]))
        what = f"is {str(parent[key])[:40]!r}"
    elif what == "renamed" and isinstance(parent, dict):
        parent["x"] = parent.pop(key)
    elif what == "shape":
        parent[key] = value.reshape(-1)[:-1] if value.numel() > 1 else torch.zeros(3)
    elif what == "type":
        parent[key] = value.double() if value.dtype != torch.float64 else value.int()
    elif what == "not finite":
        parent[key] = torch.full_like(value, torch.nan) if value.is_floating_point() else value + 1
    elif what == "zero":
        parent[key] = torch.zeros_like(value)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return Case(
        f"{name}: {'.'.join(map(str, where))} {what}", {name: buffer.getvalue()}, named=(name, Path(name).name, str(Path(name).parent))
    )


class TrainingRecordsTarget(Target):
    """What the train stage wrote of a seed, for evaluate."""

    name = "training records"  # of seed 0; seed 1, which is whole, is evaluated all the same
    arguments = (*EVALUATE[:-1], "evaluated")

    def watched(self) -> tuple[str, ...]:
        return ("evaluated/seed_0", "train", "evaluate/")

    def prepare(self, place: Path) -> None:
        make_runs(place)

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        folder = place / "train" / DATASET / ALGORITHM / "seed_0"
        names = sorted(path.name for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
        return record_cases(place, [f"train/{DATASET}/{ALGORITHM}/seed_0/{name}" for name in [*names, "run.json", "policy.json"]])

    def call(self, case: Case) -> None:
        with seeds_here:
            evaluate.main()

    def check(self, case: Case, place: Path, said: str) -> str | None:
        for seed in SEEDS:
            trained = json.loads((place / "train" / DATASET / ALGORITHM / f"seed_{seed}/run.json").read_text())
            evaluated = json.loads((place / f"evaluated/seed_{seed}/run.json").read_text())
            if evaluated["train_fingerprint"] != trained["fingerprint"]:
                return "the evaluation names another training"
            if (place / f"evaluated/seed_{seed}/metrics.json").read_bytes() != (
                place / "evaluate" / DATASET / ALGORITHM / f"seed_{seed}/metrics.json"
            ).read_bytes():
                return "a policy that the training did not write was evaluated as its own"
        return None


class ResultsTarget(Target):
    """What evaluate and train wrote, for the report; and what evaluate finds there when it is called again."""

    name = "results"
    arguments = REPORT

    def prepare(self, place: Path) -> None:
        make_runs(place)

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        seed = f"{DATASET}/{ALGORITHM}/seed_1"
        files = ["evaluate/{}/run.json", "evaluate/{}/metrics.json", "train/{}/run.json", "train/{}/metrics.jsonl"]
        return record_cases(place, [name.format(seed) for name in files])

    def call(self, case: Case) -> None:
        report.main()

    def check(self, case: Case, place: Path, said: str) -> str | None:
        return unlike_report(place, place)


def unlike_report(place: Path, runs: Path) -> str | None:
    """Where the report's results are not what the seeds' files below ``runs`` say."""
    (cell,) = json.loads((place / "reports/results.json").read_text())["cells"]
    for number, seed in enumerate(cell["seeds"]):
        folder = f"{DATASET}/{ALGORITHM}/seed_{seed}"
        metrics = json.loads((runs / "evaluate" / folder / "metrics.json").read_text())
        for name, values in cell["values"].items():
            if name in metrics and (type(metrics[name]) not in (int, float) or float(metrics[name]) != values[number]):
                return f"{name} of a seed is {values[number]}, its file says {metrics[name]!r:.40}"
        lines = [line for line in json_lines(runs / "train" / folder / "metrics.jsonl") if "evaluation/return_greedy" in line]
        curve = {line["step"]: line["evaluation/return_greedy"] for line in lines}
        if {step: point["return_greedy"] for step, point in cell["curves"][number]} != curve:
            return "a curve is not what its file says"
        if [type(step) for step in curve] != [int] * len(curve) or list(curve) != sorted(curve):
            return "a curve's steps are no growing whole numbers"
    return None


class ResumedRecordsTarget(Target):
    """A stage finds its result there already: what is damaged or changed is made anew, byte for byte."""

    name = "finished runs"
    arguments = EVALUATE

    def prepare(self, place: Path) -> None:
        make_runs(place)
        (place / "expected").mkdir()
        for name, content in contents(place / "evaluate").items():
            (place / "expected" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "expected" / name).write_bytes(content)

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        folder = f"evaluate/{DATASET}/{ALGORITHM}"
        return record_cases(
            place, [f"{folder}/seed_0/{name}" for name in ("run.json", "metrics.json", "episodes.csv")] + [f"{folder}/summary.json"]
        )

    def call(self, case: Case) -> None:
        with seeds_here:
            evaluate.main()

    def check(self, case: Case, place: Path, said: str) -> str | None:
        expected, found = contents(place / "expected"), contents(place / "evaluate")
        wrong = [name for name in expected if found.get(name) != expected[name]]
        return f"{wrong[0].split('/')[-1]} was changed and counts as done" if wrong else None
