"""Follows one stage and its seeds, and records them as MLflow runs, never in the stage's way."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from inspo_core.config.learners import DEFAULT, label
from inspo_core.errors import warn
from inspo_core.evaluations import BestPolicy
from inspo_core.files import file_hash
from inspo_core.project import project_root
from inspo_core.tracking.courier import Courier
from inspo_core.tracking.description import (
    StageRun,
    common_tags,
    dataset_record,
    experiment_record,
    flat,
    key_of,
    pipeline_record,
    texts,
)
from inspo_core.tracking.handover import leave
from inspo_core.tracking.journal import Journal, Tail
from inspo_core.tracking.mlflow.delivery import Delivery, patience
from inspo_core.tracking.mlflow.model import ARCHITECTURE, PARAMETERS
from inspo_core.tracking.mlflow.registry import registered_name
from inspo_core.tracking.mlflow.server import Refused, Unreachable, reason

DELIVER_COMMAND = "python -m inspo_core.tracking deliver"


class StageTracker:
    """Records a stage as an MLflow run under its pipeline's run, and each of its seeds as a run under the stage's.

    Everything is written to ``outbox/`` first and delivered to MLflow from there every few seconds, by a thread. What cannot be delivered
    stays there for a later stage, or for ``python -m inspo_core.tracking deliver``; the stage itself goes on.

    As a context manager it ends the run, and the runs of unfinished seeds, as FINISHED, as FAILED after an exception, or as KILLED
    after what is no error (KeyboardInterrupt, SystemExit).
    """

    def __init__(self, run: StageRun):
        """Nothing is written before ``with``."""
        patience()  # a wrong value is better said now than after the stage's work
        self._experiment = experiment_record(run.experiment)
        identity = {"stage": run.stage, "dataset": run.dataset, "algorithm": run.algorithm, "variant": run.variant}
        self._identity = {name: value for name, value in identity.items() if value}
        self._params, self._fingerprint, self._tags = run.params, run.fingerprint, run.tags
        self._inputs = {f"input_{name}": digest[:16] for name, digest in run.inputs.items()}
        self._data = run.data and dataset_record(run.dataset or run.stage, run.data, run.inputs)
        self._pipeline = pipeline_record(self._experiment, run.pipeline)
        self._key = key_of(self._pipeline.get("key") or self._pipeline["run_id"], self._identity, run.fingerprint)
        self._outbox = project_root() / "outbox"
        self._delivery = Delivery(warn)
        self._seeds: dict[int, _Seed] = {}
        self._ended: list[Journal] = []
        self._courier = Courier(self._deliver)
        self._begun = self._outbox / f".begun-{self._key}"
        self.was_cut_off = self._begun.exists()  # an earlier process began this stage, and did not record that it ended well
        self._outbox_sent = self._troubled = self._unwritable = self._given_up = False

    def __enter__(self) -> "StageTracker":
        self._journal = self._begin(self._key, self._title(self._identity["stage"]), self._tags, self._fingerprint, self._params)
        with suppress(OSError):
            self._outbox.mkdir(exist_ok=True)
            self._begun.touch()
        self._courier.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status = "FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED"
        for seed in list(self._seeds):
            self._end_seed(seed, "KILLED" if status == "FINISHED" else status)
        self._journal.append({"op": "end", "time": _now(), "status": status})
        if status == "FINISHED":
            with suppress(OSError):  # then the next process repeats the record
                self._begun.unlink()
        self._ended.append(self._journal)
        if not self._courier.finish():
            self._given_up = True  # the thread may still wait for a server
            self._leave()
        for journal in self._ended:
            journal.close()

    def _leave(self) -> None:
        """Hand what is not delivered to the shared store, which outlives this machine's disk."""
        try:
            if place := leave(list(self._ended)):
                self._ended = []
                warn(f"what MLflow has not got is left in {place} and delivered by: python -m components.finish, or {DELIVER_COMMAND}")
        except Exception as error:  # each kind of store fails with errors of its own
            warn(f"what MLflow has not got stays in {self._outbox}, since the shared store does not take it ({reason(error)})")

    def seed_started(self, seed: int, fingerprint: str, params: dict[str, Any], metrics_file: Path, *, model: str | None = None) -> None:
        """Open the run of ``seed``; ``metrics_file`` is followed as it grows by lines ``{"step": int, "<metric>": float, ...}``.

        ``model``: fingerprint of the training run whose policy this run uses; final metrics then appear on that model's page too.
        """
        stage = self._identity["stage"]
        name = self._title(f"seed {seed}", "" if stage == "train" else stage)
        identity = self._identity | {"seed": str(seed), "fingerprint": fingerprint}
        with self._despite_the_disk():
            journal = self._begin(key_of(self._key, seed, fingerprint), name, {"seed": str(seed)}, fingerprint, params, model, "seed")
            self._seeds[seed] = _Seed(journal, metrics_file, flat(params), identity)

    def catch_up(self) -> None:
        """Instead of ``with``: deliver what an earlier process has recorded of this stage, and could not deliver."""
        if (self._outbox / self._folder(self._title(self._identity["stage"]), self._key)).exists():
            try:
                self._delivery.send_outbox(self._outbox)
            except Unreachable as error:
                self._warn_of_store(error)

    def poll(self) -> None:
        """Read new lines of all running seeds. Call it about once a second."""
        for seed in self._seeds.values():
            seed.read()

    def deliver(self) -> bool:
        """Have MLflow told now all that was read and recorded; whether it was."""
        return self._courier.deliver()

    def seed_finished(self, seed: int, status: str, final: dict[str, float], artifacts: list[Path], policy: Path | None) -> None:
        """Close the run of ``seed`` as FINISHED, FAILED or KILLED.

        ``final``: metrics recorded once, as ``final/<name>``. ``artifacts``: files or folders. ``policy``: the folder with
        ``policy.safetensors`` and ``policy.json``, recorded as an MLflow model.
        """
        if seed not in self._seeds:
            return  # the disk did not take its beginning
        running = self._seeds[seed]
        running.read()
        self._keep(running.journal, artifacts)
        if policy:
            with self._despite_the_disk():
                running.keep_policy(policy, f"{self._title()} seed {seed}".replace(" ", "-"))
        _append_final(running.journal, final)
        self._end_seed(seed, status)

    def log_final(self, metrics: dict[str, float]) -> None:
        """Record metrics of the stage as a whole, once, as ``final/<name>``."""
        _append_final(self._journal, metrics)

    def log_artifacts(self, paths: list[Path]) -> None:
        """Record files or folders of the stage as a whole."""
        self._keep(self._journal, paths)

    def log_algorithm(self, algorithm: str, variant: str, params: dict[str, Any], metrics: dict[str, float]) -> None:
        """Record the results of an algorithm as a run of its own beside the pipeline's, so that MLflow's first page compares them.

        The chart view makes a section of the metrics that share what is before a slash.
        """
        name = f"{label(algorithm, variant)} {self._pipeline_name()[:7]}"
        key, tags = key_of(self._key, algorithm, variant), {"algorithm": algorithm, "variant": variant}
        with self._despite_the_disk():
            journal = self._begin(key, name, tags, self._fingerprint, params, level="algorithm")
            final = {"op": "final", "time": _now(), "step": 0, "values": metrics}
            journal.append(final, {"op": "end", "time": _now(), "status": "FINISHED"})
            self._ended.append(journal)

    def register_models(self, choices: list[BestPolicy]) -> None:
        """Register the best policy of each dataset, with the alias ``best``; a policy that is registered already gets no new version."""
        for choice in choices:
            name = registered_name(str(self._experiment["name"]), choice.dataset)
            self._journal.append({"op": "register", "time": _now(), "choice": asdict(choice) | {"name": name}})

    def _title(self, *before: str) -> str:
        # MLflow's narrow column cuts a name's end off, and has the dataset in the column beside it.
        return " ".join(part for part in [*before, _learner(self._identity), self._identity.get("dataset")] if part)

    def _pipeline_name(self) -> str:
        return self._pipeline["tags"]["pipeline"] if "key" in self._pipeline else self._pipeline["run_id"]

    def _begin(
        self,
        key: str,
        name: str,
        tags: Mapping[str, str],
        fingerprint: str,
        params: Mapping[str, Any],
        model: str | None = None,
        level: str = "stage",
    ) -> Journal:
        all_tags = self._identity | dict(tags) | {"level": level, "fingerprint": fingerprint} | self._inputs | common_tags()
        if learner := _learner(all_tags):
            all_tags["learner"] = learner
        all_tags["mlflow.source.name"] = f"components.{self._identity['stage']}"
        all_tags["pipeline"] = self._pipeline_name()
        journal = self._open(self._folder(name, key))
        journal.append(
            {
                "op": "begin",
                "time": _now(),
                "key": key,
                "name": name,
                "experiment": self._experiment,
                "pipeline": self._pipeline if level == "stage" else None,
                "stage_key": self._key if level == "seed" else None,
                "shared": level == "stage",  # other processes may run other seeds of the same stage
                "tags": texts(all_tags),
                "params": flat(params),
                "dataset": self._data,
                "model": model,
            }
        )
        return journal

    @staticmethod
    def _folder(name: str, key: str) -> str:
        return f"{name.replace(' ', '-')}-{key}"

    def _open(self, name: str) -> Journal:
        with suppress(OSError):  # another user's, perhaps
            if journal := Journal.open(self._outbox / name):
                return journal
        try:
            return self._own_journal(f"{name}-{os.getpid()}")
        except OSError as error:
            unwritable, self._outbox = self._outbox, Path(tempfile.mkdtemp(prefix="inspo-outbox-"))
            warn(f"{unwritable} cannot be written ({error.strerror}), so what MLflow does not take now goes to {self._outbox}")
            return self._own_journal(name)

    def _own_journal(self, name: str) -> Journal:
        """One under a name that no other process uses."""
        journal = Journal.open(self._outbox / name)
        assert journal is not None
        return journal

    def _end_seed(self, seed: int, status: str) -> None:
        running = self._seeds.pop(seed)
        running.read()
        running.journal.append({"op": "end", "time": _now(), "status": status})
        self._ended.append(running.journal)

    def _deliver(self) -> bool:
        """Send what is new; where the store is out of reach, say so once, try again later, and return False."""
        try:
            running, ended = [seed.journal for seed in list(self._seeds.values())], list(self._ended)
            for journal in [self._journal, *running, *ended]:
                journal.flush()
            self._delivery.send(self._journal, end=False)
            if not self._outbox_sent:  # in the order of what happened: runs may refer to those that wait there
                self._delivery.send_outbox(self._outbox)
                self._delivery.reap(self._experiment)
                self._outbox_sent = True
            for journal in running:
                self._accepted(journal)
            for journal in ended:  # the stage's own comes last
                if self._accepted(journal):
                    self._ended.remove(journal)
                    journal.remove()
            return True
        except Unreachable as error:
            self._warn_of_store(error)
            return False
        except OSError as error:
            if not self._given_up:
                self._warn_of_disk(error)
            return False

    def _accepted(self, journal: Journal) -> bool:
        """Send it; False where MLflow refuses this one, which holds no others back."""
        try:
            self._delivery.send(journal)
        except Refused as error:
            self._delivery.warn_once(f"{journal.folder.name} is not delivered ({error}), so it is left as it is")
            return False
        return True

    def _warn_of_store(self, error: Unreachable) -> None:
        if not self._troubled and not self._given_up:
            self._troubled = True
            warn(
                f"MLflow at {self._delivery.place} takes no records now ({error}); the stage goes on, they are kept in {self._outbox} "
                f"and delivered by the next stage or by: {DELIVER_COMMAND}"
            )

    def _keep(self, journal: Journal, paths: list[Path]) -> None:
        for path in paths:
            if path.exists():
                with self._despite_the_disk():
                    journal.append({"op": "artifact", "time": _now(), "name": journal.keep(path, path.name)})
            else:
                warn(f"{path} is missing, so MLflow goes without it")

    @contextmanager
    def _despite_the_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._warn_of_disk(error)

    def _warn_of_disk(self, error: OSError) -> None:
        if not self._unwritable:
            self._unwritable = True
            why = error.args[0][0][2] if isinstance(error, shutil.Error) else reason(error)  # a folder's copy lists every file
            warn(f"{self._outbox} does not take all records ({why}); the stage goes on, some may be missing in MLflow")


class _Seed:
    """A running seed's journal, and how much of its metrics is in it."""

    def __init__(self, journal: Journal, metrics_file: Path, params: dict[str, str], identity: dict[str, str]):
        self.journal, self._tail, self._params, self._identity = journal, Tail(metrics_file), params, identity
        # A seed that goes on after a stop repeats the lines since its checkpoint.
        points = (operation for operation, _ in journal.operations() if operation["op"] == "points")
        self._seen = {(name, point["step"]) for point in points for name in point["values"]}
        self.step = max((step for _, step in self._seen), default=0)

    def read(self) -> None:
        """Move new lines of the metrics file into the journal; a point's time is when it was read."""
        points = []
        for line in self._tail.read():
            step = line.get("step")
            values = {
                name: float(value)
                for name, value in line.items()
                if name != "step" and isinstance(value, int | float) and (name, step) not in self._seen
            }
            if isinstance(step, int) and values:
                self._seen.update((name, step) for name in values)
                self.step = max(self.step, step)
                points.append({"op": "points", "time": _now(), "step": step, "values": values})
        self.journal.append(*points)

    def keep_policy(self, policy: Path, name: str) -> None:
        """Record the policy as a model."""
        for file in (ARCHITECTURE, PARAMETERS):
            self.journal.keep(policy / file, f".policy/{file}")
        tags = texts(self._identity) | {"policy": file_hash(policy / PARAMETERS)}
        self.journal.append(
            {"op": "model", "time": _now(), "folder": ".policy", "name": name, "tags": tags, "params": self._params, "step": self.step}
        )


def _learner(tags: dict[str, str]) -> str | None:
    """The algorithm's or variant's name in the parameters."""
    return label(tags["algorithm"], tags.get("variant", DEFAULT)) if "algorithm" in tags else None


def _append_final(journal: Journal, metrics: dict[str, float]) -> None:
    values = {f"final/{name}": float(value) for name, value in metrics.items() if name != "step" and isinstance(value, int | float)}
    if values:
        journal.append({"op": "final", "time": _now(), "step": 0, "values": values})


def _now() -> int:
    return time.time_ns() // 1_000_000
