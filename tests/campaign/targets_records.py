"""Mutated records on their way: the outbox, a benchmark's plan and task records, variables of the environment."""

import json
import shutil
from pathlib import Path

from hypothesis import strategies as st

import components.report.__main__ as report
import components.train.__main__ as train
from inspo_core.running.shared_store import SharedStore
from inspo_core.tracking.__main__ import main as deliver
from inspo_core.tracking.mlflow.server import connect
from tests.campaign.inputs import ESCAPED, Case, Target, as_command
from tests.campaign.mutations import changed, dumped_json
from tests.campaign.sentences import ways_to_say
from tests.campaign.targets_runs import ALGORITHM, DATASET, SEEDS, TRAIN, make_runs, record_cases, seeds_here, unlike_report
from tests.lab import contents
from tests.tracking.helpers import random_policy, tracker, write_metrics

VICTIM, OTHER = "xor_b", "xor_a"
STATE = {
    "store": "here/mlflow.db",
    "run_id": "0" * 32,
    "experiment_id": "1",
    "position": 100,
    "is_stage": False,
    "pipeline_run_id": None,
    "found": False,
    "dataset": {"dataset_name": VICTIM, "dataset_digest": "01234567"},
}


class OutboxTarget(Target):
    """One run's journal, state or kept file is changed; the records of the others are to arrive whatever it holds."""

    name = "outbox"
    refusal_status = 1

    def prepare(self, place: Path) -> None:
        with as_command(place, {}, []):
            for dataset in (VICTIM, OTHER):
                with tracker(dataset=dataset) as stage:
                    stage.seed_started(0, "print-0", {"train": {"alpha": 0.1}}, Path(f"{dataset}.jsonl"))
                    write_metrics(Path(f"{dataset}.jsonl"), range(1, 6))
                    stage.poll()
                    Path("final.json").write_text('{"return": 1.0}')
                    random_policy(Path("policy"))
                    stage.seed_finished(0, "FINISHED", {"return": 1.0}, [Path("final.json")], Path("policy"))
        self._store(place)

    def _store(self, place: Path) -> Path:
        database = place.parent / f"{place.name}-store" / "mlflow.db"
        if not database.exists():
            database.parent.mkdir()
            connect(f"sqlite:///{database}")
        return database

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        self._database = self._store(place)
        self.environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{self._database}"}
        files = [name for name in contents(place) if name.startswith("outbox/") and VICTIM in name and not name.endswith(".lock")]
        places = sorted({name.split("/")[1] for name in files})
        states = changed({**STATE, "store": str(self._database)}).flatmap(
            lambda found: st.sampled_from(places).map(
                lambda folder: Case(
                    f"{folder}/state.json: {'; '.join(map(str, found[1]))}", {f"outbox/{folder}/state.json": dumped_json(found[0])}
                )
            )
        )
        names = st.sampled_from(
            ["/etc/hostname", "../../../params.yaml", "../journal.jsonl", "", ".", "nowhere.json", "a\0b", "x" * 300]
        ).map(lambda name: self._with_name(place, files, name))
        journals = record_cases(place, [name for name in files if name.endswith("journal.jsonl")])
        return st.one_of(journals, journals, journals, record_cases(place, files), states, names).map(self._unnamed)

    def _with_name(self, place: Path, files: list[str], name: str) -> Case:
        (journal,) = [file for file in files if file.endswith("journal.jsonl") and "seed" in file]
        lines = [json.loads(line) for line in (place / journal).read_text().splitlines()]
        lines = [line | {"name": name} if line["op"] == "artifact" else line for line in lines]
        return Case(f"artifact named {name[:40]!r}", {journal: "".join(json.dumps(line) + "\n" for line in lines).encode()})

    def _unnamed(self, case: Case) -> Case:
        (name,) = case.files
        case.named, case.fields, case.found = (name.split("/")[1],), (), ()
        return case

    def call(self, case: Case) -> None:
        if status := deliver(["deliver"]):
            raise SystemExit(status)

    def check(self, case: Case, place: Path, said: str) -> str | None:
        return None

    def check_always(self, case: Case, place: Path) -> str | None:
        if kept := [path.name for path in place.glob(f"outbox/*{OTHER}*")]:
            return f"{len(kept)} other runs were not delivered"
        artifacts = [path for path in self._database.parent.rglob("*") if path.name in ("hostname", "params.yaml")]
        return "a file from outside the outbox was sent" if artifacts else None


KEYS = {"behavior": "behavior-key", "train": "train-key", "evaluate": "evaluate-key"}
PLAN = [
    {
        "dataset": DATASET,
        "seeds": list(SEEDS),
        "ingest": "ingest-key",
        "behavior": KEYS["behavior"],
        "runs": [{"algorithm": ALGORITHM, "seeds": list(SEEDS), "train": KEYS["train"], "evaluate": KEYS["evaluate"]}],
    }
]


class _Planned(Target):
    environment = {"INSPO_STORE": "store"}
    arguments = ("--plan", json.dumps(PLAN), "--out", "reports")

    def prepare(self, place: Path) -> None:
        make_runs(place)
        store, made = SharedStore(str(place / "store")), {}
        for stage in ("train", "evaluate"):
            for seed in SEEDS:
                folder = place / stage / DATASET / ALGORITHM / f"seed_{seed}"
                made[stage, seed] = json.loads((folder / "run.json").read_text())["fingerprint"]
                store.keep(stage, made[stage, seed], folder)
        for stage in ("behavior", "train", "evaluate"):
            of_seeds = {str(seed): made.get((stage, seed), "none") for seed in SEEDS}
            store.write_record(KEYS[stage], {"seeds": of_seeds, "failures": {}})

    def watched(self) -> tuple[str, ...]:
        return ("reports", "train", "evaluate")

    def call(self, case: Case) -> None:
        report.main()

    def check(self, case: Case, place: Path, said: str) -> str | None:
        found = json.loads((place / "reports/results.json").read_text())
        failed = {(dataset, name, seed) for dataset, name, seed, _ in found["failures"]}
        (cell,) = found["cells"]
        expected = {seed for seed in SEEDS if (DATASET, ALGORITHM, seed) not in failed}
        if set(cell["seeds"]) != expected:
            return f"the report has the seeds {cell['seeds']}, and says that others failed: {sorted(failed)}"
        return unlike_report(place, place)


class PlanTarget(_Planned):
    name = "plan"

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        def case(text: str, what: str, fields: tuple[str, ...] = (), found: tuple[str, ...] = ()) -> Case:
            return Case(
                f"--plan: {what}", arguments=["--plan", text, "--out", "reports"], named=("--plan", "plan"), fields=fields, found=found
            )

        trees = changed(PLAN, 3).map(
            lambda found: case(
                json.dumps(found[0]),
                "; ".join(map(str, found[1])),
                sum((one.names for one in found[1]), ()),
                sum((ways_to_say(value) for one in found[1] if one.what != "remove" for value in (one.now, one.where[-1])), ()),
            )
        )
        odd_names = st.sampled_from([str(ESCAPED), "../../../escaped", "../escaped", "", ".", "a/b", "a\0b", "x" * 300, "a\nb"])
        named = st.tuples(st.sampled_from(["dataset", "algorithm", "train", "evaluate", "behavior"]), odd_names).map(
            lambda pair: case(
                json.dumps(
                    [PLAN[0] | {pair[0]: pair[1]}]
                    if pair[0] in PLAN[0]
                    else [PLAN[0] | {"runs": [PLAN[0]["runs"][0] | {pair[0]: pair[1]}]}]
                ),
                f"{pair[0]} is {pair[1][:40]!r}",
                (pair[0],),
                ways_to_say(pair[1]),
            )
        )
        texts = st.sampled_from(["", "[", "{}", "5", "null", "[[]]", "[" * 3000, '"x"', "[null]", "[{}]", "NaN", "[1e999]"]).map(
            lambda text: case(text, text[:40])
        )
        return st.one_of(trees, trees, trees, named, texts)


class TaskRecordsTarget(_Planned):
    name = "task records"

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        return record_cases(place, [f"store/tasks/{key}.json" for key in KEYS.values()]).map(self._or_silent)

    def _or_silent(self, case: Case) -> Case:
        """A record that does not speak of a seed, or is not there, says that its task ended without a word."""
        silent = ("ended without a word",)
        case.named, case.fields, case.found = (part and part + silent for part in (case.named, case.fields, case.found))
        return case


VARIABLES: dict[str, list[str]] = {
    **dict.fromkeys(
        ["INSPO_WORKERS", "INSPO_BATCHED_SEEDS", "INSPO_CHECKPOINT_EVERY"],
        ["1", "2", "0", "-1", "", " ", "1.5", "x", "1e3", "01", "²", "٣", "9" * 30, "9" * 5000, "NaN", "1\n2", "0x10", "true", "[1]"],
    ),
    "INSPO_CHECKPOINTS": ["there", "there/deeper", "", ".", "params.yaml", "params.yaml/x", "/dev/null/x", "x" * 300, "ä",
                          "a b", "%20", "?", "a\nb"],
    "INSPO_STORE": ["there", "there/deeper", "", ".", "params.yaml", "/dev/null/x", "x" * 300, "ä", "a b", "%20", "a\nb", "x://y",
                    "s3:", "://", "file:", "memory://x", "http://[", "file:///dev/null/x", "zip://x"],
    "INSPO_DELIVERY_PATIENCE": ["0", "", "0.1", "-1", "x", "nan", "inf", "1e400", "0,5", " 0", "1 s", "-0", "٣x", "x" * 700],
    "INSPO_IMAGE": ["", "x", "x" * 700, "a\nb", "ä", "http://user:password@host/x:latest"],
    "INSPO_GIT_COMMIT": ["", "x", "x" * 6000, "a\nb", "ä"],
    "MLFLOW_TRACKING_URI": ["", "x", "sqlite:///", "sqlite:////dev/null/x.db", "sqlite:///params.yaml", "http://127.0.0.1:9", "http://",
                            "http://[", "x://y", "sqlite:///a%20b.db", "sqlite:///a?b.db", "postgresql://", "a\nb", "://", "x" * 700, "file:///dev/null/x"],
    "MLFLOW_EXPERIMENT_NAME": ["", "x", "x" * 700, "a/b", "a\nb", "ä", "'; drop"],
    "MLFLOW_EXPERIMENT_ID": ["", "x", "999999", "-1", "a\nb"],
    "MLFLOW_RUN_ID": ["", "x", "0" * 32, "a\nb", "x" * 700],
    "DVC_EXP_NAME": ["", "x", "x" * 6000, "a\nb", "ä"],
}  # fmt: skip


class EnvironmentTarget(Target):
    """Variables of docs/vocabulary.md that a stage reads: none may change a result."""

    name = "environment"
    arguments = TRAIN

    def watched(self) -> tuple[str, ...]:
        return ("train", "data", "behavior")

    def prepare(self, place: Path) -> None:
        make_runs(place)
        shutil.move(place / "train", place / "expected")

    def cases(self, place: Path) -> st.SearchStrategy[Case]:
        single = st.sampled_from(sorted(VARIABLES)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(VARIABLES[name])))

        def case(chosen: list[tuple[str, str]]) -> Case:
            values = dict(chosen)
            found = sum((ways_to_say(value) for value in values.values()), ())
            return Case(f"{values}"[:300], environment=values, named=tuple(values), found=tuple(part for part in found if part != "str"))

        return st.lists(single, min_size=1, max_size=2, unique_by=lambda pair: pair[0]).map(case)

    def call(self, case: Case) -> None:
        with seeds_here:
            train.main()

    def check(self, case: Case, place: Path, said: str) -> str | None:
        if contents(place / "train") != contents(place / "expected"):
            return "another result"
        if (store := case.environment.get("INSPO_STORE", "")).startswith(("x:", "s3:", "memory:", "zip:", ":")) and (place / "x:").exists():
            return f"INSPO_STORE {store!r}, an address of no known kind, was taken as a folder"
        lines = [line for line in said.splitlines() if not line.startswith("warning: ") or len(line) > 600]
        return f"more than short warnings: {lines[0][:80]}" if lines else None
