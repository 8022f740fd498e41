"""What machines share: finished runs, checkpoints of unfinished ones, and how tasks ended.

``INSPO_STORE`` names the place: a directory, such as a mounted volume, or ``s3://bucket/prefix`` with credentials and endpoint
from AWS's environment variables or files. Below it:

    <stage>/<fingerprint>/       the folder of a finished run; run.json is written last and holds the hashes of the rest
    checkpoints/<fingerprint>/   metrics.jsonl and the last two checkpoints of an unfinished one
    tasks/<key>.json             how the seeds of a task of a pipeline ended
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from inspo_core.errors import InspoError, warn
from inspo_core.files import atomic_directory, atomic_file, canonical_json
from inspo_core.parsing import parse_json
from inspo_core.project import in_project
from inspo_core.records import RECORD, damage, relabel

T = TypeVar("T")

CHECKPOINT, BEFORE, METRICS = "checkpoint.pt", "checkpoint.before.pt", "metrics.jsonl"


class SharedStore:
    """The store at ``uri``; every method raises InspoError when it cannot be used, those of checkpoints apart."""

    def __init__(self, uri: str):
        self._uri = uri
        try:
            self._fs, self._root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            raise InspoError(f"INSPO_STORE is {uri!r}, expected a directory or s3://bucket/prefix ({error})") from error
        self._kept: dict[str, int] = {}  # fingerprint -> time of the checkpoint that was kept last
        self._warned = False

    @classmethod
    def from_environment(cls) -> "SharedStore | None":
        """The store that ``INSPO_STORE`` names, in the project's folder where it is relative, if it names one.

        Raises InspoError if nothing can be written there.
        """
        uri = os.environ.get("INSPO_STORE")
        if not uri:
            return None
        store = cls(in_project(uri))
        probe = f"writable-{secrets.token_hex(4)}"
        store._write(probe, b"")
        store._remove(probe)
        return store

    def holds(self, stage: str, fingerprint: str) -> bool:
        """Whether the finished run is there, whole; it is read for that."""
        with tempfile.TemporaryDirectory() as place:
            return self._read_run(stage, fingerprint, Path(place))

    def fetch(self, stage: str, fingerprint: str, out: Path, labels: Mapping[str, str | None]) -> bool:
        """Put the finished run at ``out``; False if there is none, or a damaged one, of which a warning tells.

        Its ``run.json`` gets ``labels``: the names of a dataset or a variant are in no fingerprint, and another may have shared the run.
        """
        with tempfile.TemporaryDirectory() as read:
            if not self._read_run(stage, fingerprint, Path(read)):
                return False
            with atomic_directory(out) as place:
                shutil.copytree(read, place, dirs_exist_ok=True)
                relabel(place, labels)
        return True

    def _read_run(self, stage: str, fingerprint: str, place: Path) -> bool:
        names = self._names(f"{stage}/{fingerprint}")
        if RECORD not in names:
            return False
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(self._read(f"{stage}/{fingerprint}/{name}"))
        if damaged := damage(place):
            kept = f"{self._root}/{stage}/{fingerprint}"
            warn(f"{damaged.replace(str(place), kept)}; this copy in the store (INSPO_STORE) counts for nothing")
        return not damaged

    def keep(self, stage: str, fingerprint: str, folder: Path) -> None:
        """Share the finished run in ``folder``; its checkpoint is no longer needed."""
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        for name in sorted(names, key=lambda name: name == RECORD):
            self._write(f"{stage}/{fingerprint}/{name}", (folder / name).read_bytes())
        self._remove(f"checkpoints/{fingerprint}")

    def fetch_checkpoint(self, fingerprint: str, work: Path) -> None:
        """Put the checkpoints of an unfinished run into ``work``, if there are some and ``work`` has none of its own.

        Where that fails the run starts anew, with a warning.
        """
        if (work / CHECKPOINT).exists() or (work / BEFORE).exists():
            return
        try:
            there = [name for name in (BEFORE, CHECKPOINT) if name in self._names(f"checkpoints/{fingerprint}")]
            for name in [METRICS, *there] if there else []:
                with atomic_file(work / name) as aside:
                    aside.write_bytes(self._read(f"checkpoints/{fingerprint}/{name}"))
            if CHECKPOINT in there:
                self._kept[fingerprint] = (work / CHECKPOINT).stat().st_mtime_ns
        except InspoError as error:
            warn(f"the run in {work} starts anew, without a shared checkpoint; {error}")

    def keep_checkpoint(self, fingerprint: str, work: Path) -> None:
        """Share the checkpoint in ``work``, if there is a new one, beside the one that was shared before.

        Where that fails the run goes on, with one warning.
        """
        try:
            made = (work / CHECKPOINT).stat().st_mtime_ns
            if made == self._kept.get(fingerprint):
                return
            # A checkpoint needs the metrics that were written before it; more of them do no harm.
            checkpoint, metrics = (work / CHECKPOINT).read_bytes(), (work / METRICS).read_bytes()
        except FileNotFoundError:
            return  # none yet, or the run has just ended
        self._kept[fingerprint] = made
        try:
            place = f"checkpoints/{fingerprint}"
            self._write(f"{place}/{METRICS}", metrics)
            if CHECKPOINT in self._names(place):
                self._use(lambda: self._fs.mv(f"{self._root}/{place}/{CHECKPOINT}", f"{self._root}/{place}/{BEFORE}"))
            self._write(f"{place}/{CHECKPOINT}", checkpoint)
        except InspoError as error:
            if not self._warned:
                self._warned = True
                warn(f"checkpoints are kept on this machine only; {error}")

    def read_record(self, key: str) -> Any:
        """What :meth:`write_record` has written under ``key``; None if nothing was."""
        name = f"{key}.json"
        return parse_json(self._read(f"tasks/{name}"), f"{self._uri}/tasks/{name}") if name in self._names("tasks") else None

    def write_record(self, key: str, value: Any) -> None:
        self._write(f"tasks/{key}.json", canonical_json(value).encode())

    def _names(self, folder: str) -> list[str]:
        """The whole files below ``folder``, as paths relative to it."""
        return [name for name in self._found(folder) if ".new-" not in name]  # what a killed process was writing

    def _found(self, folder: str) -> list[str]:
        place = f"{self._root}/{folder}"

        def find() -> list[str]:
            self._fs.invalidate_cache()
            return self._fs.find(place)

        return [found.removeprefix(f"{place}/") for found in self._use(find)]

    def _read(self, name: str) -> bytes:
        return self._use(lambda: self._fs.cat_file(f"{self._root}/{name}"))

    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""
        if isinstance(self._fs, LocalFileSystem):
            with atomic_file(Path(self._root) / name) as aside:
                aside.write_bytes(content)
        else:
            self._use(lambda: self._fs.pipe_file(f"{self._root}/{name}", content))

    def _remove(self, name: str) -> None:
        """A file, or a folder with all that is in it; there may be none."""
        place = f"{self._root}/{name}"

        def remove() -> None:
            self._fs.invalidate_cache()
            with suppress(FileNotFoundError):
                self._fs.rm(place, recursive=True)

        self._use(remove)

    def _use(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # each kind of store fails with errors of its own
            raise InspoError(f"the store {self._uri} (INSPO_STORE) cannot be used: {type(error).__name__}: {error}") from error
