"""Delivers journals to the MLflow store: one connection a process, made when the first journal is sent."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspo_core.errors import InspoError
from inspo_core.redaction import shown
from inspo_core.stopping import stop_requested
from inspo_core.tracking.forms import Malformed
from inspo_core.tracking.journal import JOURNAL, Journal
from inspo_core.tracking.mlflow.runs import Runs
from inspo_core.tracking.mlflow.sending import REFUSED, Replay
from inspo_core.tracking.mlflow.server import Refused, Unreachable, as_default, connect, reason, store_lock, tracking_uri
from inspo_core.tracking.process_identity import is_gone

LAST_RETRY_SECONDS = 2.0  # between two attempts at the end of a process


def patience() -> float:
    """INSPO_DELIVERY_PATIENCE: for how many seconds a process that ends waits for a store that is out of reach. Raises InspoError."""
    asked = os.environ.get("INSPO_DELIVERY_PATIENCE") or "0"
    try:
        seconds = float(asked)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise InspoError(f"INSPO_DELIVERY_PATIENCE is {asked!r}, expected for how many seconds to wait for MLflow at the end, from 0")
    return seconds


def patiently(attempt: Callable[[], bool]) -> bool:
    """Repeat ``attempt`` until it succeeds, for :func:`patience` seconds at most, and once where a stop was asked for."""
    deadline = time.monotonic() + patience()
    while not attempt():
        if stop_requested() or time.monotonic() >= deadline:
            return False
        time.sleep(LAST_RETRY_SECONDS)
    return True


class Delivery:
    """This process's way to the MLflow store; importing MLflow and opening the store wait for the first :meth:`send`."""

    def __init__(self, warn: Callable[[str], None]):
        """``warn`` takes a sentence about something that MLflow refuses to hold; it hears each sentence once."""
        self._uri = tracking_uri()
        self.place = shown(self._uri)
        self._warn = warn
        self._warned: set[str] = set()
        self._runs: Runs | None = None
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("MLFLOW_TRACKING_URI"):
            self.warn_once(f"MLFLOW_TRACKING_URI is not set in this pod, so runs are recorded in {self.place}, which ends with the pod")

    def send(self, journal: Journal, *, end: bool = True) -> None:
        """Deliver what the journal holds and the store does not; ``end=False`` leaves the run RUNNING, and registers no model.

        Raises Unreachable, then a later call goes on from there, and Refused of a journal that is not as expected or that MLflow does not
        take.
        """
        state = journal.state
        if state.get("store") == self.place and state["position"] >= journal.size():
            return
        try:
            with self._store() as runs:
                try:
                    Replay(journal, runs, self.place, self.warn_once).send(end=end)
                except Exception as error:
                    if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                        raise
                    runs.forget()  # the store was emptied, or is another one at the same place
                    journal.state = {}
                    Replay(journal, runs, self.place, self.warn_once).send(end=end)
        except Malformed as error:
            raise Refused(f"its journal is malformed: {error}") from error

    def send_outbox(self, outbox: Path) -> tuple[list[str], list[str]]:
        """Deliver and remove the journals that no process is writing; a run whose process is gone ends as KILLED.

        Returns the names of the journals that remain: because their processes live, and because they are not as expected or MLflow refuses
        them, which is a warning. Raises Unreachable.
        """
        journals: list[Journal] = []
        usable: list[tuple[tuple[bool, int], Journal]] = []
        alive, left = [], []

        def leave(folder: Path, why: str) -> None:
            left.append(folder.name)
            self.warn_once(f"{folder.name} is not delivered ({why}), so it is left as it is")

        def accepted(journal: Journal, *, end: bool) -> bool:
            try:
                self.send(journal, end=end)
            except Refused as error:
                leave(journal.folder, str(error))
                return False
            return True

        try:
            for path in sorted(outbox.glob(f"[!.]*/{JOURNAL}")):
                try:
                    if journal := Journal.open(path.parent, create=False):
                        journals.append(journal)
                        journal.check()
                        _end_if_killed(journal)
                        usable.append((_stages_first(journal), journal))
                    elif path.exists():
                        alive.append(path.parent.name)
                except Malformed as error:
                    leave(path.parent, f"its journal is malformed: {error}")
                except OSError as error:
                    leave(path.parent, f"{path.parent} cannot be read and written: {reason(error)}")
            in_order = [journal for _, journal in sorted(usable, key=lambda item: item[0])]
            begun = [journal for journal in in_order if accepted(journal, end=False)]
            for journal in [journal for journal in reversed(begun) if accepted(journal, end=True)]:
                journal.remove()
            return alive, left
        finally:
            for journal in journals:
                journal.close()

    def reap(self, experiment: dict[str, Any]) -> None:
        """End the runs of an experiment that dead processes of this host left RUNNING in the store. Raises Unreachable."""
        with self._store() as runs:
            runs.reap(runs.experiment(experiment), is_gone)

    def finish(self, experiment: dict[str, Any], pipeline: dict[str, Any], status: str | None, belonging: dict[str, str]) -> bool:
        """See :meth:`Runs.finish`. Raises Unreachable."""
        with self._store() as runs:
            return runs.finish(runs.experiment(experiment), pipeline, status, belonging)

    @contextmanager
    def _store(self) -> Iterator[Runs]:
        """The store, which no other process of this machine writes to in the block if it is a local database: SQLite starves one of several
        writers.
        """
        try:
            with as_default(self._uri):
                if self._runs is None:
                    self._runs = Runs(connect(self._uri), self._uri)
                with store_lock(self._uri):
                    yield self._runs
        except (Unreachable, Malformed):
            raise
        except Exception as error:  # each kind of store and artifact store fails with errors of its own
            if getattr(error, "error_code", None) in REFUSED | {"RESOURCE_DOES_NOT_EXIST"}:
                raise Refused(f"MLflow refuses it: {reason(error)}") from error
            raise Unreachable(reason(error)) from error

    def warn_once(self, sentence: str) -> None:
        """Warn, unless of the same before."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            self._warn(sentence)


def _end_if_killed(journal: Journal) -> None:
    if (last := journal.last()) and last["op"] != "end":
        journal.append({"op": "end", "time": last["time"], "status": "KILLED"})
        journal.flush()


def _stages_first(journal: Journal) -> tuple[bool, int]:
    # A stage's run is there before the runs of its seeds, and ends after them.
    begin = next((operation for operation, _ in journal.operations()), None)
    return (begin["pipeline"] is None, begin["time"]) if begin else (False, 0)
